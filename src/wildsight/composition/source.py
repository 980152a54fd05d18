"""The former place of what `wildsight.composition.data` holds; kept for one release."""

from wildsight.composition.data import check_source, read_source, world_folder

__all__ = ["check_source", "read_source", "world_folder"]
