"""PWRF and its peers on one source: the same features, the same budget, several sets of sensors and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from wildsight.estimators.bench import Bench
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.registry import Variant
from wildsight.fusion.data import without
from wildsight.fusion.estimator import FusionSegmenter
from wildsight.fusion.inputs import Store
from wildsight.fusion.scoring import ALL
from wildsight.results import spread

METRICS = ("miou", "macc", "acc", "miou_absent_zero", "fit_seconds")
SALIENCY_METRICS = ("s", "wf", "maxf", "maxe", "mae", "fit_seconds")
SETS = (("rgb", "depth"), ("rgb", "depth", "thermal"), ("rgb", "depth", "thermal", "event", "lidar"))


class FusionBench(Bench):
    """All methods see the same cached features, the same epochs and the same hiding of modalities.

    A group is ``SET CONDITION``: each condition of the test scenes, ``missing:NAME`` and ``dead:NAME`` for
    each sensor in turn, and ``drop``, how much the mean over missing sensors lies below all of them together.

    Args:
        source: as in the base, or data already read.
        options: as in the base; ``modalities`` lists the sets of sensors, by default those of 2, 3 and 5
            that the source has, or all that it has.
    """

    estimator = FusionSegmenter
    metrics = METRICS
    own: ClassVar[dict[str, Any]] = {"modalities": None}
    choosing = frozenset({"modalities"})

    def __init__(self, source: Any, **options: Any) -> None:
        self.store = Store()
        super().__init__(source, **options)
        list(self.parts(self.data))  # a sensor that the source lacks is refused before any work

    def settings_of(self, chosen: Variant[Any]) -> dict[str, Any]:
        """As in the base; frozen features are shared."""
        return {**self.options.settings, "store": self.store}

    def parts(self, data: Any) -> Iterator[tuple[str, Any]]:
        """Each set of sensors."""
        usual = [names for names in SETS if set(names) <= set(data.modalities)] or [data.modalities]
        for names in self.own_options["modalities"] or usual:
            yield "+".join(names), data.with_modalities(names if isinstance(names, str) else list(names))

    def rows(self, estimator: Any, evaluation: Evaluation, data: Any) -> list[dict[str, Any]]:
        """Each condition, each sensor missing, each reading zero, and how far the headline falls."""
        rows = super().rows(estimator, evaluation, data)
        for dead in (False, True):
            for name in data.modalities:
                spoiled = estimator.evaluate(without(data, name, dead), progress=False).overall
                group = f"{'dead' if dead else 'missing'}:{name}"
                rows.append({"group": group, **{k: v for k, v in spoiled.items() if k != evaluation.group}})
        rows.append(loss_without(rows, estimator.headline))
        return [{**row, "parameters": estimator.parameters} for row in rows]

    def metrics_of(self, data: Any) -> tuple[str, ...]:
        """Those of the task."""
        return SALIENCY_METRICS if data.saliency else METRICS

    def facts(self, data: Any) -> dict[str, Any]:
        """How things are selected."""
        return {
            "single": "its modality is chosen on a fifth of the training scenes",
            "selection": "last epoch; nothing is selected on test data",
        }


def loss_without(rows: Sequence[dict[str, Any]], headline: str) -> dict[str, Any]:
    """How far the headline falls, on average, when one modality is missing."""
    whole = next(r[headline] for r in rows if r["group"] == ALL)
    parts = [r[headline] for r in rows if r["group"].startswith("missing:")]
    return {"group": "drop when one is missing", headline: whole - spread(parts)[0]}
