"""Losses against slow references; heads, peers and the network: shapes, missing modalities, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from wildsight.backbones import load_backbone
from wildsight.errors import ConfigError
from wildsight.fusion.fused import Fused
from wildsight.fusion.heads import AdjacentAttention, SaliencyHead
from wildsight.fusion.losses import (
    edges,
    kept_modalities,
    ohem_cross_entropy,
    saliency_loss,
    soft_iou_loss,
    structure_loss,
)
from wildsight.fusion.methods import METHODS
from wildsight.fusion.methods.pwrf import PWRF
from wildsight.fusion.methods.summation import Summation
from wildsight.fusion.net import FusionNet, NetConfig, RoutedSum

SMALL = {"pwrf": {"A": 4, "T": 2, "C": 2, "ref_len": 4}}
NAMES = ("rgb", "depth", "thermal")


def net(method: str, saliency: bool = False) -> FusionNet:
    torch.manual_seed(0)
    hyper = SMALL.get(method, {})
    made = METHODS.create(method, hyper)
    return FusionNet(NetConfig(made, NAMES, {4: 6, 8: 8, 16: 10}, 8, 1 if saliency else 5, saliency))


def maps(batch: int = 3) -> dict[int, Tensor]:
    torch.manual_seed(1)
    return {s: torch.randn(batch, 3, c, 32 // s, 48 // s) for s, c in ((4, 6), (8, 8), (16, 10))}


@pytest.mark.parametrize("saliency", [False, True])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_gives_logits_and_gradients(method: str, saliency: bool) -> None:
    model = net(method, saliency)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1]]).bool()
    out = model(maps(), present, (32, 48))
    assert out.decoded.logits.shape == (3, 1 if saliency else 5, 32, 48)
    assert (out.share is not None) == (method == "pwrf")
    outs = [out.decoded.logits, *out.decoded.sides]
    if out.decoded.edge is not None:
        outs.append(out.decoded.edge)
    torch.stack([x.square().mean() for x in outs]).sum().backward()
    silent = {n for n, p in model.named_parameters() if p.grad is None}
    if method == "single":  # the other modalities' projections have no say
        silent -= {n for n in silent if n.startswith("projections.") and n.split(".")[2] != "0"}
    assert not silent


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"single"}))
def test_what_is_missing_does_not_matter(method: str) -> None:
    model, present = net(method).eval(), torch.tensor([[1, 0, 1]]).bool()
    x = maps(1)
    y = {s: torch.cat([m[:, :1], m[:, 1:2] * 9 + 3, m[:, 2:]], dim=1) for s, m in x.items()}
    with torch.no_grad():
        first, second = (model(m, present, (32, 48)).decoded.logits for m in (x, y))
    assert torch.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("saliency", [False, True])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_is_hidden_while_training_changes_nothing(method: str, saliency: bool) -> None:
    """Neither the other pictures' outputs nor any gradient nor the running statistics."""
    present, x, seen = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 0]]).bool(), maps(), []
    hidden = ~present[..., None, None, None]
    for filling in (0.0, 7.0):
        model = net(method, saliency).train()
        torch.manual_seed(2)  # the same dropout
        shown = {s: torch.where(hidden, torch.randn_like(m) * filling, m) for s, m in x.items()}
        torch.manual_seed(2)
        out = model(shown, present, (32, 48)).decoded
        edge = 0.0 if out.edge is None else out.edge.square().sum()
        (out.logits.square().sum() + edge).backward()
        grads = {f"{n}'": p.grad for n, p in model.named_parameters() if p.grad is not None}
        seen.append({"logits": out.logits, **model.state_dict(), **grads})
    assert seen[0].keys() == seen[1].keys()
    assert [n for n, v in seen[0].items() if not torch.equal(v, seen[1][n])] == []


def test_a_missing_modality_leaves_no_trace_in_its_batch_norms() -> None:
    model = net("pwrf").train()
    model(maps(), torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1]]).bool(), (32, 48))
    alone = net("pwrf").train()
    alone({s: m[:1] for s, m in maps().items()}, None, (32, 48))
    for both, one in zip(model.projections, alone.projections, strict=True):
        assert torch.allclose(both[1][1].running_mean, one[1][1].running_mean, atol=1e-6)
    model(maps(1), torch.tensor([[0, 0, 1]]).bool(), (32, 48)).decoded.logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("encoders", [1, 3])
def test_encoders_that_train_do_not_see_what_is_hidden(encoders: int) -> None:
    present, seen = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool(), []
    for filling in (0.0, 9.0):
        torch.manual_seed(0)
        backbones = [load_backbone("nano-conv") for _ in range(encoders)]
        for backbone in backbones:
            backbone.model.requires_grad_(True)
        model = FusionNet(NetConfig(Summation(), NAMES, {4: 32, 8: 64}, 8, 2), backbones).train()
        torch.manual_seed(1)
        x = torch.randn(2, 3, 3, 32, 32) + filling * ~present[..., None, None, None]
        seen.append((model(x, present, (32, 32)).decoded.logits, dict(model.state_dict())))
        seen[-1][0].sum().backward()
        few = [n for n, p in model.named_parameters() if p.grad is None and n.startswith("encoders.2")]
        assert len(few) < len(list(model.encoders[-1].parameters())) or encoders == 1
    assert torch.equal(seen[0][0], seen[1][0])
    assert all(torch.equal(v, seen[1][1][n]) for n, v in seen[0][1].items())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_scene_does_not_depend_on_its_batch(method: str) -> None:
    model, x = net(method).eval(), maps()
    with torch.no_grad():
        whole = model(x, None, (32, 48)).decoded.logits
        alone = model({s: m[1:2] for s, m in x.items()}, None, (32, 48)).decoded.logits
    assert torch.allclose(whole[1:2], alone, atol=1e-5)


def test_routed_sum_weighs_by_share() -> None:
    torch.manual_seed(0)
    stage = RoutedSum(4).eval()
    xs = [torch.randn(1, 4, 4, 4) for _ in range(2)]
    one = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    out = stage(xs, None, one)
    other = stage([xs[0], xs[1] * 7], None, one)
    assert torch.equal(out.shared, other.shared)
    equal = stage(xs, None, None).share
    assert equal is not None and float(equal.flatten()[0]) == 0.5


def test_the_finest_scale_is_fused_as_asked() -> None:
    routed = {"same": "PWRFFusion", "routed sum": "RoutedSum"}
    joined = "ConcatenationFusion"
    kinds = {None: joined, "concatenation": joined, **routed}
    for fine, kind in kinds.items():
        model = FusionNet(NetConfig(PWRF(), ("rgb", "depth"), {4: 6, 8: 8}, 8, 3, fine=fine)).eval()
        assert type(model.stages[0]).__name__ == kind and type(model.stages[1]).__name__ == "PWRFFusion"
        x = {s: torch.randn(1, 2, c, 32 // s, 32 // s) for s, c in ((4, 6), (8, 8))}
        out = model(x, None, (32, 32))
        assert out.decoded.logits.shape == (1, 3, 32, 32) and out.share is not None


def test_parts_are_as_wide_as_the_maps_unless_told() -> None:
    for hyper, width in (({}, 8), ({"A": 4}, 4)):
        model = FusionNet(NetConfig(PWRF(**hyper), ("rgb", "depth"), {4: 6}, 8, 3))
        assert width == model.stages[0].config.reduced


def test_too_many_modalities_are_refused() -> None:
    with pytest.raises(ConfigError, match="7 modalities"):
        FusionNet(NetConfig(Summation(), tuple("abcdefg"), {8: 4}, 4, 2))


def test_a_fusion_without_specific_map_is_decoded_once() -> None:
    head = SaliencyHead([1, 1], 8, [])
    scales = [Fused(torch.randn(1, 8, s, s)) for s in (8, 4)]
    out = head(scales, (16, 16))
    assert len(out.sides) == 2 and out.edge is None
    assert torch.allclose(out.logits, out.sides[0] + out.sides[1])


def test_adjacent_attention_by_its_equation() -> None:
    torch.manual_seed(0)
    block = AdjacentAttention(8).eval()
    coarse, fine = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 8, 8)
    up = torch.nn.functional.interpolate(coarse, size=(8, 8), mode="bilinear", align_corners=True)
    x = block.up(up)
    w = (block.local(x + fine) + block.everywhere(x + fine)).sigmoid()
    assert torch.allclose(block(coarse, fine), 2 * x * w + 2 * fine * (1 - w), atol=1e-6)


def test_ohem_keeps_the_hard_pixels() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 6, 6) * 3, torch.randint(0, 3, (2, 6, 6))
    target[0, :3] = 255
    losses = sorted(
        (
            -float(logits[b].log_softmax(0)[target[b, y, x], y, x])
            for b in range(2) for y in range(6) for x in range(6) if target[b, y, x] != 255
        ),
        reverse=True,
    )  # fmt: skip
    hard = [v for v in losses if v > -math.log(0.7)]
    assert float(ohem_cross_entropy(logits, target)) == pytest.approx(np.mean(hard), rel=1e-5)
    easy = torch.nn.functional.one_hot(target.clamp(max=2), 3).permute(0, 3, 1, 2) * 20.0
    assert float(ohem_cross_entropy(easy, target)) < 1e-5
    assert float(ohem_cross_entropy(logits, torch.full_like(target, 255))) == 0.0


def test_saliency_losses_by_their_equations() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(1, 1, 9, 9), (torch.rand(1, 1, 9, 9) > 0.6).float()
    p, g = logits[0, 0].sigmoid().double().numpy(), mask[0, 0].double().numpy()
    padded = np.pad(g, 15)
    mean = np.array([[padded[y : y + 31, x : x + 31].sum() / 961 for x in range(9)] for y in range(9)])
    w = 1 + 5 * np.abs(mean - g)
    bce = -(g * np.log(p) + (1 - g) * np.log(1 - p))
    inter, union = (p * g * w).sum(), ((p + g) * w).sum()
    structure = (w * bce).sum() / w.sum() + 1 - (inter + 1) / (union - inter + 1)
    assert float(structure_loss(logits, mask)) == pytest.approx(structure, rel=1e-5)
    soft = 1 - ((p * g).sum() + 1) / ((p + g).sum() - (p * g).sum() + 1)
    assert float(soft_iou_loss(logits, mask)) == pytest.approx(soft, rel=1e-5)
    assert float(saliency_loss(logits, mask)) == pytest.approx(bce.mean() + structure + 0.8 * soft, rel=1e-5)


def test_edges_lie_on_the_border() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 2:6] = 1
    found = edges(mask)
    assert float(found[..., 3:5, 3:5].sum()) == 0 and float(found[..., 2, 2:6].min()) == 1
    assert float(edges(torch.ones(1, 1, 8, 8)).sum()) == 0


def test_modalities_are_dropped_at_the_stated_rate() -> None:
    noise = torch.randn(20000, 4, generator=torch.Generator().manual_seed(0))
    for rate in (0.0, 0.25, 0.6):
        kept = kept_modalities(noise, rate)
        assert bool(kept.any(1).all())
        forced = rate**4 / 4
        assert float(kept.float().mean()) == pytest.approx(1 - rate + forced, abs=0.01)
