"""The table of tasks: what each answers, and where its parts are. Importing it imports no task, no torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from wildsight.errors import ConfigError


@dataclass(frozen=True)
class TaskEntry:
    """Where a task's parts are, as strings, so that listing tasks imports none of them.

    Attributes:
        problem: the question it answers, as a user would say it.
        pipeline: the hub's word for the kind of task.
        estimator: ``module:Class`` of the public object.
        check: ``module:function`` that takes a source string and returns the problems found.
        bench: ``module:Class`` of the bench, or a function that runs it.
        registries: ``module:NAME`` of each registry of methods; the estimator's own where empty.
    """

    problem: str
    pipeline: str
    estimator: str
    check: str
    bench: str
    registries: tuple[str, ...] = ()


TASKS: dict[str, TaskEntry] = {
    "anomaly": TaskEntry(
        problem="find what is wrong in these pictures, I only have good ones",
        pipeline="image-segmentation",
        estimator="wildsight.anomaly:AnomalyDetector",
        check="wildsight.anomaly.data:check_source",
        bench="wildsight.anomaly.bench:AnomalyBench",
    ),
    "compression": TaskEntry(
        problem="my multimodal LLM is too slow and too big",
        pipeline="image-text-to-text",
        estimator="wildsight.compression:Compressed",
        check="wildsight.compression.evaluation.questions:check_source",
        bench="wildsight.compression.evaluation.bench:bench",
        registries=("wildsight.compression:SELECTORS", "wildsight.compression:CACHE_METHODS"),
    ),
    "composition": TaskEntry(
        problem="recognise 'wet cat' though training only had 'wet dog' and 'dry cat'",
        pipeline="image-classification",
        estimator="wildsight.composition:CompositionRecognizer",
        check="wildsight.composition.data:check_source",
        bench="wildsight.composition.bench:CompositionBench",
    ),
    "continual": TaskEntry(
        problem="keep teaching one CLIP new tasks, break nothing it knew",
        pipeline="zero-shot-image-classification",
        estimator="wildsight.continual:ContinualLearner",
        check="wildsight.continual.data:check_source",
        bench="wildsight.continual.bench:ContinualBench",
    ),
    "discovery": TaskEntry(
        problem="sort this unlabelled folder into the classes I know and the new ones",
        pipeline="image-classification",
        estimator="wildsight.discovery:CategoryDiscoverer",
        check="wildsight.discovery.data:check_source",
        bench="wildsight.discovery.bench:DiscoveryBench",
    ),
    "segmentation": TaskEntry(
        problem="outline the defect exactly",
        pipeline="mask-generation",
        estimator="wildsight.segmentation:AnomalySegmenter",
        check="wildsight.segmentation.data:check_source",
        bench="wildsight.segmentation.bench:SegmentationBench",
    ),
    "fusion": TaskEntry(
        problem="RGB, depth, thermal, event, LiDAR: one mask",
        pipeline="image-segmentation",
        estimator="wildsight.fusion:FusionSegmenter",
        check="wildsight.fusion.data:check_source",
        bench="wildsight.fusion.bench:FusionBench",
    ),
    "retrieval": TaskEntry(
        problem="find the photo from my sketch, for classes never trained",
        pipeline="image-feature-extraction",
        estimator="wildsight.retrieval:SketchRetriever",
        check="wildsight.retrieval.data:check_source",
        bench="wildsight.retrieval.bench:RetrievalBench",
    ),
    "spatial": TaskEntry(
        problem="where in metres is the black car, from one picture",
        pipeline="image-text-to-text",
        estimator="wildsight.spatial:SpatialGrounder",
        check="wildsight.spatial.data:check_source",
        bench="wildsight.spatial.bench:SpatialBench",
    ),
}


def task_named(name: str) -> TaskEntry:
    """The task called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in TASKS:
        raise ConfigError(f"no task is called {name!r}", hint=f"use one of {', '.join(TASKS)}")
    return TASKS[name]


def resolve(target: str) -> Any:
    """The object that a ``module:name`` string points to."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
