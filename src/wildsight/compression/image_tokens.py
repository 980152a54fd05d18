"""What a selector of visual tokens sees of one image, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wildsight.errors import ConfigError, UnsupportedModelError


@dataclass(frozen=True)
class ImageView:
    """One image's tokens.

    Attributes:
        features: ``[n, D]``, as they enter the language model.
        rows: ``[K, n]`` saliency of each vision layer that was read, first to last; empty where none was, or
            the tower has none.
        rule: where the saliency comes from: ``cls``, ``pooling head``, ``received attention`` or ``norm``.
        keys: ``[n, d]`` head-mean keys of the last scored layer, or None.
        tower: name of the vision tower, for messages.
        seed: for selectors that draw.
    """

    features: Tensor
    rows: Tensor
    rule: str
    keys: Tensor | None = None
    tower: str = "the vision tower"
    seed: int = 0

    def saliency(self, layers: int = 1) -> Tensor:
        """``[K, n]`` rows of the last ``layers`` vision layers; one row where the tower has no [CLS].

        Raises:
            ConfigError: the picture was encoded for fewer layers.
            UnsupportedModelError: the tower gives no saliency.
        """
        if not self.rows.shape[0]:
            raise UnsupportedModelError(
                f"{self.tower} has no attention that scores its patches",
                hint="use the method norm, divprune, random or grid",
            )
        if self.rule == "cls" and layers > self.rows.shape[0]:
            raise ConfigError(
                f"the saliency of {layers} vision layers is asked for, and {self.rows.shape[0]} were read",
                hint=f"encode the picture with layers={layers}",
            )
        return self.rows[-layers:]

    def part(self, index: Tensor) -> ImageView:
        """The view of some of the tokens."""
        keys = None if self.keys is None else self.keys[index]
        return replace(self, features=self.features[index], rows=self.rows[:, index], keys=keys)

    @property
    def score(self) -> Tensor:
        """``[n]`` saliency of the last scored layer."""
        return self.saliency(1)[0]

    @property
    def unit(self) -> Tensor:
        """``[n, D]`` features of length one, float32."""
        return torch.nn.functional.normalize(self.features.float(), dim=-1)


@dataclass(frozen=True)
class Selection:
    """Which tokens stay.

    Attributes:
        keep: ``[U]`` int64, ascending.
        features: ``[U, D]`` that take their place, for methods that merge; None leaves them as they are.
    """

    keep: Tensor
    features: Tensor | None = None
