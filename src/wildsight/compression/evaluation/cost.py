"""What compression can give at most, from the shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder-only language model."""

    layers: int
    """L."""
    width: int
    """d."""
    inner: int
    """m, of the gated feed-forward layer."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key-value heads."""
    head_dim: int
    """Channels of a head."""

    @classmethod
    def of(cls, config: Any) -> Shape:
        """From a configuration of `transformers`."""
        text = config.get_text_config(decoder=True)
        heads = text.num_attention_heads
        return cls(
            text.num_hidden_layers,
            text.hidden_size,
            text.intermediate_size,
            heads,
            getattr(text, "num_key_value_heads", None) or heads,
            getattr(text, "head_dim", None) or text.hidden_size // heads,
        )

    @property
    def parameters(self) -> int:
        """Weights that every token is multiplied with, embeddings left out."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.inner)

    def prefill_flops(self, tokens: int) -> float:
        """``2 P n + 2 L d n^2``: products of weights, and causal attention.

        >>> round(Shape(32, 4096, 11008, 32, 32, 128).prefill_flops(640) / 1e12, 2)
        8.4
        """
        attention = 2.0 * self.layers * self.heads * self.head_dim * tokens * tokens
        return 2.0 * self.parameters * tokens + attention

    def cache_bytes(self, tokens: float, size: int = 2) -> float:
        """Bytes of keys and values of one row: ``2 L H_kv d_h size`` a token."""
        return 2.0 * self.layers * self.kv_heads * self.head_dim * size * tokens


def prefill_limit(shape: Shape, full: int, kept: int, vision_flops: float = 0.0) -> float:
    """The most that prefill can gain from ``kept`` instead of ``full`` tokens where it is bound by products.

    >>> round(prefill_limit(Shape(32, 4096, 11008, 32, 32, 128), 640, 128, 0.365e12), 2)
    4.32
    """
    whole, rest = shape.prefill_flops(full), shape.prefill_flops(kept)
    return (whole + vision_flops) / (rest + vision_flops)


def decode_limit(shape: Shape, rows: int, tokens: float, share: float, size: int = 2) -> float:
    """The most that a decode step can gain from a cache of ``share`` where it is bound by memory traffic.

    Args:
        shape: of the model.
        rows: batch size.
        tokens: average length of the cache.
        share: what it keeps.
        size: bytes of a number.

    >>> round(decode_limit(Shape(32, 4096, 11008, 32, 32, 128), 16, 1024 + 256, 0.2), 2)
    1.57
    """
    weights = float(shape.parameters * size)
    whole = rows * shape.cache_bytes(tokens, size)
    return (weights + whole) / (weights + share * whole)


def vision_flops(config: Any) -> float:
    """Products of a CLIP-like tower for one picture, as far as its shape is known; else 0."""
    vision = config.vision_config
    try:
        tokens = (vision.image_size // vision.patch_size) ** 2 + 1
        width, inner, layers = vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers
    except (AttributeError, TypeError):
        return 0.0
    weights = layers * (4 * width * width + 2 * width * inner)
    return 2.0 * weights * tokens + 4.0 * layers * width * tokens * tokens
