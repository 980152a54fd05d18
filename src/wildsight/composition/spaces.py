"""What a head is built for, from a backbone and the words: one shared with texts, or one to be learned."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from wildsight.backbones import Backbone
from wildsight.composition.features import TextSide, learned_words
from wildsight.composition.knowledge import Knowledge
from wildsight.composition.parts import Space
from wildsight.composition.prompts import PromptTower
from wildsight.datasets.compositions import Pair

TAU = 0.05
SHARPEST = 100.0


def space_of(
    backbone: Backbone,
    texts: TextSide | None,
    knowledge: Knowledge,
    seen: Sequence[Pair],
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
        knowledge: the words.
        seen: the trained pairs.
        pictures: how many training pictures there are.
        dim: width of the picture features.
        seed: of the learned word vectors.
        prompts: the method learns prompts and needs the tower itself.
    """
    ids, names = knowledge.ids(seen), (knowledge.attributes, knowledge.objects)
    if texts is None:
        words = learned_words(names[0], 2 * seed), learned_words(names[1], 2 * seed + 1)
        return Space(dim, *words, ids, None, 1 / TAU, pictures, names)
    words = texts.attributes(names[0]), texts.objects(names[1])
    tower = PromptTower(backbone) if prompts else None
    return Space(dim, *words, ids, texts.pairs(seen), tower_scale(backbone), pictures, names, tower)


def tower_scale(backbone: Backbone) -> float:
    """A tower's own inverse temperature, at most `SHARPEST`; 1 / `TAU` where it has none."""
    scale = getattr(backbone.model, "logit_scale", None)
    return min(SHARPEST, float(scale.exp())) if isinstance(scale, Tensor) else 1 / TAU
