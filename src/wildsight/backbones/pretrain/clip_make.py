"""``wildsight pretrain nano-clip``: scenes, photographs, the schooling, scores, card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wildsight.backbones.backbone import Backbone, load_backbone
from wildsight.backbones.pretrain.cards import clip_card
from wildsight.backbones.pretrain.clip import ClipConfig, Pupil, new_clip
from wildsight.backbones.pretrain.clip_probe import clip_scores, groups, pictures_in, readings
from wildsight.backbones.pretrain.clip_school import Class, Photos, look_around, look_closely, look_through
from wildsight.backbones.pretrain.conv import hardware, photographs, teacher_name
from wildsight.backbones.pretrain.distil import ConvConfig, teacher_targets
from wildsight.backbones.pretrain.lessons import lessons
from wildsight.backbones.pretrain.ship import clip_preprocessing, plain_json, ship
from wildsight.backbones.pretrain.views import speech
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
        raise ConfigError("a part of the schooling has no step", hint="give at least 1")
    pupil, facts = schooled(None if data is None else Path(data), teacher, settings, progress=progress)
    return ship_clip(Path(out), pupil, tokenizer(), facts)


def schooled(
    data: Path | None, teacher: str | None, config: ClipConfig, *, progress: bool
) -> tuple[Pupil, dict[str, Any]]:
    """The pupil after all parts, and what its card says of them."""
    words = tokenizer()
    guide = None if data is None else load_backbone(teacher or teacher_name(data))
    photos, named = _photos(data, guide, config)
    key = digest_of(
        [asdict(config), None if guide is None else guide.sha, named, sorted(words.get_vocab().items())]
    )
    folder = cache_folder("pretrain", f"nano-clip-{key[:24]}")
    book = lessons(config.scenes, config.size)
    group = Class(book, speech(book, words, config.length), words, photos)
    widths = _NO_TEACHER if photos is None else _widths(photos)
    pupil = Pupil(new_clip(config, words), config, widths)
    first = look_closely(pupil, group, folder / "things", progress=progress)
    second = look_around(pupil, group, folder / "scenes", progress=progress)
    third = look_through(pupil, group, folder / "painted", progress=progress)
    return pupil, clip_facts(config, (first, second, third), named, guide)


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


def ship_clip(out: Path, pupil: Pupil, words: Any, facts: dict[str, Any]) -> Path:
    """Write nano-clip with its scores.

    Args:
        out: checkpoint folder, replaced if it exists.
        pupil: taught.
        words: the tokenizer.
        facts: what `clip_facts` gives.
    """
    config = pupil.eval().config

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

    patches = readings(pupil, *groups(64, config.size))
    names = ("shape", "colour", "material", "size")
    facts = {**facts, "patches_read": dict(zip(names, patches, strict=True))}
    return ship(out, pupil.clip, extras, measure, clip_card)


@torch.no_grad()
def golden(clip: Any, size: int) -> list[float]:
    """Six numbers that a correct load reproduces: of the embedding of a colour ramp."""
    line = np.arange(size) * (255 // size)
    rows, columns = np.broadcast_arrays(line[:, None], line[None])
    picture = np.stack([rows, columns, 255 - rows], axis=2).astype(np.uint8)[None]
    embedding: Tensor = pictures_in(clip, picture)[0]
    return [round(float(v), 4) for v in embedding[:6]]
