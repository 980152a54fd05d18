"""The detector as one ONNX graph: pixels of any size in, raw score and map out.

Thresholds are not in the graph: they lie in the JSON file beside it and may be changed there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wildsight.anomaly.data import read_source
from wildsight.anomaly.estimator import AnomalyDetector
from wildsight.anomaly.features import assemble
from wildsight.anomaly.threshold import Threshold, limit_lines, moved
from wildsight.errors import CheckpointError, ConfigError
from wildsight.export import ExportReport, export_onnx, open_session, pillow_resize
from wildsight.files import read_json, write_json
from wildsight.images import expand, load_image

SETTINGS = "detector.json"
"""What turns raw scores into verdicts; written beside the graph."""
AXES = {0: "batch", 1: "height", 2: "width"}


class DetectorGraph(nn.Module):
    """Everything between pixels and raw scores, as one module.

    Args:
        detector: a fitted detector.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: AnomalyDetector) -> None:
        super().__init__()
        self.backbone, self.neck = detector.backbone.copied(), detector.settings.neck
        self.network, self.head = self.backbone.model, copy.deepcopy(detector.inference_head()).cpu()
        self.method = detector.method
        self.register_buffer("mean", torch.tensor(self.backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(self.backbone.std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, H, W, 3]`` uint8 RGB to raw scores ``[B]`` and maps ``[B, S, S]``, S the image size."""
        size = (self.neck.image_size,) * 2
        resized = pillow_resize(pixels, size) / 255.0
        pyramid = self.backbone.pyramid((resized - self.mean) / self.std, self.neck.strides)
        grid_map, score = self.method.score(self.head, assemble(pyramid, self.neck))
        full = interpolate(grid_map, size=size, mode="bilinear", align_corners=True)
        return (self.method.picture_score(full) if score is None else score), full[:, 0]


@dataclass(frozen=True)
class DetectorExport:
    """What an export left, and how far it is from the detector.

    Attributes:
        report: onnxruntime against torch on the same graph.
        score_difference: onnxruntime against `AnomalyDetector.predict`, largest relative difference of
            the score; Pillow's resize is rounded elsewhere than the graph's.
        verdicts_differ: pictures whose verdict differs between the two.
    """

    report: ExportReport
    score_difference: float
    verdicts_differ: int

    def lines(self) -> list[str]:
        """What to say of it."""
        measured = f"{self.score_difference:.2g} of the score at most, {self.verdicts_differ} other verdicts"
        return [self.report.line(), f"against predict (Pillow's resize): {measured}"]


def export_detector(
    detector: AnomalyDetector,
    folder: str | Path,
    pictures: Sequence[Image],
    *,
    tolerance: float = 1e-3,
) -> DetectorExport:
    """Write ``detector.onnx`` and ``detector.json``, after running both sides on ``pictures``.

    Args:
        detector: fitted.
        folder: takes both files.
        pictures: at least one; of several sizes if the graph is to be used on several.
        tolerance: largest absolute difference allowed in scores and maps.

    Raises:
        ConfigError: not fitted, no picture, or the export extra is missing.
        UnsupportedModelError: not traceable, or further from torch than ``tolerance``.
    """
    if not pictures:
        raise ConfigError("no picture to prove the export on", hint="give at least one")
    samples = [{"pixels": torch.from_numpy(np.array(p.convert("RGB")))[None]} for p in pictures]
    report = export_onnx(
        DetectorGraph(detector).eval(),
        {"pixels": torch.randint(256, (2, 97, 131, 3), dtype=torch.uint8)},
        folder,
        name="detector",
        outputs=("score", "map"),
        dynamic={"pixels": AXES},
        tolerance=tolerance,
        samples=samples,
        settings=_settings(detector),
    )
    session = open_session(report.file)
    found = [float(session.run(["score"], {"pixels": s["pixels"].numpy()})[0][0]) for s in samples]
    expected = [result.score for result in detector.predict(list(pictures))]
    gaps = [abs(f - e) / max(abs(e), 1e-12) for f, e in zip(found, expected, strict=True)]
    limit = detector.threshold().value
    differ = sum((f > limit) != (e > limit) for f, e in zip(found, expected, strict=True))
    return DetectorExport(report, max(gaps), differ)


def move_exported(
    folder: Path,
    *,
    false_alarm_rate: float | None = None,
    value: float | None = None,
    category: str | None = None,
) -> list[str]:
    """Move the limits in an export's JSON, as `AnomalyDetector.set_threshold` moves a detector's.

    Returns:
        A line for each limit.

    Raises:
        CheckpointError: the file is damaged.
        ConfigError: as `set_threshold`.
        DataError: it cannot be written.
    """
    file = folder / SETTINGS
    facts = read_json(file)
    try:
        limits = {name: Threshold(**limit) for name, limit in facts["thresholds"].items()}
        scores, asked = facts.get("good_scores", {}), facts.get("false_alarm_rate", 0.0)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"is no export of a detector ({error})"
        raise CheckpointError(what, where=file, hint="export the detector again") from error
    if false_alarm_rate is not None or value is not None:
        asked = asked if false_alarm_rate is None else false_alarm_rate
        limits = moved(limits, scores, rate=asked, value=value, category=category)
        facts |= {"thresholds": {n: asdict(t) for n, t in limits.items()}, "false_alarm_rate": asked}
        write_json(file, facts)
    return limit_lines(limits, asked)


def sample_pictures(names: Sequence[str]) -> list[Image]:
    """The pictures that files, globs or folders name; without any, eight of the embedded world's.

    Raises:
        DataError: a name that matches no picture.
    """
    if names:
        return [load_image(file) for name in names for file in expand(name)]
    test = read_source("world").test
    shown = [load_image(test[i * len(test) // 8].image) for i in range(8)]
    return shown[:4] + [picture.resize((150, 211)) for picture in shown[4:]]


def _settings(detector: AnomalyDetector) -> dict[str, Any]:
    """What turns the graph's raw outputs into a verdict."""
    return {
        "method": detector.settings.method,
        "backbone": detector.settings.backbone,
        "backbone_sha256": detector.backbone.sha,
        "image_size": detector.settings.neck.image_size,
        "verdict": "anomalous where score > threshold; the empty name is the threshold for any category",
        "thresholds": {name: asdict(limit) for name, limit in detector.thresholds.items()},
        "false_alarm_rate": detector.settings.false_alarm_rate,
        "good_scores": detector.good_scores,
    }
