"""The public object of the composition task: names attribute and object, in pairs seen together or not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones import Backbone, load_backbone
from wildsight.composition.calibration import Calibration
from wildsight.composition.data import PairData, read_source, require_files
from wildsight.composition.evaluation import evaluate_on
from wildsight.composition.features import (
    Templates,
    TextSide,
    feature_width,
    features_of_files,
    features_of_images,
    own_size,
)
from wildsight.composition.fitting import Lessons, calibrated, fitted_head, told_of, without
from wildsight.composition.knowledge import Knowledge
from wildsight.composition.methods import METHODS, named, train_settings
from wildsight.composition.parts import Head, Space
from wildsight.composition.result import Evaluation, PairResult, result_of
from wildsight.composition.scoring import Candidates, dense
from wildsight.composition.settings import RecognizerSettings
from wildsight.composition.spaces import space_of
from wildsight.datasets.compositions import Pair, PairSample
from wildsight.errors import (
    CheckpointError,
    ConfigError,
    ImageError,
    UnsupportedModelError,
    WildSightError,
)
from wildsight.estimators.legacy import SavedObject
from wildsight.images import Picture, as_list, as_picture, load_image, path_of
from wildsight.training import History, TrainConfig

BATCH = 16


class CompositionRecognizer(SavedObject):
    """Says what a picture shows and in which state, for pairs seen in training and for new ones.

    >>> CompositionRecognizer(method="nosuch")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    wildsight.errors.ConfigError: no method is called 'nosuch'; use one of hdaoe, troika, ...

    Args:
        method: ``hdaoe`` (the paper), a peer (``troika``, ``csp``, ``compcos``, ``product``, ``zeroshot``),
            or one of the ablations of HDA-OE.
        backbone: frozen network; with a text tower (CLIP, SigLIP) words have a meaning before training.
        hyper: the method's own hyper-parameters by name, e.g. ``{"sdde": "scd"}``.
        settings: other fields of `RecognizerSettings`.

    Raises:
        ConfigError: unknown method, backbone or setting.
        UnsupportedModelError: a method that needs a text tower on a backbone without one.
    """

    task: ClassVar[str] = "composition"

    def __init__(
        self,
        method: str = "hdaoe",
        backbone: str | Backbone = "nano-clip",
        *,
        hyper: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        name, preset = named(method)
        self.hyper = {**preset, **(hyper or {})}
        self.config = METHODS[name].configure(self.hyper)
        self.backbone = load_backbone(backbone) if isinstance(backbone, str) else backbone
        try:
            self.settings = RecognizerSettings(method=name, backbone=self.backbone.name, **settings)
        except TypeError as error:
            raise ConfigError(str(error), hint="see RecognizerSettings") from error
        self.shared = self.backbone.has_text
        if METHODS[name].needs_text and not self.shared:
            hint = "use a CLIP or SigLIP backbone, or method hdaoe"
            what = f"has no text tower, which {name} needs"
            raise UnsupportedModelError(what, where=self.backbone.name, hint=hint)
        self.image_size = self.settings.image_size or own_size(self.backbone)
        self.texts = TextSide(self.backbone, self.settings.templates) if self.shared else None
        self.head: Head | None = None
        self.knowledge = Knowledge()
        self.calibration = Calibration()
        self.fitted_on: dict[str, Any] = {}
        self.history: History | None = None
        self._prepared: Candidates | None = None

    def fit(
        self,
        source: str | Path | PairData,
        *,
        folder: Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn the words and pairs of the training pictures of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            folder: where the training state is kept; a killed fit goes on there, another one is refused.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; the task's recipe where not given.

        Raises:
            DataError: pictures missing, pairs without pictures, or a leak between splits.
            ConfigError: a setting outside its range.
            CheckpointError: ``folder`` holds the state of another fit.
        """
        data = source if isinstance(source, PairData) else read_source(source)
        require_files(data)
        self.texts = self._texts_for(data)
        config = self._training(training)
        self.knowledge, self._prepared = Knowledge.of(data), None
        lessons = self._lessons(data)
        self.head, self.history = self._learn(lessons, data.seen, config, folder, progress)
        if self.settings.calibrate:
            self.calibration = self._calibrated(lessons, config, folder, progress)
        self.fitted_on = {
            "source": data.name,
            "pictures": len(lessons.labels),
            "protocol": dict(data.protocol),
        }
        return self

    def _learn(
        self,
        lessons: Lessons,
        seen: Sequence[Pair],
        config: TrainConfig,
        folder: Path | None,
        progress: bool,
    ) -> tuple[Head, History | None]:
        """A head trained on ``lessons``, whose labels number ``seen``."""
        space, method = self._space(seen, len(lessons.labels)), METHODS[self.settings.method]
        seed = self.settings.seed
        return fitted_head(method, self.config, space, lessons, config, folder, progress, seed)

    def _calibrated(
        self, lessons: Lessons, config: TrainConfig, folder: Path | None, progress: bool
    ) -> Calibration:
        """Bias, temperature and limit, from validation pictures or from held-out pairs."""

        def probe(held: list[Pair]) -> Head:
            fewer, seen = without(lessons, self.knowledge.seen, held)
            where = None if folder is None else folder / "probe"
            return self._learn(fewer, seen, config, where, progress)[0]

        trains = METHODS[self.settings.method].trained
        return calibrated(
            self.fitted(),
            self.knowledge.seen,
            lessons,
            self._candidates,
            probe if trains else None,
            self.settings.abstain,
            self.settings.seed,
        )

    def _texts_for(self, data: PairData) -> TextSide | None:
        """The text side, where there is one and it knows the words; else words are learned from nothing.

        Raises:
            UnsupportedModelError: the method needs the text tower.
        """
        texts = TextSide(self.backbone, self.settings.templates) if self.shared else None
        if texts is None or texts.tells_apart(data.attributes, data.objects):
            return texts
        if METHODS[self.settings.method].needs_text:
            what = f"its text tower cannot tell the words of {data.name} apart"
            raise UnsupportedModelError(what, where=self.backbone.name, hint="use a larger CLIP")
        return None

    def _training(self, given: Mapping[str, Any]) -> TrainConfig:
        try:
            return replace(train_settings(self.texts is not None), **{"seed": self.settings.seed, **given})
        except TypeError as error:
            raise ConfigError(str(error), hint="see TrainConfig") from error

    def _lessons(self, data: PairData) -> Lessons:
        """Training and validation features; a tenth of the training pictures validate where none do."""
        train, train_features = self.readable(data.part("train"))
        val, val_features = self.readable(data.part("val"))
        if not val and self.settings.calibrate and len(train) > 10:
            order = np.random.default_rng(self.settings.seed).permutation(len(train))
            held, kept = np.sort(order[: len(train) // 10]), np.sort(order[len(train) // 10 :])
            val, val_features = [train[i] for i in held], train_features[held]
            train, train_features = [train[i] for i in kept], train_features[kept]
        index = {pair: i for i, pair in enumerate(data.seen)}
        labels = torch.tensor([index[s.pair] for s in train])
        told = told_of(self, data, train)
        pairs, others = [s.pair for s in train], [s.pair for s in val]
        return Lessons(train_features, labels, pairs, val_features, others, told)

    def readable(self, samples: Sequence[PairSample]) -> tuple[list[PairSample], Tensor]:
        """The readable ones of ``samples`` and their features [N, D]."""
        if not samples:
            return [], torch.zeros(0, 1)
        cached = features_of_files(self.backbone, self.shared, [s.image for s in samples], self.image_size)
        kept = np.flatnonzero(cached.ok)
        features = torch.from_numpy(np.array(cached.array[kept], dtype=np.float32))
        return [samples[int(i)] for i in kept], features

    def candidates(self, pairs: str | Sequence[Pair | str] | None = None) -> Candidates:
        """The pairs that a picture may be, ready to score.

        Args:
            pairs: None: the pairs of the training source; ``"all"``: every attribute with every object; or
                a list of pairs, each two words or a tuple.

        Raises:
            ConfigError: not fitted, or no pairs. DataError: an unknown word.
        """
        many, head = self.knowledge.listed(pairs), self.fitted()
        if self._prepared is None or self._prepared.pairs != many:
            self._prepared = self._candidates(many, set(self.knowledge.seen)).prepared(head)
        return self._prepared

    def _candidates(self, pairs: Sequence[Pair], trained: set[Pair]) -> Candidates:
        uses_text = self.settings.method not in ("csp", "product")
        return self.knowledge.candidates(pairs, trained, self.texts if uses_text else None)

    def _space(self, seen: Sequence[Pair], pictures: int) -> Space:
        """What a head is built for, with these pairs trained."""
        return space_of(
            self.backbone,
            self.texts,
            self.knowledge,
            seen,
            pictures=pictures,
            dim=feature_width(self.backbone, self.shared, self.image_size),
            seed=self.settings.seed,
            prompts=self.settings.method == "csp",
        )

    def _with_words_of(self, pairs: Sequence[Pair]) -> Self:
        """A copy that also knows the words of ``pairs``, from their texts alone."""
        attributes, objects = self.knowledge.new_words(pairs)
        if not attributes and not objects:
            return self
        if self.texts is None:
            raise UnsupportedModelError("has no text tower, which new words need", where=self.backbone.name)
        grown = copy.copy(self)
        rows = self.texts.attributes([*attributes, "any"])[:-1], self.texts.objects([*objects, "any"])[:-1]
        grown.head = self.fitted().extended(*rows)
        grown.knowledge, grown._prepared = self.knowledge.grown(attributes, objects), None
        return grown

    def fitted(self) -> Head:
        """The head.

        Raises:
            ConfigError: not fitted.
        """
        if self.head is None:
            raise ConfigError("the recognizer is not fitted", hint="call fit or from_pretrained")
        return self.head

    def predict(
        self,
        images: Picture | Sequence[Picture],
        *,
        pairs: str | Sequence[Pair | str] | None = None,
        top: int = 5,
        open_vocabulary: bool = False,
    ) -> list[PairResult]:
        """Name attribute and object of pictures.

        Args:
            images: files, PIL pictures or arrays ([H, W] or [H, W, 3]); one or several.
            pairs: the candidates, see `candidates`.
            top: best pairs to list, >= 1.
            open_vocabulary: words that were not trained are allowed in ``pairs``; their scores are
                marked as not calibrated.

        Returns:
            One result per picture, in order.

        Raises:
            ImageError: a picture cannot be read.
            DataError: a pair with an unknown word.
            ConfigError: not fitted.
        """
        if open_vocabulary:
            return self._with_words_of(self.knowledge.listed(pairs)).predict(images, pairs=pairs, top=top)
        many = as_list(images)
        candidates, head = self.candidates(pairs), self.fitted()
        results: list[PairResult] = []
        for start in range(0, len(many), BATCH):
            batch = many[start : start + BATCH]
            features = features_of_images(
                self.backbone, self.shared, [as_picture(p) for p in batch], self.image_size
            )
            scores = dense(head, features, candidates)
            results += [
                result_of(path_of(p), row, candidates, self.calibration, self.knowledge, top)
                for p, row in zip(batch, scores, strict=True)
            ]
        return results

    def predict_files(
        self,
        files: Sequence[Path],
        *,
        progress: Callable[[int], None] | None = None,
        **options: Any,
    ) -> tuple[list[PairResult], list[WildSightError]]:
        """`predict` for many files: the unreadable ones are listed, the others still processed."""
        results: list[PairResult] = []
        errors: list[WildSightError] = []
        if not options.get("open_vocabulary"):
            self.candidates(options.get("pairs"))
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            readable: list[tuple[Path, Image]] = []
            for file in part:
                try:
                    readable.append((file, load_image(file)))
                except ImageError as error:
                    errors.append(error)
            found = self.predict([picture for _, picture in readable], **options)
            results += [replace(r, image=f) for (f, _), r in zip(readable, found, strict=True)]
            if progress:
                progress(len(part))
        return results, errors

    def evaluate(
        self,
        source: str | Path | PairData,
        *,
        open_world: bool = False,
        feasibility: float | str | None = None,
    ) -> Evaluation:
        """Compare with the labels of the test pictures of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            open_world: also let every attribute go with every object.
            feasibility: in the open world, pairs below it are no candidates, in [-1, 1]; ``"validation"``
                chooses it there, as published, if unseen pairs are in it; None allows all.

        Raises:
            DataError: no readable test picture, or words that were not trained.
        """
        data = source if isinstance(source, PairData) else read_source(source)
        return evaluate_on(self, data, open_world, feasibility)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        settings = {
            "settings": asdict(self.settings),
            "hyper": self.hyper,
            "knowledge": asdict(self.knowledge),
            "calibration": asdict(self.calibration),
            "backbone_sha256": self.backbone.sha,
            "fitted_on": self.fitted_on,
            "texts": self.texts is not None,
        }
        return dict(self.fitted().state_dict()), settings

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], settings: dict[str, Any], **options: Any) -> Self:
        saved = dict(settings["settings"])
        saved["templates"] = Templates(**saved["templates"])
        method, base = saved.pop("method"), saved.pop("backbone")
        made = cls(method, options.get("backbone") or base, hyper=settings["hyper"], **saved)
        if made.backbone.sha != settings["backbone_sha256"]:
            raise CheckpointError(
                f"was trained on other weights than {made.backbone.name!r} holds now",
                hint="name the backbone it was trained on, or fit again",
            )
        made.knowledge = Knowledge.from_dict(settings["knowledge"])
        made.calibration = Calibration(**settings["calibration"])
        made.fitted_on = settings["fitted_on"]
        made.texts = made.texts if settings["texts"] else None
        space = made._space(made.knowledge.seen, int(made.fitted_on["pictures"]))
        head = METHODS[method].head(space, made.config)
        head.load_state_dict(tensors)
        made.head = head.eval()
        return made


__all__ = ["CompositionRecognizer", "Evaluation", "PairResult", "RecognizerSettings"]
