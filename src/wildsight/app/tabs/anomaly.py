"""Find what is wrong in pictures: learn from good ones, then look at new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.guard import fitted, guarded, lent, paths, plainly, results_of, run_folder, shelf
from wildsight.files import digest_of, sha256
from wildsight.results import Table
from wildsight.world.products import CATEGORIES

SAMPLES, OWN, CHECKPOINT = "sample products", "my good pictures", "a fitted checkpoint"


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Find what is wrong in these pictures.** The detector learns from good pictures alone, and "
        "then says which new one is wrong, how sure it is, and where. Red is at or above the "
        "threshold."
    )
    with gr.Row():
        with gr.Column():
            normal = gr.Radio([SAMPLES, OWN, CHECKPOINT], value=SAMPLES, label="Normal is what you see in")
            good = gr.File(file_count="multiple", label="Good pictures (at least two)", visible=False)
            folder = gr.Textbox(label="Folder that `wildsight anomaly fit` wrote", visible=False)
            product = gr.Dropdown(list(CATEGORIES), value=CATEGORIES[1], label="Sample product")
            method = gr.Dropdown(["patchcore", "padim"], value="patchcore", label="Method")
            new = gr.File(file_count="multiple", label="Pictures to look at")
            with gr.Row():
                sample = gr.Button("Take sample pictures")
                look = gr.Button("Look", variant="primary")
        with gr.Column():
            said = gr.Markdown(label="What was found")
            shown = gr.Gallery(label="Heat maps", columns=3, object_fit="contain")
            files = gr.File(label="Report and scores", file_count="multiple")
    normal.change(_visible, normal, [good, folder, product, method])
    sample.click(guarded(sample_pictures), product, new)
    look.click(guarded(look_at), [normal, good, folder, product, method, new], [said, shown, files])


def _visible(normal: str) -> tuple[Any, ...]:
    shown = (normal == OWN, normal == CHECKPOINT, normal == SAMPLES, normal != CHECKPOINT)
    return tuple(gr.update(visible=v) for v in shown)


def sample_pictures(product: str) -> list[str]:
    """Two good and four defective pictures of a sample product, as files."""
    from wildsight.anomaly.data import read_source

    test = [s for s in read_source("world").test if s.category == product]
    good = [s for s in test if s.label == 0][:2]
    bad = [s for s in test if s.label == 1]
    return lent([s.image for s in [*good, *bad[:: max(1, len(bad) // 4)][:4]]], "anomaly")


def look_at(
    normal: str, good: Any, folder: str, product: str, method: str, new: Any
) -> tuple[str, list[tuple[Any, str]], list[str]]:
    """Verdicts in words, heat maps with captions, and the files to take away."""
    from wildsight.anomaly.reports import write_predictions

    files = paths(new)
    results, errors = _detector(normal, good, folder, product, method).predict_files(files)
    report = write_predictions(results, [str(e) for e in errors], run_folder("anomaly"))
    wrong = sum(r.anomalous for r in results)
    lines = [f"**{wrong} of {len(results)} pictures are anomalous.**"]
    rows = [[Path(r.image or "").name, _verdict(r), f"{r.score:.4f}", f"{r.threshold:.4f}"] for r in results]
    lines += ["", Table(["picture", "verdict", "score", "threshold"], rows).markdown(), ""]
    lines += [f"- not read: {plainly(error)}" for error in errors]
    gallery = [(r.overlay(), _verdict(r)) for r in results]
    return "\n".join(lines), gallery, results_of(report)


def _verdict(result: Any) -> str:
    return "ANOMALOUS" if result.anomalous else "good"


def _detector(normal: str, good: Any, folder: str, product: str, method: str) -> Any:
    from wildsight.anomaly import AnomalyDetector
    from wildsight.anomaly.data import read_source

    if normal == CHECKPOINT:
        return fitted("anomaly", folder, AnomalyDetector.from_pretrained)
    if normal == SAMPLES:
        return shelf.get(
            f"anomaly-{product}-{method}", lambda: _fitted(method, read_source("world").select([product]))
        )
    pictures = paths(good)
    key = digest_of([method, *(sha256(p) for p in pictures)])
    return shelf.get(f"anomaly-{key}", lambda: _fitted(method, _as_folder(pictures, key)))


def _fitted(method: str, source: Any) -> Any:
    """A detector whose threshold one good picture in twenty may exceed."""
    from wildsight.anomaly import AnomalyDetector

    detector = AnomalyDetector(method, false_alarm_rate=0.05, calibration=0.3)
    return detector.fit(source, progress=False)


def _as_folder(pictures: list[Path], key: str) -> Path:
    """The uploaded good pictures in the plain layout that the task reads."""
    import shutil

    from wildsight.files import atomic_folder, cache_folder

    target = cache_folder("app") / f"good-{key[:16]}"
    if not target.is_dir():
        with atomic_folder(target) as temporary:
            (temporary / "normal").mkdir(parents=True)
            for number, picture in enumerate(pictures):
                shutil.copyfile(picture, temporary / "normal" / f"{number:05d}{picture.suffix.lower()}")
    return target
