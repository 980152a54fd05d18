"""From pictures to one frozen vector each, cached on disk, and from words to text features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wildsight.backbones import Backbone
from wildsight.backbones.cache import CachedFeatures, cached_embeddings
from wildsight.composition.prompts import as_words
from wildsight.datasets.compositions import Pair
from wildsight.errors import UnsupportedModelError
from wildsight.images import from_array

WORD_WIDTH = 128
"""Width of word vectors that are learned from nothing, where the backbone has no text tower."""
BATCH = 256


@dataclass(frozen=True)
class Templates:
    """How labels become prompts; ``{a}`` is the attribute, ``{o}`` the object.

    Attributes:
        attribute: for an attribute alone.
        object: for an object alone.
        pair: for both.
    """

    attribute: str = "a photo of a {a} object"
    object: str = "a photo of a {o}"
    pair: str = "a photo of a {a} {o}"


def own_size(backbone: Backbone) -> int:
    """The side of the pictures that a backbone was trained on, pixels; 224 where it does not say."""
    config: Any = getattr(backbone.model, "config", None)
    config = getattr(config, "vision_config", config)
    size = getattr(config, "image_size", None)
    return size if isinstance(size, int) and size > 0 else 224


def embed(backbone: Backbone, shared: bool, pixels: Tensor) -> Tensor:
    """[B, D]: the embedding shared with texts (``shared``), or the global feature of the network."""
    if shared:
        return backbone.embed_images(pixels)
    feature = backbone.features(pixels).cls
    if feature is None:
        raise UnsupportedModelError("has no global feature", where=backbone.name, hint="use another backbone")
    return feature


def features_of_files(
    backbone: Backbone,
    shared: bool,
    files: Sequence[Path],
    size: int,
    progress: Callable[[int], Any] | None = None,
) -> CachedFeatures:
    """[N, D] float32 of files, each decoded once and cached; ``shared`` as in `embed`."""
    kind = {"embed": "shared" if shared else "global"}
    return cached_embeddings(backbone, files, size, partial(embed, backbone, shared), kind, progress=progress)


def features_of_images(backbone: Backbone, shared: bool, images: Sequence[Any], size: int) -> Tensor:
    """[B, D] of PIL pictures, without a cache; ``shared`` as in `embed`."""
    return embed(backbone, shared, backbone.preprocess(images, size)).cpu()


def feature_width(backbone: Backbone, shared: bool, size: int) -> int:
    """D, seen on a blank picture."""
    blank = from_array(np.zeros((size, size, 3), np.uint8))
    return int(features_of_images(backbone, shared, [blank], size).shape[1])


class TextSide:
    """Unit text features of words and pairs, computed once each.

    Args:
        backbone: with a text tower.
        templates: the prompts.
    """

    def __init__(self, backbone: Backbone, templates: Templates) -> None:
        self.backbone, self.templates = backbone, templates
        self._known: dict[str, Tensor] = {}

    def attributes(self, names: Sequence[str]) -> Tensor:
        """[n, D]."""
        return self._of([self.templates.attribute.format(a=as_words(n)) for n in names])

    def objects(self, names: Sequence[str]) -> Tensor:
        """[n, D]."""
        return self._of([self.templates.object.format(o=as_words(n)) for n in names])

    def pairs(self, pairs: Sequence[Pair]) -> Tensor:
        """[P, D]."""
        return self._of([self.templates.pair.format(a=as_words(a), o=as_words(o)) for a, o in pairs])

    def tells_apart(self, attributes: Sequence[str], objects: Sequence[str]) -> bool:
        """No two words have one feature, as two words that are both unknown to the tokenizer have."""
        for rows in (self.attributes(attributes), self.objects(objects)):
            cosine = (rows @ rows.T).fill_diagonal_(0.0)
            if float(cosine.max()) > 1 - 1e-5:
                return False
        return True

    def _of(self, texts: list[str]) -> Tensor:
        new = [t for t in dict.fromkeys(texts) if t not in self._known]
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            rows = F.normalize(self.backbone.embed_texts(part).float().cpu(), dim=-1)
            self._known.update(zip(part, rows, strict=True))
        return torch.stack([self._known[t] for t in texts])


def learned_words(names: Sequence[str], seed: int) -> Tensor:
    """Random unit vectors [n, WORD_WIDTH] that stand for words until training gives them a meaning."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(len(names), WORD_WIDTH, generator=generator), dim=-1)
