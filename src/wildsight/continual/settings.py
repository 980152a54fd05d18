"""Settings of the continual learner that are not a method's hyper-parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wildsight.errors import ConfigError

VIEWS = ("canonical", "exact")
RESIZES = ("crop", "stretch")
SCENARIOS = ("task", "class")
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "share": (lambda v: 0 <= v <= 1, "give a number in [0, 1]"),
    "smoothing": (lambda v: 0 <= v < 1, "give a number in [0, 1)"),
    "positive": (lambda v: 0 < v < math.inf, "give a positive number"),
    "temperature": (lambda v: v > 0, "give a positive number, or infinity"),
    "weight": (lambda v: 0 <= v < math.inf, "give 0 or more"),
    "finite": (lambda v: math.isfinite(v), "give a number"),
    "count": (lambda v: v >= 1 and v == int(v), "give a whole number of at least 1"),
    "steps": (lambda v: v >= 0 and v == int(v), "give a whole number of steps, or 0 for none"),
}


def ranged(config: Any, **kinds: str) -> None:
    """Check a method's hyper-parameters.

    Args:
        config: the dataclass.
        kinds: field -> name of a range in `_KINDS`.

    Raises:
        ConfigError: a value outside its range; the field is named.
    """
    for name, kind in kinds.items():
        value = getattr(config, name)
        fits, hint = _KINDS[kind]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or math.isnan(value) or not fits(value):
            raise ConfigError(f"{name}={value!r} is outside its range", hint=hint)


@dataclass(frozen=True)
class LearnerSettings:
    """How the learner reads pictures and guards itself.

    Attributes:
        method: name in `METHODS`.
        backbone: name of the first model.
        image_size: side of the input, pixels; 0: the backbone's own.
        resize: ``crop`` (shorter side, then the middle, as CLIP) or ``stretch``.
        crop: least share of the area that a random training crop keeps, in (0, 1]; 1 turns it off.
        teacher_view: ``canonical`` (teacher features of the test view, cached) or ``exact`` (teachers see
            the student's crop, each step).
        max_drop: points of mean accuracy that the guard set may lose.
        scenario: ``task`` or ``class``, see `TaskSequence`.
        reference: source of the outside corpus of ZSCL and SnD: ``world``, or a folder of pictures with
            ``captions.txt``.
        reference_count: its size, >= 1.
        seed: of order and crops.
    """

    method: str
    backbone: str
    image_size: int = 0
    resize: str = "crop"
    crop: float = 0.9
    teacher_view: str = "canonical"
    max_drop: float = 1.0
    scenario: str = "task"
    reference: str = "world"
    reference_count: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("teacher_view", VIEWS), ("resize", RESIZES), ("scenario", SCENARIOS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}={getattr(self, name)!r}", hint=f"use {' or '.join(choices)}")
        if not 0 < self.crop <= 1:
            raise ConfigError(f"crop={self.crop} is outside (0, 1]", hint="give e.g. 0.9")
        if self.max_drop < 0 or self.reference_count < 1 or self.image_size < 0:
            counts = f"reference_count={self.reference_count}, image_size={self.image_size}"
            what = f"max_drop={self.max_drop}, {counts}"
            raise ConfigError(what, hint="give 0 or more, and a reference_count of at least 1")
