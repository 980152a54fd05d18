"""What a bench of this task runs: methods, budgets, seeds, and which questions are kept for layer sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wildsight.compression.evaluation import questions
from wildsight.compression.evaluation.questions import QuestionData
from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod, Crossed
from wildsight.compression.methods.parameters import parameters_of
from wildsight.compression.methods.visual.base import SELECTORS, VisualMethod
from wildsight.errors import ConfigError, DataError
from wildsight.estimators.registry import Registry, unknown_name

ONLINE = "prefixkv-online"
SENSITIVITY = "sensitivity/"
MORE_CACHE_METHODS = ("prefix/window", ONLINE, f"{SENSITIVITY}attention", f"{SENSITIVITY}window")
"""Prefix sizes with SnapKV's ranking, sizes from the prompt as `compress` has them, and from sensitivity."""
SAMPLES = 10
"""Pictures that layer sizes are found on."""


@dataclass(frozen=True)
class Entry:
    """One method of a bench.

    Attributes:
        text: as it was written, and its row in the tables.
        method: with its parameters.
        sizes: how its layer sizes are found beforehand: ``prefix``, ``sensitivity``, or not at all.
    """

    text: str
    method: VisualMethod | CacheMethod
    sizes: str = ""


def is_visual(text: str) -> bool:
    """Whether a text names a method that drops visual tokens, as ``random`` does among others."""
    return name_in(text) in SELECTORS


def name_in(text: str) -> str:
    """The name before the parameters.

    >>> name_in("vtc-cls[K=7]")
    'vtc-cls'
    """
    return re.split(r"[\[@]", text, maxsplit=1)[0].strip()


def visual_entry(text: str, shared: Mapping[str, Any]) -> Entry:
    """What ``NAME`` or ``NAME[option=value]`` stands for.

    Args:
        text: such as ``vtc-cls[K=7]``.
        shared: parameters for every method that has them and is given none itself.

    Raises:
        ConfigError: an unknown name or parameter, with the nearest one.
    """
    return Entry(text, _parsed(SELECTORS, text, shared, lambda name: parameters_of(SELECTORS[name])))


def cache_entry(text: str, shared: Mapping[str, Any]) -> Entry:
    """As `visual_entry`, for a cache method; ``prefixkv-online`` and ``sensitivity/SCORER`` are names too."""
    written, sizes = text, ""
    if text.startswith(SENSITIVITY):
        written, sizes = "prefix/" + text.removeprefix(SENSITIVITY), "sensitivity"
    elif name_in(text) == ONLINE:
        written = "prefixkv" + text.removeprefix(ONLINE)
    method = _parsed(CACHE_METHODS, written, shared, CACHE_METHODS.parameters)
    if method.online and name_in(text) != ONLINE:
        sizes = sizes or "prefix"
    return Entry(text, method, sizes)


def _parsed(
    registry: Registry[Any], text: str, shared: Mapping[str, Any], names: Callable[[str], list[str]]
) -> Any:
    variant = registry.parse(text)
    if variant.lr is not None:
        raise ConfigError(
            f"{text!r} names a learning rate, and nothing is trained", hint="leave out what follows @"
        )
    had = {name: value for name, value in shared.items() if name in names(variant.name)}
    return registry.create(variant.name, {**had, **variant.options})


@dataclass(frozen=True)
class Plan:
    """What a bench runs.

    Attributes:
        visual: methods that drop visual tokens.
        cache: cache methods.
        tokens: tokens per image, counts or shares.
        shares: of the cache.
        seeds: how many, from 0; methods that draw nothing run once.
    """

    visual: tuple[Entry, ...]
    cache: tuple[Entry, ...]
    tokens: tuple[int | float, ...]
    shares: tuple[float, ...]
    seeds: int

    @classmethod
    def of(
        cls,
        methods: Sequence[str] | None,
        tokens: Any,
        shares: Any,
        seeds: int,
        parameters: Mapping[str, Any] | None = None,
        window: int | None = None,
    ) -> Plan:
        """From a bench's options; ``random`` is in every table.

        Args:
            methods: names, with parameters where they are given; None takes all.
            tokens: per image.
            shares: of the cache.
            seeds: how many.
            parameters: for every method that has them; one that none has is refused.
            window: of every method that has one.

        Raises:
            ConfigError: an unknown method or parameter, or a parameter that none of them has.
        """
        given = dict(parameters or {})
        shared = given if window is None else {"window": window, **given}
        visual, cache = [*SELECTORS], [*CACHE_METHODS, *MORE_CACHE_METHODS]
        if methods is not None:
            for text in methods:
                _check_name(text)
            visual = [t for t in methods if is_visual(t)]
            cache = [t for t in methods if not is_visual(t)]
        visual += ["random"] if visual and "random" not in visual else []
        cache += ["random"] if cache and "random" not in cache else []
        entries = (
            tuple(visual_entry(t, shared) for t in dict.fromkeys(visual)),
            tuple(cache_entry(t, shared) for t in dict.fromkeys(cache)),
        )
        _check_shared(given, [e for part in entries for e in part])
        return cls(*entries, tuple(tokens), tuple(shares), seeds)

    def seeds_of(self, entry: Entry | None) -> range:
        """Seeds that a method runs with; None is the model as it is."""
        return range(self.seeds if entry is not None and entry.method.draws else 1)


def _check_name(text: str) -> None:
    """Refuse a name that is neither, with the nearest of all."""
    name = name_in(text)
    if "/" not in name and name not in SELECTORS and name not in CACHE_METHODS and name != ONLINE:
        raise unknown_name("method", name, [*SELECTORS, *CACHE_METHODS, *MORE_CACHE_METHODS])


def _check_shared(shared: Mapping[str, Any], entries: Sequence[Entry]) -> None:
    names = {
        "window",
        *(name for e in entries for part in parts_of(e.method) for name in parameters_of(part)),
    }
    for name in shared:
        if name not in names:
            raise unknown_name("option of this bench", name, sorted(names))


def parts_of(method: VisualMethod | CacheMethod) -> tuple[Any, ...]:
    """A method, or both parts of a pair."""
    return (method.sizing, method.ranking) if isinstance(method, Crossed) else (method,)


def split_calibration(source: str, count: int | None, size: int) -> tuple[QuestionData, QuestionData]:
    """Questions to ask, and questions about other pictures to find layer sizes with.

    Raises:
        DataError: too few pictures for both.
    """
    if source == "world":
        spare = questions.world(SAMPLES * 5, size=size, seed=questions.HELD_OUT + 1)
        return questions.read_source(source, count, size, captions=True), spare
    data = questions.read_source(source, size=size)
    names = list(dict.fromkeys(s.picture for s in data.samples))
    if len(names) <= SAMPLES:
        raise DataError(f"has {len(names)} pictures", where=source, hint=f"give more than {SAMPLES}")
    held = set(names[-SAMPLES:])
    asked = tuple(s for s in data.samples if s.picture not in held)
    rest = tuple(s for s in data.samples if s.picture in held)
    facts = data.protocol | {"kept for profiles": SAMPLES}
    return replace(data, samples=asked, protocol=facts).first(count), replace(data, samples=rest)
