"""Checkpoints: a folder of safetensors, JSON and a SHA-256 manifest, written whole or not at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, cast

from wildsight.errors import CheckpointError, WildSightError
from wildsight.estimators.hub import CARD, card, fetched, pushed
from wildsight.files import CONFIG, digest_of, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1


class Checkpointed(ABC):
    """What can be saved and loaded: a method with its settings on a frozen backbone."""

    task: ClassVar[str]
    weights_name: ClassVar[str] = "head"
    """Stem of the checkpoint's tensor file."""
    config_name: ClassVar[str] = CONFIG
    """Name of the checkpoint's settings' file."""
    settings: Any
    backbone: Any
    fitted_on: dict[str, Any]
    full_scale: float | None = None

    @property
    @abstractmethod
    def hyper(self) -> dict[str, Any]:
        """The method's hyper-parameters that differ from its defaults."""

    @abstractmethod
    def check_fitted(self) -> None:
        """Refuse work that needs a fit."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The trained tensors by name, and the JSON-able facts of this task that rebuild the object."""

    @abstractmethod
    def _load_state(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        """Take what `_state` gave; ``self`` is fresh from its constructor."""

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a checkpoint folder (safetensors, JSON, SHA-256 manifest), whole or not at all.

        Raises:
            ConfigError: not fitted.
            DataError: the folder cannot be written, or the disk is full.
        """
        self.check_fitted()
        tensors, own = self._state()
        config: dict[str, Any] = {"format": FORMAT, "task": self.task, "object": type(self).__name__}
        cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        config |= {**self._described(), **own}
        config |= {} if self.full_scale is None else {"full_scale": self.full_scale}
        names = {"name": self.weights_name, "config_name": self.config_name}
        facts = {**config, "fitted_on": self.fitted_on}
        text = card(facts, self.settings.method, str(self.backbone.name), type(self).__name__)
        return save_checkpoint(folder, cpu, config, **names, texts={CARD: text})

    def push_to_hub(self, repo: str, *, private: bool = False, revision: str | None = None) -> str:
        """Save and upload the checkpoint with its card.

        Args:
            repo: ``user/name``; made if it is not there.
            private: of a new repository.
            revision: branch; the main one where None.

        Returns:
            The address of the commit.

        Raises:
            ConfigError: not fitted, or the hub refuses or cannot be reached.
        """
        with TemporaryDirectory() as folder:
            return pushed(self.save_pretrained(Path(folder) / "checkpoint"), repo, private, revision)

    def _described(self) -> dict[str, Any]:
        """What every checkpoint says of itself."""
        return {
            "settings": asdict(self.settings),
            "hyper": self.hyper,
            "backbone_sha256": self.backbone.sha,
            "fitted_on": self.fitted_on,
            "fingerprint": digest_of(self.fitted_on),
        }

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        revision: str | None = None,
        device: str | int | None = "auto",
        **options: Any,
    ) -> Self:
        """Load what `save_pretrained` wrote.

        Args:
            folder: the checkpoint, or a repository ``user/name``.
            revision: branch, tag or commit of a repository.
            device: where it runs.
            options: ``backbone=`` where its folder has moved, and other arguments of the constructor.

        Raises:
            CheckpointError: damaged, of another task or format, made for another backbone, or not to be
                fetched.
        """
        folder = fetched(folder, revision)
        options["device"] = device
        tensors, config = load_checkpoint(folder, name=cls.weights_name, config_name=cls.config_name)
        task = config.get("task", config.get("room"))  # "room" until 0.1
        if task != cls.task or config.get("object") != cls.__name__:
            kind = f"{task}/{config.get('object')}"
            raise CheckpointError(f"is a checkpoint of {kind}", where=folder, hint=f"load it with {kind}")
        if config.get("format") != FORMAT:
            what = f"has format {config.get('format')}"
            raise CheckpointError(what, where=folder, hint=f"this version reads {FORMAT}")
        try:
            options.setdefault("full_scale", config.get("full_scale"))
            return cls._restore(tensors, config, **options)
        except (KeyError, TypeError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"does not fit ({error})", where=folder, hint="save it again") from error

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], config: dict[str, Any], **options: Any) -> Self:
        """The object that a checkpoint describes."""
        arguments, backbone = cls._arguments(config)
        arguments |= {name: value for name, value in options.items() if value is not None}
        made: Self = cast(Any, cls)(**{"backbone": backbone, **arguments})
        made.check_backbone(config)
        made.fitted_on = dict(config["fitted_on"])
        made._load_state(tensors, config)
        return made

    @classmethod
    def _arguments(cls, config: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """The constructor's arguments but the backbone, and the backbone, as a checkpoint names them."""
        saved = dict(config["settings"])
        backbone = saved.pop("backbone")
        return {**saved, "hyper": config["hyper"]}, backbone

    def check_backbone(self, config: Mapping[str, Any]) -> None:
        """Refuse a backbone with other weights than the checkpoint was made on.

        Raises:
            CheckpointError: they differ.
        """
        if self.backbone.sha != config["backbone_sha256"]:
            raise CheckpointError(
                f"was trained on other weights than {self.backbone.name!r} holds now",
                hint="name the backbone it was trained on, or fit again",
            )


class Saved(Protocol):
    """What can write itself to a folder."""

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a checkpoint."""
        ...


Kept = TypeVar("Kept", bound=Saved)


def kept(folder: Path, load: Callable[[Path], Kept], make: Callable[[], Kept]) -> Kept:
    """A model that is kept in a folder; one that is damaged or of another version is made again.

    Args:
        folder: where it is kept, named by all that it depends on.
        load: reads it from there.
        make: makes it.
    """
    if folder.is_dir():
        with suppress(WildSightError):
            return load(folder)
    made = make()
    made.save_pretrained(folder)
    return made
