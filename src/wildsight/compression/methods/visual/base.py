"""What a method that drops visual tokens is, and the registry in which every file enters its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from torch import Tensor

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.estimators.registry import Registry

CacheMaker = Callable[[Mapping[str, Any]], Any]
"""From the arguments of a call (``input_ids``, ``attention_mask``) to the cache that it reads into."""


class VisualMethod:
    """Base of all methods: a frozen dataclass whose fields are its parameters."""

    name: ClassVar[str] = ""
    draws: ClassVar[bool] = False
    """Whether the choice depends on the seed."""

    @property
    def saliency_layers(self) -> int:
        """Vision layers whose saliency is read while a picture is encoded; 0 reads none."""
        return 0

    def check(self, model: Any) -> None:
        """Refuse a model that the method has no meaning for.

        Raises:
            ConfigError: a parameter that this model cannot meet.
            UnsupportedModelError: a model of another kind.
        """

    def layer_tokens(self, total: int, kept: int, layers: int) -> float:  # noqa: ARG002
        """Tokens of a picture of ``total`` that a layer of the language model reads, the mean over layers."""
        return float(kept)

    def inside(
        self,
        model: Any,  # noqa: ARG002
        keep: int | float,  # noqa: ARG002
    ) -> AbstractContextManager[CacheMaker | None]:
        """Hooks in the language model, for methods that drop tokens there; the others need none.

        Args:
            model: whose forward pass is changed inside the block.
            keep: tokens per image, or a share in (0, 1].
        """
        return nullcontext(None)


class VisualSelector(VisualMethod, ABC):
    """Base of the methods that choose among one picture's tokens before the language model reads them."""

    @property
    def saliency_layers(self) -> int:
        """One: the layer whose features are used."""
        return 1

    @abstractmethod
    def select(self, view: ImageView, count: int) -> Selection:
        """Choose ``count`` of a picture's tokens.

        Args:
            view: what is known of the picture.
            count: tokens to keep, fewer than there are.
        """


SELECTORS: Registry[VisualMethod] = Registry(
    "selector of visual tokens",
    package="wildsight.compression.methods.visual",
    order=(
        "hybrid", "vtc-cls", "fastervlm", "vispruner", "visionzip", "prumerge", "divprune", "scope", "norm",
        "grid", "random", "fastv",
    ),
)  # fmt: skip


def keep_best(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` highest of ``scores [N]``, ascending; ties go to the lower index."""
    return scores.sort(descending=True, stable=True).indices[:count].sort().values
