"""From logits to results and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from wildsight.datasets.multimodal import IGNORE, Indexed
from wildsight.fusion.data import FusionSample, file_of, read_mask, read_values
from wildsight.fusion.heads import resized
from wildsight.fusion.metrics import ConfusionMeter
from wildsight.fusion.result import FusionResult
from wildsight.fusion.saliency import SaliencyMeter
from wildsight.images import from_array

ALL = "all"
EACH = 4
"""Worst and best scenes that a scorer keeps."""
Scored = tuple[FusionSample, Tensor, Tensor | None]
Case = tuple[float, int, Scored]
"""A scene with its score and its number."""


def labels_of(logits: Tensor, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits [K, h, w] to class ids [H, W] int64 and confidence [H, W] float32; K = 1 is saliency."""
    full = resized(logits[None].float(), size)[0]
    if len(full) == 1:
        p = full[0].sigmoid()
        return (p > 0.5).long().numpy(), p.numpy()
    top = full.softmax(0).max(0)
    return top.indices.numpy(), top.values.numpy()


def result_of(scored: Scored, found: Indexed, full: bool = True) -> FusionResult:
    """One scene's result at its own size; ``full`` keeps its pictures."""
    sample, logits, share = scored
    values = {n: read_values(p, n, found.scales.get(n)) for n, p in sample.pictures.items()}
    firm = [n for n in values if n not in found.loose] or list(values)
    size = values[firm[0]].shape[:2]
    labels, confidence = labels_of(logits, size)
    maps = {} if share is None else dict(zip(found.modalities, share.numpy(), strict=True))
    shown: Mapping[str, Image] = {n: from_array(v) for n, v in values.items()} if full else {}
    return FusionResult(
        sample.name,
        labels,
        confidence,
        found.classes,
        {n: float(m.mean()) for n, m in maps.items()},
        maps,
        tuple(n for n in found.modalities if n not in sample.pictures),
        found.task == "saliency",
        shown,
        file_of(sample.pictures[firm[0]]),
    )


class Scorer:
    """Collects scenes, and scores them per condition and together; the worst and best ones are kept whole."""

    def __init__(self, found: Indexed) -> None:
        self.found = found
        self.meters: dict[str, Any] = {}
        self.names: list[str] = []
        self.scores: list[float] = []
        self.shares: list[np.ndarray] = []
        self.cases: list[Case] = []

    def add(self, scored: Scored) -> None:
        """One scene with a mask; compared at the mask's size."""
        sample, logits, share = scored
        mask = read_mask(sample, self.found)
        labels, confidence = labels_of(logits, mask.shape)
        for condition in dict.fromkeys([*sample.conditions, *([] if sample.repeated else [ALL])]):
            self._meter(condition).update(*self._compared(labels, confidence, mask))
        self.names.append(sample.name)
        self.scores.append(self._one(labels, confidence, mask))
        cases = sorted([*self.cases, (self.scores[-1], len(self.scores), scored)], key=lambda c: c[:2])
        self.cases = cases if len(cases) <= 2 * EACH else [*cases[:EACH], *cases[-EACH:]]
        if share is not None and not sample.repeated:
            self.shares.append(share.mean((1, 2)).numpy())

    def _meter(self, condition: str) -> Any:
        if condition not in self.meters:
            saliency = self.found.task == "saliency"
            self.meters[condition] = SaliencyMeter() if saliency else ConfusionMeter(len(self.found.classes))
        return self.meters[condition]

    def _compared(self, labels: np.ndarray, confidence: np.ndarray, mask: np.ndarray) -> tuple[Any, Any]:
        if self.found.task != "saliency":
            return labels, mask
        return np.rint(confidence * 255).astype(np.uint8), (mask == 1).astype(np.uint8) * 255

    def _one(self, labels: np.ndarray, confidence: np.ndarray, mask: np.ndarray) -> float:
        if self.found.task == "saliency":
            return 1.0 - float(np.abs(confidence - (mask == 1)).mean())
        valid = mask != IGNORE
        return float((labels == mask)[valid].mean()) if valid.any() else 1.0

    def rows(self) -> list[dict[str, Any]]:
        """One mapping per condition, then ``all``."""
        order = [c for c in self.meters if c != ALL] + [c for c in self.meters if c == ALL]
        return [{"condition": c, **self._scores(self.meters[c])} for c in order]

    def _scores(self, meter: Any) -> dict[str, float]:
        if isinstance(meter, SaliencyMeter):
            return meter.scores()
        zero = meter.scores("zero")["miou"]
        return {**meter.scores("ignore"), "miou_absent_zero": zero}

    def share(self) -> dict[str, float]:
        """Mean contribution of each modality."""
        if not self.shares:
            return {}
        return dict(zip(self.found.modalities, (float(v) for v in np.mean(self.shares, axis=0)), strict=True))


def score(outputs: Iterable[Scored], found: Indexed) -> Scorer:
    """All scenes scored."""
    scorer = Scorer(found)
    for each in outputs:
        scorer.add(each)
    return scorer


def strip_of(scored: Scored, found: Indexed) -> tuple[Image, str]:
    """Inputs, truth, prediction and contributions of a scene with a mask in one picture, with a caption."""
    result, mask = result_of(scored, found), read_mask(scored[0], found)
    return result.strip(mask), f"{result.name}: {', '.join(name for _, name in result.tiles(mask))}"
