"""Decoder-only tuning: a copy of SAM's mask decoder learns, the encoder stays frozen.

Paper: the usual fine-tuning baseline of Segment Anything (arXiv 2304.02643). One pass, single-mask token.

Differences: (1) parts that the single mask does not pass through (the other mask tokens' networks, the
quality and object heads) stay frozen: their gradient would be zero. No switch.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from wildsight.segmentation.adapter import Adapter, Stage
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.methods import METHODS, RECIPE, SegmentationMethod

UNUSED = ("iou_prediction_head", "pred_obj_score_head", "conv_s0", "conv_s1")


@METHODS.register("decoder")
@dataclass(frozen=True, kw_only=True)
class DecoderTuning(SegmentationMethod):
    """Decoder tuning; no hyper-parameter of its own."""

    title = "decoder tuning"
    recipe = replace(RECIPE, lr=2e-4)

    def adapter(self, base: SamBase) -> TunedDecoder:
        """A decoder that learns."""
        return TunedDecoder(base)


def trainable_decoder(base: SamBase) -> nn.Module:
    """A copy of the decoder in which everything that shapes the single mask learns."""
    decoder: Any = copy.deepcopy(base.decoder).requires_grad_(True)
    for name in UNUSED:
        if hasattr(decoder, name):
            getattr(decoder, name).requires_grad_(False)
    decoder.output_hypernetworks_mlps[1:].requires_grad_(False)
    if hasattr(decoder, "dynamic_multimask_via_stability"):
        decoder.dynamic_multimask_via_stability = False
    return decoder


class TunedDecoder(Adapter):
    """The learning copy."""

    def __init__(self, base: SamBase) -> None:
        super().__init__()
        self.decoder = trainable_decoder(base)

    def decoder_of(self, _base: SamBase, _stage: Stage) -> Any:
        """The copy."""
        return self.decoder
