"""Whether the values of a set's pictures are what the decoder takes them for.

A picture of more than 8 bits says nothing of what white is. By default it is 65535, or 1.0 in a float file; a
set whose values lie far above is all white then, and one that stays far below is nearly black. Such a set is
named before anything is trained or scored; ``full_scale`` declares its white, and nothing is asked any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wildsight.errors import DataError, ImageError
from wildsight.images import bit_depth, declared_scale, load_stored
from wildsight.sources import Problem

SAMPLED = 48
"""Pictures of a set that are looked into, spread evenly over it."""
CLIPPED = 0.01
"""Share of values above white from which on a set is taken for one of another range."""
USED = 1 / 8
"""Share of the range that a set has to use."""


@dataclass(frozen=True)
class Values:
    """What one picture holds: its largest value, what white is taken for, the share of values above it."""

    top: float
    white: float
    above: float


def range_problems(files: Sequence[Path]) -> list[Problem]:
    """What is wrong with the range of a set, in one problem; nothing where white is declared.

    Args:
        files: the pictures of the set, one colour mode and one camera.
    """
    if declared_scale() is not None or not files:
        return []
    step = max(1, len(files) // SAMPLED)
    seen = [(file, values) for file in files[::step] if (values := values_of(file)) is not None]
    for white in sorted({v.white for _, v in seen}):
        part = [(f, v) for f, v in seen if v.white == white]
        what = _fault([v for _, v in part], white)
        if what:
            hint = f"declare white: --full-scale {_guess(max(v.top for _, v in part)):g} (full_scale=)"
            return [Problem(part[0][0], what, hint)]
    return []


def refuse_range(files: Sequence[Path]) -> None:
    """Refuse a set whose range is not what it is taken for.

    Raises:
        DataError: see `range_problems`.
    """
    for problem in range_problems(files):
        raise DataError(problem.what, where=problem.file, hint=problem.hint)


def values_of(file: Path) -> Values | None:
    """The range of a picture of more than 8 bits; None for others, and for those that cannot be read."""
    try:
        if bit_depth(file) <= 8:
            return None
        stored = load_stored(file).values
    except ImageError:
        return None
    finite = stored[np.isfinite(stored)]
    white = 1.0 if np.issubdtype(stored.dtype, np.floating) else 65535.0
    return Values(float(finite.max()), white, float((finite > white).mean())) if finite.size else None


def _fault(values: Sequence[Values], white: float) -> str | None:
    top, above = max(v.top for v in values), float(np.mean([v.above for v in values]))
    if above > CLIPPED:
        return f"{above:.0%} of the set's values lie above {white:g}, which is taken for white"
    if 0 < top < USED * white:
        return f"the set's values reach {top:g} of {white:g}, less than an eighth of the range"
    return None


def _guess(top: float) -> float:
    """The white that a largest value speaks for: all bits set, or the value itself below 1."""
    return top if top <= 1 else float(2 ** int(np.ceil(np.log2(np.floor(top) + 1))) - 1)
