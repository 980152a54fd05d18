"""RAMLN: a quadruplet loss whose margin comes from a meta-learned network with an external memory.

Paper: "Relation-Aware Meta-Learning for Zero-shot Sketch-Based Image Retrieval", arXiv 2412.00120,
IEEE TCSVT 35(12), 2025. Written from its abstract and the loss it states, beside the common parts of its
field; the figures of this library are its own.

Equations, for an anchor a, D the Euclidean distance of unit vectors (in [0, 2]):
    (1) v = D(a, p) - (1 - lam) D(a, n1) - lam D(a, n2) + mu        `relation`
        p of the other modality and the same class, n1 of the anchor's modality, n2 of the other  `mine`
    (2) L = mean phi(v), phi the hinge or (1/beta) log(1 + exp(beta v))                            `penalty`
    (3) read of the memory M: r = softmax(cos(q, M) / tau) M                                       `Memory`
    (4) mu = mu0 + kappa (h - mean h), h = tanh g([q, r, D(a,p), D(a,n1), D(a,n2), t])             `MarginNet`
    (5) H' = H - alpha dL_in/dH on one set of classes; the margin network descends
        L_out(H') on a disjoint set, a margin-free ranking loss                                    `meta_loss`
    (6) total: L + gamma CE(s cos(z, W))

Differences from the paper, and the switch that undoes each:
    1. What the paper leaves unreadable is chosen here: batch-hard mining, softplus, sizes, equation (5).
    2. The margin's mean over the batch is fixed at mu0 (``budget=False`` lets it move): a free margin
       falls to its floor, since a shorter margin always helps one step ahead.
    3. The default margin is fixed (``margin="fixed"``); the learned one is ``margin="meta"``. The ledger has
       the figures that this choice rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, relu, softplus

from wildsight.errors import ConfigError

MARGINS = ("fixed", "meta", "joint", "shuffled")
PENALTIES = ("softplus", "hinge")
MODES = ("quad", "quad+intra", "triplet")


@dataclass(frozen=True)
class RAMLNConfig:
    """Hyper-parameters, with the paper's symbols where it names them.

    Attributes:
        mode: ``quad`` (1), ``triplet`` (n2 alone) or ``quad+intra`` (adds a positive of the same modality).
        margin: ``fixed``, ``meta`` (5), ``joint`` (the margin network descends the loss itself) or
            ``shuffled`` (meta, then permuted in the batch: the control).
        lam: weight of the negative of the other modality, in [0, 1].
        mu0: margin, or its mean, > 0.
        kappa: half range of the learned margin about its mean.
        floor, ceiling: limits of a learned margin.
        penalty: ``softplus`` or ``hinge``.
        beta: sharpness of the softplus.
        gamma: weight of the cross-entropy.
        scale: inverse temperature of the classifier's cosines.
        budget: whether a batch's mean margin is held at ``mu0``.
        memory: number of slots; 0 takes the memory away.
        tau: temperature of the read.
        theta: cosine from which a feature is merged into its slot.
        eta: rate of that merge.
        inner_lr: step of the inner update, alpha of (5).
        meta_lr_scale: the margin network's learning rate, relative to the encoder's.
        warmup: share of the iterations before the margin is learned, in [0, 1).
        meta_every: iterations between two meta steps.
    """

    mode: str = "quad"
    margin: str = "fixed"
    lam: float = 0.5
    mu0: float = 0.2
    kappa: float = 0.15
    floor: float = 0.02
    ceiling: float = 0.6
    penalty: str = "softplus"
    beta: float = 20.0
    gamma: float = 1.0
    scale: float = 10.0
    budget: bool = True
    memory: int = 1024
    tau: float = 0.1
    theta: float = 0.6
    eta: float = 0.1
    inner_lr: float = 0.1
    meta_lr_scale: float = 3.0
    warmup: float = 0.2
    meta_every: int = 1

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("margin", MARGINS), ("penalty", PENALTIES)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}={getattr(self, name)!r}", hint=f"use one of {', '.join(known)}")
        positive = ("mu0", "beta", "scale", "tau", "inner_lr", "meta_lr_scale")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}", hint="give a number above 0")
        for name in ("lam", "eta", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}", hint="give a share from 0 to 1")
        if self.memory < 0 or self.meta_every < 1:
            raise ConfigError("memory or meta_every is negative", hint="give memory >= 0, meta_every >= 1")


class Mined(NamedTuple):
    """Indices [B] of the quadruplets, and ``valid`` [B]: anchors that have all of their parts."""

    positive: Tensor
    same: Tensor
    other: Tensor
    intra: Tensor
    valid: Tensor


def distances(one: Tensor, two: Tensor) -> Tensor:
    """Euclidean distances [A, B] of unit vectors [A, d], [B, d]; the gradient at 0 is finite."""
    return (2.0 - 2.0 * one @ two.T).clamp_min(1e-12).sqrt()


@torch.no_grad()
def mine(away: Tensor, label: Tensor, modality: Tensor) -> Mined:
    """The hardest of each kind in the batch, for every anchor.

    Args:
        away: [B, B] distances.
        label: [B] class numbers.
        modality: [B] 0 for sketches, 1 for photos.
    """
    alike, same = label[:, None] == label[None], modality[:, None] == modality[None]
    itself = torch.eye(len(label), dtype=torch.bool, device=away.device)
    kinds = (alike & ~same, ~alike & same, ~alike & ~same, alike & same & ~itself)
    far = [away.masked_fill(~kind, -torch.inf).argmax(1) for kind in (kinds[0], kinds[3])]
    near = [away.masked_fill(~kind, torch.inf).argmin(1) for kind in kinds[1:3]]
    valid = kinds[0].any(1) & kinds[1].any(1) & kinds[2].any(1)
    return Mined(far[0], near[0], near[1], torch.where(kinds[3].any(1), far[1], far[0]), valid)


def relation(positive: Tensor, same: Tensor, other: Tensor, margin: Tensor | float, lam: float) -> Tensor:
    """Equation (1), v [B], from the distances to the positive and the two negatives.

    >>> v = relation(*(torch.tensor([x]) for x in (0.5, 0.9, 0.7)), 0.3, 0.25)
    >>> round(v.item(), 4)
    -0.05
    """
    return positive - (1.0 - lam) * same - lam * other + margin


def penalty(v: Tensor, kind: str, beta: float) -> Tensor:
    """Equation (2), elementwise: the hinge, or its smooth form."""
    return relu(v) if kind == "hinge" else softplus(beta * v) / beta


def parts(away: Tensor, mined: Mined) -> tuple[Tensor, Tensor, Tensor]:
    """Distances [B] to the positive, the negative of the same and that of the other modality."""
    row = torch.arange(len(away), device=away.device)
    return away[row, mined.positive], away[row, mined.same], away[row, mined.other]


def quadruplet_loss(away: Tensor, mined: Mined, margin: Tensor | float, config: RAMLNConfig) -> Tensor:
    """Mean penalty over the valid anchors; 0 when there is none.

    Args:
        away: [B, B] distances, with gradient.
        mined: what `mine` chose.
        margin: [B] or a number.
        config: mode, ``lam`` and the penalty.
    """
    positive, same, other = parts(away, mined)
    lam = 1.0 if config.mode == "triplet" else config.lam
    values = penalty(relation(positive, same, other, margin, lam), config.penalty, config.beta)
    if config.mode == "quad+intra":
        row = torch.arange(len(away), device=away.device)
        nearer = relation(away[row, mined.intra], same, other, margin, lam)
        values = values + penalty(nearer, config.penalty, config.beta)
    weight = mined.valid.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1.0)


class Memory(nn.Module):
    """Unit features of the past [m, d] with their ages [m]; read softly, written without gradient."""

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        start = torch.randn(slots, width, generator=torch.Generator().manual_seed(slots))
        self.slots: Tensor
        self.age: Tensor
        self.register_buffer("slots", normalize(start, dim=1))
        self.register_buffer("age", torch.zeros(slots, dtype=torch.long))

    @torch.no_grad()
    def read(self, query: Tensor, tau: float) -> Tensor:
        """Equation (3): [B, d] for unit queries [B, d]."""
        return torch.softmax(query @ self.slots.T / tau, dim=1) @ self.slots

    @torch.no_grad()
    def write(self, features: Tensor, theta: float, eta: float) -> None:
        """Merge each unit feature [B, d] into its nearest slot, or put it in place of the oldest.

        One after the other: what an earlier feature changed, a later one sees.
        """
        for feature in features:
            best, place = (self.slots @ feature).max(0)
            nearest = int(place)
            if float(best) >= theta:
                self.slots[nearest] = normalize((1 - eta) * self.slots[nearest] + eta * feature, dim=0)
            else:
                nearest = int(self.age.argmax())
                self.slots[nearest] = feature
            self.age += 1
            self.age[nearest] = 0


class MarginNet(nn.Module):
    """Equation (4): a margin [B] for every anchor, from its relation to the batch and the memory.

    Args:
        width: d of the embedding.
        config: ``mu0``, ``kappa``, limits, ``budget`` and the memory's settings.
    """

    def __init__(self, width: int, config: RAMLNConfig) -> None:
        super().__init__()
        self.config = config
        self.memory = Memory(config.memory, width) if config.memory else None
        self.net = nn.Sequential(nn.Linear((2 if config.memory else 1) * width + 4, 64), nn.ReLU())
        self.last = nn.Linear(64, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, z: Tensor, away: Tensor, mined: Mined, modality: Tensor) -> Tensor:
        """Margins of unit embeddings ``z`` [B, d]; nothing flows back into ``z``."""
        query = z.detach()
        seen = [query] if self.memory is None else [query, self.memory.read(query, self.config.tau)]
        facts = torch.stack([*(p.detach() for p in parts(away, mined)), modality.to(query.dtype)], dim=1)
        return self.bounded(torch.tanh(self.last(self.net(torch.cat([*seen, facts], dim=1)))[:, 0]))

    def bounded(self, h: Tensor) -> Tensor:
        """Margins from h in [-1, 1]: about ``mu0`` within the budget, or free between the limits."""
        c = self.config
        if c.budget:
            return (c.mu0 + c.kappa * (h - h.mean())).clamp(c.floor, c.ceiling)
        return c.floor + (c.ceiling - c.floor) * (h + 1) / 2


def info_nce(z: Tensor, label: Tensor, modality: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-modal ranking loss without a margin; every item of the other modality is a candidate."""
    other = modality[:, None] != modality[None]
    scores = (z @ z.T / temperature).masked_fill(~other, -torch.inf)
    positive = other & (label[:, None] == label[None])
    chance = (scores - scores.logsumexp(1, keepdim=True)).masked_fill(~positive, 0.0)
    has = positive.any(1)
    return -(chance.sum(1) / positive.sum(1).clamp_min(1))[has].mean()


def class_loss(z: Tensor, label: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """Cross-entropy of scaled cosines to class vectors [C, d]."""
    return cross_entropy(scale * z @ normalize(prototypes, dim=1).T, label)


def meta_loss(
    trunk: tuple[Tensor, Tensor],
    label: tuple[Tensor, Tensor],
    modality: tuple[Tensor, Tensor],
    head: tuple[Tensor, Tensor],
    prototypes: Tensor,
    margin_net: MarginNet,
    config: RAMLNConfig,
) -> Tensor:
    """Equation (5): the outer loss after one inner step, with its graph into the margin network alone.

    Args:
        trunk: features [B, k] of the inner and of the outer classes, without gradient.
        label: class numbers [B] of both; the two sets are disjoint.
        modality: [B] of both.
        head: weight [d, k] and bias [d] of the last layer.
        prototypes: class vectors [C, d].
        margin_net: the network that learns.
        config: penalty, ``lam`` and ``inner_lr``.
    """
    weight, bias = (h.detach().requires_grad_() for h in head)
    z = normalize(trunk[0] @ weight.T + bias, dim=1)
    away = distances(z, z)
    mined = mine(away, label[0], modality[0])
    margin = margin_net(z, away, mined, modality[0])
    inner = quadruplet_loss(away, mined, margin, config)
    inner = inner + config.gamma * class_loss(z, label[0], prototypes.detach(), config.scale)
    slope: Any = torch.autograd.grad(inner, (weight, bias), create_graph=True)
    moved = weight - config.inner_lr * slope[0], bias - config.inner_lr * slope[1]
    return info_nce(normalize(trunk[1] @ moved[0].T + moved[1], dim=1), label[1], modality[1])
