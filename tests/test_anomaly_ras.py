"""RAS: every equation against a slow reference or an invariant."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wildsight.anomaly.attention import attend, neighbour_mask
from wildsight.anomaly.methods.ras import (
    RAS,
    RASHead,
    gate,
    image_score,
    jitter,
    residual_map,
    resize_to_grid,
    smooth_neck,
)
from wildsight.errors import ConfigError

SMALL = RAS(channels=12, grid=(4, 5), d=16, heads=4, ffn=32, kernel=3)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def head(**changes: object) -> RASHead:
    return RASHead(RAS(**{**vars(SMALL), **changes}))  # type: ignore[arg-type]


def layer_norm(x: np.ndarray, norm: torch.nn.LayerNorm) -> np.ndarray:
    mean, var = x.mean(), x.var()
    return (x - mean) / math.sqrt(var + norm.eps) * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def slow_attention(
    module: torch.nn.Module, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Token by token, head by head, positions already added."""
    w, b = module.weight.detach().numpy(), module.bias.detach().numpy()
    d, width = q.shape[1], q.shape[1] // module.heads
    q, k, v = q @ w[:d].T + b[:d], k @ w[d : 2 * d].T + b[d : 2 * d], v @ w[2 * d :].T + b[2 * d :]
    mixed = np.zeros_like(q)
    for i in range(len(q)):
        for h in range(module.heads):
            part = slice(h * width, (h + 1) * width)
            score = np.array([q[i, part] @ k[j, part] / math.sqrt(width) for j in range(len(k))])
            score = score if mask is None else score + mask[i]
            weight = np.exp(score - score.max())
            mixed[i, part] = (weight / weight.sum()) @ v[:, part]
    return mixed @ module.out.weight.detach().numpy().T + module.out.bias.detach().numpy()


def slow_feed(module: torch.nn.Module, u: np.ndarray) -> np.ndarray:
    up = np.maximum(u @ module.up.weight.detach().numpy().T + module.up.bias.detach().numpy(), 0)
    down = up @ module.down.weight.detach().numpy().T + module.down.bias.detach().numpy()
    return np.stack([layer_norm(row, module.norm) for row in u + down])


def randomise(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.3)


@pytest.mark.parametrize(("batch", "channels", "d"), [(1, 48, 32), (3, 272, 32), (3, 48, 256)])
def test_shapes_on_a_grid_that_is_not_square(batch: int, channels: int, d: int) -> None:
    f = torch.randn(batch, channels, 10, 14)
    model = RASHead(RAS(channels=channels, grid=(10, 14), d=d, encoder_layers=1, decoder_steps=2))
    out = model(f, torch.randn_like(f))
    assert out.shape == f.shape
    assert residual_map(out, f).shape == (batch, 1, 10, 14)


def test_neck_smoothing_is_unfold_and_mean() -> None:
    f = torch.randn(2, 5, 7, 9)
    patches = F.unfold(f, 3, padding=1).view(2, 5, 9, 7, 9)
    assert (smooth_neck(f) - patches.mean(2)).abs().max() < 1e-6
    assert torch.equal(smooth_neck(f, mode="max"), patches.amax(2))
    assert torch.equal(smooth_neck(f, patch=1), f)
    for wrong in ({"patch": 2}, {"mode": "median"}):
        with pytest.raises(ConfigError):
            smooth_neck(f, **wrong)


def test_resize_keeps_the_corners() -> None:
    f = torch.randn(1, 2, 56, 56)
    small = resize_to_grid(f, (14, 14))
    assert torch.allclose(small[..., [0, 0, -1, -1], [0, -1, 0, -1]], f[..., [0, 0, -1, -1], [0, -1, 0, -1]])


def test_neighbour_mask_blocks_exactly_the_window() -> None:
    mask = neighbour_mask((14, 14), 7)
    for i in range(0, 196, 13):
        for j in range(196):
            near = max(abs(i // 14 - j // 14), abs(i % 14 - j % 14)) <= 3
            assert mask[i, j] == (-math.inf if near else 0.0)
    blocked = mask.isinf().sum(1)
    assert blocked[7 * 14 + 7] == 49
    assert blocked[0] == 16
    assert blocked.max() < 196


def test_mask_that_blocks_everything_raises() -> None:
    with pytest.raises(ConfigError, match="7x7 grid"):
        neighbour_mask((7, 7), 7)
    with pytest.raises(ConfigError, match="centre"):
        neighbour_mask((14, 14), 4)


@pytest.mark.parametrize("masked", [True, False])
def test_attention_is_the_fused_kernel(masked: bool) -> None:
    q, k, v = torch.randn(1, 20, 16), torch.randn(3, 20, 16), torch.randn(3, 20, 16)
    mask = neighbour_mask((4, 5), 3) if masked else None

    def split(x: Tensor) -> Tensor:
        return x.expand(3, -1, -1).unflatten(-1, (4, 4)).transpose(1, 2)

    fused = F.scaled_dot_product_attention(split(q), split(k), split(v), attn_mask=mask)
    assert torch.allclose(attend(q, k, v, 4, mask), fused.transpose(1, 2).flatten(2), atol=1e-6)


def test_encoder_layer_and_cell_follow_the_equations() -> None:
    model = head(encoder_layers=1, decoder_steps=1)
    randomise(model)
    p = model.positions().detach().numpy()
    z = torch.randn(1, 20, 16)
    x = z[0].numpy()

    layer, step = model.encoder[0], model.steps[0]
    u = x + slow_attention(layer.attention, x + p, x + p, x, model.mask.numpy())
    expected = slow_feed(layer.feed, np.stack([layer_norm(row, layer.norm) for row in u]))
    got = layer(z, layer.attention.constants(model.positions()), model.mask)
    np.testing.assert_allclose(got[0].detach().numpy(), expected, atol=2e-5)

    c, w_a = step.context.detach().numpy(), step.gate.weight.detach().numpy()
    g = x / (1 + np.exp(-(np.concatenate([c, x], 1) @ w_a.T)))
    u = c + slow_attention(step.attention, c + p, g + p, g)
    h = slow_feed(step.feed, np.stack([layer_norm(row, step.norm) for row in u]))
    both = x @ step.update.weight.detach().numpy().T + step.update.bias.detach().numpy() + h
    expected = np.stack([layer_norm(row / 2, step.out_norm) for row in both])
    got = step(z, step.constants(model.positions()), None)
    np.testing.assert_allclose(got[0].detach().numpy(), expected, atol=2e-5)


def test_positions_are_column_then_row() -> None:
    model = head()
    table = model.positions().detach()
    assert torch.equal(table[2 * 5 + 3], torch.cat([model.column[3], model.row[2]]))
    assert 0.0 <= float(table.min()) <= float(table.max()) < 1.0


def test_gate_of_zero_weights_is_one_half() -> None:
    assert torch.equal(
        gate(torch.randn(2, 6, 4), torch.zeros(4, 4), torch.zeros(6, 4)), torch.full((2, 6, 4), 0.5)
    )


def test_cell_without_attention_output_sees_only_the_context() -> None:
    step, p = (model := head()).steps[0], model.positions()
    torch.nn.init.zeros_(step.attention.out.weight)
    a, b = torch.randn(2, 1, 20, 16)
    fixed = step.constants(p)
    looked = step.look(step.pass_on(a, fixed), fixed, None)
    assert torch.equal(step.norm(step.context + looked), step.norm(step.context)[None])
    torch.nn.init.zeros_(step.update.weight)
    assert torch.equal(step(a, fixed, None), step(b, fixed, None))


def test_without_w_u_a_step_hears_its_past_through_attention_alone() -> None:
    step, p = (model := head()).steps[0], model.positions()
    torch.nn.init.zeros_(step.update.weight)
    a, b = torch.randn(2, 1, 20, 16)
    assert not torch.allclose(step(a, step.constants(p), None), step(b, step.constants(p), None))


def test_a_context_changes_the_end_and_a_token_changes_all_tokens() -> None:
    model = head().eval()
    f = torch.randn(1, 12, 4, 5)
    before = model(f)
    with torch.no_grad():
        model.steps[0].context[0] += 1.0
    assert (model(f) - before).abs().max() > 1e-5
    step, hidden = model.steps[0], torch.randn(1, 20, 16)
    moved = hidden.clone()
    moved[:, 7] += 1.0
    fixed = step.constants(model.positions())
    change = (step(moved, fixed, None) - step(hidden, fixed, None)).abs().amax(-1)
    assert bool((change > 0).all())


def test_noise_has_the_stated_size_and_only_in_training() -> None:
    generator = torch.Generator().manual_seed(1)
    f = torch.randn(1, 272, 2, 2) * 3
    eps = torch.randn(10_000, 272, 2, 2, generator=generator)
    std = (jitter(f, 25 / math.sqrt(272), eps) - f).std(dim=0)
    assert abs(float((std / f.square().mean(1).sqrt()).mean()) / (25 / math.sqrt(272)) - 1) < 0.02
    model = head()
    g, one = torch.randn(1, 12, 4, 5), torch.randn(1, 12, 4, 5)
    assert torch.equal(model(g, one), model(g, one))
    assert not torch.equal(model(g, one), model(g))
    with pytest.raises(ConfigError, match="eval"):
        model.eval()(g, one)


def test_tokens_permute_without_positions_and_mask() -> None:
    model = head(neighbour="none").eval()
    torch.nn.init.zeros_(model.row)
    torch.nn.init.zeros_(model.column)
    order, f = torch.randperm(20), torch.randn(2, 12, 4, 5)
    expected = model(f).flatten(2)[..., order]
    with torch.no_grad():
        for step in model.steps:
            step.context.copy_(step.context[order])
    got = model(f.flatten(2)[..., order].unflatten(2, (4, 5))).flatten(2)
    assert torch.allclose(got, expected, atol=1e-5)


def test_overfits_eight_maps() -> None:
    with pytest.warns(UserWarning, match="noise_ratio=0"):
        model = head(noise_ratio=0.0, encoder_layers=1, decoder_steps=2, d=32)
    f = torch.randn(8, 12, 4, 5)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, foreach=True)
    loss = torch.tensor(math.inf)
    for _ in range(300):
        if float(loss.detach()) < 0.05 * float(f.var()):
            break
        optimiser.zero_grad()
        loss = model.loss(model(f), f)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.05 * float(f.var())


def test_residual_of_a_perfect_reconstruction() -> None:
    f = torch.randn(2, 5, 3, 3)
    f_hat = f.clone().requires_grad_()
    heat = residual_map(f_hat, f)
    heat.sum().backward()
    assert heat.abs().max() == 0
    assert bool(f_hat.grad.isfinite().all())
    assert residual_map(f + 2, f)[0, 0, 0, 0] == pytest.approx(2 * math.sqrt(5))


def test_image_score_is_the_largest_window_mean() -> None:
    heat = torch.zeros(2, 1, 224, 224)
    heat[0, 0, 40:56, 100:116] = 3.0
    heat[1, 0, 0, 0] = 256.0
    assert torch.allclose(image_score(heat), torch.tensor([3.0, 1.0]))
    assert torch.equal(image_score(torch.ones(1, 1, 4, 5)), torch.ones(1))


@pytest.mark.parametrize(("layers", "steps", "millions"), [(2, 4, 5.87), (0, 1, 1.18)])
def test_parameter_count(layers: int, steps: int, millions: float) -> None:
    model = RASHead(RAS(channels=272, encoder_layers=layers, decoder_steps=steps))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("changes", [{}, {"gate": False}, {"attention": False}, {"neighbour": "all"}])
def test_folded_equals_unfolded(changes: dict[str, object]) -> None:
    model = head(**changes).eval()
    f = torch.randn(2, 12, 4, 5)
    folded = model.fold()
    assert (folded(f) - model(f)).abs().max() < 1e-5
    assert not any(p.requires_grad for p in folded.parameters())
    assert model.steps[0].context.requires_grad


def test_reference_start_is_equal_across_steps_and_independent_is_not() -> None:
    same, apart = head(init="reference"), head()
    assert torch.equal(same.steps[0].context, same.steps[3].context)
    assert torch.equal(same.encoder[0].attention.weight, same.encoder[1].attention.weight)
    assert not torch.equal(same.steps[0].update.weight, same.steps[1].update.weight)
    assert not torch.equal(apart.steps[0].context, apart.steps[3].context)


def test_faults_are_named() -> None:
    with pytest.raises(ConfigError, match=r"\(1, 12, 5, 4\).*\(12, 4, 5\)"):
        head()(torch.zeros(1, 12, 5, 4))
    for wrong in ({"d": 18}, {"decoder_steps": 0}, {"noise_ratio": -1.0}, {"neighbour": "some"}):
        with pytest.raises(ConfigError):
            head(**wrong)
