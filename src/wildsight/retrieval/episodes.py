"""Class-balanced batches, each a function of (seed, number) alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from wildsight.errors import DataError
from wildsight.training import Batch
from wildsight.training.batches import mix

Episode = dict[str, Tensor]


class Episodes:
    """Episodes of ``classes`` x (``each`` sketches + ``each`` photos), and two for the meta step.

    The meta batches come from a stream of their own, so that switching the meta step on or off leaves the
    main batches as they are; their two sets of classes are disjoint. As a data set it holds the numbers of
    one epoch's episodes, and `step` draws them, so that every epoch has episodes of its own.

    Args:
        features: [N, D] tower features.
        label: [N] class numbers.
        modality: [N] 0 for sketches, 1 for photos.
        count: episodes per epoch.
        seed: of both streams.
        classes: classes per batch; at most half of those at hand.
        each: items per class and modality.

    Raises:
        DataError: fewer than four classes have both sketches and photos.
    """

    def __init__(
        self,
        features: Tensor,
        label: np.ndarray,
        modality: np.ndarray,
        *,
        count: int,
        seed: int,
        classes: int = 15,
        each: int = 4,
    ) -> None:
        self.features, self.count, self.seed, self.each = features, count, seed, each
        members: dict[int, list[np.ndarray]] = {}
        for number in np.unique(label).tolist():
            pools = [np.flatnonzero((label == number) & (modality == kind)) for kind in (0, 1)]
            if all(len(pool) for pool in pools):
                members[number] = pools
        if len(members) < 4:
            what = f"only {len(members)} classes have both sketches and photos"
            raise DataError(what, hint="training needs at least four")
        self.members, self.names = members, np.array(sorted(members))
        self.classes = min(classes, len(members) // 2)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> int:
        return number

    def step(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One optimiser step's scalars: the model on the episode of this epoch and number."""
        episode = self.draw(batch.epoch * self.count + int(batch.index[0]))
        device = batch.index.device
        return model({k: {n: t.to(device) for n, t in part.items()} for k, part in episode.items()})

    def draw(self, number: int) -> dict[str, Episode]:
        """The main batch, and the inner and the outer batch of the meta step."""
        main, meta = (np.random.default_rng(mix(self.seed, number, stream)) for stream in (1, 2))
        drawn = main.choice(self.names, self.classes, replace=False)
        both = meta.permutation(self.names)
        inner, outer = both[: self.classes], both[self.classes : 2 * self.classes]
        return {
            "main": self._batch(drawn, main),
            "inner": self._batch(inner, meta),
            "outer": self._batch(outer, meta),
        }

    def _batch(self, names: np.ndarray, rng: np.random.Generator) -> Episode:
        rows, label, kinds = [], [], []
        for name in names.tolist():
            for kind, pool in enumerate(self.members[name]):
                rows.append(rng.choice(pool, self.each, replace=len(pool) < self.each))
                label += [name] * self.each
                kinds += [kind] * self.each
        chosen = torch.from_numpy(np.concatenate(rows))
        return {
            "features": self.features[chosen],
            "label": torch.tensor(label),
            "modality": torch.tensor(kinds),
        }
