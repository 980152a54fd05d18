"""Six tasks of real photographs and drawings as a plain folder, for `wildsight bench continual FOLDER`.

python benchmarks/continual_real.py DATA FOLDER [--train 6] [--test 4]

DATA holds `pacs`, `fruit_state`, `sign_digits`, `grocery81` and the zips of `omniglot_small` and `cifar10`.
Written is a task folder: drawings, characters, signs, groceries, fruit states, objects; ten classes at most.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wildsight.files import atomic_folder, write_json
from wildsight.images import list_images

CLASSES = 10
TEMPLATES = {
    "drawings": "a sketch of a {}",
    "characters": "a drawing of a {}",
    "signs": "a photo of {}",
    "groceries": "a photo of a {}",
    "fruit": "a picture of a {}",
    "objects": "a picture of a {}",
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

Rows = dict[str, list[bytes]]


def from_folders(root: Path, names: dict[str, str]) -> Rows:
    """Class name -> the files' bytes, of the folders that ``names`` maps to class names."""
    return {name: [p.read_bytes() for p in list_images(root / folder)] for folder, name in names.items()}


def from_zip(file: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    """(folder, bytes) of the pictures below ``prefix``."""
    with zipfile.ZipFile(file) as archive:
        for entry in sorted(archive.namelist()):
            if entry.startswith(prefix) and entry.endswith((".png", ".jpg")):
                yield entry.removeprefix(prefix).rsplit("/", 1)[0].strip("/"), archive.read(entry)


def tasks(data: Path) -> dict[str, Rows]:
    """Task -> class -> pictures."""
    plain = {p.name: p.name for p in sorted((data / "pacs" / "sketch").iterdir()) if p.is_dir()}
    goods = sorted(p.name for p in (data / "grocery81" / "train").iterdir() if p.is_dir())[:CLASSES]
    fruit = [f"{s}_{f}" for s in ("fresh", "rotten") for f in ("apple", "banana", "orange")]
    letters: Rows = {}
    for folder, picture in from_zip(data / "omniglot_small" / "omniglot_small.zip", "Latin/"):
        letters.setdefault(f"letter {chr(96 + int(folder[-2:]))}", []).append(picture)
    objects: Rows = {}
    for folder, picture in from_zip(data / "cifar10" / "cifar10_subset.zip", "train/"):
        objects.setdefault(folder, []).append(picture)
    return {
        "drawings": from_folders(data / "pacs" / "sketch", plain),
        "characters": dict(list(letters.items())[:CLASSES]),
        "signs": from_folders(
            data / "sign_digits" / "train", {str(i): f"hand sign {d}" for i, d in enumerate(DIGITS)}
        ),
        "groceries": from_folders(
            data / "grocery81" / "train", {g: g.split("_", 1)[1].replace("-", " ").lower() for g in goods}
        ),
        "fruit": from_folders(data / "fruit_state", {f: f.replace("_", " ") for f in fruit}),
        "objects": objects,
    }


def write(data: Path, folder: Path, train: int, test: int) -> Path:
    """Draw ``train`` and ``test`` pictures per class and write the task folder, whole or not at all."""
    rng = np.random.default_rng(0)
    entries = []
    with atomic_folder(folder) as temporary:
        for task, classes in tasks(data).items():
            for name, pictures in classes.items():
                for number, i in enumerate(rng.permutation(len(pictures))[: train + test].tolist()):
                    part = "train" if number < train else "test"
                    place = temporary / task / part / name.replace(" ", "_")
                    place.mkdir(parents=True, exist_ok=True)
                    (place / f"{i:04d}{_suffix(pictures[i])}").write_bytes(pictures[i])
            entries.append({"name": task, "classes": list(classes), "templates": [TEMPLATES[task]]})
        write_json(temporary / "tasks.json", {"scenario": "task", "tasks": entries})
    return folder


def _suffix(picture: bytes) -> str:
    return ".png" if picture.startswith(b"\x89PNG") else ".webp" if picture[8:12] == b"WEBP" else ".jpg"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=6)
    parser.add_argument("--test", type=int, default=4)
    given = parser.parse_args()
    print(write(given.data, given.folder, given.train, given.test))
