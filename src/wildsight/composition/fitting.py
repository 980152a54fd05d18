"""Training a head on cached features, and the calibration on what training did not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from wildsight.composition.calibration import Calibration, calibrate
from wildsight.composition.methods import CompositionMethod
from wildsight.composition.modules import Head, Space
from wildsight.composition.scoring import Candidates, dense, top
from wildsight.datasets.compositions import Pair
from wildsight.files import digest_of
from wildsight.training import History, TrainConfig, train

PROBE_SHARE = 0.1


@dataclass(frozen=True)
class TrainingSet:
    """What a fit learns from.

    Attributes:
        features: [N, D] of the training pictures.
        labels: [N] ids of their pairs among the seen ones.
        pairs: their pairs, in words.
        val_features: [M, D] of pictures that are not trained on; M may be 0.
        val_pairs: their pairs.
        depends: what a saved state must have been made from for a fit to go on with it.
    """

    features: Tensor
    labels: Tensor
    pairs: list[Pair]
    val_features: Tensor
    val_pairs: list[Pair]
    depends: Mapping[str, Any] = field(default_factory=dict)

    def without(self, seen: Sequence[Pair], held_out: Sequence[Pair]) -> tuple[TrainingSet, list[Pair]]:
        """The same without some of the ``seen`` pairs, and the seen pairs that are left."""
        left = [p for p in seen if p not in set(held_out)]
        index = {p: i for i, p in enumerate(left)}
        rows = [i for i, p in enumerate(self.pairs) if p in index]
        labels = torch.tensor([index[self.pairs[i]] for i in rows])
        pairs = [self.pairs[i] for i in rows]
        return replace(self, features=self.features[rows], labels=labels, pairs=pairs), left


def fit_head(
    method: CompositionMethod,
    space: Space,
    data: TrainingSet,
    training: TrainConfig,
    folder: Path | None,
    progress: bool,
    seed: int,
    device: torch.device | str = "auto",
) -> tuple[Head, History | None]:
    """A new head, trained where its method trains.

    Args:
        method: which one, with its hyper-parameters.
        space: what it is built for.
        data: features and labels.
        training: how to train. folder: where the state is kept.
        progress: show progress. seed: of the initialisation.
        device: where it is trained.
    """
    torch.manual_seed(seed)
    head = method.head(space)
    head.prepare.learn(data.features)
    if not method.trained:
        return head.eval(), None
    history = train(
        head,
        TensorDataset(data.features, data.labels),
        method.step(data.features, data.labels, space.seen, training.epochs),
        training,
        folder=folder,
        progress=progress,
        label=method.title,
        extra={**data.depends, "seen pairs": digest_of(space.seen.tolist())[:16]},
        device=device,
    )
    return head.eval(), history


def probe_pairs(pairs: Sequence[Pair], share: float, seed: int) -> list[Pair]:
    """A share of the pairs, at least one where possible, whose words stay known without them.

    >>> probe_pairs([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")], 0.1, 0)
    [('b', 'x')]
    """
    wanted = max(1, round(share * len(pairs)))
    held_out: list[Pair] = []
    for i in np.random.default_rng(seed).permutation(len(pairs)):
        rest = [p for p in pairs if p not in held_out and p != pairs[i]]
        if {p[0] for p in rest} >= {pairs[i][0]} and {p[1] for p in rest} >= {pairs[i][1]}:
            held_out.append(pairs[i])
        if len(held_out) == wanted:
            break
    return held_out


def calibrated(
    head: Head,
    seen: Sequence[Pair],
    data: TrainingSet,
    candidates: Callable[[Sequence[Pair], set[Pair]], Candidates],
    probe: Callable[[list[Pair]], Head] | None,
    abstain: float,
    seed: int,
) -> Calibration:
    """Bias, temperature and limit of a fitted head.

    Validation pictures set them where some are of unseen pairs. Else a probe is trained without a tenth of
    the seen pairs, which then stand for unseen ones; validation pictures stand for seen ones.

    Args:
        head: fitted.
        seen: the trained pairs.
        data: what was trained on, and the validation pictures.
        candidates: (pairs, those among them that count as seen) -> candidates.
        probe: (pairs to hold out) -> a head trained without them; None for methods that do not train.
        abstain: share of correct answers below the limit.
        seed: of the held-out choice.
    """
    trained = set(seen)
    features, truth, source = data.val_features, data.val_pairs, "validation"
    among: Sequence[Pair] = sorted(trained | set(truth))
    if not set(truth) - trained and probe is not None:
        held_out = probe_pairs(seen, PROBE_SHARE, seed)
        if held_out:
            rows = [i for i, p in enumerate(data.pairs) if p in set(held_out)]
            head, trained = probe(held_out), trained - set(held_out)
            val_rows = [i for i, p in enumerate(truth) if p in trained]
            parts = [data.features[rows], *([features[val_rows]] if val_rows else [])]
            features, source = torch.cat(parts), "held-out pairs"
            truth = [data.pairs[i] for i in rows] + [truth[i] for i in val_rows]
    if not len(truth):
        return Calibration()
    prepared = candidates(among, trained).prepared(head)
    is_seen = np.array([p in trained for p in truth])
    scores = dense(head, features, prepared).double().numpy()
    best = top(head, features, prepared, prepared.where(truth), is_seen)
    return calibrate(best, scores, prepared.seen.cpu().numpy(), abstain, source)
