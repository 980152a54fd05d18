"""The losses that NN-GCD and SimGCD are sums of, as functions of tensors.

``u`` is always [2B, d] with unit rows, view-major: rows i and i + B are the two views of picture i.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, log_softmax, relu, softmax

from wildsight.errors import ConfigError

ACTIVATIONS = ("gelu", "rep_relu", "relu", "none")
EPS = 1e-12


def activate(x: Tensor, kind: str) -> Tensor:
    """The projector's last activation.

    Args:
        x: any shape.
        kind: ``gelu`` (min -0.17: only nearly non-negative), ``relu``, ``rep_relu`` (ReLU's value with GELU's
            gradient) or ``none``.

    Raises:
        ConfigError: another kind.
    """
    if kind == "gelu":
        return gelu(x)
    if kind == "relu":
        return relu(x)
    if kind == "rep_relu":
        smooth = gelu(x)
        return smooth + (relu(x) - smooth).detach()
    if kind == "none":
        return x
    raise ConfigError(f"no activation is called {kind!r}", hint=f"use one of {', '.join(ACTIVATIONS)}")


def negative_weights(s: Tensor, negatives: Tensor, m: float, sigma: float) -> Tensor:
    """w_ij proportional to exp(-(s_ij - m)^2 / (2 sigma^2)) over the negatives, mean 1 per row; no gradient.

    Args:
        s: [N, N] cosines.
        negatives: [N, N] bool.
        m, sigma: of the weight; sigma = inf gives w = 1.
    """
    s = s.detach()
    weight = torch.ones_like(s) if math.isinf(sigma) else torch.exp(-((s - m) ** 2) / (2 * sigma**2))
    weight = weight * negatives
    count = negatives.sum(1, keepdim=True)
    return weight * count / weight.sum(1, keepdim=True).clamp_min(EPS)


def nmf_nce(u: Tensor, *, t: float, m: float = 0.1, sigma: float = 1.0) -> Tensor:
    """NMF NCE: InfoNCE whose likely same-class negatives count less. 0 for a single picture.

    -mean_i log( e^(s_ii'/t) / (e^(s_ii'/t) + sum_j w_ij e^(s_ij/t)) ).

    Args:
        u: [2B, d].
        t: temperature.
        m, sigma: of the weights.
    """
    n = len(u)
    if n <= 2:
        return u.sum() * 0.0
    at = torch.arange(n, device=u.device)
    pair = (at + n // 2) % n
    s = u @ u.T
    negatives = torch.ones_like(s, dtype=torch.bool)
    negatives[at, at] = negatives[at, pair] = False
    weight = negative_weights(s, negatives, m, sigma)
    scores = (s / t + weight.clamp_min(EPS).log()).masked_fill(~negatives, -torch.inf)
    positive = (s[at, pair] / t)[:, None]
    return (torch.cat([positive, scores], 1).logsumexp(1) - positive[:, 0]).mean()


def supervised_contrastive(u: Tensor, labels: Tensor, *, temperature: float = 0.07) -> Tensor:
    """SupCon over the views of labelled pictures; 0 where there is none.

    Args:
        u: [2L, d], view-major.
        labels: [L] int64.
        temperature: softmax temperature.
    """
    n = len(u)
    if n == 0:
        return u.sum() * 0.0
    both = labels.repeat(2)
    itself = torch.eye(n, dtype=torch.bool, device=u.device)
    scores = (u @ u.T / temperature).masked_fill(itself, -torch.inf)
    log_share = (scores - scores.logsumexp(1, keepdim=True)).masked_fill(itself, 0.0)
    positives = (both[:, None] == both[None, :]) & ~itself
    return -((log_share * positives).sum(1) / positives.sum(1).clamp_min(1)).mean()


def self_distillation(student: Tensor, teacher: Tensor, *, tau: float, teacher_tau: float) -> Tensor:
    """Cross entropy of each view's student under the other view's teacher, mean over both.

    Args:
        student, teacher: [2B, K] logits, view-major; no gradient reaches the teacher.
        tau, teacher_tau: temperatures.
    """
    q = softmax(teacher.detach() / teacher_tau, 1)
    log_p = log_softmax(student / tau, 1)
    half = len(student) // 2
    crossed = torch.cat([q[half:], q[:half]])
    return -(crossed * log_p).sum(1).mean()


def mean_entropy(student: Tensor, *, tau: float) -> Tensor:
    """log K less the entropy of the mean prediction: >= 0, and 0 where it is uniform.

    Args:
        student: [2B, K] logits.
        tau: temperature.
    """
    mean = softmax(student / tau, 1).mean(0)
    return torch.special.xlogy(mean, mean).sum() + math.log(student.shape[1])


def classification(student: Tensor, labels: Tensor, *, tau: float) -> Tensor:
    """Cross entropy of labelled views [2L, K] under labels [L]; 0 where there is none."""
    return cross_entropy(student / tau, labels.repeat(2)) if len(student) else student.sum() * 0.0


def sparse(matrix: Tensor, beta: float) -> Tensor:
    """R(W) = beta |W|_1 + (1 - beta)(sum of row norms - |W|_F^2), W reshaped to (rows, rest).

    A row of norm r contributes r - r^2: rows below 1/2 shrink and rows above it grow, so over weights the
    term is unbounded below and held by L1 and weight decay alone; over unit rows it is 0.
    """
    rows = matrix.reshape(len(matrix), -1)
    norms = (rows.square().sum(1) + EPS).sqrt()
    return beta * rows.abs().sum() + (1 - beta) * (norms.sum() - rows.square().sum())


def teacher_temperature(epoch: float, *, first: float = 0.07, last: float = 0.04, warm: int = 30) -> float:
    """Linear from ``first`` to ``last`` over ``warm`` epochs, both ends among them, then ``last``.

    >>> teacher_temperature(0), teacher_temperature(29), teacher_temperature(99)
    (0.07, 0.04, 0.04)
    """
    if epoch >= warm - 1:
        return last if warm != 1 or epoch > 0 else first
    return first + (last - first) * epoch / (warm - 1)


def momentum(step: int, total: int) -> float:
    """EMA momentum of the teacher after step 0, 1, ...: 0.999 - 0.3 (cos(pi step / total) + 1) / 2.

    >>> round(momentum(0, 10), 3), round(momentum(10, 10), 3)
    (0.699, 0.999)
    """
    return 0.999 - 0.3 * (math.cos(math.pi * step / max(1, total)) + 1) / 2
