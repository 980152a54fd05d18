"""The public object of the anomaly task: one detector for all product classes, from good pictures alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from wildsight.anomaly.data import AnomalyData, AnomalySample, read_source
from wildsight.anomaly.features import NeckConfig, features_of_files, features_of_images
from wildsight.anomaly.methods import METHODS, train_settings
from wildsight.anomaly.result import AnomalyResult, Evaluation
from wildsight.anomaly.scoring import BATCH, TokenSet, figures, score_tokens
from wildsight.anomaly.select import SELECTIONS, Selector, headline, held_back, synthetic_judge
from wildsight.anomaly.settings import DetectorSettings
from wildsight.anomaly.threshold import Threshold, conformal_threshold
from wildsight.anomaly.tiling import seen_in_tiles
from wildsight.backbones import Backbone, load_backbone
from wildsight.errors import CheckpointError, ConfigError, DataError, WildSightError
from wildsight.estimators import Estimator
from wildsight.files import digest_of
from wildsight.images import Picture, as_picture, path_of
from wildsight.training import History, TrainConfig, depends_on, train
from wildsight.training.progress import Meter


class AnomalyDetector(Estimator):
    """Says which picture is wrong, how sure it is, and where.

    >>> AnomalyDetector(method="nosuch")
    Traceback (most recent call last):
    wildsight.errors.ConfigError: no method is called 'nosuch'; use one of ras, uniad, patchcore, padim

    Args:
        method: ``ras`` (the paper), or a peer: ``uniad``, ``patchcore``, ``padim``.
        backbone: frozen network that gives the features.
        hyper: the method's own hyper-parameters by name, e.g. ``{"encoder_layers": 0}``.
        settings: other fields of `DetectorSettings`.

    Raises:
        ConfigError: unknown method, backbone or setting.
    """

    task: ClassVar[str] = "anomaly"

    def __init__(
        self,
        method: str = "ras",
        backbone: str | Backbone = "nano-conv",
        *,
        hyper: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if method not in METHODS:
            raise ConfigError(f"no method is called {method!r}", hint=f"use one of {', '.join(METHODS)}")
        self.backbone = load_backbone(backbone) if isinstance(backbone, str) else backbone
        try:
            self.settings = DetectorSettings(method=method, backbone=self.backbone.name, **settings)
        except TypeError as error:
            raise ConfigError(str(error), hint="see DetectorSettings") from error
        self.settings = replace(self.settings, neck=self.settings.neck.on(self.backbone))
        self.hyper = dict(hyper or {})
        self.head: nn.Module | None = None
        self._inference: nn.Module | None = None
        self.channels = 0
        self.thresholds: dict[str, Threshold] = {}
        self.fitted_on: dict[str, Any] = {}
        self.history: History | None = None
        self.not_read: list[str] = []

    def fit(
        self,
        source: str | Path | AnomalyData,
        *,
        folder: Path | None = None,
        select: str = "last",
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn what is normal from the good training pictures of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            folder: where the training state is kept; a killed fit goes on there, another one is refused.
            select: which epoch of a trained method is kept: the ``last``, the best on ``val`` (held-out good
                pictures against synthetic defects), or the best on ``test``, which is an oracle.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; the method's own values where not given.

        Raises:
            DataError: no readable good picture.
            ConfigError: a setting outside its range.
            CheckpointError: ``folder`` holds the state of another fit.
        """
        if select not in SELECTIONS:
            raise ConfigError(f"select={select!r} is unknown", hint=f"use one of {', '.join(SELECTIONS)}")
        data = source if isinstance(source, AnomalyData) else read_source(source)
        features, samples = self._cached(data.normal, data.root, progress)
        learn, held = self._split(len(samples))
        self.channels = int(features.shape[1])
        self.head, self._inference = self._new_head(self.channels), None
        if METHODS[self.settings.method].trained:
            learn, judge = self._judge(select, data, samples, learn)
            judged = data.test if select == "test" else ()
            told = self._depends([*(samples[i] for i in learn), *judged], data.root, select)
            self._train(TokenSet(features, learn), self._training(training), folder, judge, progress, told)
        else:
            self.head.fit(features[learn])
        self._set_thresholds(features, samples, held)
        self.fitted_on = {
            "source": data.name,
            "good": len(learn),
            "held_out": len(held),
            "selection": SELECTIONS[select],
            "protocol": dict(data.protocol),
        }
        return self

    def _cached(
        self, samples: Sequence[AnomalySample], where: Path, progress: bool
    ) -> tuple[np.ndarray, list[AnomalySample]]:
        """Features of the readable samples; the others are listed in ``not_read``."""
        if not samples:
            raise DataError("no good training picture", where=where, hint="see the layouts in the docs")
        with Meter("features", len(samples), enabled=progress) as meter:
            files = [s.image for s in samples]
            cached = features_of_files(self.backbone, files, self.settings.neck, meter.add)
        self.not_read = [str(error) for error in cached.errors]
        readable = [s for s, ok in zip(samples, cached.ok, strict=True) if ok]
        if not readable:
            raise cached.errors[0]
        return cached.array if cached.ok.all() else cached.array[np.flatnonzero(cached.ok)], readable

    def _judge(
        self, select: str, data: AnomalyData, samples: Sequence[AnomalySample], learn: np.ndarray
    ) -> tuple[np.ndarray, Callable[[nn.Module], float] | None]:
        """The pictures left to learn from, and the figure of merit that chooses the epoch."""
        if select == "last":
            return learn, None
        if select == "test":
            return learn, lambda head: headline(self._evaluated(data, head).rows[-1])
        learn, held = held_back(learn, self.settings.seed)
        scored = synthetic_judge(
            [samples[i] for i in held],
            lambda pictures: features_of_images(self.backbone, pictures, self.settings.neck),
            self._scored,
            (self.settings.neck.image_size,) * 2,
            self.settings.seed,
        )
        return learn, scored

    def _split(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices to learn from and indices held out for the threshold."""
        held = max(1, round(count * self.settings.calibration))
        if held >= count:
            raise DataError(f"only {count} good pictures", hint="give at least two")
        order = np.random.default_rng(self.settings.seed).permutation(count)
        return np.sort(order[held:]), np.sort(order[:held])

    def _new_head(self, channels: int) -> nn.Module:
        torch.manual_seed(self.settings.seed)
        grid = self.settings.neck.grid
        return METHODS[self.settings.method].build(channels, grid, self.settings.seed, self.hyper)

    def _training(self, given: Mapping[str, Any]) -> TrainConfig:
        try:
            chosen = replace(train_settings(self.settings.method), seed=self.settings.seed)
            return replace(chosen, **given)
        except TypeError as error:
            raise ConfigError(str(error), hint="see TrainConfig") from error

    def _depends(self, samples: Sequence[AnomalySample], root: Path, select: str) -> dict[str, Any]:
        """What a saved state must have been made from; not the category, which may be the folder's name."""
        learned = [(s.image, s.masks, s.label) for s in samples]
        config, sha, free = self._fitted_head().config, self.backbone.sha, ("false_alarm_rate",)
        return depends_on(self.settings, config, learned, root, backbone=sha, without=free, select=select)

    def _train(
        self,
        data: TokenSet,
        config: TrainConfig,
        folder: Path | None,
        judge: Callable[[nn.Module], float] | None,
        progress: bool,
        told: Mapping[str, Any],
    ) -> None:
        name = self.settings.method
        head, step = self._fitted_head(), METHODS[name].step
        keep = None if judge is None else Selector(judge, None if folder is None else folder / "best")
        self.history = train(
            head, data, step, config, folder=folder, validate=keep, progress=progress, label=name, extra=told
        )
        if keep is not None:
            keep.restore(head)
        head.to(self.backbone.device)

    def _set_thresholds(
        self, features: np.ndarray, samples: Sequence[AnomalySample], held: np.ndarray
    ) -> None:
        """A global threshold under the empty name, and one per category: the global where none was held."""
        scores, _ = self._scored(features[held])
        names = [samples[i].category for i in held]
        rate = self.settings.false_alarm_rate
        self.thresholds = {"": conformal_threshold(scores.tolist(), rate)}
        for name in sorted({s.category for s in samples}):
            chosen = [float(s) for s, n in zip(scores, names, strict=True) if n == name]
            self.thresholds[name] = conformal_threshold(chosen, rate) if chosen else self.thresholds[""]

    def _scored(
        self, features: np.ndarray | Tensor, head: nn.Module | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Raw scores [N] and maps [N, H, W] of token grids [N, C, h, w]."""
        head = self.inference_head() if head is None else head
        return score_tokens(METHODS[self.settings.method], head, features, self.settings.neck.image_size)

    def _fitted_head(self) -> nn.Module:
        if self.head is None:
            raise ConfigError("the detector is not fitted", hint="call fit or from_pretrained")
        return self.head

    def inference_head(self) -> nn.Module:
        """The head in evaluation mode, input-independent products folded where it can be; made once per fit.

        Raises:
            ConfigError: not fitted.
        """
        head = self._fitted_head()
        if self._inference is None:
            self._inference = head.eval().fold() if hasattr(head, "fold") else head.eval()
        return self._inference

    def to(self, device: str | torch.device) -> Self:
        """Move the backbone and the head to ``device``; results come back to the CPU."""
        self.backbone.model.to(device)
        self._inference = None
        if self.head is not None:
            self.head.to(device)
        return self

    def predict(
        self, images: Picture | Sequence[Picture], *, category: str | None = None, tile: int | None = None
    ) -> list[AnomalyResult]:
        """Score pictures.

        Args:
            images: files, PIL pictures or arrays ([H, W] or [H, W, 3]); one or several.
            category: use this category's threshold; default the global one.
            tile: cut larger pictures into overlapping tiles of this side, pixels, for a detector whose good
                pictures show what one tile shows; None stretches the whole picture.

        Returns:
            One result per picture, in order.

        Raises:
            ImageError: a picture cannot be read.
            ConfigError: not fitted, or a category that was not trained.
        """
        many = [images] if isinstance(images, str | Path | Image | np.ndarray) else list(images)
        limit = self.threshold(category)
        results: list[AnomalyResult] = []
        for start in range(0, len(many), BATCH):
            batch = many[start : start + BATCH]
            pictures = [as_picture(item) for item in batch]
            found = self._seen(pictures) if tile is None else [self._seen_in_tiles(p, tile) for p in pictures]
            results += [
                AnomalyResult(path_of(item), score, limit.value, score > limit.value, heat, category)
                for item, (score, heat) in zip(batch, found, strict=True)
            ]
        return results

    def _seen(self, pictures: Sequence[Image]) -> list[tuple[float, np.ndarray]]:
        """Raw score and map of each picture."""
        features = features_of_images(self.backbone, pictures, self.settings.neck)
        scores, maps = self._scored(features)
        return [(float(score), heat) for score, heat in zip(scores, maps, strict=True)]

    def _seen_in_tiles(self, picture: Image, tile: int) -> tuple[float, np.ndarray]:
        method = METHODS[self.settings.method]
        score, heat = seen_in_tiles(picture, tile, self._seen, BATCH)
        peak = method.picture_score(torch.from_numpy(heat)[None, None])
        return (score if method.own_score else float(peak)), heat

    def predict_files(
        self,
        files: Sequence[Path],
        *,
        category: str | None = None,
        tile: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[list[AnomalyResult], list[WildSightError]]:
        """`predict` for many files: the unreadable ones are listed, the others still processed."""
        results: list[AnomalyResult] = []
        errors: list[WildSightError] = []
        for file in files:
            try:
                results += self.predict(file, category=category, tile=tile)
            except WildSightError as error:
                errors.append(error)
            if progress:
                progress(1)
        return results, errors

    def threshold(self, category: str | None = None) -> Threshold:
        """The limit for ``category``, or the global one.

        Raises:
            ConfigError: not fitted, or no such category.
        """
        if not self.thresholds:
            raise ConfigError("the detector is not fitted", hint="call fit or from_pretrained")
        if (category or "") not in self.thresholds:
            known = ", ".join(k for k in self.thresholds if k)
            raise ConfigError(f"no category is called {category!r}", hint=f"use one of {known}")
        return self.thresholds[category or ""]

    def evaluate(self, source: str | Path | AnomalyData, *, progress: bool = False) -> Evaluation:
        """Score the test pictures of ``source`` and compare them with their labels and masks.

        Metrics are per category, then their unweighted mean; maps and masks are compared at the
        detector's image size. Nothing is selected on the test data here; how the weights were, the
        ``protocol`` says under ``selection``.

        Raises:
            DataError: no readable test picture.
        """
        data = source if isinstance(source, AnomalyData) else read_source(source)
        return self._evaluated(data, None, progress)

    def _evaluated(self, data: AnomalyData, head: nn.Module | None, progress: bool = False) -> Evaluation:
        """`evaluate` with a head that may still be learning."""
        with Meter("features", len(data.test), enabled=progress) as meter:
            files = [s.image for s in data.test]
            cached = features_of_files(self.backbone, files, self.settings.neck, meter.add)
        keep = np.flatnonzero(cached.ok)
        if not len(keep):
            raise DataError("no readable test picture", where=data.root, hint="run `wildsight check anomaly`")
        samples = [data.test[int(i)] for i in keep]
        scores, maps = self._scored(cached.array if cached.ok.all() else cached.array[keep], head)
        rows, faults = figures(samples, scores, maps)
        errors = [*(str(e) for e in cached.errors), *faults]
        protocol = {**data.protocol, "selection": self.fitted_on.get("selection", SELECTIONS["last"])}
        return Evaluation(rows, scores, maps, samples, errors, protocol)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if self.head is None:
            raise ConfigError("the detector is not fitted", hint="call fit first")
        settings = {
            "settings": asdict(self.settings),
            "hyper": self.hyper,
            "channels": self.channels,
            "backbone_sha256": self.backbone.sha,
            "normalisation": {"mean": list(self.backbone.mean), "std": list(self.backbone.std)},
            "thresholds": {k: asdict(v) for k, v in self.thresholds.items()},
            "fitted_on": self.fitted_on,
            "fingerprint": digest_of(self.fitted_on),
        }
        return dict(self.head.state_dict()), settings

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], settings: dict[str, Any], **options: Any) -> Self:
        saved = dict(settings["settings"])
        neck, named = saved.pop("neck"), saved.pop("backbone")
        saved["neck"] = NeckConfig(neck["image_size"], tuple(neck["strides"]), neck["smooth"])
        detector = cls(
            saved.pop("method"),
            options.get("backbone") or named,
            hyper=settings["hyper"],
            **saved,
        )
        if detector.backbone.sha != settings["backbone_sha256"]:
            raise CheckpointError(
                f"was trained on other weights than {detector.backbone.name!r} holds now",
                hint="name the backbone it was trained on, or fit again",
            )
        method = METHODS[detector.settings.method]
        detector.head = method.restore(
            tensors, settings["channels"], detector.settings.neck.grid, detector.hyper
        )
        detector.channels = settings["channels"]
        detector.thresholds = {k: Threshold(**v) for k, v in settings["thresholds"].items()}
        detector.fitted_on = settings["fitted_on"]
        return detector


__all__ = ["AnomalyDetector", "AnomalyResult", "DetectorSettings", "Evaluation"]
