"""How many tokens each layer keeps: uniform, pyramid and given shares, as exact whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from wildsight.errors import BudgetError


def check_share(share: float) -> float:
    """``share`` itself.

    Raises:
        BudgetError: it is not a number in (0, 1].
    """
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0.0 < float(share) <= 1.0:
        raise BudgetError(
            f"a cache share of {share} is outside (0, 1]", hint="give a share above 0, at most 1"
        )
    return float(share)


def half_up(value: float | Fraction) -> int:
    """Nearest whole number, halves up."""
    return int(Fraction(value) + Fraction(1, 2))


def largest_remainder(ideal: Sequence[float], total: int, floor: int, ceiling: int) -> list[int]:
    """Whole numbers near ``ideal`` that sum to ``total`` and lie in [floor, ceiling].

    Args:
        ideal: wanted size of each layer, tokens.
        total: their sum; moved into [L * floor, L * ceiling] if outside.
        floor: smallest size of a layer.
        ceiling: largest size of a layer.

    >>> largest_remainder([1.5, 1.5, 3.0], 6, 1, 5), largest_remainder([0.2, 0.2, 5.6], 6, 1, 5)
    ([2, 1, 3], [1, 1, 4])
    """
    total = min(max(total, floor * len(ideal)), ceiling * len(ideal))
    sizes = [min(max(int(value), floor), ceiling) for value in ideal]
    step = 1 if sum(sizes) < total else -1
    while (missing := abs(total - sum(sizes))) > 0:
        order = sorted(range(len(ideal)), key=lambda i: (-step * (ideal[i] - sizes[i]), i))
        movable = [i for i in order if floor <= sizes[i] + step <= ceiling]
        for i in movable[:missing]:
            sizes[i] += step
    return sizes


def token_counts(shares: Sequence[float], length: int, floor: int) -> list[int]:
    """Tokens that each layer keeps of a prompt of ``length`` tokens; the sum is exact.

    Args:
        shares: retained share of each layer, in [0, 1].
        length: tokens of the prompt.
        floor: tokens that are never evicted; a shorter prompt is kept whole.

    >>> token_counts([0.5, 0.5, 0.5], 7, 2), token_counts([0.0, 1.0], 10, 2)
    ([4, 4, 3], [2, 8])
    """
    total = half_up(sum(Fraction(share) * length for share in shares))
    return largest_remainder([share * length for share in shares], total, min(floor, length), length)


def published_counts(shares: Sequence[float], length: int, floor: int) -> list[int]:
    """As the published PrefixKV code: each layer forgets ``round((1 - share) * length)`` on its own."""
    kept = [length - round((1.0 - share) * length) for share in shares]
    return [min(max(k, min(floor, length)), length) for k in kept]


def uniform_shares(share: float, layers: int) -> list[float]:
    """The same share everywhere."""
    return [share] * layers


def pyramid_shares(share: float, layers: int, beta: float = 20.0, window: float = 0.0) -> list[float]:
    """PyramidKV: sizes that fall linearly from the first layer to the last, with the given mean.

    Args:
        share: mean share.
        layers: number of layers.
        beta: the last layer gets ``share / beta``.
        window: share of the prompt in the observation window; no layer keeps more than ``1 - window``.

    >>> [round(s, 3) for s in pyramid_shares(0.5, 3)]
    [0.975, 0.5, 0.025]
    """
    low = share / beta
    high = 2.0 * share - low
    if high > 1.0 - window:
        high = max(share, 1.0 - window)
        low = 2.0 * share - high
    if layers == 1:
        return [share]
    return [high - layer * (high - low) / (layers - 1) for layer in range(layers)]
