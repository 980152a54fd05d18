"""One training step: mirror, hide modalities, forward, the task's loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wildsight.fusion.inputs import flipped
from wildsight.fusion.losses import deep_saliency_loss, kept_modalities, ohem_cross_entropy
from wildsight.fusion.net import Output
from wildsight.training import Batch


@dataclass(frozen=True)
class Step:
    """Callable for `train`.

    Attributes:
        size: (H, W) of the masks.
        drop: share of modalities hidden, per picture, in [0, 1).
        saliency: which loss.
    """

    size: tuple[int, int]
    drop: float
    saliency: bool

    def __call__(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Loss of a batch of `inputs.Scenes`; flips and hiding come from (seed, epoch, index) alone."""
        data, count = batch.data, batch.data["present"].shape[1]
        noise = batch.normal((count + 1,))
        x, mask = flipped(data, noise[:, 0] > 0)
        kept = kept_modalities(noise[:, 1:].masked_fill(~data["present"], -torch.inf), self.drop)
        out: Output = net(x, kept & data["present"], self.size)
        if self.saliency:
            truth = (mask[:, None] == 1).to(out.decoded.logits.dtype)
            decoded = out.decoded
            return {"loss": deep_saliency_loss(decoded.sides, decoded.logits, decoded.edge, truth)}
        return {"loss": ohem_cross_entropy(out.decoded.logits, mask)}
