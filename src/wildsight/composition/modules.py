"""What the task's methods share: the space they are built for, one interface of scores, word tables.

Every method scores a pair (a, o) of a picture by factors, so that no [pictures, pairs, dims] ever exists:
``score = code . prototype(a, o) + (attribute[a] (+ or *) object[o])``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wildsight.backbones import Backbone
from wildsight.composition.features import TextSide, learned_words
from wildsight.composition.prompts import PromptTower
from wildsight.datasets.compositions import Pair
from wildsight.errors import UnsupportedModelError

LARGE_TRAINING = 2000
TAU = 0.05
"""Temperature of cosines where the backbone has none of its own."""
SHARPEST = 100.0
"""Largest inverse temperature taken from a text tower."""


@dataclass(frozen=True)
class Space:
    """What a head is built for.

    Attributes:
        dim: width D of the picture features.
        attributes: [nA, W] word vectors; of a text tower W = D.
        objects: [nO, W].
        seen: [S, 2] attribute and object ids of the trained pairs.
        base: [S, D] text features of the trained pairs; None without a text tower.
        scale: inverse temperature of every cosine in training.
        pictures: number of training pictures.
        names: the attributes and the objects, as words.
        tower: the text tower for methods that learn prompts; None where there is none.
    """

    dim: int
    attributes: Tensor
    objects: Tensor
    seen: Tensor
    base: Tensor | None
    scale: float
    pictures: int
    names: tuple[tuple[str, ...], tuple[str, ...]]
    tower: PromptTower | None = None

    @property
    def shared(self) -> bool:
        """Pictures and texts lie in one space."""
        return self.base is not None


@dataclass(frozen=True)
class Factors:
    """What a head says of B pictures; the score of any pair follows without the head.

    Attributes:
        code: [B, d], or None where no pair prototype is used.
        attribute: [B, nA], or None.
        object: [B, nO], or None.
        rule: how attribute and object join: ``sum`` or ``product``.
    """

    code: Tensor | None
    attribute: Tensor | None = None
    object: Tensor | None = None
    rule: Literal["sum", "product"] = "sum"


@dataclass(frozen=True)
class Mixing:
    """Partners of B training pictures, for data synthesis (K sources each, the picture itself first).

    Attributes:
        features: [B, K - 1, D] of the partners.
        attributes: [B, K] attribute ids.
        pairs: [B, K] ids of the source pairs among the seen ones.
        weights: [B, K], each row sums to 1; 0 for a source that is missing.
        active: [B] bool; False where the object has no second attribute.
    """

    features: Tensor
    attributes: Tensor
    pairs: Tensor
    weights: Tensor
    active: Tensor

    def to(self, device: torch.device) -> Mixing:
        """The same on another device."""
        moved = (self.features, self.attributes, self.pairs, self.weights, self.active)
        return Mixing(*(t.to(device) for t in moved))


@dataclass(frozen=True)
class LabelledBatch:
    """Pictures with their pairs, to learn from.

    Attributes:
        features: [B, D] of the pictures.
        label: [B] ids of their pairs among the seen ones.
        mixing: partners, where data is synthesised on this step.
    """

    features: Tensor
    label: Tensor
    mixing: Mixing | None = None


@dataclass(frozen=True)
class Pairs:
    """Pairs to make prototypes of.

    Attributes:
        ids: [P, 2] attribute and object ids.
        base: [P, D] their text features; None without a text tower.
    """

    ids: Tensor
    base: Tensor | None


def pair_scores(factors: Factors, pairs: Tensor, prototypes: Tensor | None) -> Tensor:
    """Scores of candidate pairs.

    Args:
        factors: of B pictures.
        pairs: [P, 2] ids.
        prototypes: [P, d], unit rows, or None.

    Returns:
        [B, P].
    """
    score = None if factors.code is None or prototypes is None else factors.code @ prototypes.T
    if factors.attribute is None or factors.object is None:
        if score is None:
            raise UnsupportedModelError("no factor to score with", hint="fit the model again")
        return score
    a = factors.attribute.index_select(1, pairs[:, 0])
    o = factors.object.index_select(1, pairs[:, 1])
    if factors.rule == "product":
        return a * o if score is None else torch.addcmul(score, a, o)
    return a + o if score is None else score + a + o


class Prepare(nn.Module):
    """Features as the branches want them: unit rows in a shared space, else standardised per dimension."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def learn(self, features: Tensor) -> None:
        """Take mean and deviation of the training features [N, D]."""
        if not self.shared:
            self.mean.copy_(features.mean(0))
            self.std.copy_(features.std(0, unbiased=False).clamp_min(1e-4))

    def forward(self, v: Tensor) -> Tensor:
        """[B, D] to [B, D]."""
        return F.normalize(v, dim=-1) if self.shared else (v - self.mean) / self.std


class WordTable(nn.Module):
    """Word vectors: a fixed base and a learned change."""

    base: Tensor

    def __init__(self, base: Tensor) -> None:
        super().__init__()
        self.register_buffer("base", base.clone())
        self.delta = nn.Parameter(torch.zeros_like(base))

    def forward(self) -> Tensor:
        """[n, W]."""
        return self.base + self.delta

    @torch.no_grad()
    def extended(self, rows: Tensor) -> WordTable:
        """The table with new words at its end, each with the mean learned change."""
        table = WordTable(torch.cat([self.base, rows.to(self.base.device)])).to(self.base.device)
        mean = self.delta.mean(0, keepdim=True).expand(len(rows), -1)
        table.delta.copy_(torch.cat([self.delta, mean]))
        return table


class Branch(nn.Module):
    """Features to an encoding, not normalised: an MLP, in a shared space a residual that starts at zero."""

    def __init__(self, dim: int, out: int, *, shared: bool, dropout: float) -> None:
        super().__init__()
        self.shared = shared
        hidden = max(32, dim // 4) if shared else out
        self.net = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.Identity() if shared else nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, out),
        )
        if shared:
            zero_(self.net[-1])

    def forward(self, v: Tensor) -> Tensor:
        """[B, D] to [B, out]."""
        return v + self.net(v) if self.shared else self.net(v)


class Composer(nn.Module):
    """Pair prototypes g: an object word and an attribute word to a unit vector.

    In a shared space the text feature of the pair is the base and g a residual that starts at zero;
    else g is linear below `LARGE_TRAINING` training pictures and an MLP above. Its first layer acts on each
    word by itself, so that it runs once per word and not once per pair.
    """

    def __init__(self, width: int, out: int, *, shared: bool, large: bool) -> None:
        super().__init__()
        self.shared = shared
        hidden = (max(32, width // 2) if shared else 2 * width) if large or shared else out
        self.from_attribute = nn.Linear(width, hidden, bias=False)
        self.from_object = nn.Linear(width, hidden)
        self.rest: nn.Module = nn.Identity()
        if large or shared:
            self.rest = nn.Sequential(nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, out))
            if shared:
                zero_(self.rest[-1])

    def forward(self, attribute: Tensor, objects: Tensor, base: Tensor | None) -> Tensor:
        """Unit prototypes [P, d].

        Args:
            attribute: [P, h] of `from_attribute`, a weighted mean of several for a virtual class.
            objects: [P, h] of `from_object`.
            base: [P, d] text features, or None.
        """
        learned = self.rest(attribute + objects)
        if self.shared and base is not None:
            learned = base + learned
        return F.normalize(learned, dim=-1)


def zero_(layer: nn.Module) -> None:
    """Set a linear layer to zero, so that a residual starts as nothing."""
    if isinstance(layer, nn.Linear):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


class Head(nn.Module, ABC):
    """Base of the methods: word tables, the trained pairs, and the interface.

    A method gives ``forward`` (its losses on a batch) and ``factors``; with a ``composer``, pairs have
    prototypes. ``grows`` says whether it can learn of new words after training.
    """

    seen: Tensor
    base: Tensor | None
    grows: ClassVar[bool] = True

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.shared, self.scale = space.shared, space.scale
        self.prepare = Prepare(space.dim, space.shared)
        self.attributes = WordTable(space.attributes)
        self.objects = WordTable(space.objects)
        self.composer: Composer | None = None
        self.register_buffer("seen", space.seen.clone())
        self.register_buffer("base", None if space.base is None else space.base.clone())

    @abstractmethod
    def factors(self, v: Tensor) -> Factors:
        """Factors of pictures, from features [B, D]."""

    def prototypes(self, pairs: Pairs) -> Tensor | None:
        """Unit prototypes [P, d]; None where pairs have none of their own."""
        if self.composer is None:
            return None
        a = self.composer.from_attribute(self.attributes())[pairs.ids[:, 0]]
        o = self.composer.from_object(self.objects())[pairs.ids[:, 1]]
        made: Tensor = self.composer(a, o, pairs.base)
        return made

    def known(self) -> Tensor:
        """Unit prototypes [S, d] of the seen pairs.

        Raises:
            UnsupportedModelError: a method without pair prototypes.
        """
        prototypes = self.prototypes(Pairs(self.seen, self.base))
        if prototypes is None:
            raise UnsupportedModelError("has no pair prototypes", where=type(self).__name__)
        return prototypes

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.seen.device

    @abstractmethod
    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Losses of a batch: ``loss``, and what is worth logging."""

    def extended(self, attributes: Tensor, objects: Tensor) -> Self:
        """A copy that knows more words, from their text features.

        Raises:
            UnsupportedModelError: a method or a backbone that cannot.
        """
        if not (self.shared and self.grows):
            what = f"{type(self).__name__} cannot take new words"
            raise UnsupportedModelError(what, hint="fit hdaoe on a CLIP or SigLIP backbone")
        grown = copy.deepcopy(self)
        grown.attributes = self.attributes.extended(attributes)
        grown.objects = self.objects.extended(objects)
        return grown.eval()


def cross_entropy(cosine: Tensor, label: Tensor, scale: float) -> Tensor:
    """Mean cross-entropy of cosines [B, C] times an inverse temperature."""
    return F.cross_entropy(cosine.float() * scale, label)


def space_of(
    backbone: Backbone,
    texts: TextSide | None,
    words: tuple[tuple[str, ...], tuple[str, ...]],
    seen: Sequence[Pair],
    ids: Tensor,
    *,
    pictures: int,
    dim: int,
    seed: int,
    prompts: bool,
) -> Space:
    """The space of a head that is trained on the pairs ``seen``.

    Args:
        backbone: gives the features.
        texts: its text side; None where it has none, and words are vectors learned from nothing.
        words: the attributes and the objects.
        seen: the trained pairs.
        ids: [S, 2] of them.
        pictures: how many training pictures there are.
        dim: width of the picture features.
        seed: of the learned word vectors.
        prompts: the method learns prompts and needs the tower itself.
    """
    if texts is None:
        vectors = learned_words(words[0], 2 * seed), learned_words(words[1], 2 * seed + 1)
        return Space(dim, *vectors, ids, None, 1 / TAU, pictures, words)
    vectors = texts.attributes(words[0]), texts.objects(words[1])
    tower = PromptTower(backbone) if prompts else None
    return Space(dim, *vectors, ids, texts.pairs(seen), tower_scale(backbone), pictures, words, tower)


def tower_scale(backbone: Backbone) -> float:
    """A tower's own inverse temperature, at most `SHARPEST`; 1 / `TAU` where it has none."""
    scale = getattr(backbone.model, "logit_scale", None)
    return min(SHARPEST, float(scale.exp())) if isinstance(scale, Tensor) else 1 / TAU
