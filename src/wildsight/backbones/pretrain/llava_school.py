"""The two parts of nano-llava's schooling, as steps for `wildsight.training.train`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wildsight.backbones.pretrain.asked import Asked
from wildsight.backbones.pretrain.clip import ClipConfig
from wildsight.backbones.pretrain.clip_school import Numbers
from wildsight.backbones.pretrain.lessons import MOST, NAMES, Book
from wildsight.backbones.pretrain.llava import LlavaLessons, Pack, Talker, chosen, packed
from wildsight.backbones.pretrain.views import LEVELS, Scenes, Speech, mirrored_text, moved, scenes
from wildsight.training import Batch, History, TrainConfig, train

CAPTION_PROMPT = "what is there ?"  # asks for the caption of level 2


@dataclass(frozen=True)
class Desk:
    """What the lessons need beside the model: scenes, their words, the tokenizer, the pictures' geometry."""

    book: Book
    talk: Speech
    asked: Asked
    words: Any
    view: ClipConfig


def _plan(steps: int, batch: int, rate: float, samples: int, lessons: LlavaLessons) -> TrainConfig:
    return TrainConfig(
        epochs=max(1, round(steps * batch / samples)),
        batch_size=batch,
        lr=rate,
        weight_decay=lessons.weight_decay,
        betas=(0.9, 0.98),
        clip_norm=1.0,
        schedule="cosine",
        warmup=0.04,
        seed=lessons.seed,
        precision="bf16",
        checkpoint_seconds=45.0,
    )


def agree(talker: Talker, desk: Desk, lessons: LlavaLessons, folder: Path, *, progress: bool) -> History:
    """The first part: projected patches lie near the words of what they show."""
    ids = [desk.words.convert_tokens_to_ids(["<unk>", *names]) for names in NAMES]
    rows = min(len(desk.book), lessons.agree_steps * lessons.agree_batch)

    def lesson(pupil: Talker, batch: Batch) -> dict[str, Tensor]:
        view = _view(desk, batch.index.tolist(), batch.index.device)
        groups = [torch.tensor(group, device=batch.index.device) for group in ids]
        return {"loss": pupil.agree(pupil.picture(view.pixels), view.truth, groups)}

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        scalars: dict[str, Tensor] = model(lambda pupil: lesson(pupil, batch))
        return scalars

    plan = _plan(lessons.agree_steps, lessons.agree_batch, lessons.agree_lr, rows, lessons)
    return train(
        talker, Numbers(rows), step, plan, folder=folder, progress=progress, label="nano-llava: words"
    )


def answer(
    talker: Talker, desk: Desk, lessons: LlavaLessons, folder: Path, *, few: bool, progress: bool
) -> History:
    """The second part, questions and captions of scenes with a ``few`` (one or two) things, or of all."""
    steps = lessons.few_steps if few else lessons.steps
    crowd = (desk.book.things[..., 0] > 0).sum(1)
    scenes_of = np.flatnonzero(crowd <= (2 if few else MOST))[: steps * lessons.batch]
    plan = _plan(steps, lessons.batch, lessons.lr, len(scenes_of), lessons)

    def lesson(pupil: Talker, batch: Batch) -> dict[str, Tensor]:
        rows = scenes_of[batch.index.cpu().numpy()].tolist()
        view = _view(desk, rows, batch.index.device)
        pack = questions(desk, rows, view.mirrored, lessons.questions)
        pack = on(pack, batch.index.device)
        kept = chosen(view.truth, lessons.shown) if float(torch.rand(())) < 0.75 else None
        logits = pupil.answer(pupil.picture(view.pixels), pack, kept)
        right = (logits.argmax(1) == pack.targets).float().mean()
        return {"loss": F.cross_entropy(logits, pack.targets), "right": right}

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        scalars: dict[str, Tensor] = model(lambda pupil: lesson(pupil, batch))
        return scalars

    label = "nano-llava: a few things" if few else "nano-llava: answers"
    return train(talker, Numbers(len(scenes_of)), step, plan, folder=folder, progress=progress, label=label)


def _view(desk: Desk, rows: list[int], device: torch.device) -> Scenes:
    return moved(scenes(desk.book, desk.talk, rows, desk.view), device)


def on(pack: Pack, device: torch.device) -> Pack:
    """The same pack on ``device``."""
    return replace(pack, **{field.name: getattr(pack, field.name).to(device) for field in fields(pack)})


def questions(desk: Desk, rows: list[int], mirrored: Tensor, count: int) -> Pack:
    """``count`` of each scene's questions, by torch's generator, and its caption, in one pack."""
    words = desk.words
    left, right = (words.convert_tokens_to_ids(word) for word in ("left", "right"))
    pad, end = words.pad_token_id, words.eos_token_id
    ask = words(CAPTION_PROMPT, add_special_tokens=False).input_ids
    index = np.asarray(rows)
    texts, answers, captions = (
        mirrored_text(torch.from_numpy(a[index].astype(np.int64)), mirrored.cpu(), left, right).tolist()
        for a in (desk.asked.texts, desk.asked.answers, desk.talk.captions[:, LEVELS.index(2)])
    )
    out = []
    for number in range(len(rows)):
        told = [t for t in captions[number] if t not in (pad, words.bos_token_id)]
        own = [(ask + told, len(told))]
        there = [k for k, a in enumerate(answers[number]) if a >= 0]
        for pick in torch.randperm(len(there))[:count].tolist():
            k = there[pick]
            own.append(([t for t in texts[number][k] if t != pad] + [answers[number][k], end], 2))
        out.append(own)
    return packed(out, words.bos_token_id, pad)
