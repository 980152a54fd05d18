"""What compression does where nothing is said: for `compress`, the command, the bench and autotune."""

SELECTOR = "scope"
"""Best of all on average over counts on development questions about nano-llava, FastV aside."""
CACHE = "prefixkv"
POSITIONS = "compact"
"""As published; ``original`` lets the survivors keep their own."""
