"""The public object of the anomaly task: one detector for all product classes, from good pictures alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from wildsight.anomaly.crossfit import FOLDS, out_of_fold
from wildsight.anomaly.data import AnomalyData, AnomalySample, read_source
from wildsight.anomaly.features import NeckConfig, features_of_files, features_of_images
from wildsight.anomaly.methods import METHODS, AnomalyMethod
from wildsight.anomaly.result import AnomalyEvaluation, AnomalyResult
from wildsight.anomaly.scoring import BATCH, TokenSet, figures, score_tokens
from wildsight.anomaly.select import SELECTIONS, Selector, headline, held_back, synthetic_judge
from wildsight.anomaly.settings import DetectorSettings
from wildsight.anomaly.threshold import Threshold, by_category, limit_rows, limits_of, moved, threshold_at
from wildsight.anomaly.tiling import seen_in_tiles
from wildsight.errors import ConfigError, DataError
from wildsight.estimators import PictureEstimator
from wildsight.estimators.evaluation import table_of
from wildsight.images import Picture
from wildsight.results import Table
from wildsight.training import TrainConfig, train
from wildsight.training.progress import Meter


class AnomalyDetector(PictureEstimator[AnomalyData, AnomalyResult]):
    """Says which picture is wrong, how sure it is, and where.

    >>> AnomalyDetector(method="nosuch")
    Traceback (most recent call last):
    wildsight.errors.ConfigError: unknown method 'nosuch'; use one of ras, uniad, patchcore, padim

    Args:
        method: ``ras`` (the paper), or a peer: ``uniad``, ``patchcore``, ``padim``; or the method itself,
            such as ``RAS(d=128)``.
        backbone: frozen network that gives the features.
        hyper: the method's own hyper-parameters by name, e.g. ``{"encoder_layers": 0}``.
        device: where everything runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        image_size: of the neck: pictures are stretched to a square of this side, pixels.
        settings: other fields of `DetectorSettings`.

    Raises:
        ConfigError: unknown method, hyper-parameter, setting, backbone or device.
    """

    task: ClassVar[str] = "anomaly"
    methods = METHODS
    default_method = "ras"
    default_backbone = "nano-conv"
    settings_type = DetectorSettings
    noun = "detector"
    free_settings = frozenset({"false_alarm_rate", "folds"})

    method: AnomalyMethod
    settings: DetectorSettings

    def __init__(
        self,
        method: str | AnomalyMethod | None = None,
        backbone: Any = None,
        *,
        hyper: Mapping[str, Any] | AnomalyMethod | None = None,
        device: str | int | torch.device | None = "auto",
        image_size: int | None = None,
        **settings: Any,
    ) -> None:
        if image_size is not None:
            settings["neck"] = replace(settings.get("neck") or NeckConfig(), image_size=image_size)
        super().__init__(method, backbone, hyper=hyper, device=device, **settings)
        self.settings = replace(self.settings, neck=self.settings.neck.on(self.backbone))
        self.head: nn.Module | None = None
        self._inference: nn.Module | None = None
        self.channels = 0
        self.thresholds: dict[str, Threshold] = {}
        self.good_scores: dict[str, list[float]] = {}

    def fit(
        self,
        source: str | Path | AnomalyData,
        out: str | Path | None = None,
        *,
        select: str = "last",
        folder: str | Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn what is normal from the good training pictures of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            out: folder of the run: training state, checkpoint, scores and report.
            select: which epoch of a trained method is kept: the ``last``, the best on ``val`` (held-out good
                pictures against synthetic defects), or the best on ``test``, which is an oracle.
            folder: keep the training state here, and write nothing else; ``out/train`` where not given.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; the method's own values where not given.

        Raises:
            DataError: no readable good picture.
            ConfigError: a setting outside its range.
            CheckpointError: the folder holds the state of another fit.
        """
        if select not in SELECTIONS:
            raise ConfigError(f"select={select!r} is unknown", hint=f"use one of {', '.join(SELECTIONS)}")
        return self._run_fit(source, out, folder, progress, training, select=select)

    def _read(self, source: Any) -> AnomalyData:
        return source if isinstance(source, AnomalyData) else read_source(source)

    def _recipe(self) -> TrainConfig:
        return self.method.recipe

    def _fit(
        self, data: AnomalyData, config: TrainConfig, folder: Path | None, progress: bool, **options: Any
    ) -> dict[str, Any]:
        select = options["select"]
        features, samples, self.not_read = self._features(data.normal, data.root, progress)
        learn, held = self._split(len(samples))
        self.channels = int(features.shape[1])
        self.head, self._inference = self._new_head(), None
        if self.method.trained:
            learn, judge = self._judge(select, data, samples, learn)
            judged = data.test if select == "test" else ()
            learned = [(s.image, s.masks, s.label) for s in [*(samples[i] for i in learn), *judged]]
            depends = self.depends(learned, data.root, select=select)  # a category may be the folder's name
        else:
            depends, judge = {}, None
        self._fit_head(self.head, features, learn, config, folder, judge, progress, depends)
        scores = np.full(len(samples), np.nan)
        scores[held] = self._scored(features[held])[0]
        scores[learn] = self._left_out(features, learn, config, folder, progress, depends)
        self.good_scores = by_category([s.category for s in samples], scores.tolist())
        self.thresholds = limits_of(self.good_scores, self.settings.false_alarm_rate)
        return {
            "good": len(learn),
            "held_out": len(held),
            "threshold_rests_on": self.thresholds[""].n,
            "selection": SELECTIONS[select],
            "protocol": dict(data.protocol),
        }

    def _features(
        self, samples: Sequence[AnomalySample], where: Path, progress: bool
    ) -> tuple[np.ndarray, list[AnomalySample], list[str]]:
        """Features [N, C, h, w] of the readable samples, those samples, and a sentence for each other one."""
        with Meter("features", len(samples), enabled=progress) as meter:
            files = [s.image for s in samples]
            cached = features_of_files(self.backbone, files, self.settings.neck, meter.add)
        keep = np.flatnonzero(cached.ok)
        if not len(keep):
            nothing = DataError("no picture to use", where=where, hint="run `wildsight check anomaly`")
            raise cached.errors[0] if cached.errors else nothing
        features = cached.array if len(keep) == len(samples) else cached.array[keep]
        return features, [samples[int(i)] for i in keep], [str(error) for error in cached.errors]

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

    def _new_head(self) -> nn.Module:
        torch.manual_seed(self.settings.seed)
        self.method = self.method.on(self.channels, self.settings.neck.grid, self.settings.seed)
        return self.method.head().to(self.device)

    def _fit_head(
        self,
        head: nn.Module,
        features: np.ndarray,
        learn: np.ndarray,
        config: TrainConfig,
        folder: Path | None,
        judge: Callable[[nn.Module], float] | None,
        progress: bool,
        depends: Mapping[str, Any],
    ) -> None:
        """Fit a new head on the pictures ``learn``."""
        if not self.method.trained:
            cast(Any, head).fit(features[learn])
            head.to(self.backbone.device)
            return
        keep = None if judge is None else Selector(judge, None if folder is None else folder / "best")
        history = train(
            head,
            TokenSet(features, learn),
            self.method.step,
            config,
            folder=folder,
            validate=keep,
            progress=progress,
            label=self.settings.method,
            extra=depends,
            device=self.device,
        )
        if keep is not None:
            keep.restore(head)
        head.to(self.device)
        if head is self.head:
            self.history = history

    def _left_out(
        self,
        features: np.ndarray,
        learn: np.ndarray,
        config: TrainConfig,
        folder: Path | None,
        progress: bool,
        depends: Mapping[str, Any],
    ) -> np.ndarray:
        """Score of each picture of ``learn`` by a fit without it, NaN where there is none."""
        folds = self.settings.folds
        if folds is None:
            scores = self.method.left_out_scores(self._fitted_head(), features[learn])
            if scores is not None:
                return scores
            folds = 1 if self.method.trained else FOLDS

        def scored(fold: int, rest: np.ndarray, left: np.ndarray) -> np.ndarray:
            head, where = self._new_head(), None if folder is None else folder / f"fold-{fold}"
            self._fit_head(head, features, rest, config, where, None, progress, {**depends, "fold": fold})
            return self._scored(features[left], head.eval())[0]

        return out_of_fold(learn, folds, self.settings.seed, scored, progress and not self.method.trained)

    def set_threshold(
        self,
        *,
        false_alarm_rate: float | None = None,
        value: float | None = None,
        good: Sequence[Picture] | None = None,
        category: str | None = None,
    ) -> Self:
        """Move the limits without another fit.

        Args:
            false_alarm_rate: wanted of good pictures, in (0, 1); the rate of the fit where None.
            value: the limit itself, of all categories or of ``category``.
            good: new good pictures, whose scores take the place of those of the fit.
            category: the one that ``value`` or ``good`` is for; every category where None.

        Raises:
            ConfigError: not fitted, a rate outside (0, 1), ``value`` with a rate or pictures, an unknown
                category, or a checkpoint without scores of good pictures.
            ImageError: a picture cannot be read.
        """
        self.threshold(category)
        if value is not None and (false_alarm_rate, good) != (None, None):
            raise ConfigError("a value is given with a rate or pictures", hint="give one of them")
        if good is not None:
            names = [n for n in self.thresholds if n] if category is None else [category]
            new = {category or "": [r.score for r in self.predict(good)]}
            self.good_scores |= {name: [] for name in names} | new
        rate = self.settings.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
        limits, scores = self.thresholds, self.good_scores
        self.thresholds = moved(limits, scores, rate=rate, value=value, category=category)
        self.settings = replace(self.settings, false_alarm_rate=rate)
        return self

    def _scored(
        self, features: np.ndarray | Tensor, head: nn.Module | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Raw scores [N] and maps [N, H, W] of token grids [N, C, h, w]."""
        head = self.inference_head() if head is None else head
        return score_tokens(self.method, head, features, self.settings.neck.image_size)

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

    def _to(self, device: torch.device) -> None:
        self._inference = None
        if self.head is not None:
            self.head.to(device)

    def predict(
        self,
        pictures: Picture | Sequence[Picture],
        *,
        batch_size: int | None = None,
        category: str | None = None,
        tile: int | None = None,
        threshold: float | None = None,
    ) -> list[AnomalyResult]:
        """Score pictures.

        Args:
            pictures: files, PIL pictures, arrays ([H, W] or [H, W, 3]) or encoded bytes; one or several.
            batch_size: pictures at a time.
            category: use this category's threshold; default the global one.
            tile: cut larger pictures into overlapping tiles of this side, pixels, for a detector whose good
                pictures show what one tile shows; None stretches the whole picture.
            threshold: a limit for this call, in place of the detector's own.

        Raises:
            ImageError: a picture cannot be read.
            ConfigError: not fitted, or a category that was not trained.
        """
        options = {"tile": tile, "threshold": threshold}
        return super().predict(pictures, batch_size=batch_size, category=category, **options)

    def _shrunk(self, picture: Image, **options: Any) -> Image:
        whole = options.get("tile") is not None
        return picture if whole else self.backbone.resized(picture, self.settings.neck.image_size)

    def _predict(
        self,
        pictures: Sequence[Image],
        files: Sequence[Path | None],
        *,
        category: str | None = None,
        tile: int | None = None,
        threshold: float | None = None,
    ) -> list[AnomalyResult]:
        limit = self.threshold(category) if threshold is None else threshold_at(threshold, ())
        found = self._seen(pictures) if tile is None else [self._seen_in_tiles(p, tile) for p in pictures]
        seen, at = zip(files, found, strict=True), limit.value
        return [AnomalyResult(file, score, at, score > at, heat, category) for file, (score, heat) in seen]

    def _seen(self, pictures: Sequence[Image]) -> list[tuple[float, np.ndarray]]:
        """Raw score and map of each picture."""
        features = features_of_images(self.backbone, pictures, self.settings.neck)
        scores, maps = self._scored(features)
        return [(float(score), heat) for score, heat in zip(scores, maps, strict=True)]

    def _seen_in_tiles(self, picture: Image, tile: int) -> tuple[float, np.ndarray]:
        method = self.method
        score, heat = seen_in_tiles(picture, tile, self._seen, BATCH)
        peak = method.picture_score(torch.from_numpy(heat)[None, None])
        return (score if method.own_score else float(peak)), heat

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

    def _evaluate(self, data: AnomalyData, split: str, progress: bool, **options: Any) -> AnomalyEvaluation:
        """Metrics are per category, then their unweighted mean; maps and masks are compared at the detector's
        image size. How the weights were chosen, the ``protocol`` says under ``selection``."""
        if split != "test":
            raise ConfigError(f"split={split!r} is unknown", hint="use test")
        return self._evaluated(data, None, progress)

    def _evaluated(
        self, data: AnomalyData, head: nn.Module | None, progress: bool = False
    ) -> AnomalyEvaluation:
        """`evaluate` with a head that may still be learning."""
        features, samples, unread = self._features(data.test, data.root, progress)
        scores, maps = self._scored(features, head)
        rows, faults = figures(samples, scores, maps)
        errors = [*unread, *faults]
        protocol = {**data.protocol, "selection": self.fitted_on.get("selection", SELECTIONS["last"])}
        limits = np.array([self.threshold(s.category).value for s in samples]) if self.thresholds else None
        return AnomalyEvaluation(
            rows=rows,
            errors=errors,
            protocol=protocol,
            scores=scores,
            maps=maps,
            samples=samples,
            limits=limits,
        )

    def fit_facts(self) -> dict[str, Any]:
        """The thresholds."""
        return {"thresholds": limit_rows(self.thresholds)}

    def fit_summary(self) -> list[str]:
        """What was learned, and the false-alarm rate that the good pictures bear out."""
        limit = self.threshold()
        learned = f"learned from {self.fitted_on['good']} good pictures"
        return [f"{learned}; threshold {limit.value:.4f}: {limit.words(self.settings.false_alarm_rate)}"]

    def fit_tables(self) -> list[tuple[Table, str]]:
        """The thresholds, for the report of a fit."""
        words = "Thresholds, from good pictures that were not learned from: a score above is anomalous"
        return [(table_of(limit_rows(self.thresholds)), words)]

    def warnings(self) -> list[str]:
        """What a reader of its reports must know first."""
        selection, asked = str(self.fitted_on.get("selection", "")), self.settings.false_alarm_rate
        notes = [selection] if selection.startswith("ORACLE") else []
        limit = self.thresholds.get("")
        return [*notes, limit.words(asked)] if limit is not None and limit.rate > asked else notes

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return dict(self._fitted_head().state_dict()), {
            "channels": self.channels,
            "normalisation": {"mean": list(self.backbone.mean), "std": list(self.backbone.std)},
            "thresholds": {k: asdict(v) for k, v in self.thresholds.items()},
            "good_scores": self.good_scores,
        }

    def _load_state(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.channels = config["channels"]
        self.method = self.method.on(self.channels, self.settings.neck.grid, 0)
        self.head = self.method.restore(tensors).to(self.device)
        self.thresholds = {k: Threshold(**v) for k, v in config["thresholds"].items()}
        self.good_scores = {k: [float(s) for s in v] for k, v in config.get("good_scores", {}).items()}


__all__ = ["AnomalyDetector", "AnomalyEvaluation", "AnomalyResult", "DetectorSettings"]
