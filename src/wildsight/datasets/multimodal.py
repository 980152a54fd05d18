"""The folders of the multi-modal benchmarks, each a function from a root folder to an indexed set.

They index files and read no pixels. Pictures of one scene are paired by their parsed names, never by
their order in a listing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wildsight.datasets.folders import by_stem, subfolders
from wildsight.datasets.lists import read_json, read_names
from wildsight.datasets.masks import GRADED, MaskRule, declared
from wildsight.datasets.multimodal_config import settings_of
from wildsight.datasets.tables import PictureTable
from wildsight.errors import ConfigError, DataError
from wildsight.images import list_images

Split = Literal["train", "validation", "test"]
Task = Literal["segmentation", "saliency"]

IGNORE = 255
TRAIN_SHARE = 0.8
MASKS = ("masks", "mask", "GT", "gt")
SPLITS: dict[str, Split] = {
    "train": "train", "Train": "train", "val": "validation", "validation": "validation",
    "test": "test", "Test": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Band:
    """Some channels of a file that holds several modalities."""

    path: Path
    start: int
    stop: int


Picture = Path | Band | np.ndarray


@dataclass(frozen=True)
class FusionSample:
    """One scene.

    Attributes:
        name: relative name, unique in the set.
        pictures: modality -> file, or array [H, W, 3] float32 in [0, 1]; a missing one is left out.
        mask: class ids: a file, or an array [H, W] int64; None where there is none.
        split: the part of the protocol it belongs to.
        conditions: weather, light, failure; it counts in each of them.
        repeated: True where the set has the scene a second time: it counts in its conditions, not in ``all``.
    """

    name: str
    pictures: Mapping[str, Picture]
    mask: Path | np.ndarray | None
    split: Split
    conditions: tuple[str, ...] = ()
    repeated: bool = False

    @property
    def condition(self) -> str:
        """All of its conditions in one word."""
        return "+".join(self.conditions)


@dataclass(frozen=True)
class Indexed:
    """What a layout finds.

    Attributes:
        samples: all scenes, in the layout's order.
        modalities: all of them, in the layout's order.
        classes: names by id; ``background, foreground`` for a binary mask.
        task: what the masks are for.
        rule: how a stored mask value becomes a class id: ``ids`` as it is, ``binary`` two classes told apart
            as `wildsight.datasets.masks` does (of more than two values all above 0 are foreground), ``half``
            above 128, ``minus-one`` 0 and 255 ignored and the rest counted from 1. An id of 255 is void: it
            counts neither in training nor in scores.
        scales: modality -> stored value that stands for 1, where it is more than 8 bits.
        loose: modalities whose pictures may have another size (resized to the others).
        masks: what is known of binary masks.
    """

    samples: tuple[FusionSample, ...]
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    task: Task = "segmentation"
    rule: str = "ids"
    scales: Mapping[str, float] = field(default_factory=dict)
    loose: frozenset[str] = frozenset()
    masks: MaskRule = GRADED


DELIVER_CLASSES = (
    "Building", "Fence", "Other", "Pedestrian", "Pole", "RoadLine", "Road", "SideWalk", "Vegetation", "Cars",
    "Wall", "TrafficSign", "Sky", "Ground", "Bridge", "RailTrack", "GroundRail", "TrafficLight", "Static",
    "Dynamic", "Water", "Terrain", "TwoWheeler", "Bus", "Truck",
)  # fmt: skip
DELIVER_FILES = {
    "rgb": ("img", "rgb"),
    "depth": ("hha", "depth"),
    "event": ("event", "event"),
    "lidar": ("lidar", "lidar"),
}
FAILURES = ("motionblur", "overexposure", "underexposure", "lidarjitter", "eventlowres")
MFNET_CLASSES = (
    "unlabelled", "car", "person", "bike", "curve", "car stop", "guardrail", "colour cone", "bump",
)  # fmt: skip


def split_named(name: str) -> Split:
    """The split that a word means, e.g. ``val``.

    Raises:
        ConfigError: it means none.
    """
    if name not in SPLITS:
        raise ConfigError(f"no split is called {name!r}", hint="use train, validation or test")
    return SPLITS[name]


def hashed_split(name: str) -> Split:
    """The split of a scene whose set has none: the same on every machine."""
    part = int(hashlib.sha256(os.fsencode(name)).hexdigest()[:8], 16) / 2**32
    return "train" if part < TRAIN_SHARE else "test"


def plain(root: Path) -> Indexed:
    """One folder per modality with the same stems, and ``masks/``; all inside ``train/`` and ``test/``, or
    split by hash. An optional ``fusion.json`` states classes, units and conditions."""
    settings = settings_of(root)
    parts: list[tuple[Split | None, Path]] = [
        (SPLITS[p.name], p) for p in subfolders(root) if p.name in SPLITS
    ]
    parts = parts or [(None, root)]
    names = {m for _, part in parts for m in _modalities(part)}
    order = tuple(sorted(names, key=lambda n: (n != "rgb", n)))
    samples = [
        sample
        for split, part in parts
        for sample in _scenes(root, part, split, order, settings.get("conditions", {}))
    ]
    classes = tuple(settings.get("classes", ()))
    task: Task = settings.get("task", "segmentation")
    rule = "ids" if classes else "binary"
    masks = declared(root, GRADED)
    return Indexed(tuple(samples), order, classes or ("background", "foreground"), task, rule, masks=masks)


def _modalities(part: Path) -> list[str]:
    return [p.name for p in subfolders(part) if p.name not in MASKS and list_images(p)]


def _scenes(
    root: Path, part: Path, split: Split | None, names: tuple[str, ...], conditions: Mapping[str, Any]
) -> Iterator[FusionSample]:
    files = {name: by_stem(part / name) for name in names}
    masks = next((by_stem(part / m) for m in MASKS if (part / m).is_dir()), {})
    for stem in dict.fromkeys(s for found in files.values() for s in found):
        pictures = {name: found[stem] for name, found in files.items() if stem in found}
        name = (part.relative_to(root) / stem).as_posix()
        yield FusionSample(
            name, pictures, masks.get(stem), split or hashed_split(stem), _named(conditions.get(stem))
        )


def of_table(table: PictureTable) -> Indexed:
    """A CSV with a column of files for each modality, and perhaps ``mask``, ``split`` and ``condition``.

    ``fusion.json`` beside it states classes and units, as for folders.

    Raises:
        DataError: no column of pictures, or a picture of a modality that is named with others.
    """
    settings = settings_of(table.root)
    used = [c for c in table.columns if c != "mask" and any(c in row.files for row in table.rows)]
    if not used:
        raise DataError("has no column of pictures", where=table.file, hint="write rgb, depth, ..., mask")
    samples = [
        FusionSample(
            next(iter(row.files.values()))[0].relative_to(table.root).with_suffix("").as_posix(),
            {name: row.files[name][0] for name in used if name in row.files},
            row.files.get("mask", (None,))[0],
            row.split or hashed_split(next(iter(row.files.values()))[0].stem),
            _named(row.values.get("condition", "")),
        )
        for row in table.rows
        if row.files
    ]
    order = tuple(sorted(used, key=lambda n: (n != "rgb", n)))
    classes = tuple(settings.get("classes", ()))
    names = classes or ("background", "foreground")
    masks = declared(table.root, GRADED)
    task: Task = settings.get("task", "segmentation")
    return Indexed(tuple(samples), order, names, task, "ids" if classes else "binary", masks=masks)


def _named(given: str | list[str] | None) -> tuple[str, ...]:
    """Conditions as written: none, one, or a list."""
    return (given,) if isinstance(given, str) and given else tuple(given or ())


def deliver(root: Path) -> Indexed:
    """``{img,hha,depth,event,lidar,semantic}/{weather}/{train,val,test}/{scene}/{frame}_{kind}_front.png``.

    Only the first three channels are read, as in the set's own code: alpha is dropped, not blended.
    """
    samples = []
    for weather in subfolders(root / "img"):
        for part in subfolders(weather):
            if part.name not in SPLITS:
                raise DataError("is no split", where=part, hint="name it train, val or test")
            for scene in subfolders(part):
                inside = Path(weather.name, part.name, scene.name)
                conditions = (weather.name, *(f for f in FAILURES if f in scene.name))
                for picture in list_images(scene):
                    frame = picture.stem.removesuffix("_rgb_front")
                    files = {
                        name: root / folder / inside / f"{frame}_{kind}_front.png"
                        for name, (folder, kind) in DELIVER_FILES.items()
                    }
                    mask = root / "semantic" / inside / f"{frame}_semantic_front.png"
                    there: dict[str, Picture] = {n: Band(p, 0, 3) for n, p in files.items() if p.is_file()}
                    samples.append(
                        FusionSample(
                            (inside / frame).as_posix(),
                            there,
                            mask if mask.is_file() else None,
                            SPLITS[part.name],
                            conditions,
                        )
                    )
    return Indexed(
        tuple(samples), tuple(DELIVER_FILES), DELIVER_CLASSES, rule="minus-one", loose=frozenset({"event"})
    )


def vdt(root: Path) -> Indexed:
    """``{Train,Test}/{V,D,T,GT}/{name}`` or ``{Train,Test,val}/{RGB,depth,thermal,GT}/{name}``.

    Every other folder is a challenge: a choice of the test scenes. It counts in its own row, and in ``all``
    only where there is no test folder.
    """
    kinds = {"rgb": ("V", "RGB"), "depth": ("D", "depth"), "thermal": ("T", "thermal")}
    samples: list[FusionSample] = []
    official = any(SPLITS.get(part.name) == "test" for part in subfolders(root))
    seen: set[str] = set()
    for part in subfolders(root):
        files = {
            name: next((by_stem(part / f) for f in folders if (part / f).is_dir()), {})
            for name, folders in kinds.items()
        }
        masks = by_stem(part / "GT")
        split = SPLITS.get(part.name, "test")
        for stem in dict.fromkeys(s for found in (*files.values(), masks) for s in found):
            pictures = {name: found[stem] for name, found in files.items() if stem in found}
            conditions = () if split != "test" else ("test" if part.name in SPLITS else part.name,)
            repeated = part.name not in SPLITS and (official or stem in seen)
            seen |= set() if part.name in SPLITS else {stem}
            samples.append(
                FusionSample(f"{part.name}/{stem}", pictures, masks.get(stem), split, conditions, repeated)
            )
    return Indexed(tuple(samples), tuple(kinds), ("background", "salient"), "saliency", "half")


def mfnet(root: Path) -> Indexed:
    """``images/NAME.png``, thermal its fourth channel, ``labels/NAME.png``, ``{train,val,test}.txt``."""
    samples = []
    for listed, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        for name in _listed(root / f"{listed}.txt"):
            picture, mask = root / "images" / f"{name}.png", root / "labels" / f"{name}.png"
            pictures: dict[str, Picture] = (
                {"rgb": Band(picture, 0, 3), "thermal": Band(picture, 3, 4)} if picture.is_file() else {}
            )
            samples.append(
                FusionSample(
                    name,
                    pictures,
                    mask if mask.is_file() else None,
                    SPLITS[split],
                    ("night" if name.endswith("N") else "day",),
                )
            )
    return Indexed(tuple(samples), ("rgb", "thermal"), MFNET_CLASSES)


def nyu(root: Path) -> Indexed:
    """``RGB/``, ``HHA/`` (or ``Depth/``), ``Label/`` with one stem per scene, and ``{train,test}.txt``."""
    folders = {"rgb": ("RGB", "rgb"), "depth": ("HHA", "Depth", "hha", "depth"), "mask": ("Label", "label")}
    files = {
        name: next((by_stem(root / f) for f in names if (root / f).is_dir()), {})
        for name, names in folders.items()
    }
    samples = []
    for split in ("train", "test"):
        for line in _listed(root / f"{split}.txt"):
            stem = Path(line.split()[0]).stem
            pictures: dict[str, Picture] = {n: files[n][stem] for n in ("rgb", "depth") if stem in files[n]}
            samples.append(FusionSample(stem, pictures, files["mask"].get(stem), SPLITS[split]))
    classes = tuple(f"class {i}" for i in range(1, 41))
    return Indexed(tuple(samples), ("rgb", "depth"), classes, rule="minus-one")


def crack(root: Path) -> Indexed:
    """``{train,test}/{rgb,thermal,depth,mask}/ID`` and ``index.json`` with the light of each."""
    light = {str(row["id"]): str(row["light"]) for row in read_json(root / "index.json")}
    found = plain(root)
    samples = tuple(replace(s, conditions=_named(light.get(Path(s.name).name))) for s in found.samples)
    return Indexed(samples, found.modalities, ("background", "crack"), rule="binary")


def _listed(file: Path) -> list[str]:
    return read_names(file) if file.is_file() else []
