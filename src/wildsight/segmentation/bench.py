"""SPT and its peers on one source: the same base, masks, prompts and budget, several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from wildsight.errors import ConfigError
from wildsight.estimators.bench import Bench
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.registry import Variant, unknown_name
from wildsight.segmentation.estimator import AnomalySegmenter
from wildsight.segmentation.evaluation import KEYS, PROMPTS
from wildsight.segmentation.prompts import PromptMix

TRAIN_PROMPTS = ("mix", "same")


class SegmentationBench(Bench):
    """The adapters are kept under ``out/adapters``. Methods without training run once for all seeds.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        backbone: a SAM: hub id, local folder or ``nano-sam``.
        base: the same, under its name in adapters.
        options: as in the base; ``train_prompt``: ``mix`` trains with the setting ``prompts``, ``same`` with
            the kind of prompt that is evaluated.
    """

    estimator = AnomalySegmenter
    metrics = KEYS
    own: ClassVar[dict[str, Any]] = {"train_prompt": "mix"}

    def __init__(self, source: Any, *, backbone: Any = None, base: Any = None, **options: Any) -> None:
        if backbone is not None and base is not None:
            raise ConfigError("backbone and base name the same thing", hint="give backbone alone")
        super().__init__(source, backbone=base if backbone is None else backbone, **options)

    def settings_of(self, chosen: Variant[Any]) -> dict[str, Any]:
        """The settings, with the mix of prompts that ``train_prompt`` asks for."""
        settings, train_prompt = super().settings_of(chosen), self.own_options["train_prompt"]
        if train_prompt not in TRAIN_PROMPTS:
            raise unknown_name("train_prompt", str(train_prompt), TRAIN_PROMPTS)
        if train_prompt == "mix":
            return settings
        return {**settings, "prompts": evaluated_mix(self.options.evaluate.get("prompt", PROMPTS[0]))}

    def cell_seed(self, chosen: Variant[Any], seed: int) -> int:
        """One cell serves all seeds of a method without training."""
        return seed if self._trained(chosen) else 0

    def fit(self, estimator: Any, data: Any, folder: Path, training: Mapping[str, Any]) -> None:
        """Fit one cell and keep its adapter."""
        if not estimator.method.trained:
            return
        super().fit(estimator, data, folder, training)
        estimator.save_pretrained(self.out / "adapters" / folder.name.rpartition("-")[0])

    def evaluate(self, estimator: Any, data: Any) -> Evaluation:
        """Evaluate one cell; the predictions of the first seed may be shown."""
        options = {"keep": estimator.settings.seed == 0, **self.options.evaluate}
        evaluation: Evaluation = estimator.evaluate(data, progress=self.progress, **options)
        return evaluation

    def shown(self, estimator: Any, evaluation: Any, data: Any) -> list[tuple[Any, str]]:
        """The three best and the three worst outlines."""
        pictures: list[tuple[Any, str]] = evaluation.pictures(3)
        return pictures

    def facts(self, data: Any) -> dict[str, Any]:
        """Where prompts and weights come from."""
        prompt = self.options.evaluate.get("prompt", PROMPTS[0])
        return {
            "prompt": f"ORACLE {prompt} of the true mask",
            "selection": "last epoch; nothing is selected on test data",
        }


def evaluated_mix(prompt: str) -> PromptMix:
    """Training with the one kind of prompt that is evaluated.

    >>> evaluated_mix("points")
    PromptMix(box=0.0, points=1.0, noise_mask=0.0, count=10)
    """
    return PromptMix(1.0, 0.0) if prompt == "box" else PromptMix(0.0, 1.0)
