"""SPT's ablations: its low-rank updates alone, with the second pass, and with the relation.

Paper: LoRA (ICLR 2022, arXiv 2106.09685), as SPT's baseline: the same layers and rank as SPT, one decoder
pass, no relation. The updates are those of `wildsight.segmentation.lora`, which names its differences.
"""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.segmentation.methods import METHODS
from wildsight.segmentation.methods.spt import SPT


@METHODS.register("lora")
@dataclass(frozen=True, kw_only=True)
class LoRA(SPT):
    """The low-rank updates alone, one pass."""

    title = "LoRA"

    draft: bool = False
    """True for the two passes, False for one."""
    relation: bool = False
    """True for the relation adapter."""


@METHODS.register("lora-draft")
@dataclass(frozen=True, kw_only=True)
class LoRADraft(SPT):
    """The low-rank updates in two passes."""

    title = "LoRA + draft"

    relation: bool = False
    """True for the relation adapter."""


@METHODS.register("lora-relation")
@dataclass(frozen=True, kw_only=True)
class LoRARelation(SPT):
    """The low-rank updates and the relation in one pass."""

    title = "LoRA + relation"

    draft: bool = False
    """True for the two passes, False for one."""
