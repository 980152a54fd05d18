"""The parts of nano-clip's training, as steps for `wildsight.training.train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.nano.clip import ClipConfig, Student, normalised, shown
from tools.nano.conv_train import Targets
from tools.nano.pictures import Pixels
from tools.nano.scene_cache import SceneCache
from tools.nano.views import (
    Scenes,
    Speech,
    clear_things,
    drawn_phrases,
    fits,
    mirrored_text,
    moved,
    scenes,
    tokens,
    windows,
)
from wildsight.training import Batch, History, TrainConfig, train
from wildsight.training.batches import mix


class RowNumbers:
    """A data set of row numbers: the step fetches the rows of a batch at once."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: int) -> int:
        return at


@dataclass(frozen=True)
class Photos:
    """Real photographs [N, S, S, 3] and what the ImageNet network says of them."""

    pictures: Pixels
    targets: Targets


@dataclass(frozen=True)
class TrainingData:
    """All that training needs beside the student: scenes, their texts, the tokenizer, photographs."""

    book: SceneCache
    talk: Speech
    words: Any
    photos: Photos | None


def schedule(steps: int, batch: int, rate: float, samples: int, config: ClipConfig) -> TrainConfig:
    """As many whole passes over ``samples`` as come nearest to ``steps``, at least one."""
    return TrainConfig(
        epochs=max(1, round(steps * batch / samples)),
        batch_size=batch,
        lr=rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
        clip_norm=1.0,
        schedule="cosine",
        warmup=0.04,
        seed=config.seed,
        precision="bf16",
        checkpoint_seconds=45.0,
    )


def look_closely(student: Student, data: TrainingData, folder: Path, *, progress: bool) -> History:
    """The first part: windows about one thing."""
    config = student.config
    things = clear_things(data.book)
    things = things[: config.window_steps * config.window_batch]

    def losses(student: Student, batch: Batch) -> dict[str, Tensor]:
        view = moved(windows(data.book, things[batch.index.cpu().numpy()], config), batch.index.device)
        texts, said = drawn_phrases(view.codes, sizes=False)
        true = fits(view.codes[:, None], view.codes, said.to(view.codes.device))
        patches, token = student.see(view.pixels, view.where)
        dense = shown(student.patch_heads(patches), view.truth, ground=0.3)
        answers = student.class_heads(token)[:3]
        whole = torch.stack([F.cross_entropy(a, view.codes[:, i]) for i, a in enumerate(answers)]).sum()
        match = student.match(token, tokens(data.words, texts, config.length).to(token.device), true)
        return {"loss": dense + 0.5 * whole + match, "dense": dense, "whole": whole, "match": match}

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        scalars: dict[str, Tensor] = model(lambda student: losses(student, batch))
        return scalars

    plan = schedule(config.window_steps, config.window_batch, config.window_lr, len(things), config)
    return train(
        student,
        RowNumbers(len(things)),
        step,
        plan,
        folder=folder,
        progress=progress,
        label="nano-clip: things",
    )


def look_around(student: Student, data: TrainingData, folder: Path, *, progress: bool) -> History:
    """The second part: whole scenes with captions, and real photographs beside them."""
    config = student.config
    rows = min(len(data.book), config.scene_steps * config.scene_batch)

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        scalars: dict[str, Tensor] = model(lambda student: _around(student, data, batch, 0.0))
        return scalars

    plan = schedule(config.scene_steps, config.scene_batch, config.scene_lr, rows, config)
    return train(
        student, RowNumbers(rows), step, plan, folder=folder, progress=progress, label="nano-clip: scenes"
    )


def look_through(student: Student, data: TrainingData, folder: Path, *, progress: bool) -> History:
    """The third part: scenes again, the things of some painted over.

    A shape is then not known by what it is made of, nor a pair that never occurred taken for one that did.
    """
    config = student.config
    rows = min(len(data.book), config.painted_steps * config.scene_batch)

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        scalars: dict[str, Tensor] = model(lambda student: _around(student, data, batch, config.painted))
        return scalars

    plan = schedule(config.painted_steps, config.scene_batch, config.painted_lr, rows, config)
    return train(
        student, RowNumbers(rows), step, plan, folder=folder, progress=progress, label="nano-clip: painted"
    )


def _around(student: Student, data: TrainingData, batch: Batch, share: float) -> dict[str, Tensor]:
    """One batch of whole scenes, a ``share`` of them painted."""
    config = student.config
    covered = torch.rand(len(batch.index)) < share
    view = scenes(data.book, data.talk, batch.index.tolist(), config, covered=covered if share else None)
    view = moved(view, batch.index.device)
    photos = _some_photos(data.photos, config.photos, batch)
    pixels = view.pixels if photos is None else torch.cat([view.pixels, normalised(photos[0].float())])
    patches, token = student.see(pixels)
    count = len(view.pixels)
    dense = shown(student.patch_heads(patches[:count]), view.truth, ground=0.15)
    place = _misplaced(student.place(patches[:count]).float(), view)
    match = _spoken(student, token[:count], view, data, batch, covered)
    parts = {"dense": dense, "place": place, "match": match}
    loss = dense + 3 * place + match
    if photos is not None:
        parts["photos"] = distillation_loss(student, patches[count:], token[count:], photos[1])
        loss = loss + 0.3 * parts["photos"]
    return {"loss": loss, **parts}


def _misplaced(told: Tensor, view: Scenes) -> Tensor:
    """Mean absolute error of boxes and log distances on patches that show a thing."""
    seen = (view.truth[..., 0] > 0).float()
    error: Tensor = ((told - view.place).abs().mean(2) * seen).sum() / seen.sum().clamp_min(1)
    return error


def _spoken(
    student: Student, token: Tensor, view: Scenes, data: TrainingData, batch: Batch, covered: Tensor
) -> Tensor:
    """Captions and phrases about one thing, against the pictures; of painted ones shapes alone are said."""
    count = len(token)
    level = torch.multinomial(torch.tensor([0.15, 0.4, 0.45]), count, replacement=True)
    level[covered] = 0
    ids = torch.from_numpy(data.talk.captions[batch.index.cpu().numpy(), level.numpy()].astype(np.int64))
    left, right = (data.words.convert_tokens_to_ids(word) for word in ("left", "right"))
    ids = mirrored_text(ids.to(token.device), view.mirrored, left, right)
    same = (ids[:, None] == ids[None]).all(2)
    captions = student.match(token, ids, same)
    picks = torch.multinomial((view.things[..., 0] > 0).float(), 1)[:, 0]
    codes = view.things[torch.arange(count), picks]
    texts, said = drawn_phrases(codes, sizes=True)
    ids = tokens(data.words, texts, student.config.length).to(token.device)
    phrases = student.match(token, ids, fits(view.things, codes, said.to(token.device)))
    return captions + 0.7 * phrases


def _some_photos(photos: Photos | None, count: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Photographs for this batch, chosen by (seed, epoch, index) alone."""
    if photos is None or count == 0:
        return None
    rng = np.random.default_rng(mix(batch.seed, batch.epoch, int(batch.index[0])))
    rows = np.sort(rng.integers(0, len(photos.pictures), count))
    device = batch.index.device
    arrays = {
        k: torch.from_numpy(np.array(v[rows])).float() for k, v in photos.targets.arrays.items() if k != "4"
    }
    for name in ("8", "16"):
        mean, std = photos.targets.mean[name].view(-1, 1, 1), photos.targets.std[name].view(-1, 1, 1)
        arrays[name] = (arrays[name] - mean) / std
    pictures = torch.from_numpy(np.array(photos.pictures[rows])).to(device)
    return pictures, {name: value.to(device) for name, value in arrays.items()}


def distillation_loss(student: Student, patches: Tensor, token: Tensor, targets: dict[str, Tensor]) -> Tensor:
    """How far patches and class token are from the ImageNet network's (standardised) answers."""
    side = student.config.side
    grid = patches.transpose(1, 2).unflatten(2, (side, side))
    coarse = F.adaptive_avg_pool2d(grid, targets["16"].shape[-1]).permute(0, 2, 3, 1)
    fine = F.adaptive_avg_pool2d(grid, targets["8"].shape[-1]).permute(0, 2, 3, 1)
    own = student.photo_fine(fine).float(), student.photo_coarse(coarse).float()
    maps = [F.mse_loss(o, targets[n].permute(0, 2, 3, 1)) for o, n in zip(own, ("8", "16"), strict=True)]
    cosine = 1 - F.cosine_similarity(student.photo_class(token).float(), targets["embedding"], dim=1).mean()
    return maps[0] + maps[1] + cosine
