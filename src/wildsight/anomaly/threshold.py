"""The threshold comes from good pictures alone, at a false-alarm rate that they can bear out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wildsight.errors import CheckpointError, ConfigError, DataError

LARGEST = 3.4e38
"""The largest score: they are single precision."""


@dataclass(frozen=True)
class Threshold:
    """A verdict's limit and what it promises.

    Attributes:
        value: a score above it is anomalous.
        rate: share of good pictures expected above it, at most; the rate asked for where enough good
            pictures were held out, else 1/(n+1).
        n: good pictures that it was set on.
    """

    value: float
    rate: float
    n: int

    def __post_init__(self) -> None:
        numbers = all(isinstance(v, int | float) for v in (self.value, self.rate))
        if not numbers or not (abs(self.value) <= LARGEST and 0 <= self.rate <= 1 and self.n >= 0):
            what = f"no threshold: value {self.value}, rate {self.rate}, from {self.n} pictures"
            raise CheckpointError(what, hint="fit again")

    def words(self, asked: float) -> str:
        """What the limit gives, what it rests on, and what the rate asked for would need.

        >>> Threshold(3.0, 0.25, 3).words(0.005)
        'false-alarm rate 0.25 at most, by 3 good pictures; 0.005 was asked for and needs 199'
        >>> Threshold(3.0, 0.05, 99).words(0.05)
        'false-alarm rate 0.05 at most, by 99 good pictures'
        >>> Threshold(3.0, 1.0, 0).words(0.05)
        'false-alarm rate unknown: no good pictures were scored'
        """
        if not self.n:
            return "false-alarm rate unknown: no good pictures were scored"
        text = f"false-alarm rate {self.rate:.3g} at most, by {self.n} good picture{'s' * (self.n > 1)}"
        if self.rate > asked and needed(asked) > self.n:
            text += f"; {asked:g} was asked for and needs {needed(asked)}"
        return text


def needed(rate: float) -> int:
    """Good pictures that a limit at ``rate`` rests on, at least.

    >>> needed(0.005), needed(0.01), needed(0.5)
    (199, 99, 1)
    """
    return max(1, math.ceil(round(1.0 / rate, 9)) - 1)


def threshold_at(value: float, scores: Sequence[float]) -> Threshold:
    """A limit set by hand, with the rate that good ``scores`` promise there: ``(above + 1) / (n + 1)``.

    Raises:
        ConfigError: ``value`` is not a finite number.

    >>> threshold_at(2.0, [1.0, 2.0, 3.0])
    Threshold(value=2.0, rate=0.5, n=3)
    """
    if not math.isfinite(value):
        raise ConfigError(f"a threshold of {value} separates nothing", hint="give a finite number")
    above = sum(score > value for score in scores)
    return Threshold(float(value), (above + 1) / (len(scores) + 1), len(scores))


def moved(
    limits: Mapping[str, Threshold],
    scores: Mapping[str, Sequence[float]],
    *,
    rate: float,
    value: float | None = None,
    category: str | None = None,
) -> dict[str, Threshold]:
    """The limits after a move; where a category has no scores, those of all count.

    Args:
        limits: as they are, by category.
        scores: of good pictures, by category.
        rate: wanted false-alarm rate in (0, 1), where no ``value`` is given.
        value: the limit itself.
        category: the one that moves; all of them where None.

    Raises:
        ConfigError: ``value`` is not finite, ``rate`` is outside (0, 1), an unknown category, or no scores.
    """
    if (category or "") not in limits:
        known = ", ".join(name for name in limits if name)
        raise ConfigError(f"no category is called {category!r}", hint=f"use one of {known}")
    everything = [s for group in scores.values() for s in group]
    if value is not None:
        new = {name: threshold_at(value, scores.get(name) or everything) for name in limits}
    elif everything:
        new = dict.fromkeys(limits, conformal_threshold(everything, rate)) | limits_of(scores, rate)
    else:
        hint = "give good pictures, or the value itself"
        raise ConfigError("no scores of good pictures were saved", hint=hint)
    return new if category is None else {**limits, category: new[category]}


def limit_lines(limits: Mapping[str, Threshold], asked: float) -> list[str]:
    """A line for each limit: its value, what it gives and what it rests on."""
    named = {name or "any category": limit for name, limit in limits.items()}
    width = max(map(len, named))
    return [f"{name:<{width}}  {limit.value:.4f}  {limit.words(asked)}" for name, limit in named.items()]


def limits_of(scores: Mapping[str, Sequence[float]], rate: float) -> dict[str, Threshold]:
    """One limit per category, and the global one, under the empty name, over the scores of all.

    A category without a score takes the global limit.

    Args:
        scores: of good pictures that each was not learned from, by category.
        rate: wanted false-alarm rate in (0, 1).

    Raises:
        ConfigError: ``rate`` outside (0, 1).
        DataError: no scores.
    """
    everything = conformal_threshold([s for group in scores.values() for s in group], rate)
    own = {name: conformal_threshold(group, rate) if group else everything for name, group in scores.items()}
    return {"": everything, **{name: limit for name, limit in own.items() if name}}


def conformal_threshold(scores: Sequence[float], rate: float) -> Threshold:
    """The k-th smallest of n held-out good scores, k = ceil((n + 1)(1 - rate)), at most n.

    A new good picture, exchangeable with the held-out ones, scores above it with a probability of at
    most ``1 - k/(n + 1)``.

    Args:
        scores: scores of good pictures that were not trained on.
        rate: wanted false-alarm rate in (0, 1).

    Raises:
        ConfigError: ``rate`` outside (0, 1).
        DataError: no scores.

    >>> conformal_threshold([float(i) for i in range(1, 100)], 0.05)
    Threshold(value=95.0, rate=0.05, n=99)
    >>> conformal_threshold([1.0, 2.0, 3.0], 0.005)
    Threshold(value=3.0, rate=0.25, n=3)
    """
    if not 0.0 < rate < 1.0:
        raise ConfigError(f"false_alarm_rate={rate} is outside (0, 1)", hint="try 0.005")
    if not scores:
        raise DataError("no good picture was held out to set the threshold", hint="give more good pictures")
    n = len(scores)
    k = math.ceil(round((n + 1) * (1.0 - rate), 9))
    if k > n:
        return Threshold(float(max(scores)), 1.0 / (n + 1), n)
    return Threshold(float(sorted(scores)[k - 1]), rate, n)


def by_category(categories: Sequence[str], scores: Sequence[float]) -> dict[str, list[float]]:
    """Scores of good pictures by category, in alphabetical order; a NaN is a picture without a score."""
    groups: dict[str, list[float]] = {name: [] for name in sorted(set(categories))}
    for name, score in zip(categories, scores, strict=True):
        if math.isfinite(score):
            groups[name].append(score)
    return groups


def limit_rows(thresholds: Mapping[str, Threshold]) -> list[dict[str, Any]]:
    """The limits as rows of a table."""
    return [
        {"category": name or "(global)", "threshold": t.value, "false_alarm_rate": t.rate, "held_out": t.n}
        for name, t in thresholds.items()
    ]
