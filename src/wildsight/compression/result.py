"""One compressed answer: what was said, what it cost, what was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wildsight.backbones.vlm import LoadedModel
from wildsight.compression.cache import RaggedCache
from wildsight.compression.compressor import compress
from wildsight.compression.config import UNCOMPRESSED, CompressionConfig
from wildsight.compression.evaluation.cost import Shape, prefill_limit, vision_flops
from wildsight.compression.evaluation.figures import kept_patches, summary_figure
from wildsight.compression.evaluation.timing import measure
from wildsight.errors import ConfigError
from wildsight.images import load_image
from wildsight.results import Result


@dataclass(frozen=True)
class CompressedAnswer(Result):
    """What `answer` gives.

    Attributes:
        image: the picture's file.
        question: as it was asked.
        answer: of the compressed model.
        full_answer: of the untouched model.
        visual_tokens: tokens of the picture that were read, and how many there were.
        kept: indices of the patches that were kept; empty where all were.
        grid: rows and columns of the patches; None where they form no grid.
        layers: tokens in the cache of each layer after the prompt; empty where it was not compressed.
        cache_tokens: tokens of an uncompressed layer after the prompt.
        cost: milliseconds and bytes of the full and of the compressed run, and the physical limit.
        saliency: where the selector's saliency came from.
    """

    image: Path
    question: str
    answer: str
    full_answer: str
    visual_tokens: tuple[int, int]
    kept: tuple[int, ...]
    grid: tuple[int, int] | None
    layers: tuple[int, ...]
    cache_tokens: int
    cost: Mapping[str, float] = field(default_factory=dict)
    saliency: str = ""

    def figure(self) -> Any:
        """Which patches were kept, and how the cache was shared out over the layers."""
        shown = []
        if self.grid is not None:
            keep = self.kept or tuple(range(self.grid[0] * self.grid[1]))
            title = f"{self.visual_tokens[0]} of {self.visual_tokens[1]} tokens"
            shown.append((kept_patches(load_image(self.image), self.grid, keep), title))
        if not shown and not self.layers:
            raise ConfigError("nothing to draw: the tokens form no grid, and the cache is whole")
        return summary_figure(shown, self.layers or None, self.cache_tokens)


@torch.no_grad()
def answer(
    loaded: LoadedModel,
    image: str | Path,
    question: str,
    *,
    max_new_tokens: int = 64,
    repeats: int = 3,
    **options: Any,
) -> CompressedAnswer:
    """Ask one question with and without compression.

    Args:
        loaded: the model.
        image: a picture's file.
        question: what to ask.
        max_new_tokens: longest answer.
        repeats: timed runs of each; 0 leaves the cost out.
        options: of `compress`.

    Raises:
        WildSightError: a picture that cannot be read, or whatever `compress` refuses.
    """
    inputs = loaded.inputs([load_image(image)], [question])
    length = inputs["input_ids"].shape[1]
    how = {"max_new_tokens": max_new_tokens, "do_sample": False}
    full = loaded.model.generate(**inputs, **how)
    with compress(loaded.model, **options) as handle:
        out = loaded.model.generate(**inputs, **how, return_dict_in_generate=True)
        pruned, settings = handle.pruned, handle.settings
    prompt = length if pruned is None else int(pruned.ids.shape[1])
    cache = out.past_key_values
    layers: tuple[int, ...] = ()
    if settings is not None and isinstance(cache, RaggedCache):
        layers = tuple(n for (n,) in cache.tokens)
    total = cache.get_seq_length()
    cost = _cost(loaded, inputs, handle.config, prompt, repeats) if repeats else {}
    chosen = [] if pruned is None else [s.keep.tolist() for s in pruned.selections]
    whole = None if pruned is None else pruned.pictures[0]
    single = len(chosen) == 1  # a model may read the tiles of one picture as pictures of their own
    before = int((inputs["input_ids"] == loaded.model.config.image_token_id).sum())
    kept = tuple(chosen[0]) if single else ()
    return CompressedAnswer(
        image=Path(image),
        question=question,
        answer=loaded.text(out.sequences[0, length:]),
        full_answer=loaded.text(full[0, length:]),
        visual_tokens=(sum(map(len, chosen)) if chosen else before, before),
        kept=kept,
        grid=None if whole is None or not single else whole.grid,
        layers=layers,
        cache_tokens=total,
        cost=cost,
        saliency="" if whole is None else whole.view.rule,
    )


def _cost(
    loaded: LoadedModel, inputs: Mapping[str, Any], config: CompressionConfig, prompt: int, repeats: int
) -> dict[str, float]:
    base, own = measure(loaded.model, inputs, [UNCOMPRESSED, config], tokens=8, repeats=repeats)
    names = ("first_token_ms", "token_ms", "selection_ms")
    shape = Shape.of(loaded.model.config)
    limit = prefill_limit(shape, int(inputs["input_ids"].shape[1]), prompt, vision_flops(loaded.model.config))
    return {
        **{f"full {name}": base.median(name) for name in names[:2]},
        **{name: own.median(name) for name in names},
        "full cache_bytes": float(base.cache_bytes),
        "cache_bytes": float(own.cache_bytes),
        "first_token_limit": limit,
    }
