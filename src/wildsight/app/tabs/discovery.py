"""Sort unlabelled pictures into known classes and new groups."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wildsight.app.guard import guarded, paths, readable, results_of, run_folder, uploads

WORLD, OWN = "sample pictures", "my pictures"
K = "auto"


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Sort this unlabelled folder.** Some classes are known by labelled pictures; the unlabelled "
        "ones are sorted into these and into new groups. Nothing is moved."
    )
    with gr.Row():
        with gr.Column():
            where = gr.Radio([WORLD, OWN], value=WORLD, label="Pictures")
            labelled = gr.File(
                file_count="multiple", visible=False,
                label="Labelled pictures, named CLASS_anything.png (two classes at least)",
            )  # fmt: skip
            free = gr.File(file_count="multiple", label="Unlabelled pictures", visible=False)
            number = gr.Textbox(K, label="Number of groups: auto, a number, or a range such as 5-12")
            sort = gr.Button("Sort", variant="primary")
        with gr.Column():
            said = gr.Markdown()
            shown = gr.Gallery(label="Groups: medoid and nearest", columns=2, object_fit="contain")
            files = gr.File(label="Report and table", file_count="multiple")
    where.change(lambda w: [gr.update(visible=w == OWN)] * 2, where, [labelled, free])
    sort.click(guarded(sort_pictures), [where, labelled, free, number], [said, shown, files])


def sort_pictures(where: str, labelled: Any, free: Any, number: str) -> tuple[str, list[Any], list[str]]:
    """Groups in words, as sheets, and the run's files."""
    from wildsight.discovery import CategoryDiscoverer
    from wildsight.discovery.contact_sheets import contact_sheet, representatives
    from wildsight.discovery.features import ViewConfig

    data, unread = (_world(), []) if where == WORLD else _own(labelled, free)
    k = int(number) if number.strip().isdecimal() else number.strip()
    discoverer = CategoryDiscoverer("sskmeans", "nano-conv", k=k, views=ViewConfig(96, 2))
    discoverer.fit(data, progress=False)
    report = discoverer.write_run(run_folder("discovery"), where)
    results, fitted = discoverer.results(), discoverer.need_fit()
    rows = fitted.embedding[fitted.data.labels() < 0]
    sheets, lines = [], [f"**{discoverer.need_fit().how_k()}**", ""]
    for group, name in enumerate(discoverer.names):
        members = [i for i, r in enumerate(results) if r.group == group]
        if members:
            files = [results[members[int(i)]].image for i in representatives(rows[members])]
            sheets.append((contact_sheet([f for f in files if f], side=72), f"{name}: {len(members)}"))
            lines.append(f"- {name}: {len(members)} picture{'s' * (len(members) > 1)}")
    lines += [f"- not read: {sentence}" for sentence in unread]
    return "\n".join(lines), sheets, results_of(report)


def _world() -> Any:
    from wildsight.discovery.data import read_source

    return read_source("world")


def _own(labelled: Any, free: Any) -> tuple[Any, list[str]]:
    """Uploaded pictures as a data set, and what could not be read.

    A labelled picture's class is its name up to the first underscore.
    """
    from wildsight.discovery.data import CategorySample, make_data

    shown, bad = readable(paths(labelled), "labelled picture")
    others, worse = readable(paths(free), "unlabelled picture")
    known = [CategorySample(p, p.stem.split("_")[0]) for p in shown]
    samples = [*known, *(CategorySample(p) for p in others)]
    classes = sorted({s.label for s in known if s.label})
    data = make_data(samples, classes, (), name="uploaded", root=uploads(), split="as uploaded")
    return data, [*bad, *worse]
