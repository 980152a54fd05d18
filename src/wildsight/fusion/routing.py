"""EM routing of part capsules to whole capsules, plain and without a votes tensor.

Paper: PWRF (IJCV 2025, arXiv 2410.14944); the routing is that of its authors' disentangled routing (TIP
2022), which is matrix-capsule EM (ICLR 2018) along one axis. Implemented: votes ``V = P W``, the M-step, the
E-step.

Differences from the published code:
    1. A part's activation weighs its vote: ``Q = R a``. The published ``Q / sum_c Q`` cancels ``a``;
       ``compat=True`` restores it.
    2. `route` never holds the votes of all positions: it works through blocks of them that fit a processor's
       cache, forward and backward, with the gradient written out; ``fused=False`` holds them all.
    3. The variance is centred (two passes), never ``E[V^2] - mu^2``.

Shapes: ``n`` routing problems (a row or a column of one picture), ``I`` parts, ``C`` wholes, poses 4 x 4
flattened row-major to 16.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LN_2PI = math.log(2.0 * math.pi)
BLOCK = 1 << 17
"""Votes held at once by `route`, in numbers (512 KiB in float32)."""


class Routed(NamedTuple):
    """What routing gives.

    Attributes:
        mu: poses of the wholes, [n, C, 16].
        a_out: activations of the wholes, [n, C], in (0, 1).
        R: share of each part that goes to each whole, [n, I, C]; sums to 1 over C.
        Q: the weights of the last M-step, [n, I, C].
    """

    mu: Tensor
    a_out: Tensor
    R: Tensor
    Q: Tensor


def votes(poses: Tensor, weight: Tensor) -> Tensor:
    """``V[n, i, c] = P[n, i] W[i, c]``.

    Args:
        poses: [n, I, 16].
        weight: [I, C, 4, 4], shared by all positions.

    Returns:
        [n, I, C, 16].
    """
    return torch.einsum("nirk,icks->nicrs", poses.unflatten(-1, (4, 4)), weight).flatten(-2)


def assignment(R: Tensor, a: Tensor, eps: float, compat: bool) -> Tensor:
    """``Q = R a``, [n, I, C]; with ``compat`` divided by its sum over the wholes, which cancels ``a``."""
    Q = R * a[..., None]
    return Q / (Q.sum(-1, keepdim=True) + eps) if compat else Q


def em_routing(
    V: Tensor,
    a: Tensor,
    beta_u: Tensor,
    beta_a: Tensor,
    *,
    iters: int = 3,
    lam: float = 1e-3,
    eps: float = 1e-8,
    compat: bool = False,
) -> Routed:
    """Routing of given votes, written as the equations are.

    Args:
        V: votes [n, I, C, h].
        a: activations of the parts [n, I], in [0, 1]; a part with 0 has no say.
        beta_u: cost of describing a part by a whole, [C].
        beta_a: cost of a whole being there, [C].
        iters: EM iterations, >= 1.
        lam: inverse temperature of the wholes' activation.
        eps: keeps divisions finite.
        compat: the published normalisation of ``Q``.
    """
    R = V.new_full(V.shape[:3], 1.0 / V.shape[2])
    Q, mu, a_out = _m_step(V, R, a, beta_u, beta_a, lam, eps, compat)
    for _ in range(iters - 1):
        R = _e_step(V, mu, a_out)
        Q, mu, a_out = _m_step(V, R, a, beta_u, beta_a, lam, eps, compat)
    return Routed(mu.mean, a_out.sigmoid(), R, Q)


class _Gauss(NamedTuple):
    mean: Tensor
    s2: Tensor


def _m_step(
    V: Tensor, R: Tensor, a: Tensor, beta_u: Tensor, beta_a: Tensor, lam: float, eps: float, compat: bool
) -> tuple[Tensor, _Gauss, Tensor]:
    """The wholes that the parts vote for: Q, mean and variance [n, C, h], logit of the activation [n, C]."""
    Q = assignment(R, a, eps, compat)
    S = Q.sum(1)
    w = (Q / (S[:, None] + eps))[..., None]
    mu = (w * V).sum(1)
    s2 = (w * (V - mu[:, None]).square()).sum(1) + eps
    cost = S * (V.shape[-1] * beta_u + 0.5 * s2.log().sum(-1))
    return Q, _Gauss(mu, s2), lam * (beta_a - cost)


def _e_step(V: Tensor, gauss: _Gauss, logit: Tensor) -> Tensor:
    """How well each whole explains each part's vote: R [n, I, C]."""
    distance = ((V - gauss.mean[:, None]).square() / gauss.s2[:, None]).sum(-1)
    normal = -0.5 * (distance + (gauss.s2.log() + LN_2PI).sum(-1)[:, None])
    return (normal + torch.nn.functional.logsigmoid(logit)[:, None]).softmax(-1)


def route(
    poses: Tensor,
    a: Tensor,
    weight: Tensor,
    beta_u: Tensor,
    beta_a: Tensor,
    *,
    iters: int = 3,
    lam: float = 1e-3,
    eps: float = 1e-8,
    compat: bool = False,
    fused: bool = True,
    block: int = BLOCK,
) -> Routed:
    """`em_routing` of ``P W``, without holding more than ``block`` votes.

    Half precision, given or by autocast, is widened to float32: what comes out is float32 or float64.

    Args:
        poses: [n, I, 16].
        a: [n, I], in [0, 1].
        weight: [I, C, 4, 4].
        beta_u: [C].
        beta_a: [C].
        iters: EM iterations, >= 1.
        lam: inverse temperature of the wholes' activation.
        eps: keeps divisions finite.
        compat: the published normalisation of ``Q``.
        fused: False holds all votes and can be differentiated twice.
        block: votes held at once, in numbers.
    """
    wide = torch.promote_types(poses.dtype, torch.float32)
    poses, a, weight, beta_u, beta_a = (x.to(wide) for x in (poses, a, weight, beta_u, beta_a))
    with torch.autocast(poses.device.type, enabled=False):
        if not fused:
            V = votes(poses, weight)
            return em_routing(V, a, beta_u, beta_a, iters=iters, lam=lam, eps=eps, compat=compat)
        plan = _Plan(iters, lam, eps, compat, _rows(len(poses), 16 * poses.shape[1] * weight.shape[1], block))
        mu, a_out, R = _Route.apply(poses, a, weight, beta_u, beta_a, plan)
        return Routed(mu, a_out, R, assignment(R, a, eps, compat))


def _rows(count: int, each: int, block: int) -> int:
    """Positions per block: blocks of equal size, none above ``block`` numbers."""
    parts = max(1, math.ceil(count * each / block))
    return max(1, math.ceil(count / parts))


class _Plan(NamedTuple):
    iters: int
    lam: float
    eps: float
    compat: bool
    rows: int


class _Step(NamedTuple):
    """What one iteration leaves for the backward pass: [I, C, n], [16, C, n], [16, C, n]."""

    R: Tensor
    mu: Tensor
    s2: Tensor


class _Weights(NamedTuple):
    """From one iteration's R: its sum over wholes, Q, its sum over parts, ``w``."""

    total: Tensor
    Q: Tensor
    S: Tensor
    w: Tensor


def _weights(R: Tensor, a: Tensor, plan: _Plan) -> _Weights:
    raw = R * a[:, None]
    total = raw.sum(1, keepdim=True) + plan.eps
    Q = raw / total if plan.compat else raw
    S = Q.sum(0)
    return _Weights(total, Q, S, Q / (S + plan.eps))


class _Route(torch.autograd.Function):
    """Blocks of positions; V is [I, 16, C, n], so that every broadcast and sum runs over long rows."""

    @staticmethod
    def forward(
        ctx: Any, poses: Tensor, a: Tensor, weight: Tensor, beta_u: Tensor, beta_a: Tensor, plan: _Plan
    ) -> tuple[Tensor, Tensor, Tensor]:
        kept: list[list[_Step]] = []
        outs = []
        right, left = _right(weight), _left(poses)
        for at in range(0, max(1, len(poses)), plan.rows):
            act = a[at : at + plan.rows].T.contiguous()
            steps, logit = _block_forward(
                _block_votes(left[..., at : at + plan.rows], right), act, beta_u, beta_a, plan
            )
            outs.append((steps[-1].mu.permute(2, 1, 0), logit.sigmoid().T, steps[-1].R.permute(2, 0, 1)))
            kept.append(steps)
        ctx.plan, ctx.kept = plan, kept if any(ctx.needs_input_grad) else []
        ctx.save_for_backward(poses, a, weight, beta_u, beta_a)
        mu, a_out, R = (torch.cat(parts) for parts in zip(*outs, strict=True))
        return mu, a_out, R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grads[0].device.type, enabled=False):
            return (*_route_backward(ctx, *grads), None)


def _route_backward(ctx: Any, g_mu: Tensor, g_a: Tensor, g_R: Tensor) -> tuple[Tensor, ...]:
    """Gradients to poses, activations, vote weights and both betas, block by block."""
    poses, a, weight, beta_u, beta_a = ctx.saved_tensors
    right, left, rows = _right(weight), _left(poses), ctx.plan.rows
    g_left, g_act = torch.empty_like(left), torch.empty_like(a)
    g_right, g_u, g_b = torch.zeros_like(right), torch.zeros_like(beta_u), torch.zeros_like(beta_a)
    for number, steps in enumerate(ctx.kept):
        here = slice(number * rows, (number + 1) * rows)
        act, near = a[here].T.contiguous(), left[..., here]
        g_out = (g_mu[here].permute(2, 1, 0), g_a[here].T, g_R[here].permute(1, 2, 0))
        V = _block_votes(near, right)
        g_V, g_block, du, db = _block_backward(V, act, beta_u, beta_a, steps, g_out, ctx.plan)
        flat = g_V.view(*right.shape[:2], near.shape[-1])
        g_right.baddbmm_(flat, near.transpose(1, 2))
        g_left[..., here] = torch.bmm(right.transpose(1, 2), flat)
        g_act[here] = g_block.T
        g_u += du
        g_b += db
    parts, wholes = weight.shape[:2]
    g_poses = g_left.view(parts, 4, 4, len(poses)).permute(3, 0, 1, 2).flatten(2)
    g_weight = g_right.view(parts, 4, 4, wholes, 4).sum(1).permute(0, 2, 3, 1)
    return g_poses, g_act, g_weight, g_u, g_b


def _right(weight: Tensor) -> Tensor:
    """[I, C, k, s] to [(I, r), (s, C), k], the same for every r."""
    return weight.permute(0, 3, 1, 2).flatten(1, 2)[:, None].repeat(1, 4, 1, 1).flatten(0, 1)


def _left(poses: Tensor) -> Tensor:
    """[n, I, (r, k)] to [(I, r), k, n]."""
    return poses.permute(1, 2, 0).unflatten(1, (4, 4)).flatten(0, 1).contiguous()


def _block_votes(left: Tensor, right: Tensor) -> Tensor:
    """[I, (r, s), C, n]."""
    parts, wholes = len(right) // 4, right.shape[1] // 4
    return torch.bmm(right, left).view(parts, 16, wholes, left.shape[-1])


def _logit(S: Tensor, s2: Tensor, beta_u: Tensor, beta_a: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Logit of the activation [C, n], and the cost per unit of S [C, n]."""
    unit = 16.0 * beta_u[:, None] + 0.5 * s2.log().sum(0)
    return lam * (beta_a[:, None] - S * unit), unit


def _block_forward(
    V: Tensor, a: Tensor, beta_u: Tensor, beta_a: Tensor, plan: _Plan
) -> tuple[list[_Step], Tensor]:
    """All iterations of one block; returns what each leaves, and the last logit [C, n]."""
    R = V.new_full((V.shape[0], *V.shape[2:]), 1.0 / V.shape[2])
    D, tmp = torch.empty_like(V), torch.empty_like(V)
    steps = []
    for t in range(plan.iters):
        weights = _weights(R, a, plan)
        w = weights.w[:, None]
        mu = torch.mul(V, w, out=tmp).sum(0)
        torch.sub(V, mu, out=D).mul_(D)
        s2 = torch.mul(D, w, out=tmp).sum(0).add_(plan.eps)
        logit, _ = _logit(weights.S, s2, beta_u, beta_a, plan.lam)
        steps.append(_Step(R, mu, s2))
        if t < plan.iters - 1:
            near = D.mul_(s2.reciprocal()).sum(1)
            base = torch.nn.functional.logsigmoid(logit) - 0.5 * s2.log().sum(0)
            R = near.mul_(-0.5).add_(base).softmax(1)
    return steps, logit


def _block_backward(
    V: Tensor,
    a: Tensor,
    beta_u: Tensor,
    beta_a: Tensor,
    steps: list[_Step],
    g_out: tuple[Tensor, Tensor, Tensor],
    plan: _Plan,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of one block to V, a, beta_u, beta_a; the iterations in reverse."""
    g_mean, g_aout, g_R = g_out
    g_V, g_a = torch.zeros_like(V), torch.zeros_like(a)
    g_u, g_b = torch.zeros_like(beta_u), torch.zeros_like(beta_a)
    D, D2, tmp = torch.empty_like(V), torch.empty_like(V), torch.empty_like(V)
    g_L: Tensor | None = None
    for t in reversed(range(plan.iters)):
        R, mu, s2 = steps[t]
        weights = _weights(R, a, plan)
        logit, unit = _logit(weights.S, s2, beta_u, beta_a, plan.lam)
        torch.mul(torch.sub(V, mu, out=D), D, out=D2)
        off = (-logit).sigmoid()
        if g_L is None:
            g_logit, g_s2 = g_aout * off * (1.0 - off), torch.zeros_like(s2)
        else:
            total = g_L.sum(0)
            g_logit = total * off
            g_s2 = 0.5 * (torch.mul(D2, g_L[:, None], out=tmp).sum(0) / s2 - total) / s2
        g_S = g_logit * weights.S
        g_u -= 16.0 * plan.lam * g_S.sum(1)
        g_b += plan.lam * g_logit.sum(1)
        g_s2 -= 0.5 * plan.lam * g_S / s2
        w = weights.w[:, None]
        torch.mul(w, 2.0 * g_s2, out=tmp)
        if g_L is not None:
            tmp.addcmul_(g_L[:, None], s2.reciprocal(), value=-1.0)
        g_V += tmp.mul_(D)
        g_mean = g_mean - tmp.sum(0)
        g_V.addcmul_(w, g_mean)
        g_w = D2.mul_(g_s2).sum(1) + torch.mul(V, g_mean, out=D).sum(1)
        g_raw = _weights_backward(g_w, -plan.lam * g_logit * unit, weights, plan)
        g_a += (g_raw * R).sum(1)
        if t > 0:
            g_R = g_raw * a[:, None] + g_R
            g_L = R * (g_R - (g_R * R).sum(1, keepdim=True))
            g_mean, g_R = torch.zeros_like(mu), torch.zeros_like(R)
    return g_V, g_a, g_u, g_b


def _weights_backward(g_w: Tensor, g_S: Tensor, weights: _Weights, plan: _Plan) -> Tensor:
    """Gradient to ``R a`` [I, C, n] from those of ``w`` [I, C, n] and ``S`` [C, n]."""
    scale = weights.S + plan.eps
    g_Q = g_w / scale + (g_S - (g_w * weights.w).sum(0) / scale)
    if not plan.compat:
        return g_Q
    return (g_Q - (g_Q * weights.Q).sum(1, keepdim=True)) / weights.total


__all__ = ["Routed", "assignment", "em_routing", "route", "votes"]
