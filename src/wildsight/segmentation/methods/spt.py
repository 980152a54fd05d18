"""SPT: self-draft tuning and a visual-relation-aware adapter that teach SAM to outline defects.

Paper: SPT (AAAI 2025, arXiv 2411.17217). Implemented:

* display, draft, refine: the draft's logits are the mask prompt of a second pass with the same sparse prompt;
* relation ``R = softmax(x^ x^T / t)`` over the L2-normalised image embedding, diagonal left out;
* at the end of each two-way block of a decoder, ``K <- K + (R K) * gamma``, gamma zero at the start,
  one per pass and block;
* LoRA of rank 8 on q and v of the encoder and of both decoders; loss of both passes (`loss.py`).

Differences from the published code and what undoes each:

1. One frozen decoder with two sets of adapters stands for its two decoder copies: the same function.
2. The optional sparsifier renormalises over the keys, not over the wrong axis; ``sparsify=0``, the
   default, is off.
3. All prompts of a picture go through in one call; their result is that of single calls.
4. The learning rate drops to a tenth after 10/16 of the steps (``schedule="drop"``), epochs being free.
5. The prompt mix is box and points, half each (`prompts.PromptMix`); the published loop is not released.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wildsight.errors import ConfigError
from wildsight.estimators.registry import ABOVE_ZERO, at_least, check_ranges
from wildsight.segmentation.adapter import Adapter, Hook, Stage
from wildsight.segmentation.base import Embedding, SamBase
from wildsight.segmentation.lora import (
    build_pairs,
    decoder_sites,
    encoder_sites,
    fold,
    lora_hooks,
)
from wildsight.segmentation.methods import METHODS, PROJECTIONS, SegmentationMethod

LINKS = ("logits", "sigmoid", "threshold")
STAGES: tuple[Stage, ...] = ("draft", "refine")


@METHODS.register("spt")
@dataclass(frozen=True, kw_only=True)
class SPT(SegmentationMethod):
    """SPT with its hyper-parameters; defaults are the paper's."""

    title = "SPT"

    rank: int = 8
    """r of the low-rank pairs; 0 leaves them out."""
    alpha: float = 1.0
    """Their scale is alpha / r."""
    encoder_targets: tuple[str, ...] = ("q", "v")
    """Projections of the encoder with a pair, of ``q``, ``k``, ``v``; none freezes it."""
    decoder_targets: tuple[str, ...] = ("q", "v")
    """Projections of the decoders' attentions with a pair."""
    draft: bool = True
    """True for the two passes, False for one."""
    relation: bool = True
    """True for the relation adapter."""
    temperature: float = 1.0
    """t of the relation's softmax, > 0."""
    sparsify: float = 0.0
    """Keep entries above ``sparsify / N`` and renormalise; 0 keeps all."""
    relation_blocks: str | int = "all"
    """``all``, or the number of the one block that has it."""
    relation_stages: tuple[str, ...] = ("draft", "refine")
    """Passes that have it."""
    gamma_std: float = 0.0
    """Standard deviation of gamma at the start; 0 starts as stock SAM."""
    detach_relation: bool = False
    """No gradient through R into the encoder in the draft pass."""
    draft_link: Literal["logits", "sigmoid", "threshold"] = "logits"
    """What of the draft is fed back."""
    draft_detach: bool = True
    """No gradient from the final loss into the draft."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            rank=at_least(0),
            alpha=ABOVE_ZERO,
            temperature=ABOVE_ZERO,
            sparsify=at_least(0),
            gamma_std=at_least(0),
            draft_link=(lambda v: v in LINKS, f"use one of {', '.join(LINKS)}"),
            encoder_targets=PROJECTIONS,
            decoder_targets=PROJECTIONS,
            relation_stages=(lambda v: set(v) <= set(STAGES), "use draft and refine"),
        )

    def adapter(self, base: SamBase) -> SPTAdapter:
        """Pairs and relation scales for ``base``."""
        return SPTAdapter(self, base)


def relation_matrix(
    embedding: Tensor, temperature: float = 1.0, sparsify: float = 0.0, valid: Tensor | None = None
) -> Tensor:
    """Similarity of every token to every other one, as weights.

    Args:
        embedding: [B, C, h, w], N = h * w tokens in raster order, N >= 2.
        temperature: of the softmax, > 0.
        sparsify: keep entries above ``sparsify / N`` and renormalise each row; 0 keeps all.
        valid: [B, N] bool; tokens that are False are nobody's neighbour.

    Returns:
        [B, N, N] float32; rows sum to 1, the diagonal is 0.

    >>> relation_matrix(torch.ones(1, 2, 1, 3))[0].tolist()
    [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    """
    with torch.autocast(embedding.device.type, enabled=False):
        tokens = embedding.float().flatten(2).transpose(1, 2)
        tokens = tokens / tokens.norm(dim=-1, keepdim=True).clamp_min(1e-16)
        scores = tokens @ tokens.transpose(1, 2) / temperature
        count = scores.shape[-1]
        hidden = torch.eye(count, dtype=torch.bool, device=scores.device)[None]
        if valid is not None:
            hidden = hidden | ~valid[:, None, :]
        weights = torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1)
        if sparsify > 0:
            weights = weights * (weights > sparsify / count)
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
    return weights


def relate(keys: Tensor, relation: Tensor, gamma: Tensor) -> Tensor:
    """``K + (R K) * gamma``, all prompts of a picture in one product.

    Args:
        keys: [B * P, 1, N, C] image tokens, the P prompts of a picture in a row.
        relation: [B, N, N].
        gamma: [C].

    Returns:
        As ``keys``.
    """
    pictures, count = relation.shape[0], relation.shape[-1]
    prompts, channels = keys.shape[0] // pictures, keys.shape[-1]
    side_by_side = keys.reshape(pictures, prompts, count, channels).permute(0, 2, 1, 3).flatten(2)
    mixed = (relation.to(keys.dtype) @ side_by_side).unflatten(2, (prompts, channels))
    return keys + mixed.permute(0, 2, 1, 3).reshape(keys.shape) * gamma


def row_entropy(relation: Tensor) -> float:
    """Mean entropy of the rows over that of equal weights, in [0, 1]; 1 is a plain mean filter.

    >>> row_entropy(relation_matrix(torch.ones(1, 2, 2, 2)))
    1.0
    """
    terms = -(relation * relation.clamp_min(1e-30).log()).sum(-1)
    return round(float(terms.mean() / torch.log(torch.tensor(relation.shape[-1] - 1.0))), 6)


def linked(draft: Tensor, link: str, detach: bool) -> Tensor:
    """Draft logits as the mask prompt of the refine pass.

    Args:
        draft: [..., h, w] logits.
        link: ``logits`` as they are, ``sigmoid`` of them, or ``threshold`` (1 where above 0).
        detach: True cuts the gradient; ``threshold`` has none anyway.
    """
    fed = draft.detach() if detach else draft
    if link == "sigmoid":
        return fed.sigmoid()
    return (fed > 0).to(fed.dtype) if link == "threshold" else fed


class SPTAdapter(Adapter):
    """The adapter: pairs for the encoder, and per pass pairs and relation scales for the decoder."""

    def __init__(self, config: SPT, base: SamBase) -> None:
        super().__init__()
        self.config = config
        self.passes = 2 if config.draft else 1
        self.trains_encoder = config.rank > 0 and bool(config.encoder_targets)
        generator_state = torch.random.get_rng_state()
        torch.manual_seed(config.seed)
        scale = config.alpha / max(1, config.rank)
        ranked = config.rank > 0
        self.encoder = build_pairs(self._encoder_sites(base) if ranked else [], config.rank, scale)
        self.decoder = nn.ModuleDict()
        for stage in STAGES[: self.passes]:
            sites = decoder_sites(base.decoder, config.decoder_targets) if ranked else []
            self.decoder[stage] = build_pairs(sites, config.rank, scale)
            self._add_scales(stage, base)
        torch.random.set_rng_state(generator_state)

    def _add_scales(self, stage: Stage, base: SamBase) -> None:
        """``relation_scale`` [C] in each block that has the relation."""
        if not self.config.relation or stage not in self.config.relation_stages:
            return
        tree = self.decoder[stage]
        for number in self._blocks(base):
            if number not in tree:
                tree[number] = nn.ModuleDict()
            gamma = torch.randn(base.channels) * self.config.gamma_std
            tree[number].register_parameter("relation_scale", nn.Parameter(gamma))

    def _blocks(self, base: SamBase) -> list[str]:
        known = [str(i) for i in range(len(base.decoder.transformer.layers))]
        chosen = str(self.config.relation_blocks)
        if chosen == "all":
            return known
        if chosen not in known:
            raise ConfigError(
                f"relation_blocks={chosen!r} names no block", hint=f"use all, {', '.join(known)}"
            )
        return [chosen]

    def _encoder_sites(self, base: SamBase) -> Any:
        return encoder_sites(base, self.config.encoder_targets)

    def encoder_hooks(self, base: SamBase, _pixels: Tensor) -> list[Hook]:
        """LoRA on the encoder's attentions."""
        return lora_hooks(self._encoder_sites(base), self.encoder) if self.trains_encoder else []

    def decoder_hooks(
        self, _base: SamBase, decoder: Any, stage: Stage, relation: Tensor | None
    ) -> list[Hook]:
        """LoRA of the pass, and its relation at the end of each block."""
        tree: Any = self.decoder[stage]
        sites = decoder_sites(decoder, self.config.decoder_targets) if self.config.rank > 0 else []
        return [*lora_hooks(sites, tree), *relation_hooks(decoder, self._related(stage, relation), tree)]

    def _related(self, stage: Stage, relation: Tensor | None) -> Tensor | None:
        if relation is None or stage not in self.config.relation_stages:
            return None
        return relation.detach() if self.config.detach_relation and stage == "draft" else relation

    def relation(self, embedding: Embedding, valid: Tensor | None) -> Tensor | None:
        """R of each picture, once for all passes, blocks and prompts."""
        if not self.config.relation:
            return None
        return relation_matrix(embedding.image, self.config.temperature, self.config.sparsify, valid)

    def link(self, draft: Tensor) -> Tensor:
        """The draft as a mask prompt."""
        return linked(draft, self.config.draft_link, self.config.draft_detach)


def relation_hooks(decoder: Any, relation: Tensor | None, tree: Any) -> list[Hook]:
    """The relation at the end of each block that has a scale."""
    if relation is None:
        return []
    layers = enumerate(decoder.transformer.layers)
    scaled = [(layer, getattr(tree[str(i)], "relation_scale", None)) for i, layer in layers if str(i) in tree]
    return [Hook(layer, _relates(relation, gamma)) for layer, gamma in scaled if gamma is not None]


def _relates(relation: Tensor, gamma: Tensor) -> Any:
    def call(_module: nn.Module, _inputs: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        queries, keys, *rest = output
        return (queries, relate(keys, relation, gamma), *rest)

    return call


class MergedSPT(Adapter):
    """SPT for inference: encoder pairs folded into the base, a folded decoder per pass, R still explicit.

    The base's encoder is altered until `unmerge`, which puts its weights back bit for bit.
    """

    def __init__(self, spt: SPTAdapter, base: SamBase) -> None:
        super().__init__()
        self.spt, self.passes = spt, spt.passes
        ranked = spt.config.rank > 0
        self.decoder = nn.ModuleDict()
        for stage in STAGES[: spt.passes]:
            folded = copy.deepcopy(base.decoder)
            if ranked:
                fold(decoder_sites(folded, spt.config.decoder_targets), spt.decoder[stage])
            self.decoder[stage] = folded
        self._before = fold(spt._encoder_sites(base), spt.encoder) if spt.trains_encoder else []

    @torch.no_grad()
    def unmerge(self) -> SPTAdapter:
        """Restore the base; returns the adapter that was merged."""
        for linear, weight in self._before:
            linear.weight.copy_(weight)
        self._before = []
        return self.spt

    def decoder_of(self, _base: SamBase, stage: Stage) -> Any:
        """The folded decoder of the pass."""
        return self.decoder[stage]

    def decoder_hooks(
        self, _base: SamBase, decoder: Any, stage: Stage, relation: Tensor | None
    ) -> list[Hook]:
        """The relation alone."""
        return relation_hooks(decoder, self.spt._related(stage, relation), self.spt.decoder[stage])

    def relation(self, embedding: Embedding, valid: Tensor | None) -> Tensor | None:
        """As SPT's."""
        return self.spt.relation(embedding, valid)

    def link(self, draft: Tensor) -> Tensor:
        """As SPT's."""
        return self.spt.link(draft)
