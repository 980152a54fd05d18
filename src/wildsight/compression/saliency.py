"""Saliency of a vision tower's patches from hooks on its projections, under any attention kernel.

The rule depends on the tower: attention of [CLS] (CLIP), of the pooling head's probe (SigLIP), or the mean
attention that a patch receives (towers without either). Which one was used is said in the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wildsight.compression.attention_weights import head_attention, query_blocks
from wildsight.compression.methods.visual.vtc_cls import cls_row, layers_up_to, scored_layers

CLS_NAMES = ("class_embedding", "cls_token")


@dataclass
class Saliency:
    """What the hooks gathered.

    Attributes:
        rule: which attention was read.
        rows: one ``[B, N]`` per layer that was read, in order.
        keys: ``[B, N, d_head]`` head-mean keys of the last one.
    """

    rule: str
    rows: list[Tensor]
    keys: Tensor | None = None


def attention_layers(tower: nn.Module) -> list[nn.Module]:
    """Modules with separate query and key projections, in order, the pooling head left out."""
    return [
        module
        for name, module in tower.named_modules()
        if hasattr(module, "q_proj") and hasattr(module, "k_proj") and "head" not in name.split(".")
    ]


def has_cls(tower: nn.Module) -> bool:
    """Whether the first token is a class token."""
    return any(name.rpartition(".")[2] in CLS_NAMES for name, _ in tower.named_parameters())


def pooling_head(tower: nn.Module) -> Any:
    """The attention-pooling head with a learned probe, or None."""
    heads = (m for m in tower.modules() if hasattr(m, "probe") and isinstance(m.probe, nn.Parameter))
    return next(heads, None)


def received(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Mean attention that each token receives.

    Args:
        query: ``[B, N, d]`` projected queries.
        key: ``[B, N, d]`` projected keys.
        heads: H.

    Returns:
        ``[B, N]`` float32, in blocks of queries.
    """
    q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key))
    total = torch.zeros(q.shape[0], k.shape[2], device=q.device)
    for block in query_blocks(q.shape[0] * heads, q.shape[2], k.shape[2]):
        weights = head_attention(q[:, :, block], k, None, q.shape[-1] ** -0.5)
        total += weights.mean(dim=1).sum(dim=1)
    return total / q.shape[2]


def probe_row(head: Any, hidden: Tensor) -> Tensor:
    """Head-mean attention of a pooling head's probe, ``[B, N, d]`` to ``[B, N]``."""
    with torch.no_grad():
        probe = head.probe.expand(hidden.shape[0], -1, -1)
        _, weights = head.attention(probe, hidden, hidden, need_weights=True, average_attn_weights=True)
    return weights[:, 0].float()


def saliency_rule(tower: nn.Module) -> str:
    """Which attention scores the patches: ``cls``, ``pooling head``, ``received attention`` or ``none``."""
    modules = attention_layers(tower)
    if modules and has_cls(tower):
        return "cls"
    if pooling_head(tower) is not None:
        return "pooling head"
    return "received attention" if modules else "none"


def layers_to_read(tower: nn.Module, feature_layer: int, layers: int | None = None) -> list[int]:
    """Indices of the layers whose saliency is read; empty where the projections of none are.

    Args:
        tower: the vision tower.
        feature_layer: index of the hidden state that is used.
        layers: how many; None reads all that lead up to the features. Without [CLS] it is one at most.

    Raises:
        ConfigError: the tower has fewer.
    """
    rule, depth = saliency_rule(tower), len(attention_layers(tower))
    if layers == 0 or rule in ("pooling head", "none"):
        return []
    if rule != "cls":
        layers = 1
    return scored_layers(
        depth, feature_layer, layers_up_to(depth, feature_layer) if layers is None else layers
    )


@contextmanager
def watch(tower: nn.Module, feature_layer: int, layers: int | None = None) -> Iterator[Saliency]:
    """Gather saliency while the tower runs inside the block; the hooks go in any case.

    Args:
        tower: the vision tower.
        feature_layer: index of the hidden state that is used.
        layers: how many layers to read where [CLS] is read; None reads all that lead up to the features.

    Raises:
        ConfigError: the tower has fewer.
    """
    found = Saliency(saliency_rule(tower), [])
    wanted = layers_to_read(tower, feature_layer, layers)
    handles: list[Any] = []
    try:
        if found.rule == "pooling head" and layers != 0:
            head = pooling_head(tower)
            handles.append(head.register_forward_pre_hook(_probe_hook(head, found)))
        modules = attention_layers(tower)
        for index in wanted:
            handles += _projection_hooks(modules[index], found, found.rule)
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _probe_hook(head: Any, found: Saliency) -> Any:
    def hook(_module: nn.Module, inputs: Sequence[Any]) -> None:
        found.rows.append(probe_row(head, inputs[0]))

    return hook


def _projection_hooks(module: Any, found: Saliency, rule: str) -> list[Any]:
    """Queries and keys meet in whichever projection runs second."""
    heads = int(module.num_heads)
    norms = {name: getattr(module, f"{name}_norm", None) or nn.Identity() for name in ("q", "k")}
    waiting: dict[str, Tensor] = {}

    def gather(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            waiting[name] = norms[name](output.detach())
            if len(waiting) == 2:
                q, k = waiting.pop("q"), waiting.pop("k")
                found.rows.append(cls_row(q, k, heads) if rule == "cls" else received(q, k, heads))
                tokens = k[:, 1:] if rule == "cls" else k
                found.keys = tokens.unflatten(-1, (heads, -1)).mean(dim=2)

        return hook

    return [
        module.q_proj.register_forward_hook(gather("q")),
        module.k_proj.register_forward_hook(gather("k")),
    ]
