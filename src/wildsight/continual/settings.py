"""Settings of the continual learner that are not a method's hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.errors import ConfigError

VIEWS = ("canonical", "exact")
RESIZES = ("crop", "stretch")
SCENARIOS = ("task", "class")


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
                raise ConfigError(f"{name}={getattr(self, name)!r}", mend=f"use {' or '.join(choices)}")
        if not 0 < self.crop <= 1:
            raise ConfigError(f"crop={self.crop} is outside (0, 1]", mend="give e.g. 0.9")
        if self.max_drop < 0 or self.reference_count < 1 or self.image_size < 0:
            raise ConfigError("max_drop, reference_count or image_size is negative", mend="give 0 or more")
