"""The old base of the objects that are not on `Estimator` yet: saving and loading alone.

A public object has five verbs: ``fit``, ``predict``, ``evaluate``, ``save_pretrained`` and
``from_pretrained``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from wildsight.errors import CheckpointError
from wildsight.files import CONFIG, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1


class SavedObject(ABC):
    """Base of the public objects: one checkpoint form for all tasks.

    A subclass names its ``task`` and turns itself into (tensors, settings) and back.
    """

    task: ClassVar[str]
    weights_name: ClassVar[str] = "head"
    """Stem of the checkpoint's tensor file."""
    config_name: ClassVar[str] = CONFIG
    """Name of the checkpoint's settings' file."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The trained tensors by name, and the JSON-able settings that rebuild the object."""

    @classmethod
    @abstractmethod
    def _restore(cls, tensors: dict[str, Tensor], settings: dict[str, Any], **options: Any) -> Self:
        """The object that `_state` described."""

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a checkpoint folder (safetensors, JSON, SHA-256 manifest), whole or not at all.

        Raises:
            DataError: the folder cannot be written, or the disk is full.
        """
        tensors, settings = self._state()
        config = {"format": FORMAT, "task": self.task, "object": type(self).__name__, **settings}
        return save_checkpoint(folder, tensors, config, name=self.weights_name, config_name=self.config_name)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:
        """Load what `save_pretrained` wrote.

        Raises:
            CheckpointError: damaged, of another task or format, or made for another base.
        """
        tensors, settings = load_checkpoint(folder, name=cls.weights_name, config_name=cls.config_name)
        task = settings.get("task", settings.get("room"))  # "room" until 0.1
        if task != cls.task or settings.get("object") != cls.__name__:
            kind = f"{task}/{settings.get('object')}"
            raise CheckpointError(f"is a checkpoint of {kind}", where=folder, hint=f"load it with {kind}")
        if settings.get("format") != FORMAT:
            raise CheckpointError(
                f"has format {settings.get('format')}", where=folder, hint=f"this version reads {FORMAT}"
            )
        try:
            return cls._restore(tensors, settings, **options)
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"does not fit ({error})", where=folder, hint="save it again") from error
