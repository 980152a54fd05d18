"""The detector on other families: EfficientNet from a folder, as published, and a timm-like pyramid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from wildsight.anomaly import AnomalyDetector
from wildsight.anomaly.features import NeckConfig
from wildsight.backbones import Backbone
from wildsight.errors import ConfigError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("good") / "part" / "train" / "good"
    folder.mkdir(parents=True)
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return f"mvtec-ad:{folder.parents[2]}"


def test_efficientnet_from_a_folder(good: str, tmp_path: Path) -> None:
    """The published taps: the last block of strides 2, 4, 8 and 16, concatenated."""
    from transformers import EfficientNetConfig, EfficientNetModel

    torch.manual_seed(0)
    config = EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.5, hidden_dim=320)
    EfficientNetModel(config).save_pretrained(tmp_path)
    detector = AnomalyDetector("padim", str(tmp_path), neck=NeckConfig(image_size=64)).fit(
        good, progress=False
    )
    pixels = detector.backbone.preprocess([Image.new("RGB", (64, 64))], 64)
    taps = detector.backbone.pyramid(pixels, (2, 4, 8, 16))
    assert detector.channels == sum(tap.shape[1] for tap in taps.values())
    assert detector.predict(np.zeros((40, 50), np.uint8))[0].map.shape == (64, 64)


class Pyramid(nn.Module):
    """What timm's ``features_only`` gives: no configuration, a list of maps, one per stride."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in ((3, 4), (4, 6), (6, 8), (8, 10)))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for block in self.blocks:
            x = block(x).relu()
            maps.append(x)
        return maps


def test_a_pyramid_without_configuration(good: str) -> None:
    torch.manual_seed(0)
    backbone = Backbone(Pyramid(), "timm:pyramid", "0" * 64, *IMAGENET, normalised_by="timm")
    detector = AnomalyDetector("padim", backbone, neck=NeckConfig(image_size=64)).fit(good, progress=False)
    assert detector.channels == 28 and backbone.strides == (2, 4, 8, 16)
    assert detector.predict(np.zeros((40, 50), np.uint8))[0].score > 0


@pytest.mark.parametrize(
    ("family", "strides"),
    [("dinov2", (14,)), ("vit", (16,)), ("clip", (8,)), ("convnext", (4, 8, 16)), ("resnet", (2, 4, 8, 16))],
)
def test_a_backbone_gives_the_taps_that_it_has(
    family: str, strides: tuple[int, ...], good: str, tmp_path: Path
) -> None:
    """Only strides that were asked for by number are insisted on."""
    from backbone_models import families

    torch.manual_seed(0)
    families()[family].save_pretrained(tmp_path / "tower")
    tower = str(tmp_path / "tower")
    detector = AnomalyDetector("padim", tower, neck=NeckConfig(image_size=64)).fit(good, progress=False)
    assert detector.settings.neck.strides == strides
    picture = np.zeros((40, 50), np.uint8)
    again = AnomalyDetector.from_pretrained(detector.save_pretrained(tmp_path / "saved"))
    assert again.settings == detector.settings
    assert again.predict(picture)[0].score == detector.predict(picture)[0].score
    with pytest.raises(ConfigError, match="no feature map at stride 3"):
        AnomalyDetector("padim", tower, neck=NeckConfig(strides=(3,))).fit(good, progress=False)
