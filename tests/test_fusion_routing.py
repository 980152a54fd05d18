"""EM routing: the fused form against the plain one, golden values of the released code, invariants."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wildsight.fusion.routing import em_routing, route, votes


def operands(n: int = 7, i: int = 6, c: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    given = [torch.randn(n, i, 16), torch.rand(n, i) * 0.8 + 0.2, torch.randn(i, c, 4, 4)]
    return [t.to(dtype).requires_grad_() for t in [*given, torch.randn(c), torch.randn(c)]]


def slow(V: np.ndarray, a: np.ndarray, bu: np.ndarray, ba: np.ndarray, iters: int, lam: float) -> tuple:
    """Loops, straight from the equations."""
    n, parts, wholes, h = V.shape
    mu, s2, out = np.zeros((n, wholes, h)), np.zeros((n, wholes, h)), np.zeros((n, wholes))
    R = np.full((n, parts, wholes), 1 / wholes)
    for t in range(iters):
        for b in range(n):
            for c in range(wholes):
                Q = R[b, :, c] * a[b]
                w = Q / (Q.sum() + 1e-8)
                mu[b, c] = (w[:, None] * V[b, :, c]).sum(0)
                s2[b, c] = (w[:, None] * (V[b, :, c] - mu[b, c]) ** 2).sum(0) + 1e-8
                cost = Q.sum() * sum(bu[c] + 0.5 * math.log(s) for s in s2[b, c])
                out[b, c] = 1 / (1 + math.exp(-lam * (ba[c] - cost)))
        if t < iters - 1:
            for b in range(n):
                for i in range(parts):
                    p = [
                        sum(-((V[b, i, c] - mu[b, c]) ** 2) / (2 * s2[b, c]))
                        - 0.5 * np.log(2 * np.pi * s2[b, c]).sum()
                        + math.log(out[b, c])
                        for c in range(wholes)
                    ]
                    e = np.exp(np.array(p) - max(p))
                    R[b, i] = e / e.sum()
    return mu, out, R


@pytest.mark.parametrize("iters", [1, 2, 3])
def test_equals_the_slow_reference(iters: int) -> None:
    P, a, W, bu, ba = [t.detach() for t in operands(n=3)]
    V = votes(P, W)
    expected = slow(V.numpy(), a.numpy(), bu.numpy(), ba.numpy(), iters, 0.05)
    keys = {"iters": iters, "lam": 0.05}
    for found in (em_routing(V, a, bu, ba, **keys), route(P, a, W, bu, ba, **keys)):
        for x, y in zip(found, expected, strict=False):
            assert np.abs(x.numpy() - y).max() < 1e-9


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("iters", [1, 2, 3])
@pytest.mark.parametrize("block", [1, 16 * 6 * 3 * 3, 1 << 17])
def test_blocks_change_nothing(compat: bool, iters: int, block: int) -> None:
    given = operands()
    keys = {"iters": iters, "lam": 0.05, "compat": compat}
    plain, fused = route(*given, fused=False, **keys), route(*given, block=block, **keys)
    weights = [torch.randn_like(x) for x in plain]
    for x, y in zip(plain, fused, strict=True):
        assert torch.allclose(x, y, atol=1e-11)
    grads = [
        torch.autograd.grad(sum((x * w).sum() for x, w in zip(out, weights, strict=True)), given)
        for out in (plain, fused)
    ]
    for name, x, y in zip(("poses", "a", "weight", "beta_u", "beta_a"), *grads, strict=True):
        if not (compat and name == "a"):  # cancels: what is left is rounding
            assert torch.allclose(x, y, rtol=1e-7, atol=1e-9), name


def test_float32_blocks_stay_within_3e_5() -> None:
    """At the size of trained capsules' poses; rounding of either form grows with the sharpness of R.

    At most .6e-5 with AVX-512 and 1.1e-5 without vector units, which sum in another order.
    """
    given = [t.detach() for t in operands(n=50, i=24, c=8, dtype=torch.float32)]
    given[0] = given[0] * 0.5
    exact = route(*(t.double() for t in given))
    for truth, plain, fused in zip(exact, route(*given, fused=False), route(*given), strict=True):
        assert float((plain - fused).abs().max()) < 3e-5
        assert float((truth - fused).abs().max()) < 3e-5


@pytest.mark.parametrize("fused", [False, True])
def test_routing_stays_in_float32_under_autocast(fused: bool) -> None:
    given = operands(n=9, i=24, c=8, dtype=torch.float32)
    plain = route(*given, fused=fused)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = route(*given, fused=fused)
        half = route(given[0].bfloat16(), given[1].bfloat16(), *given[2:], fused=fused)
        grads = torch.autograd.grad(sum(x.square().sum() for x in mixed), given, retain_graph=True)
    assert all(torch.equal(x, y) for x, y in zip(plain, mixed, strict=True))
    assert all(x.dtype == torch.float32 for x in half)
    if fused:  # the plain form's gradients follow autocast when they are asked for inside it
        expected = torch.autograd.grad(sum(x.square().sum() for x in plain), given)
        assert all(torch.equal(x, y) for x, y in zip(expected, grads, strict=True))


@pytest.mark.parametrize("iters", [1, 2, 3])
def test_golden_routing(iters: int, shared: Path) -> None:
    golden = {k[4:]: torch.from_numpy(v) for k, v in np.load(shared / "golden" / "pwrf_emrouting.npz").items()
              if k.startswith(f"it{iters}_")}  # fmt: skip
    V, a = golden["votes"].requires_grad_(), golden["a_in"][..., 0].clone().requires_grad_()
    bu, ba = golden["beta_u"].requires_grad_(), golden["beta_a"].requires_grad_()
    out = em_routing(V, a, bu, ba, iters=iters, compat=True)
    assert torch.allclose(out.mu, golden["mu"][:, 0], atol=2e-5)
    assert torch.allclose(out.a_out, golden["a_out"], atol=2e-5)
    assert torch.allclose(out.R, golden["r"], atol=2e-5)
    loss = (out.mu * golden["cot_mu"][:, 0]).sum() + (out.a_out * golden["cot_a"]).sum()
    g_V, g_a, g_u, g_b = torch.autograd.grad(loss, (V, a, bu, ba))
    assert torch.allclose(g_V, golden["g_votes"], rtol=1e-3, atol=1e-4)
    assert torch.allclose(g_u, golden["g_beta_u"], rtol=1e-3, atol=1e-6)
    assert torch.allclose(g_b, golden["g_beta_a"], rtol=1e-3, atol=1e-6)
    alive = golden["a_in"][..., 0] > 0
    assert float(g_a[alive].abs().max()) < 1e-3


@pytest.mark.parametrize("axis", ["hor", "ver"])
def test_golden_capsule_layer(axis: str, shared: Path) -> None:
    golden = {k[4:]: torch.from_numpy(v) for k, v in np.load(shared / "golden" / "pwrf_convcaps.npz").items()
              if k.startswith(axis)}  # fmt: skip
    x = golden["x"].reshape(10, 102)
    W = golden["W"][0].requires_grad_()
    P = x[:, :96].reshape(10, 6, 16).requires_grad_()
    out = route(P, x[:, 96:].contiguous(), W, golden["beta_u"], golden["beta_a"], compat=True)
    both = torch.cat([out.mu.flatten(1), out.a_out], 1)
    assert torch.allclose(both, golden["out"].reshape(10, 68), atol=5e-5)  # float64 is as far from it
    assert torch.allclose(out.R, golden["r"], atol=2e-5)
    g_P, g_W = torch.autograd.grad((both * golden["cot"].reshape(10, 68)).sum(), (P, W))
    g_x = golden["g_x"].reshape(10, 102)[:, :96]
    assert float((g_P.flatten(1) - g_x).abs().max()) < 1e-3 * float(g_x.abs().max())
    assert float((g_W - golden["g_W"][0]).abs().max()) < 1e-3 * float(g_W.abs().max())


@pytest.mark.parametrize("iters", [1, 2, 3])
@pytest.mark.parametrize("fused", [False, True])
def test_gradients_by_finite_differences(iters: int, fused: bool) -> None:
    given = operands(n=2, i=3, c=2)

    def outputs(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(route(*tensors, iters=iters, lam=0.1, fused=fused))

    assert torch.autograd.gradcheck(outputs, given, atol=1e-5, nondet_tol=0.0)


@pytest.mark.parametrize("shape", [(4, 1, 3), (4, 5, 1), (0, 5, 3)])
def test_degenerate_problems_are_finite(shape: tuple[int, int, int]) -> None:
    given = operands(*shape)
    out = route(*given)
    assert all(bool(x.isfinite().all()) for x in out)
    sum(x.sum() for x in out).backward()  # type: ignore[union-attr]
    assert all(t.grad is not None and bool(t.grad.isfinite().all()) for t in given)


def test_silent_parts_and_equal_votes_are_finite() -> None:
    P, _, W, bu, ba = operands(dtype=torch.float32)
    a = torch.zeros(7, 6, requires_grad=True)
    route(P, a, W, bu, ba).mu.sum().backward()
    assert a.grad is not None and bool(a.grad.isfinite().all())
    V = torch.ones(2, 5, 3, 16)
    out = em_routing(V, torch.ones(2, 5), bu, ba)
    assert torch.allclose(out.mu, torch.ones(2, 3, 16)) and bool(out.R.isfinite().all())


def test_shares_of_a_part_sum_to_one_and_parts_may_be_permuted() -> None:
    P, a, W, bu, ba = operands()
    out, order = route(P, a, W, bu, ba), torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(out.R.sum(-1), torch.ones_like(a), atol=1e-6) and bool((out.R >= 0).all())
    moved = route(P[:, order], a[:, order], W[order], bu, ba)
    assert torch.allclose(out.mu, moved.mu) and torch.allclose(out.R[:, order], moved.R)
    swap = torch.tensor([2, 0, 1])
    other = route(P, a, W[:, swap], bu[swap], ba[swap])
    assert torch.allclose(out.mu[:, swap], other.mu) and torch.allclose(out.R[..., swap], other.R)


def test_the_published_normalisation_cancels_activations() -> None:
    P, a, W, bu, ba = [t.detach() for t in operands(dtype=torch.float32)]
    for compat in (True, False):
        same = torch.allclose(
            route(P, a, W, bu, ba, compat=compat).mu, route(P, a * a, W, bu, ba, compat=compat).mu, atol=1e-4
        )
        assert same == compat


def test_parts_that_agree_find_their_whole() -> None:
    torch.manual_seed(5)
    V = torch.randn(1, 8, 3, 16) * 4
    V[:, :, 0] = torch.arange(16.0)
    out = em_routing(V, torch.ones(1, 8), torch.zeros(3), torch.zeros(3), iters=3)
    assert float(out.R[..., 0].min()) > 0.999 and torch.allclose(out.mu[0, 0], torch.arange(16.0), atol=1e-4)


def test_moving_all_votes_moves_the_means_alone() -> None:
    P, a, W, bu, ba = [t.detach() for t in operands()]
    V, d = votes(P, W), torch.randn(16, dtype=torch.float64)
    out, moved = em_routing(V, a, bu, ba), em_routing(V + d, a, bu, ba)
    assert torch.allclose(out.mu + d, moved.mu) and torch.allclose(out.R, moved.R)
    assert torch.allclose(out.a_out, moved.a_out)
    turn = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64)).Q
    turned = em_routing(V @ turn, a, bu, ba)
    assert not torch.allclose(out.R, turned.R, atol=1e-3)  # the covariance is diagonal


def test_float32_holds_where_routing_is_nearly_one_hot() -> None:
    torch.manual_seed(6)
    P, a, W, bu, ba = operands(n=20, i=12, c=4)
    with torch.no_grad():
        exact = route(P * 8, a, W, bu, ba)
        rough = route(*(t.float() for t in (P * 8, a, W, bu, ba)))
    assert float((exact.a_out - rough.a_out).abs().max()) < 1e-4
