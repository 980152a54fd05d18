"""A frozen network with its own preprocessing, tapped by stride."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor, nn

from wildsight.backbones.hub import checkpoint_folder, full_name, nano_folder, weight_files
from wildsight.backbones.reading import IMAGENET, normalisation, read_model, read_timm
from wildsight.backbones.taps import Blocks, all_maps, first_maps, probed_maps
from wildsight.backbones.texts import read_tokenizer, text_inputs
from wildsight.backbones.tokens import chain, pooled, token_grid
from wildsight.backbones.towers import REFUSALS, own_size, refuse_ragged, run_tower
from wildsight.devices import precision_for, resolve_device
from wildsight.errors import ConfigError, UnsupportedModelError
from wildsight.files import digest_of, sha256

__all__ = ["IMAGENET", "Backbone", "Features", "load_backbone", "nano_folder"]

_PROBE = 64  # side of the picture that shows the strides: a multiple of 64, so that each divides it


@dataclass(frozen=True)
class Features:
    """What a backbone says of a batch.

    Attributes:
        cls: [B, D] global feature: the class token, or the mean where there is none.
        patches: [B, N, D] tokens in raster order.
        grid: (rows, columns) with rows * columns = N.
    """

    cls: Tensor | None
    patches: Tensor
    grid: tuple[int, int]


class Backbone:
    """A frozen `transformers` or timm model in evaluation mode.

    Attributes:
        name: by which it can be asked for again, with revision and subfolder.
        sha: SHA-256 over configuration and weights.
        mean, std: normalisation that belongs to the weights, on the scale 0-1.
        normalised_by: the file that ``mean`` and ``std`` come from, or ``"ImageNet default"``.
        folder: the files of the checkpoint, or None.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``, as it was asked for; see `dtype`.
        only_size: (H, W) of a network that takes no other; known once its strides are.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        sha: str,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        normalised_by: str = "ImageNet default",
        folder: Path | None = None,
        precision: str = "auto",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name, self.sha = name, sha
        self.mean, self.std = tuple(mean), tuple(std)
        self.normalised_by, self.folder = normalised_by, folder
        self.precision = precision
        self._blocks: Blocks | None = None
        self.only_size: tuple[int, int] | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are, `preprocess` puts pixels, and features come out."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What frozen features are computed in; they come out in fp32, and the weights stay in it."""
        return precision_for(self.device, self.precision)

    def to(self, device: str | int | torch.device | None) -> Self:
        """Move the weights; returns itself.

        Raises:
            ConfigError: no such device.
        """
        self.model.to(resolve_device(device))
        return self

    def copied(self) -> Self:
        """A copy on the CPU with weights of its own, in fp32: for an export, which cannot trace the probe."""
        _ = self._taps
        twin = copy.copy(self)
        twin.model, twin.precision = copy.deepcopy(self.model).cpu(), "fp32"
        return twin

    def computing(self) -> AbstractContextManager[Any]:
        """Frozen features are computed in `dtype` inside the block, whose outputs may have that type."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def preprocess(self, images: Sequence[Image], size: int | tuple[int, int]) -> Tensor:
        """RGB pictures to [B, 3, H, W], normalised; stretched to ``size`` (side, or (H, W)), bilinear."""
        arrays = [np.asarray(self.resized(im, size)) for im in images]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div_(255.0)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return pixels.sub_(mean).div_(std).to(self.device)

    @staticmethod
    def resized(image: Image, size: int | tuple[int, int]) -> Image:
        """The first step of `preprocess`, for threads that read ahead; a second time it changes nothing."""
        height, width = (size, size) if isinstance(size, int) else size
        return image.resize((width, height), Resampling.BILINEAR)

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides that `pyramid` can give, in pixels per token."""
        return tuple(sorted(self._taps))

    @torch.no_grad()
    def pyramid(
        self, pixels: Tensor, strides: Sequence[int] = (2, 4, 8, 16), *, layers: Sequence[int] | None = None
    ) -> dict[int, Tensor]:
        """The last feature map of each stride, computed no deeper than needed.

        Args:
            pixels: [B, 3, H, W] from `preprocess`, on any device.
            strides: wanted strides, in pixels per token.
            layers: hidden states (0 = the embedding) whose maps are concatenated along channels, in
                place of the last one; only for networks with one stride (ViT, DINOv2, CLIP).

        Returns:
            stride -> [B, C, h, w] on the backbone's device, h and w near H/stride and W/stride (how a network
            rounds is its own).

        Raises:
            ConfigError: a stride or a layer that this network does not have.
        """
        with self.computing():
            maps = self.pyramid_with_grad(pixels, strides, layers=layers)
        return {stride: feature.float() for stride, feature in maps.items()}

    def pyramid_with_grad(
        self, pixels: Tensor, strides: Sequence[int], *, layers: Sequence[int] | None = None
    ) -> dict[int, Tensor]:
        """`pyramid` in the caller's precision, with gradients to those weights that ask for them."""
        missing = [s for s in strides if s not in self._taps]
        if missing:
            raise ConfigError(
                f"{self.name} has no feature map at stride {missing[0]}",
                hint=f"choose strides from {', '.join(map(str, self.strides))}",
            )
        pixels = pixels.to(self.device)
        if layers is not None:
            return {strides[0]: self._layers(pixels, layers)}
        wanted = {self._taps[s]: s for s in strides}
        count = 1 + max(wanted, default=-1)
        maps = islice(self._maps(pixels, count), count)
        found = {wanted[i]: feature for i, feature in enumerate(maps) if i in wanted}
        return {s: found[s] for s in strides}

    def _layers(self, pixels: Tensor, layers: Sequence[int]) -> Tensor:
        if len(self._taps) > 1:
            raise ConfigError(f"{self.name} has several strides", hint="choose strides, not layers")
        (deepest,) = self._taps.values()
        wrong = [i for i in layers if not -deepest - 1 <= i <= deepest]
        if wrong or not layers:
            raise ConfigError(
                f"{self.name} has no layer {wrong[0] if wrong else layers}",
                hint=f"choose from 0 to {deepest}",
            )
        chosen = [i % (deepest + 1) for i in layers]
        maps = list(self._maps(pixels, 1 + max(chosen)))
        return torch.cat([maps[i] for i in chosen], dim=1)

    @cached_property
    def _taps(self) -> dict[int, int]:
        """Stride -> index of the last map of that stride, seen by running one picture: a small one, or, for a
        network of fixed size, one of its own."""
        patch, own = self._patch or 1, own_size(self._tower)
        side = patch * 4 if _PROBE % patch else _PROBE
        try:
            return self._probed(side, side)
        except (UnsupportedModelError, *REFUSALS):
            if own is None:
                raise
            self.only_size = own
            return self._probed(*own)

    def check_size(self, side: int) -> None:
        """Refuse pictures of ``side`` x ``side`` pixels where the network takes another size alone.

        Raises:
            UnsupportedModelError: it does.
        """
        if self.strides and self.only_size not in (None, (side, side)):
            height, width = self.only_size or (side, side)
            hint = f"give image_size={width}, or another backbone"
            raise UnsupportedModelError(
                f"takes pictures of {width} x {height} alone, not of {side}", where=self.name, hint=hint
            )

    @torch.no_grad()
    def _probed(self, height: int, width: int) -> dict[int, int]:
        noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        maps = self._maps(noise.to(self.device))
        return {round(width / m.shape[-1]): i for i, m in enumerate(maps)}

    @property
    def _tower(self) -> nn.Module:
        """The part that sees pictures (of CLIP and SigLIP: the vision tower)."""
        return getattr(self.model, "vision_model", self.model)

    @property
    def _patch(self) -> int | None:
        """Side of a token in pixels; None for networks without tokens."""
        size = getattr(getattr(self._tower, "config", None), "patch_size", None)
        return size if isinstance(size, int) else None

    def _maps(self, pixels: Tensor, count: int | None = None) -> Iterator[Tensor]:
        """Maps [B, C, h, w], shallow to deep: at least ``count``; None: all, seeing how to stop earlier."""
        model = self._tower
        if hasattr(model, "conv_stem") and hasattr(model, "layer"):  # MobileNet
            yield from chain(model.conv_stem(pixels), model.layer)
        elif hasattr(getattr(model, "encoder", None), "blocks"):  # EfficientNet
            yield from chain(model.embeddings(pixels), model.encoder.blocks)
        elif not hasattr(model, "config"):  # timm
            yield from model(pixels)
        elif count is None:
            maps, self._blocks = probed_maps(model, pixels, self._patch)
            yield from maps
        elif self._blocks is None or count > max(self._taps.values()):
            yield from all_maps(model, pixels, self._patch)
        else:
            yield from first_maps(model, pixels, self._patch, self._blocks, count)

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Features:
        """Global feature and tokens of the last layer.

        Args:
            pixels: [B, 3, H, W] from `preprocess`, on any device.

        Raises:
            UnsupportedModelError: a timm model, which is built for its maps alone.
        """
        if not hasattr(self._tower, "config"):
            raise UnsupportedModelError("timm models give maps alone", where=self.name, hint="use pyramid")
        with self.computing():
            hidden = run_tower(self._tower, pixels.to(self.device)).last_hidden_state.float()
        if hidden.ndim == 4:
            rows, columns = hidden.shape[2:]
            return Features(hidden.mean((2, 3)), hidden.flatten(2).transpose(1, 2), (rows, columns))
        rows, columns = token_grid(hidden.shape[1], pixels, self._patch)
        extra = hidden.shape[1] - rows * columns
        return Features(hidden[:, 0] if extra else hidden.mean(1), hidden[:, extra:], (rows, columns))

    @torch.no_grad()
    def embed_images(self, pixels: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in the space shared with texts: [B, D], not normalised.

        Raises:
            UnsupportedModelError: a network without a shared space (only CLIP and SigLIP have one).
        """
        self._need_shared_space()
        with self.computing():
            output = self.model.get_image_features(
                pixel_values=pixels.to(self.device), interpolate_pos_encoding=True
            )
        return pooled(output).float()

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts in the space shared with pictures: [B, D], not normalised.

        Raises:
            UnsupportedModelError: a network without a shared space, or a folder without its tokenizer.
        """
        self._need_shared_space()
        tokens = text_inputs(self.model, self._tokenizer, texts)
        given = {k: v.to(self.device) for k, v in tokens.items()}
        with self.computing():
            return pooled(self.model.get_text_features(**given)).float()

    @property
    def shared_space(self) -> bool:
        """Pictures and texts have one space (CLIP, SigLIP and their kind)."""
        return hasattr(self.model, "get_text_features") and hasattr(self.model, "get_image_features")

    @property
    def has_text(self) -> bool:
        """Texts can be embedded: there is a text tower in a space shared with pictures, and its tokenizer."""
        if not self.shared_space:
            return False
        try:
            return self._tokenizer is not None
        except UnsupportedModelError:
            return False

    def _need_shared_space(self) -> None:
        if not self.shared_space:
            raise UnsupportedModelError(
                "has no space shared by pictures and texts", where=self.name, hint="use a CLIP or SigLIP one"
            )

    @cached_property
    def _tokenizer(self) -> Any:
        return read_tokenizer(self.folder, self.name)


def load_backbone(
    name: str | Path,
    *,
    device: str | int | torch.device | None = "auto",
    precision: str = "auto",
    revision: str | None = None,
    subfolder: str = "",
) -> Backbone:
    """A frozen backbone by name.

    Args:
        name: ``nano-*`` (inside the package), a local folder in `transformers` form, a hub id (also
            ``user/name@revision/subfolder``), or ``timm:NAME`` when timm is installed.
        device: where it runs; see `wildsight.devices.resolve_device`.
        precision: of its frozen features, ``fp32``, ``bf16``, ``fp16`` or ``auto``; see
            `wildsight.devices.precision_for`.
        revision: branch, tag or commit of a repository.
        subfolder: where in the folder or repository the checkpoint is.

    Raises:
        ConfigError: nothing of that name, no network to fetch it, or no such device or precision.
        CheckpointError: weights missing, or a nano checkpoint whose hash differs.
        UnsupportedModelError: a network that gives no maps of pictures, or that needs code of its own.
    """
    place = resolve_device(device)
    precision_for(place, precision)
    if str(name).startswith("timm:"):
        backbone = _from_timm(str(name))
    else:
        folder = checkpoint_folder(str(name), revision=revision, subfolder=subfolder)
        backbone = _from_folder(folder, full_name(str(name), revision, subfolder))
    backbone.precision = precision
    return backbone.to(place)


def _from_folder(folder: Path, name: str) -> Backbone:
    weights = weight_files(folder)
    if not (folder / "config.json").is_file() or not weights:
        what = "holds no config.json with weights (*.safetensors or pytorch_model*.bin)"
        raise ConfigError(what, where=folder, hint="check the path")
    model = read_model(folder)
    refuse_ragged(getattr(model, "vision_model", model), name)
    mean, std, source = normalisation(folder)
    sha = digest_of([sha256(p) for p in [folder / "config.json", *weights]])
    return Backbone(model, name, sha, mean, std, normalised_by=source, folder=folder)


def _from_timm(name: str) -> Backbone:
    model: Any = read_timm(name)
    settings = model.pretrained_cfg
    sha = digest_of([name, *(float(v.double().sum()) for v in model.state_dict().values())])
    return Backbone(model, name, sha, settings["mean"], settings["std"], normalised_by="timm")
