"""What a detector is made of, apart from the method's own hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass, field

from wildsight.anomaly.features import NeckConfig
from wildsight.estimators.registry import at_least, check_ranges


@dataclass(frozen=True)
class DetectorSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: ``ras``, ``uniad``, ``patchcore`` or ``padim``.
        backbone: hub id, local folder or ``nano-*``.
        neck: image size, taps and smoothing.
        false_alarm_rate: share of good pictures that may be called anomalous, in (0, 1).
        calibration: share of the good pictures held out to set the threshold, in (0, 1).
        folds: parts in which the other good pictures are scored by a fit without them, so that the threshold
            rests on all of them; 1 scores the held-out ones alone. By default 5 for methods that fit in one
            pass, and 1 for trained ones, where each fold is a training.
        seed: of the split, the initialisation, the order and the noise.
    """

    method: str = "ras"
    backbone: str = "nano-conv"
    neck: NeckConfig = field(default_factory=NeckConfig)
    false_alarm_rate: float = 0.005
    calibration: float = 0.1
    folds: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        within = (lambda v: 0 < v < 1, "give a number between 0 and 1")
        check_ranges(self, false_alarm_rate=within, calibration=within, seed=at_least(0))
