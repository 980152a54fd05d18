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
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu, softplus

from wildsight.estimators.registry import ABOVE_ZERO, UP_TO_ONE, at_least, check_ranges
from wildsight.retrieval.episodes import Episode
from wildsight.retrieval.learner import Learner, Plan, class_loss
from wildsight.retrieval.methods import METHODS, TrainedMethod

Margin = Literal["fixed", "meta", "joint", "shuffled"]


@dataclass(frozen=True, kw_only=True)
class RelationMethod(TrainedMethod):
    """The quadruplet loss with its hyper-parameters, under the paper's symbols where it names them."""

    mode: Literal["quad", "quad+intra", "triplet"] = "quad"
    """``quad`` (1), ``triplet`` (n2 alone) or ``quad+intra`` (adds a positive of the same modality)."""
    margin: Margin = "fixed"
    """``fixed``, ``meta`` (5), ``joint`` (the margin network descends the loss itself) or ``shuffled`` (meta,
    then permuted in the batch: the control)."""
    lam: float = 0.5
    """Weight of the negative of the other modality, in [0, 1]."""
    mu0: float = 0.2
    """Margin, or its mean, > 0."""
    kappa: float = 0.15
    """Half range of the learned margin about its mean."""
    floor: float = 0.02
    """Least learned margin."""
    ceiling: float = 0.6
    """Largest learned margin."""
    penalty: Literal["softplus", "hinge"] = "softplus"
    """Form of (2)."""
    beta: float = 20.0
    """Sharpness of the softplus, > 0."""
    budget: bool = True
    """Whether a batch's mean margin is held at ``mu0``."""
    memory: int = 1024
    """Number of slots; 0 takes the memory away."""
    tau: float = 0.1
    """Temperature of the read, > 0."""
    theta: float = 0.6
    """Cosine from which a feature is merged into its slot."""
    eta: float = 0.1
    """Rate of that merge, in [0, 1]."""
    inner_lr: float = 0.1
    """Step of the inner update, alpha of (5), > 0."""
    meta_lr_scale: float = 3.0
    """The margin network's learning rate, relative to the encoder's, > 0."""
    warmup: float = 0.2
    """Share of the iterations before the margin is learned, in [0, 1]."""
    meta_every: int = 1
    """Iterations between two meta steps, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = dict.fromkeys(("mu0", "beta", "tau", "inner_lr", "meta_lr_scale"), ABOVE_ZERO)
        shares = dict.fromkeys(("lam", "eta", "warmup"), UP_TO_ONE)
        check_ranges(self, **positive, **shares, memory=at_least(0), meta_every=at_least(1))

    def learner(self, plan: Plan, features: Tensor, modality: Tensor) -> RelationLearner:  # noqa: ARG002
        """The quadruplet with this margin."""
        return RelationLearner(plan, self)


@METHODS.register("quadruplet")
@dataclass(frozen=True, kw_only=True)
class Quadruplet(RelationMethod):
    """The paper's loss with a fixed margin."""

    title = "the paper's loss, margin fixed"


@METHODS.register("ramln")
@dataclass(frozen=True, kw_only=True)
class RAMLN(RelationMethod):
    """The paper: a meta-learned margin with memory."""

    title = "RAMLN"

    margin: Margin = "meta"
    """As in `RelationMethod`."""


@METHODS.register("margin-net")
@dataclass(frozen=True, kw_only=True)
class MarginNetAlone(RelationMethod):
    """An ablation: the meta-learned margin without memory."""

    title = "a margin network without memory"

    margin: Margin = "meta"
    """As in `RelationMethod`."""
    memory: int = 0
    """As in `RelationMethod`."""


@METHODS.register("joint")
@dataclass(frozen=True, kw_only=True)
class Joint(RelationMethod):
    """An ablation: the margin network descends the loss itself, so that it can only shrink the margin."""

    title = "a margin network that descends the loss itself"

    margin: Margin = "joint"
    """As in `RelationMethod`."""


@METHODS.register("shuffled")
@dataclass(frozen=True, kw_only=True)
class Shuffled(RelationMethod):
    """The control: RAMLN's margins permuted in the batch."""

    title = "control: RAMLN's margins permuted in the batch"

    margin: Margin = "shuffled"
    """As in `RelationMethod`."""


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


def quadruplet_loss(away: Tensor, mined: Mined, margin: Tensor | float, config: RelationMethod) -> Tensor:
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

    def __init__(self, width: int, config: RelationMethod) -> None:
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


def meta_loss(
    trunk: tuple[Tensor, Tensor],
    label: tuple[Tensor, Tensor],
    modality: tuple[Tensor, Tensor],
    head: tuple[Tensor, Tensor],
    prototypes: Tensor,
    margin_net: MarginNet,
    config: RelationMethod,
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


class RelationLearner(Learner):
    """The quadruplet with a fixed, a learned or a shuffled margin."""

    def __init__(self, plan: Plan, config: RelationMethod) -> None:
        super().__init__(plan)
        self.config, self.warm = config, round(config.warmup * plan.iterations)
        self.margin_net: MarginNet | None = None
        if self.config.margin != "fixed":
            self.margin_net = MarginNet(self.adapter.last.out_features, self.config)
            for weight in self.margin_net.parameters():
                weight.lr_scale = self.config.meta_lr_scale

    def metric(self, z: Tensor, main: Episode, episode: dict[str, Episode]) -> dict[str, Tensor]:
        """The quadruplet loss, and after the warm-up the margin network's own loss on two other batches."""
        away = distances(z, z)
        mined = mine(away, main["label"], main["modality"])
        margin = self._margin(z, away, main)
        value = quadruplet_loss(away, mined, margin, self.config)
        logged = {"metric": value.detach(), "margin": margin.detach().mean(), "spread": margin.detach().std()}
        objective = value
        if self._meta_due():
            outer = self._meta(episode)
            objective, logged["outer"] = objective + outer, outer.detach()
        elif self.margin_net is not None and self.config.margin != "joint":
            logged["outer"] = torch.zeros_like(value.detach())
        if self.margin_net is not None and self.margin_net.memory is not None:
            order = torch.randperm(len(z), device=z.device)
            self.margin_net.memory.write(z.detach()[order], self.config.theta, self.config.eta)
        return {"objective": objective, **logged}

    def _meta_due(self) -> bool:
        step = int(self.done)
        learned = self.margin_net is not None and self.config.margin in ("meta", "shuffled")
        return learned and step >= self.warm and step % self.config.meta_every == 0

    def _margin(self, z: Tensor, away: Tensor, main: Episode) -> Tensor:
        """Margins [B]; learned ones come without gradient, except for ``joint``."""
        fixed = torch.full((len(z),), self.config.mu0, device=z.device)
        if self.margin_net is None or int(self.done) < self.warm:
            return fixed
        mined = mine(away, main["label"], main["modality"])
        with torch.set_grad_enabled(self.config.margin == "joint"):
            margin = self.margin_net(z, away, mined, main["modality"])
        if self.config.margin == "shuffled":
            margin = margin[torch.randperm(len(margin), device=margin.device)]
        return margin

    def _meta(self, episode: dict[str, Episode]) -> Tensor:
        inner, outer = episode["inner"], episode["outer"]
        with torch.no_grad():
            trunk = tuple(self.adapter.trunk(b["features"], b["modality"]) for b in (inner, outer))
        if self.margin_net is None:
            return trunk[0].new_zeros(())
        return meta_loss(
            (trunk[0], trunk[1]),
            (inner["label"], outer["label"]),
            (inner["modality"], outer["modality"]),
            (self.adapter.last.weight, self.adapter.last.bias),
            self.prototypes,
            self.margin_net,
            self.config,
        )
