"""From pictures to unit embeddings: a frozen tower, then the encoder that was trained on its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import nn

from wildsight.backbones import Backbone
from wildsight.errors import ImageError, WildSightError
from wildsight.estimators.streaming import batches
from wildsight.files import digest_of
from wildsight.images import Picture, as_picture, load_image
from wildsight.retrieval.data import PHOTO, SKETCH
from wildsight.retrieval.features import features_of_pictures


@dataclass(frozen=True)
class Embedding:
    """A tower and an encoder.

    Attributes:
        backbone: the frozen tower.
        encoder: (features [N, D], modality [N]) -> unit embeddings [N, width], in evaluation mode.
        size: side of the square that pictures are resized to, pixels.
        device: where the encoder is.
    """

    backbone: Backbone
    encoder: nn.Module
    size: int
    device: torch.device

    @torch.no_grad()
    def of_features(self, features: np.ndarray, modality: int) -> np.ndarray:
        """[N, width] of tower features [N, D] of one modality."""
        values = torch.from_numpy(np.asarray(features, np.float32)).to(self.device)
        kinds = torch.full((len(values),), modality, dtype=torch.long, device=self.device)
        embedded: np.ndarray = self.encoder(values, kinds).cpu().numpy().astype(np.float32)
        return embedded

    def of_pictures(self, pictures: Sequence[Picture], modality: int) -> np.ndarray:
        """[N, width] of sketches or photos.

        Raises:
            ImageError: a picture cannot be read, or a sketch has no strokes.
        """
        decoded = [as_picture(p) for p in pictures]
        features = features_of_pictures(self.backbone, decoded, modality, size=self.size)
        return self.of_features(features, modality)

    def of_sketches(self, decoded: Sequence[Image], given: Sequence[Picture], together: int) -> np.ndarray:
        """[N, width] of decoded sketches, some ``together``; a fault of one by itself names its file.

        Raises:
            ImageError: a sketch has no strokes. ConfigError: ``together`` below 1.
        """
        parts: list[np.ndarray] = []
        for numbers in batches(range(len(decoded)), together):
            try:
                parts.append(self.of_pictures([decoded[i] for i in numbers], SKETCH))
            except ImageError as error:
                place = given[numbers[0]] if len(numbers) == 1 else None
                raise (error.at(place) if isinstance(place, str | Path) else error) from error
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)

    def of_sketch(self, given: Picture, decoded: Image) -> np.ndarray | WildSightError:
        """[1, width] of a sketch by itself, or why it has none."""
        try:
            return self.of_sketches([decoded], [given], 1)
        except WildSightError as error:
            return error

    def of_files(self, files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, list[WildSightError]]:
        """[n, width] of the readable photos, whether each is one, and the faults."""
        pictures, ok, errors = [], [], []
        for file in files:
            try:
                pictures.append(load_image(file))
                ok.append(True)
            except WildSightError as error:
                errors.append(error)
                ok.append(False)
        vectors = self.of_pictures(pictures, PHOTO) if pictures else np.zeros((0, 1), np.float32)
        return vectors, np.array(ok), errors

    @property
    def maker(self) -> str:
        """Identity of the weights; an index remembers it."""
        weights = [w.cpu().double().sum().item() for w in self.encoder.state_dict().values()]
        return digest_of([self.backbone.sha, self.size, weights])[:32]

    @property
    def width(self) -> int:
        """Width of the embeddings."""
        return int(self.of_pictures([np.zeros((32, 32, 3), np.uint8)], PHOTO).shape[1])
