"""The former place of what `wildsight.spatial.data` holds; kept for one release."""

from wildsight.spatial.data import check_source, read_source, world

__all__ = ["check_source", "read_source", "world"]
