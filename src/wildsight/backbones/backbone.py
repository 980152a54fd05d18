"""A frozen network with its own preprocessing, tapped by stride."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor, nn

from wildsight.errors import ConfigError, UnsupportedModelError, WildSightError
from wildsight.files import digest_of, read_json, sha256, verify_manifest

NANO = Path(__file__).parent / "nano"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Features:
    """What a backbone says of a batch.

    Attributes:
        cls: [B, D] global feature, or None.
        patches: [B, N, D] tokens in raster order.
        grid: (rows, columns) with rows * columns = N.
    """

    cls: Tensor | None
    patches: Tensor
    grid: tuple[int, int]


class Backbone:
    """A frozen `transformers` or timm model in evaluation mode.

    Attributes:
        name: as it was asked for.
        sha: SHA-256 over configuration and weights.
        mean, std: normalisation that belongs to the weights, on the scale 0-1.
    """

    def __init__(
        self, model: nn.Module, name: str, sha: str, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name, self.sha = name, sha
        self.mean, self.std = tuple(mean), tuple(std)

    def preprocess(self, images: Sequence[Image], size: int | tuple[int, int]) -> Tensor:
        """RGB pictures to [B, 3, H, W], normalised; stretched to ``size`` (side, or (H, W)), bilinear."""
        height, width = (size, size) if isinstance(size, int) else size
        arrays = [np.asarray(im.resize((width, height), Resampling.BILINEAR), np.float32) for im in images]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 255.0
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (pixels - mean) / std

    @torch.no_grad()
    def pyramid(self, pixels: Tensor, strides: Sequence[int] = (2, 4, 8, 16)) -> dict[int, Tensor]:
        """The last feature map of each stride.

        Args:
            pixels: [B, 3, H, W] from `preprocess`.
            strides: wanted strides, in pixels per token.

        Returns:
            stride -> [B, C, ceil(H/stride), ceil(W/stride)].

        Raises:
            ConfigError: a stride that this network does not have.
        """
        found: dict[int, Tensor] = {}
        for feature in self._maps(pixels, max(strides)):
            stride = 2 ** round(math.log2(pixels.shape[-1] / feature.shape[-1]))
            found[stride] = feature
        missing = [s for s in strides if s not in found]
        if missing:
            raise ConfigError(
                f"{self.name} has no feature map at stride {missing[0]}",
                mend=f"choose strides from {', '.join(map(str, sorted(found)))}",
            )
        return {s: found[s] for s in strides}

    def _maps(self, pixels: Tensor, deepest: int) -> list[Tensor]:
        """Hidden maps [B, C, h, w], shallow to deep, at least down to stride ``deepest``."""
        if hasattr(self.model, "conv_stem") and hasattr(self.model, "layer"):
            return self._block_maps(self.model.conv_stem(pixels), list(self.model.layer), pixels, deepest)
        if not hasattr(self.model, "config"):
            return list(self.model(pixels))
        output = self.model(pixel_values=pixels, output_hidden_states=True)
        hidden = getattr(output, "reshaped_hidden_states", None) or output.hidden_states
        maps = [_as_map(h, pixels) for h in hidden]
        stem = self._stem_map(pixels)
        return maps if stem is None else [stem, *maps]

    def _stem_map(self, pixels: Tensor) -> Tensor | None:
        """ResNet's map before its pooling, the only one at stride 2."""
        embedder = getattr(getattr(self.model, "embedder", None), "embedder", None)
        return embedder(pixels) if embedder is not None else None

    @staticmethod
    def _block_maps(stem: Tensor, blocks: list[nn.Module], pixels: Tensor, deepest: int) -> list[Tensor]:
        """MobileNet: block by block, and no deeper than needed."""
        maps = [stem]
        for block in blocks:
            hidden = block(maps[-1])
            if pixels.shape[-1] / hidden.shape[-1] > deepest * 1.5:
                break
            maps.append(hidden)
        return maps

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Features:
        """Global feature and tokens of the last layer.

        Args:
            pixels: [B, 3, H, W] from `preprocess`.
        """
        tower = getattr(self.model, "vision_model", self.model)
        output = tower(pixel_values=pixels)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:
            rows, columns = hidden.shape[2:]
            return Features(hidden.mean((2, 3)), hidden.flatten(2).transpose(1, 2), (rows, columns))
        grid = _token_grid(hidden.shape[1], pixels)
        patches = hidden[:, hidden.shape[1] - grid[0] * grid[1] :]
        cls = hidden[:, 0] if patches.shape[1] < hidden.shape[1] else hidden.mean(1)
        return Features(cls, patches, grid)


def _as_map(hidden: Tensor, pixels: Tensor) -> Tensor:
    """[B, C, h, w] from a map or from tokens [B, (extra +) N, D]; extra leading tokens are dropped."""
    if hidden.ndim == 4:
        return hidden
    rows, columns = _token_grid(hidden.shape[1], pixels)
    return hidden[:, hidden.shape[1] - rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))


def _token_grid(tokens: int, pixels: Tensor) -> tuple[int, int]:
    """Grid of the patch tokens among ``tokens``: the largest with the picture's aspect that fits."""
    height, width = pixels.shape[-2:]
    rows = math.isqrt(tokens * height // width)
    while rows and (rows * width % height or rows * (rows * width // height) > tokens):
        rows -= 1
    if not rows:
        raise UnsupportedModelError(f"{tokens} tokens fit no grid", mend="use square pictures")
    return rows, rows * width // height


def load_backbone(name: str | Path) -> Backbone:
    """A frozen backbone by name.

    Args:
        name: ``nano-*`` (inside the package), a local folder in `transformers` form, a hub id, or
            ``timm:NAME`` when timm is installed.

    Raises:
        ConfigError: nothing of that name, or no network to fetch it.
        CheckpointError: a nano checkpoint whose hash differs.
    """
    text = str(name)
    if text.startswith("timm:"):
        return _from_timm(text)
    if text.startswith("nano-"):
        return _from_folder(_nano_folder(text), text)
    if Path(text).is_dir():
        return _from_folder(Path(text), text)
    return _from_folder(_fetch(text), text)


def nano_names() -> list[str]:
    """Names of the nano checkpoints in this package."""
    return sorted(p.name for p in NANO.glob("nano-*") if p.is_dir()) if NANO.is_dir() else []


def _nano_folder(name: str) -> Path:
    if name not in nano_names():
        raise ConfigError(f"no checkpoint is called {name!r}", mend=f"use one of {', '.join(nano_names())}")
    verify_manifest(NANO / name)
    return NANO / name


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:
        raise ConfigError(
            f"no backbone is called {name!r} here, and it could not be fetched ({type(error).__name__})",
            mend=f"name a local folder or one of {', '.join(nano_names())}",
        ) from error


def _from_folder(folder: Path, name: str) -> Backbone:
    from transformers import AutoModel

    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise ConfigError(
            "holds no config.json with safetensors weights", where=folder, mend="check the path"
        )
    try:
        with _quiet():
            model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    except WildSightError:
        raise
    except Exception as error:
        raise ConfigError(
            f"cannot be loaded ({error})", where=folder, mend="check its config.json"
        ) from error
    sha = digest_of([sha256(p) for p in [folder / "config.json", *weights]])
    return Backbone(model, name, sha, *_normalisation(folder))


class _quiet:
    """Silences the loading report and progress bars of `transformers`, then restores them."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.logging, self.level = logging, logging.get_verbosity()
        self.bars = logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *error: object) -> None:
        self.logging.set_verbosity(self.level)
        if self.bars:
            self.logging.enable_progress_bar()


def _normalisation(folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation that belong to the weights; ImageNet's where the folder names none."""
    for file in ("preprocessor_config.json", "processor_config.json"):
        if (folder / file).is_file():
            value: dict[str, Any] = read_json(folder / file)
            value = value.get("image_processor", value)
            if value.get("do_normalize", True) and "image_mean" in value:
                return value["image_mean"], value["image_std"]
    return IMAGENET


def _from_timm(name: str) -> Backbone:
    try:
        import timm
    except ImportError as error:
        raise ConfigError("timm is not installed", mend="pip install 'wildsight[timm]'") from error
    try:
        model = timm.create_model(name.removeprefix("timm:"), pretrained=True, features_only=True)
    except Exception as error:
        raise ConfigError(f"timm cannot build {name!r} ({error})", mend="see timm.list_models()") from error
    sha = digest_of([name, *(float(v.double().sum()) for v in model.state_dict().values())])
    return Backbone(model, name, sha, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
