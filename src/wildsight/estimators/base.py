"""The base of every public object: constructor, five verbs, checkpoints, and what a fit depends on.

A task writes what is its own: `_fit`, `_predict`, `_evaluate`, `_state` and `_load_state`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from wildsight.errors import ConfigError, WildSightError
from wildsight.estimators.checkpoints import Checkpointed
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.registry import (
    Registry,
    Variant,
    configured,
    hyper_names,
    plain_value,
)
from wildsight.files import MANIFEST, check_replaceable
from wildsight.images import Picture, as_list, as_picture, path_of
from wildsight.results import RunFolder, Table

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from wildsight.report import Report
    from wildsight.training import History, TrainConfig

BATCH = 16
Data = TypeVar("Data")
R = TypeVar("R")
P = TypeVar("P")


class Estimator(Checkpointed, Generic[Data, R]):
    """Base of the public objects.

    Args:
        method: a name from ``methods``, or the method itself, which carries its hyper-parameters; None takes
            ``default_method``.
        backbone: hub id, local folder, ``nano-*``, or one that is loaded; None takes ``default_backbone``.
        hyper: the method's hyper-parameters by name, or the method itself.
        device: ``auto`` (that of a loaded backbone, else CUDA, MPS, then the CPU) or a device; see
            `wildsight.devices.resolve_device`.
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
    promptable: ClassVar[bool] = False
    """Whether its backbone is a mask model (SAM) and not one that gives features of pictures."""
    free_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings and hyper-parameters that change nothing that is learned."""

    def __init__(
        self,
        method: Any = None,
        backbone: Any = None,
        *,
        hyper: Mapping[str, Any] | Any | None = None,
        device: str | int | torch.device | None = "auto",
        **settings: Any,
    ) -> None:
        from wildsight.devices import resolve_device

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

    def _predict(self, pictures: Sequence[Image], files: Sequence[Path | None], **options: Any) -> list[R]:
        """One result per picture of a batch, in order."""
        raise NotImplementedError

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
        return depends_on(
            settings, self.method, learned, root, backbone=sha, without=self.free_settings, **more
        )

    # -- verbs ----------------------------------------------------------------------------------------------

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
        """What every `fit` does around the task's own `_fit`."""
        config = self.training_config(training)
        run = None if out is None else RunFolder(Path(out))
        if run is not None:
            check_replaceable(run.checkpoint, MANIFEST)
        where = Path(folder) if folder is not None else None if run is None else run.path / "train"
        data = self._read(source)
        facts = self._fit(data, config, where, progress, **options)
        self.fitted_on = {"source": getattr(data, "name", str(source)), **facts}
        if run is not None:
            self._leave(run)
        return self

    def _leave(self, run: RunFolder) -> None:
        """What a fit leaves in its folder: checkpoint, scores, table, report."""
        from wildsight.estimators.reporting import write_fit

        self.save_pretrained(run.checkpoint)
        write_fit(self, run)

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
        self.check_fitted()
        results: list[R] = []
        for batch in batches(as_list(pictures), batch_size):
            results += self._predict([as_picture(p) for p in batch], [path_of(p) for p in batch], **options)
        return results

    def predict_files(
        self,
        files: Sequence[str | Path],
        *,
        progress: Callable[[int], Any] | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> tuple[list[R], list[WildSightError]]:
        """`predict` for many files: the unreadable ones are listed, the others still processed.

        Args:
            files: pictures.
            progress: called with the number of files just done.
            batch_size: pictures at a time.
            options: as `predict`.
        """
        self.check_fitted()
        results: list[R] = []
        errors: list[WildSightError] = []
        for batch in batches(files, batch_size):
            pictures: list[Image] = []
            readable: list[Path | None] = []
            for file in batch:
                try:
                    pictures.append(as_picture(file))
                    readable.append(Path(file))
                except WildSightError as error:
                    errors.append(error)
            if pictures:
                results += self._predict(pictures, readable, **options)
            if progress:
                progress(len(batch))
        return results, errors

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


def batches(items: Sequence[P], size: int | None) -> Iterator[Sequence[P]]:
    """``items`` in parts of ``size``.

    Raises:
        ConfigError: a size below 1.
    """
    step = BATCH if size is None else size
    if step < 1:
        raise ConfigError(f"batch_size={size}", hint="give 1 or more")
    for start in range(0, len(items), step):
        yield items[start : start + step]


def changed_fields(method: Any) -> dict[str, Any]:
    """The fields that differ from their defaults, nested ones as mappings, infinity as a word."""
    if not is_dataclass(method) or isinstance(method, type):
        return {}
    values = asdict(method)
    plain = type(method)()
    changed = [n for n in hyper_names(method) if getattr(method, n) != getattr(plain, n)]
    return {n: plain_value(values[n]) for n in changed}
