"""Questions about labelled boxes, made by rule, without a language model: our form of the paper's IG3D.

Only expressions that fit one box of the picture are kept. None of them states a measure, so that no answer
leaks; data sets whose descriptions do (Mono3DRefer) are marked by `leaks`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from wildsight.spatial.boxes import Box
from wildsight.spatial.camera import Camera

KINDS = ("name", "depth", "side", "relation")
_RANKS = ("nearest", "farthest")
_METRIC = re.compile(r"\d+(?:\.\d+)?\s*(?:m|met(?:er|re)s?|cm|feet|ft)\b", re.IGNORECASE)
_LINK = re.compile(
    "a|an|the|this|that|these|those|it|its|he|she|they|them|ones?|some|any|there|here|is|are|was|were|be|what|"
    "where|which|who|how|far|of|in|on|at|by|to|from|with|and|or|not|please|find|show|me|do|does|you|see|i"
)
APART = 0.05  # share of the picture's width


def leaks(text: str) -> bool:
    """Whether a description states a distance or a size in numbers.

    >>> leaks("the car 12.5 meters away"), leaks("the car on the left")
    (True, False)
    """
    return _METRIC.search(text) is not None


def masked(text: str) -> str:
    """The description with its measures hidden.

    >>> masked("the car 12.5 meters away")
    'the car some away'
    """
    return _METRIC.sub("some", text)


def names_something(text: str) -> bool:
    """Whether an expression has a word that could name a thing: one with letters that is not a mere link.

    >>> names_something("the red cube"), names_something("what is it?"), names_something("123")
    (True, False, False)
    """
    words = re.findall(r"[^\W\d_]+", text.lower())
    return any(not _LINK.fullmatch(word) for word in words)


def thirds(box: Box, camera: Camera) -> str:
    """``left``, ``centre`` or ``right`` third of the picture."""
    across = (box.centre[0] / box.centre[2] * camera.fx + camera.cx) / camera.width
    return "left" if across < 1 / 3 else "right" if across > 2 / 3 else "centre"


def expressions(boxes: Sequence[Box], camera: Camera) -> list[tuple[int, str, str]]:
    """(index of the box, kind, expression) for every expression that fits one box only.

    Args:
        boxes: all labelled boxes of one picture, before the camera.
        camera: of the picture.
    """
    counts = Counter(b.name for b in boxes)
    found: list[tuple[int, str, str]] = []
    for index, box in enumerate(boxes):
        if counts[box.name] == 1:
            found.append((index, "name", f"the {box.name}"))
        else:
            found += [(index, "depth", t) for t in _ranked(index, boxes)]
            found += [(index, "side", t) for t in _aside(index, boxes, camera)]
        found += [(index, "relation", t) for t in _related(index, boxes, counts)]
    texts = Counter(text for _, _, text in found)
    return [row for row in found if texts[row[2]] == 1]


def _ranked(index: int, boxes: Sequence[Box]) -> list[str]:
    own = boxes[index]
    depths = sorted(b.centre[2] for b in boxes if b.name == own.name)
    return [f"the {rank} {own.name}" for rank, z in zip(_RANKS, (depths[0], depths[-1]), strict=True)
            if own.centre[2] == z]  # fmt: skip


def _aside(index: int, boxes: Sequence[Box], camera: Camera) -> list[str]:
    own, side = boxes[index], thirds(boxes[index], camera)
    same = [b for b in boxes if b.name == own.name and thirds(b, camera) == side]
    where = "at the centre" if side == "centre" else f"on the {side}"
    return [f"the {own.name} {where}"] if len(same) == 1 else []


def _related(index: int, boxes: Sequence[Box], counts: Counter[str]) -> list[str]:
    """How the box lies to those whose name stands for one box only."""
    own, texts = boxes[index], []
    for other in boxes:
        if other is own or counts[other.name] > 1:
            continue
        gap = own.centre[0] / own.centre[2] - other.centre[0] / other.centre[2]
        depth = own.centre[2] - other.centre[2]
        if abs(depth) > 0.2 * other.centre[2]:
            texts.append(f"the {own.name} {'behind' if depth > 0 else 'in front of'} the {other.name}")
        elif abs(gap) > APART:
            texts.append(f"the {own.name} {'right' if gap > 0 else 'left'} of the {other.name}")
    return texts


def in_words(boxes: Sequence[Box], camera: Camera) -> str:
    """The answer that a model learns to say of the boxes asked for.

    >>> in_words([Box.upright((0, 0, 5), (1, 1, 1), 0, "cube")], Camera(90, 90, 48, 48, 96, 96))
    'yes : a cube at the centre'
    """
    if not boxes:
        return "no"
    if len(boxes) > 1:
        return f"yes : {_COUNTS[min(len(boxes), len(_COUNTS) - 1)]} objects"
    side = thirds(boxes[0], camera)
    return f"yes : a {boxes[0].name or 'object'} " + (
        "at the centre" if side == "centre" else f"on the {side}"
    )


_COUNTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def mirrored_text(text: str) -> str:
    """The expression for the picture flipped left to right.

    >>> mirrored_text("the car left of the tree")
    'the car right of the tree'
    """
    return re.sub(r"\b(left|right)\b", lambda m: "right" if m[1] == "left" else "left", text)
