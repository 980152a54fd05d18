"""Recognise attribute-object pairs, seen or not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gradio as gr

from wildsight.app.guard import fitted, guarded, lent, paths, plainly, results_of, run_folder, shelf, taught
from wildsight.files import digest_of
from wildsight.images import load_image
from wildsight.results import Table

LESSON: dict[str, Any] = {"epochs": 6}
WORLD, CHECKPOINT = "materials and solids (sample)", "a fitted checkpoint"


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Recognise 'rusty cube' though training had only 'rusty sphere' and 'wet cube'.** Pairs "
        "marked *unseen* were in no training picture. The sample model learns on first use, which takes a "
        "minute."
    )
    with gr.Row():
        with gr.Column():
            kind = gr.Radio([WORLD, CHECKPOINT], value=WORLD, label="What is recognised")
            folder = gr.Textbox(label="Folder that `wildsight composition fit` wrote", visible=False)
            given = gr.File(file_count="multiple", label="Pictures")
            pairs = gr.Textbox(label="Candidates, one pair a line (empty: all)", lines=3)
            with gr.Row():
                sample = gr.Button("Take sample pictures")
                name = gr.Button("Recognise", variant="primary")
        with gr.Column():
            said = gr.Markdown()
            shown = gr.Gallery(label="Best answer", columns=3, object_fit="contain")
            files = gr.File(label="Report, table and every pair's probability", file_count="multiple")
    kind.change(lambda k: gr.update(visible=k == CHECKPOINT), kind, folder)
    sample.click(guarded(sample_pictures), None, given)
    name.click(guarded(recognise), [kind, folder, given, pairs], [said, shown, files])


def sample_pictures() -> list[str]:
    """Six test pictures of the world's compositions."""
    from wildsight.composition.data import read_source

    data = read_source("world")
    test = [s for s in data.samples if s.split == "test"]
    return lent([s.image for s in test[:: max(1, len(test) // 6)][:6]], "composition")


def recognise(kind: str, folder: str, given: Any, pairs: str) -> tuple[str, list[tuple[Any, str]], list[str]]:
    """A table of the three best pairs for each picture, the pictures, and the files to take away."""
    from wildsight.composition.reports import write_predictions

    wanted = [line.strip() for line in (pairs or "").splitlines() if line.strip()]
    options: dict[str, Any] = {"top": 3, **({"pairs": wanted} if wanted else {})}
    found, errors = _recognizer(kind, folder).predict_files(paths(given), **options)
    rows = []
    for result in found:
        best = [f"{p.text} {p.probability:.0%}{'' if p.seen else ' (unseen)'}" for p in result.pairs]
        rows.append([result.image.name if result.image else "", *best, *[""] * (3 - len(best))])
    lines = [Table(["picture", "best", "second", "third"], rows).markdown()]
    lines += [f"- not read: {plainly(e)}" for e in errors]
    shown = [(load_image(r.image), r.pairs[0].text) for r in found if r.image is not None]
    report = write_predictions(found, [str(e) for e in errors], run_folder("composition"))
    return "\n".join(lines), shown, results_of(report, report.with_name("scores.json"))


def _recognizer(kind: str, folder: str) -> Any:
    from wildsight.composition import CompositionRecognizer

    if kind == CHECKPOINT:
        return fitted("composition", folder, CompositionRecognizer.from_pretrained)
    return shelf.get("composition", _taught)


def _taught() -> Any:
    """A recognizer taught on the world's materials and solids, kept in the cache."""
    from wildsight.composition import CompositionRecognizer

    recognizer = CompositionRecognizer("hdaoe", "nano-clip")
    made_of = [recognizer.backbone.sha, asdict(recognizer.settings), asdict(recognizer.method), LESSON]

    def teach() -> CompositionRecognizer:
        return recognizer.fit("world", progress=False, **LESSON)

    return taught(f"composition-{digest_of(made_of)[:12]}", CompositionRecognizer.from_pretrained, teach)
