"""The public object of the spatial task: ask in words, get boxes in metres from one picture of any camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL.Image import Image
from torch import Tensor, nn

from wildsight.backbones import Backbone, load_backbone
from wildsight.backbones.vlm import active_pruner
from wildsight.errors import CheckpointError, ConfigError, DataError, WildSightError
from wildsight.estimators.legacy import SavedObject
from wildsight.files import digest_of
from wildsight.images import Picture
from wildsight.spatial.answers import (
    Answer,
    answers_of,
    expressions_of,
    kept_tokens,
    opened,
    result_of,
)
from wildsight.spatial.camera import FITS, Camera, Fit, camera_for
from wildsight.spatial.data import read_source
from wildsight.spatial.inputs import Eyes, Rows, Seen, asked, box_rows
from wildsight.spatial.methods import METHODS, build, check_count, config_of
from wildsight.spatial.metrics import best_iou
from wildsight.spatial.mllm import Mllm, load_mllm
from wildsight.spatial.result import GroundingResult, SpatialEvaluation
from wildsight.spatial.samples import SpatialData, SpatialSample
from wildsight.spatial.scoring import grouped
from wildsight.training import Batch, History, TrainConfig, depends_on, train
from wildsight.training.batches import to_device
from wildsight.training.progress import Meter

BATCH = 32
RECIPE = TrainConfig(
    epochs=10, batch_size=20, lr=3e-4, weight_decay=0.0, betas=(0.9, 0.95), schedule="cosine", warmup=0.05,
    clip_norm=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class SpatialSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: a name from `METHODS`.
        backbone: a LLaVA or LLaVA-NeXT: hub id, local folder or ``nano-llava``.
        cnn: a network for the fine map.
        strides: of that map.
        fine_side: side of its picture, pixels; None: the tower's.
        fit: ``letterbox`` or ``stretch``.
        seed: of the initialisation, the order and the augmentation.
    """

    method: str = "llmi3d"
    backbone: str = "nano-llava"
    cnn: str = "nano-conv"
    strides: tuple[int, ...] = (4, 8)
    fine_side: int | None = None
    fit: Fit = "letterbox"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ConfigError(f"fit={self.fit!r} is unknown", hint=f"use one of {', '.join(FITS)}")


class SpatialGrounder(SavedObject):
    """Says where in metres something is, from one picture.

    Args:
        method: ``llmi3d`` (the paper), an ablation or a peer from `METHODS`.
        backbone: a LLaVA by name, or one already loaded (it is changed: LoRA goes into it).
        hyper: the method's own hyper-parameters by name, e.g. ``{"Q": 4}``.
        cnn: a network for the fine map, by name or already loaded.
        store: frozen features to share between grounders of one backbone, network and fit.
        settings: other fields of `SpatialSettings`.

    Raises:
        ConfigError: unknown method, backbone or setting.
    """

    task: ClassVar[str] = "spatial"

    def __init__(
        self,
        method: str = "llmi3d",
        backbone: str | Mllm = "nano-llava",
        *,
        hyper: Mapping[str, Any] | None = None,
        cnn: str | Backbone = "nano-conv",
        store: dict[str, Seen] | None = None,
        **settings: Any,
    ) -> None:
        self.hyper = dict(hyper or {})
        self.config = config_of(method, self.hyper)
        self.mllm = load_mllm(backbone) if isinstance(backbone, str) else backbone
        eyes = load_backbone(cnn) if isinstance(cnn, str) else cnn
        try:
            self.settings = SpatialSettings(method, self.mllm.name, eyes.name, **settings)
        except TypeError as error:
            raise ConfigError(str(error), hint="see SpatialSettings") from error
        chosen = self.settings
        kept = {} if store is None else store
        self.eyes = Eyes(
            self.mllm, eyes, tuple(chosen.strides), chosen.fine_side, chosen.fit, self.config.pool, kept
        )
        self.net: Any = None
        self.fitted_on: dict[str, Any] = {}
        self.history: History | None = None

    # -- learning --------------------------------------------------------------------------------------------

    def fit(
        self,
        source: str | Path | SpatialData,
        *,
        augment: bool = False,
        folder: Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn from the training questions of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            augment: mirror and zoom pictures, the camera with them; features are then made anew at each step.
            folder: where the training state is kept; a killed fit goes on there, another one is refused.
            progress: show progress and the time left.
            training: fields of `TrainConfig`.

        Raises:
            DataError: no training question, or one that does not fit: with more boxes than Q, among others.
            ConfigError: a setting outside its range, or a grounder that is fitted already.
            CheckpointError: ``folder`` holds the state of another fit.
        """
        if self.net is not None:
            raise ConfigError("the grounder is fitted already", hint="make a new one")
        data = source if isinstance(source, SpatialData) else read_source(source)
        samples = [s for s in data.part("train") if s.targets or not METHODS[self.settings.method].oracle]
        if not any(s.targets for s in samples):
            raise DataError("no training question with a box", where=data.root, hint="see the layouts")
        check_count(self.settings.method, max(len(s.targets) for s in samples), self.config.Q)
        config = self._training(training)
        self.mllm.learn_words([s.expression for s in samples])
        rows = self._rows(samples, progress)
        self.net = self._new_net()
        self.net.start_from(*rows.statistics())
        home = self.mllm.device
        self.history = train(
            self.net, rows, self._step(rows, augment, config.seed), config, folder=folder, progress=progress,
            label=self.settings.method, extra=self._depends(samples, data.root, augment),
        )  # fmt: skip
        self.net.to(home)
        self.fitted_on = {"source": data.name, "questions": len(samples), "protocol": dict(data.protocol)}
        return self

    def _depends(self, samples: Sequence[SpatialSample], root: Path | None, augment: bool) -> dict[str, Any]:
        """What a saved state must have been made from to be gone on with."""
        sha, cnn = self.mllm.sha, self.eyes.cnn.sha[:16]
        return depends_on(self.settings, self.config, samples, root, backbone=sha, cnn=cnn, augment=augment)

    def _training(self, given: Mapping[str, Any]) -> TrainConfig:
        try:
            return replace(RECIPE, **{"seed": self.settings.seed, **given})
        except TypeError as error:
            raise ConfigError(str(error), hint="see TrainConfig") from error

    def _rows(self, samples: Sequence[SpatialSample], progress: bool) -> Rows:
        text = METHODS[self.settings.method].text
        with Meter("features", len({s.key for s in samples}), enabled=progress) as meter:
            self.eyes.prepare(samples, tick=meter.add)
        return Rows(samples, self.eyes, self.config.Q, virtual=self.config.virtual, numbers=text)

    def _step(self, rows: Rows, augment: bool, seed: int) -> Any:
        def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
            data = batch.data
            if augment:
                drawn = rows.varied(batch.index.tolist(), batch.epoch, seed)
                data = {k: v.to(batch.index.device) for k, v in drawn.items()}
            losses: dict[str, Tensor] = model(data)
            return losses

        return step

    def _new_net(self) -> Any:
        torch.manual_seed(self.settings.seed)
        return build(self.settings.method, self.mllm, self.eyes.channels, self.hyper)

    def _fitted(self) -> Any:
        if self.net is None:
            raise ConfigError("the grounder is not fitted", hint="call fit or from_pretrained")
        return self.net.eval()

    # -- answering -------------------------------------------------------------------------------------------

    def predict(
        self,
        image: Picture,
        expression: str | Sequence[str],
        *,
        focal: float | None = None,
        intrinsics: Any = None,
        estimate: bool = True,
        box: Sequence[float] | None = None,
        words: bool = False,
    ) -> list[GroundingResult]:
        """Where something is in a picture.

        Args:
            image: file, PIL picture or array ([H, W, 3] uint8, or float in [0, 1]).
            expression: what is looked for: "the striped red cube behind the barrel"; one or several.
            focal: focal length of the camera, pixels; else EXIF tells it, else it is guessed.
            intrinsics: [3, 3], pixels; instead of ``focal``.
            estimate: whether a guess is allowed; the result is then flagged.
            box: (left, top, right, bottom), pixels: only for methods that are told the 2D box.
            words: let the model say the answer; else it is made by rule from the box.

        Returns:
            One result per expression, in order.

        Raises:
            ImageError: the picture cannot be read.
            ConfigError: not fitted, no expression or one that names no object, a focal length that is not
                above 0, a 2D box that is missing.
            DataError: no intrinsics and no guess allowed.
        """
        self._fitted()
        many = expressions_of(expression, not METHODS[self.settings.method].oracle)
        picture, exif = opened(image)
        where = image if isinstance(image, str | Path) else None
        camera = camera_for(
            picture.size, focal=focal, intrinsics=intrinsics, exif=exif, estimate=estimate, where=where
        )
        asks = [(picture, camera, e) for e in many]
        answers = self._asked(asks, [self._told_box(box, camera)] * len(many), words)
        file = Path(where) if where is not None else None
        return [
            result_of(e, answer, camera, file, picture, self.mllm.unknown_words(e))
            for e, answer in zip(many, answers, strict=True)
        ]

    def _told_box(self, box: Sequence[float] | None, camera: Camera) -> Tensor | None:
        """The 2D box that the method is told, (centre x, centre y, width, height) in picture sides."""
        if not METHODS[self.settings.method].oracle:
            return None
        if box is None or len(box) != 4 or box[2] <= box[0] or box[3] <= box[1]:
            raise ConfigError(f"{self.settings.method} needs a 2D box", hint="give left, top, right, bottom")
        scale = self._scale(camera)
        left, top, right, bottom = (v * s for v, s in zip(box, (*scale, *scale), strict=True))
        return torch.tensor(((left + right) / 2, (top + bottom) / 2, right - left, bottom - top))

    def _scale(self, camera: Camera) -> tuple[float, float]:
        """Shares of the square picture's side per pixel."""
        if self.settings.fit == "stretch":
            return 1 / camera.width, 1 / camera.height
        side = 1 / max(camera.width, camera.height)
        return side, side

    @torch.no_grad()
    def _asked(
        self, asks: Sequence[tuple[Image, Camera, str]], told: Sequence[Tensor | None], words: bool
    ) -> list[Answer]:
        """The answer to every question."""
        answers: list[Answer] = []
        for start in range(0, len(asks), BATCH):
            part = asks[start : start + BATCH]
            batch = asked(self.eyes, self.eyes.look([(p, c) for p, c, _ in part]), [e for _, _, e in part])
            given = told[start : start + BATCH]
            if METHODS[self.settings.method].oracle:
                batch["box2d"] = torch.stack([t for t in given if t is not None])[:, None]
            answers += self._answer(batch, [p for p, _, _ in part], words)
        return answers

    def _answer(
        self, batch: dict[str, Tensor], pictures: Sequence[Image] | None, words: bool
    ) -> list[Answer]:
        net = self._fitted()
        keep = None if pictures is None else kept_tokens(self.eyes, pictures, batch)
        batch = to_device(batch, self.mllm.device)
        if METHODS[self.settings.method].text:
            boxes, parsed = net.answers(batch, keep)
            plain = answers_of(boxes, self.config.threshold)
            return [a._replace(parsed=p) for a, p in zip(plain, parsed, strict=True)]
        answers = answers_of(net.boxes(batch, keep), self.config.threshold)
        if not words or not hasattr(net, "say"):
            return answers
        ids = net.say(batch, int(self.mllm.tokenizer.eos_token_id), keep=keep)
        return [a._replace(words=self.mllm.text(r)) for a, r in zip(answers, ids.tolist(), strict=True)]

    # -- judging ---------------------------------------------------------------------------------------------

    def evaluate(
        self, source: str | Path | SpatialData, *, split: str = "test", progress: bool = False
    ) -> SpatialEvaluation:
        """Ask the test questions of ``source`` and compare the boxes.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            split: which questions.
            progress: show progress and the time left.

        Raises:
            DataError: no such question, or none that can be asked.
        """
        self._fitted()
        data = source if isinstance(source, SpatialData) else read_source(source)
        oracle = METHODS[self.settings.method].oracle
        wanted = [s for s in data.part(split) if s.targets or not oracle]
        if not wanted:
            raise DataError(f"no question for {split}", where=data.root, hint="run `wildsight check spatial`")
        samples, errors = self._readable(wanted)
        answers: list[Answer] = []
        with Meter("questions", len(samples), enabled=progress) as meter:
            for start in range(0, len(samples), BATCH):
                part = samples[start : start + BATCH]
                answers += self._answered(part)
                meter.add(len(part))
        found = [tuple(a.boxes) for a in answers]
        text = METHODS[self.settings.method].text
        rows = grouped(samples, found, [a.parsed for a in answers] if text else None)
        scores = [best_iou(f, s.targets) for f, s in zip(found, samples, strict=True)]
        told = {"2D box": "the true one is given (ORACLE)"} if oracle else {}
        protocol = {**data.protocol, "method": self.settings.method, **told}
        return SpatialEvaluation(rows, [s.name for s in samples], scores, found, errors, protocol)

    def _readable(self, samples: Sequence[SpatialSample]) -> tuple[list[SpatialSample], list[str]]:
        """Samples whose pictures can be read, and a sentence for each of the others."""
        good, errors = [], []
        for sample in samples:
            try:
                self.eyes.of(sample)
            except WildSightError as error:
                errors.append(str(error))
                continue
            good.append(sample)
        if not good:
            raise DataError(f"no question can be asked: {errors[0]}", hint="run `wildsight check spatial`")
        return good, errors

    @torch.no_grad()
    def _answered(self, samples: Sequence[SpatialSample]) -> list[Answer]:
        seen = [self.eyes.of(s) for s in samples]
        batch = asked(self.eyes, seen, [s.expression for s in samples])
        if METHODS[self.settings.method].oracle:
            rows = [box_rows(s.targets, c.camera, 1)["box2d"] for s, c in zip(samples, seen, strict=True)]
            batch["box2d"] = torch.stack(rows)
        pruned = active_pruner(self.mllm.model) is not None
        return self._answer(batch, [s.picture() for s in samples] if pruned else None, False)

    # -- keeping ---------------------------------------------------------------------------------------------

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        net = self._fitted()
        settings = {
            "settings": asdict(self.settings),
            "hyper": self.hyper,
            "words": self.mllm.words,
            "backbone_sha256": self.mllm.sha,
            "cnn_sha256": self.eyes.cnn.sha,
            "fitted_on": self.fitted_on,
            "fingerprint": digest_of(self.fitted_on),
        }
        return {k: v.contiguous() for k, v in net.state_dict().items()}, settings

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], settings: dict[str, Any], **options: Any) -> Self:
        saved = dict(settings["settings"])
        saved["strides"] = tuple(saved["strides"])
        named = options.get("backbone") or saved["backbone"]
        cnn = options.get("cnn") or saved["cnn"]
        rest = {k: v for k, v in saved.items() if k not in ("method", "backbone", "cnn")}
        grounder = cls(saved["method"], named, hyper=settings["hyper"], cnn=cnn, **rest)
        for mine, theirs in ((grounder.mllm, "backbone_sha256"), (grounder.eyes.cnn, "cnn_sha256")):
            if mine.sha != settings[theirs]:
                what = f"was trained on other weights than {mine.name!r} holds now"
                raise CheckpointError(what, hint="name the model it was trained on, or fit again")
        grounder.mllm.words = list(settings["words"])
        grounder.fitted_on = settings["fitted_on"]
        grounder.net = grounder._new_net()
        grounder.net.load_state_dict(tensors)
        return grounder


__all__ = ["GroundingResult", "SpatialEvaluation", "SpatialGrounder", "SpatialSettings"]
