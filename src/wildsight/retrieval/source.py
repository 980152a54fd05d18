"""The former place of what `wildsight.retrieval.data` holds; kept for one release."""

from wildsight.retrieval.data import check_source, read_source, world_folder

__all__ = ["check_source", "read_source", "world_folder"]
