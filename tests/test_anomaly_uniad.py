"""UniAD: the decoder layer against the equation, written out token by token."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from wildsight.anomaly.methods.uniad import UniAD, UniADHead
from wildsight.errors import ConfigError

SMALL = UniAD(channels=12, grid=(4, 5), d=16, heads=4, ffn=32, encoder_layers=1, decoder_layers=2, kernel=3)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def affine(layer: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def norm(layer: torch.nn.LayerNorm, rows: np.ndarray) -> np.ndarray:
    unit = [(row - row.mean()) / math.sqrt(row.var() + layer.eps) for row in rows]
    return np.stack(unit) * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def attention(
    m: torch.nn.Module, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    w, b = m.weight.detach().numpy().reshape(3, 16, 16), m.bias.detach().numpy().reshape(3, 16)
    q, k, v = (x @ w[i].T + b[i] for i, x in enumerate((q, k, v)))
    out = np.zeros_like(q)
    for h in range(0, 16, 4):
        for i in range(20):
            weight = np.exp([q[i, h : h + 4] @ k[j, h : h + 4] / 2 + mask[i, j] for j in range(20)])
            out[i, h : h + 4] = (weight / weight.sum()) @ v[:, h : h + 4]
    return affine(m.out, out)


def test_decoder_layer_follows_the_equation() -> None:
    model = UniADHead(SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    layer, memory, previous = model.decoder[0], torch.randn(1, 20, 16), torch.randn(1, 20, 16)
    p, q, mask = model.positions().detach().numpy(), layer.query.detach().numpy(), model.mask.numpy()
    m, o = memory[0].numpy(), previous[0].numpy()
    a = norm(layer.memory_norm, q + attention(layer.to_memory, q + p, m + p, m, mask))
    b = norm(layer.previous_norm, a + attention(layer.to_previous, a + p, o + p, o, mask))
    feed = layer.feed
    expected = norm(feed.norm, b + affine(feed.down, np.maximum(affine(feed.up, b), 0)))
    got = layer(previous, memory, model.positions(), model.mask)[0].detach().numpy()
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_shapes_and_every_parameter_learns(batch: int) -> None:
    model = UniADHead(UniAD(channels=48, grid=(10, 14), d=32, encoder_layers=1, decoder_layers=2))
    f = torch.randn(batch, 48, 10, 14)
    out = model(f, torch.randn_like(f))
    assert out.shape == f.shape
    model.loss(out, f).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_parameter_count() -> None:
    assert round(sum(p.numel() for p in UniADHead(UniAD(channels=272)).parameters()) / 1e6, 2) == 7.72


def test_dropout_acts_in_training_only() -> None:
    model, f = UniADHead(SMALL), torch.randn(1, 12, 4, 5)
    assert not torch.equal(model(f), model(f))
    model.eval()
    assert torch.equal(model(f), model(f))


def test_overfits_eight_maps() -> None:
    settings = {**vars(SMALL), "dropout": 0.0, "noise_ratio": 0.0, "d": 32, "encoder_layers": 1}
    with pytest.warns(UserWarning, match="noise_ratio=0"):
        model = UniADHead(UniAD(**settings))
    f = torch.randn(8, 12, 4, 5)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        optimiser.zero_grad()
        loss = model.loss(model(f), f)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_reference_start_and_faults() -> None:
    same = UniADHead(UniAD(**{**vars(SMALL), "init": "reference"}))
    assert torch.equal(same.decoder[0].query, same.decoder[1].query)
    with pytest.raises(ConfigError, match="at least one"):
        UniADHead(UniAD(channels=12, decoder_layers=0))
    with pytest.raises(ConfigError, match="do not fit"):
        same(torch.zeros(1, 13, 4, 5))
