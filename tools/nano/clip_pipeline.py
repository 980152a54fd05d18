"""``python -m tools.nano nano-clip``: scenes, photographs, the training, scores, card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.nano.clip import ClipConfig, Student, new_clip
from tools.nano.clip_eval import clip_scores, groups, pictures_in, readings
from tools.nano.clip_train import Photos, TrainingData, look_around, look_closely, look_through
from tools.nano.conv_pipeline import hardware, photographs, teacher_name
from tools.nano.conv_train import ConvConfig, teacher_targets
from tools.nano.export import clip_preprocessing, plain_json, ship
from tools.nano.model_cards import clip_card
from tools.nano.scene_cache import cached_scenes
from tools.nano.views import speech
from wildsight.backbones.backbone import Backbone, load_backbone
from wildsight.errors import ConfigError
from wildsight.files import cache_folder, digest_of, write_json
from wildsight.training import History
from wildsight.world.tokens import tokenizer

_NO_TEACHER = (32, 96, 1280)


def pretrain_clip(
    out: str | Path,
    *,
    data: str | Path | None = None,
    teacher: str | None = None,
    config: ClipConfig | None = None,
    progress: bool = True,
) -> Path:
    """Make nano-clip from nothing; a killed run with the same arguments goes on where it was.

    Args:
        out: checkpoint folder to write; an earlier one is replaced, anything else refused.
        data: folder of real sets whose photographs are learned from as well; None: rendered scenes alone.
        teacher: ImageNet network that says what the photographs show; by default the one in ``data``.
        config: settings.
        progress: show progress and the time left.

    Returns:
        ``out``.

    Raises:
        ConfigError: no teacher for the photographs, or a setting out of range.
        DataError: ``data`` holds none of the known sets.
    """
    settings = config or ClipConfig()
    if min(settings.window_steps, settings.scene_steps, settings.painted_steps) < 1:
        raise ConfigError("a part of the training has no step", hint="give at least 1")
    student, facts = trained(None if data is None else Path(data), teacher, settings, progress=progress)
    return ship_clip(Path(out), student, tokenizer(), facts)


def trained(
    data: Path | None, teacher: str | None, config: ClipConfig, *, progress: bool
) -> tuple[Student, dict[str, Any]]:
    """The student after all parts, and what its card says of them."""
    words = tokenizer()
    guide = None if data is None else load_backbone(teacher or teacher_name(data))
    photos, named = _photos(data, guide, config)
    key = digest_of(
        [asdict(config), None if guide is None else guide.sha, named, sorted(words.get_vocab().items())]
    )
    folder = cache_folder("pretrain", f"nano-clip-{key[:24]}")
    book = cached_scenes(config.scenes, config.size)
    material = TrainingData(book, speech(book, words, config.length), words, photos)
    widths = _NO_TEACHER if photos is None else _widths(photos)
    student = Student(new_clip(config, words), config, widths)
    first = look_closely(student, material, folder / "things", progress=progress)
    second = look_around(student, material, folder / "scenes", progress=progress)
    third = look_through(student, material, folder / "painted", progress=progress)
    return student, clip_facts(config, (first, second, third), named, guide)


def clip_facts(
    config: ClipConfig, parts: Sequence[History], named: dict[str, int], guide: Backbone | None
) -> dict[str, Any]:
    """What the card says of the training."""
    histories = dict(zip(("things", "scenes", "painted"), parts, strict=True))
    return {
        "settings": asdict(config),
        "steps": {name: history.steps for name, history in histories.items()},
        "seconds": {name: round(history.seconds) for name, history in histories.items()},
        "photographs": named,
        "teacher": None if guide is None else Path(guide.name).name,
        "hardware": hardware(),
        "last_epoch": plain_json({name: history.epochs[-1] for name, history in histories.items()}),
    }


def _widths(photos: Photos) -> tuple[int, int, int]:
    eight, sixteen, whole = (photos.targets.arrays[name].shape[1] for name in ("8", "16", "embedding"))
    return eight, sixteen, whole


def _photos(
    data: Path | None, guide: Backbone | None, config: ClipConfig
) -> tuple[Photos | None, dict[str, int]]:
    if data is None or guide is None or config.photos == 0:
        return None, {}
    few = ConvConfig(size=config.size, steps=config.album, batch_size=1, seed=config.seed)
    pictures, named = photographs(data, few)
    return Photos(pictures, teacher_targets(guide, pictures)), named


def ship_clip(out: Path, student: Student, words: Any, facts: dict[str, Any]) -> Path:
    """Write nano-clip with its scores.

    Args:
        out: checkpoint folder, replaced if it exists.
        student: taught.
        words: the tokenizer.
        facts: what `clip_facts` gives.
    """
    config = student.eval().config

    def extras(folder: Path) -> None:
        words.save_pretrained(folder)
        write_json(folder / "preprocessor_config.json", clip_preprocessing(config.size))

    def measure(folder: Path) -> dict[str, Any]:
        model = load_backbone(folder).model
        table = clip_scores(model, words, config.size)
        return {
            **facts,
            "scores": plain_json({**table, "words": len(words)}),
            "golden": golden(model, config.size),
        }

    patches = readings(student, *groups(64, config.size))
    names = ("shape", "colour", "material", "size")
    facts = {**facts, "patches_read": dict(zip(names, patches, strict=True))}
    return ship(out, student.clip, extras, measure, clip_card)


@torch.no_grad()
def golden(clip: Any, size: int) -> list[float]:
    """Six numbers that a correct load reproduces: of the embedding of a colour ramp."""
    line = np.arange(size) * (255 // size)
    rows, columns = np.broadcast_arrays(line[:, None], line[None])
    picture = np.stack([rows, columns, 255 - rows], axis=2).astype(np.uint8)[None]
    embedding: Tensor = pictures_in(clip, picture)[0]
    return [round(float(v), 4) for v in embedding[:6]]
