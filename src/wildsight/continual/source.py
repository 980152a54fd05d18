"""The former place of what `wildsight.continual.data` holds; kept for one release."""

from wildsight.continual.data import check_source, read_source, world_folder

__all__ = ["check_source", "read_source", "world_folder"]
