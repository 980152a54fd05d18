"""Write the world's data sets to plain folders, in the layouts that the tasks read."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from wildsight.errors import ConfigError
from wildsight.files import atomic_folder
from wildsight.images import from_array
from wildsight.world import sets
from wildsight.world.common import Pictures, check
from wildsight.world.language import caption
from wildsight.world.portraits import number_of
from wildsight.world.products import export_products
from wildsight.world.ranges import whole
from wildsight.world.render import render
from wildsight.world.scene import SHAPES, random_scene
from wildsight.world.sensors import COLDEST, HOTTEST, REACH, SENSORS, check_sensors

_MILLIMETRES = round(REACH * 1000)


def _save(file: Path, array: npt.NDArray[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(array) if array.dtype == np.uint16 else from_array(array)).save(file)


def _lines(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _class_folders(root: Path, images: Pictures, names: Iterable[str]) -> None:
    """``root/NAME/000.png``, numbered within each name."""
    seen: Counter[str] = Counter()
    for image, name in zip(images, names, strict=True):
        _save(root / name / f"{seen[name]:03d}.png", image)
        seen[name] += 1


def _compositions(root: Path, count: int, size: int, seed: int) -> None:
    for split, part in sets.compositions(seed=seed, size=size, per_pair=count).items():
        pairs = zip(part.attributes, part.objects, strict=True)
        _class_folders(root / split, part.images, (f"{a}_{o}" for a, o in pairs))


def _sketches(root: Path, count: int, size: int, seed: int) -> None:
    parts = sets.sketches(seed=seed, size=size, per_class=count)
    for part in parts.values():
        _class_folders(root / "photos", part.photos, part.photo_labels)
        _class_folders(root / "sketches", part.sketches, part.sketch_labels)
    names = {split: sorted(set(part.photo_labels)) for split, part in parts.items()}
    _json(root / "classes.json", {"validation": names["val"], "test": names["test"]})


def _categories(root: Path, count: int, size: int, seed: int) -> None:
    made = sets.categories(seed=seed, size=size, per_class=count)
    labelled, free = np.flatnonzero(made.labelled), np.flatnonzero(~made.labelled)
    _class_folders(root / "labelled", made.images[labelled], (made.labels[i] for i in labelled))
    shuffled = np.random.default_rng((seed, 90)).permutation(free)
    rows = []
    for place, index in enumerate(shuffled):
        _save(root / "unlabelled" / f"{place:04d}.png", made.images[index])
        rows.append((f"unlabelled/{place:04d}.png", made.labels[index]))
    with (root / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


def _tasks(root: Path, count: int, size: int, seed: int) -> None:
    made = sets.tasks(seed=seed, size=size, per_class=count)
    for task in made:
        for split, images, labels in (
            ("train", task.train_images, task.train_labels),
            ("test", task.test_images, task.test_labels),
        ):
            _class_folders(root / task.name / split, images, (task.class_names[c] for c in labels))
    rows = [{"name": t.name, "classes": t.class_names, "templates": t.templates} for t in made]
    _json(root / "tasks.json", {"tasks": rows})


def _modalities(
    root: Path, count: int, size: int, seed: int, failures: Sequence[str] = (), *, salient: bool = False
) -> None:
    """Every fourth scene is a test scene: clear, and once more under each failure."""
    rows, conditions = range(count), dict[str, str]()
    test = [row for row in rows if row % 4 == 3]
    _readings(root / "train", [row for row in rows if row % 4 != 3], size, seed, None, salient)
    for failure in (None, *dict.fromkeys(failures)):
        stems = _readings(root / "test", test, size, seed, failure, salient)
        conditions |= dict.fromkeys(stems, failure or "clear")
    units = {name: {"full_scale": _MILLIMETRES, "unit": "mm"} for name in ("depth", "lidar")}
    scale = f"{COLDEST} to {HOTTEST} degrees Celsius over 65535"
    units["thermal"] = {"full_scale": 65535, "unit": scale}
    kind = {"task": "saliency"} if salient else {"classes": ("background", *SHAPES)}
    _json(root / "fusion.json", {**kind, "modalities": units, "conditions": conditions})


def _readings(
    place: Path, rows: Sequence[int], size: int, seed: int, failure: str | None, salient: bool
) -> list[str]:
    """Write scenes; returns their stems, which hold no colon."""
    ending = "" if failure is None else f"-{failure.replace(':', '-')}"
    stems = [f"{row:04d}{ending}" for row in rows]
    if not rows:
        return []
    made = sets.sensed(rows, seed=seed, size=size, failure=failure)
    for index, stem in enumerate(stems):
        for name, readings in made.inputs.items():
            _save(place / name / f"{stem}.png", _stored(name, readings[index]))
        mask = made.saliency[index] * np.uint8(255) if salient else made.masks[index].astype(np.uint8)
        _save(place / "masks" / f"{stem}.png", mask)
    return stems


def _saliency(root: Path, count: int, size: int, seed: int, failures: Sequence[str] = ()) -> None:
    """The scenes of `_modalities`, each mask showing what is salient."""
    _modalities(root, count, size, seed, failures, salient=True)


def _stored(name: str, reading: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """A reading [S, S, C] as it stands in a file: metres in millimetres, events as red (brighter) and
    blue."""
    if name == "event":
        reading = np.stack((reading[..., 0], np.zeros_like(reading[..., 0]), reading[..., 1]), -1)
    if name in ("rgb", "event"):
        return (reading * 255 + 0.5).astype(np.uint8)
    return (reading[..., 0] * (65535 if name == "thermal" else _MILLIMETRES) + 0.5).astype(np.uint16)


def _grounding(root: Path, count: int, size: int, seed: int) -> None:
    made = sets.grounding(seed=seed, size=size, count=count)
    rows = []
    (root / "calib").mkdir()
    for row, boxes in enumerate(made.boxes):
        _save(root / "images" / f"{row:06d}.png", made.images[row])
        numbers = " ".join(f"{v:.6f}" for v in np.column_stack((made.intrinsics[row], np.zeros(3))).ravel())
        (root / "calib" / f"{row:06d}.txt").write_text(f"P2: {numbers}\n", encoding="utf-8")
        described = [made.expressions[row], *[None] * (len(boxes) - 1)]
        for box, expression in zip(boxes, described, strict=True):
            rows.append(
                {"image": f"{row:06d}.png", "expression": expression, "name": box.name, **_metric(box)}
            )
    _lines(root / "labels.jsonl", rows)


def _metric(box: sets.Box3D) -> dict[str, Any]:
    centre, size = ([round(float(v), 5) for v in values] for values in (box.centre, box.size))
    return {"centre": centre, "size": size, "yaw": round(box.yaw, 6)}


def _outlines(root: Path, count: int, size: int, seed: int) -> None:
    made = sets.outlines(seed=seed, size=size, count=count)
    for row in range(count):
        _save(root / "images" / f"{row:04d}.png", made.images[row])
        _save(root / "masks" / f"{row:04d}.png", made.masks[row].astype(np.uint8) * 255)


def _questions(root: Path, count: int, size: int, seed: int) -> None:
    made = sets.questions(seed=seed, size=size, count=count)
    for place, image in enumerate(made.images):
        _save(root / "images" / f"{place:05d}.png", image)
    columns = zip(made.picture, made.kinds, made.questions, made.answers, strict=True)
    names = ("image", "kind", "question", "answer")
    rows = ((f"images/{p:05d}.png", k, q, a) for p, k, q, a in columns)
    _lines(root / "questions.jsonl", (dict(zip(names, row, strict=True)) for row in rows))


def _captions(root: Path, count: int, size: int, seed: int) -> None:
    """Pictures beside ``captions.txt``, a line of level 2 for each; ``captions.jsonl`` has all levels."""
    rows = []
    for place in range(count):
        scene = random_scene(number_of(seed, 95, place), count=None)
        _save(root / f"{place:05d}.png", render(scene, size).rgb)
        rows.append({"image": f"{place:05d}.png", "captions": [caption(scene, level) for level in (1, 2, 3)]})
    _lines(root / "captions.jsonl", rows)
    middle = [row["captions"][1] for row in rows]
    (root / "captions.txt").write_text("\n".join([*middle, ""]), encoding="utf-8")


EXPORTS: dict[str, tuple[Callable[..., None], int, str]] = {
    "compositions": (_compositions, 20, "training pictures per seen pair, in the mean"),
    "sketches": (_sketches, 20, "photos, and sketches, per class"),
    "categories": (_categories, 50, "pictures per class"),
    "tasks": (_tasks, 20, "training pictures per class"),
    "modalities": (_modalities, 100, "scenes"),
    "saliency": (_saliency, 100, "scenes"),
    "grounding": (_grounding, 200, "pictures"),
    "outlines": (_outlines, 200, "pictures"),
    "questions": (_questions, 1000, "questions"),
    "captions": (_captions, 500, "pictures"),
    "products": (lambda *_: None, 60, "good training pictures per category"),
}


FAILING = ("modalities", "saliency")


def export(
    name: str,
    folder: str | Path,
    *,
    count: int | None = None,
    size: int = 96,
    seed: int = 0,
    failures: Sequence[str] = (),
) -> Path:
    """Write a data set to a folder, whole or not at all.

    Args:
        name: a key of `EXPORTS`.
        folder: target; an earlier export there is replaced, anything else refused.
        count: how many; what is counted stands in `EXPORTS`, with the default.
        size: side in pixels, 32 to 1024.
        seed: 0 or more.
        failures: of `FAILURES`, or ``dead:NAME``: test scenes of the sets in `FAILING` are written once more
            under each.

    Raises:
        ConfigError: an unknown set or failure, a value outside its range, or a folder that holds something
            else.
        DataError: the folder cannot be written.
    """
    if name not in EXPORTS:
        raise ConfigError(f"no set is called {name!r}", where="set", hint=f"choose from {', '.join(EXPORTS)}")
    write, usual, _ = EXPORTS[name]
    number = usual if count is None else count
    check(size, seed)
    whole(number, "count", 1, 10**6)
    for failure in failures:
        check_sensors(tuple(SENSORS), failure)
    if failures and name not in FAILING:
        hint = f"export {' or '.join(FAILING)}"
        raise ConfigError(f"a failure of {name}, which no sensor sees", where="failure", hint=hint)
    if name == "products":
        return export_products(folder, good=number, size=size, seed=seed)
    with atomic_folder(folder) as root:
        write(root, number, size, seed, *((tuple(failures),) if name in FAILING else ()))
    return Path(folder)
