"""Reading a prompt with fewer visual tokens, a smaller cache, or both: the set-up that all callers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from wildsight.compression.attention import ragged_attention
from wildsight.compression.cache import RaggedCache, build_cache
from wildsight.compression.config import CompressionConfig
from wildsight.compression.families import Picture
from wildsight.compression.methods.visual.base import CacheMaker, VisualSelector
from wildsight.compression.prune import Pruned, prune_visual_tokens
from wildsight.errors import ConfigError


class Reader:
    """A model under a `CompressionConfig`; made by `reading`.

    Attributes:
        model: the model.
        config: what is compressed.
    """

    def __init__(self, model: Any, config: CompressionConfig, inside: CacheMaker | None) -> None:
        self.model, self.config, self._inside = model, config, inside

    def prune(self, inputs: Mapping[str, Any], pictures: Sequence[Picture] | None = None) -> Pruned:
        """Shorten a batch of prompts; where tokens are dropped inside the model, all of them are kept here.

        Args:
            inputs: of the model's processor.
            pictures: encoded before; then ``inputs`` needs no pixels.
        """
        keep, chooser = self.config.visual_tokens, self.config.visual
        selects = isinstance(chooser, VisualSelector)
        return prune_visual_tokens(
            self.model,
            inputs,
            keep if selects and keep is not None else 1.0,
            chooser if isinstance(chooser, VisualSelector) else "grid",
            positions=self.config.positions if selects else "compact",
            seed=self.config.seed,
            encoded_pictures=pictures,
        )

    def new_cache(self, prompt_len: int | None = None) -> RaggedCache:
        """An empty cache for a prompt of ``prompt_len`` columns.

        Raises:
            ConfigError: the cache is not compressed.
        """
        if self.config.cache is None:
            raise ConfigError("the cache is not compressed", hint="give kv_cache to compress()")
        return build_cache(self.model, self.config.cache, prompt_len)

    def cache_for(self, call: Mapping[str, Any]) -> Any:
        """The cache that a call's prompt is read into; None leaves the stock one."""
        if self._inside is not None:
            return self._inside(call)
        return None if self.config.cache is None else self.new_cache(int(call["input_ids"].shape[1]))

    def prompt(
        self, inputs: Mapping[str, Any], pictures: Sequence[Picture] | None = None
    ) -> tuple[dict[str, Any], Any]:
        """What a call of ``forward`` reads a prompt with: its inputs, and its cache."""
        call = self.prune(inputs, pictures).inputs()
        return call, self.cache_for(call)


@contextmanager
def reading(model: Any, config: CompressionConfig) -> Iterator[Reader]:
    """Set a model up to read prompts under ``config``; at the end of the block it is as it was.

    Raises:
        BudgetError: layer sizes of another model.
        UnsupportedModelError: a model that cannot be compressed so.
    """
    if config.cache is not None:
        build_cache(model, config.cache)
    with ExitStack() as stack:
        inside = None
        if config.visual_tokens is not None:
            inside = stack.enter_context(config.visual.inside(model, config.visual_tokens))
        if config.cache is not None:
            stack.enter_context(ragged_attention(model))
        yield Reader(model, config, inside)
