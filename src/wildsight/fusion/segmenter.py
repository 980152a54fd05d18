"""The public object of the fusion task: one mask from any set of sensors, also when one is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import default_collate

from wildsight.backbones import Backbone, load_backbone
from wildsight.datasets.multimodal import Indexed, split_named
from wildsight.errors import CheckpointError, ConfigError, DataError, WildSightError
from wildsight.estimators.legacy import SavedObject
from wildsight.files import digest_of
from wildsight.fusion.data import FusionData, FusionSample, gaps, needed, read_mask, read_source
from wildsight.fusion.inputs import Reader, Scenes, Store, held_out
from wildsight.fusion.methods import METHODS
from wildsight.fusion.net import EACH, FROZEN, FusionNet, NetConfig, Output
from wildsight.fusion.result import FusionEvaluation, FusionResult
from wildsight.fusion.scenes import Shown, depths, opaque_of, sample_of
from wildsight.fusion.scoring import Scored, result_of, score
from wildsight.fusion.settings import FusionSettings, tapped
from wildsight.fusion.steps import Step
from wildsight.training import History, TrainConfig, depends_on, train
from wildsight.training.batches import to_device

BATCH = 16
MEND = "run `wildsight check fusion`"
CHOOSE = 0.2  # share of the training scenes held out to choose the single best modality
RECIPE = TrainConfig(
    epochs=30, batch_size=16, lr=2e-3, weight_decay=0.01, schedule="cosine", warmup=0.1, clip_norm=5.0
)


class FusionSegmenter(SavedObject):
    """Says what each pixel is, from several sensors at once, and which sensor said so.

    >>> FusionSegmenter(method="nosuch")
    Traceback (most recent call last):
    wildsight.errors.ConfigError: no method is called 'nosuch'; use one of pwrf, concatenation, summation, \
cross-attention, token-selection, single

    Args:
        method: ``pwrf`` (the paper), or a peer from `METHODS`.
        backbone: network that gives the features.
        hyper: the method's own hyper-parameters by name, e.g. ``{"T": 4}``.
        store: frozen features to share between segmenters.
        settings: other fields of `FusionSettings`.

    Raises:
        ConfigError: unknown method, backbone or setting.
    """

    task: ClassVar[str] = "fusion"

    def __init__(
        self,
        method: str = "pwrf",
        backbone: str | Backbone = "nano-conv",
        *,
        hyper: Mapping[str, Any] | None = None,
        store: Store | None = None,
        **settings: Any,
    ) -> None:
        if method not in METHODS:
            raise ConfigError(f"no method is called {method!r}", hint=f"use one of {', '.join(METHODS)}")
        self.backbone = load_backbone(backbone) if isinstance(backbone, str) else backbone
        settings.setdefault("strides", tapped(self.backbone))
        try:
            self.settings = FusionSettings(method=method, backbone=self.backbone.name, **settings)
        except TypeError as error:
            raise ConfigError(str(error), hint="see FusionSettings") from error
        self.hyper = dict(hyper or {})
        self.store = store or Store()
        self.net: FusionNet | None = None
        self.modalities: tuple[str, ...] = ()
        self.classes: tuple[str, ...] = ()
        self.saliency = False
        self.bits: dict[str, int] = {}
        self.scales: dict[str, float] = {}
        self.loose: frozenset[str] = frozenset()
        self.opaque: frozenset[str] = frozenset()
        self.fitted_on: dict[str, Any] = {}
        self.history: History | None = None

    def fit(
        self,
        source: str | Path | FusionData,
        *,
        modalities: Sequence[str] | None = None,
        allow_missing: bool = False,
        folder: Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn from the training scenes of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            modalities: which ones, in order; default all, 2 to 6 of them.
            allow_missing: accept training scenes that lack a modality.
            folder: where the training state is kept; a killed fit goes on there, another one is refused.
            progress: show progress and the time left.
            training: fields of `TrainConfig`.

        Raises:
            DataError: no training scene, or a scene that lacks a modality or a mask.
            ConfigError: a setting outside its range, fewer than 2 modalities or more than 6.
            CheckpointError: ``folder`` holds the state of another fit.
        """
        data = _data(source, modalities)
        samples = data.part("train")
        if len(data.modalities) < 2 and self.settings.method != "single":
            hint = 'give 2 to 6, or use method="single"'
            raise ConfigError(f"{data.modalities[0]} alone is nothing to fuse", hint=hint)
        if not samples:
            raise DataError("no training scene", where=data.root, hint="see the layouts in the documentation")
        needed(samples, data.modalities, allow_missing)
        if unknown := [n for n in self.settings.stretch if n not in data.modalities]:
            hint = f"choose from {', '.join(data.modalities)}"
            raise ConfigError(f"stretch names {unknown[0]!r}, which is no modality", hint=hint)
        self.modalities, self.classes = data.modalities, data.classes
        self.saliency, self.scales = data.found.task == "saliency", dict(data.found.scales)
        self.bits, self.loose = depths(samples, self.modalities), data.found.loose
        self.opaque = opaque_of(samples)
        config = self._training(training)
        if self.settings.method == "single" and "modality" not in self.hyper:
            self.hyper["modality"] = self._best_modality(data, samples, config)
        self.net = self._new_net()
        scenes = Scenes(samples, data.found, self._reader())
        self.history = train(
            self.net,
            scenes,
            self._step(),
            config,
            folder=folder,
            progress=progress,
            label=self.settings.method,
            extra=self._depends(replace(data.found, samples=tuple(samples)), data.root),
        )
        self.net.to(self.backbone.device)
        self.fitted_on = {"source": data.name, "scenes": len(samples), "protocol": dict(data.protocol)}
        return self

    def _depends(self, learned: Indexed, root: Path | None) -> dict[str, Any]:
        """What a saved state must have been made from to be gone on with."""
        config = self.hyper_parameters(len(self.modalities))
        return depends_on(self.settings, config, learned, root, backbone=self.backbone.sha)

    def hyper_parameters(self, modalities: int) -> Any:
        """All hyper-parameters of a fusion of that many modalities, those that were not given too."""
        width = self.settings.width
        return METHODS[self.settings.method].settings(width, modalities, width, self.hyper)

    def _best_modality(self, data: FusionData, samples: Sequence[FusionSample], config: TrainConfig) -> int:
        """The modality whose own network does best on held-out training scenes."""
        learn, held = held_out(len(samples), CHOOSE, self.settings.seed)
        scores = []
        for index in range(len(self.modalities)):
            net = self._new_net({**self.hyper, "modality": index})
            scenes = Scenes([samples[i] for i in learn], data.found, self._reader())
            train(net, scenes, self._step(), config, progress=False)
            self.net = net.to(self.backbone.device)
            outputs = self._outputs([samples[i] for i in held], data.found)
            scores.append(score(outputs, data.found).rows()[-1][self.headline])
        return int(np.argmax(scores))

    @property
    def headline(self) -> str:
        """The first metric: ``miou``, or ``s`` for saliency."""
        return "s" if self.saliency else "miou"

    def _training(self, given: Mapping[str, Any]) -> TrainConfig:
        try:
            return replace(RECIPE, **{"seed": self.settings.seed, **given})
        except TypeError as error:
            raise ConfigError(str(error), hint="see TrainConfig") from error

    def _step(self) -> Step:
        return Step(self.settings.size, self.settings.drop, self.saliency)

    def _reader(self) -> Reader:
        frozen = self.settings.encoders == FROZEN
        strides = tuple(sorted(self.settings.strides))
        s = self.settings
        return Reader(
            self.backbone, self.modalities, s.size, strides, frozen, frozenset(s.stretch), self.store
        )

    def _new_net(self, hyper: Mapping[str, Any] | None = None) -> FusionNet:
        torch.manual_seed(self.settings.seed)
        strides = tuple(sorted(self.settings.strides))
        probe = self.backbone.pyramid(
            torch.zeros(1, 3, *self.settings.size).to(self.backbone.device), strides
        )
        config = NetConfig(
            self.settings.method,
            self.modalities,
            {s: m.shape[1] for s, m in probe.items()},
            self.settings.width,
            1 if self.saliency else len(self.classes),
            self.saliency,
            self.hyper if hyper is None else hyper,
            self.settings.fine,
        )
        if self.settings.encoders == FROZEN:
            return FusionNet(config).to(self.backbone.device)
        count = len(self.modalities) if self.settings.encoders == EACH else 1
        encoders = [load_backbone(self.settings.backbone, device=self.backbone.device) for _ in range(count)]
        for encoder in encoders:
            encoder.model.requires_grad_(True)
        return FusionNet(config, encoders).to(self.backbone.device)

    def _fitted(self) -> FusionNet:
        if self.net is None:
            raise ConfigError("the segmenter is not fitted", hint="call fit or from_pretrained")
        return self.net.eval()

    @torch.no_grad()
    def _outputs(
        self, samples: Sequence[FusionSample], found: Indexed, errors: list[str] | None = None
    ) -> Iterator[Scored]:
        """Each sample with its logits [K, H, W] and shares [M, h, w]; faults are raised, or listed."""
        net, reader = self._fitted(), self._reader()
        for start in range(0, len(samples), BATCH):
            rows: list[tuple[FusionSample, dict[str, Any]]] = []
            for sample in samples[start : start + BATCH]:
                try:
                    rows.append((sample, reader.row(sample, found)))
                except WildSightError as error:
                    if errors is None:
                        raise
                    errors.append(str(error))
            if rows:
                batch = to_device(default_collate([row for _, row in rows]), self.backbone.device)
                out: Output = net(batch["x"], batch["present"], self.settings.size)
                logits, shares = out.decoded.logits.cpu(), None if out.share is None else out.share.cpu()
                for i, (sample, _) in enumerate(rows):
                    yield sample, logits[i], None if shares is None else shares[i]

    def predict(self, scenes: Mapping[str, Shown] | Sequence[Mapping[str, Shown]]) -> list[FusionResult]:
        """Segment scenes.

        Args:
            scenes: modality -> file, PIL picture or array ([H, W] or [H, W, 1 to 3], float in [0, 1] or
                uint8); one scene or several. Modalities may be missing, not all of them.

        Returns:
            One result per scene, in order.

        Raises:
            DataError: an unknown modality, none at all, sizes or bit depths that do not fit.
            ImageError: a picture cannot be read.
            ConfigError: not fitted.
        """
        self._fitted()
        many = [scenes] if isinstance(scenes, Mapping) else list(scenes)
        form = (self.modalities, self.bits, self.loose, self.opaque)
        samples = [sample_of(i, scene, *form) for i, scene in enumerate(many)]
        return [result_of(each, self._found()) for each in self._outputs(samples, self._found())]

    def _found(self) -> Indexed:
        task: Any = "saliency" if self.saliency else "segmentation"
        return Indexed((), self.modalities, self.classes, task, scales=self.scales, loose=self.loose)

    def evaluate(
        self, source: str | Path | FusionData, *, split: str = "test", allow_missing: bool = True
    ) -> FusionEvaluation:
        """Segment the test scenes of ``source`` and compare them with their masks, at the masks' size.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            split: ``test`` or ``validation``, which is where DELIVER's figures are published.
            allow_missing: score scenes that lack a modality, with those that are there.

        Raises:
            DataError: no such scene, other classes, or a modality that the set does not have.
            ConfigError: an unknown split, or not fitted.
        """
        self._fitted()
        data = _data(source, self.modalities)
        if data.classes != self.classes:
            hint = "evaluate it on the set it was fitted for"
            raise DataError(
                f"its classes are not the model's {len(self.classes)}", where=data.root, hint=hint
            )
        samples = [s for s in data.part(split_named(split)) if s.mask is not None]
        errors: list[str] = []
        if not samples:
            raise DataError(f"no {split} scene with a mask", where=data.root, hint=MEND)
        needed(samples, self.modalities, allow_missing)
        scorer = score(self._outputs(samples, data.found, errors), data.found)
        if not scorer.names:
            raise DataError(f"no {split} scene can be read: {errors[0]}", hint=MEND)
        return FusionEvaluation(
            scorer.rows(),
            scorer.share(),
            scorer.names,
            scorer.scores,
            errors,
            {**data.protocol, "scored split": split_named(split)},
            gaps(data.part(split_named(split)), self.modalities),
        )

    def show(self, source: str | Path | FusionData, names: Sequence[str]) -> list[tuple[Image, str]]:
        """Strips (inputs, truth, prediction, contributions) of named scenes, with captions."""
        data = _data(source, self.modalities)
        chosen = [s for n in names for s in data.found.samples if s.name == n]
        shown = []
        for scored in self._outputs(chosen, data.found):
            result = result_of(scored, data.found)
            mask = read_mask(scored[0], data.found)
            caption = ", ".join(name for _, name in result.tiles(mask))
            shown.append((result.strip(mask), f"{result.name}: {caption}"))
        return shown

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        net = self._fitted()
        settings = {
            "settings": asdict(self.settings),
            "hyper": self.hyper,
            "modalities": list(self.modalities),
            "classes": list(self.classes),
            "saliency": self.saliency,
            "bits": self.bits,
            "scales": self.scales,
            "loose": sorted(self.loose),
            "opaque": sorted(self.opaque),
            "backbone_sha256": self.backbone.sha,
            "normalisation": {"mean": list(self.backbone.mean), "std": list(self.backbone.std)},
            "fitted_on": self.fitted_on,
            "fingerprint": digest_of(self.fitted_on),
        }
        return dict(net.state_dict()), settings

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], settings: dict[str, Any], **options: Any) -> Self:
        saved = dict(settings["settings"])
        saved["strides"], saved["stretch"] = tuple(saved["strides"]), tuple(saved.get("stretch", ()))
        if isinstance(saved["image_size"], list):
            saved["image_size"] = tuple(saved["image_size"])
        named = options.get("backbone") or saved.pop("backbone")
        saved.pop("backbone", None)
        segmenter = cls(saved.pop("method"), named, hyper=settings["hyper"], **saved)
        if segmenter.backbone.sha != settings["backbone_sha256"]:
            raise CheckpointError(
                f"was trained on other weights than {segmenter.backbone.name!r} holds now",
                hint="name the backbone it was trained on, or fit again",
            )
        segmenter.modalities, segmenter.classes = tuple(settings["modalities"]), tuple(settings["classes"])
        segmenter.saliency = settings["saliency"]
        segmenter.bits, segmenter.scales = settings["bits"], settings["scales"]
        segmenter.loose = frozenset(settings.get("loose", ()))
        segmenter.opaque = frozenset(settings.get("opaque", ()))
        segmenter.fitted_on = settings["fitted_on"]
        segmenter.net = segmenter._new_net()
        segmenter.net.load_state_dict(tensors)
        return segmenter


def _data(source: str | Path | FusionData, modalities: Sequence[str] | None) -> FusionData:
    """The source's data with the wanted modalities alone."""
    data = source if isinstance(source, FusionData) else read_source(source)
    return data if modalities is None else data.with_modalities(modalities)


__all__ = ["FusionEvaluation", "FusionResult", "FusionSegmenter", "FusionSettings"]
