"""Which part of a mask is the defect: one rule for every task.

A mask has two classes, told apart whatever their values: 0 and 255, 1 and 2, 128 and 255, a drawing in the
alpha channel, two colours of a palette. The defect is

- the higher of two grey values;
- the opaque part, where the colour is the same everywhere or is the photograph itself;
- in colour and in a palette, what is not black; in a palette without black, the higher index.

The lower value is the defect only where the set says so: ``{"inverted": true}`` in `DECLARATION`. What cannot
be told apart is named, by ``check`` and by training alike: more than two values, one value that is neither 0
nor full white, two colours without black, a JPEG that blurred its edges, another size than the picture's, and
a mask that covers nearly all of its picture without being declared. A mask of zeros is empty.

There is no void value here: a third value is named. Class ids (`wildsight.images.load_labels`) have one, 255,
which counts neither in training nor in scores; see the fusion task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildsight.datasets.folders import pictures, subfolders
from wildsight.datasets.lists import read_json
from wildsight.errors import DataError
from wildsight.images import Stored, image_size, load_stored

DECLARATION = "masks.json"
NEARLY_ALL = 0.9
"""Share of a picture from which on an undeclared mask is taken for an inverted one."""
SUFFIXES = ("_mask", "_GT", "_label")
FOLDERS = ("ground_truth", "masks", "Masks")
AS_PNG = "save it as PNG of 0 and 255"


@dataclass(frozen=True)
class MaskRule:
    """What is known of a set's masks before they are read.

    Attributes:
        graded: more than two values are allowed, and all above 0 are the defect, as some published sets
            have it (VisA's masks number the kinds of defect).
        inverted: declared: whether the lower value is the defect; None where the set does not say.
    """

    graded: bool = False
    inverted: bool | None = None


TWO_VALUED = MaskRule()
GRADED = MaskRule(graded=True)


def declared(root: Path, rule: MaskRule = TWO_VALUED) -> MaskRule:
    """The rule of the set in ``root``: ``rule``, with what its `DECLARATION` says.

    Raises:
        DataError: the file holds anything else than ``{"inverted": true}`` or false.
    """
    file = root / DECLARATION
    if not file.is_file():
        return rule
    value = read_json(file)
    if not isinstance(value, dict) or set(value) != {"inverted"} or not isinstance(value["inverted"], bool):
        raise DataError(
            "declares nothing that is known", where=file, hint='write {"inverted": true} or false'
        )
    return MaskRule(rule.graded, value["inverted"])


def read_mask(path: str | Path, rule: MaskRule = TWO_VALUED) -> NDArray[np.bool_]:
    """A mask file: [H, W] bool, true on the defect.

    Raises:
        DataError: its two classes cannot be told apart.
        ImageError: it cannot be read.
    """
    file = Path(path)
    stored = load_stored(file)
    mask = _two_classes(_levels(stored, rule, file), stored.format, rule, file)
    return ~mask if rule.inverted else mask


def defect_mask(
    masks: Sequence[Path],
    rule: MaskRule = TWO_VALUED,
    *,
    image: Path | None = None,
    scaled: bool = False,
) -> list[NDArray[np.bool_]]:
    """The masks of one picture that are not empty, [H, W] bool each; their union is the defect.

    Args:
        masks: files.
        rule: of the set.
        image: the picture, whose size they must have.
        scaled: a mask may be the picture's shape in another resolution.

    Raises:
        DataError: as `read_mask`; another size than the picture's; a mask that covers nearly all of it.
        ImageError: a file cannot be read.
    """
    size = image_size(image) if image is not None and masks else None
    found = []
    for path in masks:
        mask = read_mask(path, rule)
        if not mask.any():
            continue
        if size is not None:
            _fits(mask, size, path, scaled)
        share = float(mask.mean())
        if share >= NEARLY_ALL and rule.inverted is None:
            hint = f'state in {DECLARATION} of the set: {{"inverted": true}} if the dark part is the defect, '
            raise DataError(
                f"a mask that covers {share:.1%} of its picture", where=path, hint=f"{hint}false if not"
            )
        found.append(mask)
    return found


def _fits(mask: NDArray[np.bool_], size: tuple[int, int], path: Path, scaled: bool) -> None:
    """Refuse a mask of another size than ``size`` (width, height), or of another shape where ``scaled``."""
    height, width = mask.shape
    alike = abs(height - size[1] * width / size[0]) < 1 if scaled else (width, height) == size
    if not alike:
        what = f"is {width} x {height}, its picture {size[0]} x {size[1]}"
        raise DataError(what, where=path, hint="give both one size")


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """``mask`` [H, W] at ``size`` (rows, columns): each cell takes the old cell under its centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for old, new in zip(mask.shape, size, strict=True)
    )
    return mask[rows[:, None], columns]


def _levels(stored: Stored, rule: MaskRule, file: Path) -> np.ndarray:
    """[H, W] numbers of which the higher are the defect."""
    values = stored.values
    if stored.palette is not None:
        return _of_palette(values, stored.palette)
    if values.ndim == 2:
        return values
    if stored.mode not in ("RGBA", "LA", "PA"):
        return _of_colours(values, file)
    colours, alpha = values[..., :-1], values[..., -1]
    if rule.graded or _count(alpha) == 1:
        return _of_colours(colours, file)
    plain = (colours == colours[:1, :1]).all()
    if plain or (_count(alpha) == 2 and _count(_numbered(colours)) > 2):
        return alpha
    levels = _of_colours(colours, file)
    if ((levels == levels.max()) & (alpha == alpha.min())).any():
        raise DataError("a mask that marks its transparent part", where=file, hint=AS_PNG)
    return levels


def _of_palette(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Colours, numbered from black, where black is used; else the indices."""
    used = np.unique(indices)
    colours = {int(i): tuple(palette[i].tolist()) if i < len(palette) else (0, 0, 0) for i in used}
    if (0, 0, 0) not in colours.values():
        return indices
    ranks = {colour: rank for rank, colour in enumerate(sorted(set(colours.values())))}
    table = np.zeros(256, np.uint8)
    for index, colour in colours.items():
        table[index] = ranks[colour]
    return table[indices]


def _of_colours(colours: np.ndarray, file: Path) -> np.ndarray:
    """Grey values as they are; other colours numbered from black."""
    if (colours == colours[..., :1]).all():
        return colours[..., 0]
    numbers = _numbered(colours)
    if numbers.min() > 0 and _count(numbers) == 2:
        raise DataError("a mask of two colours, neither of them black", where=file, hint=AS_PNG)
    return numbers


def _numbered(colours: np.ndarray) -> np.ndarray:
    """[H, W] one number for each colour [H, W, channels]; black is 0."""
    return sum(colours[..., i].astype(np.int64) << (16 * i) for i in range(colours.shape[-1]))  # type: ignore[return-value]


def _count(values: np.ndarray) -> int:
    """How many values there are; quick where there are one or two."""
    low, high = values.min(), values.max()
    if ((values == low) | (values == high)).all():
        return 1 if low == high else 2
    return len(np.unique(values))


def _two_classes(levels: np.ndarray, kind: str, rule: MaskRule, file: Path) -> NDArray[np.bool_]:
    count, low, high = _count(levels), levels.min(), levels.max()
    if count == 2:
        return np.asarray(levels == high)
    if count > 2 and not (rule.graded and low == 0 and kind != "JPEG"):
        blurred = ": JPEG blurs what it saves" if kind == "JPEG" else ""
        name = "a JPEG mask" if kind == "JPEG" else "a mask"
        raise DataError(f"{name} with {count} values, not two{blurred}", where=file, hint=AS_PNG)
    if count == 1 and low not in (0, _full(levels)) and not rule.graded:
        raise DataError(f"a mask of the one value {low}, which tells nothing apart", where=file, hint=AS_PNG)
    return np.asarray(levels > 0)


def _full(levels: np.ndarray) -> int:
    """The value of white."""
    return {np.dtype(np.bool_): 1, np.dtype(np.uint8): 255}.get(levels.dtype, 65535)


def bare_stem(path: Path) -> str:
    """The stem without a mask's suffix.

    >>> bare_stem(Path("000_mask.png")), bare_stem(Path("000.png"))
    ('000', '000')
    """
    for suffix in SUFFIXES:
        if path.stem.endswith(suffix):
            return path.stem.removesuffix(suffix)
    return path.stem


def masks_in(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Picture stem -> masks: files that share the stem, or all files of a folder of that name."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in pictures(folder):
        found[path.stem] = (path,)
        found.setdefault(bare_stem(path), (path,))
    for inner in subfolders(folder):
        found[inner.name] = tuple(pictures(inner))
    return found


def pairs_in(folder: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    """Pictures whose masks lie beside them: ``a.jpg`` + ``a.png``, or ``a.png`` + ``a_GT.png``."""
    files = pictures(folder)
    plain = [p for p in files if bare_stem(p) == p.stem]
    masks = {bare_stem(p): p for p in files if bare_stem(p) != p.stem}
    others = {p.stem for p in plain if p.suffix.lower() != ".png"}
    masks |= {p.stem: p for p in plain if p.stem in others and p.suffix.lower() == ".png"}
    taken = set(masks.values())
    return [(p, (masks[p.stem],) if p.stem in masks else ()) for p in plain if p not in taken]
