"""Scores of answers and of generated text, each with its exact definition; no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

_ARTICLES = frozenset({"a", "an", "the"})
DRAWS = 1000


def normalised(text: str) -> str:
    """Lower case, without punctuation at word borders and without articles, single spaces.

    >>> normalised(" The  Red cube. ")
    'red cube'
    """
    words = (re.sub(r"^\W+|\W+$", "", word) for word in text.lower().split())
    return " ".join(word for word in words if word and word not in _ARTICLES)


def answer_score(said: str, accepted: Sequence[str]) -> float:
    """1 for an accepted answer; with ten people's answers, ``min(agreeing / 3, 1)`` (VQA accuracy).

    >>> answer_score("Yes.", ["yes"]), answer_score("2", ["2"] * 2 + ["3"] * 8)
    (1.0, 0.6666666666666666)
    """
    agreeing = sum(normalised(said) == normalised(answer) for answer in accepted)
    return min(agreeing / 3, 1.0) if len(accepted) >= 10 else float(agreeing > 0)


def f1_of_yes(said: Sequence[str], truth: Sequence[str]) -> float:
    """F1 of the answer ``yes``, as POPE has it; NaN without any true or given ``yes``.

    >>> f1_of_yes(["yes", "yes", "no"], ["yes", "no", "yes"])
    0.5
    """
    given = [normalised(s) == "yes" for s in said]
    true = [normalised(t) == "yes" for t in truth]
    right = sum(g and t for g, t in zip(given, true, strict=True))
    total = sum(given) + sum(true)
    return 2 * right / total if total else math.nan


def bootstrap_interval(
    values: Sequence[float], groups: Sequence[str] | None = None, *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, drawing whole groups (pictures) where they are given.

    >>> low, high = bootstrap_interval([0.0, 1.0] * 50)
    >>> low < 0.5 < high
    True
    """
    names = list(range(len(values))) if groups is None else list(groups)
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    sums, counts = np.zeros(len(index)), np.zeros(len(index))
    for name, value in zip(names, values, strict=True):
        sums[index[name]] += value
        counts[index[name]] += 1
    draws = np.random.default_rng(seed).integers(len(index), size=(DRAWS, len(index)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def rouge_l(said: Sequence[int] | Sequence[str], reference: Sequence[int] | Sequence[str]) -> float:
    """ROUGE-L F measure of two token sequences; 1 for two empty ones.

    >>> rouge_l("a b c d".split(), "a c d e".split())
    0.75
    """
    if not said or not reference:
        return float(len(said) == len(reference))
    row = [0] * (len(reference) + 1)
    for token in said:
        before = 0
        for j, other in enumerate(reference, 1):
            above = row[j]
            row[j] = before + 1 if token == other else max(row[j], row[j - 1])
            before = above
    common = row[-1]
    precision, recall = common / len(said), common / len(reference)
    return 2 * precision * recall / (precision + recall) if common else 0.0


def perplexity(losses: Sequence[float]) -> float:
    """``exp`` of the mean negative log likelihood over all answer tokens of all samples.

    >>> round(perplexity([0.0, math.log(4.0)]), 6)
    2.0
    """
    return math.exp(math.fsum(losses) / len(losses)) if losses else math.nan
