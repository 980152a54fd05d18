"""From token grids to raw scores and maps, and from those to figures; on whatever device the head is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wildsight.anomaly.data import AnomalySample, read_mask
from wildsight.anomaly.methods import AnomalyMethod
from wildsight.anomaly.metrics import mean_over_categories, score_category
from wildsight.errors import WildSightError

BATCH = 16
VANISHED = "no pixel of its defect is left at {} x {} and pixel figures count it as good; enlarge the input"


@torch.no_grad()
def score_tokens(
    method: AnomalyMethod, head: nn.Module, features: np.ndarray | Tensor, image_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores [N] and maps [N, S, S] of token grids [N, C, h, w], S = ``image_size``."""
    device, size = device_of(head), (image_size, image_size)
    scores, maps = [], []
    for start in range(0, len(features), BATCH):
        tokens = torch.as_tensor(features[start : start + BATCH], dtype=torch.float32).to(device)
        grid_map, score = method.score(head, tokens)
        full = interpolate(grid_map, size=size, mode="bilinear", align_corners=True)
        maps.append(full[:, 0].cpu().numpy())
        scores.append((method.picture_score(full) if score is None else score).cpu().numpy())
    return np.concatenate(scores), np.concatenate(maps)


class TokenSet(torch.utils.data.Dataset[Tensor]):
    """Cached token grids [C, h, w] float32 as a data set; only the chosen rows."""

    def __init__(self, features: np.ndarray, chosen: np.ndarray) -> None:
        self.features, self.chosen = features, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self.features[self.chosen[index]], dtype=np.float32))


def device_of(module: nn.Module) -> torch.device:
    """Where the first of its parameters or buffers is."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def figures(
    samples: Sequence[AnomalySample], scores: np.ndarray, maps: np.ndarray
) -> tuple[list[dict[str, Any]], list[str]]:
    """Image and pixel metrics, masks brought to the maps' size.

    A picture whose mask is missing or cannot be read counts in the image metrics alone. A defect that
    vanishes when its mask is resized stays a defect there, and is named.

    Returns:
        (one mapping per category, then ``mean``; one sentence per picture without a usable mask).
    """
    labels, names = np.array([s.label for s in samples]), np.array([s.category for s in samples])
    table: dict[str, dict[str, Any]] = {}
    errors: list[str] = []
    for name in dict.fromkeys(names.tolist()):
        chosen = np.flatnonzero(names == name)
        known, masks, faults = _masks(samples, chosen, maps.shape[1:])
        pixels = (maps[known], masks) if len(known) else (None, None)
        table[name] = score_category(scores[chosen], labels[chosen], *pixels)
        errors += faults
    mean = mean_over_categories(table)
    return [{"category": k, **v} for k, v in table.items()] + [{"category": "mean", **mean}], errors


def _masks(
    samples: Sequence[AnomalySample], chosen: NDArray[np.intp], size: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.bool_], list[str]]:
    """Those of ``chosen`` whose masks can be read, the masks, and what is wrong with a mask."""
    known, masks, faults = [], [], []
    for index in chosen:
        sample = samples[int(index)]
        try:
            masks.append(read_mask(sample, size))
            known.append(index)
            if sample.label and not masks[-1].any():
                faults.append(f"{sample.image}: {VANISHED.format(*size)}")
        except WildSightError as error:
            faults.append(str(error))
    return np.array(known, np.intp), np.stack(masks) if masks else np.zeros((0, *size), np.bool_), faults
