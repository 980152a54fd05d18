"""The former place of what `wildsight.anomaly.data` holds; kept for one release."""

from wildsight.anomaly.data import check_source, read_source, world_folder

__all__ = ["check_source", "read_source", "world_folder"]
