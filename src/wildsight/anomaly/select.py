"""Which epoch's weights are kept: the last one, or the best on pictures that are named in the report.

``val`` holds good pictures out and scores them against synthetic defects; ``test`` looks at the test pictures
themselves, as the published code does. The latter is an oracle, and every report of such a detector says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageEnhance
from PIL.Image import Image
from torch import Tensor, nn

from wildsight.anomaly.data import AnomalySample
from wildsight.anomaly.metrics import mean_over_categories, score_category
from wildsight.anomaly.scoring import BATCH
from wildsight.datasets.masks import resize_mask
from wildsight.files import load_checkpoint, save_checkpoint
from wildsight.images import load_image

SELECTIONS = {
    "last": "last epoch; nothing is selected on test data",
    "val": "best epoch on held-out good pictures against synthetic defects; nothing is selected on test data",
    "test": "ORACLE: best epoch on the test pictures that are scored",
}


def cut_paste(picture: Image, draw: np.random.Generator) -> tuple[Image, NDArray[np.bool_]]:
    """A synthetic defect: a rectangle of the picture, re-coloured, pasted somewhere else.

    Its area is 2 to 10 % of the picture, its sides' ratio 0.3 to 3.3, its brightness, contrast and colour
    each change by up to 30 %.

    Args:
        picture: RGB, at least 4 pixels each way; not changed.
        draw: generator of every choice.

    Returns:
        (the picture with the defect, [H, W] mask of the pasted rectangle).
    """
    width, height = picture.size
    area, ratio = draw.uniform(0.02, 0.10) * width * height, np.exp(draw.uniform(np.log(0.3), np.log(3.3)))
    across = int(np.clip(round(np.sqrt(area * ratio)), 2, width - 1))
    down = int(np.clip(round(np.sqrt(area / ratio)), 2, height - 1))
    left, x = draw.integers(0, width - across + 1, 2).tolist()
    top, y = draw.integers(0, height - down + 1, 2).tolist()
    patch = picture.crop((left, top, left + across, top + down))
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        patch = change(patch).enhance(draw.uniform(0.7, 1.3))
    spoilt, mask = picture.copy(), np.zeros((height, width), np.bool_)
    spoilt.paste(patch, (x, y))
    mask[y : y + down, x : x + across] = True
    return spoilt, mask


def held_back(learn: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """A tenth of the pictures to learn from, drawn from ``seed``, kept back: (the rest, those)."""
    count = max(1, len(learn) // 10)
    order = np.random.default_rng((seed, 1)).permutation(learn)
    return np.sort(order[count:]), np.sort(order[:count])


def synthetic_judge(
    samples: Sequence[AnomalySample],
    features_of: Callable[[list[Image]], Tensor],
    score: Callable[[np.ndarray, nn.Module], tuple[np.ndarray, np.ndarray]],
    size: tuple[int, int],
    seed: int,
) -> Callable[[nn.Module], float]:
    """Scores a head on good pictures and on their twins with one synthetic defect each.

    Args:
        samples: good pictures, read now; their features are kept.
        features_of: at most 16 pictures -> [B, C, h, w].
        score: (features, head) -> image scores [N] and maps [N, *size].
        size: of the maps.
        seed: of the defects.

    Returns:
        head -> (image AUROC + pixel AUROC) / 2, mean over categories.
    """
    draw, names = np.random.default_rng((seed, 2)), [s.category for s in samples]
    good = [load_image(s.image) for s in samples]
    twins = [cut_paste(picture, draw) for picture in good]
    pictures = [*good, *(spoilt for spoilt, _ in twins)]
    masks = np.stack([np.zeros(size, np.bool_)] * len(good) + [resize_mask(mask, size) for _, mask in twins])
    parts = [features_of(pictures[i : i + BATCH]).cpu().numpy() for i in range(0, len(pictures), BATCH)]
    features = np.concatenate(parts)

    def judge(head: nn.Module) -> float:
        scores, maps = score(features, head)
        return synthetic_score(names, scores, maps, masks)

    return judge


def synthetic_score(
    names: Sequence[str], scores: np.ndarray, maps: np.ndarray, masks: NDArray[np.bool_]
) -> float:
    """`headline` of n good pictures and then their n spoilt twins, mean over categories.

    Args:
        names: n categories.
        scores: [2n] image scores.
        maps: [2n, S, S].
        masks: [2n, S, S], empty for the good ones.
    """
    twice, labels = np.array([*names, *names]), np.repeat([0, 1], len(names))
    table = {}
    for name in dict.fromkeys(names):
        own = np.flatnonzero(twice == name)
        table[name] = score_category(scores[own], labels[own], maps[own], masks[own])
    return headline(mean_over_categories(table))


def headline(means: Any) -> float:
    """(image AUROC + pixel AUROC) / 2, of those that are defined; 0 where neither is."""
    known = [means[key] for key in ("image_auroc", "pixel_auroc") if means.get(key) is not None]
    return sum(known) / len(known) if known else 0.0


class Selector:
    """Keeps the weights of the best epoch; called with the model after each one.

    Args:
        score: model -> figure of merit, higher is better.
        folder: where the best weights are kept for a run that is resumed; None keeps them in memory alone.
    """

    def __init__(self, score: Callable[[nn.Module], float], folder: Path | None) -> None:
        self.score, self.folder = score, folder
        self.best, self.state = -1.0, dict[str, Any]()
        if folder is not None and folder.is_dir():
            self.state, settings = load_checkpoint(folder)
            self.best = float(settings["score"])

    def __call__(self, model: nn.Module) -> float:
        """The loss of this epoch: one minus its figure."""
        score = self.score(model)
        if score > self.best:
            self.best = score
            self.state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            if self.folder is not None:
                save_checkpoint(self.folder, self.state, {"score": score})
        return 1.0 - score

    def restore(self, model: nn.Module) -> None:
        """Give ``model`` the best epoch's weights."""
        model.load_state_dict(self.state)
