"""The base of every public object, and the table of rooms.

A public object has five verbs: ``fit``, ``predict``, ``evaluate``, ``save_pretrained`` and
``from_pretrained``. The first three belong to the room; saving and loading are here, the same for all.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from wildsight.errors import CheckpointError, ConfigError, WildSightError
from wildsight.files import CONFIG, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1


@dataclass(frozen=True)
class Room:
    """Where a room's parts are, as strings, so that listing rooms imports none of them.

    Attributes:
        problem: the question it answers, as a user would say it.
        check: ``module:function`` that takes a source string and returns the problems found.
        bench: ``module:function`` that runs the method and its peers.
    """

    problem: str
    check: str
    bench: str


ROOMS: dict[str, Room] = {
    "anomaly": Room(
        problem="find what is wrong in these pictures, I only have good ones",
        check="wildsight.anomaly.source:check_source",
        bench="wildsight.anomaly.bench:bench",
    ),
    "compression": Room(
        problem="my multimodal LLM is too slow and too big",
        check="wildsight.compression.questions:check_source",
        bench="wildsight.compression.bench:bench",
    ),
    "composition": Room(
        problem="recognise 'wet cat' though training only had 'wet dog' and 'dry cat'",
        check="wildsight.composition.source:check_source",
        bench="wildsight.composition.bench:bench",
    ),
    "continual": Room(
        problem="keep teaching one CLIP new tasks, break nothing it knew",
        check="wildsight.continual.source:check_source",
        bench="wildsight.continual.bench:bench",
    ),
    "discovery": Room(
        problem="sort this unlabelled folder into the classes I know and the new ones",
        check="wildsight.discovery.source:check_source",
        bench="wildsight.discovery.bench:bench",
    ),
    "segmentation": Room(
        problem="outline the defect exactly",
        check="wildsight.segmentation.source:check_source",
        bench="wildsight.segmentation.bench:bench",
    ),
    "fusion": Room(
        problem="RGB, depth, thermal, event, LiDAR: one mask",
        check="wildsight.fusion.source:check_source",
        bench="wildsight.fusion.bench:bench",
    ),
    "retrieval": Room(
        problem="find the photo from my sketch, for classes never trained",
        check="wildsight.retrieval.source:check_source",
        bench="wildsight.retrieval.bench:bench",
    ),
    "spatial": Room(
        problem="where in metres is the black car, from one picture",
        check="wildsight.spatial.source:check_source",
        bench="wildsight.spatial.bench:bench",
    ),
}


def room(name: str) -> Room:
    """The room called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in ROOMS:
        raise ConfigError(f"no room is called {name!r}", mend=f"use one of {', '.join(ROOMS)}")
    return ROOMS[name]


def resolve(target: str) -> Any:
    """The object that a ``module:name`` string points to."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


class Task(ABC):
    """Base of the public objects: one checkpoint form for all rooms.

    A subclass names its ``room`` and turns itself into (tensors, settings) and back.
    """

    room: ClassVar[str]
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
        config = {"format": FORMAT, "room": self.room, "object": type(self).__name__, **settings}
        return save_checkpoint(folder, tensors, config, name=self.weights_name, config_name=self.config_name)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:
        """Load what `save_pretrained` wrote.

        Raises:
            CheckpointError: damaged, of another room or format, or made for another base.
        """
        tensors, settings = load_checkpoint(folder, name=cls.weights_name, config_name=cls.config_name)
        if settings.get("room") != cls.room or settings.get("object") != cls.__name__:
            kind = f"{settings.get('room')}/{settings.get('object')}"
            raise CheckpointError(f"is a checkpoint of {kind}", where=folder, mend=f"load it with {kind}")
        if settings.get("format") != FORMAT:
            raise CheckpointError(
                f"has format {settings.get('format')}", where=folder, mend=f"this version reads {FORMAT}"
            )
        try:
            return cls._restore(tensors, settings, **options)
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"does not fit ({error})", where=folder, mend="save it again") from error


Kept = TypeVar("Kept", bound=Task)


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
