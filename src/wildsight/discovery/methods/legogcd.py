"""LegoGCD: SimGCD that does not forget what it knows.

Paper: Solving the Catastrophic Forgetting Problem in Generalized Category Discovery (CVPR 2024).
Equations: SimGCD's loss, and two terms.
- Dual views: KL(p || p') of the two views' predictions, added to self-distillation.
- Local entropy regularisation: each unlabelled view that is sure (max p >= thr) of a known class adds the
  cross entropy of its sharpened prediction with the same logits shifted by ``margin`` log q, where q is the
  running mean of the predictions; its weight is ``w_ler``, outside the balance of l.
The abstract and the authors' released code could be read; the code decides.
Differences from the released code: those of `nngcd`, numbers 5 to 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

from wildsight.discovery.methods import METHODS
from wildsight.discovery.methods.nngcd import GCDHead, Output
from wildsight.discovery.methods.simgcd import SimGCD
from wildsight.errors import ConfigError


def dual_views(student: Tensor, *, tau: float) -> Tensor:
    """Mean of KL(p || p'), p of the first views and p' of the second.

    Args:
        student: [2B, K] logits, view-major.
        tau: temperature.
    """
    first, second = log_softmax(student / tau, 1).chunk(2)
    return kl_div(second, first, reduction="batchmean", log_target=True)


def local_entropy(
    student: Tensor,
    free: Tensor,
    prior: Tensor,
    known: int,
    *,
    tau: float,
    sharp: float,
    thr: float,
    margin: float,
) -> Tensor:
    """Mean over all views of -sum_k s_k log softmax(logits / sharp + margin log q)_k, 0 for those not chosen.

    Args:
        student: [2B, K] logits.
        free: [2B] bool, unlabelled.
        prior: [K] q.
        known: number of known classes, the first ones.
        tau: temperature of the choice.
        sharp: temperature of s = softmax(logits / sharp).
        thr: a view is chosen from this probability on.
        margin: of the shift.
    """
    sure, group = softmax(student / tau, 1).max(1)
    chosen = free & (sure >= thr) & (group < known)
    shifted = log_softmax(student / sharp + margin * prior.log(), 1)
    return -((softmax(student / sharp, 1) * shifted).sum(1) * chosen).mean()


@METHODS.register("legogcd")
@dataclass(frozen=True)
class LegoGCD(SimGCD):
    """LegoGCD: SimGCD's hyper-parameters and those of its two terms."""

    title = "LegoGCD"
    keeps_prior = True

    w_dual: float = 1.0
    """Weight of the dual views beside self-distillation, >= 0."""
    w_ler: float = 2.0
    """Weight of local entropy regularisation, >= 0."""
    thr: float = 0.7
    """Probability from which a view is sure, in [0, 1] (.7 for CUB; the code sets it for each set)."""
    margin: float = 0.4
    """Strength of the shift by log q."""
    sharp: float = 0.05
    """Temperature of the sharpened prediction, > 0."""
    prior_momentum: float = 0.999
    """Of the running mean q of the predictions, in [0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = 0 <= self.thr <= 1 and 0 <= self.prior_momentum <= 1
        if not shares or self.sharp <= 0 or min(self.w_dual, self.w_ler) < 0:
            raise ConfigError(
                "thr or prior_momentum is outside [0, 1], sharp is not above 0, or a weight is below 0",
                hint="leave them at their defaults, or see `wildsight methods discovery`",
            )

    def further(self, head: GCDHead, out: Output, labelled: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Both terms with their weights; q takes in this step's predictions afterwards."""
        prior = head.prior.clone()
        ler = local_entropy(
            out.logits,
            ~labelled.repeat(2),
            prior,
            head.known,
            tau=self.tau,
            sharp=self.sharp,
            thr=self.thr,
            margin=self.margin,
        )
        with torch.no_grad():
            mean = softmax(out.logits, 1).mean(0)
            head.prior.mul_(self.prior_momentum).add_(mean, alpha=1 - self.prior_momentum)
        dual = dual_views(out.logits, tau=self.tau)
        return {"dual": ((1 - self.l) * self.w_dual, dual), "ler": (self.w_ler, ler)}
