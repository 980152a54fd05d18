"""Budgets are whole numbers, and they come from here alone."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from wildsight.errors import BudgetError


def n_keep(n: int, keep: int | float) -> int:
    """How many of ``n`` things a budget keeps.

    Args:
        n: number of things there are, >= 1.
        keep: an ``int`` is a count in [1, n]; a ``float`` is a share in (0, 1], rounded half up and
            never below 1. ``1`` is one thing, ``1.0`` is all of them.

    Returns:
        A count in [1, n].

    Raises:
        BudgetError: ``n`` < 1, or ``keep`` outside its range.

    >>> n_keep(576, 128), n_keep(576, 0.5), n_keep(3, 0.01), n_keep(7, 1.0)
    (128, 288, 1, 7)
    """
    if n < 1:
        raise BudgetError(f"cannot keep any of {n} things", hint="give at least one")
    if isinstance(keep, bool) or not isinstance(keep, int | float):
        raise BudgetError(f"keep={keep!r} is not a number", hint="give a count or a share in (0, 1]")
    if isinstance(keep, int):
        if not 1 <= keep <= n:
            raise BudgetError(f"keep={keep} is outside [1, {n}]", hint=f"give a count of at most {n}")
        return keep
    if not 0.0 < keep <= 1.0:
        raise BudgetError(f"keep={keep} is outside (0, 1]", hint="give a share above 0 and at most 1")
    return max(1, int(Fraction(keep) * n + Fraction(1, 2)))


def keep_top(scores: Sequence[float], count: int) -> list[int]:
    """Indices of the ``count`` highest scores in ascending index order; ties go to the lowest index.

    >>> keep_top([0.1, 0.9, 0.9, 0.2], 2), keep_top([1.0, 1.0, 1.0], 2)
    ([1, 2], [0, 1])
    """
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return sorted(ranked[: n_keep(len(scores), count)])
