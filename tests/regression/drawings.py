"""Tiny data sets for every task, drawn in integer arithmetic, without a renderer or a random generator.

The same pictures come out on every machine and with every version of numpy. Each function writes one task's
plain folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
COLOURS = {"red": (208, 48, 48), "green": (48, 176, 64), "blue": (48, 64, 216), "grey": (150, 150, 150)}
Pixels = np.ndarray


def noise(seed: int, height: int, width: int, levels: int = 4) -> Pixels:
    """[H, W] int64 in [0, levels), from a hash of the place and the seed."""
    y, x = np.mgrid[:height, :width].astype(np.uint64)
    value = x * np.uint64(73856093) ^ y * np.uint64(19349663) ^ np.uint64(seed * 83492791 + 12345)
    for shift, factor in ((13, 0x5BD1E995), (15, 0x27D4EB2F)):
        value = ((value ^ (value >> np.uint64(shift))) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    value ^= value >> np.uint64(16)
    return (value % np.uint64(levels)).astype(np.int64)


def draw(seed: int, count: int) -> int:
    """An int in [0, count) from the seed alone."""
    return int(noise(seed, 1, 1, 1 << 20)[0, 0]) % count


def ground(seed: int, level: int = 96, height: int = SIDE, width: int = SIDE) -> Pixels:
    """[H, W, 3] uint8: grey in four close levels."""
    plane = level + 8 * noise(seed, height, width)
    return np.repeat(plane[..., None], 3, axis=2).astype(np.uint8)


def shape(name: str, y: int, x: int, half: int, side: int = SIDE) -> Pixels:
    """[S, S] bool: where a shape of half-width ``half`` around (y, x) covers the picture."""
    rows, columns = np.mgrid[:side, :side]
    dy, dx = rows - y, columns - x
    box, radius = np.maximum(abs(dy), abs(dx)) <= half, dy * dy + dx * dx
    disc = radius <= half * half
    thin = max(1, half // 3)
    return {
        "square": box,
        "disc": disc,
        "cross": box & ((abs(dy) <= thin) | (abs(dx) <= thin)),
        "ring": disc & (radius >= (half - 2 * thin) * (half - 2 * thin)),
        "bars": box & (dy % 4 < 2),
        "frame": box & (np.maximum(abs(dy), abs(dx)) > half - 2),
        "wedge": box & (dy >= abs(dx) * 2 - half),
    }[name]


def placed(seed: int, side: int = SIDE) -> tuple[int, int, int]:
    """Row, column and half-width of a shape that lies inside the picture."""
    half = side // 5 + draw(3 * seed + 1, side // 10 + 1)
    span = side - 2 * half - 2
    return half + 1 + draw(3 * seed + 2, span), half + 1 + draw(3 * seed + 3, span), half


def thing(name: str, colour: str, seed: int, side: int = SIDE) -> Pixels:
    """One coloured shape on grey."""
    picture = ground(seed, height=side, width=side)
    picture[shape(name, *placed(seed, side), side)] = COLOURS[colour]
    return picture


def save(file: Path, pixels: Pixels) -> None:
    """Write a PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, optimize=True)


def anomaly(root: Path) -> None:
    """Two kinds of plate in the MVTec form; a defect is a spot that is a little brighter or darker."""
    for number, kind in enumerate(("plate", "weave")):
        for i in range(10):
            save(root / kind / "train" / "good" / f"{i}.png", _plate(kind, 100 * number + i))
        for i in range(5):
            save(root / kind / "test" / "good" / f"{i}.png", _plate(kind, 100 * number + 50 + i))
            picture, mask = _plate(kind, 100 * number + 70 + i), np.zeros((SIDE, SIDE), np.uint8)
            y, x, _ = placed(100 * number + i)
            spot = shape("disc", y, x, 3)
            picture[spot] = np.clip(picture[spot].astype(np.int64) + (44 if i % 2 else -36), 0, 255)
            mask[spot] = 255
            save(root / kind / "test" / "spot" / f"{i}.png", picture)
            save(root / kind / "ground_truth" / "spot" / f"{i}_mask.png", mask)


def _plate(kind: str, seed: int) -> Pixels:
    picture = ground(seed, 88 + 8 * draw(seed, 4))
    if kind == "weave":
        picture[:: 4 + draw(seed, 2)] -= 40
    else:
        picture[shape("frame", 16, 16, 12 + draw(seed, 2))] += 60
    return picture


def segmentation(root: Path) -> None:
    """Ten pictures of 48 px with one defect each."""
    for i in range(10):
        picture = ground(300 + i, height=48, width=48)
        name = ("square", "disc", "wedge")[i % 3]
        covered = shape(name, *placed(300 + i, 48), 48)
        picture[covered] += 70
        save(root / "images" / f"{i}.png", picture)
        save(root / "masks" / f"{i}.png", covered.astype(np.uint8) * 255)


def composition(root: Path) -> None:
    """Three colours of three shapes; two pairs are held out."""
    for i, colour in enumerate(("red", "green", "blue")):
        for j, name in enumerate(("square", "disc", "cross")):
            for n in range(8):
                picture = thing(name, colour, 1000 + 100 * i + 10 * j + n)
                save(root / f"{colour}_{name}" / f"{n}.png", picture)
    (root / "unseen_pairs.txt").write_text("red square\nblue disc\n", encoding="utf-8")


def retrieval(root: Path) -> None:
    """Photographs and line drawings of seven shapes; one class validates, two are never trained."""
    names = ("square", "disc", "cross", "ring", "bars", "frame", "wedge")
    for j, name in enumerate(names):
        for n in range(6):
            colour = tuple(COLOURS)[n % 4]
            save(root / "photos" / name / f"{n}.png", thing(name, colour, 2000 + 100 * j + n))
        for n in range(4):
            sheet = np.full((SIDE, SIDE, 3), 255, np.uint8)
            sheet[_outline(shape(name, *placed(2500 + 100 * j + n)))] = 0
            save(root / "sketches" / name / f"{n}.png", sheet)
    split = {"validation": ["ring"], "test": ["bars", "frame"]}
    (root / "classes.json").write_text(json.dumps(split), encoding="utf-8")


def _outline(covered: Pixels) -> Pixels:
    inside = covered.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inside &= np.roll(covered, step, axis)
    return covered & ~inside


def discovery(root: Path) -> None:
    """Four shapes; the labelled half of two of them is known."""
    lines = ["path,label"]
    for j, name in enumerate(("bars", "cross", "disc", "frame")):
        for n in range(8):
            picture = thing(name, ("red", "grey")[n % 2], 3000 + 100 * j + n)
            labelled = j < 2 and n < 4
            where = f"labelled/{name}/{n}.png" if labelled else f"unlabelled/{10 * n + j}.png"
            save(root / where, picture)
            if not labelled:
                lines.append(f"{where},{name}")
    (root / "truth.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def continual(root: Path) -> None:
    """Two tasks: colours, then shapes."""
    tasks: dict[str, list[tuple[str, Callable[[int], Pixels]]]] = {
        "colours": [(c, lambda seed, c=c: thing("disc", c, seed)) for c in ("red", "green", "blue")],
        "shapes": [(s, lambda seed, s=s: thing(s, "grey", seed)) for s in ("square", "cross")],
    }
    for number, (task, kinds) in enumerate(tasks.items()):
        for label, (name, picture) in enumerate(kinds):
            for n in range(9):
                split = "train" if n < 5 else "test"
                save(root / task / split / name / f"{n}.png", picture(4000 + 500 * number + 50 * label + n))
    entries = [{"name": t, "classes": [c for c, _ in kinds]} for t, kinds in tasks.items()]
    (root / "tasks.json").write_text(json.dumps({"tasks": entries}), encoding="utf-8")


def fusion(root: Path) -> None:
    """Scenes with three classes that no sensor tells apart alone."""
    for split, count in (("train", 10), ("test", 4)):
        for i in range(count):
            seed = 5000 + i + 100 * (split == "test")
            mask = np.zeros((SIDE, SIDE), np.uint8)
            for label, name in ((1, "square"), (2, "disc"), (3, "cross")):
                mask[shape(name, *placed(10 * seed + label))] = label
            planes = {"rgb": (1, 3), "thermal": (2, 3), "depth": (1, 2)}
            for number, (name, bright) in enumerate(planes.items()):
                plane = 64 + 96 * np.isin(mask, bright) + 8 * noise(3 * seed + number, SIDE, SIDE, 6)
                save(root / split / name / f"{i:02d}.png", plane.astype(np.uint8))
            save(root / split / "masks" / f"{i:02d}.png", mask)
    classes = {"classes": ["none", "one", "two", "both"]}
    (root / "fusion.json").write_text(json.dumps(classes), encoding="utf-8")


def spatial(root: Path) -> None:
    """Cubes and barrels on a plane, seen by cameras of two focal lengths."""
    (root / "calib").mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(14):
        picture, focal = ground(6000 + i, height=48, width=48), (40, 60)[i % 2]
        calibration = f"P2: {focal} 0 24 0 0 {focal} 24 0 0 0 1 0\nsize: 48 48\n"
        (root / "calib" / f"{i:02d}.txt").write_text(calibration, encoding="utf-8")
        for j, (name, form) in enumerate((("cube", "square"), ("barrel", "disc"))):
            colour = ("red", "green", "blue")[draw(40 * i + j, 3)]
            depth = 3 + draw(50 * i + j, 4)
            column, half = (12, 36)[j], 3 * focal // (5 * depth)
            picture[shape(form, 30, column, half, 48)] = COLOURS[colour]
            box = {"name": name, "size": [1.2, 1.2, 1.2], "yaw": draw(60 * i + j, 4) / 4}
            centre = [(column - 24) * depth / focal, 6 * depth / focal, depth]
            row = {"image": f"{i:02d}.png", "expression": f"the {colour} {name}", "centre": centre, **box}
            lines.append({**row, "split": "train" if i < 10 else "test", "group": f"f{focal}"})
        lines.append({"image": f"{i:02d}.png", "expression": "the tree", "absent": True,
                      "split": "train" if i < 10 else "test", "group": f"f{focal}"})  # fmt: skip
        save(root / "images" / f"{i:02d}.png", picture)
    (root / "labels.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in lines), encoding="utf-8")


def compression(root: Path) -> None:
    """Questions with one-word answers about shapes."""
    lines = []
    for i, (colour, name) in enumerate(_pairs()):
        save(root / "images" / f"{i:02d}.png", thing(name, colour, 7000 + i))
        image = f"images/{i:02d}.png"
        asked = ("red", "green", "blue")[draw(7000 + i, 3)]
        yes = "yes" if asked == colour else "no"
        lines.append({"image": image, "question": "what colour is it ?", "answer": colour, "kind": "colour"})
        lines.append({"image": image, "question": f"is it {asked} ?", "answer": yes, "kind": "yes or no"})
    (root / "questions.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in lines), encoding="utf-8")


def _pairs() -> Iterator[tuple[str, str]]:
    for i in range(18):
        yield ("red", "green", "blue")[i % 3], ("square", "disc", "cross")[i // 3 % 3]


SETS: dict[str, Callable[[Path], None]] = {
    "anomaly": anomaly,
    "compression": compression,
    "composition": composition,
    "continual": continual,
    "discovery": discovery,
    "fusion": fusion,
    "retrieval": retrieval,
    "segmentation": segmentation,
    "spatial": spatial,
}
