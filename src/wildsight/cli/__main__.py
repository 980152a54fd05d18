"""``python -m wildsight.cli``."""

from wildsight.cli import main

main()
