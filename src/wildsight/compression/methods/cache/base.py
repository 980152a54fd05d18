"""What a cache method is, the registry in which every file enters its own, and pairs ``SIZES/SCORER``.

A method ranks the columns of a prompt, and says how many each layer keeps. `Crossed` takes the sizes of one
and the ranking of another.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from torch import Tensor

from wildsight.compression.methods.cache.scorer import Rope, Scorer
from wildsight.compression.methods.cache.sizes import token_counts, uniform_shares
from wildsight.compression.methods.parameters import within
from wildsight.errors import ConfigError
from wildsight.estimators.registry import Registry, unknown_name


@dataclass(frozen=True)
class CacheMethod(ABC):
    """Base of all methods: what may never be evicted, and the rule while decoding; sizes are uniform."""

    start: int = 1
    """First tokens that are never evicted."""
    protect: int = 1
    """Last prompt tokens that are never evicted."""
    tail: int = 25
    """While decoding, columns before the last ``tail`` of the compressed prompt are frozen."""
    heads: Literal["own", "shared"] = "own"
    """``own``: each head keeps its own columns where heads are scored one by one; ``shared``: one choice."""
    decoding: bool = True
    """Evict while decoding too; off, only the prompt is compressed."""

    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        within(self, 0, math.inf, "start", "protect", "tail")
        if self.heads not in ("own", "shared"):
            raise ConfigError(f"heads={self.heads!r} is unknown", hint="use own or shared")

    @property
    def title(self) -> str:
        """As it is named in tables and messages."""
        return self.name or type(self).__name__

    @property
    def draws(self) -> bool:
        """Whether the ranking depends on the seed."""
        return False

    @property
    def needs_rope(self) -> bool:
        """Whether the ranking undoes the model's rotary embedding."""
        return False

    @property
    def online(self) -> bool:
        """Whether the sizes come from the prompt itself, once all layers have read it."""
        return False

    @property
    def floor(self) -> int:
        """Tokens that every layer keeps."""
        return self.start + self.protect

    def check(self, config: Any) -> None:  # noqa: B027 - most methods serve every model
        """Refuse a model's configuration that the method was not made for.

        Raises:
            BudgetError: layer sizes of another model.
        """

    def shares(self, share: float, layers: int) -> list[float]:
        """The share of each layer at a mean of ``share``."""
        return uniform_shares(share, layers)

    def counts(self, shares: Sequence[float], length: int) -> list[int]:
        """Tokens that each layer keeps of a prompt of ``length`` tokens."""
        return token_counts(shares, length, self.floor)

    def sizes_of_prompt(self, mass: Tensor, total: int, floor: int) -> list[int]:  # noqa: ARG002
        """Layer sizes found from the prompt's own importance, for methods that are `online`.

        Args:
            mass: ``[L, S]``.
            total: tokens to keep over all layers.
            floor: tokens that every layer keeps.
        """
        raise ConfigError(f"{self.title} finds no sizes from a prompt")

    @abstractmethod
    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """What watches one layer read the prompt, and then scores its columns.

        Args:
            layer: its index.
            seed: for scorers that draw.
            rope: the model's rotary embedding, where `needs_rope` says so.
        """


def common(method: CacheMethod) -> dict[str, Any]:
    """The parameters that every method has."""
    return {f.name: getattr(method, f.name) for f in fields(CacheMethod)}


@dataclass(frozen=True, kw_only=True)
class Crossed(CacheMethod):
    """The layer sizes of one method with the ranking of another; the common parameters are the ranking's.

    Attributes:
        sizing: says how many columns each layer keeps.
        ranking: says which.
    """

    sizing: CacheMethod
    ranking: CacheMethod

    @classmethod
    def of(cls, sizing: CacheMethod, ranking: CacheMethod) -> Crossed:
        """The pair of two methods."""
        return cls(sizing=sizing, ranking=ranking, **common(ranking))

    @property
    def title(self) -> str:
        """``SIZES/SCORER``."""
        sizes = {name: word for word, name in SIZES.items()}
        return f"{sizes.get(self.sizing.name, self.sizing.name)}/{scorer_word(self.ranking)}"

    @property
    def draws(self) -> bool:
        """As the ranking."""
        return self.ranking.draws

    @property
    def needs_rope(self) -> bool:
        """As the ranking."""
        return self.ranking.needs_rope

    @property
    def online(self) -> bool:
        """As the sizing."""
        return self.sizing.online

    def check(self, config: Any) -> None:
        """As both."""
        self.sizing.check(config)
        self.ranking.check(config)

    def shares(self, share: float, layers: int) -> list[float]:
        """As the sizing."""
        return self.sizing.shares(share, layers)

    def counts(self, shares: Sequence[float], length: int) -> list[int]:
        """As the sizing."""
        return self.sizing.counts(shares, length)

    def sizes_of_prompt(self, mass: Tensor, total: int, floor: int) -> list[int]:
        """As the sizing."""
        return self.sizing.sizes_of_prompt(mass, total, floor)

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """As the ranking."""
        return self.ranking.scorer(layer, seed, rope)


SIZES = {"uniform": "h2o", "pyramid": "pyramidkv", "prefix": "prefixkv"}
"""Word for layer sizes -> the method that has them; a method's own name will do as well."""
SCORERS: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": ("h2o", {}),
    "attention-mean": ("h2o", {"mean": True}),
    "window": ("snapkv", {}),
    "expected": ("expected", {}),
    "key-norm": ("keynorm", {}),
    "key-diff": ("keydiff", {}),
    "mix": ("mixkv", {}),
    "recent": ("local", {}),
    "random": ("random", {}),
}
"""Word for a ranking -> the method that ranks so, and its parameters; a method's own name will do as well."""


def scorer_word(method: CacheMethod) -> str:
    """The word for a method's ranking, or the method's own name."""
    own = method.ranking if isinstance(method, Crossed) else method
    fits = [
        (len(fixed), word)
        for word, (name, fixed) in SCORERS.items()
        if name == own.name and all(getattr(own, k) == v for k, v in fixed.items())
    ]
    return max(fits)[1] if fits else own.title


class CacheMethods(Registry[CacheMethod]):
    """The registry of cache methods, in which ``prefix/window`` names a pair."""

    def kind_of(self, name: str) -> type[CacheMethod] | tuple[type[CacheMethod], type[CacheMethod]]:
        """The class of a method, or those of a pair's sizes and ranking.

        Raises:
            ConfigError: there is none.
        """
        sizes, slash, scorer = name.partition("/")
        if not slash:
            return self[name]
        known = (sizes in SIZES or sizes in self, scorer in SCORERS or scorer in self)
        if not known[0]:
            raise unknown_name("word for layer sizes", sizes, SIZES)
        if not known[1]:
            raise unknown_name("key scorer", scorer, SCORERS)
        return self[SIZES.get(sizes, sizes)], self[SCORERS.get(scorer, (scorer, {}))[0]]

    def parameters(self, name: str) -> list[str]:
        """Names of a method's parameters, those of both parts for a pair."""
        kind = self.kind_of(name)
        return names_of(kind if isinstance(kind, tuple) else (kind,))

    def create(
        self, method: str | CacheMethod, options: Mapping[str, Any] | CacheMethod | None = None
    ) -> CacheMethod:
        """A method with its parameters checked; those of a pair go to the part that has them.

        Args:
            method: its name, ``SIZES/SCORER``, or the method itself.
            options: parameters by name.

        Raises:
            ConfigError: an unknown name or parameter, with the nearest one; a value outside its range.
        """
        if not isinstance(method, str) or "/" not in method or isinstance(options, CacheMethod):
            return super().create(method, options)
        sizing, ranking = self._pair(method)
        given = dict(options or {})
        for name in given:
            if name not in names_of((sizing, ranking)):
                raise unknown_name("hyper-parameter", name, names_of((sizing, ranking)))
        scorer = method.partition("/")[2]
        own, shared = names_of((ranking,)), names_of((CacheMethod,))
        by = self.ranking(scorer, {k: v for k, v in given.items() if k in own})
        rest = {k: v for k, v in given.items() if k not in own or k in shared}
        return Crossed.of(super().create(sizing.name, common(by) | rest), by)

    def ranking(self, scorer: str, options: Mapping[str, Any] | None = None) -> CacheMethod:
        """The method that a word of `SCORERS` stands for, or that has this name itself.

        Raises:
            ConfigError: there is none.
        """
        if scorer not in SCORERS and scorer not in self:
            raise unknown_name("key scorer", scorer, SCORERS)
        name, fixed = SCORERS.get(scorer, (scorer, {}))
        return self.create(name, {**fixed, **(options or {})})

    def _pair(self, name: str) -> tuple[type[CacheMethod], type[CacheMethod]]:
        kind = self.kind_of(name)
        return kind if isinstance(kind, tuple) else (kind, kind)


def names_of(kinds: Iterable[type[CacheMethod]]) -> list[str]:
    """Names of the parameters of some classes, each once."""
    return list(dict.fromkeys(f.name for kind in kinds for f in fields(kind)))


CACHE_METHODS = CacheMethods(
    "cache method",
    package="wildsight.compression.methods.cache",
    order=(
        "prefixkv", "h2o", "snapkv", "pyramidkv", "local", "expected", "keynorm", "keydiff", "mixkv",
        "random",
    ),
)  # fmt: skip
