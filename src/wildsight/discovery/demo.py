"""The tour's stop: a folder of the world sorted into what is known and what is new, beside the peers."""

from __future__ import annotations

from pathlib import Path

from wildsight.discovery.bench import SHORT, TRUE, DiscoveryBench
from wildsight.discovery.contact_sheets import contact_sheet, cooccurrence_figure, representatives
from wildsight.discovery.data import read_source
from wildsight.discovery.estimator import CategoryDiscoverer
from wildsight.discovery.features import ViewConfig
from wildsight.report import Report

SIZE = 64


def demo(report: Report, folder: Path, quick: bool) -> None:
    """The task's part of the tour; see `wildsight.workflows.tour.Stop`."""
    data = read_source("world")
    discoverer = CategoryDiscoverer(k=len(data.known) + len(data.new), views=ViewConfig(SIZE, 2))
    fitted = discoverer.fit(data, progress=False).need_fit()
    report.text(
        f"{len(data.labelled)} pictures of {len(data.known)} known classes, and {len(data.unlabelled)} "
        f"unlabelled ones in which {len(data.new)} further classes hide; {fitted.how_k()}. Each sheet is "
        "a group: its medoid, framed, and the pictures nearest to it."
    )
    results = discoverer.results()
    rows = fitted.embedding[fitted.data.labels() < 0]
    sheets = []
    for group, name in enumerate(discoverer.names):
        members = [i for i, r in enumerate(results) if r.group == group]
        if members:
            shown = [results[members[int(i)]].image for i in representatives(rows[members])]
            sheet = contact_sheet([file for file in shown if file is not None], side=64)
            sheets.append((sheet, f"{name}: {len(members)} pictures"))
    report.gallery(sheets, "Groups")
    groups, known = fitted.verdict.groups, len(discoverer.known)
    report.figure(
        cooccurrence_figure(fitted.frozen, fitted.embedding, groups, known), "Co-occurrence by group"
    )
    result = DiscoveryBench(
        "world",
        out=folder,
        methods=("sskmeans", "cms", "kmeans") if quick else ("sskmeans", "nngcd", "simgcd", "cms", "kmeans"),
        seeds=1,
        hyper={**SHORT, "epochs": 10} if not quick else None,
        k=TRUE,
        image_size=SIZE,
        views=2,
        progress=False,
    ).run()
    result.add_to(report, ("all", "old", "new"), " (v2, K given), one seed: a demonstration")
