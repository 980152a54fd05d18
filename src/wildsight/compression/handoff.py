"""How a cache layer says whose keys the attention call that follows will get.

`transformers` calls a layer's ``update`` and then the attention function with the keys that came back: the
layer leaves a note here, and the attention function takes it.
"""

from __future__ import annotations

import threading
from typing import Protocol

from torch import Tensor

from wildsight.errors import UnsupportedModelError


class Layer(Protocol):
    """A cache layer, as far as a note needs it."""

    @property
    def owner(self) -> object:
        """The cache that it belongs to."""


_local = threading.local()


def hand_over(layer: Layer, keys: Tensor) -> None:
    """Leave a note, for the attention call that follows, of whose keys these are.

    Raises:
        UnsupportedModelError: the keys of the layer before never reached our attention function.
    """
    before = getattr(_local, "record", None)
    if before is not None and before[0].owner is layer.owner:
        _local.record = None
        raise UnsupportedModelError(
            "this model does not pass its cached keys to the attention function",
            hint="use the cache inside `compress(...)` or `ragged_attention(model)`",
        )
    _local.record = (layer, keys)


def take(keys: Tensor) -> Layer | None:
    """The layer whose keys these are, if one left a note."""
    record = getattr(_local, "record", None)
    if record is None or record[1] is not keys:
        return None
    _local.record = None
    layer: Layer = record[0]
    return layer


def forget() -> None:
    """Drop a note that a failed call left behind."""
    _local.record = None
