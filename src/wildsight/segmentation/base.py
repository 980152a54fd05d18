"""The Segment Anything family under one small interface: encode, prompt, decode. Nothing is patched.

Everything that differs between the classes of `transformers` stands here and nowhere else.

| class | embedding | beside it |
|---|---|---|
| `SamModel` | [B, C, h, w] | nothing |
| `SamHQModel` | [B, C, h, w] | the first global layer's tokens |
| `Sam2Model`, `EdgeTamModel`, `Sam3TrackerModel` | [B, C, h, w] with the no-memory token | strides 4 and 8 |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from wildsight.backbones import Backbone, load_backbone
from wildsight.errors import UnsupportedModelError
from wildsight.files import digest_of
from wildsight.segmentation.geometry import frame, mirror, place

PLAIN = ("SamModel",)
HQ = ("SamHQModel",)
PYRAMID = ("Sam2Model", "EdgeTamModel", "Sam3TrackerModel")
CLASSES = PLAIN + HQ + PYRAMID
ATTENTIONS = {
    "self": "self_attn",
    "t2i": "cross_attn_token_to_image",
    "i2t": "cross_attn_image_to_token",
}


@dataclass(frozen=True)
class Embedding:
    """What the encoder says of a batch.

    Attributes:
        image: [B, C, h, w] tokens that the decoder reads.
        extra: further maps [B, ...] that this class's decoder needs.
    """

    image: Tensor
    extra: tuple[Tensor, ...] = ()

    def take(self, rows: Tensor | slice) -> Embedding:
        """The embedding of some pictures."""
        return Embedding(self.image[rows], tuple(e[rows] for e in self.extra))

    def repeat(self, count: int) -> Embedding:
        """Each picture ``count`` times in a row."""
        extra = tuple(e.repeat_interleave(count, 0) for e in self.extra)
        return Embedding(self.image.repeat_interleave(count, 0), extra)

    def flat(self) -> Tensor:
        """[B, D]: everything in one row per picture, for the cache."""
        return torch.cat([self.image.flatten(1), *(e.flatten(1) for e in self.extra)], dim=1)


class Pictures(Backbone):
    """A base's preprocessing with a geometry: the form that the feature cache asks for."""

    def __init__(self, base: SamBase, geometry: str, *, flip: bool = False) -> None:
        inner = base.backbone
        super().__init__(inner.model, inner.name, inner.sha, inner.mean, inner.std, precision="fp32")
        self.base, self.geometry, self.flip = base, geometry, flip

    def preprocess(self, images: Sequence[Image], size: int | tuple[int, int]) -> Tensor:
        """RGB pictures to [B, 3, S, S], placed and normalised; mirrored when ``flip``."""
        side = size if isinstance(size, int) else size[0]
        squares = [place(im, frame(*im.size, side, self.geometry)) for im in images]
        inner = [frame(*im.size, side, self.geometry).inner for im in images]
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
        pixels = self.base.normalise(pixels, inner)
        return (
            torch.stack([mirror(p, w) for p, (w, _) in zip(pixels, inner, strict=True)])
            if self.flip
            else pixels
        )


class SamBase:
    """A frozen SAM of any class in `CLASSES`.

    Attributes:
        model: the `transformers` model, in evaluation mode, no gradient; never altered.
        image_size: side of the input square, pixels.
        grid: (rows, columns) of the embedding.
        channels: of the embedding and the prompts.

    Raises:
        UnsupportedModelError: a network that has no promptable mask decoder.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.model = backbone, backbone.model
        self.kind = type(self.model).__name__
        if self.kind not in CLASSES:
            raise UnsupportedModelError(
                f"is a {self.kind}, which takes no boxes or points",
                where=backbone.name,
                hint=f"name one of the classes {', '.join(CLASSES)}",
            )
        prompts = self.model.prompt_encoder
        self.image_size = int(prompts.input_image_size)
        self.grid: tuple[int, int] = tuple(prompts.image_embedding_size)
        self.channels = int(prompts.hidden_size)

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self.backbone.name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def decoder(self) -> Any:
        """The mask decoder."""
        return self.model.mask_decoder

    @property
    def mask_size(self) -> tuple[int, int]:
        """(h, w) of the logits, four times the grid."""
        return self.grid[0] * 4, self.grid[1] * 4

    @property
    def config_sha(self) -> str:
        """SHA-256 of what decides whether an adapter's tensors fit."""
        weights = {k: list(v.shape) for k, v in self.model.state_dict().items()}
        return digest_of([self.kind, self.image_size, weights])

    def normalise(self, pixels: Tensor, inner: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """[B, 3, S, S] uint8 to the model's scale.

        Args:
            pixels: pictures in their squares.
            inner: (width, height) of each picture in its square; what lies outside becomes 0, as SAM's
                own processor has it. None where the squares are full.
        """
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.backbone.mean, self.backbone.std))
        scaled = (pixels.float() / 255.0 - mean.to(pixels.device)) / std.to(pixels.device)
        for row, (width, height) in enumerate(inner or ()):
            scaled[row, :, height:] = 0.0
            scaled[row, :, :, width:] = 0.0
        return scaled.to(self.device)

    def encode(self, pixels: Tensor) -> Embedding:
        """[B, 3, S, S], normalised, to an embedding; gradients flow where hooks bring parameters in."""
        if self.kind in PYRAMID:
            return self._encode_pyramid(pixels)
        output = self.model.vision_encoder(pixels)
        extra = (output.intermediate_embeddings[0],) if self.kind in HQ else ()
        return Embedding(output.last_hidden_state, extra)

    def _encode_pyramid(self, pixels: Tensor) -> Embedding:
        maps = list(self.model.get_image_features(pixels, return_dict=True).fpn_hidden_states)
        maps[-1] = maps[-1] + self.model.no_memory_embedding
        count, sizes = pixels.shape[0], self.model.backbone_feature_sizes
        # A neck may give one level more than the decoder reads; the stock models leave it out here, too.
        pairs = zip(maps, sizes, strict=False)
        shaped = [m.permute(1, 2, 0).reshape(count, -1, *size) for m, size in pairs]
        return Embedding(shaped[-1], tuple(shaped[:-1]))

    def unflatten(self, rows: Tensor) -> Embedding:
        """The embedding that `Embedding.flat` wrote, [B, D]."""
        shapes = self._shapes()
        parts = rows.split([int(np.prod(s)) for s in shapes], dim=1)
        image, *extra = (p.reshape(-1, *s) for p, s in zip(parts, shapes, strict=True))
        return Embedding(image, tuple(extra))

    def _shapes(self) -> list[tuple[int, ...]]:
        """Shapes of an embedding's parts, without the batch."""
        image = (self.channels, *self.grid)
        if self.kind in HQ:
            return [image, (*self.grid, self.model.config.vision_config.hidden_size)]
        if self.kind not in PYRAMID:
            return [image]
        sizes = self.model.backbone_feature_sizes[:-1]
        return [image, *((self.channels // (8 >> i), *s) for i, s in enumerate(sizes))]

    def prompt(
        self, boxes: Tensor | None = None, points: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Sparse prompt tokens [B, P, n, C].

        Args:
            boxes: [B, P, 4] (x1, y1, x2, y2), pixels of the square.
            points: [B, P, k, 2] (x, y), pixels of the square.
            labels: [B, P, k]: 1 on the thing, 0 beside it, -1 no point.
        """
        given = {"input_points": points, "input_labels": labels, "input_boxes": boxes}
        sparse: Tensor = self.model.prompt_encoder(input_masks=None, **given)[0]
        return sparse

    def no_mask(self, count: int) -> Tensor:
        """The dense prompt that says "no mask yet": [count, C, h, w]."""
        weight: Tensor = self.model.prompt_encoder.no_mask_embed.weight
        return weight.reshape(1, -1, 1, 1).expand(count, -1, *self.grid)

    def mask_prompt(self, logits: Tensor) -> Tensor:
        """[M, 1, 4h, 4w] logits as a dense prompt [M, C, h, w]."""
        dense: Tensor = self.model.prompt_encoder.mask_embed(logits)
        return dense

    def decode(self, decoder: Any, embedding: Embedding, sparse: Tensor, dense: Tensor) -> Tensor:
        """Single-mask logits [B, P, 4h, 4w].

        Args:
            decoder: this base's decoder or a copy of it.
            embedding: of B pictures.
            sparse: [B, P, n, C].
            dense: [B, C, h, w], shared by the P prompts of a picture.
        """
        more: dict[str, Any] = {}
        if self.kind in PYRAMID:
            more["high_resolution_features"] = list(embedding.extra)
        if self.kind in HQ:
            more |= {"hq_token_only": False, "intermediate_embeddings": list(embedding.extra)}
        position = self.model.get_image_wide_positional_embeddings()
        with _single_token(decoder):
            masks: Tensor = decoder(
                image_embeddings=embedding.image,
                image_positional_embeddings=position.repeat(embedding.image.shape[0], 1, 1, 1),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
                **more,
            )[0]
        return masks[:, :, 0]

    def encoder_layers(self) -> list[nn.Module]:
        """The encoder's transformer blocks, in order."""
        encoder = self.model.vision_encoder
        for owner in (encoder, getattr(encoder, "backbone", None)):
            for name in ("layers", "blocks"):
                if owner is not None and hasattr(owner, name):
                    return list(getattr(owner, name))
        raise UnsupportedModelError("has an encoder without blocks", where=self.name, hint="use SamModel")


@contextlib.contextmanager
def _single_token(decoder: Any) -> Iterator[None]:
    """SAM 2 swaps in a multi-mask token when its single mask is unstable: not in here."""
    before = getattr(decoder, "dynamic_multimask_via_stability", None)
    if before is None:
        yield
        return
    decoder.dynamic_multimask_via_stability = False
    try:
        yield
    finally:
        decoder.dynamic_multimask_via_stability = before


def load_base(name: str | Path | Backbone, *, device: str | int | torch.device | None = "auto") -> SamBase:
    """A base by name: ``nano-sam``, a local folder, or a hub id.

    Raises:
        ConfigError: nothing of that name.
        CheckpointError: weights missing or damaged.
        UnsupportedModelError: not of the SAM family.
    """
    return SamBase(name if isinstance(name, Backbone) else load_backbone(name, device=device))
