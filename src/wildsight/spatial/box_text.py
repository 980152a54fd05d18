"""Boxes as text, and back: `centre x y z size l h w turn yaw`, two decimals; no torch."""

from __future__ import annotations

import math
import re

from wildsight.spatial.boxes import Box

NONE = "no"
"""What is written where there is no box."""
LIMIT = 1e4


def written(box: Box | None, factor: float = 1.0) -> str:
    """The box as text; its depth is multiplied by ``factor``.

    >>> written(Box.upright((0.1, -1, 5), (4, 1.5, 1.8), 0.3))
    'centre 0.10 -1.00 5.00 size 4.00 1.50 1.80 turn 0.30'
    """
    if box is None:
        return NONE
    x, y, z = (float(v) for v in box.centre)
    numbers = [f"{round(v, 2) + 0.0:.2f}" for v in (x, y, z * factor, *box.size, box.yaw)]
    return f"centre {' '.join(numbers[:3])} size {' '.join(numbers[3:6])} turn {numbers[6]}"


def parsed(text: str, factor: float = 1.0) -> Box | None:
    """The box that a text tells, or None; `written` turned round. Spaces between digits do not matter where a
    number has two decimals.

    >>> parsed("centre 0.10 -1.00 5.00 size 4.00 1.50 1.80 turn 0.30").centre.tolist()
    [0.1, -1.0, 5.0]
    """
    tight = re.sub(r"\s+", "", text)
    number = r"(-?\d{1,5}\.\d\d)"
    match = re.search(rf"centre{number * 3}size{number * 3}turn{number}", tight, re.IGNORECASE)
    if match is None:
        return None
    x, y, z, length, height, width, yaw = (float(v) for v in match.groups())
    z = z / factor
    if (
        z <= 0
        or min(length, height, width) <= 0
        or not all(math.isfinite(v) and abs(v) < LIMIT for v in (x, y, z))
    ):
        return None
    return Box.upright((x, y, z), (length, height, width), yaw)
