"""HDA-OE: attribute-driven data synthesis and subclass-driven embedding for unseen attribute-object pairs.

Paper:
    arXiv 2412.00121. Implemented: the three branches (attribute, object, pair) with their joint score,
    attribute-driven data synthesis (ADDS), subclass-driven discriminative embedding (SDDE), and
    ``L = alpha L_base + beta L_emd``. Written from the abstract and from public descriptions of the works
    that it builds on (CoT, SCD); no published code exists, and none was copied. Figures here are ours.

    Differences, each with the switch that undoes it:
    1. Frozen features of a named backbone are the input; the paper trains a hierarchical ViT.
    2. The contrastive term and the cross decoders of SDDE are off: ``sdde="scd"`` turns them on.
    3. The gate of SDDE is tanh and starts as a no-op: ``gate="softmax"``.
    4. Mixing weights are drawn per sample: ``lam_per_batch=True``.
    5. The pair code is its own branch: ``comp="composed"`` makes it of the two others.
    6. Negatives of the contrastive term are the first ``n_neg`` of the (shuffled) batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wildsight.composition.methods import METHODS, THREE, CompositionMethod, Step
from wildsight.composition.modules import (
    LARGE_TRAINING,
    Branch,
    Composer,
    Factors,
    Head,
    LabelledBatch,
    Mixing,
    Space,
    cross_entropy,
)
from wildsight.composition.synthesis import Partners, coin, stream
from wildsight.errors import ConfigError
from wildsight.estimators.registry import ABOVE_ZERO, SHARE, UP_TO_ONE, at_least, check_ranges
from wildsight.training import Batch


@METHODS.register("hdaoe")
@dataclass(frozen=True, kw_only=True)
class HDAOE(CompositionMethod):
    """HDA-OE with its hyper-parameters, in the symbols of the paper and of the works it builds on."""

    title = "HDA-OE"

    d: int = 0
    """Width of the codes; 0 takes the feature width in a shared space, else 256."""
    adds: bool = True
    """Data synthesis on."""
    K: int = 2
    """Sources per synthetic sample, >= 1."""
    gamma: float = 1.0
    """Partners' attributes are drawn ~ (pictures) ** -gamma."""
    dirichlet: float = 1.0
    """Concentration of the mixing weights, > 0."""
    p_aug: float = 0.5
    """Share of the steps with synthesis, in [0, 1]."""
    start: float = 2 / 3
    """Share of the epochs before synthesis begins, in [0, 1]."""
    tau_m: float = 0.1
    """Temperature of the mixed loss, > 0."""
    mix_level: Literal["encoding", "feature"] = "encoding"
    """``encoding`` mixes pair codes, ``feature`` mixes the backbone's features."""
    drop_sources: bool = False
    """Leave the source pairs out of the mixed loss's negatives."""
    lam_per_batch: bool = False
    """One draw of weights per batch."""
    w_soft: float = 0.0
    """Weight of the soft attribute loss on mixed samples, >= 0."""
    sdde: Literal["light", "scd"] | None = "light"
    """``light``, ``scd`` (all terms, published weights) or None."""
    gate: Literal["tanh", "softmax"] = "tanh"
    """``tanh`` (starts as a no-op) or ``softmax``."""
    contrast: Literal["instance", "detach-anchor", "detach-pair", "class"] = "instance"
    """``instance`` (published), ``detach-anchor``, ``detach-pair`` (the pair code learns nothing from the
    contrast) or ``class``; see `contrastive_loss`."""
    omega: float | None = None
    """Weight of the contrastive term; None takes 0 in ``light``, 1 in ``scd``."""
    cross: float | None = None
    """Weight of the cross decoders; None takes 0 in ``light``, 0.5 in ``scd``."""
    n_neg: int = 40
    """Negatives of the contrastive term, >= 1."""
    comp: Literal["independent", "composed"] = "independent"
    """Pair code of its own branch, or made of the two others."""
    weights: tuple[float, float, float] = (1.0, 0.6, 0.4)
    """Of the pair, attribute and object losses."""
    alpha: float = 1.0
    """Of the base loss."""
    beta: float = 0.3
    """Of the embedding loss."""
    score: Literal["sum", "product", "comp+prod"] = "sum"
    """``sum`` of cosines, ``product`` of probabilities, or ``comp+prod``."""
    score_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Of pair, attribute and object in the sum."""
    dropout: float = 0.1
    """In the branches, in [0, 1)."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            d=at_least(0),
            K=at_least(1),
            n_neg=at_least(1),
            dirichlet=ABOVE_ZERO,
            tau_m=ABOVE_ZERO,
            p_aug=UP_TO_ONE,
            start=UP_TO_ONE,
            w_soft=at_least(0),
            dropout=SHARE,
            weights=THREE,
            score_weights=THREE,
        )

    def head(self, space: Space) -> HDAOEHead:
        """The network on frozen features."""
        return HDAOEHead(space, self)

    def step(self, features: Tensor, labels: Tensor, seen: Tensor, epochs: int) -> Step:
        """One training step, with data synthesis where its schedule says so."""
        if not self.adds:
            return super().step(features, labels, seen, epochs)
        partners = Partners(
            features,
            labels,
            seen,
            k=self.K,
            gamma=self.gamma,
            alpha=self.dirichlet,
            per_batch=self.lam_per_batch,
        )
        first = ceil(self.start * epochs)

        def step(head: nn.Module, batch: Batch) -> dict[str, Tensor]:
            v, label = batch.data
            mixing = None
            if batch.epoch >= first and coin(batch) < self.p_aug:
                mixing = partners.draw(batch.index.cpu(), stream(batch)).to(v.device)
            losses: dict[str, Tensor] = head(LabelledBatch(v, label, mixing))
            return losses

        return step

    @property
    def contrast_weight(self) -> float:
        """omega, resolved."""
        return self.omega if self.omega is not None else float(self.sdde == "scd")

    @property
    def cross_weight(self) -> float:
        """Weight of the cross decoders, resolved."""
        return self.cross if self.cross is not None else 0.5 * (self.sdde == "scd")


def modulated_cosine(z: Tensor, w: Tensor, gate: Tensor) -> Tensor:
    """``cos(z_i, w_k * (1 + gate_i))`` in two matrix products, without [B, K, d].

    Args:
        z: [B, d]. w: [K, d]. gate: [B, d].

    Returns:
        [B, K].
    """
    factor = 1.0 + gate
    above = (F.normalize(z, dim=-1) * factor) @ w.T
    return above / (factor.square() @ w.square().T).sqrt().clamp_min(1e-8)


def mix_sources(values: Tensor, weights: Tensor) -> Tensor:
    """``sum_k weights_k values_k``; [B, K, d] and [B, K] to [B, d]."""
    return torch.bmm(weights[:, None], values)[:, 0]


def mixed_loss(
    z: Tensor, virtual: Tensor, pairs: Tensor, active: Tensor, tau: float, drop: Tensor | None = None
) -> Tensor:
    """InfoNCE of mixed codes against their virtual class and all seen pairs, over the active rows.

    Args:
        z: [B, d] unit mixed codes.
        virtual: [B, d] unit prototypes of the virtual classes.
        pairs: [S, d] unit prototypes of the seen pairs.
        active: [B] bool.
        tau: temperature.
        drop: [B, S] bool, negatives to leave out; None leaves none out.
    """
    own = (z * virtual).sum(-1).float() / tau
    others = (z @ pairs.T).float() / tau
    if drop is not None:
        others = others.masked_fill(drop, -torch.inf)
    loss = F.softplus(others.logsumexp(1) - own)
    return torch.where(active, loss, 0.0).sum() / active.sum().clamp_min(1)


def contrastive_loss(
    z: Tensor, decoded: Tensor, own: Tensor, other: Tensor, scale: float, count: int, kind: str
) -> Tensor:
    """One half of SDDE's contrast: a primitive code against what the pair code says of that primitive.

    Args:
        z: [B, d] attribute (or object) codes, the anchors.
        decoded: [B, d] decoded from the pair codes.
        own: [B] attribute (or object) ids.
        other: [B] ids of the other primitive.
        scale: inverse temperature.
        count: negatives per anchor.
        kind: ``instance``: the positive is the picture's own decoded code; ``detach-anchor``: the same, but
            the anchor gets no gradient; ``class``: the positives are the decoded codes of pictures that
            share the primitive and differ in the other one.
    """
    anchor = z.detach() if kind == "detach-anchor" else z
    cosine = F.normalize(anchor, dim=-1) @ F.normalize(decoded, dim=-1).T * scale
    same = own[:, None] == own[None]
    negative = ~same & ((~same).cumsum(1) <= count)
    if kind == "class":
        positive = same & (other[:, None] != other[None])
    else:
        positive = torch.eye(len(own), dtype=torch.bool, device=own.device)
    below = torch.where(negative, cosine.float(), -torch.inf).logsumexp(1, keepdim=True)
    loss = F.softplus(below - cosine.float())
    return torch.where(positive, loss, 0.0).sum() / positive.sum().clamp_min(1)


class HDAOEHead(Head):
    """The network on frozen features."""

    def __init__(self, space: Space, config: HDAOE) -> None:
        super().__init__(space)
        self.config = config
        width = space.attributes.shape[1]
        d = space.dim if space.shared else (config.d or 256)
        shared = space.shared
        self.attribute = Branch(space.dim, d, shared=shared, dropout=config.dropout)
        self.object = Branch(space.dim, d, shared=shared, dropout=config.dropout)
        self.pair: nn.Module
        if config.comp == "independent":
            self.pair = Branch(space.dim, d, shared=shared, dropout=config.dropout)
        else:
            self.pair = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * d, d), nn.ReLU(), nn.Linear(d, d))
        self.composer = Composer(width, d, shared=shared, large=space.pictures >= LARGE_TRAINING)
        self.to_attribute = nn.Identity() if shared else nn.Linear(width, d)
        self.to_object = nn.Identity() if shared else nn.Linear(width, d)
        self._subclass(d)

    def _subclass(self, d: int) -> None:
        """SDDE's own modules, only those in use."""
        config = self.config
        if config.sdde is None:
            return
        if config.gate == "tanh":
            self.gate_attribute, self.gate_object = nn.Linear(d, d), nn.Linear(d, d)
            for gate in (self.gate_attribute, self.gate_object):
                nn.init.zeros_(gate.weight)
                nn.init.zeros_(gate.bias)
        self.joint = nn.Sequential(nn.Linear(2 * d, d), nn.LayerNorm(d), nn.ReLU(), nn.Linear(d, d))
        if config.cross_weight or config.contrast_weight:
            self.from_pair_attribute, self.from_pair_object = nn.Linear(d, d), nn.Linear(d, d)

    def encode(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attribute, object and pair codes [B, d] of prepared features [B, D], not normalised."""
        z_a, z_o = self.attribute(v), self.object(v)
        joined = v if self.config.comp == "independent" else torch.cat([z_o, z_a], dim=-1)
        return z_a, z_o, self.pair(joined)

    def gates(self, z_c: Tensor) -> tuple[Tensor, Tensor]:
        """Per-picture modulation of the primitive prototypes, from the pair code."""
        if self.config.sdde is None:
            nothing = torch.zeros_like(z_c)
            return nothing, nothing
        unit = F.normalize(z_c, dim=-1)
        if self.config.gate == "softmax":
            gate = (unit * self.scale).softmax(-1)
            return gate, gate
        return self.gate_attribute(unit).tanh(), self.gate_object(unit).tanh()

    def words(self) -> tuple[Tensor, Tensor]:
        """Primitive prototypes [nA, d] and [nO, d]."""
        return self.to_attribute(self.attributes()), self.to_object(self.objects())

    def factors(self, v: Tensor) -> Factors:
        """The joint score's parts: sums of cosines, or probabilities where ``score`` says so."""
        z_a, z_o, z_c = self.encode(self.prepare(v))
        attribute, objects = self._primitive(z_a, z_o, z_c)
        code = F.normalize(z_c, dim=-1)
        if self.config.score == "sum":
            w_c, w_a, w_o = self.config.score_weights
            return Factors(w_c * code, w_a * attribute, w_o * objects)
        chance = (attribute * self.scale).softmax(-1), (objects * self.scale).softmax(-1)
        code_or_none = None if self.config.score == "product" else code * self.scale
        return Factors(code_or_none, *chance, rule="product")

    def _primitive(self, z_a: Tensor, z_o: Tensor, z_c: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines with the modulated attribute and object prototypes."""
        gate_a, gate_o = self.gates(z_c)
        w_a, w_o = self.words()
        return modulated_cosine(z_a, w_a, gate_a), modulated_cosine(z_o, w_o, gate_o)

    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """The total loss ``alpha L_base + beta L_emd`` and its terms."""
        config, label, mixing = self.config, batch.label, batch.mixing
        v = self.prepare(batch.features)
        codes, known = self.encode(v), self.known()
        base = self._base_loss(codes, known, label)
        losses = dict(base)
        total = sum(base.values(), torch.zeros((), device=v.device))
        if mixing is not None:
            losses["mix"] = self._mix_loss(v, codes, known, label, mixing)
            total = total + losses["mix"]
        emd = self._subclass_loss(codes, known, label) if config.sdde else {}
        losses |= emd
        embedding = sum(emd.values(), torch.zeros((), device=v.device))
        total = config.alpha * total + config.beta * embedding
        if mixing is None:
            losses["mix"] = torch.zeros((), device=v.device)
        return {"loss": total, **{k: x.detach() for k, x in losses.items()}}

    def _base_loss(
        self, codes: tuple[Tensor, Tensor, Tensor], known: Tensor, label: Tensor
    ) -> dict[str, Tensor]:
        """The three weighted cross-entropies."""
        z_a, z_o, z_c = codes
        attribute, objects = self._primitive(z_a, z_o, z_c)
        w_c, w_a, w_o = self.config.weights
        ids = self.seen[label]
        return {
            "pair": w_c * cross_entropy(F.normalize(z_c, dim=-1) @ known.T, label, self.scale),
            "attribute": w_a * cross_entropy(attribute, ids[:, 0], self.scale),
            "object": w_o * cross_entropy(objects, ids[:, 1], self.scale),
        }

    def _mix_loss(
        self, v: Tensor, codes: tuple[Tensor, Tensor, Tensor], known: Tensor, label: Tensor, mixing: Mixing
    ) -> Tensor:
        """ADDS: mixed codes against virtual classes of the same object."""
        config, weights = self.config, mixing.weights
        partners = self.prepare(mixing.features)
        if config.mix_level == "feature":
            mixed = weights[:, :1] * v + mix_sources(partners, weights[:, 1:])
            z_a, _, z_c = codes if config.comp == "independent" else self.encode(mixed)
            if config.comp == "independent":
                z_a, z_c = self.attribute(mixed) if config.w_soft else z_a, self.pair(mixed)
        else:
            z_a, z_c = self._mixed_codes(codes, partners, weights)
        virtual = self._virtual(self.seen[label, 1], mixing)
        drop = None
        if config.drop_sources:
            drop = torch.zeros(len(v), len(known), dtype=torch.bool, device=v.device)
            drop = drop.scatter(1, mixing.pairs, True)
        z = F.normalize(z_c, dim=-1)
        loss = mixed_loss(z, virtual, known, mixing.active, config.tau_m, drop)
        return loss + config.w_soft * self._soft_loss(z_a, mixing) if config.w_soft else loss

    def _virtual(self, objects: Tensor, mixing: Mixing) -> Tensor:
        """Unit prototypes [B, d] of the virtual classes: mixed attribute words, the object's own."""
        if self.composer is None:
            raise ConfigError("no composer", hint="build the head again")
        words = self.composer.from_attribute(self.attributes())
        attribute = mix_sources(words[mixing.attributes], mixing.weights)
        own = self.composer.from_object(self.objects())[objects]
        base = None if self.base is None else mix_sources(self.base[mixing.pairs], mixing.weights)
        made: Tensor = self.composer(attribute, own, base)
        return made

    def _mixed_codes(
        self, codes: tuple[Tensor, Tensor, Tensor], partners: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mixed attribute and pair codes; the partners' attribute codes only where they are used."""
        z_a, _, z_c = codes
        if self.config.comp == "independent":
            other_c = self.pair(partners)
            other_a = self.attribute(partners) if self.config.w_soft else None
        else:
            other_a, _, other_c = self.encode(partners)
        mixed = weights[:, :1] * z_c + mix_sources(other_c, weights[:, 1:])
        if other_a is None:
            return z_a, mixed
        return weights[:, :1] * z_a + mix_sources(other_a, weights[:, 1:]), mixed

    def _soft_loss(self, z_a: Tensor, mixing: Mixing) -> Tensor:
        """Cross-entropy of mixed attribute codes with their mixed labels."""
        w_a = F.normalize(self.words()[0], dim=-1)
        logs = (F.normalize(z_a, dim=-1) @ w_a.T * self.scale).log_softmax(-1)
        picked = -(logs.gather(1, mixing.attributes) * mixing.weights).sum(1)
        return torch.where(mixing.active, picked, 0.0).sum() / mixing.active.sum().clamp_min(1)

    def _subclass_loss(
        self, codes: tuple[Tensor, Tensor, Tensor], known: Tensor, label: Tensor
    ) -> Mapping[str, Tensor]:
        """SDDE: L_dec, and in the published form the cross decoders and the contrast."""
        config, (z_a, z_o, z_c), ids = self.config, codes, self.seen[label]
        joint = F.normalize(self.joint(torch.cat([z_a, z_o], dim=-1)), dim=-1)
        losses = {"dec": 0.5 * cross_entropy(joint @ known.T, label, self.scale)}
        if not (config.cross_weight or config.contrast_weight):
            return losses
        a, o = self.from_pair_attribute(z_c), self.from_pair_object(z_c)
        if config.cross_weight:
            w_a, w_o = (F.normalize(w, dim=-1) for w in self.words())
            crossed = cross_entropy(F.normalize(a, dim=-1) @ w_a.T, ids[:, 0], self.scale)
            crossed = crossed + cross_entropy(F.normalize(o, dim=-1) @ w_o.T, ids[:, 1], self.scale)
            losses["cross"] = config.cross_weight * crossed
        if config.contrast_weight:
            half = (self.scale, config.n_neg, config.contrast)
            if config.contrast == "detach-pair":
                a, o = self.from_pair_attribute(z_c.detach()), self.from_pair_object(z_c.detach())
            contrast = contrastive_loss(z_a, a, ids[:, 0], ids[:, 1], *half)
            contrast = contrast + contrastive_loss(z_o, o, ids[:, 1], ids[:, 0], *half)
            losses["contrast"] = config.contrast_weight * contrast
        return losses
