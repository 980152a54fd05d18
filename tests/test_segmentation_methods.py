"""The peers, geometry, prompts, augmentation, and the authors' checkpoint format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from segmentation_models import base_of, official
from wildsight.errors import CheckpointError, ConfigError
from wildsight.segmentation.adapter import PromptedSam, Prompts
from wildsight.segmentation.augment import augment, jitter
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.geometry import (
    frame,
    mirror,
    place,
    place_mask,
    to_picture,
    to_square,
    valid_tokens,
)
from wildsight.segmentation.importer import import_official
from wildsight.segmentation.methods import METHODS
from wildsight.segmentation.methods.conv_lora import ConvBottleneck, scaled_convolution
from wildsight.segmentation.methods.sam_adapter import high_pass
from wildsight.segmentation.methods.spt import SPT
from wildsight.segmentation.prompts import (
    PromptMix,
    components,
    jittered,
    noisy_mask,
    points_on,
    tight_box,
    training_prompts,
)

TRAINED = [name for name, method in METHODS.items() if method.trained]


def network(name: str, base: SamBase) -> PromptedSam:
    return PromptedSam(base, METHODS.create(name).adapter(base)).eval()


def inputs(base: SamBase) -> tuple[Tensor, Prompts]:
    images = torch.randn(2, 3, base.image_size, base.image_size, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[4.0, 6, 30, 28], [10, 12, 50, 44]])
    return images, Prompts(torch.zeros(2, dtype=torch.long), boxes, torch.zeros(2, 1, 2))


@pytest.mark.parametrize("kind", ["SamModel", "Sam2Model"])
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_starts_as_stock_sam(name: str, kind: str) -> None:
    base = base_of(kind)
    images, prompts = inputs(base)
    model = network(name, base)
    found = model(images, prompts)
    plain = "zero-shot-2" if model.adapter.passes == 2 else "zero-shot"
    expected = network(plain, base)(images, prompts)
    assert torch.allclose(found.draft, expected.draft, atol=1e-6)
    assert torch.allclose(found.final, expected.final, atol=1e-6)


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_method_learns_and_leaves_the_base(name: str) -> None:
    base = base_of("SamModel")
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    model = network(name, base).train()
    images, prompts = inputs(base)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    first = model(images, prompts).final.detach()
    for _ in range(2):
        optimizer.zero_grad()
        model(images, prompts).final.square().mean().backward()
        optimizer.step()
    assert not torch.equal(model(images, prompts).final, first)
    assert all(torch.equal(v, before[k]) for k, v in base.model.state_dict().items())


def test_recipes_and_unknown_hyper_parameters() -> None:
    recipe = METHODS["spt"].recipe
    assert (recipe.epochs, recipe.lr, recipe.weight_decay) == (16, 1e-3, 0.0)
    assert METHODS["lora"].recipe == recipe and METHODS["decoder"].recipe.lr == 2e-4
    for name in METHODS:
        with pytest.raises(ConfigError, match="unknown hyper-parameter 'nosuch'"):
            METHODS.create(name, {"nosuch": 1})


def test_named_variants_are_classes_with_other_defaults() -> None:
    lora = METHODS.create("lora")
    assert isinstance(lora, SPT) and (lora.draft, lora.relation) == (False, False)
    assert METHODS.parse("zero-shot[passes=2]").method.passes == METHODS.create("zero-shot-2").passes == 2
    assert METHODS.parse("lora[draft=true]@3e-3").method.draft
    with pytest.raises(ConfigError, match="relation_blocks='7' names no block"):
        METHODS.create("spt", {"relation_blocks": 7}).adapter(base_of("SamModel"))
    for hyper in ({"rank": -1}, {"encoder_targets": ["x"]}, {"draft_link": "word"}, {"relation_stages": "x"}):
        with pytest.raises(ConfigError):
            METHODS.create("spt", hyper)


def slow_high_pass(pixels: np.ndarray, share: float) -> np.ndarray:
    """[H, W] by an explicit mask on the shifted spectrum."""
    height, width = pixels.shape
    half = int((height * width * share) ** 0.5 // 2)
    spectrum = np.fft.fftshift(np.fft.fft2(pixels))
    for r in range(height):
        for c in range(width):
            if abs(r - height // 2) < half and abs(c - width // 2) < half:
                spectrum[r, c] = 0
    return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)).real)


def test_high_pass_equals_its_equation() -> None:
    pixels = torch.randn(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    found = high_pass(pixels, 0.25)
    slow = torch.from_numpy(slow_high_pass(pixels[0, 1].numpy(), 0.25)).float()
    assert torch.allclose(found[0, 1], slow, atol=1e-5)
    assert high_pass(torch.full((1, 3, 8, 8), 5.0), 0.25).abs().max() < 1e-5


def test_scaled_convolution_of_a_constant_is_its_convolution_inside() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    maps = torch.ones(1, 2, 8, 8)
    for scale in (1, 2, 3):
        inner = scaled_convolution(maps, conv, scale)[..., 3:5, 3:5]
        assert torch.allclose(inner, conv(maps)[..., 3:5, 3:5], atol=1e-5)


def test_conv_bottleneck_takes_the_best_expert_per_picture() -> None:
    torch.manual_seed(0)
    pair = ConvBottleneck(6, 5, 3, 1.0, 4)
    pair.lora_B.data.normal_()
    tokens = torch.randn(3, 4, 4, 6)
    together = pair(tokens)
    for i in range(3):
        maps = (tokens[i : i + 1] @ pair.lora_A.T).permute(0, 3, 1, 2)
        chances = pair.gate(maps.mean((2, 3))).softmax(-1)[0]
        best = int(chances.argmax())
        mixed = chances[best] * scaled_convolution(maps, pair.experts[best], best + 1)
        assert torch.allclose(together[i], (mixed.permute(0, 2, 3, 1) @ pair.lora_B.T)[0], atol=1e-6)


class TestGeometry:
    def test_letterbox_places_and_comes_back(self) -> None:
        where = frame(40, 20, 64, "letterbox")
        assert where.inner == (64, 32)
        square = place(Image.new("RGB", (40, 20), "white"), where)
        assert square[:32].min() == 255 and square[32:].max() == 0
        mask = np.zeros((20, 40), bool)
        mask[5:15, 10:30] = True
        placed = place_mask(mask, where)
        assert placed[32:].sum() == 0 and placed.sum() == 32 * 16
        logits = torch.nn.functional.avg_pool2d(torch.from_numpy(placed)[None].float(), 2) * 2 - 1
        back = to_picture(logits, where)[0] > 0
        assert np.array_equal(back.numpy(), mask)

    def test_squash_forgets_the_aspect(self) -> None:
        where = frame(40, 20, 64, "squash")
        assert to_square(torch.tensor([[40.0, 20.0]]), where).tolist() == [[64.0, 64.0]]
        assert valid_tokens([where], (4, 4)).all()

    def test_valid_tokens(self) -> None:
        assert valid_tokens([frame(40, 20, 64, "letterbox")], (4, 4))[0].reshape(4, 4).sum(1).tolist() == [
            4,
            4,
            0,
            0,
        ]

    def test_mirror_keeps_the_padding(self) -> None:
        assert mirror(torch.tensor([[1, 2, 3, 0]]), 3).tolist() == [[3, 2, 1, 0]]

    def test_unknown(self) -> None:
        with pytest.raises(ConfigError, match="geometry"):
            frame(1, 1, 64, "crop")


class TestPrompts:
    def mask(self) -> np.ndarray:
        mask = np.zeros((20, 30), bool)
        mask[3:9, 5:17] = True
        mask[15:17, 20:22] = True
        return mask

    def test_tight_box_and_components(self) -> None:
        assert tight_box(self.mask()) == (5.0, 3.0, 22.0, 17.0)
        assert [tight_box(c) for c in components(self.mask())] == [(5, 3, 17, 9), (20, 15, 22, 17)]

    def test_points_lie_on_the_mask(self) -> None:
        points = points_on(self.mask(), 10, np.random.default_rng(0)).astype(int)
        assert self.mask()[points[:, 1], points[:, 0]].all()
        assert len({tuple(p) for p in points}) == 10
        single = np.zeros((4, 4), bool)
        single[1, 2] = True
        assert points_on(single, 3, np.random.default_rng(0)).tolist() == [[2, 1]] * 3

    def test_jittered_boxes_stay_inside(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(50):
            x1, y1, x2, y2 = jittered((0, 0, 30, 20), 0.4, (30, 20), rng)
            assert 0 <= x1 < x2 <= 30 and 0 <= y1 < y2 <= 20

    def test_mix(self) -> None:
        masks = torch.from_numpy(np.stack([self.mask()] * 40)).to(torch.uint8)
        generators = [torch.Generator().manual_seed(i) for i in range(40)]
        prompts = training_prompts(masks, PromptMix(0.5, 0.25, 0.25), (8, 8), generators)
        counts = [int((prompts.kind == k).sum()) for k in range(3)]
        assert sum(counts) == 40 and min(counts) > 3
        assert prompts.boxes[0].tolist() == [5, 3, 22, 17]
        assert prompts.masks is not None and prompts.masks.abs().unique().tolist() == [8.0]
        with pytest.raises(ConfigError, match="prompt mix"):
            PromptMix(0, 0, 0)

    def test_few_pixels_are_prompted_by_their_box(self) -> None:
        mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
        mask[0, 3, 3:6] = 1
        prompts = training_prompts(mask, PromptMix(0, 1), (8, 8), [torch.Generator().manual_seed(0)])
        assert int(prompts.kind) == 0

    def test_noisy_mask_is_near_the_mask(self) -> None:
        mask = torch.zeros(64, 64)
        mask[16:48, 16:48] = 1
        found = noisy_mask(mask, (32, 32), torch.Generator().manual_seed(0)) > 0
        true = mask[::2, ::2] > 0
        share = float((found & true).sum() / (found | true).sum())
        assert 0.6 < share < 1.0


class TestAugment:
    def test_jitter_moves_picture_and_mask_together(self) -> None:
        mask = torch.zeros(32, 32, dtype=torch.uint8)
        mask[8:20, 4:16] = 1
        pixels = (mask * 255).expand(3, -1, -1)
        for scale, corner in ((0.5, (0.3, 0.8)), (1.0, (0.0, 0.0)), (1.7, (0.2, 0.2))):
            moved, shape = jitter(pixels, mask, scale, corner)
            assert moved.shape == pixels.shape and shape.shape == mask.shape
            inside = moved[0][shape > 0].float().mean()
            assert inside > 200
        assert jitter(pixels, mask, 0.5, (0.0, 0.0))[0][0, -1, -1] == 128

    def test_same_generator_same_result_and_masks_never_vanish(self) -> None:
        mask = torch.zeros(1, 32, 32, dtype=torch.uint8)
        mask[0, 0:3, 0:3] = 1
        pixels = torch.randint(0, 255, (1, 3, 32, 32), dtype=torch.uint8)
        for seed in range(20):
            one, other = (
                augment(pixels, mask, "jitter", [torch.Generator().manual_seed(seed)], [32]) for _ in range(2)
            )
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
            assert one[1].any()
        assert augment(pixels, mask, "none", [], [])[0] is pixels


@pytest.mark.parametrize("merged", [False, True])
def test_the_authors_checkpoint_gives_the_same_masks(merged: bool, tmp_path: Path) -> None:
    base = base_of("SamModel")
    model = network("spt", base)
    for weight in model.adapter.parameters():
        weight.data = 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    state = official(base, model.adapter, merged=merged)  # type: ignore[arg-type]
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "spt.pth")
    found = import_official(tmp_path / "spt.pth", base)
    images, prompts = inputs(base)
    for a, b in zip(found.network(images, prompts), model(images, prompts), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(CheckpointError, match="made for another base"):
        import_official(tmp_path / "spt.pth", base_of("SamModel", seed=1))
    with pytest.raises(CheckpointError, match="fits a SamModel"):
        import_official(tmp_path / "spt.pth", base_of("Sam2Model"))


def test_files_that_are_no_such_checkpoint(tmp_path: Path) -> None:
    base = base_of("SamModel")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    torch.save({"x": torch.ones(1)}, tmp_path / "other.pth")
    torch.save({"x": Path("code")}, tmp_path / "code.pth")
    for name, text in (("absent", "no such file"), ("junk", "cannot be read"), ("code", "cannot be read")):
        with pytest.raises(CheckpointError, match=text):
            import_official(tmp_path / f"{name}.pth", base)
    with pytest.raises(CheckpointError, match="no SPT adapter"):
        import_official(tmp_path / "other.pth", base)
