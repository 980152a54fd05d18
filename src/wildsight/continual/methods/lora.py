"""LoRA per task: low-rank adapters trained on the frozen model, then merged into it.

Paper: 2106.09685, through `peft`. Every task trains its own adapters from zero; merging keeps one model
without a task id. The token table is trained where words have rows of their own (see `towers`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from wildsight.continual.methods import METHODS
from wildsight.continual.methods.finetune import FineTuning, FineTuningObjective
from wildsight.continual.objective import Weights
from wildsight.continual.settings import ranged
from wildsight.continual.towers import Towers


def adapt(towers: Towers, rank: int, alpha: float, rate: float, seed: int) -> None:
    """Freeze the model and put adapters on every query and value projection; `merge` takes them off.

    Args:
        towers: changed in place.
        rank, alpha: of the adapters, whose update is ``alpha / rank B A``.
        rate: factor of their learning rate.
        seed: of their start.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["q_proj", "v_proj"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers.clip = get_peft_model(towers.clip, settings)
    for name, weight in towers.clip.named_parameters():
        if "lora_" in name:
            weight.lr_scale = rate
        elif towers.words and name.endswith("token_embedding.weight"):
            weight.requires_grad_(True)


def merge(towers: Towers) -> None:
    """Add the adapters to the weights and take them off; every weight is trainable again."""
    towers.clip = towers.clip.merge_and_unload()
    towers.clip.requires_grad_(True)
    towers.clip.logit_scale.requires_grad_(False)


class LoRAObjective(FineTuningObjective):
    """``L_ce`` on the adapters' weights."""


@METHODS.register("lora")
@dataclass(frozen=True)
class LoRA(FineTuning):
    """LoRA per task with its hyper-parameters."""

    title = "LoRA per task"
    objective = LoRAObjective

    rank: int = 8
    """Of the adapters, >= 1."""
    alpha: int | float = 16
    """The adapters' update is ``alpha / rank B A``, > 0."""
    rate: float = 5.0
    """Factor of the learning rate, since adapters start at zero, > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ranged(self, rank="count", alpha="positive", rate="positive")

    def adapt(self, towers: Towers, seed: int) -> None:
        """Put the adapters on."""
        adapt(towers, self.rank, self.alpha, self.rate, seed)

    def finish(self, towers: Towers, merged: Callable[[], Weights]) -> None:  # noqa: ARG002  nothing is averaged
        """Merge the adapters into the weights."""
        merge(towers)
