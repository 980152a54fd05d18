"""The public object of the segmentation task: SAM, and what a few dozen masks taught it about defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones import Backbone
from wildsight.errors import CheckpointError, ConfigError, DataError, UnsupportedModelError, WildSightError
from wildsight.estimators.legacy import SavedObject
from wildsight.images import Picture, as_list
from wildsight.segmentation import inference
from wildsight.segmentation.adapter import PromptedSam
from wildsight.segmentation.augment import AUGMENTATIONS
from wildsight.segmentation.base import SamBase, load_base
from wildsight.segmentation.data import MaskSample, SegmentationData, at_most, read_source
from wildsight.segmentation.evaluation import evaluate_samples
from wildsight.segmentation.geometry import GEOMETRIES
from wildsight.segmentation.inference import EmbeddedPicture
from wildsight.segmentation.lessons import LessonSet, TrainingStep, frozen_embeddings, usable
from wildsight.segmentation.loss import POINTS
from wildsight.segmentation.methods import METHODS, train_settings
from wildsight.segmentation.prompts import PromptMix
from wildsight.segmentation.result import Evaluation, SegmentationResult
from wildsight.segmentation.spt import SPT, MergedSPT, row_entropy
from wildsight.training import History, TrainConfig, depends_on, train

BATCH = 4
ADAPTER_VERSION = 1


@dataclass(frozen=True)
class SegmenterSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: a name from `METHODS`.
        base: hub id, local folder or ``nano-sam``.
        geometry: ``squash`` (the paper's) or ``letterbox``.
        prompts: what training prompts with.
        per_component: True learns and predicts every connected part of a mask by itself.
        augment: ``none``, ``flip`` or ``jitter``; with a frozen encoder ``jitter`` becomes ``flip``, for
            its embeddings are cached.
        points: points per mask in the loss, >= 4.
        memory: bytes that the prompts of one decoder call may take.
        seed: of the initialisation, the order, the prompts and the augmentation.
    """

    method: str = "spt"
    base: str = "nano-sam"
    geometry: str = "squash"
    prompts: PromptMix = field(default_factory=PromptMix)
    per_component: bool = False
    augment: str = "jitter"
    points: int = POINTS
    memory: int = 4 << 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("geometry", GEOMETRIES), ("augment", AUGMENTATIONS), ("method", tuple(METHODS))):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise ConfigError(f"no {name} is called {value!r}", hint=f"use one of {', '.join(known)}")
        if self.points < 4 or self.memory < 1:
            raise ConfigError(f"points={self.points}, memory={self.memory}", hint="give 4 or more, and bytes")


class AnomalySegmenter(SavedObject):
    """Outlines what a box or points mark.

    >>> AnomalySegmenter(method="nosuch")
    Traceback (most recent call last):
    wildsight.errors.ConfigError: no method is called 'nosuch'; use one of spt, zero-shot, zero-shot-2, \
decoder, lora, lora-draft, lora-relation, sam-adapter, conv-lora

    Args:
        method: ``spt`` (the paper) or a peer.
        base: a SAM by name, or one that is loaded already; it is never altered, but for `merge`.
        hyper: the method's own hyper-parameters by name, e.g. ``{"rank": 4}``.
        settings: other fields of `SegmenterSettings`.

    Raises:
        ConfigError: unknown method, base or setting.
        UnsupportedModelError: a base outside the SAM family.
    """

    task: ClassVar[str] = "segmentation"
    weights_name: ClassVar[str] = "adapter_model"
    config_name: ClassVar[str] = "adapter_config.json"

    def __init__(
        self,
        method: str = "spt",
        base: str | Path | Backbone | SamBase = "nano-sam",
        *,
        hyper: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if method not in METHODS:
            raise ConfigError(f"no method is called {method!r}", hint=f"use one of {', '.join(METHODS)}")
        self.base = base if isinstance(base, SamBase) else load_base(base)
        try:
            self.settings = SegmenterSettings(method=method, base=self.base.name, **settings)
        except TypeError as error:
            raise ConfigError(str(error), hint="see SegmenterSettings") from error
        self.hyper = dict(hyper or {})
        adapter = METHODS[method].build(self.base, self.settings.seed, self.hyper)
        self.network = PromptedSam(self.base, adapter).eval().to(self.base.device)
        self.fitted_on: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.history: History | None = None
        self.faults: list[WildSightError] = []

    def fit(
        self,
        source: str | Path | SegmentationData,
        *,
        masks: int | None = None,
        folder: Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn outlines from the training half of ``source``; samples that cannot be used go to ``faults``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            masks: use at most this many, dealt over the kinds of defect; all when None.
            folder: where the training state is kept; a killed fit goes on there, another one is refused.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; the method's own recipe where not given.

        Raises:
            DataError: no usable training mask.
            ConfigError: a setting outside its range, or a method without training.
            CheckpointError: ``folder`` holds the state of another fit.
        """
        self.unmerge()
        data = source if isinstance(source, SegmentationData) else read_source(source)
        samples = data.train if masks is None else at_most(data.train, masks, data.root)
        if not METHODS[self.settings.method].trained:
            raise ConfigError(f"{self.settings.method} has nothing to learn", hint="use it without fit")
        lessons = self._lessons(samples)
        config = self._training(training)
        told = self._depends(lessons, data.root)
        history = self._learn(lessons, config, folder, progress, told)
        self.history = history
        self.fitted_on = {
            "source": data.name,
            "masks": len(lessons),
            "not_used": len(self.faults),
            "parameters": sum(p.numel() for p in self.network.parameters() if p.requires_grad),
            **self._relation_facts(lessons),
            "protocol": dict(data.protocol),
            "training": {
                k: getattr(config, k) for k in ("epochs", "batch_size", "lr", "schedule", "precision")
            },
        }
        return self

    def _lessons(self, samples: Sequence[MaskSample]) -> LessonSet:
        if not samples:
            raise DataError("no training mask", hint="see the layouts in the documentation")
        size, settings = self.base.image_size, self.settings
        lessons, self.faults = usable(samples, size, settings.geometry, per_component=settings.per_component)
        if not lessons:
            raise self.faults[0]
        if self.network.adapter.trains_encoder:
            return LessonSet(self.base, lessons)
        files = [lesson.sample.image for lesson in lessons]
        return LessonSet(
            self.base,
            lessons,
            frozen_embeddings(self.base, files, settings.geometry, mirrored=settings.augment != "none"),
        )

    def _relation_facts(self, lessons: LessonSet) -> dict[str, float]:
        """How flat the relation of the first picture is; near 1 it is a mean filter."""
        relation = self.embed(lessons.lessons[0].sample.image)[0].relation
        return {} if relation is None else {"relation_entropy": row_entropy(relation)}

    def _training(self, given: Mapping[str, Any]) -> TrainConfig:
        try:
            return replace(train_settings(self.settings.method), seed=self.settings.seed, **given)
        except TypeError as error:
            raise ConfigError(str(error), hint="see TrainConfig") from error

    def _depends(self, lessons: LessonSet, root: Path) -> dict[str, Any]:
        """What a saved state must have been made from to be gone on with."""
        config = METHODS[self.settings.method].settings(self.settings.seed, self.hyper)
        samples, sha = [lesson.sample for lesson in lessons.lessons], self.base.backbone.sha
        learned = [(s.image, s.masks) for s in samples]  # a category may be the folder's own name
        return depends_on(self.settings, config, learned, root, backbone=sha, without=("base", "memory"))

    def _learn(
        self,
        lessons: LessonSet,
        config: TrainConfig,
        folder: Path | None,
        progress: bool,
        told: Mapping[str, Any],
    ) -> History:
        adapter = self.network.adapter
        how = self.settings.augment
        if lessons.embeddings is not None and how == "jitter":
            how = "flip"
        step = TrainingStep(self.base, self.settings.prompts, how, self.settings.points, adapter.passes)
        history = train(
            self.network,
            lessons,
            step,
            config,
            folder=folder,
            progress=progress,
            label=self.settings.method,
            extra=told,
        )
        self.network.eval()
        return history

    def embed(self, images: Picture | Sequence[Picture]) -> list[EmbeddedPicture]:
        """Encode pictures once, for many prompts later; each may stand for its picture in `predict`."""
        many = as_list(images)
        found: list[EmbeddedPicture] = []
        for start in range(0, len(many), BATCH):
            found += inference.embed(self.network, many[start : start + BATCH], self.settings.geometry)
        return found

    def predict(
        self,
        images: Picture | EmbeddedPicture | Sequence[Picture | EmbeddedPicture],
        *,
        boxes: Sequence[Any] | None = None,
        points: Sequence[Any] | None = None,
    ) -> list[SegmentationResult]:
        """Outline what the prompts mark: one mask per box, and one per group of points.

        Args:
            images: files, PIL pictures, arrays or embedded pictures; one or several.
            boxes: for one picture its boxes, each (x1, y1, x2, y2) in pixels of the picture; for several, a
                list of boxes per picture.
            points: for one picture its groups, each a list of (x, y) on one thing; for several, a list of
                groups per picture.

        Returns:
            One result per picture, in order.

        Raises:
            ImageError: a picture cannot be read.
            DataError: a prompt without area, outside its picture, or not finite.
            ConfigError: a picture without a prompt, or as many lists as there are not pictures.
            BudgetError: not even one prompt fits in memory.
        """
        single = isinstance(images, str | Path | Image | np.ndarray | EmbeddedPicture)
        many: list[Any] = [images] if single else list(images)  # type: ignore[arg-type]
        all_boxes, all_points = _per_picture(boxes, many, single), _per_picture(points, many, single)
        results = []
        for start in range(0, len(many), BATCH):
            part = many[start : start + BATCH]
            new = iter(self.embed([p for p in part if not isinstance(p, EmbeddedPicture)]))
            looks = [p if isinstance(p, EmbeddedPicture) else next(new) for p in part]
            for i, look in enumerate(looks, start):
                args = (all_boxes[i], all_points[i], self.settings.memory)
                results.append(inference.outline(self.network, look, *args))
        return results

    def evaluate(
        self,
        source: str | Path | SegmentationData,
        *,
        prompt: str = "box",
        points: int = 10,
        box_jitter: float = 0.0,
        keep: bool = False,
        progress: bool = True,
    ) -> Evaluation:
        """Outline the test half of ``source`` from prompts made of the true masks, and compare.

        Args:
            source: as `fit`.
            prompt: ``box`` (the tight box) or ``points`` (random points on the defect).
            points: how many of them.
            box_jitter: the box's edges move by up to this share of its sides.
            keep: keep the predictions.
            progress: show progress and the time left.

        Raises:
            DataError: no usable test picture.
            ConfigError: an unknown prompt.
        """
        data = source if isinstance(source, SegmentationData) else read_source(source)
        found = evaluate_samples(
            self,
            data,
            prompt=prompt,
            points=points,
            box_jitter=box_jitter,
            per_component=self.settings.per_component,
            keep=keep,
            progress=progress,
        )
        self.metrics = {k: v for k, v in found.rows[-1].items() if k != "category"}
        return found

    def merge(self) -> Self:
        """Fold the low-rank updates for faster inference; the base's encoder holds them until `unmerge`.

        Raises:
            UnsupportedModelError: a method without low-rank updates.
        """
        if isinstance(self.network.adapter, MergedSPT):
            return self
        if not isinstance(self.network.adapter, SPT):
            raise UnsupportedModelError(
                f"{self.settings.method} has no low-rank updates", hint="use spt or lora"
            )
        self.network = PromptedSam(self.base, MergedSPT(self.network.adapter, self.base)).eval()
        return self

    def unmerge(self) -> Self:
        """Undo `merge`: the base's weights are as they were, bit for bit."""
        if isinstance(self.network.adapter, MergedSPT):
            self.network = PromptedSam(self.base, self.network.adapter.unmerge()).eval()
        return self

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        adapter = self.network.adapter
        tensors = dict((adapter.spt if isinstance(adapter, MergedSPT) else adapter).state_dict())
        config = METHODS[self.settings.method].settings(self.settings.seed, self.hyper)
        settings = {
            "adapter": self.settings.method,
            "version": ADAPTER_VERSION,
            "base_model": self.base.name,
            "base_class": self.base.kind,
            "base_sha": self.base.backbone.sha,
            "base_config_sha": self.base.config_sha,
            "image_size": self.base.image_size,
            "normalisation": {"mean": list(self.base.backbone.mean), "std": list(self.base.backbone.std)},
            "settings": asdict(self.settings),
            "hyper": asdict(config),
            "train": self.fitted_on,
            "metrics": self.metrics,
        }
        return tensors, settings

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], settings: dict[str, Any], **options: Any) -> Self:
        saved = dict(settings["settings"])
        named = saved.pop("base")
        saved["prompts"] = PromptMix(**saved["prompts"])
        base = options.get("base") or named
        base = base if isinstance(base, SamBase) else load_base(base)
        same_kind = base.kind == settings["base_class"] and base.config_sha == settings["base_config_sha"]
        if not same_kind or base.backbone.sha != settings["base_sha"]:
            raise CheckpointError(
                f"was made for {settings['base_class']} {named!r}, not for the {base.kind} in {base.name!r}",
                hint="name the base that it was trained on, or fit again",
            )
        segmenter = cls(saved.pop("method"), base, hyper=settings["hyper"], **saved)
        segmenter.network.adapter.load_state_dict(tensors)
        segmenter.fitted_on, segmenter.metrics = settings["train"], settings["metrics"]
        return segmenter


def _per_picture(prompts: Sequence[Any] | None, images: Sequence[Any], single: bool) -> list[Sequence[Any]]:
    """A list of prompts per picture."""
    if prompts is None:
        return [[] for _ in images]
    if single:
        return [prompts]
    if len(prompts) != len(images):
        raise ConfigError(
            f"prompts for {len(prompts)} pictures, but {len(images)} pictures", hint="give a list per picture"
        )
    return [own if own is not None else [] for own in prompts]


__all__ = ["AnomalySegmenter", "Evaluation", "SegmentationResult", "SegmenterSettings"]
