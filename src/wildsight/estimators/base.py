"""The base of every public object: constructor, five verbs, checkpoints, and what a fit depends on.

A task writes what is its own: `_fit`, `_evaluate`, `_state`, `_load_state`; and how it predicts: `_predict`
of `PictureEstimator`, or `predict` and `iter_files` where it answers something else than single pictures.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from wildsight.errors import ConfigError, WildSightError
from wildsight.estimators.checkpoints import Checkpointed
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.registry import Registry, Variant, changed_fields, configured
from wildsight.estimators.scaling import scale_verbs, scaled_verb
from wildsight.estimators.streaming import FileAnswer, Ready, Stream, bytes_of, shown_of
from wildsight.files import MANIFEST, check_apart, check_replaceable
from wildsight.images import Picture, as_list, as_picture, checked_scale, declared_scale, path_of
from wildsight.results import RunFolder, Table

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from wildsight.report import Report
    from wildsight.training import History, TrainConfig

Data = TypeVar("Data")
R = TypeVar("R")


class Estimator(Checkpointed, Generic[Data, R]):
    """Base of the public objects.

    Args:
        method: a name from ``methods``, or the method itself, which carries its hyper-parameters; None takes
            ``default_method``.
        backbone: hub id, local folder, ``nano-*``, or one that is loaded; None takes ``default_backbone``.
        hyper: the method's hyper-parameters by name, or the method itself.
        device: ``auto`` (that of a loaded backbone, else CUDA, MPS, then the CPU) or a device; see
            `wildsight.devices.resolve_device`.
        full_scale: white of pictures of more than 8 bits, as stored (4095 for 12 bits in 16); kept in the
            checkpoint. None: 65535, and 1 in float files.
        settings: fields of ``settings_type``.

    Raises:
        ConfigError: an unknown method, hyper-parameter, setting or device, before any work starts.
    """

    methods: ClassVar[Registry[Any]]
    default_method: ClassVar[str]
    default_backbone: ClassVar[str]
    settings_type: ClassVar[type[Any]]
    """Frozen dataclass with at least ``method``, ``backbone`` and ``seed``."""
    noun: ClassVar[str] = "estimator"
    """What the object is called in messages: ``the detector is not fitted``."""
    grows: ClassVar[bool] = False
    """Whether a later fit in the same folder goes on from an earlier one, with more pictures."""
    promptable: ClassVar[bool] = False
    """Whether its backbone is a mask model (SAM) and not one that gives features of pictures."""
    free_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings and hyper-parameters that change nothing that is learned."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        scale_verbs(cls)

    def __init__(
        self,
        method: Any = None,
        backbone: Any = None,
        *,
        hyper: Mapping[str, Any] | Any | None = None,
        device: str | int | torch.device | None = "auto",
        full_scale: float | None = None,
        **settings: Any,
    ) -> None:
        from wildsight.devices import resolve_device

        self.full_scale = None if full_scale is None else checked_scale(full_scale)
        self.method = self._create_method(self.default_method if method is None else method, hyper)
        name = self.methods.name_of(self.method)
        chosen: Any = self.default_backbone if backbone is None else backbone
        self.settings: Any = configured(
            self.settings_type, settings, method=name, backbone=getattr(chosen, "name", str(chosen))
        )
        self._device = "auto" if device is None else str(device)
        loaded = not isinstance(chosen, str | Path) and device in ("auto", None)
        self.device = chosen.device if loaded else resolve_device(device)
        self.backbone = self._load_backbone(chosen)
        self.settings = replace(self.settings, backbone=self.backbone.name)
        self.fitted_on: dict[str, Any] = {}
        self.history: History | None = None
        self.not_read: list[str] = []

    # -- hooks of a task ------------------------------------------------------------------------------------

    def _create_method(self, method: Any, hyper: Any) -> Any:
        """The method with its hyper-parameters; overridden where a task has named variants."""
        return self.methods.create(method, hyper)

    @classmethod
    def variant(cls, text: str) -> Variant[Any]:
        """The method that ``NAME``, ``NAME[a=1]`` or ``NAME@RATE`` names."""
        return cls.methods.parse(text)

    def _load_backbone(self, backbone: Any) -> Any:
        """The frozen network on the device."""
        from wildsight.backbones import load_backbone
        from wildsight.backbones.towers import refuse_masks

        named = isinstance(backbone, str | Path)
        loaded = load_backbone(str(backbone), device=self.device) if named else backbone.to(self.device)
        if not self.promptable:
            refuse_masks(loaded.model)
        return loaded

    @abstractmethod
    def _read(self, source: Any) -> Data:
        """The task's data behind a source; data already read are returned as they are."""

    @abstractmethod
    def _fit(
        self, data: Data, config: TrainConfig, folder: Path | None, progress: bool, **options: Any
    ) -> dict[str, Any]:
        """Learn from ``data``; returns facts for ``fitted_on``."""

    @abstractmethod
    def _evaluate(self, data: Data, split: str, progress: bool, **options: Any) -> Evaluation:
        """Compare predictions on a split with its labels."""

    def _recipe(self) -> TrainConfig:
        """The method's own training settings."""
        from wildsight.training import TrainConfig

        return TrainConfig()

    @property
    def fitted(self) -> bool:
        """Whether it can predict."""
        return bool(self.fitted_on)

    def check_fitted(self) -> None:
        """Refuse work that needs a fit.

        Raises:
            ConfigError: not fitted.
        """
        if not self.fitted:
            raise ConfigError(f"the {self.noun} is not fitted", hint="call fit or from_pretrained")

    def fit_tables(self) -> list[tuple[Table, str]]:
        """Tables with captions for the report of a fit; the first is its ``results.csv``."""
        return []

    def fit_facts(self) -> dict[str, Any]:
        """What else ``scores.json`` of a fit holds."""
        return {}

    def fit_summary(self) -> list[str]:
        """What was learned and what it promises, in sentences."""
        counts = {n.replace("_", " "): v for n, v in self.fitted_on.items() if type(v) is int}
        learned = ", ".join(f"{value} {name}" for name, value in counts.items())
        fitted = f"fitted {self.settings.method} on {self.fitted_on['source']}"
        return [f"{fitted}: {learned}" if learned else fitted]

    def show_fit(self, report: Report) -> None:
        """Add the task's own figures to the report of a fit; none here."""

    def warnings(self) -> list[str]:
        """What a reader of its reports must know first, such as an oracle."""
        return []

    # -- parameters -----------------------------------------------------------------------------------------

    @property
    def hyper(self) -> dict[str, Any]:
        """The method's hyper-parameters that differ from its defaults."""
        return changed_fields(self.method)

    def get_params(self) -> dict[str, Any]:
        """What the constructor takes, so that ``type(e)(**e.get_params())`` is an equal, unfitted object."""
        names = [f.name for f in fields(self.settings)]
        return {n: getattr(self.settings, n) for n in names} | {
            "hyper": self.hyper,
            "device": self._device,
            "full_scale": self.full_scale,
        }

    def training_config(self, given: Mapping[str, Any]) -> TrainConfig:
        """The method's recipe with ``given`` in place of its own values.

        Raises:
            ConfigError: an unknown name, with the nearest one, or a value outside its range.
        """
        from wildsight.training import TrainConfig

        recipe = replace(self._recipe(), seed=self.settings.seed)
        values = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
        return configured(TrainConfig, {**values, **given}, noun="training setting")

    def depends(self, learned: Any, root: Path | None, **more: Any) -> dict[str, Any]:
        """What a saved training state must have been made from for a fit to go on with it.

        Args:
            learned: samples, class names, ...; see `wildsight.training.depends_on`.
            root: the folder that paths are named from.
            more: further facts.
        """
        from wildsight.training import depends_on

        settings, sha = self.settings, self.backbone.sha
        more |= {} if (scale := declared_scale()) is None else {"full_scale": scale}
        return depends_on(
            settings, self.method, learned, root, backbone=sha, without=self.free_settings, **more
        )

    # -- verbs ----------------------------------------------------------------------------------------------

    @scaled_verb
    def fit(
        self,
        source: Any,
        out: str | Path | None = None,
        *,
        folder: str | Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn from the training pictures of ``source``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            out: folder of the run: training state, checkpoint, scores and report; a killed fit goes on there,
                and the state of another fit is refused.
            folder: keep the training state here, and write nothing else; ``out/train`` where not given.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; the method's own recipe where not given.

        Raises:
            DataError: nothing to learn from.
            ConfigError: an unknown setting or one outside its range.
            CheckpointError: the folder holds the state of another fit.
        """
        return self._run_fit(source, out, folder, progress, training)

    def _run_fit(
        self,
        source: Any,
        out: str | Path | None,
        folder: str | Path | None,
        progress: bool,
        training: Mapping[str, Any],
        **options: Any,
    ) -> Self:
        """What every `fit` does around the task's own `_fit`; ``again`` replaces another finished run."""
        again = options.pop("again", False)
        config = self.training_config(training)
        run = None if out is None else RunFolder(Path(out))
        if run is not None:
            check_apart(run.path, [source])
            check_replaceable(run.checkpoint, MANIFEST)
        where = Path(folder) if folder is not None else None if run is None else run.path / "train"
        data = self._read(source)
        about = {} if run is None else self._about(data)
        if run is not None and not again:
            run.check(about, replaces=("pictures",) if self.grows else ())
        facts = self._fit(data, config, where, progress, **options)
        self.fitted_on = {"source": getattr(data, "name", str(source)), **facts}
        if run is not None:
            self._leave(run)
            run.mark(about)
        return self

    def _about(self, data: Data) -> dict[str, Any]:
        """What a finished fit in the same folder must share to be replaced by this one."""
        from wildsight.training.depends import data_digest

        settings = {n: v for n, v in self.get_params().items() if n not in {*self.free_settings, "device"}}
        pictures = data_digest(data, getattr(data, "root", None))
        return {"command": "fit", "task": self.task, **settings, "pictures": pictures}

    def _leave(self, run: RunFolder) -> None:
        """What a fit leaves in its folder: checkpoint, scores, table, report."""
        from wildsight.estimators.reporting import write_fit

        self.save_pretrained(run.checkpoint)
        write_fit(self, run)

    @abstractmethod
    def predict(self, pictures: Any, *, batch_size: int | None = None, **options: Any) -> list[R]:
        """Predict for one or several of what the task takes; results in order."""

    @abstractmethod
    def iter_files(
        self,
        files: Sequence[Any],
        *asked: Any,
        batch_size: int | None = None,
        workers: int | None = None,
        side: int | None = 0,
        progress: Callable[[int], Any] | None = None,
        **options: Any,
    ) -> Iterator[FileAnswer[R]]:
        """`predict` for many files in constant memory: the answer to each as soon as it is there.

        Args:
            files: of what `predict` takes.
            asked: what `predict` takes after the pictures.
            batch_size: files at a time; halved, with a warning, where memory does not hold so many.
            workers: threads that read ahead of the model.
            side: hand out each picture, its longer side at most this many pixels: 0 none, None as it is.
            progress: called with the number of files just done.
            options: as `predict`.

        Returns:
            One answer per file, in order: its results, or why it could not be used.

        Raises:
            ConfigError: not fitted, or an option outside its range.
        """

    @scaled_verb
    def predict_files(
        self,
        files: Sequence[Any],
        *asked: Any,
        progress: Callable[[int], Any] | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        **options: Any,
    ) -> tuple[list[R], list[WildSightError]]:
        """`predict` for many files: those that cannot be used are listed, the others still processed.

        All results are held; `iter_files` hands out one after the other.

        Args:
            files: as `iter_files`, with what else it takes.
            asked: likewise.
            progress: called with the number of files just done.
            batch_size: files at a time.
            workers: threads that read ahead of the model.
            options: as `predict`.
        """
        results: list[R] = []
        errors: list[WildSightError] = []
        shared: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
        for answer in self.iter_files(files, *asked, **shared, **options):
            results += answer.results
            if answer.error is not None:
                errors.append(answer.error)
        return results, errors

    @scaled_verb
    def evaluate(
        self, source: Any, *, split: str = "test", progress: bool = True, **options: Any
    ) -> Evaluation:
        """Compare predictions with the labels of a split of ``source``; nothing is selected on them here.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            split: which pictures: ``test``, or another that the source has.
            progress: show progress and the time left.
            options: the task's own.

        Raises:
            DataError: no readable picture in that split.
            ConfigError: not fitted, or an unknown split.
        """
        self.check_fitted()
        return self._evaluate(self._read(source), split, progress, **options)

    def to(self, device: str | int | torch.device) -> Self:
        """Move every network to ``device``; results come back to the CPU."""
        from wildsight.devices import resolve_device

        self.device, self._device = resolve_device(device), str(device)
        self.backbone = self.backbone.to(self.device)
        self._to(self.device)
        return self

    def _to(self, device: torch.device) -> None:
        """Move what the task trained."""


class PictureEstimator(Estimator[Data, R]):
    """An estimator that answers each picture by itself.

    A task adds `_predict`, and `_shrunk` where its model needs less of a picture than all of its pixels.
    """

    @abstractmethod
    def _predict(self, pictures: Sequence[Any], files: Sequence[Path | None], **options: Any) -> list[R]:
        """One result per picture of a batch, in order; the pictures are as `_shrunk` leaves them."""

    def _shrunk(self, picture: Image, **options: Any) -> Any:
        """What the model needs of a picture; called in a thread ahead of it."""
        return picture

    def predict(
        self, pictures: Picture | Sequence[Picture], *, batch_size: int | None = None, **options: Any
    ) -> list[R]:
        """Predict for pictures.

        Args:
            pictures: files, PIL pictures, arrays ([H, W] or [H, W, 3]) or encoded bytes; one or several.
            batch_size: pictures at a time.
            options: the task's own.

        Returns:
            One result per picture, in order.

        Raises:
            ImageError: a picture cannot be read.
            ConfigError: not fitted, or an option outside its range.
        """
        many = as_list(pictures)
        files = len(many) > 1 and all(isinstance(p, str | Path) for p in many)
        workers = (
            None if files else 0
        )  # a PIL picture may be given twice, and is read by one thread at a time
        return [a.result for a in self.iter_files(many, batch_size=batch_size, workers=workers, **options)]

    def iter_files(
        self,
        files: Sequence[Picture],
        *asked: Any,
        batch_size: int | None = None,
        workers: int | None = None,
        side: int | None = 0,
        progress: Callable[[int], Any] | None = None,
        **options: Any,
    ) -> Iterator[FileAnswer[R]]:
        """See `Estimator.iter_files`."""
        self.check_fitted()

        def read(item: Picture) -> Ready[tuple[Any, Path | None]]:
            picture = as_picture(item)
            shown, needed = shown_of(picture, side), self._shrunk(picture, **options)
            return Ready((needed, path_of(item)), bytes_of(needed, shown), shown)

        def answer(batch: Sequence[tuple[Any, Path | None]]) -> Iterator[list[R]]:
            found = self._predict([p for p, _ in batch], [f for _, f in batch], *asked, **options)
            return ([result] for result in found)

        return Stream(read, answer, batch_size, workers, progress).run(files)
