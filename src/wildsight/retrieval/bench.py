"""The paper's loss, its margins and its peers on one source: the same frozen features, several seeds."""

from __future__ import annotations

from typing import Any, ClassVar

from wildsight.estimators.bench import Bench
from wildsight.estimators.evaluation import Evaluation
from wildsight.retrieval.data import RetrievalData
from wildsight.retrieval.estimator import SketchRetriever
from wildsight.retrieval.methods import EPISODES


class RetrievalBench(Bench):
    """Binary codes, where ``bits`` asks for them, have a row of their own beside the real values."""

    estimator = SketchRetriever
    metrics: ClassVar[tuple[str, ...]] = (
        "map_all",
        "map_200_voc",
        "map_200_hits",
        "p_100",
        "p_200",
        "recall_1",
        "recall_10",
    )

    def evaluate(self, estimator: SketchRetriever, data: RetrievalData) -> Evaluation:
        """The real-valued embeddings of one cell."""
        options = {**self.options.evaluate, "binary": False}
        return estimator.evaluate(data, progress=self.progress, **options)

    def rows(
        self, estimator: SketchRetriever, evaluation: Evaluation, data: RetrievalData
    ) -> list[dict[str, Any]]:
        """The test classes, with the validation classes' mAP beside it, and the codes."""
        rows = super().rows(estimator, evaluation, data)
        if data.part("validation"):
            validation = estimator.evaluate(data, split="validation", binary=False, progress=False)
            rows[0]["validation_map_all"] = validation.row["map_all"]
        if estimator.codes is not None and self.options.evaluate.get("binary", True):
            codes = estimator.evaluate(data, progress=False).row
            rows.append({"group": f"{rows[0]['group']}, {estimator.settings.bits} bits", **codes})
        return rows

    def facts(self, data: RetrievalData) -> dict[str, Any]:
        """How long is trained, what codes there are, and that nothing is selected."""
        bits, training = self.first.settings.bits, self.first.training_config(self.options.training)
        codes = f"{bits} bits, ITQ on training photos, beside the real values" if bits else "none"
        return {
            "iterations": training.epochs * EPISODES,
            "binary code": codes,
            "selection": "last iteration; nothing is selected on test data",
        }
