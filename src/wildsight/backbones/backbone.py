"""A frozen network with its own preprocessing, tapped by stride."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor, nn

from wildsight.backbones.tokens import as_map, chain, pooled, token_grid
from wildsight.devices import precision_for, resolve_device
from wildsight.errors import CheckpointError, ConfigError, UnsupportedModelError
from wildsight.files import digest_of, read_json, sha256, verify_manifest

NANO = Path(__file__).parent / "nano"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
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
        name: as it was asked for.
        sha: SHA-256 over configuration and weights.
        mean, std: normalisation that belongs to the weights, on the scale 0-1.
        normalised_by: the file that ``mean`` and ``std`` come from, or ``"ImageNet default"``.
        folder: the files of the checkpoint, or None.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``, as it was asked for; see `dtype`.
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
        """A copy on the CPU with weights of its own, in fp32: for an export."""
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
        height, width = (size, size) if isinstance(size, int) else size
        arrays = [np.asarray(im.resize((width, height), Resampling.BILINEAR)) for im in images]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div_(255.0)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return pixels.sub_(mean).div_(std).to(self.device)

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
        found: dict[int, Tensor] = {}
        for index, feature in enumerate(self._maps(pixels)):
            if index in wanted:
                found[wanted[index]] = feature
            if len(found) == len(wanted):
                break
        return {s: found[s] for s in strides}

    def _layers(self, pixels: Tensor, layers: Sequence[int]) -> Tensor:
        if len(self._taps) > 1:
            raise ConfigError(f"{self.name} has several strides", hint="choose strides, not layers")
        maps = list(self._maps(pixels))
        wrong = [i for i in layers if not -len(maps) <= i < len(maps)]
        if wrong or not layers:
            raise ConfigError(
                f"{self.name} has no layer {wrong[0] if wrong else layers}",
                hint=f"choose from 0 to {len(maps) - 1}",
            )
        return torch.cat([maps[i] for i in layers], dim=1)

    @cached_property
    def _taps(self) -> dict[int, int]:
        """Stride -> index of the last map of that stride, seen by running one small picture."""
        patch = self._patch or 1
        side = patch * 4 if _PROBE % patch else _PROBE
        with torch.no_grad():
            maps = self._maps(torch.zeros(1, 3, side, side, device=self.device))
            return {round(side / m.shape[-1]): i for i, m in enumerate(maps)}

    @property
    def _tower(self) -> nn.Module:
        """The part that sees pictures (of CLIP and SigLIP: the vision tower)."""
        return getattr(self.model, "vision_model", self.model)

    @property
    def _patch(self) -> int | None:
        """Side of a token in pixels; None for networks without tokens."""
        size = getattr(getattr(self._tower, "config", None), "patch_size", None)
        return size if isinstance(size, int) else None

    def _maps(self, pixels: Tensor) -> Iterator[Tensor]:
        """Hidden maps [B, C, h, w], shallow to deep; block by block where the network allows it."""
        model = self._tower
        if hasattr(model, "conv_stem") and hasattr(model, "layer"):  # MobileNet
            yield from chain(model.conv_stem(pixels), model.layer)
        elif hasattr(getattr(model, "encoder", None), "blocks"):  # EfficientNet
            yield from chain(model.embeddings(pixels), model.encoder.blocks)
        elif not hasattr(model, "config"):  # timm
            yield from model(pixels)
        else:
            yield from self._hidden_states(pixels)

    def _hidden_states(self, pixels: Tensor) -> Iterator[Tensor]:
        stem = getattr(getattr(self._tower, "embedder", None), "embedder", None)
        if stem is not None:  # ResNet's map before its pooling, the only one at stride 2
            yield stem(pixels)
        output = self._run(pixels, output_hidden_states=True)
        hidden = getattr(output, "reshaped_hidden_states", None) or output.hidden_states
        yield from (as_map(h, pixels, self._patch) for h in hidden)

    def _run(self, pixels: Tensor, **options: Any) -> Any:
        """The vision tower's output, with position codes stretched to the size of ``pixels``."""
        if "interpolate_pos_encoding" in inspect.signature(self._tower.forward).parameters:
            options["interpolate_pos_encoding"] = True
        return self._tower(pixel_values=pixels, **options)

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
            hidden = self._run(pixels.to(self.device)).last_hidden_state.float()
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
        length = self.model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        names = inspect.signature(self.model.get_text_features).parameters
        given = {k: v.to(self.device) for k, v in tokens.items() if k in names}
        with self.computing():
            return pooled(self.model.get_text_features(**given)).float()

    def _need_shared_space(self) -> None:
        if not hasattr(self.model, "get_text_features"):
            raise UnsupportedModelError(
                "has no space shared by pictures and texts", where=self.name, hint="use a CLIP or SigLIP one"
            )

    @cached_property
    def _tokenizer(self) -> Any:
        """The folder's own; `transformers` would make up an empty one where there is none."""
        from transformers import AutoTokenizer

        where = self.folder or self.name
        if self.folder is None or not any((self.folder / name).is_file() for name in _TOKENIZERS):
            raise UnsupportedModelError("has no tokenizer", where=where, hint="add its tokenizer.json")
        try:
            return AutoTokenizer.from_pretrained(self.folder)
        except Exception as error:
            raise UnsupportedModelError(
                f"its tokenizer cannot be read ({error})", where=where, hint="restore tokenizer.json"
            ) from error


def load_backbone(
    name: str | Path, *, device: str | int | torch.device | None = "auto", precision: str = "auto"
) -> Backbone:
    """A frozen backbone by name.

    Args:
        name: ``nano-*`` (inside the package), a local folder in `transformers` form, a hub id, or
            ``timm:NAME`` when timm is installed.
        device: where it runs; see `wildsight.devices.resolve_device`.
        precision: of its frozen features, ``fp32``, ``bf16``, ``fp16`` or ``auto``; see
            `wildsight.devices.precision_for`.

    Raises:
        ConfigError: nothing of that name, no network to fetch it, or no such device or precision.
        CheckpointError: weights missing, or a nano checkpoint whose hash differs.
    """
    place = resolve_device(device)
    precision_for(place, precision)
    backbone = _named(str(name))
    backbone.precision = precision
    return backbone.to(place)


def _named(name: str) -> Backbone:
    if name.startswith("timm:"):
        return _from_timm(name)
    if name.startswith("nano-"):
        return _from_folder(nano_folder(name), name)
    return _from_folder(Path(name) if Path(name).is_dir() else _fetch(name), name)


def nano_names() -> list[str]:
    """Names of the nano checkpoints in this package."""
    return sorted(p.name for p in NANO.glob("nano-*") if p.is_dir()) if NANO.is_dir() else []


def _choices() -> str:
    return " or ".join(["name a local folder", *nano_names()])


def nano_folder(name: str) -> Path:
    """The folder of a nano checkpoint in this package, every file of it checked by its hash.

    It opens with `transformers` like any other: ``CLIPModel.from_pretrained(nano_folder("nano-clip"))``.

    Raises:
        ConfigError: nothing of that name.
        CheckpointError: a file that is missing or damaged.
    """
    if name not in nano_names():
        raise ConfigError(f"no nano checkpoint is called {name!r}", hint=_choices())
    verify_manifest(NANO / name)
    return NANO / name


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:
        raise ConfigError(
            f"no backbone is called {name!r} here, and it could not be fetched ({type(error).__name__})",
            hint=_choices(),
        ) from error


def _from_folder(folder: Path, name: str) -> Backbone:
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise ConfigError(
            "holds no config.json with safetensors weights", where=folder, hint="check the path"
        )
    model = _read_model(folder)
    mean, std, source = _normalisation(folder)
    sha = digest_of([sha256(p) for p in [folder / "config.json", *weights]])
    return Backbone(model, name, sha, mean, std, normalised_by=source, folder=folder)


def _read_model(folder: Path) -> nn.Module:
    """The model, refused if any weight but an unused pooler's would be random."""
    from transformers import AutoModel

    try:
        with _quiet():
            model, report = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:
        raise ConfigError(
            f"cannot be loaded ({error})", where=folder, hint="check its config.json"
        ) from error
    missing = sorted(k for k in report["missing_keys"] if not k.startswith("pooler."))
    if missing:
        raise CheckpointError(
            f"{len(missing)} weights are missing, {missing[0]} among them", where=folder, hint="save it again"
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the loading report and progress bars of `transformers`, then restores them."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _normalisation(folder: Path) -> tuple[Sequence[float], Sequence[float], str]:
    """Mean, deviation and the file that names them; ImageNet's where none does."""
    for file in filter(Path.is_file, (folder / name for name in _PROCESSORS)):
        value: dict[str, Any] = read_json(file)
        value = value.get("image_processor", value)
        if value.get("do_normalize") is False:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), file.name
        if "image_mean" in value and "image_std" in value:
            return value["image_mean"], value["image_std"], file.name
    return *IMAGENET, "ImageNet default"


def _from_timm(name: str) -> Backbone:
    try:
        import timm
    except ImportError as error:
        raise ConfigError("timm is not installed", hint="pip install 'wildsight[timm]'") from error
    try:
        model = timm.create_model(name.removeprefix("timm:"), pretrained=True, features_only=True)
    except Exception as error:
        raise ConfigError(f"timm cannot build {name!r} ({error})", hint="see timm.list_models()") from error
    settings = model.pretrained_cfg
    sha = digest_of([name, *(float(v.double().sum()) for v in model.state_dict().values())])
    return Backbone(model, name, sha, settings["mean"], settings["std"], normalised_by="timm")
