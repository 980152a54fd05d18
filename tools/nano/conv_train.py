"""nano-conv: a small residual network taught by an ImageNet network to see as it does.

The student's maps at strides 4, 8 and 16 pass through 1x1 projections, which are thrown away afterwards,
and are regressed onto the teacher's standardised maps; its pooled last map is turned towards the teacher's
pooled embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.nano.pictures import Pixels
from wildsight.backbones.backbone import IMAGENET, Backbone
from wildsight.files import atomic_folder, cache_folder, digest_of
from wildsight.training import Batch

STRIDES = (4, 8, 16)


@dataclass(frozen=True)
class ConvConfig:
    """How nano-conv is built and taught.

    Attributes:
        widths: channels at strides 4, 8 and 16; the stem (stride 2) has the first.
        depths: residual blocks at each of them.
        size: side of the training pictures, pixels.
        steps: optimiser steps, rounded to whole epochs beyond the first.
        batch_size: pictures a step.
        lr: peak learning rate of AdamW, cosine to zero.
        weight_decay: of AdamW.
        embedding: weight of the cosine term beside the mean of the three map terms.
        world: pictures rendered where there is no data folder.
        seed: of weights and order.
    """

    widths: tuple[int, int, int] = (32, 64, 160)
    depths: tuple[int, int, int] = (2, 2, 2)
    size: int = 96
    steps: int = 1800
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.02
    embedding: float = 1.0
    world: int = 2000
    seed: int = 0


def new_student(config: ConvConfig) -> nn.Module:
    """A `transformers` ``ResNetModel`` with fresh weights: stem at stride 2, stages at 4, 8 and 16."""
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(config.seed)
    widths = list(config.widths)
    return ResNetModel(
        ResNetConfig(
            embedding_size=widths[0], hidden_sizes=widths, depths=list(config.depths), layer_type="basic"
        )
    )


def to_pixels(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 [B, H, W, 3] -> normalised float [B, 3, H, W], channels last in memory."""
    centre, spread = (torch.tensor(v, device=pictures.device) for v in (mean, std))
    return ((pictures / 255.0 - centre) / spread).permute(0, 3, 1, 2)


@torch.no_grad()
def look(backbone: Backbone, pictures: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """One pass of a network.

    Args:
        backbone: any network with `transformers` hidden maps.
        pictures: uint8 [B, H, W, 3].

    Returns:
        (stride -> last map [B, C, H/stride, W/stride], pooled last layer [B, D]).
    """
    pixels = to_pixels(pictures, backbone.mean, backbone.std)
    output = backbone.model(pixel_values=pixels, output_hidden_states=True)
    maps = {round(pixels.shape[-1] / m.shape[-1]): m for m in output.hidden_states}
    return maps, output.last_hidden_state.mean((2, 3))


@dataclass(frozen=True)
class Targets:
    """What the teacher says of every picture.

    Attributes:
        arrays: ``4``, ``8``, ``16`` -> float16 [N, C, h, w] and ``embedding`` -> float16 [N, D].
        mean, std: per stride, [C] over pictures and places.
    """

    arrays: dict[str, np.ndarray]
    mean: dict[str, Tensor]
    std: dict[str, Tensor]


def teacher_targets(teacher: Backbone, pictures: Pixels, *, batch: int = 64) -> Targets:
    """The teacher's maps and embeddings of all pictures, computed once and kept in the cache."""
    seen = hashlib.sha256(np.ascontiguousarray(pictures).data).hexdigest()
    folder = cache_folder("pretrain") / f"teacher-{digest_of([teacher.sha, list(pictures.shape), seen])[:24]}"
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            _write_targets(teacher, pictures, temporary, batch)
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in sorted(folder.glob("*.npy"))}
    mean, std = {}, {}
    for name in map(str, STRIDES):
        some = torch.from_numpy(arrays[name][:1024].astype(np.float32))
        mean[name], std[name] = some.mean((0, 2, 3)), some.std((0, 2, 3)).clamp_min(1e-4)
    return Targets(arrays, mean, std)


def _write_targets(teacher: Backbone, pictures: Pixels, folder: Path, batch: int) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher.model.to(device)
    files: dict[str, Any] = {}
    for start in range(0, len(pictures), batch):
        maps, embedding = look(teacher, torch.from_numpy(pictures[start : start + batch].copy()).to(device))
        for name, value in {**{str(s): maps[s] for s in STRIDES}, "embedding": embedding}.items():
            if name not in files:
                shape = (len(pictures), *value.shape[1:])
                file = folder / f"{name}.npy"
                files[name] = np.lib.format.open_memmap(file, "w+", np.dtype(np.float16), shape)
            files[name][start : start + batch] = value.half().cpu().numpy()
    for stored in files.values():
        stored.flush()
    teacher.model.cpu()


class DistillationSet:
    """Pictures with the teacher's answers, as a map-style data set of dictionaries."""

    def __init__(self, pictures: Pixels, targets: Targets) -> None:
        self.pictures, self.targets = pictures, targets

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, at: int) -> dict[str, Tensor]:
        sample = {name: torch.from_numpy(np.array(array[at])) for name, array in self.targets.arrays.items()}
        return {**sample, "picture": torch.from_numpy(np.array(self.pictures[at]))}


class Student(nn.Module):
    """The network with its throw-away projections.

    Attributes:
        backbone: the ``ResNetModel`` that is kept.
        project: stride -> 1x1 convolution into the teacher's channels.
        head: linear map of the pooled last map into the teacher's embedding.
    """

    def __init__(self, backbone: nn.Module, config: ConvConfig, targets: Targets) -> None:
        super().__init__()
        self.backbone, self.embedding = backbone, config.embedding
        channels = {str(s): targets.arrays[str(s)].shape[1] for s in STRIDES}
        widths = dict(zip(channels, config.widths, strict=True))
        self.project = nn.ModuleDict({s: nn.Conv2d(widths[s], channels[s], 1) for s in channels})
        self.head = nn.Linear(config.widths[-1], targets.arrays["embedding"].shape[1])
        for name in channels:
            self.register_buffer(f"mean{name}", targets.mean[name].view(1, -1, 1, 1))
            self.register_buffer(f"std{name}", targets.std[name].view(1, -1, 1, 1))

    def forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss and its parts for one batch of `DistillationSet`."""
        hidden = self.backbone(
            pixel_values=to_pixels(data["picture"], *IMAGENET), output_hidden_states=True
        ).hidden_states[1:]
        parts = {}
        for (name, projection), own in zip(self.project.items(), hidden, strict=True):
            mean, std = getattr(self, f"mean{name}"), getattr(self, f"std{name}")
            parts[f"map{name}"] = F.mse_loss(projection(own), (data[name].float() - mean) / std)
        parts["cosine"] = embedding_loss(self.head(hidden[-1].mean((2, 3))), data["embedding"].float())
        maps = torch.stack([parts[f"map{s}"] for s in STRIDES]).mean()
        return {"loss": maps + self.embedding * parts["cosine"], **parts}


def embedding_loss(own: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cos between [B, D] and [B, D]; 0 where they point the same way, 2 at opposites.

    >>> embedding_loss(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, -3.0]])).item()
    1.0
    """
    return (1.0 - F.cosine_similarity(own, teacher, dim=1)).mean()


def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logged scalars of one batch, for `wildsight.training.train`."""
    return model(batch.data)
