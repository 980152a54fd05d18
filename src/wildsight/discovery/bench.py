"""NN-GCD and its peers on one source: the same frozen features and views, the same budget, several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from wildsight.discovery.data import read_source
from wildsight.discovery.estimator import CategoryDiscoverer
from wildsight.discovery.methods.simgcd import ABLATION
from wildsight.discovery.result import Fitted
from wildsight.discovery.snmf import class_consistency, diagnostics
from wildsight.estimators.bench import Bench
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.registry import Variant

RAW = "sskmeans-raw"
TRUE = "true"
SHORT: dict[str, Any] = {"hidden": 512, "out": 128}
"""The projector of the committed benches: a quarter of the recipe's width."""


class DiscoveryBench(Bench):
    """Trained methods share the cached tokens, the recipe and the number of epochs; the last epoch counts.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        methods: as in the base; also ``sskmeans-raw`` (features as published), ``nngcd-`` and a preset such
            as ``nngcd-text`` or ``nngcd-released:cub``, or rungs of the ablation.
        ablation: run the rungs from SimGCD to NN-GCD and the switches beside them, too.
        options: as in the base; ``k="true"`` gives the true number of classes, as the field does;
            ``classes`` and ``per_class`` cut the set down to so many, half of the classes new.
    """

    estimator = CategoryDiscoverer
    metrics = ("all", "old", "new", "fixed_all", "sure_fixed_all", "fit_seconds")
    table = ("sskmeans", "nngcd", "simgcd", "cms", "kmeans", RAW)
    own: ClassVar[dict[str, Any]] = {"classes": None, "per_class": None}
    choosing = frozenset({"classes", "per_class"})

    def __init__(
        self, source: Any, *, methods: Sequence[str] | None = None, ablation: bool = False, **options: Any
    ) -> None:
        self._data: Any = None
        names = [*(methods or self.table), *(ABLATION if ablation else ())]
        super().__init__(source, methods=list(dict.fromkeys(names)), **options)

    def variant(self, name: str) -> Variant[Any]:
        """As in the base; also the k-means on features as published."""
        return replace(super().variant("sskmeans"), text=RAW) if name == RAW else super().variant(name)

    def read(self, source: Any) -> Any:
        """The data behind the source, cut down where that was asked for."""
        cut = (self.own_options["classes"], self.own_options["per_class"])
        self._data = read_source(source).limited(*cut)
        return self._data

    def settings_of(self, chosen: Variant[Any]) -> dict[str, Any]:
        """As in the base, with the true K and the raw features where they are asked for."""
        given = dict(self.options.settings)
        if _is_true(given.get("k")):
            there = self._data  # None while the backbone is loaded
            given["k"] = "auto" if there is None else len(there.known) + len(there.new)
        return {**given, "components": 0} if chosen.text == RAW else given

    def rows(self, estimator: Any, evaluation: Evaluation, data: Any) -> list[dict[str, Any]]:
        """The scores, and how near the features that the loss sees are to the block form."""
        shape = projected(estimator.need_fit())
        return [
            {"group": data.name, **row, **{f"abar_{k}": v for k, v in shape.items()}}
            for row in evaluation.rows
        ]

    def facts(self, data: Any) -> dict[str, Any]:
        """How the number of groups was come by, and what is scored."""
        k = self.options.settings.get("k", "auto")
        return {
            "K": "given (the true number)" if _is_true(k) else k,
            "scoring": "transductive, v2 headline; last epoch, nothing selected on the scores",
        }


def _is_true(k: Any) -> bool:
    """Whether K is asked for as ``true``, which a command line reads as a truth value."""
    return k is True or k == TRUE


def projected(fitted: Fitted, sample: int = 1000) -> dict[str, float]:
    """How near the co-occurrence of the features that the loss sees is to the block form.

    For a trained method u, the projector's output; else the frozen features. Old and new by true class.
    """
    true, rows = fitted.data.truths(), fitted.projected
    chosen = np.flatnonzero(true >= 0)
    if len(chosen) > sample:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, sample, replace=False))
    features = rows[chosen].astype(np.float64)
    values = diagnostics(features, true[chosen] < len(fitted.data.known))
    return {**values, "consistency": class_consistency(features, true[chosen])}
