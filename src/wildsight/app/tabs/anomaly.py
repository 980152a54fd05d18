"""Find what is wrong in pictures: learn from good ones, then look at new ones."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.forms import ModelForm
from wildsight.app.jobs import plainly
from wildsight.app.models import CHECKPOINT, DATA, Chosen, Preset, careful
from wildsight.app.uploads import lent, paths, results_of, run_folder
from wildsight.app.widgets import Tab, upload
from wildsight.files import atomic_folder, cache_folder, digest_of, sha256
from wildsight.results import Table
from wildsight.world.products import CATEGORIES

OWN = "my good pictures"
PRESET = Preset(
    "anomaly", "sample products", "patchcore", "nano-conv", settings={"calibration": 0.3},
    sources="mvtec-ad:/data/mvtec", apart=("false_alarm_rate",),
)  # fmt: skip


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Find what is wrong in these pictures.** The detector learns from good pictures alone, and "
        "then says which new one is wrong, how sure it is, and where."
    )
    tab = Tab("anomaly")
    with gr.Row():
        with gr.Column():
            form = ModelForm(PRESET, (OWN, DATA, CHECKPOINT), label="Normal is what you see in")
            product = gr.Dropdown(list(CATEGORIES), value=CATEGORIES[1], label="Sample product")
            good = upload("Good pictures (at least two)", visible=False)
            new = upload("Pictures to look at")
            rate = gr.Slider(
                0.1, 20, 5, step=0.1, label="False alarms allowed, of a hundred good pictures"
            )  # fmt: skip
            with gr.Row():
                sample = gr.Button("Take sample pictures")
                look = gr.Button("Look", variant="primary")
                tab.stop_button()
        with gr.Column():
            said = tab.answer()
            shown = gr.Gallery(label="Heat maps", columns=3, object_fit="contain")
            files = gr.File(label="Report, scores, checkpoint", file_count="multiple")
            tab.saves(form, detector_of, [good.file, product, rate], files)
    form.kind.change(_visible, form.kind, [good.box, product], show_progress="hidden")
    tab.sample(sample, sample_pictures, product, new.file, look)
    given = [*form.inputs, good.file, product, rate, new.file]
    tab.run(look.click, form.asks(look_at), given, [said, shown, files])


def _visible(kind: str) -> tuple[Any, ...]:
    return gr.update(visible=kind == OWN), gr.update(visible=kind == PRESET.sample)


def sample_pictures(product: str) -> list[str]:
    """Two good and four defective pictures of a sample product, as files."""
    from wildsight.anomaly.data import read_source

    test = [s for s in read_source("world").test if s.category == product]
    good = [s for s in test if s.label == 0][:2]
    bad = [s for s in test if s.label == 1]
    return lent([s.image for s in [*good, *bad[:: max(1, len(bad) // 4)][:4]]], "anomaly")


def look_at(
    chosen: Chosen, good: Any, product: str, rate: float, new: Any
) -> tuple[str, list[tuple[Any, str]], list[str]]:
    """Verdicts in words, heat maps with captions, and the files to take away."""
    from wildsight.anomaly.reports import write_predictions

    files = paths(new)
    detector = detector_of(chosen, good, product, rate)
    results, errors = detector.predict_files(files)
    report = write_predictions(results, [str(e) for e in errors], run_folder("anomaly"))
    wrong = sum(r.anomalous for r in results)
    lines = [f"**{wrong} of {len(results)} pictures are anomalous.** {_promise(detector, rate)}"]
    rows = [[Path(r.image or "").name, _verdict(r), f"{r.score:.4f}", f"{r.threshold:.4f}"] for r in results]
    lines += ["", Table(["picture", "verdict", "score", "threshold"], rows).markdown(), ""]
    lines += [*careful(detector, *results), *(f"- not read: {plainly(error)}" for error in errors)]
    gallery = [(r.overlay(), f"{_verdict(r)}: {Path(r.image or '').name}") for r in results]
    return "\n".join(lines), gallery, results_of(report)


def _verdict(result: Any) -> str:
    return "ANOMALOUS" if result.anomalous else "good"


def _promise(detector: Any, rate: float) -> str:
    """The false-alarm rate that the threshold gives, and how many good pictures the wanted one would need."""
    return f"Threshold: {detector.threshold().words(rate / 100)}."


def detector_of(chosen: Chosen, good: Any, product: str, rate: float) -> Any:
    """The detector that the form asks for, at a false-alarm rate in percent; a checkpoint has its own rate.

    What is learned does not depend on the rate: it is learned once, and the threshold is moved.
    """
    from wildsight.anomaly.data import read_source

    if chosen.kind == OWN:
        pictures = paths(good)
        key = digest_of([sha256(p) for p in pictures])
        made = chosen.model(PRESET, lambda: _as_folder(pictures, key), key)
    else:
        made = chosen.model(PRESET, lambda: read_source("world").select([product]), product)
    if chosen.kind == CHECKPOINT:
        return made
    return copy.copy(made).set_threshold(false_alarm_rate=float(rate) / 100)  # others may ask the same one


def _as_folder(pictures: list[Path], key: str) -> Path:
    """The uploaded good pictures in the plain layout that the task reads."""
    target = cache_folder("app") / f"good-{key[:16]}"
    if not target.is_dir():
        with atomic_folder(target) as temporary:
            (temporary / "normal").mkdir(parents=True)
            for number, picture in enumerate(pictures):
                shutil.copyfile(picture, temporary / "normal" / f"{number:05d}{picture.suffix.lower()}")
    return target
