"""The words and pairs of a recognizer, and how pairs in words become ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wildsight.composition.data import PairData
from wildsight.composition.features import TextSide
from wildsight.composition.scoring import Candidates
from wildsight.datasets.compositions import Pair
from wildsight.errors import ConfigError, DataError


@dataclass(frozen=True)
class Vocabulary:
    """Words and pairs.

    Attributes:
        attributes, objects: the words, in the order of the head's tables.
        seen: the trained pairs, in the order of the head's classes.
        pairs: the candidates when none are named, sorted.
        trained: how many of the attributes and objects were trained; words after them are new.
    """

    attributes: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    seen: tuple[Pair, ...] = ()
    pairs: tuple[Pair, ...] = ()
    trained: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, data: PairData) -> Vocabulary:
        """That of a data set; pairs of all its splits are candidates."""
        pairs = tuple(sorted({p for many in data.pairs.values() for p in many}))
        return cls(data.attributes, data.objects, data.seen, pairs, (len(data.attributes), len(data.objects)))

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Vocabulary:
        """What `dataclasses.asdict` and JSON made of one."""
        seen, pairs = (tuple((str(a), str(o)) for a, o in saved[k]) for k in ("seen", "pairs"))
        a, o = saved["trained"]
        return cls(tuple(saved["attributes"]), tuple(saved["objects"]), seen, pairs, (int(a), int(o)))

    def ids(self, pairs: Sequence[Pair]) -> Tensor:
        """[P, 2] ids of pairs in words.

        Raises:
            DataError: a word that is not known.
        """
        known = [{w: i for i, w in enumerate(words)} for words in (self.attributes, self.objects)]
        for pair in pairs:
            for kind, word, index in zip(("attribute", "object"), pair, known, strict=True):
                if word not in index:
                    what = f"the {kind} {word!r} is unknown to the model"
                    hint = f"use one of {_some(index)}, or open_vocabulary=True on a CLIP backbone"
                    raise DataError(what, where=" ".join(pair), hint=hint)
        return torch.tensor([[known[0][a], known[1][o]] for a, o in pairs]).view(-1, 2)

    def listed(self, pairs: str | Sequence[Pair | str] | None) -> tuple[Pair, ...]:
        """The pairs that a user means: None, ``"all"``, or pairs in words, without repeats."""
        if pairs is None:
            return self.pairs
        if pairs == "all":
            return tuple((a, o) for a in self.attributes for o in self.objects)
        many = tuple(dict.fromkeys(as_pair(p) for p in ([pairs] if isinstance(pairs, str) else pairs)))
        if not many:
            raise ConfigError("no candidate pair", hint="give at least one, or None")
        return many

    def candidates(self, pairs: Sequence[Pair], trained: set[Pair], texts: TextSide | None) -> Candidates:
        """Candidates without prototypes; ``texts`` gives their text features where the method uses them."""
        seen = torch.tensor([p in trained for p in pairs], dtype=torch.bool)
        base = None if texts is None else texts.pairs(pairs)
        return Candidates(tuple(pairs), self.ids(pairs), seen, base)

    def new_words(self, pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
        """Attributes and objects of ``pairs`` that are not known, sorted."""
        attributes = sorted({a for a, _ in pairs} - set(self.attributes))
        return attributes, sorted({o for _, o in pairs} - set(self.objects))

    def grown(self, attributes: Sequence[str], objects: Sequence[str]) -> Vocabulary:
        """The same with more words at the end."""
        return replace(self, attributes=(*self.attributes, *attributes), objects=(*self.objects, *objects))


def as_pair(pair: Pair | str) -> Pair:
    """A pair of words from two of them in a string, or from a tuple.

    >>> as_pair("wet cat"), as_pair(("art_painting", "dog"))
    (('wet', 'cat'), ('art_painting', 'dog'))
    """
    parts = tuple(pair.split()) if isinstance(pair, str) else tuple(pair)
    if len(parts) != 2:
        raise DataError(f"{pair!r} is no pair", hint="write an attribute and an object, such as 'wet cat'")
    return parts[0], parts[1]


def marginal(words: Sequence[str], ids: Tensor, chance: Tensor) -> tuple[tuple[str, float], ...]:
    """Name and summed probability of each word among the candidates, best first.

    Args:
        words: of the model. ids: [P] word of each candidate. chance: [P] their probabilities.
    """
    total = torch.zeros(len(words)).index_add_(0, ids, chance)
    order = total.argsort(descending=True, stable=True).tolist()
    present = set(ids.tolist())
    return tuple((words[i], float(total[i])) for i in order if i in present)


def _some(words: Mapping[str, int]) -> str:
    names = list(words)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
