"""VTC-CLS: keep the visual tokens that the vision encoder's own [CLS] token attends to.

Paper: "[CLS] Token Tells Everything Needed for Training-free Efficient MLLMs" (arXiv 2412.05819).
Implemented: the [CLS] row of ``K`` vision layers that end where the features are taken (`scored_layers`,
`cls_row`), their mean (`ensemble`), and the ``U`` highest in raster order. Nothing is
trained, no text is read.

Differences from the published code:
    1. Only the [CLS] row of the attention is computed, from the projections of the layer, so that any
       attention kernel can run; the numbers are the same within rounding.
    2. Every image of a batch or prompt is scored on its own. The published code averages over the batch.
    3. ``K = 3`` as in the paper; the published command starts at layer 16, which is ``VTCCLS(K=7)``.
    4. Equal scores are decided for the lower index, on every device.
    5. Positions are compact (0, 1, 2, ...), which is what the published code ends up doing;
       ``positions="original"`` keeps each survivor's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.parameters import within
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector, keep_best
from wildsight.errors import ConfigError


def layers_up_to(depth: int, feature_layer: int) -> int:
    """How many layers lead up to the features, the one that gives them included.

    >>> layers_up_to(24, -2), layers_up_to(24, 23), layers_up_to(24, -1)
    (23, 23, 24)
    """
    return max(1, feature_layer % (depth + 1))


def scored_layers(depth: int, feature_layer: int, K: int) -> list[int]:
    """The ``K`` layers that end at the one whose output is used.

    Args:
        depth: L, layers of the vision tower.
        feature_layer: index into its ``L + 1`` hidden states, e.g. -2.
        K: layers to score.

    Raises:
        ConfigError: the tower has fewer.

    >>> scored_layers(24, -2, 3), scored_layers(24, 23, 1)
    ([20, 21, 22], [22])
    """
    reach = layers_up_to(depth, feature_layer)
    if reach < K:
        raise ConfigError(
            f"the saliency of {K} vision layers is asked for, and {reach} lead up to the features",
            hint=f"lower K to {reach} at most",
        )
    return list(range(reach - K, reach))


def cls_row(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Head-mean attention of the first token to all others.

    Args:
        query: ``[B, N + 1, d]`` projected queries.
        key: ``[B, N + 1, d]`` projected keys.
        heads: H.

    Returns:
        ``[B, N]`` float32; a row sums to less than 1, because the first token's own share is left out.
    """
    q = query[:, :1].unflatten(-1, (heads, -1)).transpose(1, 2).float()
    k = key.unflatten(-1, (heads, -1)).transpose(1, 2).float()
    weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
    return weights.mean(dim=1)[:, 0, 1:]


def ensemble(rows: Tensor, how: str = "mean") -> Tensor:
    """Join layers' rows ``[K, N]`` to one score ``[N]``."""
    if how == "max":
        return rows.amax(dim=0)
    return rows.amin(dim=0) if how == "min" else rows.mean(dim=0)


@SELECTORS.register("vtc-cls")
@dataclass(frozen=True)
class VTCCLS(VisualSelector):
    """VTC-CLS; the defaults are the paper's."""

    K: int = 3
    """Vision layers in the ensemble; 1 is FasterVLM. A tower without [CLS] has one row, whatever K is."""
    how: Literal["mean", "max", "min"] = "mean"
    """How their rows are joined."""

    def __post_init__(self) -> None:
        within(self, 1, math.inf, "K")

    @property
    def saliency_layers(self) -> int:
        """K."""
        return self.K

    def select(self, view: ImageView, count: int) -> Selection:
        """The ``count`` tokens that [CLS] attends to most."""
        return Selection(keep_best(ensemble(view.saliency(self.K), self.how), count))
