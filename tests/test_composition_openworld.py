"""The open world: feasibility, streaming and the frontier against slow references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from composition_reference import top_of
from wildsight.composition.modules import Factors, pair_scores
from wildsight.composition.openworld import feasibility, stream_top


def _g(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_feasibility_is_the_triple_loop() -> None:
    a, o = torch.randn(7, 4, generator=_g(0)), torch.randn(5, 4, generator=_g(1))
    seen = torch.tensor(
        [[0, 0], [0, 1], [1, 1], [2, 3], [3, 0], [4, 3], [5, 2]]
    )  # attribute 6, object 4: none
    pairs = {tuple(p) for p in seen.tolist()}
    found = feasibility(a, o, seen)
    for i in range(7):
        for j in range(5):
            if (i, j) in pairs:
                assert found[i, j] == torch.inf
                continue
            by_o = [
                float(F.cosine_similarity(o[j], o[k], dim=0)) for k in range(5) if k != j and (i, k) in pairs
            ]
            by_a = [
                float(F.cosine_similarity(a[i], a[k], dim=0)) for k in range(7) if k != i and (k, j) in pairs
            ]
            slow = 0.5 * (max(by_o, default=-1.0) + max(by_a, default=-1.0))
            assert float(found[i, j]) == pytest.approx(slow, abs=1e-6)
    assert float(found[6, 4]) == -1.0


@pytest.mark.parametrize("rule", ["sum", "product"])
def test_streamed_top_is_the_dense_one(rule: str) -> None:
    for seed in range(20):
        g = _g(seed)
        pairs = torch.cartesian_prod(torch.arange(6), torch.arange(5))
        prototypes = F.normalize(torch.randn(30, 8, generator=g), dim=-1)
        code = F.normalize(torch.randn(9, 8, generator=g), dim=-1)
        parts = torch.rand(9, 6, generator=g), torch.rand(9, 5, generator=g)
        factors = Factors(code, *parts, rule=rule)  # type: ignore[arg-type]
        seen, allowed = torch.rand(30, generator=g) < 0.4, torch.rand(30, generator=g) < 0.5
        if seed == 0:
            allowed &= seen  # no feasible unseen pair
        dense = pair_scores(factors, pairs, prototypes).masked_fill(~allowed, -torch.inf)
        found = stream_top(
            factors, pairs, seen, lambda part, p=prototypes: p[part], allowed=allowed, depth=3, block=7
        )
        truth = np.zeros(9, dtype=np.int64)
        slow = top_of(dense.numpy(), seen.numpy(), truth, truth.astype(bool), 3)
        assert np.allclose(found[0].numpy(), slow.seen) and np.array_equal(found[1].numpy(), slow.seen_pair)
        assert np.allclose(found[2].numpy(), slow.unseen) and np.array_equal(
            found[3].numpy(), slow.unseen_pair
        )
