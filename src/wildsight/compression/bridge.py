"""To a serving engine: shortened image embeddings in the form that vLLM takes.

vLLM counts an image's placeholders by the embeddings that it is given, so that pruning before the engine
needs no change inside it: the engine reads U tokens where it would have read all. The cache stays vLLM's
own.
"""

from __future__ import annotations

from typing import Any

from wildsight.compression.prune import Pruned
from wildsight.errors import ConfigError


def vllm_prompt(pruned: Pruned, prompt: str, *, positions: str = "compact") -> dict[str, Any]:
    """One request for ``LLM.generate``, with the engine started with ``enable_mm_embeds=True``.

    Args:
        pruned: one prompt's pictures, from `prune_visual_tokens`.
        prompt: the text with one ``<image>`` for each picture, as the engine's own documentation has it.
        positions: those that were pruned with.

    Returns:
        ``prompt`` and ``multi_modal_data``: one ``[U, D]`` tensor on the CPU for each picture.

    Raises:
        ConfigError: several prompts, another number of ``<image>`` than pictures, or positions that the
            engine
            cannot be passed on.
    """
    if pruned.ids.shape[0] != 1:
        raise ConfigError(f"{pruned.ids.shape[0]} prompts in one request", hint="prune one prompt at a time")
    if positions != "compact" or pruned.positions.ndim != 2:
        raise ConfigError("an engine counts positions itself", hint="prune with compact positions")
    marks = prompt.count("<image>")
    if marks != len(pruned.features):
        raise ConfigError(
            f"the prompt has {marks} <image> for {len(pruned.features)} pictures", hint="write one for each"
        )
    return {
        "prompt": prompt,
        "multi_modal_data": {"image": [f.detach().cpu().contiguous() for f in pruned.features]},
    }
