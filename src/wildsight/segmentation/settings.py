"""The settings of the segmenter."""

from __future__ import annotations

from dataclasses import dataclass, field

from wildsight.estimators.registry import at_least, check_ranges, unknown_name
from wildsight.segmentation.augment import AUGMENTATIONS
from wildsight.segmentation.geometry import GEOMETRIES
from wildsight.segmentation.loss import POINTS
from wildsight.segmentation.prompts import PromptMix


@dataclass(frozen=True)
class SegmenterSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: a name from `METHODS`.
        backbone: a SAM: hub id, local folder or ``nano-sam``.
        geometry: ``squash`` (the paper's) or ``letterbox``.
        prompts: what training prompts with.
        per_component: True learns and predicts every connected part of a mask by itself.
        augment: ``none``, ``flip`` or ``jitter``; with a frozen encoder ``jitter`` becomes ``flip``, for
            its embeddings are cached.
        points: points per mask in the loss, >= 4.
        memory: bytes that the prompts of one decoder call may take.
        seed: of the initialisation, the order, the prompts and the augmentation.
    """

    method: str = "spt"
    backbone: str = "nano-sam"
    geometry: str = "squash"
    prompts: PromptMix = field(default_factory=PromptMix)
    per_component: bool = False
    augment: str = "jitter"
    points: int = POINTS
    memory: int = 4 << 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("geometry", GEOMETRIES), ("augment", AUGMENTATIONS)):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        check_ranges(self, points=at_least(4), memory=at_least(1))
