"""What a family is: how it turns pictures into tokens, and where those tokens stand in the prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wildsight.compression.image_tokens import ImageView
from wildsight.compression.inputs import Short, positions_of
from wildsight.compression.saliency import Saliency
from wildsight.errors import BudgetError

NEWLINE = -1


@dataclass(frozen=True)
class Picture:
    """One image as it enters the prompt.

    Attributes:
        view: what the selector sees: its tokens without separators.
        features: ``[n, D]`` with separators.
        source: ``[n]`` index into the view, `NEWLINE` for a separator.
        row: ``[n]`` the grid row that a token ends or stands in; -1 outside the grid.
        grid: (rows, columns) of the view's tokens where they form one grid.
        tiles: the tile that each of the view's tokens comes from; None for one tile.
        deep: ``[n, D]`` for each later layer that adds features of its own to the tokens.
    """

    view: ImageView
    features: Tensor
    source: Tensor
    row: Tensor
    grid: tuple[int, int] | None
    tiles: Tensor | None = None
    deep: tuple[Tensor, ...] = ()

    def flags(self, keep: Tensor, newlines: str = "row") -> Tensor:
        """``[n]`` bool: the tokens that stay when the view's tokens ``keep`` do.

        Args:
            keep: indices into the view.
            newlines: ``row`` keeps a separator whose row kept a token, ``all`` every one, ``none`` no one.
        """
        chosen = torch.zeros(self.view.features.shape[0] + 1, dtype=torch.bool, device=self.source.device)
        chosen[keep] = True
        stay = chosen[self.source]
        ends = self.source == NEWLINE
        if newlines == "row" and bool(ends.any()):
            alive = torch.isin(self.row, self.row[stay & (self.row >= 0)])
            return stay | (ends & alive)
        return stay | ends if newlines == "all" else stay & ~ends


Encoder = Callable[[Any, Mapping[str, Any], int | None], list[Picture]]
"""(model, inputs, vision layers whose saliency is read) -> pictures in the order of the placeholders."""


def running(_model: Any, _inputs: Mapping[str, Any], short: Short, mask: Tensor, how: str) -> Tensor:
    """One-dimensional positions."""
    return positions_of(short, mask, how)


def unknown_count(_model: Any) -> int | None:
    """Tokens of a picture that depend on its size."""
    return None


@dataclass(frozen=True)
class Family:
    """What a kind of models needs.

    Attributes:
        pixels: names of the inputs that are used up by encoding.
        encoder: see `Encoder`.
        positions: (model, inputs, shortened batch, mask before, how) -> position ids.
        tokens: of a picture, where all have the same number, so that a count above it is a mistake; or None.
        first: position of a prompt's first token as ``forward`` takes it; ``generate`` counts from 0.
        inside: whether methods that drop tokens inside the language model know their way there.
    """

    pixels: tuple[str, ...]
    encoder: Encoder
    positions: Callable[[Any, Mapping[str, Any], Short, Tensor, str], Tensor] = running
    tokens: Callable[[Any], int | None] = unknown_count
    first: int = 0
    inside: bool = False

    def encode(self, model: Any, inputs: Mapping[str, Any], layers: int | None = None) -> list[Picture]:
        """Encode the pictures of a batch, and read what their saliency is made of.

        Args:
            model: of this family.
            inputs: of its processor.
            layers: vision layers whose saliency is read, `VisualMethod.saliency_layers`; None reads all that
                lead up to the features.

        Raises:
            ConfigError: the tower has fewer.
        """
        return self.encoder(model, inputs, layers)


def vision_tower(model: Any) -> Any:
    """The part that encodes pictures, under whichever name it has; None without one."""
    parts = (getattr(model.model, name, None) for name in ("vision_tower", "vision_model", "visual"))
    return next((p for p in parts if p is not None), None)


def feature_layer(model: Any) -> int:
    """Index of the tower's hidden state that becomes the tokens: the deepest of several, the last by
    default."""
    layer = getattr(model.config, "vision_feature_layer", None)
    if layer is None or isinstance(layer, int):
        return -1 if layer is None else layer
    states = int(model.config.vision_config.num_hidden_layers) + 1
    return max(int(index) % states for index in layer)


def encode_with(model: Any, inputs: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The model's own encoding, of the inputs ``names`` that were given."""
    given = {name: inputs[name] for name in names if inputs.get(name) is not None}
    return model.model.get_image_features(**given, return_dict=True)


def square(n: int) -> tuple[int, int] | None:
    """The square grid of ``n`` tokens, or None."""
    side = round(n**0.5)
    return (side, side) if side * side == n else None


def plain_picture(view: ImageView, grid: tuple[int, int] | None = None, **more: Any) -> Picture:
    """An image without separators, square unless a grid is given."""
    n = view.features.shape[0]
    index = torch.arange(n, device=view.features.device)
    return Picture(view, view.features, index, torch.full_like(index, -1), grid or square(n), **more)


def fitted(rows: Tensor, keys: Tensor | None, n: int) -> tuple[Tensor, Tensor | None]:
    """Saliency rows ``[K, N]`` for ``n`` tokens: one more than N means that [CLS] itself is a token."""
    if rows.shape[0] and rows.shape[1] + 1 == n:
        return torch.cat([rows.amax(dim=1, keepdim=True), rows], dim=1), None
    return rows, keys


def blocks(rows: int, columns: int, side: int) -> Tensor:
    """Patches that each merged token is made of, ``[(rows // side) * (columns // side), side * side]``.

    Both are counted row by row.

    >>> blocks(2, 4, 2).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    index = torch.arange(rows * columns).view(rows, columns)
    index = index[: rows // side * side, : columns // side * side]
    parts = index.reshape(rows // side, side, columns // side, side)
    return parts.transpose(1, 2).reshape(-1, side * side)


def rows_of(found: Saliency, number: int, features: Tensor) -> Tensor:
    """Saliency ``[K, N]`` of image ``number``; no rows where none were read."""
    rows = [row[number] for row in found.rows]
    return torch.stack(rows) if rows else features.new_zeros(0, features.shape[0], dtype=torch.float32)


def refuse_mismatch(what: str) -> BudgetError:
    """Pixels and tokens that do not go together."""
    return BudgetError(what, hint="make prompts and pictures with the model's processor, and change neither")
