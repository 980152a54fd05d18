"""MulKI: multi-stage knowledge integration, reconstructed.

Paper: 2411.06764 (IEEE TIP 35, 2026). Four stages, two teachers (the first model and the one before the
task), prototypes, no outside data, no stored pictures. Only its abstract, keywords and an outline could be
read: the stages are the paper's, every formula of them is a reconstruction, and no score is claimed as its
reproduction.

Equations, N row normalisation, sg stop-gradient, s CLIP's scale, tau the distillation temperature:

- task: ``L_ce = CE(s f G^T, y)``, label smoothing 0.2, G read anew each step from the training template.
- 1 Eliciting: ``P_c = N(mean f_0)`` of class c; each step ``Pt_c = N(mu sg(P_c) + (1 - mu) mean f)`` for the
  classes in the batch, ``P <- sg(Pt)``; ``L_csa = (CE(s Pt G^T, I) + CE(s G Pt^T, I)) / 2``.
- 2 Adding, for teacher m: ``l_fd = 1 - <f, f_m>``, ``l_fdt = mean_c 1 - <G_c, G_m,c>``, and tau^2 KL of
  teacher against student for picture to prototypes (``l_vv``), picture to texts (``l_vt``), prototypes to
  texts (``l_pt``).
- 3 Distinguishing: ``w_m(x) = softmax_m(-CE(s f_m G_m^T, y) / kappa)``.
- ``L_kd = mean_x sum_m w_m (a l_fd + b l_vv + c l_vt) + sum_m mean(w_m) (a l_fdt + d l_pt)``.
- 4 Connecting: running mean of the weights every ``avg_freq`` steps, then ``alpha mean + (1 - alpha)
  previous``.
- total: ``L = L_ce + l1 L_csa + l2 L_kd``.

Differences: 1. the teachers see the test view, not the student's crop, so that their features are computed
once (``teacher_view="exact"`` undoes it). 2. ``avg_freq`` counts at most ten snapshots on short tasks
(``avg_freq`` fixed undoes it). 3. features are distilled and relations are not, ``b = c = d = 0``, as one
task and two small towers advise (see the ledger; ``.25`` each, or the method ``mulki-specified``, undoes it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from wildsight.continual.distillation_targets import DistillationTargets
from wildsight.continual.methods import METHODS, ContinualMethod
from wildsight.continual.objective import SMOOTHING, Objective, StudentBatch, Weights, blended, task_loss
from wildsight.continual.settings import ranged
from wildsight.errors import ConfigError

RULES = ("label_ce", "entropy", "discrepancy", "uniform", "zs_only", "prev_only")
SNAPSHOTS = 10


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """``N(mean of the rows of class c)``: [K, D] from [N, D]; a zero row for an absent class."""
    total = features.new_zeros(classes, features.shape[1]).index_add(0, labels, features)
    return functional.normalize(total, dim=-1)


def updated_prototypes(prototypes: Tensor, features: Tensor, labels: Tensor, mu: float) -> Tensor:
    """``N(mu sg(P_c) + (1 - mu) mean f)`` for classes in the batch, ``P_c`` for the others; unit rows [K,
    D]."""
    fixed, classes = prototypes.detach(), len(prototypes)
    counts = torch.bincount(labels, minlength=classes).to(features)[:, None]
    total = torch.zeros_like(fixed).index_add(0, labels, features)
    moved = functional.normalize(mu * fixed + (1 - mu) * total / counts.clamp(min=1), dim=-1)
    return torch.where(counts > 0, moved, fixed)


def cross_space_alignment(prototypes: Tensor, text: Tensor, scale: float) -> Tensor:
    """``L_csa``: symmetric contrastive loss of prototypes and texts, both [K, D]."""
    logits = scale * prototypes @ text.T
    target = torch.arange(len(text), device=text.device)
    there, back = functional.cross_entropy(logits, target), functional.cross_entropy(logits.T, target)
    return (there + back) / 2


def relation(teachers: Sequence[Tensor], weights: Sequence[Tensor], student: Tensor, tau: float) -> Tensor:
    """``sum_m w_m tau^2 KL(softmax(t_m / tau) || softmax(s / tau))`` per row of logit matrices: [B].

    The student's softmax is the same for all teachers and is taken once: the sum over m is that of
    ``w_m <p_m, log p_m>`` minus ``<sum_m w_m p_m, log q>``.

    Args:
        teachers: logits [B, K] of each, without gradient.
        weights: w_m of each, [B] or a scalar.
        student: logits [B, K].
        tau: temperature.
    """
    entropy, blend = student.new_zeros(()), torch.zeros_like(student)
    with torch.no_grad():
        for logits, weight in zip(teachers, weights, strict=True):
            target = (logits / tau).log_softmax(-1)
            share = weight[..., None] * target.exp()
            blend, entropy = blend + share, entropy + (share * target).sum(-1)
    return tau * tau * (entropy - (blend * (student / tau).log_softmax(-1)).sum(-1))


def gap(teachers: Sequence[Tensor], weights: Sequence[Tensor], student: Tensor) -> Tensor:
    """``sum_m w_m (1 - <f, f_m>)`` per unit row: [B]."""
    with torch.no_grad():
        blend = torch.stack([w[..., None] * t for w, t in zip(weights, teachers, strict=True)]).sum(0)
        total = torch.stack(list(weights)).sum(0)
    return total - (student * blend).sum(-1)


def errors_of(image: Tensor, text: Tensor, labels: Tensor, scale: float, rule: str) -> Tensor:
    """``e_m(x)``: cross-entropy with the label, or the entropy of the prediction: [B]."""
    logits = scale * image @ text.T
    if rule == "label_ce":
        return functional.cross_entropy(logits, labels, reduction="none")
    given = logits.log_softmax(-1)
    return -(given.exp() * given).sum(-1)


def teacher_weights(
    zero: tuple[Tensor, Tensor],
    previous: tuple[Tensor, Tensor],
    labels: Tensor,
    scale: float,
    rule: str,
    kappa: float,
) -> Tensor:
    """``w(x)``: weights of (first, previous) teacher, rows sum to 1, no gradient: [B, 2].

    Args:
        zero, previous: (image rows [B, D], text rows [K, D]) of each teacher.
        labels: [B].
        scale: s.
        rule: one of `RULES`.
        kappa: temperature; towards 0 the teacher with the lower error takes all.
    """
    with torch.no_grad():
        half = zero[0].new_full((len(labels), 2), 0.5)
        if rule == "uniform":
            return half
        if rule in ("zs_only", "prev_only"):
            return half.new_tensor([1.0, 0.0] if rule == "zs_only" else [0.0, 1.0]).expand_as(half)
        if rule == "discrepancy":
            share = torch.sigmoid(6 * ((zero[0] - previous[0]).norm(dim=-1) - 0.2))
            return torch.stack([1 - share, share], -1)
        gaps = [errors_of(*teacher, labels, scale, rule) for teacher in (zero, previous)]
        return (-torch.stack(gaps, -1) / kappa).softmax(-1)


@dataclass(frozen=True)
class Views:
    """Unit rows of one model on one batch: ``image`` [B, D] and ``text`` [K, D]."""

    image: Tensor
    text: Tensor


def knowledge_loss(
    student: Views, teachers: list[tuple[Views, Tensor]], prototypes: Tensor, scale: float, config: MulKI
) -> Tensor:
    """``L_kd`` of stages 2 and 3.

    Args:
        student: with gradient.
        teachers: each with its weight per picture [B].
        prototypes: P, shared by all models, [K, D].
        scale: s.
        config: a, b, c, d and tau.
    """
    views, weights = [v for v, _ in teachers], [w for _, w in teachers]
    means, tau, fixed = [w.mean() for w in weights], config.tau, scale * prototypes.T
    total = student.image.new_zeros(())
    if config.a:
        total = total + config.a * gap([v.image for v in views], weights, student.image).mean()
        total = total + config.a * gap([v.text for v in views], means, student.text).mean()
    if config.b:
        logits = [v.image @ fixed for v in views]
        total = total + config.b * relation(logits, weights, student.image @ fixed, tau).mean()
    if config.c:
        logits = [scale * v.image @ v.text.T for v in views]
        answers = scale * student.image @ student.text.T
        total = total + config.c * relation(logits, weights, answers, tau).mean()
    if config.d:
        logits = [fixed.T @ v.text.T for v in views]
        total = total + config.d * relation(logits, means, fixed.T @ student.text.T, tau).mean()
    return total


class MulKIObjective(Objective):
    """The four stages on one task. The prototypes are buffers: part of the state of a killed task."""

    needs: ClassVar[frozenset[str]] = frozenset()
    config: MulKI
    prototypes: Tensor
    start: Tensor

    def __init__(self, config: MulKI, targets: DistillationTargets) -> None:
        super().__init__(config, targets)
        every = config.avg_freq
        if every is None:
            every = max(1, min(100, targets.steps // SNAPSHOTS))
        self.average_every = every or None
        self.shares: Tensor | None = None
        start = class_means(targets.zero_image, targets.labels, targets.classes)
        self.register_buffer("start", start)
        self.register_buffer("prototypes", start.clone())

    def forward(self, batch: StudentBatch) -> dict[str, Tensor]:
        """``L = L_ce + l1 L_csa + l2 L_kd``; moves the prototypes on."""
        config, scale = self.config, self.targets.scale
        before = self.prototypes
        moved = updated_prototypes(before, batch.image, batch.labels, config.mu)
        if self.training:
            self.prototypes = moved.detach()
        task = task_loss(batch.image, batch.text, batch.labels, scale, config.smoothing)
        alignment = cross_space_alignment(moved, batch.text, scale)
        knowledge = knowledge_loss(
            Views(batch.image, batch.text), self._teachers(batch), before.detach(), scale, config
        )
        loss = task + config.l1 * alignment + config.l2 * knowledge
        return {"loss": loss, "task": task, "csa": alignment, "kd": knowledge}

    def _teachers(self, batch: StudentBatch) -> list[tuple[Views, Tensor]]:
        zero = Views(batch.zero_image, self.targets.zero_text.to(batch.text))
        if self.targets.first:  # the teachers coincide: one pass, w = (1, 0)
            return [(zero, torch.ones_like(batch.labels, dtype=batch.image.dtype))]
        previous = Views(batch.previous_image, self.targets.previous_text.to(batch.text))
        weights = (
            self._weights(zero, previous, batch.labels)
            if self.targets.live
            else self._cached_weights(batch.index)
        )
        return [(zero, weights[:, 0]), (previous, weights[:, 1])]

    def _cached_weights(self, index: Tensor) -> Tensor:
        """Stage 3's weights of a batch: of cached teachers they are the same in every step."""
        if self.shares is None:
            self.shares = self.teacher_weights()
        return self.shares[index.to(self.shares.device)].to(self.prototypes.device)

    def _weights(self, zero: Views, previous: Views, labels: Tensor) -> Tensor:
        return teacher_weights(
            (zero.image, zero.text),
            (previous.image, previous.text),
            labels,
            self.targets.scale,
            self.config.weights,
            self.config.kappa,
        )

    def merged(self, before: Weights, after: Weights) -> Weights:
        """Stage 4 across tasks: ``alpha after + (1 - alpha) before``."""
        return blended(before, after, self.config.alpha)

    def teacher_weights(self) -> Tensor:
        """Stage 3's weights of every training picture."""
        targets = self.targets
        if targets.first:
            return torch.tensor([[1.0, 0.0]]).repeat(len(targets.labels), 1)
        zero = Views(targets.zero_image, targets.zero_text)
        return self._weights(zero, Views(targets.previous_image, targets.previous_text), targets.labels)

    def drift(self) -> Tensor:
        """Cosine of each prototype with its start."""
        return (self.prototypes * self.start).sum(-1).cpu()


@METHODS.register("mulki")
@dataclass(frozen=True)
class MulKI(ContinualMethod):
    """MulKI with its hyper-parameters, by the symbols of the equations above."""

    title = "MulKI"
    objective = MulKIObjective

    mu: float = 0.9
    """Memory of the prototypes, in [0, 1]; 1 freezes them."""
    kappa: float = 1.0
    """Temperature of the teacher weights, > 0."""
    tau: float = 2.0
    """Distillation temperature, > 0."""
    l1: float = 1.0
    """Weight of ``L_csa``, >= 0."""
    l2: float = 1.0
    """Weight of ``L_kd``, >= 0."""
    a: float = 5.0
    """Weight of the features, >= 0."""
    b: float = 0.0
    """Weight of the relations of pictures and prototypes, >= 0."""
    c: float = 0.0
    """Weight of the relations of pictures and texts, >= 0."""
    d: float = 0.0
    """Weight of the relations of prototypes and texts, >= 0."""
    alpha: float = 0.8
    """Share of the task's weights in the merge with the previous ones, in [0, 1]."""
    avg_freq: int | None = None
    """Steps between snapshots, 0 for no running mean; None: a tenth of the task, at most 100."""
    weights: str = "label_ce"
    """Rule of the teacher weights, one of `RULES`."""
    smoothing: float = SMOOTHING
    """Label smoothing, in [0, 1)."""

    def __post_init__(self) -> None:
        if self.weights not in RULES:
            raise ConfigError(f"weights={self.weights!r}", hint=f"use one of {', '.join(RULES)}")
        ranged(self, mu="share", alpha="share", smoothing="smoothing", kappa="temperature", tau="positive")
        ranged(self, **dict.fromkeys(("l1", "l2", "a", "b", "c", "d"), "weight"))
        ranged(self, **({} if self.avg_freq is None else {"avg_freq": "steps"}))
