"""The cheap dropout: rate, scale, independence, determinism, and equality in law with torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wildsight.anomaly.dropout import CHUNK, dropout, keep_bits, multipliers


def slow_bits(count: int, drop: float, value: int) -> np.ndarray:
    """The same draw, one element at a time: sixteen bits against the limit."""
    seed = int(torch.randint(torch.iinfo(torch.int64).max, ()))
    stream = np.random.Generator(np.random.SFC64(seed))
    words = [int(w) for w in stream.integers(0, 1 << 64, size=-(-count // 4), dtype=np.uint64)]
    parts = [(w >> (16 * i)) & 0xFFFF for w in words for i in range(4)]
    return np.array([value if p >= round(drop * 65536) else 0 for p in parts[:count]], np.uint16)


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9])
def test_bits_are_those_of_the_definition(drop: float) -> None:
    torch.manual_seed(3)
    fast = keep_bits(1001, drop, 7)
    torch.manual_seed(3)
    assert (fast == slow_bits(1001, drop, 7)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("drop", [0.1, 0.35])
def test_rate_and_scale(dtype: torch.dtype, drop: float) -> None:
    torch.manual_seed(0)
    factors = multipliers((4 * CHUNK + 3, 5), drop, dtype)
    share = (factors == 0).double().mean().item()
    assert abs(share - drop) < 5 * (drop * (1 - drop) / factors.numel()) ** 0.5
    assert factors[factors > 0].unique().tolist() == [torch.tensor(1 / (1 - drop), dtype=dtype).item()]


def test_elements_are_independent() -> None:
    torch.manual_seed(1)
    kept = (multipliers((400_000,), 0.5, torch.float32) > 0).double() - 0.5
    for lag in (1, 2, 3, 4, 8, CHUNK):
        correlation = (kept[lag:] * kept[:-lag]).mean() / 0.25
        assert abs(correlation) < 0.01


def test_seeded_by_torch_alone() -> None:
    x = torch.ones(1000)
    torch.manual_seed(5)
    first, second = dropout(x, 0.2), dropout(x, 0.2)
    torch.manual_seed(5)
    assert torch.equal(dropout(x, 0.2), first)
    assert not torch.equal(first, second)


def test_gradient_is_the_mask() -> None:
    x = torch.randn(100, requires_grad=True)
    out = dropout(x, 0.3)
    out.sum().backward()
    assert torch.equal(x.grad * x.detach(), out.detach())


def test_nothing_to_drop() -> None:
    x = torch.ones(3)
    assert dropout(x, 0.0) is x and dropout(x, 1e-6) is x
