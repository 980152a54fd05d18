"""Low-rank updates of the query and value projections.

Paper: LoRA (ICLR 2022, arXiv 2106.09685): ``W x + (alpha / r) B A x`` with A [r, in] drawn and B [out, r]
zero.

Differences: (1) a fused ``qkv`` gets one pair for its q rows and one for its v rows, k stays (SPT's code);
(2) no dropout (SPT's code). Neither has a switch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wildsight.segmentation.adapter import Hook
from wildsight.segmentation.base import ATTENTIONS, SamBase

PARTS = ("q", "k", "v")


@dataclass(frozen=True)
class Site:
    """Where a low-rank pair acts.

    Attributes:
        path: place in the adapter, such as ``("0", "q")``.
        linear: the frozen projection.
        rows: the output rows that the pair adds to.
    """

    path: tuple[str, ...]
    linear: nn.Linear
    rows: slice


class LowRank(nn.Module):
    """One pair: ``lora_A`` [r, in], Kaiming-uniform; ``lora_B`` [out, r], zero."""

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.lora_A = nn.Parameter(torch.empty(rank, inputs))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., in] to the update [..., out]."""
        return low_rank_update(tokens, self.lora_A, self.lora_B, self.scale)

    def delta(self) -> Tensor:
        """The update of the weight, [out, in]."""
        return self.scale * (self.lora_B @ self.lora_A)


def low_rank_update(tokens: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """``scale * B A x``.

    Args:
        tokens: [..., in].
        a: [r, in].
        b: [out, r].
        scale: alpha / r.

    >>> low_rank_update(torch.ones(1, 2), torch.ones(1, 2), torch.ones(3, 1), 0.5).tolist()
    [[1.0, 1.0, 1.0]]
    """
    return scale * (tokens @ a.T @ b.T)


def encoder_sites(base: SamBase, targets: tuple[str, ...]) -> list[Site]:
    """The targeted projections of every attention of the image encoder, numbered in order."""
    found: list[Site] = []
    number = 0
    for _, module in base.model.vision_encoder.named_modules():
        fused = getattr(module, "qkv", None)
        apart = isinstance(getattr(module, "q_proj", None), nn.Linear)
        if isinstance(fused, nn.Linear):
            part = fused.out_features // 3
            rows = {p: slice(i * part, (i + 1) * part) for i, p in enumerate(PARTS)}
            found += [Site((str(number), t), fused, rows[t]) for t in targets]
        elif apart:
            found += [_whole((str(number), t), getattr(module, f"{t}_proj")) for t in targets]
        number += isinstance(fused, nn.Linear) or apart
    return found


def decoder_sites(decoder: Any, targets: tuple[str, ...]) -> list[Site]:
    """The targeted projections of all attentions of a two-way decoder."""
    two_way = decoder.transformer
    attentions = {
        (str(i), short): getattr(layer, name)
        for i, layer in enumerate(two_way.layers)
        for short, name in ATTENTIONS.items()
    }
    attentions["final", "t2i"] = two_way.final_attn_token_to_image
    return [
        _whole((*where, t), getattr(attention, f"{t}_proj"))
        for where, attention in attentions.items()
        for t in targets
    ]


def _whole(path: tuple[str, ...], linear: nn.Linear) -> Site:
    return Site(path, linear, slice(0, linear.out_features))


def build_pairs(
    sites: list[Site], rank: int, scale: float, make: Callable[..., nn.Module] = LowRank
) -> nn.ModuleDict:
    """A pair per site, nested by its path; ``make(inputs, outputs, rank, scale)`` builds one."""
    tree = nn.ModuleDict()
    for site in sites:
        branch = tree
        for name in site.path[:-1]:
            if name not in branch:
                branch[name] = nn.ModuleDict()
            branch = branch[name]
        outputs = site.rows.stop - site.rows.start
        branch[site.path[-1]] = make(site.linear.in_features, outputs, rank, scale)
    return tree


def pair_at(tree: nn.ModuleDict, path: tuple[str, ...]) -> Any:
    """The pair of a site."""
    module: Any = tree
    for name in path:
        module = module[name]
    return module


def lora_hooks(sites: list[Site], tree: nn.ModuleDict) -> list[Hook]:
    """One hook per projection; a fused one has several pairs."""
    return [
        Hook(linear, _adds([(site.rows, pair_at(tree, site.path)) for site in group]))
        for linear, group in _by_linear(sites)
    ]


def _by_linear(sites: list[Site]) -> Iterator[tuple[nn.Linear, list[Site]]]:
    groups: dict[int, list[Site]] = {}
    for site in sites:
        groups.setdefault(id(site.linear), []).append(site)
    for group in groups.values():
        yield group[0].linear, group


def _adds(pairs: list[tuple[slice, Any]]) -> Any:
    """A forward hook that adds each pair's update to its rows of the output."""

    def call(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        pieces, at = [], 0
        for rows, pair in sorted(pairs, key=lambda item: item[0].start):
            pieces += [output[..., at : rows.start], output[..., rows] + pair(inputs[0])]
            at = rows.stop
        return torch.cat([*pieces, output[..., at:]], dim=-1)

    return call


@torch.no_grad()
def fold(sites: list[Site], tree: nn.ModuleDict) -> list[tuple[nn.Linear, Tensor]]:
    """Add every pair to its frozen weight in place; returns (projection, weight as it was)."""
    before = [(linear, linear.weight.detach().clone()) for linear, _ in _by_linear(sites)]
    for site in sites:
        site.linear.weight[site.rows] += pair_at(tree, site.path).delta().to(site.linear.weight)
    return before
