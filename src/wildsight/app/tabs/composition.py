"""Recognise attribute-object pairs, seen or not."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wildsight.app.forms import ModelForm
from wildsight.app.jobs import plainly
from wildsight.app.models import Chosen, Preset, careful
from wildsight.app.uploads import lent, paths, results_of, run_folder
from wildsight.app.widgets import Tab, upload
from wildsight.images import load_image
from wildsight.results import Table

PRESET = Preset(
    "composition", "materials and solids (sample)", "hdaoe", "nano-clip", training={"epochs": 6},
    sources="mit-states:/data/mit",
)  # fmt: skip


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Recognise 'rusty cube' though training had only 'rusty sphere' and 'wet cube'.** Pairs "
        "marked *unseen* were in no training picture. The sample model learns on first use, which takes a "
        "minute."
    )
    tab = Tab("composition")
    with gr.Row():
        with gr.Column():
            form = ModelForm(PRESET, label="What is recognised")
            given = upload("Pictures")
            pairs = gr.Textbox(label="Candidates, one pair a line (empty: all)", lines=3)
            with gr.Row():
                sample = gr.Button("Take sample pictures")
                name = gr.Button("Recognise", variant="primary")
                tab.stop_button()
        with gr.Column():
            said = tab.answer()
            shown = gr.Gallery(label="Best answer", columns=3, object_fit="contain")
            files = gr.File(
                label="Report, table, every pair's probability, checkpoint", file_count="multiple"
            )
            tab.saves(form, recognizer_of, [], files)
    tab.sample(sample, sample_pictures, None, given.file, name)
    tab.run(name.click, form.asks(recognise), [*form.inputs, given.file, pairs], [said, shown, files])


def sample_pictures() -> list[str]:
    """Six test pictures of the world's compositions."""
    from wildsight.composition.data import read_source

    data = read_source("world")
    test = [s for s in data.samples if s.split == "test"]
    return lent([s.image for s in test[:: max(1, len(test) // 6)][:6]], "composition")


def recognise(chosen: Chosen, given: Any, pairs: str) -> tuple[str, list[tuple[Any, str]], list[str]]:
    """A table of the three best pairs for each picture, the pictures, and the files to take away."""
    from wildsight.composition.reports import write_predictions

    candidates = [line.strip() for line in (pairs or "").splitlines() if line.strip()]
    options: dict[str, Any] = {"top": 3, **({"pairs": candidates} if candidates else {})}
    pictures, recognizer = paths(given), recognizer_of(chosen)
    results, errors = recognizer.predict_files(pictures, **options)
    rows = []
    for result in results:
        best = [f"{p.text} {p.probability:.0%}{'' if p.seen else ' (unseen)'}" for p in result.pairs]
        rows.append([result.image.name if result.image else "", *best, *[""] * (3 - len(best))])
    lines = [Table(["picture", "best", "second", "third"], rows).markdown(), ""]
    lines += [*careful(recognizer, *results), *(f"- not read: {plainly(e)}" for e in errors)]
    shown = [(load_image(r.image), r.pairs[0].text) for r in results if r.image is not None]
    report = write_predictions(results, [str(e) for e in errors], run_folder("composition"))
    return "\n".join(lines), shown, results_of(report, report.with_name("scores.json"))


def recognizer_of(chosen: Chosen) -> Any:
    """The recognizer that the form asks for."""
    return chosen.model(PRESET)
