"""The tabs, one file each, named by strings so that a tab is imported when the page is built."""

from __future__ import annotations

TABS: dict[str, str] = {
    "anomaly": "wildsight.app.tabs.anomaly:build",
}
