"""What a bench of this task runs: methods, budgets, seeds, and which questions are kept for layer sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from wildsight.compression.evaluation import questions
from wildsight.compression.evaluation.questions import QuestionData
from wildsight.compression.methods.cache.base import KV_METHODS, kv_method
from wildsight.compression.methods.visual.base import DRAWS, FASTV, SELECTORS
from wildsight.errors import DataError

CACHE_METHODS = (
    *KV_METHODS,
    "prefix/window",
    "prefixkv-online",
    "sensitivity/attention",
    "sensitivity/window",
)
"""Named methods, prefix sizes with SnapKV's scorer, sizes from the prompt, and from sensitivity."""
SAMPLES = 10
"""Pictures that layer sizes are found on."""


@dataclass(frozen=True)
class Plan:
    """What a bench runs.

    Attributes:
        visual: selectors.
        cache: cache methods.
        tokens: tokens per image, counts or shares.
        shares: of the cache.
        seeds: how many, from 0; methods that draw nothing run once.
    """

    visual: tuple[str, ...]
    cache: tuple[str, ...]
    tokens: tuple[int | float, ...]
    shares: tuple[float, ...]
    seeds: int

    @classmethod
    def of(cls, methods: Sequence[str] | None, tokens: Any, shares: Any, seeds: int) -> Plan:
        """From a bench's options; ``random`` is in every table."""
        if methods is None:
            return cls((*SELECTORS, FASTV), CACHE_METHODS, tuple(tokens), tuple(shares), seeds)
        for name in methods:
            if name not in (*SELECTORS, FASTV, *CACHE_METHODS):
                kv_method(name)
        visual = [n for n in methods if n in (*SELECTORS, FASTV)]
        cache = [n for n in methods if n not in visual]
        visual += ["random"] if visual and "random" not in visual else []
        cache += ["random"] if cache and "random" not in cache else []
        return cls(tuple(visual), tuple(cache), tuple(tokens), tuple(shares), seeds)

    def seeds_of(self, method: str) -> range:
        """Seeds that a method runs with."""
        return range(self.seeds if method in DRAWS else 1)


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
    told = tuple(s for s in data.samples if s.picture not in held)
    rest = tuple(s for s in data.samples if s.picture in held)
    facts = data.protocol | {"kept for profiles": SAMPLES}
    return replace(data, samples=told, protocol=facts).first(count), replace(data, samples=rest)
