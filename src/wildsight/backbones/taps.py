"""The maps inside a tower of `transformers`, computed no deeper than the last one that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from wildsight.backbones.tokens import as_map, channels_first
from wildsight.backbones.towers import run_tower
from wildsight.errors import UnsupportedModelError


class _Enough(Exception):
    """The last map that was asked for is there."""


def all_maps(tower: nn.Module, pixels: Tensor, patch: int | None) -> list[Tensor]:
    """Every map [B, C, h, w] of a pass, shallow to deep."""
    return _pass(tower, pixels, patch, {})[0]


@dataclass(frozen=True)
class Blocks:
    """The list of modules which every map of a tower but the last enters.

    Attributes:
        name: in the tower.
        dense: the maps lie in memory in the order of their shape.
    """

    name: str
    dense: bool


def probed_maps(tower: nn.Module, pixels: Tensor, patch: int | None) -> tuple[list[Tensor], Blocks | None]:
    """`all_maps`, and what `first_maps` needs, or None where no list of modules is like that."""
    modules = tower.named_modules()
    lists = {name: module for name, module in modules if isinstance(module, nn.ModuleList)}
    maps, found = _pass(tower, pixels, patch, lists)
    same = (name for name, entered in found.items() if _equal(entered, maps[:-1]))
    name = next(same, None)
    return maps, None if name is None else Blocks(name, all(m.is_contiguous() for m in maps))


def _pass(
    tower: nn.Module, pixels: Tensor, patch: int | None, lists: Mapping[str, Any]
) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
    with _collecting(tower, pixels, patch, {"": (), **lists}, None) as found:
        output = run_tower(tower, pixels, output_hidden_states=True)
    if getattr(output, "hidden_states", None) is None:
        what, hint = "gives no maps of features", "name another network, such as nano-conv or a DINOv2"
        raise UnsupportedModelError(what, where=type(tower).__name__, hint=hint)
    states = (as_map(h, pixels, patch) for h in channels_first(output) if h.shape != pixels.shape)
    return [*found.pop(""), *states], found


def first_maps(
    tower: nn.Module, pixels: Tensor, patch: int | None, blocks: Blocks, count: int
) -> list[Tensor]:
    """The first ``count`` of `all_maps`, which must have more, bit-equal; the pass ends there.

    Args:
        tower: the network.
        pixels: [B, 3, H, W].
        patch: side of a token, pixels; None where there are no tokens.
        blocks: what `probed_maps` named.
        count: of maps.
    """
    lists = {blocks.name: tower.get_submodule(blocks.name)}
    with _collecting(tower, pixels, patch, lists, count) as found, suppress(_Enough):
        run_tower(tower, pixels)
    return [m.contiguous() if blocks.dense else m for m in found[blocks.name]]


def _stem(tower: nn.Module) -> nn.Module | None:
    """What gives ResNet's map before its pooling, the only one at stride 2."""
    return getattr(getattr(tower, "embedder", None), "embedder", None)


def _equal(entered: Sequence[Tensor], maps: Sequence[Tensor]) -> bool:
    pairs = zip(entered, maps, strict=False)
    return len(entered) == len(maps) and all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


@contextmanager
def _collecting(
    tower: nn.Module, pixels: Tensor, patch: int | None, lists: Mapping[str, Any], count: int | None
) -> Iterator[dict[str, list[Tensor]]]:
    """By the name of a list: the stem's map, and the maps that enter its blocks, in this thread.

    Raises:
        _Enough: in the pass, as soon as there are ``count``.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in lists}
    thread = get_ident()

    def keep(name: str, feature: Tensor | None) -> None:
        if feature is None or feature.shape == pixels.shape:  # DINOv3's ConvNeXt begins with the picture
            return
        found[name].append(feature)
        if len(found[name]) == count:
            raise _Enough

    def left(_module: nn.Module, _args: Any, output: Tensor) -> None:
        for name in found if get_ident() == thread else ():
            keep(name, output)

    def entered(name: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if get_ident() == thread:
                keep(name, _entering([*args, *kwargs.values()], pixels, patch))

        return hook

    with ExitStack() as hooks:
        stem = _stem(tower)
        if stem is not None:
            hooks.callback(stem.register_forward_hook(left).remove)
        for name, blocks in lists.items():
            for block in blocks:
                hooks.callback(block.register_forward_pre_hook(entered(name), with_kwargs=True).remove)
        yield found


def _entering(values: Sequence[Any], pixels: Tensor, patch: int | None) -> Tensor | None:
    """The map among a block's arguments; of tokens whose grid stands beside them (Swin) in that grid."""
    feature = next((v for v in values if isinstance(v, Tensor)), None)
    if feature is None or feature.ndim not in (3, 4):
        return None
    grids = (v for v in values if isinstance(v, tuple) and len(v) == 2 and isinstance(v[0], int))
    grid = next(grids, None)
    if feature.ndim == 3 and grid is not None and grid[0] * grid[1] == feature.shape[1]:
        return feature.transpose(1, 2).unflatten(2, grid)
    try:
        return as_map(feature, pixels, patch)
    except UnsupportedModelError:
        return None
