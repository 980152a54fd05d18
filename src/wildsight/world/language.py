"""Talk about a scene: captions at three levels of detail and expressions that fit one thing only.

Left and right are the picture's, in front and behind go by depth along the optical axis. All words are
lower case and parted by single spaces, punctuation too, so that `tokens.tokenizer` gives every text back as
it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wildsight.errors import ConfigError
from wildsight.world.ranges import whole
from wildsight.world.scene import Array, Scene, Thing
from wildsight.world.sums import lengths

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDES = {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"}
APART = 0.08  # share of the picture's width, or of the depth, by which a relation has to be clear
_TRIES = (
    ("shape",), ("colour", "shape"), ("material", "shape"), ("size", "shape"), ("colour", "material",
    "shape"), ("size", "colour", "shape"), ("size", "material", "shape"), ("size", "colour", "material",
    "shape"),
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """Where the things of a scene are for the viewer: ``across`` [N] in shares of the picture's width from
    its left, ``depth`` [N] and ``distance`` [N] from the camera in metres."""

    across: Array
    depth: Array
    distance: Array


def view_of(scene: Scene) -> View:
    """The things of a scene as the viewer has them."""
    seen = scene.camera.see(np.array([t.centre for t in scene.things]).reshape(-1, 3))
    across = seen[:, 0] / seen[:, 2] * scene.camera.focal + 0.5
    return View(across, seen[:, 2], lengths(seen.T))


def plural(noun: str) -> str:
    """More than one of it.

    >>> plural("cross"), plural("stairs")
    ('crosses', 'stairs')
    """
    if noun == "stairs":
        return noun
    return noun + ("es" if noun.endswith(("s", "sh")) else "s")


def with_article(words: str) -> str:
    """The words behind a or an.

    >>> with_article("orange cube")
    'an orange cube'
    """
    if words.startswith("stairs") or words.endswith(" stairs"):
        return words
    return f"{'an' if words[0] in 'aeiou' or words.startswith('hour') else 'a'} {words}"


def name(thing: Thing, attributes: Sequence[str] = ("colour", "material", "shape")) -> str:
    """The thing by some of its ``attributes``: size, colour, material, shape; "object" for a shape left
    out."""
    words = [getattr(thing, a) for a in ("size", "colour", "material", "shape") if a in attributes]
    return " ".join(words if "shape" in attributes else [*words, "object"])


def relation(view: View, one: int, two: int) -> str | None:
    """The clearest of `SIDES` by which thing ``one`` is told from thing ``two``; None when none is clear."""
    aside = float(view.across[one] - view.across[two])
    deep = float(2 * (view.depth[one] - view.depth[two]) / (view.depth[one] + view.depth[two]))
    if max(abs(aside), abs(deep)) < APART:
        return None
    if abs(aside) >= abs(deep):
        return "left" if aside < 0 else "right"
    return "front" if deep < 0 else "behind"


def caption(scene: Scene, level: int = 2) -> str:
    """One sentence about the scene.

    Args:
        scene: what to describe; its things are named from left to right.
        level: 1 names and counts the shapes, 2 gives colour and material, 3 adds size, relations and the
        floor.

    Raises:
        ConfigError: a level outside 1 to 3.

    >>> from wildsight.world.scene import random_scene
    >>> caption(random_scene(1, count=2), 1)
    'a cross and a cylinder'
    """
    whole(level, "level", 1, 3)
    view = view_of(scene)
    order = [int(i) for i in np.argsort(view.across)]
    if level == 1:
        counts = Counter(scene.things[i].shape for i in order)
        return _listed([_counted(shape, number) for shape, number in counts.items()])
    if level == 2:
        return _listed([with_article(name(scene.things[i])) for i in order])
    return f"{_chained(scene, view, order)} , on {scene.floor}"


def _counted(shape: str, number: int) -> str:
    return with_article(shape) if number == 1 else f"{NUMBERS[number]} {plural(shape)}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else " , ".join(parts[:-1]) + " and " + parts[-1]


def _chained(scene: Scene, view: View, order: list[int]) -> str:
    full = [with_article(name(scene.things[i], ("size", "colour", "material", "shape"))) for i in order]
    text = full[0]
    for before, (one, two) in zip(full[1:], pairwise(order), strict=True):
        side = relation(view, one, two)
        text += f" {SIDES[side]} {before}" if side else f" next to {before}"
    return text


def expression(scene: Scene, index: int) -> str | None:
    """The shortest description that fits the thing ``index`` and no other; None when there is none.

    Raises:
        ConfigError: the scene has no such thing.

    >>> from wildsight.world.scene import random_scene
    >>> expression(random_scene(1, count=2), 0)
    'the cross'
    """
    if not scene.things:
        raise ConfigError("a scene without things", where="scene", hint="give one of 1 to 6 things")
    whole(index, "index", 0, len(scene.things) - 1)
    thing = scene.things[index]
    for attributes in _TRIES:
        words = name(thing, attributes)
        if sum(name(other, attributes) == words for other in scene.things) == 1:
            return f"the {words}"
    return _superlative(scene, index)


def _superlative(scene: Scene, index: int) -> str | None:
    """By place among those of the same shape and colour."""
    view, thing = view_of(scene), scene.things[index]
    alike = [i for i, t in enumerate(scene.things) if (t.shape, t.colour) == (thing.shape, thing.colour)]
    others = [i for i in alike if i != index]
    words = name(thing, ("colour", "shape"))
    for word, values, sign in (
        ("left", view.across, 1),
        ("right", view.across, -1),
        ("nearest", view.depth, 1),
    ):
        gap = APART * (1.0 if word != "nearest" else float(view.depth[index]))
        if all(sign * (values[i] - values[index]) > gap for i in others):
            return f"the {word} {words}"
    return None
