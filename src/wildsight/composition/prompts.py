"""Prompts with learned words: a text tower run on word vectors in place of words, without changing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wildsight.backbones import Backbone
from wildsight.backbones.tokens import pooled
from wildsight.errors import UnsupportedModelError

PREFIX = "a photo of"


def as_words(name: str) -> str:
    """A label as a prompt says it.

    >>> as_words("Faux.Fur"), as_words("art_painting")
    ('faux fur', 'art painting')
    """
    return " ".join(name.replace(".", " ").replace("_", " ").replace("-", " ").lower().split())


class PromptTower:
    """The text tower of a CLIP or SigLIP backbone, fed with ``a photo of [attribute] [object]``.

    Args:
        backbone: with texts and pictures in one space.

    Raises:
        UnsupportedModelError: no text tower, or one without a table of token vectors.
    """

    def __init__(self, backbone: Backbone) -> None:
        text = getattr(backbone.model, "text_model", None)
        table = getattr(getattr(text, "embeddings", None), "token_embedding", None)
        if not isinstance(table, nn.Embedding):
            raise UnsupportedModelError("has no table of token vectors", where=backbone.name, hint="use CLIP")
        self.backbone, self.table = backbone, table
        self.model: Any = backbone.model
        self.tokenizer: Any = backbone._tokenizer
        prefix = self._ids(PREFIX)
        whole = self.tokenizer([PREFIX], return_tensors="pt")["input_ids"][0].tolist()
        at = next(i for i in range(len(whole)) if whole[i : i + len(prefix)] == prefix)
        before, after = whole[: at + len(prefix)], whole[at + len(prefix) :]
        self.places = len(before), len(before) + 1
        self.ids = torch.tensor([*before, prefix[-1], prefix[-1], *after])

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def words(self, names: Sequence[str]) -> Tensor:
        """Token vectors [n, W] of words; several tokens are averaged."""
        rows = [self.table.weight[self._ids(as_words(n)) or [0]].mean(0) for n in names]
        return torch.stack(rows).detach().clone().cpu()

    def __call__(self, attributes: Tensor, objects: Tensor) -> Tensor:
        """Unit text features [P, D] of word vectors [P, W] each, on their device; gradients reach them."""
        home, device = attributes.device, self.backbone.device
        attributes, objects = attributes.to(device), objects.to(device)
        ids = self.ids.to(device).expand(len(attributes), -1)
        length = int(self.model.config.text_config.max_position_embeddings)
        with self._replaced(attributes, objects):
            output = self.model.get_text_features(input_ids=ids[:, :length])
        return F.normalize(pooled(output), dim=-1).to(home)

    @contextmanager
    def _replaced(self, attributes: Tensor, objects: Tensor) -> Iterator[None]:
        """Put the vectors in the places of the two words while the tower runs."""
        first, second = self.places

        def swap(_: nn.Module, __: Any, vectors: Tensor) -> Tensor:
            vectors = vectors.clone()
            vectors[:, first], vectors[:, second] = attributes, objects
            return vectors

        hook = self.table.register_forward_hook(swap)
        try:
            yield
        finally:
            hook.remove()
