"""The tabs, one file each, named by strings so that a tab is imported when the page is built."""

from __future__ import annotations

TABS: dict[str, str] = {
    name: f"wildsight.app.tabs.{name}:build"
    for name in (
        "anomaly",
        "segmentation",
        "inspect",
        "retrieval",
        "discovery",
        "composition",
        "compression",
        "fusion",
        "spatial",
        "continual",
    )
}
