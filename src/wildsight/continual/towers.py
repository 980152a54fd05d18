"""The two towers of a CLIP, with a word list that can grow.

Paper: 2411.06764 builds on CLIP; this is the model that every method of the task trains.

Difference: 1. a word-level tokenizer reads each word it lacks as one and the same unknown token. Such
words get a row of their own in the token table, drawn from the word's own letters, so that class names
stay apart and can be learned; ``grow=False`` undoes it. Byte-level tokenizers (all published CLIPs) lack
no word.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor, nn
from torch.nn import functional

from wildsight.backbones import Backbone
from wildsight.backbones.tokens import pooled
from wildsight.errors import CheckpointError, DataError, UnsupportedModelError

CROPPED = "crop"


class Towers(nn.Module):
    """A CLIP with its tokenizer and preprocessing.

    Attributes:
        clip: the `transformers` model, trainable but for ``logit_scale``.
        words: words that the tokenizer lacks and that have a row of their own, in order of arrival.
    """

    def __init__(self, backbone: Backbone, size: int = 0, resize: str = CROPPED, grow: bool = True) -> None:
        super().__init__()
        config: Any = getattr(backbone.model, "config", None)
        if getattr(config, "model_type", "") != "clip":
            raise UnsupportedModelError("is no CLIP", where=backbone.name, hint="use nano-clip or a CLIP")
        if backbone.name.startswith("openai/") and config.vision_config.hidden_act != "quick_gelu":
            raise CheckpointError("OpenAI weights need QuickGELU", where=backbone.name, hint="restore it")
        self.clip: Any = copy.deepcopy(backbone.model).requires_grad_(True)
        self.clip.logit_scale.requires_grad_(False)
        self.tokenizer = _tokenizer(backbone)
        self.mean, self.std = backbone.mean, backbone.std
        self.native = int(config.vision_config.image_size)
        self.size, self.resize, self.grows = size or self.native, resize, grow
        self.words: list[str] = []
        self.base_rows = int(self.clip.text_model.get_input_embeddings().num_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.clip.parameters()).device

    @property
    def scale(self) -> float:
        """``exp(logit_scale)``, never trained."""
        return float(self.clip.logit_scale.exp())

    def copied(self) -> Self:
        """A copy whose weights are its own and whose tokenizer is shared."""
        tokenizer, self.tokenizer = self.tokenizer, None
        try:
            twin = copy.deepcopy(self)
        finally:
            self.tokenizer = tokenizer
        twin.tokenizer = tokenizer
        return twin

    def unknown(self, texts: Sequence[str]) -> list[str]:
        """Words of ``texts`` that neither the tokenizer nor ``words`` holds, in order."""
        found = [w for _, _, w in self._strange(self._tokens(texts), texts)]
        return [w for w in dict.fromkeys(found) if w not in self.words]

    def grow(self, words: Sequence[str]) -> None:
        """Give ``words`` rows of their own: the mean row plus noise that the word's letters seed."""
        new = [w for w in dict.fromkeys(words) if w not in self.words] if self.grows else []
        if not new:
            return
        rows = self.clip.text_model.get_input_embeddings().weight.detach()
        made = torch.stack([_row(w, rows[: self.base_rows]) for w in new]).to(rows)
        self._table(torch.cat([rows, made]))
        self.words += new

    def renew(self, words: Sequence[str]) -> None:
        """Make the token table that of ``words`` alone, for weights that are loaded next."""
        self._table(self.clip.text_model.get_input_embeddings().weight.detach()[: self.base_rows])
        self.words = []
        self.grow(words)

    def _table(self, rows: Tensor) -> None:
        """Take ``rows`` as the token table."""
        old = self.clip.text_model.get_input_embeddings()
        table = nn.Embedding(len(rows), rows.shape[1], device=rows.device)
        table.weight = nn.Parameter(rows.clone(), requires_grad=old.weight.requires_grad)
        self.clip.text_model.set_input_embeddings(table)
        self.clip.config.text_config.vocab_size = table.num_embeddings

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids [K, L], padded to the longest."""
        encoded = self._tokens(texts)
        ids = torch.tensor(encoded["input_ids"])
        for row, column, word in self._strange(encoded, texts):
            if word in self.words:
                ids[row, column] = self.base_rows + self.words.index(word)
        return ids

    def _tokens(self, texts: Sequence[str]) -> Any:
        limit = self.clip.config.text_config.max_position_embeddings
        return self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=limit, return_offsets_mapping=True
        )

    def _strange(self, encoded: Any, texts: Sequence[str]) -> list[tuple[int, int, str]]:
        """(row, column, word) of each token that the tokenizer lacks."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None or unknown in (self.tokenizer.eos_token_id, self.tokenizer.pad_token_id):
            return []
        return [
            (row, column, texts[row][slice(*encoded["offset_mapping"][row][column])].lower())
            for row, ids in enumerate(encoded["input_ids"])
            for column, token in enumerate(ids)
            if token == unknown
        ]

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, S, S] to unit rows [B, D]."""
        stretched, pixels = pixels.shape[-1] != self.native, pixels.to(self.device)
        output = self.clip.get_image_features(pixel_values=pixels, interpolate_pos_encoding=stretched)
        return functional.normalize(pooled(output), dim=-1)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids [K, L] to unit rows [K, D]."""
        output = self.clip.get_text_features(input_ids=tokens.to(self.device))
        return functional.normalize(pooled(output), dim=-1)

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Both towers at once: unit rows [B, D] and [K, D]."""
        return self.encode_images(pixels), self.encode_tokens(tokens)

    @torch.no_grad()
    def encode_prompts(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Class embeddings [K, D]: the mean over templates, renormalised.

        Raises:
            DataError: two classes read the same to this tokenizer.
        """
        rows: Tensor | float = 0.0
        for template in templates:
            tokens = self.tokens([template.format(c) for c in names])
            self._distinct(tokens, names)
            rows = rows + self.encode_tokens(tokens)
        return functional.normalize(torch.as_tensor(rows), dim=-1)

    def _distinct(self, tokens: Tensor, names: Sequence[str]) -> None:
        first: dict[tuple[int, ...], str] = {}
        for name, row in zip(names, tokens.tolist(), strict=True):
            other = first.setdefault(tuple(row), name)
            if other != name and self.grows:
                raise DataError(
                    f"classes {other!r} and {name!r} read the same", hint="use names that differ in words"
                )

    def pixels(self, picture: Image) -> np.ndarray:
        """The test view: uint8 [S, S, 3]."""
        side = self.size
        if self.resize == CROPPED:
            width, height = picture.size
            scale = side / min(width, height)
            wide, high = max(side, round(width * scale)), max(side, round(height * scale))
            picture = picture.resize((wide, high), Resampling.BICUBIC)
            left, top = (wide - side) // 2, (high - side) // 2
            return np.asarray(picture.crop((left, top, left + side, top + side)))
        return np.asarray(picture.resize((side, side), Resampling.BICUBIC))

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] to normalised float [B, 3, S, S]."""
        values = pixels.permute(0, 3, 1, 2).float().div(255.0)
        mean, std = (values.new_tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (values - mean) / std

    @torch.no_grad()
    def embed(self, pixels: Tensor, batch: int = 128) -> Tensor:
        """Unit rows [N, D] of uint8 pixels [N, S, S, 3], without gradient, in evaluation mode."""
        was, device = self.training, self.device
        self.eval()
        parts = [self.encode_images(self.normalised(p.to(device))) for p in pixels.split(batch)]
        self.train(was)
        return torch.cat(parts).cpu()


def _tokenizer(backbone: Backbone) -> Any:
    from transformers import AutoTokenizer

    where = Path(backbone.folder or backbone.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception as error:
        raise UnsupportedModelError(f"has no readable tokenizer ({error})", where=where) from error
    if not tokenizer.is_fast:
        raise UnsupportedModelError("has no tokenizer.json", where=where, hint="add it")
    return tokenizer


def _row(word: str, rows: Tensor) -> Tensor:
    """A new word's row: as far from the mean row as the others are, direction seeded by the word."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:7], "big")
    noise = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(seed))
    return rows.mean(0) + noise.to(rows) * rows.std(0)
