"""From annotations to the pictures and masks that the tasks of defects read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image

from wildsight.datasets.annotations.regions import Annotated, AnnotatedPicture, Place, Region, mask_of, united
from wildsight.datasets.defects import GOOD, GOOD_NAMES, DefectPicture
from wildsight.datasets.faults import Faults
from wildsight.datasets.masks import MaskRule
from wildsight.files import atomic_path, cache_folder

DRAWN = MaskRule(inverted=False)
"""Masks drawn from outlines are what they say, also where they cover nearly everything."""


def defects_of(found: Annotated, faults: Faults | None = None) -> list[DefectPicture]:
    """Every annotated picture with its defect drawn as a mask.

    A picture without a region is good, as is one whose regions or answers are called good, ok or normal. The
    kind of defect is its label, or its labels. Boxes are no outlines: a picture that has nothing else is a
    defect without a mask.

    Raises:
        DataError: a picture with boxes among its outlines, unless ``faults`` notes it.
    """
    faults = faults or Faults()
    product = found.root.resolve().name or "all"
    pictures = []
    for picture in found.pictures:
        with faults.each(found.place):
            pictures.append(_defect(picture, product, found.place))
    return pictures


def _defect(picture: AnnotatedPicture, product: str, place: Path) -> DefectPicture:
    marked = [r for r in picture.regions if r.label.lower() not in GOOD_NAMES]
    said = {word for words in picture.answers.values() for word in words} if not picture.regions else set()
    kinds = sorted({r.label for r in marked} | {w for w in said if w.lower() not in GOOD_NAMES})
    outlined = [r for r in marked if r.rle is not None]
    if outlined and len(outlined) < len(marked):
        box = next(r for r in marked if r.rle is None)
        what = f"of {picture.image.name} outlines nothing, as its other regions do"
        raise Place(place, box.entry).error(what, "outline it as well, or delete it")
    masks = (mask_file(outlined),) if outlined else ()
    return DefectPicture(picture.image, masks, product, "+".join(kinds) or GOOD, picture.split, DRAWN)


def mask_file(regions: list[Region]) -> Path:
    """The union of outlines as a PNG of 0 and 255 in the cache, named by what it shows."""
    rle = united(regions)
    name = hashlib.sha256(repr(rle["size"]).encode() + rle["counts"]).hexdigest()
    file = cache_folder("annotations", name[:2]) / f"{name[:32]}.png"
    if not file.is_file():
        with atomic_path(file) as temporary:
            Image.fromarray(mask_of(rle)).convert("L").save(temporary, format="PNG", compress_level=1)
    return file
