"""NN-GCD: non-negative generalised category discovery.

Paper: Non-Negative Generalized Category Discovery (arXiv 2410.21807; IEEE TCSVT 2026).
Equations: the non-negative projection (last activation of the projector), the NMF NCE loss, hybrid sparse
regularisation, self-distillation with an EMA teacher, mean-entropy maximisation; the total is
L = (1-l)(L_cluster + eps L_me) + l L_cls + (1-l) L_nce + l L_supcon + rho L_hsr (`losses`).
The abstract and the authors' released code could be read; where they differ, `released` follows the code and
`text` the abstract. `strict` is the released code as far as its losses and its head go; differences 4 to 7, 9
and 10 have no switch.
Differences from the released code:
1. The teacher starts as a copy of the student's head. ``strict_code=True``: an independent draw.
2. HSR leaves out 1-D tensors and the normalised classifier. ``hsr_scope="code"``: every weight.
3. A loss that is not finite stops the run and names the pictures. ``strict_code=True``: it becomes 0.
4. The teacher keeps its classifier alone: no loss and no prediction reads the projector's copy.
5. Tokens below the trained block are computed once, not twice a step: same result, see `partial_finetune`.
6. Cosine per step to zero (the code: per epoch, to a thousandth), weight decay on every tensor (the code:
   none on 1-D ones), any batch size and the last, smaller batch too (the code: 128, `drop_last`).
7. Random views are drawn from a few crops kept with the cached tokens (`features.ViewConfig`), and each crop
   has the same place in every picture; the code draws crop and flip anew for each picture and step.
8. The classifier starts at the semi-supervised k-means of the frozen features, in rows of length 1.
   ``start="random"``: at random, as released, in rows of length 1 / sqrt(3), which turn three times as fast;
   a short training does not get far from there.
9. Pictures are stretched to a square; the code resizes the shorter side to 256 and cuts 224 out.
10. Networks that are no transformer train a small residual block in place of the last layer
   (`partial_finetune`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from wildsight.discovery import losses
from wildsight.discovery.methods import METHODS, DiscoveryMethod
from wildsight.errors import ConfigError
from wildsight.estimators.registry import changed_fields
from wildsight.training import TrainConfig

TARGETS = ("weights", "features", "cooccurrence", "none")
RECIPES: dict[str, dict[str, Any]] = {
    "cub": {"lr": 0.174, "t": 0.5, "rho": 3e-5, "eps": 2.0},
    "stanford-cars": {"lr": 0.09, "t": 0.5, "rho": 2.5e-5, "eps": 1.0},
    "fgvc-aircraft": {"lr": 0.07, "t": 0.7, "rho": 2.5e-5, "eps": 1.0},
    "cifar-10": {"lr": 0.05, "t": 1.0, "rho": 1e-5, "eps": 1.0, "l": 0.30},
    "cifar-100": {"lr": 0.1, "t": 0.5, "rho": 5e-6, "eps": 4.0, "epochs": 100},
    "imagenet-100": {"lr": 0.05, "t": 0.2, "rho": 1e-5, "eps": 1.0},
    "herbarium-19": {"lr": 0.15, "t": 0.1, "rho": 1e-7, "eps": 1.0},
}
"""The released recipes, one per set; other data takes the defaults of `NNGCD`."""


@METHODS.register("nngcd")
@dataclass(frozen=True)
class NNGCD(DiscoveryMethod):
    """NN-GCD with its hyper-parameters, by the paper's symbols."""

    title = "NN-GCD"
    trained = True
    keeps_prior: ClassVar[bool] = False
    """Whether the head keeps the running mean of its predictions."""

    l: float = 0.35  # noqa: E741  the paper's symbol
    """Weight of the supervised terms, in [0, 1]."""
    t: float = 0.5
    """Temperature of NMF NCE, > 0."""
    m: float = 0.1
    """Centre of the weights of its negatives."""
    sigma: float = 1.0
    """Width of the weights of its negatives, > 0; infinity is InfoNCE."""
    rho: float = 1e-5
    """Weight of hybrid sparse regularisation."""
    beta: float = 0.6
    """Share of L1 in it, in [0, 1]."""
    hsr_target: str = "weights"
    """What it acts on: ``weights`` (released code), ``features``, ``cooccurrence`` (abstract) or ``none``."""
    hsr_scope: str = "matrices"
    """Which weights: ``matrices``, or ``code`` for every tensor called weight."""
    eps: float = 2.0
    """Weight of mean-entropy maximisation, >= 0."""
    tau: float = 0.1
    """Temperature of the student, > 0."""
    supcon_tau: float = 0.07
    """Temperature of supervised contrast."""
    act: str = "gelu"
    """Last activation of the projector: ``gelu``, ``rep_relu``, ``relu`` or ``none``."""
    teacher: str = "ema"
    """``ema``, or ``student`` (its detached output, SimGCD)."""
    second_view: str = "whole"
    """``whole`` (the deterministic picture) or ``random``."""
    start: str = "centres"
    """Of the classifier: ``centres`` or ``random``."""
    hidden: int = 2048
    """Inner width of the projector."""
    out: int = 256
    """Output width of the projector."""
    w_cluster: float = 1.0
    """Weight of self-distillation within the total; 1 as in the paper, 0 leaves the term out."""
    w_cls: float = 1.0
    """Weight of classification."""
    w_nce: float = 1.0
    """Weight of NMF NCE."""
    w_supcon: float = 1.0
    """Weight of supervised contrast."""
    lr: float = 0.1
    """Learning rate of SGD with momentum 0.9."""
    epochs: int = 200
    """Passes over the pictures."""
    batch_size: int = 128
    """Pictures per step."""
    weight_decay: float = 5e-5
    """Of SGD."""
    warm_epochs: int = 30
    """Epochs over which the teacher's temperature falls."""
    strict_code: bool = False
    """An independent teacher at the start, and losses that are not finite become 0."""

    def __post_init__(self) -> None:
        chosen = {
            "act": losses.ACTIVATIONS,
            "hsr_target": TARGETS,
            "hsr_scope": ("matrices", "code"),
            "teacher": ("ema", "student"),
            "second_view": ("whole", "random"),
            "start": ("random", "centres"),
        }
        for name, options in chosen.items():
            if getattr(self, name) not in options:
                what = f"{name}={getattr(self, name)!r}"
                raise ConfigError(what, hint=f"use one of {', '.join(options)}")
        if not (0 <= self.l <= 1 and 0 <= self.beta <= 1 and min(self.t, self.sigma, self.tau) > 0):
            raise ConfigError(
                "l or beta is outside [0, 1], or t, sigma or tau is not above 0",
                hint="leave them at their defaults, or see `wildsight methods discovery`",
            )
        if min(self.w_cluster, self.w_cls, self.w_nce, self.w_supcon, self.eps) < 0:
            raise ConfigError("a term with a weight below 0", hint="0 leaves a term out")

    def further(
        self,
        head: GCDHead,  # noqa: ARG002
        out: Output,  # noqa: ARG002
        labelled: Tensor,  # noqa: ARG002
    ) -> dict[str, tuple[float, Tensor]]:
        """Terms of a method that builds on this one: name -> (weight, value).

        Args:
            head: the head, with whatever the terms keep from step to step.
            out: of 2B views, view-major.
            labelled: [B] bool.
        """
        return {}

    def recipe(self) -> TrainConfig:
        """SGD with a cosine to zero, as released."""
        return TrainConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            optimizer="sgd",
            schedule="cosine",
        )

    @classmethod
    def released(cls, dataset: str = "") -> Self:
        """The authors' released recipe for a set of `RECIPES`, quirks corrected; without one, for other data.

        Raises:
            ConfigError: no recipe was released for that set.
        """
        if dataset and dataset not in RECIPES:
            what = f"no recipe was released for {dataset!r}"
            raise ConfigError(what, hint=f"use one of {', '.join(RECIPES)}, or none")
        return replace(cls(), start="random", **RECIPES.get(dataset, {}))

    @classmethod
    def strict(cls, dataset: str = "") -> Self:
        """The recipe with the quirks of the released code's losses and head."""
        return replace(cls.released(dataset), strict_code=True, hsr_scope="code")

    @classmethod
    def text(cls) -> Self:
        """What the abstract says: non-negative features, and sparsity of the co-occurrence matrix."""
        return replace(cls(), start="random", act="rep_relu", hsr_target="cooccurrence", rho=1e-2)

    @classmethod
    def preset(cls, name: str) -> Self:
        """A preset by name: ``released``, ``strict`` (``released:cub``, ... for a set's recipe) or ``text``.

        Raises:
            ConfigError: another name.

        >>> NNGCD.preset("released:cub").lr
        0.174
        """
        kind, _, dataset = name.partition(":")
        if name == "text":
            return cls.text()
        if kind in ("released", "strict"):
            return cls.released(dataset) if kind == "released" else cls.strict(dataset)
        raise ConfigError(f"no preset is called {name!r}", hint="use released, strict or text")


NAMED = (
    "text",
    *(f"{kind}{name}" for kind in ("released", "strict") for name in ("", *(f":{s}" for s in RECIPES))),
)
"""The names that `NNGCD.preset` knows."""
METHODS.add_presets("nngcd", {f"nngcd-{name}": changed_fields(NNGCD.preset(name)) for name in NAMED})


class Output(NamedTuple):
    """What the head says of [N, T, D] tokens: z [N, D], u [N, out] unit rows, logits [N, K]."""

    z: Tensor
    u: Tensor
    logits: Tensor


class GCDHead(nn.Module):
    """The trained block, the non-negative projector, K unit prototypes and their teacher.

    Args:
        tail: what lies above the tokens, [B, T, D] -> [B, D].
        width: D.
        k: number of groups; the first ones are the known classes.
        config: hyper-parameters.
        known: number of known classes.
    """

    teacher: Tensor
    step: Tensor
    prior: Tensor

    def __init__(self, tail: nn.Module, width: int, k: int, config: NNGCD, known: int = 0) -> None:
        super().__init__()
        self.config, self.tail, self.known = config, tail, known
        self.projector = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.out),
        )
        for module in self.projector:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.prototypes = nn.Parameter(random_classifier(k, width))
        copy = random_classifier(k, width) if config.strict_code else self.prototypes.detach()
        self.register_buffer("teacher", copy.clone())
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        if config.keeps_prior:
            self.register_buffer("prior", torch.full((k,), 1 / k))

    @torch.no_grad()
    def start_at(self, centres: Tensor) -> None:
        """Start the classifier and its teacher at centres [K, D]."""
        self.prototypes.copy_(normalize(centres.to(self.prototypes), dim=1))
        self.teacher.copy_(self.prototypes)

    def forward(self, tokens: Tensor) -> Output:
        """[N, T, D] -> `Output`."""
        z = self.tail(tokens).float()
        u = normalize(losses.activate(self.projector(z), self.config.act).float(), dim=1)
        return Output(z, u, cosine_logits(z, self.prototypes))

    def teacher_logits(self, z: Tensor) -> Tensor:
        """[N, K], no gradient; the student's own where there is no EMA teacher."""
        weights = self.teacher if self.config.teacher == "ema" else self.prototypes
        return cosine_logits(z.detach(), weights.detach())

    @torch.no_grad()
    def follow(self, total: int) -> None:
        """Move the teacher towards the student after step ``self.step``, by the momentum of that step.

        As released, the first of the ``total`` steps has momentum(0).
        """
        rate = losses.momentum(int(self.step) - 1, total)
        self.teacher.mul_(rate).add_(self.prototypes, alpha=1 - rate)

    @torch.no_grad()
    def renumber(self, place: NDArray[np.int64]) -> None:
        """Give every group its new number; ``place`` is old number -> new one, [K]."""
        index = torch.from_numpy(place).to(self.teacher.device)
        for weights in (self.prototypes, self.teacher):
            weights[index] = weights.clone()

    def regularised(self) -> list[Tensor]:
        """The weights that HSR acts on."""
        named = [(n, p) for n, p in self.named_parameters() if p.requires_grad and "weight" in n]
        if self.config.hsr_scope == "code":
            return [p for _, p in named] + [self.prototypes]
        return [p for _, p in named if p.ndim > 1]


def random_classifier(k: int, width: int) -> Tensor:
    """[K, D] as `torch.nn.Linear` draws them: uniform within 1 / sqrt(D), rows of length 1 / sqrt(3).

    The logits do not see that length, but the gradient goes with its inverse: the release's weight norm keeps
    its gain at 1 and trains the rows of the linear layer as they were drawn.
    """
    return torch.empty(k, width).uniform_(-1, 1) / math.sqrt(width)


def cosine_logits(z: Tensor, prototypes: Tensor) -> Tensor:
    """[N, K] cosines, in [-1, 1]."""
    return normalize(z.float(), dim=1) @ normalize(prototypes.float(), dim=1).T


def hsr(head: GCDHead, u: Tensor) -> Tensor:
    """Hybrid sparse regularisation on its target."""
    config = head.config
    if config.hsr_target == "weights":
        return torch.stack([losses.sparse(w, config.beta) for w in head.regularised()]).sum()
    if config.hsr_target == "features":
        return losses.sparse(u, config.beta)
    if config.hsr_target == "cooccurrence":
        return losses.sparse(u @ u.T / len(u), config.beta)
    return u.sum() * 0.0


def total_loss(
    head: GCDHead, out: Output, labels: Tensor, labelled: Tensor, epoch: float
) -> dict[str, Tensor]:
    """L and its terms.

    Args:
        head: the head.
        out: of 2B views, view-major.
        labels: [B] classes, valid where ``labelled``.
        labelled: [B] bool.
        epoch: for the teacher's temperature.

    Returns:
        ``loss`` and the terms that it is the weighted sum of.
    """
    c = head.config
    both = labelled.repeat(2)
    heat = losses.teacher_temperature(epoch, warm=c.warm_epochs)
    terms = {
        "cluster": losses.self_distillation(
            out.logits, head.teacher_logits(out.z), tau=c.tau, teacher_tau=heat
        ),
        "entropy": losses.mean_entropy(out.logits, tau=c.tau),
        "cls": losses.classification(out.logits[both], labels[labelled], tau=c.tau),
        "nce": losses.nmf_nce(out.u, t=c.t, m=c.m, sigma=c.sigma),
        "supcon": losses.supervised_contrastive(out.u[both], labels[labelled], temperature=c.supcon_tau),
        "hsr": hsr(head, out.u) if c.rho else out.u.sum() * 0.0,
    }
    if c.strict_code:
        terms = {k: v.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) for k, v in terms.items()}
    free = c.w_cluster * terms["cluster"] + c.eps * terms["entropy"] + c.w_nce * terms["nce"]
    held = c.w_cls * terms["cls"] + c.w_supcon * terms["supcon"]
    loss = (1 - c.l) * free + c.l * held + c.rho * terms["hsr"]
    for name, (weight, value) in c.further(head, out, labelled).items():
        loss, terms[name] = loss + weight * value, value
    return {"loss": loss, **terms}
