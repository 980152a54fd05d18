"""A backbone cut before its last block: frozen tokens below, a trainable block above.

In a vision transformer the block is its last layer with the final norm, as in the papers of this task. Other
networks have no such block; there the token is the global feature and a small residual block stands in.
"""

from __future__ import annotations

import copy
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from wildsight.backbones.towers import run_tower

if TYPE_CHECKING:
    from wildsight.backbones import Backbone


_TOKENS_ALONE = {"hidden_states", "attention_mask", "head_mask", "output_attentions", "kwargs"}


def _layers(tower: nn.Module) -> nn.ModuleList | None:
    """The transformer layers of CLIP, SigLIP, ViT or DINOv2; None for another network, also for one whose
    layers need the grid or the positions beside the tokens (Swin, BEiT, DINOv3)."""
    for owner in (getattr(tower, "encoder", None), tower):
        for name in ("layers", "layer"):
            layers = getattr(owner, name, None)
            if isinstance(layers, nn.ModuleList) and hasattr(tower, "embeddings"):
                return layers if set(signature(layers[-1].forward).parameters) <= _TOKENS_ALONE else None
    return None


def _norm(tower: nn.Module) -> nn.Module:
    return getattr(tower, "post_layernorm", None) or getattr(tower, "layernorm", None) or nn.Identity()


class BlockTail(nn.Module):
    """The last transformer layer, trained, then the final norm, frozen, then the class token.

    Args:
        block: the layer.
        norm: the final norm.
        masked: whether the layer takes an attention mask.
        width: D.
    """

    def __init__(self, block: nn.Module, norm: nn.Module, masked: bool, width: int) -> None:
        super().__init__()
        self.width = width
        self.block = copy.deepcopy(block).requires_grad_(True)
        self.norm = copy.deepcopy(norm).requires_grad_(False)
        self.masked = masked

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, D] -> [B, D]."""
        hidden = self.block(tokens, attention_mask=None) if self.masked else self.block(tokens)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return self.norm(hidden[:, 0])


class ResidualTail(nn.Module):
    """z + W2 gelu(W1 z), W2 = 0 at the start: the frozen feature in its space, until training says otherwise.

    Args:
        mean, basis: of the space, [D] and [D, d]; frozen.
        inner: width inside the block.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, mean: Tensor, basis: Tensor, inner: int = 256) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis.contiguous())  # as a checkpoint has it: sums in the same order
        self.width = int(basis.shape[1])
        self.down, self.up = nn.Linear(self.width, inner), nn.Linear(inner, self.width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, 1, D] -> [B, d], entries of about 1, as after a LayerNorm: the projector starts from that."""
        z = normalize((normalize(tokens[:, 0], dim=1) - self.mean) @ self.basis, dim=1) * self.width**0.5
        return z + self.up(nn.functional.gelu(self.down(z)))


class Trunk:
    """A backbone as this task sees it.

    Args:
        backbone: frozen network.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.tower: nn.Module = getattr(backbone.model, "vision_model", backbone.model)
        self.layers = _layers(self.tower)

    @property
    def transformer(self) -> bool:
        """Whether the last block can be trained."""
        return self.layers is not None

    @torch.no_grad()
    def tokens(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> the input [B, T, D] of `tail`; T = 1 for a network that is no transformer."""
        if not self.transformer:
            return self._global(pixels)[:, None]
        return self._output(pixels, output_hidden_states=True).hidden_states[-2].float()

    @torch.no_grad()
    def vector(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> the global feature [B, D]: the class token after the final norm, or the mean."""
        if not self.transformer:
            return self._global(pixels)
        pooled = self._output(pixels).last_hidden_state[:, 0].float()
        return _norm(self.tower)(pooled) if hasattr(self.tower, "post_layernorm") else pooled

    def _output(self, pixels: Tensor, **options: Any) -> Any:
        """The tower's output."""
        with self.backbone.computing():
            pixels = pixels.to(self.backbone.device)
            return run_tower(self.tower, pixels, **options)

    def _global(self, pixels: Tensor) -> Tensor:
        feature = self.backbone.features(pixels).cls
        return feature if feature is not None else self.backbone.features(pixels).patches.mean(1)

    def tail(self, mean: Tensor, basis: Tensor) -> BlockTail | ResidualTail:
        """A fresh, trainable copy of what lies above the tokens, on the CPU.

        Args:
            mean, basis: the space, [D] and [D, d], for a network that is no transformer.
        """
        if self.layers is None:
            return ResidualTail(mean, basis)
        masked = hasattr(self.tower, "post_layernorm")
        return BlockTail(self.layers[-1], _norm(self.tower), masked, len(mean)).cpu()
