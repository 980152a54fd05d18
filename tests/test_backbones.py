"""Backbones by name: real transformers classes from small configurations, saved to a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wildsight.backbones import load_backbone
from wildsight.backbones.cache import cached_features
from wildsight.errors import ConfigError


def picture(seed: int = 0, side: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8))


def save(kind: str, folder: Path) -> str:
    import transformers as t

    torch.manual_seed(0)
    models = {
        "resnet": lambda: t.ResNetModel(
            t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16], depths=[1, 1, 1], layer_type="basic")
        ),
        "mobilenet": lambda: t.MobileNetV2Model(t.MobileNetV2Config(depth_multiplier=0.35)),
        "dinov2": lambda: t.Dinov2Model(
            t.Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=16)
        ),
        "b4": lambda: t.EfficientNetModel(
            t.EfficientNetConfig(width_coefficient=1.4, depth_coefficient=1.8, hidden_dim=1792)
        ),
    }
    models[kind]().save_pretrained(folder)
    return str(folder)


def test_resnet_taps(tmp_path: Path) -> None:
    backbone = load_backbone(save("resnet", tmp_path))
    maps = backbone.pyramid(backbone.preprocess([picture()], 64), (2, 4, 8, 16))
    assert {s: tuple(m.shape[1:]) for s, m in maps.items()} == {
        2: (8, 32, 32),
        4: (8, 16, 16),
        8: (12, 8, 8),
        16: (16, 4, 4),
    }
    with pytest.raises(ConfigError, match="2, 4, 8, 16"):
        backbone.pyramid(backbone.preprocess([picture()], 64), (32,))


def test_mobilenet_block_by_block_equals_the_whole(tmp_path: Path) -> None:
    backbone = load_backbone(save("mobilenet", tmp_path))
    pixels = backbone.preprocess([picture(1)], 64)
    maps = backbone.pyramid(pixels, (2, 4, 8, 16))
    hidden = backbone.model(pixel_values=pixels, output_hidden_states=True).hidden_states
    assert torch.equal(maps[2], backbone.model.conv_stem(pixels))
    for stride, found in list(maps.items())[1:]:
        last = [h for h in hidden if h.shape[-1] == 64 // stride][-1]
        assert torch.equal(found, last), stride


def test_vit_tokens_become_a_map(tmp_path: Path) -> None:
    backbone = load_backbone(save("dinov2", tmp_path))
    pixels = backbone.preprocess([picture()], 64)
    features = backbone.features(pixels)
    assert features.grid == (4, 4) and features.patches.shape == (1, 16, 16)
    found = backbone.pyramid(pixels, (16,))[16]
    hidden = backbone.model(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(found[0, :, 1, 2], hidden[0, 1 + 4 + 2])


@pytest.mark.slow
def test_efficientnet_b4_taps(tmp_path: Path) -> None:
    """The taps of the paper: the last blocks of strides 2, 4, 8 and 16."""
    backbone = load_backbone(save("b4", tmp_path))
    pixels = backbone.preprocess([picture()], 224)
    maps = backbone.pyramid(pixels, (2, 4, 8, 16))
    assert [tuple(m.shape[1:]) for m in maps.values()] == [
        (24, 112, 112),
        (32, 56, 56),
        (56, 28, 28),
        (160, 14, 14),
    ]


def test_normalisation_travels_with_the_weights(shared: Path) -> None:
    backbone = load_backbone(shared / "data" / "weights" / "mobilenet_v2_imagenet")
    assert backbone.mean == (0.5, 0.5, 0.5)
    grey = Image.new("RGB", (8, 8), (255, 255, 255))
    assert torch.allclose(backbone.preprocess([grey], 8), torch.ones(1, 3, 8, 8))
    maps = backbone.pyramid(backbone.preprocess([picture()], 224))
    assert [m.shape[1] for m in maps.values()] == [16, 24, 32, 96]


def test_unknown_names(tmp_path: Path) -> None:
    for name in ("nano-nosuch", "nobody/nothing", "timm:nosuch", str(tmp_path)):
        with pytest.raises(ConfigError, match=";"):
            load_backbone(name)


def test_cache_goes_on_and_lists_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    backbone = load_backbone(save("resnet", tmp_path / "net"))
    files = []
    for i in range(7):
        files.append(tmp_path / f"{i}.png")
        picture(i).save(files[-1])
    files[3].write_text("no picture")
    seen: list[int] = []

    def run(stop: int | None = None) -> object:
        def assemble(maps: dict[int, torch.Tensor]) -> torch.Tensor:
            if stop is not None and len(seen) >= stop:
                raise KeyboardInterrupt
            seen.append(len(maps[8]))
            return maps[8]

        return cached_features(backbone, files, 64, (8,), assemble, {}, batch=2)

    with pytest.raises(KeyboardInterrupt):
        run(stop=2)
    first = run()
    assert sum(seen) == 6 and first.ok.tolist() == [True] * 3 + [False] + [True] * 3
    assert len(first.errors) == 1 and "3.png" in str(first.errors[0])
    again = run()
    assert sum(seen) == 6 and np.array_equal(first.array, again.array)
    alone = backbone.pyramid(backbone.preprocess([Image.open(files[5]).convert("RGB")], 64), (8,))[8]
    assert np.allclose(first.array[5], alone[0].numpy(), atol=1e-5)
