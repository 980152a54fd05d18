"""The parts of nano-llava's training, as steps for `wildsight.training.train`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.nano.clip import ClipConfig
from tools.nano.clip_train import RowNumbers
from tools.nano.llava import NanoLlavaConfig, Pack, Talker, chosen, packed
from tools.nano.question_cache import QuestionCache
from tools.nano.scene_cache import MOST, NAMES, SceneCache
from tools.nano.views import LEVELS, Scenes, Speech, mirrored_text, moved, scenes
from wildsight.training import Batch, History, TrainConfig, train

CAPTION_PROMPT = "what is there ?"  # asks for the caption of level 2


@dataclass(frozen=True)
class TrainingData:
    """What training needs beside the model: scenes, their words, the tokenizer, the pictures' geometry."""

    book: SceneCache
    talk: Speech
    asked: QuestionCache
    words: Any
    view: ClipConfig


def _plan(steps: int, batch: int, rate: float, samples: int, config: NanoLlavaConfig) -> TrainConfig:
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


def agree(
    talker: Talker, data: TrainingData, config: NanoLlavaConfig, folder: Path, *, progress: bool
) -> History:
    """The first part: projected patches lie near the words of what they show."""
    ids = [data.words.convert_tokens_to_ids(["<unk>", *names]) for names in NAMES]
    rows = min(len(data.book), config.agree_steps * config.agree_batch)

    def losses(student: Talker, batch: Batch) -> dict[str, Tensor]:
        view = _view(data, batch.index.tolist(), batch.index.device)
        groups = [torch.tensor(group, device=batch.index.device) for group in ids]
        return {"loss": student.agree(student.picture(view.pixels), view.truth, groups)}

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        scalars: dict[str, Tensor] = model(lambda student: losses(student, batch))
        return scalars

    plan = _plan(config.agree_steps, config.agree_batch, config.agree_lr, rows, config)
    return train(
        talker, RowNumbers(rows), step, plan, folder=folder, progress=progress, label="nano-llava: words"
    )


def answer(
    talker: Talker, data: TrainingData, config: NanoLlavaConfig, folder: Path, *, few: bool, progress: bool
) -> History:
    """The second part, questions and captions of scenes with a ``few`` (one or two) things, or of all."""
    steps = config.few_steps if few else config.steps
    crowd = (data.book.things[..., 0] > 0).sum(1)
    scenes_of = np.flatnonzero(crowd <= (2 if few else MOST))[: steps * config.batch]
    plan = _plan(steps, config.batch, config.lr, len(scenes_of), config)

    def losses(student: Talker, batch: Batch) -> dict[str, Tensor]:
        rows = scenes_of[batch.index.cpu().numpy()].tolist()
        view = _view(data, rows, batch.index.device)
        pack = questions(data, rows, view.mirrored, config.questions)
        pack = on(pack, batch.index.device)
        kept = chosen(view.truth, config.shown) if float(torch.rand(())) < 0.75 else None
        logits = student.answer(student.picture(view.pixels), pack, kept)
        right = (logits.argmax(1) == pack.targets).float().mean()
        return {"loss": F.cross_entropy(logits, pack.targets), "right": right}

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        scalars: dict[str, Tensor] = model(lambda student: losses(student, batch))
        return scalars

    label = "nano-llava: a few things" if few else "nano-llava: answers"
    return train(
        talker, RowNumbers(len(scenes_of)), step, plan, folder=folder, progress=progress, label=label
    )


def _view(data: TrainingData, rows: list[int], device: torch.device) -> Scenes:
    return moved(scenes(data.book, data.talk, rows, data.view), device)


def on(pack: Pack, device: torch.device) -> Pack:
    """The same pack on ``device``."""
    return replace(pack, **{field.name: getattr(pack, field.name).to(device) for field in fields(pack)})


def questions(data: TrainingData, rows: list[int], mirrored: Tensor, count: int) -> Pack:
    """``count`` of each scene's questions, by torch's generator, and its caption, in one pack."""
    words = data.words
    left, right = (words.convert_tokens_to_ids(word) for word in ("left", "right"))
    pad, end = words.pad_token_id, words.eos_token_id
    ask = words(CAPTION_PROMPT, add_special_tokens=False).input_ids
    index = np.asarray(rows)
    texts, answers, captions = (
        mirrored_text(torch.from_numpy(a[index].astype(np.int64)), mirrored.cpu(), left, right).tolist()
        for a in (data.asked.texts, data.asked.answers, data.talk.captions[:, LEVELS.index(2)])
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
