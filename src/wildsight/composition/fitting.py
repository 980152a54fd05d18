"""Training a head on cached features, and the calibration on what training did not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from wildsight.composition.calibration import Calibration, calibrate
from wildsight.composition.methods import Method, training_step
from wildsight.composition.parts import Head, Space
from wildsight.composition.scoring import Candidates, dense, top
from wildsight.datasets.compositions import Pair, PairSample
from wildsight.files import digest_of
from wildsight.training import History, TrainConfig, depends_on, train

if TYPE_CHECKING:
    from wildsight.composition.data import PairData
    from wildsight.composition.recognizer import CompositionRecognizer

PROBE_SHARE = 0.1


@dataclass(frozen=True)
class Lessons:
    """What a fit learns from.

    Attributes:
        features: [N, D] of the training pictures.
        labels: [N] ids of their pairs among the seen ones.
        pairs: their pairs, in words.
        val_features: [M, D] of pictures that are not trained on; M may be 0.
        val_pairs: their pairs.
        told: what a saved state must have been made from to be gone on with, as ``extra`` of `train`.
    """

    features: Tensor
    labels: Tensor
    pairs: list[Pair]
    val_features: Tensor
    val_pairs: list[Pair]
    told: Mapping[str, Any] = field(default_factory=dict)


def told_of(made: CompositionRecognizer, data: PairData, train: Sequence[PairSample]) -> dict[str, Any]:
    """What a saved state must have been made from to be gone on with for this fit."""
    return depends_on(
        made.settings,
        made.config,
        [train, data.seen, data.attributes, data.objects],
        data.root,
        backbone=made.backbone.sha,
        without=("abstain",),
        image_size=made.image_size,
    )


def fitted_head(
    method: Method,
    config: Any,
    space: Space,
    lessons: Lessons,
    training: TrainConfig,
    folder: Path | None,
    progress: bool,
    seed: int,
) -> tuple[Head, History | None]:
    """A new head, trained where its method trains.

    Args:
        method: which one. config: its hyper-parameters.
        space: what it is built for.
        lessons: features and labels.
        training: how to train. folder: where the state is kept.
        progress: show progress. seed: of the initialisation.
    """
    torch.manual_seed(seed)
    head = method.head(space, config)
    head.prepare.learn(lessons.features)
    if not method.trained:
        return head.eval(), None
    step = training_step(config, lessons.features, lessons.labels, space.seen, training.epochs)
    data = TensorDataset(lessons.features, lessons.labels)
    history = train(
        head,
        data,
        step,
        training,
        folder=folder,
        progress=progress,
        label=method.title,
        extra={**lessons.told, "seen pairs": digest_of(space.seen.tolist())[:16]},
    )
    return head.cpu().eval(), history


def probe_pairs(pairs: Sequence[Pair], share: float, seed: int) -> list[Pair]:
    """A share of the pairs, at least one where possible, whose words stay known without them.

    >>> probe_pairs([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")], 0.1, 0)
    [('b', 'x')]
    """
    wanted = max(1, round(share * len(pairs)))
    held: list[Pair] = []
    for i in np.random.default_rng(seed).permutation(len(pairs)):
        rest = [p for p in pairs if p not in held and p != pairs[i]]
        if {p[0] for p in rest} >= {pairs[i][0]} and {p[1] for p in rest} >= {pairs[i][1]}:
            held.append(pairs[i])
        if len(held) == wanted:
            break
    return held


def calibrated(
    head: Head,
    seen: Sequence[Pair],
    lessons: Lessons,
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
        lessons: what was trained on, and the validation pictures.
        candidates: (pairs, those among them that count as seen) -> candidates.
        probe: (pairs to hold out) -> a head trained without them; None for methods that do not train.
        abstain: share of correct answers below the limit.
        seed: of the held-out choice.
    """
    trained = set(seen)
    features, truth, source = lessons.val_features, lessons.val_pairs, "validation"
    among: Sequence[Pair] = sorted(trained | set(truth))
    if not set(truth) - trained and probe is not None:
        held = probe_pairs(seen, PROBE_SHARE, seed)
        if held:
            rows = [i for i, p in enumerate(lessons.pairs) if p in set(held)]
            head, trained = probe(held), trained - set(held)
            kept = [i for i, p in enumerate(truth) if p in trained]
            parts = [lessons.features[rows], *([features[kept]] if kept else [])]
            features, source = torch.cat(parts), "held-out pairs"
            truth = [lessons.pairs[i] for i in rows] + [truth[i] for i in kept]
    if not len(truth):
        return Calibration()
    chosen = candidates(among, trained).prepared(head)
    ids = chosen.where(truth)
    is_seen = np.array([p in trained for p in truth])
    scores = dense(head, features, chosen).double().numpy()
    found = top(head, features, chosen, ids, is_seen)
    return calibrate(found, scores, chosen.seen.numpy(), abstain, source)


def without(lessons: Lessons, seen: Sequence[Pair], held: Sequence[Pair]) -> tuple[Lessons, list[Pair]]:
    """The lessons and the seen pairs less the pairs held out."""
    kept_pairs = [p for p in seen if p not in set(held)]
    index = {p: i for i, p in enumerate(kept_pairs)}
    rows = [i for i, p in enumerate(lessons.pairs) if p in index]
    labels = torch.tensor([index[lessons.pairs[i]] for i in rows])
    pairs = [lessons.pairs[i] for i in rows]
    return replace(lessons, features=lessons.features[rows], labels=labels, pairs=pairs), kept_pairs
