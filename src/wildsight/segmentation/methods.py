"""The task's methods under one interface: build an adapter for a base, and its training recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wildsight.errors import ConfigError
from wildsight.segmentation.adapter import Adapter
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.conv_lora import ConvLoRA, ConvLoRAConfig
from wildsight.segmentation.decoder_tuning import DecoderTuning, DecoderTuningConfig
from wildsight.segmentation.sam_adapter import SAMAdapter, SAMAdapterConfig
from wildsight.segmentation.spt import SPT, SPTConfig
from wildsight.segmentation.zero_shot import ZeroShot, ZeroShotConfig
from wildsight.training import TrainConfig


@dataclass(frozen=True)
class Method:
    """How the segmenter drives one method.

    Attributes:
        title: name for tables.
        trained: False when there is nothing to learn.
        config: its frozen dataclass of hyper-parameters.
        adapter: builds the adapter from the configuration and the base.
        preset: hyper-parameters that make this method out of its class.
        lr: learning rate of its recipe.
    """

    title: str
    trained: bool
    config: Callable[..., Any]
    adapter: Callable[[Any, SamBase], Adapter]
    preset: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 1e-3

    def settings(self, seed: int, hyper: Mapping[str, Any]) -> Any:
        """The configuration.

        Raises:
            ConfigError: an unknown hyper-parameter or one outside its range.
        """
        known = getattr(self.config, "__dataclass_fields__", {})
        own = {"seed": seed} if "seed" in known else {}
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in hyper.items()}
        try:
            return self.config(**{**own, **self.preset, **given})
        except TypeError as error:
            raise ConfigError(str(error), hint=f"see the hyper-parameters of {self.title}") from error

    def build(self, base: SamBase, seed: int, hyper: Mapping[str, Any]) -> Adapter:
        """A new adapter for ``base``."""
        return self.adapter(self.settings(seed, hyper), base)


def _spt(title: str, **preset: Any) -> Method:
    return Method(title, True, SPTConfig, SPT, preset)


METHODS: dict[str, Method] = {
    "spt": _spt("SPT"),
    "zero-shot": Method("SAM, one pass", False, ZeroShotConfig, ZeroShot),
    "zero-shot-2": Method("SAM, two passes", False, ZeroShotConfig, ZeroShot, {"passes": 2}),
    "decoder": Method("decoder tuning", True, DecoderTuningConfig, DecoderTuning, lr=2e-4),
    "lora": _spt("LoRA", draft=False, relation=False),
    "lora-draft": _spt("LoRA + draft", relation=False),
    "lora-relation": _spt("LoRA + relation", draft=False),
    "sam-adapter": Method("SAM-Adapter", True, SAMAdapterConfig, SAMAdapter, lr=2e-4),
    "conv-lora": Method("Conv-LoRA", True, ConvLoRAConfig, ConvLoRA, lr=2e-4),
}


def train_settings(name: str) -> TrainConfig:
    """SPT's recipe at batch 8 with each method's own learning rate.

    Adam without weight decay, the rate a tenth after 10 of 16 epochs.
    """
    recipe = TrainConfig(epochs=16, batch_size=8, weight_decay=0.0, schedule="drop")
    return replace(recipe, lr=METHODS[name].lr)
