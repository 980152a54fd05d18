"""RAS and its peers on one source: the same features, the same budget, several seeds."""

from __future__ import annotations

from typing import Any, ClassVar

from wildsight.anomaly.data import read_source
from wildsight.anomaly.estimator import AnomalyDetector
from wildsight.anomaly.select import SELECTIONS
from wildsight.estimators.bench import Bench


class AnomalyBench(Bench):
    """All methods see the same cached features, the neighbourhood mean of RAS's neck included."""

    estimator = AnomalyDetector
    metrics = ("image_auroc", "pixel_auroc", "aupro", "image_ap", "pixel_ap", "pixel_f1max")
    own: ClassVar[dict[str, Any]] = {"categories": None}
    choosing = frozenset({"categories"})

    def read(self, source: Any) -> Any:
        """The data behind the source, only the chosen categories."""
        return read_source(source).select(self.own_options["categories"])

    def facts(self, data: Any) -> dict[str, Any]:
        """How the weights are chosen."""
        return {"selection": SELECTIONS[self.options.fit.get("select", "last")]}
