"""The former place of what `wildsight.fusion.data` holds; kept for one release."""

from wildsight.fusion.data import check_source, read_source, without, world

__all__ = ["check_source", "read_source", "without", "world"]
