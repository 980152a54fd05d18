"""The public object of the spatial task: ask in words, get boxes in metres from one picture of any camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL.Image import Image
from torch import Tensor, nn

from wildsight.backbones import Backbone, load_backbone
from wildsight.backbones.vlm import active_pruner
from wildsight.errors import CheckpointError, ConfigError, DataError
from wildsight.estimators import Estimator
from wildsight.estimators.evaluation import table_of
from wildsight.estimators.registry import unknown_name
from wildsight.estimators.streaming import FileAnswer, Ready, Stream, batches, bytes_of, shown_of
from wildsight.images import Picture, as_list
from wildsight.results import Table
from wildsight.spatial.answers import Answer, answers_of, expressions_of, kept_tokens, result_of
from wildsight.spatial.data import read_source
from wildsight.spatial.evaluation import SpatialEvaluation
from wildsight.spatial.inputs import Eyes, Rows, Seen, asked, box_rows
from wildsight.spatial.language import LanguageNet
from wildsight.spatial.methods import METHODS, SpatialMethod
from wildsight.spatial.metrics import best_iou
from wildsight.spatial.mllm import Mllm, load_mllm
from wildsight.spatial.questions import Expression, Lens, Question, per_picture, square_box
from wildsight.spatial.result import GroundingResult
from wildsight.spatial.samples import SPLITS, SpatialData, SpatialSample
from wildsight.spatial.scoring import grouped
from wildsight.spatial.settings import SpatialSettings
from wildsight.training import Batch, TrainConfig, train
from wildsight.training.batches import to_device
from wildsight.training.progress import Meter

BATCH = 32
CHECK = "run `wildsight check spatial`"


class SpatialGrounder(Estimator[SpatialData, GroundingResult]):
    """Says where in metres something is, from one picture.

    >>> SpatialGrounder(method="llmi3")
    Traceback (most recent call last):
    wildsight.errors.ConfigError: unknown method 'llmi3'; did you mean 'llmi3d'? There are llmi3d, text, \
text-virtual, cube-head, no-virtual-depth, no-local

    Args:
        method: ``llmi3d`` (the paper), an ablation (``no-virtual-depth``, ``no-local``), a peer (``text``,
            ``text-virtual``, ``cube-head``), or the method itself, e.g. ``LLMI3D(Q=4)``.
        backbone: a LLaVA by name, or one already loaded; a fit trains LoRA in it, and a further fit begins
            from its own weights again.
        hyper: the method's own hyper-parameters by name, e.g. ``{"Q": 4}``.
        cnn: a network for the fine map, by name or already loaded.
        device: where everything runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        store: frozen features to share between grounders of one backbone, network and fit.
        settings: other fields of `SpatialSettings`.

    Raises:
        ConfigError: unknown method, hyper-parameter, setting, backbone or device.
        UnsupportedModelError: a backbone of another family.
    """

    task: ClassVar[str] = "spatial"
    methods = METHODS
    default_method = "llmi3d"
    default_backbone = "nano-llava"
    settings_type = SpatialSettings
    noun = "grounder"
    free_settings = frozenset({"threshold", "geometry", "pixel_error"})

    method: SpatialMethod
    settings: SpatialSettings
    backbone: Mllm

    def __init__(
        self,
        method: str | SpatialMethod | None = None,
        backbone: Any = None,
        *,
        hyper: Mapping[str, Any] | SpatialMethod | None = None,
        cnn: str | Path | Backbone = "nano-conv",
        device: str | int | torch.device | None = "auto",
        store: dict[str, Seen] | None = None,
        **settings: Any,
    ) -> None:
        name = cnn.name if isinstance(cnn, Backbone) else str(cnn)
        super().__init__(method, backbone, hyper=hyper, device=device, cnn=name, **settings)
        chosen = self.settings
        self.eyes = Eyes(
            self.backbone,
            cnn.to(self.device) if isinstance(cnn, Backbone) else load_backbone(name, device=self.device),
            chosen.strides,
            chosen.fine_side,
            chosen.fit,
            self.method.pool,
            {} if store is None else store,
        )
        self.net: Any = None

    def _load_backbone(self, backbone: Any) -> Mllm:
        if isinstance(backbone, str | Path):
            return load_mllm(str(backbone), device=self.device)
        loaded: Mllm = backbone.to(self.device)
        return loaded

    @property
    def mllm(self) -> Mllm:
        """The backbone; its ``model`` is what `wildsight.compress` takes."""
        return self.backbone

    # -- fit ------------------------------------------------------------------------------------------------

    def fit(
        self,
        source: str | Path | SpatialData,
        out: str | Path | None = None,
        *,
        augment: bool = False,
        folder: str | Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn from the training questions of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            out: folder of the run: training state, checkpoint, scores and report.
            augment: mirror and zoom pictures, the camera with them; features are then made anew at each step.
            folder: keep the training state here, and write nothing else; ``out/train`` where not given.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; the task's recipe where not given.

        Raises:
            DataError: no training question, or one that does not fit: with more boxes than Q, among others.
            ConfigError: a setting outside its range.
            CheckpointError: the folder holds the state of another fit.
        """
        return self._run_fit(source, out, folder, progress, training, augment=augment)

    def _read(self, source: Any) -> SpatialData:
        return source if isinstance(source, SpatialData) else read_source(source)

    def _recipe(self) -> TrainConfig:
        return self.method.recipe

    def _fit(
        self, data: SpatialData, config: TrainConfig, folder: Path | None, progress: bool, **options: Any
    ) -> dict[str, Any]:
        samples = self._questions(data, "train")
        if not any(s.targets for s in samples):
            raise DataError("no training question with a box", where=data.root, hint=CHECK)
        self.method.check_count(max(len(s.targets) for s in samples))
        samples, self.not_read = self._readable(data, samples, "train", progress)
        self.backbone.restore()
        self.backbone.learn_words([s.expression for s in samples])
        method, augment = self.method, bool(options["augment"])
        rows = Rows(samples, self.eyes, method.Q, virtual=method.virtual, numbers=method.text)
        self.net = self._new_net()
        self.net.start_from(*rows.statistics())
        cnn = self.eyes.cnn.sha[:16]
        self.history = train(
            self.net,
            rows,
            self._step(rows, augment, config.seed),
            config,
            folder=folder,
            progress=progress,
            label=self.settings.method,
            extra=self.depends(samples, data.root, cnn=cnn, augment=augment),
            device=self.device,
        )
        self.net.to(self.device)
        return {"questions": len(samples), "protocol": dict(data.protocol)}

    def _questions(self, data: SpatialData, split: str) -> list[SpatialSample]:
        """The questions of a split; a method that is given the 2D box cannot refuse."""
        return [s for s in data.part(split) if s.targets or not self.method.oracle]

    def _readable(
        self, data: SpatialData, samples: Sequence[SpatialSample], split: str, progress: bool
    ) -> tuple[list[SpatialSample], list[str]]:
        """Samples whose pictures can be used, features made, and a sentence for each other picture."""
        with Meter("features", len({s.key for s in samples}), enabled=progress) as meter:
            errors = self.eyes.prepare(samples, tick=meter.add)
        unread = [*data.unread_in(split), *(str(e) for e in errors.values())]
        readable = [s for s in samples if s.key not in errors]
        if not readable or (split == "train" and not any(s.targets for s in readable)):
            raise DataError(f"no question for {split} can be asked: {unread[0]}", hint=CHECK)
        return readable, unread

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
        return self.method.network(self.backbone, self.eyes.channels).to(self.device)

    def _fitted_net(self) -> Any:
        if self.net is None:
            raise ConfigError("the grounder is not fitted", hint="call fit or from_pretrained")
        if isinstance(self.net, LanguageNet) and self.backbone.trained_by is not self.net:
            text = "another fit has taken the grounder's model since"
            raise ConfigError(text, hint="call fit again, or give each grounder a model of its own")
        return self.net.eval()

    def fit_tables(self) -> list[tuple[Table, str]]:
        """The epochs, for ``results.csv`` and the report of a fit."""
        epochs = [] if self.history is None else self.history.epochs
        return [(table_of(epochs, 6), "Epochs; metres for the corner losses")]

    def warnings(self) -> list[str]:
        """That a method is given the true 2D box."""
        return ["ORACLE: this method is given the true 2D box"] if self.method.oracle else []

    # -- predict --------------------------------------------------------------------------------------------

    def predict(
        self,
        pictures: Picture | Sequence[Picture] | None = None,
        expression: Expression | None = None,
        *,
        batch_size: int | None = None,
        focal: float | None = None,
        intrinsics: Any = None,
        calibration: str | Path | None = None,
        estimate: bool = True,
        box: Sequence[float] | None = None,
        words: bool = False,
        image: Picture | None = None,
    ) -> list[GroundingResult]:
        """Where something is in pictures.

        Args:
            pictures: a file, PIL picture, array ([H, W, 3] uint8, or float in [0, 1]) or encoded bytes; one
                or several.
            expression: what is looked for: "the striped red cube behind the barrel". Of one picture one or
                several; of a list of pictures one for all, or for each picture one or a list.
            batch_size: questions at a time.
            focal: focal length of the camera, pixels; else EXIF gives it, else it is guessed.
            intrinsics: [3, 3], pixels; instead of ``focal``.
            calibration: a KITTI-like calibration file; instead of ``intrinsics``.
            estimate: whether a guess is allowed; the result is then flagged.
            box: (left, top, right, bottom), pixels: only for methods that are given the 2D box.
            words: let the model say the answer; else it is made by rule from the box.
            image: the same as ``pictures``, its name until 0.1.

        Returns:
            One result per expression, in order, picture by picture.

        Raises:
            ImageError: a picture cannot be read.
            ConfigError: not fitted, no expression or one that names no object, a focal length that is not
                above 0, a 2D box that is missing.
            DataError: no intrinsics and no guess allowed.
        """
        self.check_fitted()
        given, language = image if pictures is None else pictures, not self.method.oracle
        if given is None:
            raise ConfigError("no picture was given", hint="predict('street.jpg', 'the black car')")
        many = as_list(given)
        if isinstance(given, list | tuple):
            expressions = per_picture(expression, len(many), language)
        else:
            expressions = [expressions_of("" if expression is None else expression, language)]  # type: ignore[arg-type]
        lens = Lens(focal, intrinsics, calibration, estimate)
        questions = [q for p, e in zip(many, expressions, strict=True) for q in lens.questions(p, e)]
        return self._results(questions, batch_size, box, words)

    def iter_files(
        self,
        files: Sequence[Picture],
        expression: Expression | None = None,
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        side: int | None = 0,
        progress: Callable[[int], Any] | None = None,
        focal: float | None = None,
        intrinsics: Any = None,
        calibration: str | Path | None = None,
        estimate: bool = True,
        box: Sequence[float] | None = None,
        words: bool = False,
    ) -> Iterator[FileAnswer[GroundingResult]]:
        """See `Estimator.iter_files`; each answer has one result per expression about its file.

        Args:
            files, batch_size, workers, side, progress: as there.
            expression: one for all, or for each file one or a list.
            focal, intrinsics, calibration, estimate, box, words: as `predict`.
        """
        self.check_fitted()
        lens = Lens(focal, intrinsics, calibration, estimate)
        expressions = per_picture(expression, len(files), not self.method.oracle)

        def read(item: tuple[Picture, list[str]]) -> Ready[list[Question]]:
            questions = lens.questions(*item)
            shown = shown_of(questions[0].picture, side) if questions else None
            return Ready(questions, bytes_of(*(q.picture for q in questions[:1]), shown), shown)

        def answer(batch: Sequence[list[Question]]) -> Iterator[list[GroundingResult]]:
            found = iter(self._results([q for each in batch for q in each], None, box, words))
            return ([next(found) for _ in each] for each in batch)

        stream = Stream(read, answer, batch_size, workers, progress)
        return stream.run(list(zip(files, expressions, strict=True)), files)

    @torch.no_grad()
    def _results(
        self,
        questions: Sequence[Question],
        batch_size: int | None,
        box: Sequence[float] | None,
        words: bool,
    ) -> list[GroundingResult]:
        """One result per question."""
        results: list[GroundingResult] = []
        for part in batches(questions, BATCH if batch_size is None else batch_size):
            seen = self.eyes.look([(q.picture, q.camera) for q in part])
            batch = asked(self.eyes, seen, [q.expression for q in part])
            if self.method.oracle:
                rows = [square_box(box, q.camera, self.settings.fit) for q in part]
                batch["box2d"] = torch.tensor(rows)[:, None]
            answers = self._answers(batch, [q.picture for q in part], words)
            for q, answer in zip(part, answers, strict=True):
                unknown = self.backbone.unknown_words(q.expression)
                results.append(result_of(q.expression, answer, q.camera, q.file, q.picture, unknown))
        return results

    def _answers(
        self, batch: dict[str, Tensor], pictures: Sequence[Image] | None, words: bool
    ) -> list[Answer]:
        """The answer to each question of a batch; ``pictures`` are needed where the model is compressed."""
        net = self._fitted_net()
        keep = None if pictures is None else kept_tokens(self.eyes, pictures, batch)
        batch = to_device(batch, self.device)
        if self.method.text:
            boxes, parsed = net.answers(batch, keep)
            plain = answers_of(boxes, self.method.threshold)
            return [a._replace(parsed=p) for a, p in zip(plain, parsed, strict=True)]
        answers = answers_of(net.boxes(batch, keep), self.method.threshold)
        if not words or not hasattr(net, "say"):
            return answers
        ids = net.say(batch, int(self.backbone.tokenizer.eos_token_id), keep=keep)
        return [a._replace(words=self.backbone.text(r)) for a, r in zip(answers, ids.tolist(), strict=True)]

    # -- evaluate -------------------------------------------------------------------------------------------

    def evaluate(
        self, source: str | Path | SpatialData, *, split: str = "test", progress: bool = True
    ) -> SpatialEvaluation:
        """Ask the questions of a split of ``source`` and compare the boxes.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            split: which questions: ``test``, ``val`` or ``train``.
            progress: show progress and the time left.

        Raises:
            DataError: no such question, or none whose picture can be read.
            ConfigError: not fitted, or an unknown split.
        """
        return super().evaluate(source, split=split, progress=progress)  # type: ignore[return-value]

    def _evaluate(self, data: SpatialData, split: str, progress: bool, **options: Any) -> SpatialEvaluation:
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        oracle, text = self.method.oracle, self.method.text
        wanted = self._questions(data, split)
        if not wanted:
            raise DataError(f"no question for {split}", where=data.root, hint=CHECK)
        samples, errors = self._readable(data, wanted, split, progress)
        answers: list[Answer] = []
        with Meter("questions", len(samples), enabled=progress) as meter:
            for part in batches(samples, BATCH):
                answers += self._answered(part)
                meter.add(len(part))
        found = [tuple(a.boxes) for a in answers]
        given = {"2D box": "the true one is given (ORACLE)"} if oracle else {}
        return SpatialEvaluation(
            rows=grouped(samples, found, [a.parsed for a in answers] if text else None),
            errors=errors,
            protocol={**data.protocol, "method": self.settings.method, **given},
            samples=samples,
            scores=[best_iou(boxes, s.targets) for boxes, s in zip(found, samples, strict=True)],
            found=found,
        )

    @torch.no_grad()
    def _answered(self, samples: Sequence[SpatialSample]) -> list[Answer]:
        seen = [self.eyes.of(s) for s in samples]
        batch = asked(self.eyes, seen, [s.expression for s in samples])
        if self.method.oracle:
            rows = [box_rows(s.targets, c.camera, 1)["box2d"] for s, c in zip(samples, seen, strict=True)]
            batch["box2d"] = torch.stack(rows)
        pruned = active_pruner(self.backbone.model) is not None
        return self._answers(batch, [s.picture() for s in samples] if pruned else None, False)

    # -- checkpoints ----------------------------------------------------------------------------------------

    def _to(self, device: torch.device) -> None:
        self.eyes.cnn = self.eyes.cnn.to(device)
        if self.net is not None:
            self.net.to(device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        own = {"words": list(self.backbone.words), "cnn_sha256": self.eyes.cnn.sha}
        return dict(self._fitted_net().state_dict()), own

    @classmethod
    def _arguments(cls, config: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """As in the base; until 0.1 a method saved hyper-parameters that it fixes or does not read."""
        arguments, backbone = super()._arguments(config)
        known = METHODS[arguments["method"]].names()
        spare = METHODS["llmi3d"].names() - known
        arguments["hyper"] = {n: v for n, v in arguments["hyper"].items() if n not in spare}
        return arguments, backbone

    def check_backbone(self, config: Mapping[str, Any]) -> None:
        """Refuse a backbone or a fine map's network with other weights than the checkpoint was made on.

        Raises:
            CheckpointError: they differ.
        """
        super().check_backbone(config)
        if self.eyes.cnn.sha != config["cnn_sha256"]:
            raise CheckpointError(
                f"was trained on other weights than {self.eyes.cnn.name!r} holds now",
                hint="name the network it was trained on with cnn=, or fit again",
            )

    def _load_state(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.backbone.restore()
        self.backbone.words = list(config["words"])
        self.net = self._new_net()
        self.net.load_state_dict(tensors)
