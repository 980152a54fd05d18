"""The public object of the fusion task: one mask from any set of sensors, also when one is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import default_collate

from wildsight.backbones import load_backbone
from wildsight.datasets.multimodal import Indexed, split_named
from wildsight.errors import ConfigError, DataError, WildSightError
from wildsight.estimators import Estimator
from wildsight.estimators.evaluation import table_of
from wildsight.estimators.streaming import FileAnswer, Ready, Stream, batches, bytes_of
from wildsight.fusion.data import FusionData, FusionSample, gaps, needed, read_source
from wildsight.fusion.evaluation import FusionEvaluation
from wildsight.fusion.inputs import Reader, Scenes, Store, held_out
from wildsight.fusion.methods import METHODS, MOST, FusionMethod
from wildsight.fusion.methods.single import Single
from wildsight.fusion.net import EACH, FROZEN, FusionNet, NetConfig, Output
from wildsight.fusion.result import FusionResult
from wildsight.fusion.scenes import Scene, decoded, depths, opaque_of, sample_of
from wildsight.fusion.scoring import Scored, result_of, score, strip_of
from wildsight.fusion.settings import FusionSettings, tapped
from wildsight.fusion.steps import Step
from wildsight.results import Table
from wildsight.training import TrainConfig, train
from wildsight.training.batches import to_device
from wildsight.training.progress import Meter

CHECK = "run `wildsight check fusion`"
CHOOSE = 0.2
"""Share of the training scenes held out to choose the single best modality."""


class FusionSegmenter(Estimator[FusionData, FusionResult]):
    """Says what each pixel is, from several sensors at once, and which sensor said so.

    >>> FusionSegmenter(method="nosuch")
    Traceback (most recent call last):
    wildsight.errors.ConfigError: unknown method 'nosuch'; use one of pwrf, concatenation, summation, \
cross-attention, token-selection, single

    Args:
        method: ``pwrf`` (the paper), a peer (``concatenation``, ``summation``, ``cross-attention``,
            ``token-selection``, ``single``), or the method itself, e.g. ``PWRF(T=4)``.
        backbone: network that gives the features.
        hyper: the method's own hyper-parameters by name, e.g. ``{"T": 4}``.
        device: where everything runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        store: frozen features to share between segmenters.
        settings: other fields of `FusionSettings`.

    Raises:
        ConfigError: unknown method, hyper-parameter, setting, backbone or device.
    """

    task: ClassVar[str] = "fusion"
    methods = METHODS
    default_method = "pwrf"
    default_backbone = "nano-conv"
    settings_type = FusionSettings
    noun = "segmenter"

    method: FusionMethod
    settings: FusionSettings

    def __init__(
        self,
        method: str | FusionMethod | None = None,
        backbone: Any = None,
        *,
        hyper: Mapping[str, Any] | FusionMethod | None = None,
        device: str | int | torch.device | None = "auto",
        store: Store | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(method, backbone, hyper=hyper, device=device, **settings)
        if "strides" not in settings:
            self.settings = replace(self.settings, strides=tapped(self.backbone))
        self.method.on(self.settings.width, MOST, self.settings.width)  # what cannot fit is refused here
        self.store = Store() if store is None else store
        self.net: FusionNet | None = None
        self.modalities: tuple[str, ...] = ()
        self.classes: tuple[str, ...] = ()
        self.saliency = False
        self.bits: dict[str, int] = {}
        self.scales: dict[str, float] = {}
        self.loose: frozenset[str] = frozenset()
        self.opaque: frozenset[str] = frozenset()

    # -- fit ------------------------------------------------------------------------------------------------

    def fit(
        self,
        source: str | Path | FusionData,
        out: str | Path | None = None,
        *,
        modalities: Sequence[str] | None = None,
        allow_missing: bool = False,
        folder: str | Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn from the training scenes of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            out: folder of the run: training state, checkpoint, scores and report.
            modalities: which ones, in order; default all, 2 to 6 of them.
            allow_missing: accept training scenes that lack a modality.
            folder: keep the training state here, and write nothing else; ``out/train`` where not given.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; the task's recipe where not given.

        Raises:
            DataError: no training scene, or a scene that lacks a modality or a mask.
            ConfigError: a setting outside its range, fewer than 2 modalities or more than 6.
            CheckpointError: the folder holds the state of another fit.
        """
        options = {"modalities": modalities, "allow_missing": allow_missing}
        return self._run_fit(source, out, folder, progress, training, **options)

    def _read(self, source: Any) -> FusionData:
        return source if isinstance(source, FusionData) else read_source(source)

    def _recipe(self) -> TrainConfig:
        return self.method.recipe

    def _fit(
        self, data: FusionData, config: TrainConfig, folder: Path | None, progress: bool, **options: Any
    ) -> dict[str, Any]:
        if options["modalities"] is not None:
            data = data.with_modalities(options["modalities"])
        samples = self._checked(data, options["allow_missing"])
        self.modalities, self.classes = data.modalities, data.classes
        self.saliency, self.scales = data.saliency, dict(data.found.scales)
        self.bits, self.loose = depths(samples, self.modalities), data.found.loose
        self.opaque = opaque_of(samples)
        method, selected = self.method, {}
        if isinstance(method, Single) and method.modality is None:
            selected = {"modality": self._best_modality(method, data, samples, config)}
            method = replace(method, **selected)
        self.net = self._new_net(method)
        self.history = train(
            self.net,
            Scenes(samples, data.found, self._reader()),
            self._step(),
            config,
            folder=folder,
            progress=progress,
            label=self.settings.method,
            extra=self.depends(replace(data.found, samples=tuple(samples)), data.root, **selected),
            device=self.device,
        )
        self.net.to(self.device)
        chosen = {"selected": selected} if selected else {}
        return {"scenes": len(samples), "protocol": dict(data.protocol), **chosen}

    def _checked(self, data: FusionData, allow_missing: bool) -> list[FusionSample]:
        """The training scenes, which the method can learn from."""
        samples = data.part("train")
        if len(data.modalities) < 2 and not isinstance(self.method, Single):
            hint = 'give 2 to 6, or use method="single"'
            raise ConfigError(f"{data.modalities[0]} alone is nothing to fuse", hint=hint)
        if not samples:
            raise DataError("no training scene", where=data.root, hint="see the layouts in the documentation")
        needed(samples, data.modalities, allow_missing)
        if unknown := [n for n in self.settings.stretch if n not in data.modalities]:
            hint = f"choose from {', '.join(data.modalities)}"
            raise ConfigError(f"stretch names {unknown[0]!r}, which is no modality", hint=hint)
        return samples

    def _best_modality(
        self, method: Single, data: FusionData, samples: Sequence[FusionSample], config: TrainConfig
    ) -> int:
        """The modality whose own network does best on held-out training scenes."""
        learn, held = held_out(len(samples), CHOOSE, self.settings.seed)
        scores = []
        for index in range(len(self.modalities)):
            net = self._new_net(replace(method, modality=index))
            scenes = Scenes([samples[i] for i in learn], data.found, self._reader())
            train(net, scenes, self._step(), config, progress=False, device=self.device)
            self.net = net.to(self.device)
            outputs = self._outputs([samples[i] for i in held], data.found)
            scores.append(score(outputs, data.found).rows()[-1][self.headline])
        return int(np.argmax(scores))

    @property
    def headline(self) -> str:
        """The first metric: ``miou``, or ``s`` for saliency."""
        return "s" if self.saliency else "miou"

    @property
    def parameters(self) -> int:
        """How many the network has.

        Raises:
            ConfigError: not fitted.
        """
        return sum(p.numel() for p in self._fitted_net().parameters())

    def _step(self) -> Step:
        return Step(self.settings.size, self.settings.drop, self.saliency)

    def _reader(self) -> Reader:
        s = self.settings
        strides, stretch = tuple(sorted(s.strides)), frozenset(s.stretch)
        frozen = s.encoders == FROZEN
        return Reader(self.backbone, self.modalities, s.size, strides, frozen, stretch, self.store)

    def _new_net(self, method: FusionMethod) -> FusionNet:
        torch.manual_seed(self.settings.seed)
        strides = tuple(sorted(self.settings.strides))
        probe = self.backbone.pyramid(torch.zeros(1, 3, *self.settings.size).to(self.device), strides)
        config = NetConfig(
            method,
            self.modalities,
            {s: m.shape[1] for s, m in probe.items()},
            self.settings.width,
            1 if self.saliency else len(self.classes),
            self.saliency,
            self.settings.fine,
        )
        if self.settings.encoders == FROZEN:
            return FusionNet(config).to(self.device)
        count = len(self.modalities) if self.settings.encoders == EACH else 1
        encoders = [load_backbone(self.settings.backbone, device=self.device) for _ in range(count)]
        for encoder in encoders:
            encoder.model.requires_grad_(True)
        return FusionNet(config, encoders).to(self.device)

    def _fitted_net(self) -> FusionNet:
        if self.net is None:
            raise ConfigError("the segmenter is not fitted", hint="call fit or from_pretrained")
        return self.net.eval()

    def fit_tables(self) -> list[tuple[Table, str]]:
        """The epochs, for ``results.csv`` and the report of a fit."""
        return [(table_of([] if self.history is None else self.history.epochs, 6), "Epochs")]

    def fit_facts(self) -> dict[str, Any]:
        """What was fused, for ``scores.json``."""
        return {"modalities": list(self.modalities), "classes": list(self.classes)}

    # -- predict --------------------------------------------------------------------------------------------

    def _outputs(
        self,
        samples: Sequence[FusionSample],
        indexed: Indexed,
        *,
        errors: list[WildSightError] | None = None,
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[Scored]:
        """Each sample of a set with its logits [K, H, W] and shares [M, h, w].

        Faults are listed in ``errors``, or raised where that is None.
        """
        for batch in batches(samples, None):
            for outcome in self._seen(batch, indexed, self._reader()):
                if not isinstance(outcome, WildSightError):
                    yield outcome
                elif errors is None:
                    raise outcome
                else:
                    errors.append(outcome)
            if progress is not None:
                progress(len(batch))

    @torch.no_grad()
    def _seen(
        self, batch: Sequence[FusionSample], indexed: Indexed, reader: Reader
    ) -> list[Scored | WildSightError]:
        """What the network says of each scene of a batch, or why it cannot be read."""
        net = self._fitted_net()
        rows: list[dict[str, Any] | WildSightError] = []
        for one in batch:
            try:
                rows.append(reader.row(one, indexed))
            except WildSightError as error:
                rows.append(error)
        good = [r for r in rows if isinstance(r, dict)]
        if not good:
            return [r for r in rows if isinstance(r, WildSightError)]
        tensors = to_device(default_collate(good), self.device)
        out: Output = net(tensors["x"], tensors["present"], self.settings.size)
        shares = [None] * len(good) if out.share is None else out.share.cpu()
        said = iter(zip(out.decoded.logits.cpu(), shares, strict=True))
        return [
            r if isinstance(r, WildSightError) else (s, *next(said)) for s, r in zip(batch, rows, strict=True)
        ]

    def predict(
        self,
        pictures: Scene | Sequence[Scene] | None = None,
        *,
        batch_size: int | None = None,
        scenes: Scene | Sequence[Scene] | None = None,
    ) -> list[FusionResult]:
        """Segment scenes.

        Args:
            pictures: a scene or several; each is a mapping modality -> file, PIL picture, array ([H, W] or
                [H, W, 1 to 3], float in [0, 1] or uint8) or encoded bytes. Modalities may be missing, not
                all of them.
            batch_size: scenes at a time.
            scenes: the same as ``pictures``, its name until 0.1.

        Returns:
            One result per scene, in order.

        Raises:
            DataError: an unknown modality, none at all, sizes or bit depths that do not fit.
            ImageError: a picture cannot be read.
            ConfigError: not fitted, or no scene.
        """
        given = scenes if pictures is None else pictures
        if given is None:
            raise ConfigError("no scene was given", hint="predict({'rgb': 'a.png', 'thermal': 'a_ir.png'})")
        many = [given] if isinstance(given, Mapping) else list(given)
        return [a.result for a in self.iter_files(many, batch_size=batch_size, workers=0)]

    def iter_files(
        self,
        files: Sequence[Scene],
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        side: int | None = 0,
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[FileAnswer[FusionResult]]:
        """See `Estimator.iter_files`; files are scenes, and results hold their pictures at any ``side``."""
        self.check_fitted()
        known, reader = self._indexed(), replace(self._reader(), store=Store(0))  # no scene is met again

        def read(item: tuple[int, Scene]) -> Ready[FusionSample]:
            given = sample_of(*item, self.modalities, self.bits, self.loose, self.opaque, self.scales)
            sample = decoded(given, known)
            return Ready(sample, bytes_of(*sample.pictures.values()))

        def answer(batch: Sequence[FusionSample]) -> Iterator[Any]:
            return (
                seen if isinstance(seen, WildSightError) else [result_of(seen, known)]
                for seen in self._seen(batch, known, reader)
            )

        return Stream(read, answer, batch_size, workers, progress).run(list(enumerate(files)), files)

    def _indexed(self) -> Indexed:
        """What is known of a scene's set."""
        task: Any = "saliency" if self.saliency else "segmentation"
        return Indexed((), self.modalities, self.classes, task, scales=self.scales, loose=self.loose)

    # -- evaluate -------------------------------------------------------------------------------------------

    def evaluate(
        self,
        source: str | Path | FusionData,
        *,
        split: str = "test",
        progress: bool = True,
        allow_missing: bool = True,
    ) -> FusionEvaluation:
        """Segment the test scenes of ``source`` and compare them with their masks, at the masks' size.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            split: ``test`` or ``validation``, which is where DELIVER's figures are published.
            progress: show progress and the time left.
            allow_missing: score scenes that lack a modality, with those that are there.

        Raises:
            DataError: no such scene, other classes, or a modality that the set does not have.
            ConfigError: an unknown split, or not fitted.
        """
        options = {"allow_missing": allow_missing}
        return super().evaluate(source, split=split, progress=progress, **options)  # type: ignore[return-value]

    def _evaluate(self, data: FusionData, split: str, progress: bool, **options: Any) -> FusionEvaluation:
        name, data = split_named(split), data.with_modalities(self.modalities)
        if data.classes != self.classes:
            what, hint = (
                f"its classes are not the model's {len(self.classes)}",
                "evaluate on the set of the fit",
            )
            raise DataError(what, where=data.root, hint=hint)
        samples = [s for s in data.part(name) if s.mask is not None]
        errors: list[WildSightError] = []
        if not samples:
            raise DataError(f"no {split} scene with a mask", where=data.root, hint=CHECK)
        needed(samples, self.modalities, options["allow_missing"])
        with Meter("evaluate", len(samples), enabled=progress) as meter:
            outputs = self._outputs(samples, data.found, errors=errors, progress=meter.add)
            scorer = score(outputs, data.found)
        if not scorer.names:
            raise DataError(f"no {split} scene can be read: {errors[0]}", hint=CHECK)
        return FusionEvaluation(
            rows=scorer.rows(),
            errors=[str(error) for error in errors],
            protocol={**data.protocol, "scored split": name},
            share=scorer.share(),
            names=scorer.names,
            scores=scorer.scores,
            gaps=gaps(data.part(name), self.modalities),
            cases=scorer.cases,
            indexed=data.found,
        )

    def show(self, source: str | Path | FusionData, names: Sequence[str]) -> list[tuple[Image, str]]:
        """Strips (inputs, truth, prediction, contributions) of named scenes, with captions."""
        data = self._read(source).with_modalities(self.modalities)
        chosen = [s for n in names for s in data.found.samples if s.name == n]
        return [strip_of(scored, data.found) for scored in self._outputs(chosen, data.found)]

    # -- checkpoints ----------------------------------------------------------------------------------------

    def _to(self, device: torch.device) -> None:
        if self.net is not None:
            self.net.to(device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return dict(self._fitted_net().state_dict()), {
            "modalities": list(self.modalities),
            "classes": list(self.classes),
            "saliency": self.saliency,
            "bits": self.bits,
            "scales": self.scales,
            "loose": sorted(self.loose),
            "opaque": sorted(self.opaque),
            "normalisation": {"mean": list(self.backbone.mean), "std": list(self.backbone.std)},
        }

    def _load_state(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.modalities, self.classes = tuple(config["modalities"]), tuple(config["classes"])
        self.saliency, self.bits, self.scales = config["saliency"], config["bits"], config["scales"]
        self.loose, self.opaque = (frozenset(config.get(name, ())) for name in ("loose", "opaque"))
        method: Any = self.method
        self.net = self._new_net(replace(method, **self.fitted_on.get("selected", {})))
        self.net.load_state_dict(tensors)


__all__ = ["FusionEvaluation", "FusionResult", "FusionSegmenter", "FusionSettings"]
