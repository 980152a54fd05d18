"""The task's methods: a file each, registered by name. `SpatialMethod` is what the grounder drives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from wildsight.errors import DataError
from wildsight.estimators.registry import ABOVE_ZERO, Range, Registry, check_ranges, hyper_names
from wildsight.spatial.geometry import F_VIRTUAL
from wildsight.spatial.mllm import Mllm
from wildsight.training import TrainConfig

RECIPE = TrainConfig(
    epochs=10,
    batch_size=20,
    lr=3e-4,
    weight_decay=0.0,
    betas=(0.9, 0.95),
    schedule="cosine",
    warmup=0.05,
    clip_norm=1.0,
)


def one_of(names: Sequence[str]) -> Range:
    """The range of a word among ``names``."""
    return (lambda v: v in names, f"use one of {', '.join(names)}")


@dataclass(frozen=True, kw_only=True)
class SpatialMethod:
    """A method with its hyper-parameters; frozen, so that it can be told from another by its values.

    Attributes:
        Q: query tokens, the most boxes in one answer.
        pool: visual tokens are averaged over blocks of pool x pool.
        virtual: whether depth is given in the virtual camera.
        f_v: its focal length, pixels.
        threshold: score below which nothing is said to be there.
    """

    title: ClassVar[str]
    """Name for tables."""
    trained: ClassVar[bool] = True
    """All of them learn by gradient."""
    recipe: ClassVar[TrainConfig] = RECIPE
    """Training settings."""
    text: ClassVar[bool] = False
    """Its boxes are decoded as text."""
    oracle: ClassVar[bool] = False
    """It is given the 2D box, in an evaluation the true one."""

    Q: int = field(default=1, init=False)
    pool: int = field(default=1, init=False)
    virtual: bool = True
    f_v: float = F_VIRTUAL
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(self, f_v=ABOVE_ZERO)

    @classmethod
    def names(cls) -> set[str]:
        """Its hyper-parameters that are a user's to set."""
        return set(hyper_names(cls))

    @property
    def f_or_none(self) -> float | None:
        """f_v, or None without the virtual camera."""
        return self.f_v if self.virtual else None

    @abstractmethod
    def network(self, mllm: Mllm, channels: int) -> Any:
        """A new module for this model.

        Its forward gives the losses of a batch; it has ``boxes`` and ``start_from``.

        Args:
            mllm: frozen; what is trained of it goes into it.
            channels: of the fine map.

        Raises:
            ConfigError: a hyper-parameter that does not fit this model.
        """

    def check_count(self, most: int) -> None:
        """Refuse questions with more boxes than one answer holds.

        Raises:
            DataError: it would learn the first ones only.
        """
        if most <= self.Q:
            return
        free = type(self).__dataclass_fields__["Q"].init
        several = f'set hyper={{"Q": {most}}} (--queries {most})'
        hint = several if free else "leave such questions out, or use llmi3d"
        name = str(getattr(type(self), "name", self.title))
        raise DataError(f"a question asks for {most} boxes, an answer of {name} holds Q={self.Q}", hint=hint)


METHODS: Registry[SpatialMethod] = Registry(
    "method",
    "wildsight.spatial.methods",
    order=("llmi3d", "text", "text-virtual", "cube-head", "no-virtual-depth", "no-local"),
)
