"""LoRA per task: low-rank adapters trained on the frozen model, then merged into it.

Paper: 2106.09685, through `peft`. Every task trains its own adapters from zero; merging keeps one model
without a task id. The token table is trained where words have rows of their own (see `towers`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wildsight.continual.finetune import FineTuning, FineTuningObjective
from wildsight.continual.settings import ranged
from wildsight.continual.towers import Towers


@dataclass(frozen=True)
class LoRA(FineTuning):
    """``rank`` and ``alpha`` of the adapters (update ``alpha / rank B A``); ``rate``: factor of the learning
    rate, since adapters start at zero."""

    rank: int = 8
    alpha: int = 16
    rate: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        ranged(self, rank="count", alpha="positive", rate="positive")


class LoRAObjective(FineTuningObjective):
    """``L_ce`` on the adapters' weights."""


def adapt(towers: Towers, config: LoRA, seed: int) -> None:
    """Freeze the model and put adapters on every query and value projection; `merge` takes them off."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=["q_proj", "v_proj"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers.clip = get_peft_model(towers.clip, settings)
    for name, weight in towers.clip.named_parameters():
        if "lora_" in name:
            weight.lr_scale = config.rate
        elif towers.words and name.endswith("token_embedding.weight"):
            weight.requires_grad_(True)


def merge(towers: Towers) -> None:
    """Add the adapters to the weights and take them off; every weight is trainable again."""
    towers.clip = towers.clip.merge_and_unload()
    towers.clip.requires_grad_(True)
    towers.clip.logit_scale.requires_grad_(False)
