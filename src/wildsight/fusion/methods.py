"""The task's methods under one interface: M maps of one scale in, `Fused` out."""

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

SAME, CONCATENATED, SUMMED = "same", "concatenation", "routed sum"
FINE = (SAME, CONCATENATED, SUMMED)
"""How the finest scale is fused: as the others, by concatenation, or summed with the routed shares."""


@dataclass(frozen=True)
class Method:
    """One way to fuse.

    Attributes:
        title: name for tables.
        config: its frozen dataclass of hyper-parameters.
        module: builds the fusion of one scale.
        fine: what fuses the finest scale, from `FINE`.
        wide: hyper-parameters that are the width unless they are given.
    """

    title: str
    config: Callable[..., Any]
    module: Callable[[Any], nn.Module]
    fine: str = SAME
    wide: tuple[str, ...] = ()

    def build(self, channels: int, modalities: int, width: int, hyper: Mapping[str, Any]) -> nn.Module:
        """The fusion of one scale; raises as `settings`."""
        return self.module(self.settings(channels, modalities, width, hyper))

    def settings(self, channels: int, modalities: int, width: int, hyper: Mapping[str, Any]) -> Any:
        """The hyper-parameters of one scale.

        Raises:
            ConfigError: an unknown hyper-parameter or one outside its range.
        """
        try:
            given = {**dict.fromkeys(self.wide, width), **hyper}
            return self.config(channels=channels, modalities=modalities, width=width, **given)
        except TypeError as error:
            raise ConfigError(str(error), hint=f"see the hyper-parameters of {self.title}") from error


METHODS: dict[str, Method] = {
    "pwrf": Method("PWRF", PWRFConfig, PWRF, CONCATENATED, ("A",)),
    "concatenation": Method("concatenation", ConcatenationConfig, Concatenation),
    "summation": Method("summation", SummationConfig, Summation),
    "cross-attention": Method("cross-attention", CrossAttentionConfig, CrossAttention, CONCATENATED),
    "token-selection": Method("token selection", TokenSelectionConfig, TokenSelection),
    "single": Method("single modality", SingleConfig, Single),
}
