"""How nano-sam is trained: things of scenes and, lightly, defects of products, asked for in every way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.nano.clip import normalised
from tools.nano.clip_train import RowNumbers
from tools.nano.sam import NanoSamConfig, Prompts, outline_loss, stand_still
from tools.nano.scene_cache import SceneCache
from wildsight.files import atomic_path, cache_folder, digest_of
from wildsight.training import Batch, History, TrainConfig, train
from wildsight.training.batches import mix
from wildsight.world import CATEGORIES, DEFECTS, WORLD_VERSION, render_product

_SMALLEST = 24  # pixels of an outline that is asked for


@dataclass(frozen=True)
class Faults:
    """Products with a defect: pictures uint8 [N, S, S, 3] and masks bool [N, S, S]."""

    pictures: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]


def faults(count: int, size: int, *, first: int = 50_000) -> Faults:
    """``count`` defective products, every category and defect in turn, kept in the cache."""
    key = digest_of(["faults", WORLD_VERSION, count, size, first])[:24]
    files = [cache_folder("pretrain", "scenes") / f"{key}-{name}.npy" for name in ("pictures", "masks")]
    if not files[-1].is_file():
        made = [
            render_product(CATEGORIES[i % 7], first + i, defect=DEFECTS[i // 7 % 7], size=size)
            for i in range(count)
        ]
        stacked = np.stack([p.image for p in made]), np.stack([p.mask for p in made])
        for file, array in zip(files, stacked, strict=True):
            with atomic_path(file) as temporary:
                np.save(temporary, array)
    return Faults(np.load(files[0]), np.load(files[1]))


def outline(
    model: nn.Module,
    book: SceneCache,
    flawed: Faults,
    config: NanoSamConfig,
    folder: Path,
    *,
    still: bool,
    progress: bool,
) -> History:
    """One part of the training, with the encoder's layers ``still`` or in motion."""
    steps, rate = (config.still_steps, config.still_lr) if still else (config.steps, config.lr)
    rows = np.flatnonzero((book.seen >= _SMALLEST).any(1))[: steps * config.batch]
    stand_still(model, still)

    def step(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        pictures, masks = _batch(book, flawed, rows[batch.index.cpu().numpy()], config, batch)
        pictures, masks = mirrored(pictures, masks)
        prompts = ask(masks, config, float(torch.rand(())))
        device = batch.index.device
        moved = Prompts(*(None if v is None else v.to(device) for v in vars(prompts).values()))
        pixels = normalised(pictures).to(device)
        return outline_loss(network, pixels, moved, several=float(torch.rand(())) < 0.5)

    plan = TrainConfig(
        epochs=max(1, round(steps * config.batch / len(rows))),
        batch_size=config.batch,
        lr=rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
        clip_norm=1.0,
        schedule="cosine",
        warmup=0.05,
        seed=config.seed,
        precision="bf16",
        checkpoint_seconds=45.0,
    )
    return train(
        model,
        RowNumbers(len(rows)),
        step,
        plan,
        folder=folder,
        progress=progress,
        label="nano-sam: prompts" if still else "nano-sam: all",
    )


def _batch(
    book: SceneCache, flawed: Faults, rows: npt.NDArray[np.int64], config: NanoSamConfig, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Pictures float [B, S, S, 3] and masks for the prompts, bool [B, P, S, S]; every eighth is a product."""
    rng = np.random.default_rng(mix(batch.seed, batch.epoch, int(batch.index[0]), 3))
    pictures, maps = book.take(rows.tolist())
    masks = np.zeros((len(rows), config.prompts, *maps.shape[1:]), np.bool_)
    for number, row in enumerate(rows):
        things = rng.choice(np.flatnonzero(book.seen[row] >= _SMALLEST), config.prompts)
        masks[number] = maps[number] == things[:, None, None]
    for number in range(0, len(rows), 8):
        pick = int(rng.integers(len(flawed.pictures))) if len(flawed.pictures) else -1
        if pick >= 0 and flawed.masks[pick].sum() >= _SMALLEST:
            pictures[number], masks[number] = flawed.pictures[pick], flawed.masks[pick]
    return torch.from_numpy(pictures).float(), torch.from_numpy(masks)


def mirrored(pictures: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the pictures [B, S, S, 3] and their masks [B, P, S, S] mirrored, all in another light."""
    turn = torch.rand(len(pictures)) < 0.5
    pictures = torch.where(turn[:, None, None, None], pictures.flip(2), pictures)
    masks = torch.where(turn[:, None, None, None], masks.flip(3), masks)
    gain = 1 + 0.4 * (torch.rand(len(pictures), 1, 1, 3) - 0.5)
    noise = 6 * torch.rand(len(pictures), 1, 1, 1) * torch.randn(pictures.shape)
    return (pictures * gain + noise).clamp(0, 255), masks


def ask(masks: Tensor, config: NanoSamConfig, draw: float) -> Prompts:
    """Prompts for masks bool [B, P, S, S]; ``draw`` in [0, 1) says which: boxes, points, both, or a draft."""
    coarse = F.interpolate(masks.float(), size=(config.coarse, config.coarse), mode="area")
    boxes, points = loose_boxes(masks), inner_points(masks)
    if draw < 0.45:
        return Prompts(coarse, boxes, None, None)
    if draw < 0.7:
        return Prompts(coarse, None, points, None)
    if draw < 0.8:
        return Prompts(coarse, boxes, points, None)
    return Prompts(coarse[:, :1], boxes[:, :1] if draw < 0.9 else None, points[:, :1], drafts(coarse[:, :1]))


def tight_boxes(masks: Tensor) -> Tensor:
    """[..., 4] left, top, right, bottom of masks [..., S, S], pixels; zeros for an empty one."""
    sides = []
    for axis in (-2, -1):
        there = masks.any(axis)
        first = there.float().argmax(-1)
        last = there.shape[-1] - there.flip(-1).float().argmax(-1)
        sides += [torch.where(there.any(-1), first, 0), torch.where(there.any(-1), last, 0)]
    left, right, top, bottom = sides
    return torch.stack([left, top, right, bottom], -1).float()


def loose_boxes(masks: Tensor) -> Tensor:
    """Tight boxes whose sides are moved by up to a tenth of the box, inside the picture."""
    boxes = tight_boxes(masks)
    reach = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    return (boxes + 0.2 * (torch.rand(boxes.shape) - 0.5) * reach).clamp(0, masks.shape[-1])


def inner_points(masks: Tensor) -> Tensor:
    """[B, P, 1, 2] x, y of a random pixel of each mask [B, P, S, S], more often away from its edge."""
    depth = F.avg_pool2d(masks.float(), 7, stride=1, padding=3) * masks
    weights = (depth**3 + 1e-6 * masks + 1e-12).flatten(2)
    pick = torch.multinomial(weights.flatten(0, 1), 1).view(*masks.shape[:2], 1)
    side = masks.shape[-1]
    return torch.stack([pick % side + 0.5, pick // side + 0.5], -1)


def drafts(coarse: Tensor) -> Tensor:
    """Rough outlines as logits: the masks [B, 1, c, c] moved, blurred and doubted."""
    down, across = (int(v) for v in torch.randint(-2, 3, (2,)))
    rough = F.avg_pool2d(coarse.roll((down, across), (2, 3)), 5, stride=1, padding=2)
    level = 0.35 + 0.3 * torch.rand(len(coarse), 1, 1, 1)
    return 12 * (rough - level) + 1.5 * torch.randn(rough.shape)
