"""The task's methods: a file each, registered by name. `CompositionMethod` is what the recognizer drives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from wildsight.composition.modules import Head, LabelledBatch, Space
from wildsight.estimators.registry import Range, Registry
from wildsight.training import Batch, TrainConfig

Step = Callable[[nn.Module, Batch], dict[str, Tensor]]
THREE: Range = (lambda v: len(v) == 3, "give three numbers: pair, attribute, object")


@dataclass(frozen=True, kw_only=True)
class CompositionMethod:
    """A method with its hyper-parameters; frozen, so that two can be compared by their values."""

    title: ClassVar[str]
    """Name for tables."""
    trained: ClassVar[bool] = True
    """False when it works as it is."""
    needs_text: ClassVar[bool] = False
    """It cannot do without a text tower."""
    pair_texts: ClassVar[bool] = True
    """It scores with the text features of the candidate pairs, where there are any."""
    learns_prompts: ClassVar[bool] = False
    """It runs the text tower on word vectors of its own."""

    @abstractmethod
    def head(self, space: Space) -> Head:
        """A new module for this space.

        Raises:
            UnsupportedModelError: the space lacks what the method needs.
        """

    def step(self, features: Tensor, labels: Tensor, seen: Tensor, epochs: int) -> Step:  # noqa: ARG002
        """One training step.

        Args:
            features: [N, D] training features. labels: [N] ids among the seen pairs. seen: [S, 2].
            epochs: of the whole run.
        """
        return lambda head, batch: head(LabelledBatch(*batch.data))

    @staticmethod
    def recipe(shared: bool) -> TrainConfig:
        """Training settings: small steps from a space ``shared`` with texts, larger ones from nothing."""
        return TrainConfig(
            epochs=20 if shared else 15,
            batch_size=128,
            lr=5e-4 if shared else 1e-3,
            weight_decay=1e-5 if shared else 5e-5,
            clip_norm=5.0,
        )


METHODS: Registry[CompositionMethod] = Registry(
    "method",
    "wildsight.composition.methods",
    order=("hdaoe", "troika", "csp", "compcos", "product", "zeroshot"),
)
ABLATIONS: dict[str, dict[str, Any]] = {
    "hdaoe-base": {"adds": False, "sdde": None},
    "hdaoe-adds": {"sdde": None},
    "hdaoe-sdde": {"adds": False},
    "hdaoe-scd": {"sdde": "scd"},
    "hdaoe-contrast": {"adds": False, "omega": 1.0},
    "hdaoe-class": {"adds": False, "omega": 1.0, "contrast": "class"},
    "hdaoe-composed": {"comp": "composed"},
    "hdaoe-composed-base": {"comp": "composed", "adds": False, "sdde": None},
}
"""Named settings of HDA-OE: each part switched, as the bench's ablation table has them."""
METHODS.add_presets("hdaoe", ABLATIONS)
