"""Sort unlabelled pictures into known classes and new groups."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wildsight.app.forms import ModelForm
from wildsight.app.jobs import learning, uploads
from wildsight.app.models import DATA, Chosen, Preset, careful, saved
from wildsight.app.uploads import paths, readable, results_of, run_folder, uploaded
from wildsight.app.widgets import Tab, upload

OWN = "my pictures"
K = "auto"
PRESET = Preset(
    "discovery", "sample pictures", "sskmeans", "nano-conv",
    settings={"views.image_size": 96, "views.views": 2}, sources="cifar-10:/data/cifar", apart=("k",),
)  # fmt: skip


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Sort this unlabelled folder.** Classes that you show by labelled pictures are found again by "
        "name; the others become new groups. Nothing is moved."
    )
    tab = Tab("discovery")
    with gr.Row():
        with gr.Column():
            form = ModelForm(PRESET, (OWN, DATA), label="Pictures")
            free = upload("Unlabelled pictures", visible=False)
            labelled = upload("Labelled pictures, named CLASS_anything.png", visible=False)
            number = gr.Textbox(K, label="Number of groups: auto, a number, or a range such as 5-12")
            with gr.Row():
                sort = gr.Button("Sort", variant="primary")
                tab.stop_button()
        with gr.Column():
            said = tab.answer()
            shown = gr.Gallery(label="Groups: medoid and nearest", columns=2, object_fit="contain")
            files = gr.File(label="Report, table, checkpoint", file_count="multiple")
    form.kind.change(
        lambda kind: [gr.update(visible=kind == OWN)] * 2,
        form.kind,
        [labelled.box, free.box],
        show_progress="hidden",
    )
    given = [*form.inputs, labelled.file, free.file, number]
    tab.run(sort.click, form.asks(sort_pictures), given, [said, shown, files])


def sort_pictures(chosen: Chosen, labelled: Any, free: Any, number: str) -> tuple[str, list[Any], list[str]]:
    """Groups in words, as sheets, and the run's files."""
    from wildsight.discovery.contact_sheets import contact_sheet, representatives

    data, unread = _own(labelled, free) if chosen.kind == OWN else (_named(chosen), [])
    k = int(number) if number.strip().isdecimal() else number.strip()
    discoverer = chosen.made(PRESET, k=k)
    with learning():
        discoverer.fit(data, progress=False, **chosen.training(PRESET))
    report = discoverer.write_run(run_folder("discovery"), chosen.kind)
    results, record = discoverer.results(), discoverer.need_fit()
    rows = record.embedding[record.data.labels() < 0]
    sheets, lines = [], [f"**{record.how_k()}**", ""]
    for group, name in enumerate(discoverer.names):
        members = [i for i, r in enumerate(results) if r.group == group]
        if members:
            files = [results[members[int(i)]].image for i in representatives(rows[members])]
            sheets.append((contact_sheet([f for f in files if f], side=72), f"{name}: {len(members)}"))
            lines.append(f"- {name}: {len(members)} picture{'s' * (len(members) > 1)}")
    lines += [*careful(discoverer), *(f"- not read: {sentence}" for sentence in unread)]
    text, checkpoint = saved(discoverer, PRESET.task)
    return "\n".join([*lines, "", text]), sheets, [*results_of(report), *checkpoint]


def _named(chosen: Chosen) -> Any:
    """The sample, or the data that are named."""
    from wildsight.app.models import source_state
    from wildsight.discovery.data import read_source

    return read_source(source_state(chosen.source)[0] if chosen.kind == DATA else "world")


def _own(labelled: Any, free: Any) -> tuple[Any, list[str]]:
    """Uploaded pictures as a data set, and what could not be read.

    A labelled picture's class is its name up to the first underscore.
    """
    from wildsight.discovery.data import CategorySample, make_data

    shown, bad = readable(paths(labelled), "labelled picture") if uploaded(labelled) else ([], [])
    others, worse = readable(paths(free), "unlabelled picture")
    known = [CategorySample(p, p.stem.split("_")[0]) for p in shown]
    samples = [*known, *(CategorySample(p) for p in others)]
    classes = sorted({s.label for s in known if s.label})
    data = make_data(samples, classes, (), name="uploaded", root=uploads(), split="as uploaded")
    return data, [*bad, *worse]
