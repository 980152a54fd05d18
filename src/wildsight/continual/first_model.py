"""The first model of a learner: known by its name and SHA-256, in memory only while it is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch

from wildsight.backbones import Backbone, load_backbone
from wildsight.devices import resolve_device
from wildsight.errors import CheckpointError


@dataclass
class FirstModel:
    """A CLIP that is read again by its name when it is needed, so that its weights take no memory until then.

    Attributes:
        name: as it was asked for.
        sha: SHA-256 over configuration and weights.
        source: what it is read from; or the loaded network itself, which belongs to the caller.
    """

    name: str
    sha: str
    source: str | Backbone
    _loaded: Backbone | None = field(default=None, repr=False)

    @classmethod
    def of(cls, backbone: str | Path | Backbone | FirstModel, device: torch.device) -> FirstModel:
        """The first model that a name, a loaded network or another learner gives."""
        if isinstance(backbone, FirstModel):
            return cls(backbone.name, backbone.sha, backbone.source)
        if isinstance(backbone, str | Path):
            loaded = load_backbone(str(backbone), device=device)
            return cls(loaded.name, loaded.sha, str(backbone), loaded)
        return cls(backbone.name, backbone.sha, backbone)

    @property
    def device(self) -> torch.device:
        """Where a loaded network is; that of ``auto`` for one that is read by its name."""
        return self.source.device if isinstance(self.source, Backbone) else resolve_device("auto")

    def load(self, device: torch.device) -> Backbone:
        """The network on a device.

        Raises:
            CheckpointError: the files behind its name have changed.
        """
        if isinstance(self.source, Backbone):
            return self.source.to(device)
        loaded = self._loaded or load_backbone(self.source, device=device)
        if loaded.sha != self.sha:
            raise CheckpointError(
                "is another base than this learner began with",
                where=loaded.name,
                hint="restore its files, or begin a new learner",
            )
        return loaded

    def release(self) -> None:
        """Give the memory of a network that is read by its name free."""
        self._loaded = None

    def to(self, device: torch.device) -> Self:  # noqa: ARG002
        """Nothing to move: `load` names the device."""
        return self
