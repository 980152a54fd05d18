"""The room's methods under one interface: M maps of one scale in, `Fused` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from wildsight.errors import ConfigError
from wildsight.fusion.concatenation import Concatenation, ConcatenationConfig
from wildsight.fusion.cross_attention import CrossAttention, CrossAttentionConfig
from wildsight.fusion.pwrf import PWRF, PWRFConfig
from wildsight.fusion.single import Single, SingleConfig
from wildsight.fusion.summation import Summation, SummationConfig
from wildsight.fusion.token_selection import TokenSelection, TokenSelectionConfig


@dataclass(frozen=True)
class Method:
    """One way to fuse.

    Attributes:
        title: name for tables.
        config: its frozen dataclass of hyper-parameters.
        module: builds the fusion of one scale.
        fine: the method that fuses the finest scale in its place, or None.
    """

    title: str
    config: Callable[..., Any]
    module: Callable[[Any], nn.Module]
    fine: str | None = None

    def build(self, channels: int, modalities: int, width: int, hyper: Mapping[str, Any]) -> nn.Module:
        """The fusion of one scale.

        Raises:
            ConfigError: an unknown hyper-parameter or one outside its range.
        """
        try:
            return self.module(self.config(channels=channels, modalities=modalities, width=width, **hyper))
        except TypeError as error:
            raise ConfigError(str(error), mend=f"see the hyper-parameters of {self.title}") from error


METHODS: dict[str, Method] = {
    "pwrf": Method("PWRF", PWRFConfig, PWRF, fine="routed"),
    "concatenation": Method("concatenation", ConcatenationConfig, Concatenation),
    "summation": Method("summation", SummationConfig, Summation),
    "cross-attention": Method("cross-attention", CrossAttentionConfig, CrossAttention, fine="concatenation"),
    "token-selection": Method("token selection", TokenSelectionConfig, TokenSelection),
    "single": Method("single modality", SingleConfig, Single),
}
