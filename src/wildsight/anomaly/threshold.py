"""The threshold comes from good pictures alone, at a stated false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wildsight.errors import ConfigError, DataError


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
