"""The pictures that a nano checkpoint learns from and is scored on, as one uint8 array each.

Only training parts of the data folder are learned from; where there is no data folder, the embedded
world's products take its place.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL.Image import Resampling

from wildsight.errors import DataError
from wildsight.files import atomic_folder, atomic_path, cache_folder, digest_of, read_json
from wildsight.images import expand, list_images, load_image

Pixels = npt.NDArray[np.uint8]
PROBES: tuple[str, ...] = ("tinyimagenet", "grocery81", "sign_digits")
_TEST_PART = {"tinyimagenet": "val", "grocery81": "test", "sign_digits": "test"}


def training_files(data: Path) -> dict[str, list[Path]]:
    """Picture files to learn from, by data set; sets that are absent are left out.

    Args:
        data: folder that holds the sets.

    Raises:
        DataError: none of the sets is there.
    """
    found = {
        "tinyimagenet": _folder(_unzipped(data / "tinyimagenet" / "tinyimagenet_subset.zip") / "train"),
        "cifar10": _folder(_unzipped(data / "cifar10" / "cifar10_subset.zip") / "train"),
        "sketchy125 (photos of classes seen in both splits)": _sketchy(data / "sketchy125"),
        "pacs (seen style-object pairs)": _pacs(data / "pacs"),
        "grocery81": _folder(data / "grocery81" / "train"),
        "flickr8k_1k": _folder(data / "flickr8k_1k" / "images"),
        "anomaly (train/good)": [f for d in sorted(data.glob("anomaly/*/train/good")) for f in _folder(d)],
    }
    named = {name: files for name, files in found.items() if files}
    if not named:
        raise DataError("holds none of the known sets", where=data, hint="check the path, or leave it out")
    return named


def _folder(folder: Path) -> list[Path]:
    return list_images(folder, recursive=True) if folder.is_dir() else []


def _sketchy(root: Path) -> list[Path]:
    if not (root / "splits.json").is_file():
        return []
    splits = read_json(root / "splits.json")
    seen = set(splits["split_104_21"]["seen"]) & set(splits["split_100_25_random_seed7"]["seen"])
    return [f for name in sorted(seen) for f in _folder(root / "photo" / name)]


def _pacs(root: Path) -> list[Path]:
    if not (root / "splits.json").is_file():
        return []
    pairs = read_json(root / "splits.json")["czsl_seen_pairs"]
    return [f for pair in pairs for f in _folder(root.joinpath(*pair.split()))]


def _unzipped(file: Path) -> Path:
    """The folder that a zip was unpacked to, in the cache; ``file`` itself where there is none."""
    if not file.is_file():
        return file
    folder = cache_folder("pretrain") / f"{file.stem}-{file.stat().st_size}"
    if not folder.is_dir():
        with atomic_folder(folder) as temporary, zipfile.ZipFile(file) as archive:
            archive.extractall(temporary)
    return folder


def decode(files: Sequence[Path], size: int) -> Pixels:
    """Pictures as uint8 [N, size, size, 3], stretched, through the cache.

    Raises:
        ImageError: a picture that cannot be read.
    """
    key = digest_of([size, [(str(f), f.stat().st_size) for f in files]])[:24]
    stored = cache_folder("pretrain") / f"pixels-{key}.npy"
    if not stored.is_file():
        with atomic_path(stored) as temporary:
            np.save(temporary, np.stack([_one(f, size) for f in files]))
    array: Pixels = np.load(stored, mmap_mode="r")
    return array


def _one(file: Path, size: int) -> Pixels:
    return np.asarray(load_image(file).resize((size, size), Resampling.BILINEAR), np.uint8)


def world_pictures(count: int, size: int) -> Pixels:
    """Products of the embedded world, good and defective in turn, uint8 [count, size, size, 3]."""
    from wildsight.world.products import CATEGORIES, DEFECTS, render_product

    kinds: tuple[str | None, ...] = (None, *DEFECTS)
    pictures = []
    for index in range(count):
        turn, category = divmod(index, len(CATEGORIES))
        defect = kinds[turn % len(kinds)]
        pictures.append(render_product(CATEGORIES[category], turn, defect=defect, size=size).image)
    return np.stack(pictures)


def probe_set(data: Path, name: str, size: int) -> tuple[tuple[Pixels, list[str]], tuple[Pixels, list[str]]]:
    """One class-folder set as ((train pictures, labels), (test pictures, labels)).

    Raises:
        DataError: the set is not there.
    """
    root = data / name
    if name == "tinyimagenet":
        root = _unzipped(root / "tinyimagenet_subset.zip")
    train, test = (expand(root / part) for part in ("train", _TEST_PART[name]))
    return (decode(train, size), [f.parent.name for f in train]), (
        decode(test, size), [f.parent.name for f in test]
    )  # fmt: skip
