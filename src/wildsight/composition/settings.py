"""The recognizer's settings, apart from those of its method."""

from __future__ import annotations

from dataclasses import dataclass, field

from wildsight.composition.features import Templates
from wildsight.estimators.registry import SHARE, at_least, check_ranges


@dataclass(frozen=True)
class RecognizerSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: a name of `METHODS`.
        backbone: hub id, local folder or ``nano-*``.
        image_size: side of the square that pictures are stretched to, pixels; 0 takes the backbone's own.
        templates: prompts, where the backbone has a text tower.
        calibrate: set bias, temperature and limit on pictures held out of training.
        abstain: share of correct answers that may be called "none of these", in [0, 1).
        seed: of the initialisation, the order, the synthesis and the held-out pairs.
    """

    method: str = "hdaoe"
    backbone: str = "nano-clip"
    image_size: int = 0
    templates: Templates = field(default_factory=Templates)
    calibrate: bool = True
    abstain: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self, image_size=at_least(0), abstain=SHARE)
