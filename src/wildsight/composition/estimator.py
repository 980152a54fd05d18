"""The public object of the composition task: names attribute and object, in pairs seen together or not."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.composition.calibration import Calibration
from wildsight.composition.data import PairData, read_source, require_files
from wildsight.composition.evaluation import Scorer
from wildsight.composition.features import (
    TextSide,
    feature_width,
    features_of_files,
    features_of_images,
    own_size,
)
from wildsight.composition.fitting import TrainingSet, calibrated, fit_head
from wildsight.composition.methods import METHODS, CompositionMethod
from wildsight.composition.modules import Head, Space, space_of
from wildsight.composition.result import CompositionEvaluation, PairResult, result_of
from wildsight.composition.scoring import Candidates, dense
from wildsight.composition.settings import RecognizerSettings
from wildsight.composition.vocabulary import Vocabulary
from wildsight.datasets.compositions import Pair, PairSample
from wildsight.errors import ConfigError, DataError, UnsupportedModelError
from wildsight.estimators import PictureEstimator
from wildsight.estimators.evaluation import table_of
from wildsight.estimators.registry import unknown_name
from wildsight.images import Picture
from wildsight.results import Table
from wildsight.training import History, TrainConfig
from wildsight.training.progress import Meter


class CompositionRecognizer(PictureEstimator[PairData, PairResult]):
    """Says what a picture shows and in which state, for pairs seen in training and for new ones.

    >>> CompositionRecognizer(method="hdaoe-sdc")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    wildsight.errors.ConfigError: unknown method 'hdaoe-sdc'; did you mean 'hdaoe-scd'? There are hdaoe, ...

    Args:
        method: ``hdaoe`` (the paper), a peer (``troika``, ``csp``, ``compcos``, ``product``, ``zeroshot``),
            one of the `ABLATIONS` of HDA-OE, or the method itself, such as ``HDAOE(sdde="scd")``.
        backbone: frozen network; with a text tower (CLIP, SigLIP) words have a meaning before training.
        hyper: the method's own hyper-parameters by name, e.g. ``{"sdde": "scd"}``.
        device: where everything runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        settings: other fields of `RecognizerSettings`.

    Raises:
        ConfigError: unknown method, hyper-parameter, setting, backbone or device.
        UnsupportedModelError: a method that needs a text tower on a backbone without one.
    """

    task: ClassVar[str] = "composition"
    methods = METHODS
    default_method = "hdaoe"
    default_backbone = "nano-clip"
    settings_type = RecognizerSettings
    noun = "recognizer"
    free_settings = frozenset({"abstain"})

    method: CompositionMethod
    settings: RecognizerSettings

    def __init__(
        self,
        method: str | CompositionMethod | None = None,
        backbone: Any = None,
        *,
        hyper: Mapping[str, Any] | CompositionMethod | None = None,
        device: str | int | torch.device | None = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(method, backbone, hyper=hyper, device=device, **settings)
        self.shared = self.backbone.has_text
        if self.method.needs_text and not self.shared:
            hint = "use a CLIP or SigLIP backbone, or method hdaoe"
            what = f"has no text tower, which {self.settings.method} needs"
            raise UnsupportedModelError(what, where=self.backbone.name, hint=hint)
        self.image_size = self.settings.image_size or own_size(self.backbone)
        self.texts = TextSide(self.backbone, self.settings.templates) if self.shared else None
        self.head: Head | None = None
        self.vocabulary = Vocabulary()
        self.calibration = Calibration()
        self._prepared: Candidates | None = None
        self._extended: tuple[tuple[Pair, ...], Self] | None = None

    # -- fit ------------------------------------------------------------------------------------------------

    def fit(
        self,
        source: str | Path | PairData,
        out: str | Path | None = None,
        *,
        folder: str | Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn the words and pairs of the training pictures of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            out: folder of the run: training state, checkpoint, scores and report.
            folder: keep the training state here, and write nothing else; ``out/train`` where not given.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; the task's recipe where not given.

        Raises:
            DataError: pictures missing, pairs without pictures, or a leak between splits.
            ConfigError: a setting outside its range.
            CheckpointError: the folder holds the state of another fit.
        """
        self.training_config(training)  # refused before the source is read
        data = self._read(source)
        require_files(data)
        self.adapt(data)
        return self._run_fit(data, out, folder, progress, training)

    def adapt(self, data: PairData) -> Self:
        """Choose how the words of ``data`` are represented, which the training recipe depends on.

        They are text features where there is a text tower that can tell them apart, else vectors that are
        learned from nothing.

        Raises:
            UnsupportedModelError: the method needs a text tower that knows the words.
        """
        self.texts = TextSide(self.backbone, self.settings.templates) if self.shared else None
        if self.texts is None or self.texts.tells_apart(data.attributes, data.objects):
            return self
        if self.method.needs_text:
            what = f"its text tower cannot tell the words of {data.name} apart"
            raise UnsupportedModelError(what, where=self.backbone.name, hint="use a larger CLIP")
        self.texts = None
        return self

    def _read(self, source: Any) -> PairData:
        return source if isinstance(source, PairData) else read_source(source)

    def _recipe(self) -> TrainConfig:
        return self.method.recipe(self.texts is not None)

    def _fit(
        self, data: PairData, config: TrainConfig, folder: Path | None, progress: bool, **options: Any
    ) -> dict[str, Any]:
        self.vocabulary, self._prepared, self._extended = Vocabulary.of(data), None, None
        training_set = self._training_set(data, progress)
        self.head, self.history = self._learn(training_set, data.seen, config, folder, progress)
        if self.settings.calibrate:
            self.calibration = self._calibrated(training_set, config, folder, progress)
        return {
            "pictures": len(training_set.labels),
            "protocol": dict(data.protocol),
        }

    def _training_set(self, data: PairData, progress: bool) -> TrainingSet:
        """Training and validation features; a tenth of the training pictures validate where none do."""
        train, train_features, train_errors = self._features(data.part("train"), progress)
        val, val_features, val_errors = self._features(data.part("val"), progress)
        self.not_read = [*train_errors, *val_errors]
        if not val and self.settings.calibrate and len(train) > 10:
            order = np.random.default_rng(self.settings.seed).permutation(len(train))
            held_out, left = np.sort(order[: len(train) // 10]), np.sort(order[len(train) // 10 :])
            val, val_features = [train[i] for i in held_out], train_features[held_out]
            train, train_features = [train[i] for i in left], train_features[left]
        index = {pair: i for i, pair in enumerate(data.seen)}
        labels = torch.tensor([index[s.pair] for s in train])
        learned = [train, data.seen, data.attributes, data.objects]
        depends = self.depends(learned, data.root, image_size=self.image_size)
        pairs, val_pairs = [s.pair for s in train], [s.pair for s in val]
        return TrainingSet(train_features, labels, pairs, val_features, val_pairs, depends)

    def _features(
        self, samples: Sequence[PairSample], progress: bool
    ) -> tuple[list[PairSample], Tensor, list[str]]:
        """The readable ones of ``samples``, their features [N, D], and a sentence for each of the others."""
        if not samples:
            return [], torch.zeros(0, 1), []
        files = [s.image for s in samples]
        with Meter("features", len(files), enabled=progress) as meter:
            cached = features_of_files(self.backbone, self.shared, files, self.image_size, meter.add)
        readable = np.flatnonzero(cached.ok)
        features = torch.from_numpy(np.array(cached.array[readable], dtype=np.float32))
        return [samples[int(i)] for i in readable], features, [str(error) for error in cached.errors]

    def _learn(
        self,
        training_set: TrainingSet,
        seen: Sequence[Pair],
        config: TrainConfig,
        folder: Path | None,
        progress: bool,
    ) -> tuple[Head, History | None]:
        """A head trained on ``training_set``, whose labels number ``seen``."""
        space, seed = self._space(seen, len(training_set.labels)), self.settings.seed
        head, history = fit_head(
            self.method, space, training_set, config, folder, progress, seed, self.device
        )
        self.backbone.to(self.device)  # a method that learns prompts takes the text tower along
        return head.to(self.device), history

    def _calibrated(
        self, training_set: TrainingSet, config: TrainConfig, folder: Path | None, progress: bool
    ) -> Calibration:
        """Bias, temperature and limit, from validation pictures or from held-out pairs."""

        def probe(held_out: list[Pair]) -> Head:
            fewer, seen = training_set.without(self.vocabulary.seen, held_out)
            return self._learn(fewer, seen, config, folder and folder / "probe", progress)[0]

        return calibrated(
            self._fitted_head(),
            self.vocabulary.seen,
            training_set,
            self._candidates,
            probe if self.method.trained else None,
            self.settings.abstain,
            self.settings.seed,
        )

    def _space(self, seen: Sequence[Pair], pictures: int) -> Space:
        """What a head is built for, with these pairs trained."""
        return space_of(
            self.backbone,
            self.texts,
            (self.vocabulary.attributes, self.vocabulary.objects),
            seen,
            self.vocabulary.ids(seen),
            pictures=pictures,
            dim=feature_width(self.backbone, self.shared, self.image_size),
            seed=self.settings.seed,
            prompts=self.method.learns_prompts,
        )

    def fit_tables(self) -> list[tuple[Table, str]]:
        """The trained pairs and the calibration, for the report of a fit."""
        pairs = [{"attribute": a, "object": o} for a, o in self.vocabulary.seen]
        return [
            (table_of(pairs), "Pairs that were trained"),
            (table_of([asdict(self.calibration)]), "Calibration, on pictures that were not trained on"),
        ]

    def fit_facts(self) -> dict[str, Any]:
        """The calibration, for ``scores.json`` of a fit."""
        return {"calibration": asdict(self.calibration)}

    # -- predict --------------------------------------------------------------------------------------------

    def candidates(self, pairs: str | Sequence[Pair | str] | None = None) -> Candidates:
        """The pairs that a picture may be, ready to score.

        Args:
            pairs: None: the pairs of the training source; ``"all"``: every attribute with every object; or
                a list of pairs, each two words or a tuple.

        Raises:
            ConfigError: not fitted, or no pairs. DataError: an unknown word.
        """
        listed, head = self.vocabulary.listed(pairs), self._fitted_head()
        if self._prepared is None or self._prepared.pairs != listed:
            self._prepared = self._candidates(listed, set(self.vocabulary.seen)).prepared(head)
        return self._prepared

    def _candidates(self, pairs: Sequence[Pair], trained: set[Pair]) -> Candidates:
        return self.vocabulary.candidates(pairs, trained, self.texts if self.method.pair_texts else None)

    def _with_words_of(self, pairs: tuple[Pair, ...]) -> Self:
        """A copy that also knows the words of ``pairs``, from their texts alone."""
        attributes, objects = self.vocabulary.new_words(pairs)
        if not attributes and not objects:
            return self
        if self.texts is None:
            raise UnsupportedModelError("has no text tower, which new words need", where=self.backbone.name)
        if self._extended is None or self._extended[0] != pairs:
            more = copy.copy(self)
            texts = self.texts.attributes([*attributes, "any"]), self.texts.objects([*objects, "any"])
            more.head = self._fitted_head().extended(texts[0][:-1], texts[1][:-1])
            more.vocabulary, more._prepared = self.vocabulary.grown(attributes, objects), None
            self._extended = pairs, more
        return self._extended[1]

    def _fitted_head(self) -> Head:
        if self.head is None:
            raise ConfigError("the recognizer is not fitted", hint="call fit or from_pretrained")
        return self.head

    def predict(
        self,
        pictures: Picture | Sequence[Picture] | None = None,
        *,
        batch_size: int | None = None,
        pairs: str | Sequence[Pair | str] | None = None,
        top: int = 5,
        open_vocabulary: bool = False,
        images: Picture | Sequence[Picture] | None = None,
    ) -> list[PairResult]:
        """Name attribute and object of pictures.

        Args:
            pictures: files, PIL pictures, arrays ([H, W] or [H, W, 3]) or encoded bytes; one or several.
            batch_size: pictures at a time.
            pairs: the candidates, see `candidates`.
            top: best pairs to list, >= 1.
            open_vocabulary: words that were not trained are allowed in ``pairs``; their scores are
                marked as not calibrated.
            images: the same as ``pictures``, its name until 0.1.

        Returns:
            One result per picture, in order.

        Raises:
            ImageError: a picture cannot be read.
            DataError: a pair with an unknown word.
            ConfigError: not fitted, or no pictures.
        """
        given = images if pictures is None else pictures
        if given is None:
            raise ConfigError("no pictures were given", hint="predict('picture.png')")
        options = {"pairs": pairs, "top": top, "open_vocabulary": open_vocabulary}
        return super().predict(given, batch_size=batch_size, **options)

    def _shrunk(self, picture: Image, **options: Any) -> Image:
        return self.backbone.resized(picture, self.image_size)

    def _predict(
        self,
        pictures: Sequence[Image],
        files: Sequence[Path | None],
        *,
        pairs: str | Sequence[Pair | str] | None = None,
        top: int = 5,
        open_vocabulary: bool = False,
    ) -> list[PairResult]:
        if top < 1:
            raise ConfigError(f"top={top}", hint="give 1 or more")
        model = self._with_words_of(self.vocabulary.listed(pairs)) if open_vocabulary else self
        candidates, head = model.candidates(pairs), model._fitted_head()
        features = features_of_images(self.backbone, self.shared, pictures, self.image_size)
        scores, listed = dense(head, features, candidates), candidates.to("cpu")
        return [
            result_of(file, row, listed, model.calibration, model.vocabulary, top)
            for file, row in zip(files, scores, strict=True)
        ]

    # -- evaluate -------------------------------------------------------------------------------------------

    def evaluate(
        self,
        source: str | Path | PairData,
        *,
        split: str = "test",
        progress: bool = True,
        open_world: bool = False,
        feasibility: float | str | None = None,
    ) -> CompositionEvaluation:
        """Compare with the labels of a split of ``source``; nothing is selected on them here.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            split: which pictures: ``test``, ``val`` or ``train``.
            progress: show progress and the time left.
            open_world: also let every attribute go with every object.
            feasibility: in the open world, pairs below it are no candidates, in [-1, 1]; ``"validation"``
                chooses it there, as published, if unseen pairs are in it; None allows all.

        Raises:
            DataError: no readable picture in that split, or words that were not trained.
            ConfigError: not fitted, an unknown split, or another ``feasibility``.
        """
        options = {"open_world": open_world, "feasibility": feasibility}
        return super().evaluate(source, split=split, progress=progress, **options)  # type: ignore[return-value]

    def _evaluate(self, data: PairData, split: str, progress: bool, **options: Any) -> CompositionEvaluation:
        limit = options.get("feasibility")
        if isinstance(limit, str) and limit != "validation":
            raise ConfigError(f"feasibility={limit!r} is no limit", hint="give a number, or 'validation'")
        if split not in data.pairs:
            raise unknown_name("split", split, data.pairs)
        samples, features, errors = self._features(data.part(split), progress)
        if not samples:
            hint = "run `wildsight check composition`"
            raise DataError(f"no readable picture in the split {split!r}", where=data.root, hint=hint)
        truth = [s.pair for s in samples]
        scorer = Scorer(self._fitted_head(), self.vocabulary, self.calibration.bias)
        closed = self.candidates(data.candidates(split))
        best = scorer.top(features, truth, closed)
        recalls = scorer.recalls(features, closed, best.truth)
        rows = [scorer.row("closed", best, closed, truth) | recalls]
        protocol = {**data.protocol, "bias from": self.calibration.source}
        if options.get("open_world"):
            grid = self.candidates("all")
            if isinstance(limit, str):
                val, val_features, _ = self._features(data.part("val"), progress)
                limit = scorer.best_limit(val_features, [s.pair for s in val], grid)
            allowed = scorer.feasible(grid, limit)
            best_open = scorer.top(features, truth, grid, allowed)
            rows.append(scorer.row("open", best_open, grid, truth))
            protocol["open world"] = f"{len(grid.pairs)} pairs, {allowed.sum()} feasible, limit {limit}"
        return CompositionEvaluation(
            rows=rows,
            errors=errors,
            protocol=protocol,
            top=best,
            candidates=closed.to("cpu"),
            bias=self.calibration.bias,
            samples=samples,
        )

    # -- checkpoints ----------------------------------------------------------------------------------------

    def _to(self, device: torch.device) -> None:
        self._prepared, self._extended = None, None
        if self.head is not None:
            self.head.to(device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return dict(self._fitted_head().state_dict()), {
            "knowledge": asdict(self.vocabulary),
            "calibration": asdict(self.calibration),
            "texts": self.texts is not None,
        }

    def _load_state(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.vocabulary = Vocabulary.from_dict(config["knowledge"])
        self.calibration = Calibration(**config["calibration"])
        self.texts = self.texts if config["texts"] else None
        head = self.method.head(self._space(self.vocabulary.seen, int(self.fitted_on["pictures"])))
        head.load_state_dict(tensors)
        self.head = head.to(self.device).eval()


__all__ = ["CompositionEvaluation", "CompositionRecognizer", "PairResult", "RecognizerSettings"]
