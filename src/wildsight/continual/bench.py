"""MulKI and its peers in one loop: the same pictures, recipe and matrix, several seeds and orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from wildsight.backbones import load_backbone
from wildsight.continual.data import reordered, thinned
from wildsight.continual.estimator import ContinualLearner
from wildsight.continual.reports import matrix_picture
from wildsight.continual.tasks import TaskSequence
from wildsight.continual.variants import ABLATIONS
from wildsight.estimators.bench import Bench
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.registry import Variant
from wildsight.files import digest_of

WITH_ABLATIONS = "ablations"
PREFIX = "order "


class ContinualBench(Bench):
    """Every method learns the sequence in every order with every seed, from the same pictures.

    Args:
        source: ``world``, a folder, ``NAME:PATH``, or a sequence already read.
        methods: as in the base; also rungs of the ablation, and ``ablations`` for all of them.
        options: as in the base. ``orders``: number of orders of the tasks, the source's own first.
            ``per_class`` and ``per_class_test``: pictures drawn of each class, all where it holds fewer.
    """

    estimator = ContinualLearner
    metrics = (
        "transfer",
        "avg",
        "last",
        "forgetting",
        "backward_transfer",
        "train_seconds",
        "prepare_seconds",
    )
    cost = "train_seconds"
    own: ClassVar[dict[str, Any]] = {"orders": 1, "per_class": None, "per_class_test": None}
    choosing = frozenset({"orders"})

    def __init__(
        self, source: Any, *, methods: Sequence[str] | None = None, backbone: Any = None, **options: Any
    ) -> None:
        chosen = methods or tuple(self.estimator.methods)
        names = [n for m in chosen for n in (ABLATIONS if m == WITH_ABLATIONS else [m])]
        given = self.estimator.default_backbone if backbone is None else backbone
        network = (
            load_backbone(str(given), device=options.get("device", "auto"))
            if isinstance(given, str | Path)
            else given
        )
        super().__init__(source, methods=list(dict.fromkeys(names)), backbone=network, **options)

    def read(self, source: Any) -> TaskSequence:
        """The sequence; its protocol knows the tasks by their pictures' names and sizes."""
        sequence: TaskSequence = self.first._read(source)
        digest = digest_of([t.digest() for t in sequence.tasks])
        return replace(sequence, protocol={**sequence.protocol, "tasks SHA-256": digest})

    def parts(self, data: TaskSequence) -> Iterator[tuple[str, TaskSequence]]:
        """The orders of the tasks."""
        for order in range(1, self.own_options["orders"] + 1):
            yield f"{PREFIX}{order}", reordered(data, order)

    def _drawn(self, data: TaskSequence, seed: int) -> TaskSequence:
        """The pictures of a seed."""
        return thinned(data, self.own_options["per_class"], self.own_options["per_class_test"], seed)

    def fit(self, estimator: Any, data: Any, folder: Path, training: Mapping[str, Any]) -> None:
        """Learn the sequence; a cell that was stopped begins anew."""
        options = {"repeat": True, **self.options.fit}
        sequence = self._drawn(data, estimator.settings.seed)
        estimator.fit(sequence, progress=self.progress, **options, **training)

    def evaluate(self, estimator: Any, data: Any) -> Evaluation:
        """The figures of the learner's matrix, which holds a test after every task."""
        updates = estimator.updates
        spent = {f"{k}_seconds": sum(u.seconds.get(k, 0.0) for u in updates) for k in ("train", "prepare")}
        return Evaluation(rows=[{**estimator.scores(data.scenario), **spent}])

    def rows(self, estimator: Any, evaluation: Evaluation, data: Any) -> list[dict[str, Any]]:
        """One row per order."""
        return [{"group": "", **row} for row in evaluation.rows]

    def is_shown(self, chosen: Variant[Any], seed: int) -> bool:
        """Whether a cell's matrix is shown: every method's, of the first seed."""
        return seed == 0

    def shown(self, estimator: Any, evaluation: Evaluation, data: Any) -> list[tuple[Any, str]]:
        """The accuracy matrix."""
        order = ", ".join(t.name for t in data.tasks)
        return [(matrix_picture(estimator.matrix), f"{estimator.settings.method}: {order}")]

    def facts(self, data: TaskSequence) -> dict[str, Any]:
        """How pictures are drawn and weights are chosen."""
        return {
            "pictures per class": self._drawn(data, 0).protocol["pictures per class"],
            "selection": "the last step of every task; nothing on test pictures",
            "mulki": "reconstructed from the paper's abstract and outline",
        }
