"""What turns scores into decisions: the bias of unseen pairs, a temperature, a limit for "none of these".

All three come from pictures that were not trained on; nothing is ever chosen on test pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wildsight.composition.metrics import Floats, Ints, Top, best_bias, hits

SCALES = tuple(float(s) for s in np.geomspace(0.5, 200.0, 40))


@dataclass(frozen=True)
class Calibration:
    """How scores are read.

    Attributes:
        bias: added to the score of an unseen pair.
        scale: probabilities are softmax(scale * biased score).
        limit: below this biased score of the best pair, the answer is "none of these"; None: never.
        pictures: how many it was set on.
        source: ``validation``, ``held-out pairs``, or ``none``.
    """

    bias: float = 0.0
    scale: float = 20.0
    limit: float | None = None
    pictures: int = 0
    source: str = "none"


def calibrate(top: Top, scores: Floats, seen: np.ndarray, abstain: float, source: str) -> Calibration:
    """Set bias, temperature and limit.

    Args:
        top: the best candidates of each picture.
        scores: [N, P] of all candidates. seen: [P] bool.
        abstain: share of the correct answers that may fall below the limit, in [0, 1).
        source: what the pictures are.
    """
    bias = best_bias(top)
    biased = scores + np.where(seen, 0.0, bias)
    right = hits(top, bias)
    best = biased.max(1)
    limit = float(np.quantile(best[right], abstain)) if right.any() else None
    return Calibration(bias, best_scale(biased, top.truth), limit, len(scores), source)


def best_scale(scores: Floats, truth: Ints) -> float:
    """The inverse temperature of `SCALES` with the least negative log-likelihood of the truth.

    Args:
        scores: [N, P].
        truth: [N] ids; -1 rows are left out.
    """
    rows = np.flatnonzero(truth >= 0)
    if not len(rows):
        return 20.0
    own, all_of = scores[rows, truth[rows]], scores[rows]
    shifted = all_of - all_of.max(1, keepdims=True)
    gap = own - all_of.max(1)
    losses = [float((np.log(np.exp(s * shifted).sum(1)) - s * gap).mean()) for s in SCALES]
    return SCALES[int(np.argmin(losses))]
