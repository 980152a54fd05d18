"""VTC-CLS: keep the visual tokens that the vision encoder's own [CLS] token attends to.

Paper: "[CLS] Token Tells Everything Needed for Training-free Efficient MLLMs" (arXiv 2412.05819).
Implemented: the [CLS] row of ``K`` vision layers that end where the features are taken (`scored_layers`,
`cls_row`), their mean (`ensemble`), and the ``U`` highest in raster order (`keep_best`). Nothing is
trained, no text is read.

Differences from the published code:
    1. Only the [CLS] row of the attention is computed, from the projections of the layer, so that any
       attention kernel can run; the numbers are the same within rounding.
    2. Every image of a batch or prompt is scored on its own. The published code averages over the batch.
    3. ``K = 3`` as in the paper; the published command starts at layer 16, which is ``K = 7``.
    4. Equal scores are decided for the lower index, on every device.
    5. Positions are compact (0, 1, 2, ...), which is what the published code ends up doing;
       ``positions="original"`` keeps each survivor's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wildsight.compression.image_tokens import ImageView, Selection


@dataclass(frozen=True)
class VTCConfig:
    """Settings of VTC-CLS; defaults are the paper's."""

    K: int = 3
    """Vision layers in the ensemble; 1 is FasterVLM."""
    how: Literal["mean", "max", "min"] = "mean"
    """How their rows are joined."""


def scored_layers(depth: int, feature_layer: int, K: int) -> list[int]:
    """The ``K`` layers that end at the one whose output is used.

    Args:
        depth: L, layers of the vision tower.
        feature_layer: index into its ``L + 1`` hidden states, e.g. -2.
        K: layers to score; fewer where the tower has fewer.

    >>> scored_layers(24, -2, 3), scored_layers(24, 23, 1)
    ([20, 21, 22], [22])
    """
    last = feature_layer % (depth + 1) - 1
    return list(range(max(0, last - K + 1), max(0, last) + 1))


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


def keep_best(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` highest of ``scores [N]``, ascending; ties go to the lower index."""
    return scores.sort(descending=True, stable=True).indices[:count].sort().values


def select(view: ImageView, count: int, config: VTCConfig | None = None) -> Selection:
    """VTC-CLS on one image."""
    config = config or VTCConfig()
    return Selection(keep_best(ensemble(view.saliency(config.K), config.how), count))
