"""Compression: a multimodal LLM that is faster and smaller, in one line.

Papers: VTC-CLS (arXiv 2412.05819) chooses visual tokens, PrefixKV (arXiv 2412.03409) shares out the cache.
Peers: FastV, PruMerge, VisionZip, DivPrune, VisPruner, SCOPE; H2O, SnapKV, PyramidKV, ExpectedAttention,
MixKV and others.

    from wildsight import compress

    with compress(model, visual_tokens=128, kv_cache=0.4):
        answer = model.generate(**inputs, max_new_tokens=64)

A method carries its parameters, and is imported from here by the name of its class:

    from wildsight.compression import VTCCLS, SnapKV

    compress(model, visual_tokens=128, visual=VTCCLS(K=7), kv_cache=0.4, cache=SnapKV(window=32))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.compression.attention import ragged_attention
    from wildsight.compression.cache import KVSettings, RaggedCache
    from wildsight.compression.compressor import Compressed, compress
    from wildsight.compression.config import CompressionConfig
    from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
    from wildsight.compression.methods.visual.base import SELECTORS, VisualMethod, VisualSelector
    from wildsight.compression.profile import Profile
    from wildsight.compression.prune import Pruned, prune_visual_tokens

_HOMES = {
    "CACHE_METHODS": "methods.cache.base",
    "CacheMethod": "methods.cache.base",
    "Compressed": "compressor",
    "CompressionConfig": "config",
    "KVSettings": "cache",
    "Profile": "profile",
    "Pruned": "prune",
    "RaggedCache": "cache",
    "SELECTORS": "methods.visual.base",
    "VisualMethod": "methods.visual.base",
    "VisualSelector": "methods.visual.base",
    "compress": "compressor",
    "prune_visual_tokens": "prune",
    "ragged_attention": "attention",
}
__all__ = [
    "CACHE_METHODS",
    "SELECTORS",
    "CacheMethod",
    "Compressed",
    "CompressionConfig",
    "KVSettings",
    "Profile",
    "Pruned",
    "RaggedCache",
    "VisualMethod",
    "VisualSelector",
    "compress",
    "prune_visual_tokens",
    "ragged_attention",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if not name.startswith("_") and name[:1].isupper():
        for registry, home in (("SELECTORS", "visual"), ("CACHE_METHODS", "cache")):
            methods = getattr(importlib.import_module(f"{__name__}.methods.{home}.base"), registry)
            for method in methods.values():
                if method.__name__ == name:
                    return method
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
