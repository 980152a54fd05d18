"""What the commands of the documentation name: tiny data sets, models and runs, made in this folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import composition_models
import continual_models
import fusion_scenes
import spatial_models
from backbone_models import families
from compression_models import nano_folder
from nano_models import tiny_teacher
from segmentation_models import base_of, official
from wildsight.datasets.sketch_splits import UNSEEN
from wildsight.images import from_array
from wildsight.segmentation import AnomalySegmenter
from wildsight.segmentation.base import load_base
from wildsight.world.export import export
from wildsight.world.products import export_products, render_product

Maker = Callable[[Path], object]
P2 = "P2: 90 0 48 0 0 90 48 0 0 0 1 0\n"
WORDS = {"red": "wet", "blue": "dry", "green": "old", "square": "cat", "disc": "dog", "cross": "bird"}


def family(name: str) -> Maker:
    """The tiny backbone of a family, saved."""
    return lambda folder: families()[name].save_pretrained(folder)


def small_efficientnet(folder: Path) -> None:
    """Four stages of one block: an export of the whole sixteen takes half a minute."""
    import transformers as hf

    shape = {"in_channels": [32, 8, 8, 16], "out_channels": [8, 8, 16, 16], "strides": [1, 2, 2, 2]}
    blocks = {"kernel_sizes": [3] * 4, "num_block_repeats": [1] * 4, "expand_ratios": [1, 4, 4, 4]}
    scale = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 32}
    config = hf.EfficientNetConfig(**shape, **blocks, **scale, depthwise_padding=[])
    hf.EfficientNetModel(config).save_pretrained(folder)


def world(name: str, count: int, size: int = 32) -> Maker:
    """A data set of the embedded world, as `wildsight world export` writes it."""
    return lambda folder: export(name, folder, count=count, size=size)


def products(folder: Path, kinds: Iterable[tuple[str | None, int]], first: int, prefix: str = "") -> None:
    """Washers of 64 pixels: so many of each defect (None: good)."""
    folder.mkdir(parents=True, exist_ok=True)
    for defect, count in kinds:
        for seed in range(first, first + count):
            image = render_product("washer", seed, defect=defect, size=64).image
            from_array(image).save(folder / f"{prefix}{defect or 'good'}-{seed}.png")


def some_parts(first: int) -> Maker:
    """Good and defective pictures side by side."""
    return lambda folder: products(folder, [(None, 2), ("stain", 8), ("missing_part", 8)], first)


def shifts(folder: Path) -> None:
    """Pictures of a day, in two parts that a glob tells apart."""
    products(folder, [(None, 2), ("stain", 1)], 300, "a")
    products(folder, [(None, 2), ("stain", 1)], 400, "b")


def one_part(file: Path) -> None:
    from_array(render_product("tile", 3, defect="stain", size=128).image).save(file)


def picture_of(name: str, inside: str) -> Maker:
    """One picture of a data set of the world."""

    def make(file: Path) -> None:
        made = export(name, file.with_name(f"{name}-for-{file.stem}"), count=1, size=96)
        from_array(np.asarray(Image.open(min(made.glob(inside))).convert("RGB"))).save(file)

    return make


def mtd(root: Path) -> None:
    """Outlines as MTD has them."""
    made = export("outlines", root / "drawn", count=6, size=64)
    for number, file in enumerate(sorted((made / "images").iterdir())):
        place = root / ("MT_Crack", "MT_Blowhole")[number % 2] / "Imgs"
        place.mkdir(parents=True, exist_ok=True)
        Image.open(file).convert("RGB").save(place / f"exp{number}.jpg")
        shutil.copy(made / "masks" / file.name, place / f"exp{number}.png")
    shutil.rmtree(made)


def annotated(file: Path) -> None:
    """Outlines as a COCO file."""
    from wildsight.datasets.annotations.writing import write_annotations
    from wildsight.segmentation import data
    from wildsight.segmentation.result import SegmentationResult

    made = export("outlines", file.parent / "drawn", count=8, size=64)
    results = []
    for sample in data.read_source(made).samples:
        masks = data.read_mask(sample)[None]
        results.append(SegmentationResult(sample.image, masks, masks, np.zeros((1, 1, 1), np.float32), ({},)))
    (place,) = write_annotations(results, file.parent, ["coco"])
    shutil.move(place, file)
    shutil.move(place.parent / "images", file.parent / "images")
    shutil.rmtree(made)


def sam(folder: Path) -> None:
    base_of("SamModel").model.save_pretrained(folder)


def official_spt(file: Path) -> None:
    """A checkpoint with the authors' names, for the base beside it."""
    import torch

    base = load_base("facebook/sam-vit-base")
    adapter: Any = AnomalySegmenter("spt", base).network.adapter
    torch.save(official(base, adapter, merged=False), file)


def pets(root: Path) -> None:
    """Coloured shapes under the names of the examples; wet cats are held out."""
    composition_models.shapes_folder(root)
    for folder in [p for p in root.iterdir() if p.is_dir()]:
        folder.rename(root / "_".join(WORDS[word] for word in folder.name.split("_")))
    (root / "unseen_pairs.txt").write_text("wet cat\ndry dog\n", encoding="utf-8")


def new_pets(folder: Path) -> None:
    folder.mkdir()
    for seed, (colour, shape) in enumerate([("red", "square"), ("blue", "square")]):
        composition_models.draw(colour, shape, seed).save(folder / f"{seed}.png")


def sketchy(root: Path) -> None:
    """The world's sketches and photos under the class names of Sketchy."""
    made = export("sketches", root / "drawn", count=3, size=32)
    drawn = sorted(p.name for p in (made / "photos").iterdir())
    names = [*UNSEEN["sketchy-2"], *("apple", "bell", "cup", "fan", "hat", "jet", "kite", "lion")]
    for side, folder in (("photo", "photos"), ("sketch", "sketches")):
        for number, name in enumerate(names):
            shutil.copytree(made / folder / drawn[number % len(drawn)], root / side / name)
    shutil.rmtree(made)


def photos(folder: Path) -> None:
    """The photos of a set of the world, without their classes."""
    made = export("sketches", folder.with_name(f"{folder.name}-drawn"), count=1, size=32)
    folder.mkdir()
    for number, file in enumerate(sorted(made.glob("photos/*/*.png"))):
        shutil.move(file, folder / f"{number}.png")
    shutil.rmtree(made)


def categories(part: str) -> Maker:
    """A part of the world's categories by itself: its class folders, or its pictures without a class."""

    def make(folder: Path) -> None:
        made = export("categories", folder.with_name(f"{folder.name}-drawn"), count=8, size=32)
        shutil.move(made / part, folder)
        shutil.rmtree(made)

    return make


def tasks(root: Path) -> None:
    """Two tasks of two colours."""
    for name, colours in (("warm", ("red", "white")), ("cold", ("blue", "green"))):
        continual_models.saved(continual_models.colour_task(name, colours, colours), root)


def deliver(root: Path) -> None:
    """Scenes of two discs in DELIVER's layout."""
    for number, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 2):
        planes, mask = fusion_scenes.scene(number)
        colour = np.stack([planes["rgb"]] * 3, 2)
        named = {"img": colour, "hha": np.stack([planes["depth"]] * 3, 2), "semantic": mask + np.uint8(1)}
        named |= {"event": colour[::-1], "lidar": np.stack([planes["thermal"]] * 3, 2)}
        place = (("cloud", "night")[number % 2], split, "MAP_1_point1")
        fusion_scenes.deliver_frame(root, place, f"{number:03d}", named)


def two_sensors(folder: Path) -> None:
    """``rgb`` and, beside it, ``depth`` of two scenes."""
    made = fusion_scenes.write(folder.with_name("drawn"), 2, 0) / "train"
    for name in ("rgb", "depth"):
        shutil.move(made / name, folder.with_name(name))


def pope(root: Path) -> None:
    """The three lists over the same pictures."""
    pictures = sorted((export("outlines", root, count=14, size=48) / "images").iterdir())
    for kind in ("random", "popular", "adversarial"):
        asked = {"text": f"is there a {kind} cube ?", "label": "no"}
        lines = [{"question_id": i, "image": p.name} | asked for i, p in enumerate(pictures)]
        (root / f"coco_pope_{kind}.json").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def published_sizes(file: Path) -> None:
    """A list as the PrefixKV repository has it: what each of 32 layers forgets."""
    file.write_text(json.dumps([0.25 + layer / 62 for layer in range(32)]), encoding="utf-8")


def real_sets(root: Path) -> None:
    """Photographs to learn from, and the network that says what they show."""
    products(root / "anomaly" / "washer" / "train" / "good", [(None, 6)], 0)
    tiny_teacher(root / "weights" / "mobilenet_v2_imagenet")


MODELS: dict[str, Maker] = {
    "MODEL_FOLDER": family("mobilenet"),
    "microsoft/resnet-50": family("resnet"),
    "google/efficientnet-b4": small_efficientnet,
    "facebook/dinov2-small": family("dinov2"),
    "facebook/dinov2-base": family("dinov2"),
    "facebook/convnext-tiny-224": family("convnext"),
    "facebook/sam-vit-base": sam,
    "openai/clip-vit-base-patch16": continual_models.tiny_clip,
    "openai/clip-vit-base-patch32": continual_models.tiny_clip,
    "openai/clip-vit-large-patch14": continual_models.tiny_clip,
    "llava-hf/llava-1.5-7b-hf": nano_folder,
}

THINGS: dict[str, dict[str, Maker]] = {
    "anomaly": {
        "good_parts": lambda folder: products(folder / "normal", [(None, 24)], 0),
        "new_parts": some_parts(500),
        "new_pictures": some_parts(500),
        "today/a*.png": lambda glob: shifts(glob.parent),
        "today/b*.png": lambda glob: shifts(glob.parent),
        "mvtec-ad:DATA": partial(export_products, good=12, test_good=2, test_bad=4, size=32),
    },
    "inspect": {
        "good_parts": lambda folder: products(folder / "normal", [(None, 24)], 0),
        "today": some_parts(500),
        "tomorrow": some_parts(700),
    },
    "segmentation": {
        "masks": world("outlines", 8, 64),
        "coco:parts/annotations.json": annotated,
        "mtd:DATA": mtd,
        "part.png": one_part,
        "spt_vit_b.pth": official_spt,
    },
    "composition": {
        "pictures": pets,
        "pairs": pets,
        "new_pictures": new_pets,
        "ut-zappos:DATA": composition_models.natural,
    },
    "retrieval": {
        "my_set": world("sketches", 3),
        "sketches": world("sketches", 3),
        "photos": photos,
        "my_photos": photos,
        "drawing.png": picture_of("sketches", "sketches/*/*.png"),
        "sketchy-2:DATA": sketchy,
    },
    "discovery": {
        "photos": world("categories", 8),
        "pictures": world("categories", 8),
        "named_photos": categories("labelled"),
        "new_photos": categories("unlabelled"),
        "more_photos": categories("unlabelled"),
        "classes:class_folders": categories("labelled"),
    },
    "continual": {
        "tasks": tasks,
        "new.png": lambda file: continual_models.picture("red", 99).save(file),
    },
    "fusion": {
        "deliver:DATA": deliver,
        "scenes": fusion_scenes.write,
        "rgb=frames/rgb": two_sensors,
    },
    "spatial": {
        "kitti:DATA": spatial_models.kitti_folder,
        "streets": world("grounding", 12, 48),
        "frames": lambda folder: shutil.move(export("grounding", "drawn", count=2) / "images", folder),
        "street.jpg": picture_of("grounding", "images/*.png"),
        "cam.txt": lambda file: file.write_text(P2, encoding="utf-8"),
    },
    "compression": {
        "picture.png": picture_of("questions", "images/*.png"),
        "my_questions": world("questions", 12, 96),
        "pope:DATA": pope,
        "prefixkv_llava-v1.5-7b_0.5.json": published_sizes,
    },
    "tools.nano": {"data": real_sets},
    "examples/segment_without_torch.py": {"part.png": one_part},
}

RUNS: dict[str, str] = {
    "runs/parts/checkpoint": "wildsight anomaly fit good_parts --out runs/parts",
    "runs/anomaly/checkpoint": "wildsight anomaly fit good_parts --out runs/anomaly",
    "runs/outline/checkpoint": "wildsight segmentation fit masks --base facebook/sam-vit-base "
    "--out runs/outline",
    "runs/sketch/checkpoint": "wildsight retrieval fit sketches --out runs/sketch",
}
"""Fitted runs that a page takes from another page, and the command that leaves them."""


def task_of(words: list[str]) -> str:
    """The task or program that a command belongs to; empty where it needs nothing."""
    return next((word for word in words if word in THINGS), "")


def missing(words: list[str]) -> list[tuple[Path, Maker | str]]:
    """What a command names that is not there yet, models first, each with what makes it."""
    makers: dict[str, Maker | str] = {**MODELS, **RUNS, **THINGS.get(task_of(words), {})}
    order = list(makers)
    named = sorted((w for w in words if w in makers), key=order.index)
    found = [(Path(w.replace("=", ":").rpartition(":")[2]), makers[w]) for w in named]
    return [(path, maker) for path, maker in found if not (path.exists() or list(Path().glob(str(path))))]
