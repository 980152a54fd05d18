"""What the fusion task added to the floors below: sensor values, class ids, bit depths, gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wildsight.backbones import load_backbone
from wildsight.errors import ImageError
from wildsight.images import bit_depth, load_labels, load_values


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100 + 7
    Image.fromarray(values).save(tmp_path / "d.png")
    assert bit_depth(tmp_path / "d.png") == 16
    read = load_values(tmp_path / "d.png", full_scale=1000.0)
    assert read.shape == (3, 4, 3) and read.dtype == np.float32
    assert np.allclose(read[..., 1], np.clip(values / 1000.0, 0, 1))
    assert np.allclose(load_values(tmp_path / "d.png"), read * 1000 / 65535, atol=1e-4) or read.max() == 1.0


def test_eight_bits_and_bilevel(tmp_path: Path) -> None:
    grey = np.array([[0, 128], [255, 3]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "g.png")
    Image.fromarray(grey > 5).save(tmp_path / "b.png")
    assert bit_depth(tmp_path / "g.png") == 8 and bit_depth(tmp_path / "b.png") == 1
    assert np.allclose(load_values(tmp_path / "g.png")[..., 2], grey / 255)


def test_labels_are_the_stored_numbers(tmp_path: Path) -> None:
    ids = np.array([[0, 7], [24, 255]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "grey.png")
    palette = Image.fromarray(ids, mode="P")
    palette.putpalette(list(range(256)) * 3)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.stack([ids, ids * 0, ids * 0 + 9], -1)).save(tmp_path / "rgb.png")
    for name in ("grey", "palette", "rgb"):
        read = load_labels(tmp_path / f"{name}.png")
        assert read.dtype == np.int64 and np.array_equal(read, ids)
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(ImageError, match="fractions"):
        load_labels(tmp_path / "f.tiff")


def test_gradients_reach_a_backbone_that_asks_for_them() -> None:
    network = load_backbone("nano-conv")
    pixels = torch.randn(1, 3, 32, 32)
    frozen = network.pyramid(pixels, (4, 8))
    network.model.requires_grad_(True)
    maps = network.pyramid_with_grad(pixels, (4, 8))
    assert torch.equal(maps[8], frozen[8]) and not frozen[8].requires_grad
    maps[8].sum().backward()
    assert any(p.grad is not None for p in network.model.parameters())
    assert not network.pyramid(pixels, (8,))[8].requires_grad
