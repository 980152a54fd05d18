"""The public object of the segmentation task: SAM, and an adapter learned from a few dozen masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones import Backbone
from wildsight.errors import CheckpointError, ConfigError, DataError, UnsupportedModelError, WildSightError
from wildsight.estimators import Estimator
from wildsight.estimators.evaluation import table_of
from wildsight.estimators.streaming import FileAnswer, Ready, Stream, batches, bytes_of, shown_of
from wildsight.files import write_json
from wildsight.images import Picture, as_list, as_picture, path_of
from wildsight.results import Table
from wildsight.segmentation import inference
from wildsight.segmentation.adapter import PromptedSam
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.data import MaskSample, SegmentationData, at_most, read_source
from wildsight.segmentation.evaluation import OraclePrompts, evaluate_samples
from wildsight.segmentation.inference import EmbeddedPicture
from wildsight.segmentation.methods import METHODS, SegmentationMethod
from wildsight.segmentation.methods.spt import MergedSPT, SPTAdapter, row_entropy
from wildsight.segmentation.result import SegmentationEvaluation, SegmentationResult
from wildsight.segmentation.settings import SegmenterSettings
from wildsight.segmentation.training_samples import TrainingSet, TrainingStep, frozen_embeddings, usable
from wildsight.training import TrainConfig, train

BATCH = 4
Prompts = tuple[Sequence[Any], Sequence[Any]]
"""Boxes and groups of points of one picture."""
ADAPTER_VERSION = 1
RECORDED = ("epochs", "batch_size", "lr", "schedule", "precision")
"""Training settings that a checkpoint names."""


class AnomalySegmenter(Estimator[SegmentationData, SegmentationResult]):
    """Outlines what a box or points mark.

    >>> AnomalySegmenter(method="decodr")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    wildsight.errors.ConfigError: unknown method 'decodr'; did you mean 'decoder'? There are spt, ...

    Args:
        method: ``spt`` (the paper) or a peer; or the method itself, such as ``SPT(rank=4)``. Those without
            training work without `fit`.
        backbone: a SAM by name, or one that is loaded already; it is never altered, but for `merge`.
        base: the same, under its name until 0.1.
        hyper: the method's own hyper-parameters by name, e.g. ``{"rank": 4}``.
        device: where everything runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        settings: other fields of `SegmenterSettings`.

    Raises:
        ConfigError: unknown method, hyper-parameter, setting, backbone or device.
        UnsupportedModelError: a backbone outside the SAM family.
    """

    task: ClassVar[str] = "segmentation"
    methods = METHODS
    default_method = "spt"
    default_backbone = "nano-sam"
    settings_type = SegmenterSettings
    noun = "segmenter"
    promptable = True
    free_settings = frozenset({"backbone", "memory"})
    weights_name: ClassVar[str] = "adapter_model"
    config_name: ClassVar[str] = "adapter_config.json"

    method: SegmentationMethod
    settings: SegmenterSettings

    def __init__(
        self,
        method: str | SegmentationMethod | None = None,
        backbone: str | Path | Backbone | SamBase | None = None,
        *,
        base: str | Path | Backbone | SamBase | None = None,
        hyper: Mapping[str, Any] | SegmentationMethod | None = None,
        device: str | int | torch.device | None = "auto",
        **settings: Any,
    ) -> None:
        if backbone is not None and base is not None:
            raise ConfigError("backbone and base name the same thing", hint="give backbone alone")
        chosen = base if backbone is None else backbone
        network = chosen.backbone if isinstance(chosen, SamBase) else chosen
        super().__init__(method, network, hyper=hyper, device=device, **settings)
        self.base = SamBase(self.backbone)
        self.method = self.method.seeded(self.settings.seed)
        self.network = self._new_network()
        self.metrics: dict[str, Any] = {}

    def _new_network(self) -> PromptedSam:
        """The base with an adapter that has learned nothing."""
        return PromptedSam(self.base, self.method.adapter(self.base)).eval().to(self.device)

    @property
    def fitted(self) -> bool:
        """Whether it can predict."""
        return not self.method.trained or bool(self.fitted_on)

    def _to(self, device: torch.device) -> None:
        self.network.to(device)

    # -- fit ------------------------------------------------------------------------------------------------

    def fit(
        self,
        source: str | Path | SegmentationData,
        out: str | Path | None = None,
        *,
        masks: int | None = None,
        folder: str | Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn outlines from the training half of ``source``; what cannot be used is named in ``not_read``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            out: folder of the run: training state, checkpoint, scores, splits and report.
            masks: use at most this many, dealt over the kinds of defect; all when None.
            folder: keep the training state here, and write nothing else; ``out/train`` where not given.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; the method's own recipe where not given.

        Raises:
            DataError: no usable training mask.
            ConfigError: a setting outside its range, or a method without training.
            CheckpointError: the folder holds the state of another fit.
        """
        if not self.method.trained:
            raise ConfigError(f"{self.settings.method} has nothing to learn", hint="use it without fit")
        self.training_config(training)  # refused before the source is read
        self._run_fit(data := self._read(source), out, folder, progress, training, masks=masks)
        if out is not None:
            write_json(Path(out) / "splits.json", data.splits())
        return self

    def _read(self, source: Any) -> SegmentationData:
        return source if isinstance(source, SegmentationData) else read_source(source)

    def _recipe(self) -> TrainConfig:
        return self.method.recipe

    def _fit(
        self, data: SegmentationData, config: TrainConfig, folder: Path | None, progress: bool, **options: Any
    ) -> dict[str, Any]:
        self.unmerge()
        masks = options["masks"]
        samples = data.train if masks is None else at_most(data.train, masks, data.root)
        training_set = self._training_set(samples)
        self.network, self.fitted_on = self._new_network(), {}
        learned = [(s.sample.image, s.sample.masks) for s in training_set.samples]
        self._train(training_set, config, folder, progress, self.depends(learned, data.root))
        return {
            "masks": len(training_set),
            "not_used": len(self.not_read),
            "parameters": sum(p.numel() for p in self.network.parameters() if p.requires_grad),
            **self._relation_facts(training_set),
            "protocol": dict(data.protocol),
            "training": {name: getattr(config, name) for name in RECORDED},
        }

    def _training_set(self, samples: Sequence[MaskSample]) -> TrainingSet:
        if not samples:
            raise DataError("no training mask", hint="see the layouts in the documentation")
        size, settings = self.base.image_size, self.settings
        chosen, errors = usable(samples, size, settings.geometry, per_component=settings.per_component)
        self.not_read = [str(error) for error in errors]
        if not chosen:
            raise errors[0]
        return TrainingSet(self.base, chosen, self._frozen_embeddings([s.sample.image for s in chosen]))

    def _frozen_embeddings(self, files: Sequence[Path]) -> list[np.ndarray] | None:
        """The encoder's answers, plain and mirrored; None where the method trains the encoder."""
        if self.network.adapter.trains_encoder:
            return None
        mirrored = self.settings.augment != "none"
        return frozen_embeddings(self.base, files, self.settings.geometry, mirrored=mirrored)

    def _train(
        self,
        training_set: TrainingSet,
        config: TrainConfig,
        folder: Path | None,
        progress: bool,
        depends: Mapping[str, Any],
    ) -> None:
        cached, augment = training_set.embeddings is not None, self.settings.augment
        how = "flip" if cached and augment == "jitter" else augment
        passes = self.network.adapter.passes
        step = TrainingStep(self.base, self.settings.prompts, how, self.settings.points, passes)
        self.history = train(
            self.network,
            training_set,
            step,
            config,
            folder=folder,
            progress=progress,
            label=self.settings.method,
            extra=depends,
            device=self.device,
        )
        self.network.eval()

    def _relation_facts(self, training_set: TrainingSet) -> dict[str, float]:
        """How flat the relation of the first picture is; near 1 it is a mean filter."""
        relation = self._embed([training_set.samples[0].sample.image])[0].relation
        return {} if relation is None else {"relation_entropy": row_entropy(relation)}

    def fit_tables(self) -> list[tuple[Table, str]]:
        """The losses, for the report of a fit."""
        epochs = [] if self.history is None else self.history.epochs
        return [(table_of(epochs), "Training, epoch by epoch")] if epochs else []

    # -- predict --------------------------------------------------------------------------------------------

    def embed(self, pictures: Picture | Sequence[Picture]) -> list[EmbeddedPicture]:
        """Encode pictures once, for many prompts later; each may stand for its picture in `predict`.

        Raises:
            ImageError: a picture cannot be read.
            ConfigError: not fitted.
        """
        self.check_fitted()
        return [e for batch in batches(as_list(pictures), BATCH) for e in self._embed(batch)]

    def _embed(self, items: Sequence[Picture | EmbeddedPicture]) -> list[EmbeddedPicture]:
        """A batch of pictures, those already embedded as they are."""
        new = [self._placed(item) for item in items if not isinstance(item, EmbeddedPicture)]
        embedded = iter(inference.embed(self.network, new, self.settings.geometry) if new else ())
        return [item if isinstance(item, EmbeddedPicture) else next(embedded) for item in items]

    def _placed(self, item: Picture) -> inference.PlacedPicture:
        return inference.placed(self.network.base, item, self.settings.geometry)

    def predict(
        self,
        pictures: Picture | EmbeddedPicture | Sequence[Picture | EmbeddedPicture] = (),
        *,
        batch_size: int | None = None,
        boxes: Sequence[Any] | None = None,
        points: Sequence[Any] | None = None,
        images: Picture | EmbeddedPicture | Sequence[Picture | EmbeddedPicture] | None = None,
    ) -> list[SegmentationResult]:
        """Outline what the prompts mark: one mask per box, and one per group of points.

        Args:
            pictures: files, PIL pictures, arrays, encoded bytes or embedded pictures; one or several.
            batch_size: pictures at a time.
            boxes: for one picture its boxes, each (x1, y1, x2, y2) in pixels of the picture; for several, a
                list of boxes per picture.
            points: for one picture its groups, each a list of (x, y) on one thing; for several, a list of
                groups per picture.
            images: ``pictures``, under its name until 0.1.

        Returns:
            One result per picture, in order.

        Raises:
            ImageError: a picture cannot be read.
            DataError: a prompt without area, outside its picture, or not finite.
            ConfigError: not fitted, a picture without a prompt, or as many lists as there are not pictures.
            BudgetError: not even one prompt fits in memory.
        """
        self.check_fitted()
        given = pictures if images is None else images
        single = isinstance(given, str | Path | Image | np.ndarray | bytes | EmbeddedPicture)
        many: list[Any] = [given] if single else list(given)  # type: ignore[arg-type]
        prompts = inference.prompts_of_each(boxes, points, many, single)
        results = []
        for rows in batches(range(len(many)), BATCH if batch_size is None else batch_size):
            for i, embedded in zip(rows, self._embed([many[i] for i in rows]), strict=True):
                results.append(self._outline(embedded, *prompts[i]))
        return results

    def _outline(
        self, embedded: EmbeddedPicture, boxes: Sequence[Any], points: Sequence[Any]
    ) -> SegmentationResult:
        return inference.outline(self.network, embedded, boxes, points, self.settings.memory)

    def iter_files(
        self,
        files: Sequence[Picture],
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        side: int | None = 0,
        progress: Callable[[int], Any] | None = None,
        boxes: Sequence[Any] | None = None,
        points: Sequence[Any] | None = None,
    ) -> Iterator[FileAnswer[SegmentationResult]]:
        """See `Estimator.iter_files`; a prompt that does not fit its file is a fault of that file alone.

        Args:
            files, batch_size, workers, side, progress: as there.
            boxes: a list of boxes per file.
            points: a list of groups of points per file.
        """
        self.check_fitted()
        items = list(zip(files, inference.prompts_of_each(boxes, points, files, False), strict=True))

        def read(item: tuple[Picture, Prompts]) -> Ready[tuple[inference.PlacedPicture, Prompts]]:
            picture = as_picture(item[0])
            placed, shown = replace(self._placed(picture), image=path_of(item[0])), shown_of(picture, side)
            return Ready((placed, item[1]), bytes_of(placed.square, shown), shown)

        def answer(batch: Sequence[tuple[inference.PlacedPicture, Prompts]]) -> Iterator[Any]:
            embedded = inference.embed(self.network, [p for p, _ in batch], self.settings.geometry)
            return (self._tried(e, *prompts) for e, (_, prompts) in zip(embedded, batch, strict=True))

        size = BATCH if batch_size is None else batch_size
        return Stream(read, answer, size, workers, progress).run(items, files)

    def _tried(self, *asked: Any) -> list[SegmentationResult] | WildSightError:
        try:
            return [self._outline(*asked)]
        except WildSightError as error:
            return error

    # -- evaluate -------------------------------------------------------------------------------------------

    def evaluate(
        self,
        source: str | Path | SegmentationData,
        *,
        split: str = "test",
        prompt: str = "box",
        points: int = 10,
        box_jitter: float = 0.0,
        keep: bool = False,
        progress: bool = True,
    ) -> SegmentationEvaluation:
        """Outline a half of ``source`` from prompts made of the true masks, and compare.

        Args:
            source: as `fit`.
            split: ``test`` or ``train``.
            prompt: ``box`` (the tight box) or ``points`` (random points on the defect).
            points: how many of them.
            box_jitter: the box's edges move by up to this share of its sides.
            keep: keep the predictions.
            progress: show progress and the time left.

        Raises:
            DataError: no usable picture in that half.
            ConfigError: not fitted, or an unknown prompt or split.
        """
        self.check_fitted()
        prompts = OraclePrompts(prompt, points, box_jitter, self.settings.per_component)
        return self._evaluate(self._read(source), split, progress, prompts=prompts, keep=keep)

    def _evaluate(
        self, data: SegmentationData, split: str, progress: bool, **options: Any
    ) -> SegmentationEvaluation:
        evaluation = evaluate_samples(self.predict, data, split, progress=progress, **options)
        self.metrics = {k: v for k, v in evaluation.overall.items() if k != "category"}
        return evaluation

    # -- merge ----------------------------------------------------------------------------------------------

    def merge(self) -> Self:
        """Fold the low-rank updates for faster inference; the base's encoder holds them until `unmerge`.

        Raises:
            UnsupportedModelError: a method without low-rank updates.
        """
        if isinstance(self.network.adapter, MergedSPT):
            return self
        if not isinstance(self.network.adapter, SPTAdapter):
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

    # -- checkpoints ----------------------------------------------------------------------------------------

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        adapter = self.network.adapter
        state = (adapter.spt if isinstance(adapter, MergedSPT) else adapter).state_dict()
        return dict(state), {"metrics": self.metrics}

    def _described(self) -> dict[str, Any]:
        """An adapter's own form, which names base and method apart from the settings."""
        settings = {"base" if k == "backbone" else k: v for k, v in asdict(self.settings).items()}
        return {
            "adapter": self.settings.method,
            "version": ADAPTER_VERSION,
            "base_model": self.base.name,
            "base_class": self.base.kind,
            "base_sha": self.backbone.sha,
            "base_config_sha": self.base.config_sha,
            "image_size": self.base.image_size,
            "normalisation": {"mean": list(self.backbone.mean), "std": list(self.backbone.std)},
            "settings": settings,
            "hyper": asdict(self.method),
            "train": self.fitted_on,
        }

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], config: dict[str, Any], **options: Any) -> Self:
        """The object that a checkpoint describes; ``base=`` names its backbone, too."""
        base = options.pop("base", None)
        if base is not None:
            options["backbone"] = base
        return super()._restore(tensors, {**config, "fitted_on": config["train"]}, **options)

    @classmethod
    def _arguments(cls, config: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        saved = dict(config["settings"])
        base = saved.pop("base")
        hyper = {name: value for name, value in config["hyper"].items() if name != "seed"}
        return {**saved, "hyper": hyper}, base

    def check_backbone(self, config: Mapping[str, Any]) -> None:
        """Refuse a base of another class, shape or other weights than the adapter was made for.

        Raises:
            CheckpointError: it is.
        """
        own = (self.base.kind, self.base.config_sha, self.backbone.sha)
        if own != (config["base_class"], config["base_config_sha"], config["base_sha"]):
            made_for = f"{config['base_class']} {config['settings']['base']!r}"
            raise CheckpointError(
                f"was made for {made_for}, not for the {self.base.kind} in {self.base.name!r}",
                hint="name the base that it was trained on, or fit again",
            )

    def _load_state(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.network.adapter.load_state_dict(tensors)
        self.metrics = config["metrics"]
        # Until 0.1 an adapter could be saved before its fit; it draws as stock SAM does.
        self.fitted_on = self.fitted_on or {"source": "none"}


__all__ = ["AnomalySegmenter", "SegmentationEvaluation", "SegmentationResult", "SegmenterSettings"]
