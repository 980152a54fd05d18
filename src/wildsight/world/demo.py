"""The tour's first stop: the embedded world, part by part, and what can be said about a scene."""

from __future__ import annotations

from pathlib import Path

from wildsight.report import Report
from wildsight.results import Table
from wildsight.world.asking import KINDS, Examiner
from wildsight.world.language import caption, expression
from wildsight.world.scene import random_scene
from wildsight.world.sheets import SHEETS, save_sheet, scene_in_words, sheet

_TITLES = {
    "scenes": "Scenes of two to six things",
    "materials": "Eight materials and states on eight shapes, in eight colours",
    "labels": "Masks, and 3D boxes projected by the intrinsics",
    "sensors": "Five sensors; two clear scenes, then the second of them at night, in fog, overexposed",
    "sketches": "A photo of each solid, and three sketches of it by an unsteady hand",
    "language": "Captions at three levels, questions and answers",
    "grounding": "What is asked for, from short to long focal lengths: metres need the intrinsics",
    "tasks": "A sequence of tasks that drift apart",
    "products": "Products: a good one, then every defect, with its mask below",
}
_QUICK = ("scenes", "sensors", "products")


def demo(report: Report, folder: Path, quick: bool) -> None:
    """Write the world's part of the tour's report, and its contact sheets to ``folder``."""
    report.text(
        "Every picture below is made on the spot from a seed, with exact labels; nothing is downloaded."
    )
    picture, line, call, question, answer = scene_in_words(1)
    report.figure(picture, f"{line}. Asked: {question} {answer}. Its first thing, for whoever looks: {call}.")
    scene, examiner = random_scene(1, count=4), Examiner(KINDS)
    rows = [[q.kind, q.text, q.answer] for q in examiner.ask(scene, 6)]
    report.table(Table(["kind", "question", "answer"], rows), "Questions about that scene")
    said = [[str(level), caption(scene, level)] for level in (1, 2, 3)]
    said += [["for one thing", str(expression(scene, i))] for i in range(len(scene.things))]
    report.table(Table(["level", "words"], said), "What can be said of it")
    for part in _QUICK if quick else tuple(SHEETS):
        report.figure(sheet(part), _TITLES[part])
    save_sheet("scenes", folder / "world-scenes.png")
