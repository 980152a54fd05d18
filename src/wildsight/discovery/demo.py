"""The tour's stop: a folder of the world sorted into what is known and what is new, beside the peers."""

from __future__ import annotations

from pathlib import Path

from wildsight.discovery.bench import bench
from wildsight.discovery.data import read_source
from wildsight.discovery.discoverer import CategoryDiscoverer
from wildsight.discovery.features import ViewConfig
from wildsight.discovery.outputs import how_k
from wildsight.discovery.sheets import contact_sheet, cooccurrence_figure, representatives
from wildsight.report import Report
from wildsight.results import score_table, title

SIZE = 64


def demo(report: Report, folder: Path, quick: bool) -> None:
    """Write the task's part of the tour's report.

    Args:
        report: the page to write to.
        folder: for what the demonstration leaves; finished parts in it are not run again.
        quick: the clusterings alone.
    """
    data = read_source("world")
    discoverer = CategoryDiscoverer(k=len(data.known) + len(data.new), views=ViewConfig(SIZE, 2))
    discoverer.fit(data, progress=False)
    report.text(
        f"{len(data.labelled)} pictures of {len(data.known)} known classes, and {len(data.unlabelled)} "
        f"unlabelled ones in which {len(data.new)} further classes hide; {how_k(discoverer)}. Each sheet is "
        "a group: its medoid, framed, and the pictures nearest to it."
    )
    results = discoverer.results()
    fitted = discoverer.need_fit()
    rows = fitted.embedding[fitted.data.labels() < 0]
    sheets = []
    for group, name in enumerate(discoverer.names):
        own = [i for i, r in enumerate(results) if r.group == group]
        if own:
            shown = [results[own[int(i)]].image for i in representatives(rows[own])]
            sheet = contact_sheet([file for file in shown if file is not None], side=64)
            sheets.append((sheet, f"{name}: {len(own)} pictures"))
    report.gallery(sheets, "Groups")
    groups, known = fitted.verdict.groups, len(discoverer.known)
    report.figure(
        cooccurrence_figure(fitted.frozen, fitted.embedding, groups, known), "Co-occurrence by group"
    )
    methods = ("sskmeans", "cms", "kmeans") if quick else ("sskmeans", "nngcd", "simgcd", "cms", "kmeans")
    found = bench(
        "world", out=folder, methods=methods, seeds=1, epochs=10, image_size=SIZE, views=2, progress=False
    )
    for metric in ("all", "old", "new"):
        report.table(
            score_table(found["rows"], metric), f"{title(metric)} (v2, K given), one seed: a demonstration"
        )
