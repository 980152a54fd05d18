"""Compression: a multimodal LLM that is faster and smaller, in one line.

Papers: VTC-CLS (arXiv 2412.05819) chooses visual tokens, PrefixKV (arXiv 2412.03409) shares out the cache.
Peers: FastV, PruMerge, VisionZip, DivPrune, VisPruner, SCOPE; H2O, SnapKV, PyramidKV, ExpectedAttention,
MixKV and others.

    from wildsight import compress

    with compress(model, visual_tokens=128, kv_cache=0.4):
        answer = model.generate(**inputs, max_new_tokens=64)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.compression.attention import ragged_attention
    from wildsight.compression.cache import KVSettings, RaggedCache
    from wildsight.compression.compressor import Compressed, compress
    from wildsight.compression.profile import Profile
    from wildsight.compression.prune import Pruned, prune_visual_tokens

_HOMES = {
    "Compressed": "compressor",
    "KVSettings": "cache",
    "Profile": "profile",
    "Pruned": "prune",
    "RaggedCache": "cache",
    "compress": "compressor",
    "prune_visual_tokens": "prune",
    "ragged_attention": "attention",
}
__all__ = [
    "Compressed",
    "KVSettings",
    "Profile",
    "Pruned",
    "RaggedCache",
    "compress",
    "prune_visual_tokens",
    "ragged_attention",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
