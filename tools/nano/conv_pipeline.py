"""``python -m tools.nano nano-conv``: pictures, teacher, training, scores, card, in one resumable call."""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tools.nano.conv_eval import scores
from tools.nano.conv_train import (
    ConvConfig,
    DistillationSet,
    Student,
    look,
    new_student,
    step,
    teacher_targets,
)
from tools.nano.model_cards import conv_card
from tools.nano.pictures import Pixels, decode, training_files, world_pictures
from wildsight.backbones.backbone import IMAGENET, Backbone, load_backbone
from wildsight.errors import ConfigError
from wildsight.files import (
    MANIFEST,
    atomic_folder,
    cache_folder,
    digest_of,
    write_json,
    write_manifest,
    write_text,
)
from wildsight.training import History, TrainConfig, train

HUB_TEACHER = "google/mobilenet_v2_1.0_224"


def pretrain_conv(
    out: str | Path,
    *,
    data: str | Path | None = None,
    teacher: str | None = None,
    config: ConvConfig | None = None,
    progress: bool = True,
) -> Path:
    """Make nano-conv from nothing; a killed run with the same arguments goes on where it was.

    Args:
        out: checkpoint folder to write; an earlier one is replaced, anything else refused.
        data: folder of real sets; None renders the embedded world's products instead.
        teacher: MobileNetV2 by folder or hub id; by default the one in ``data``, else the hub's.
        config: settings.
        progress: show progress and the time left.

    Returns:
        ``out``.

    Raises:
        ConfigError: no teacher, or a setting out of range.
        DataError: ``data`` holds none of the known sets.
    """
    settings = config or ConvConfig()
    if settings.steps < 1:
        raise ConfigError(f"steps={settings.steps} is below 1", hint="give at least 1")
    root = None if data is None else Path(data)
    guide = load_backbone(teacher or teacher_name(root))
    pictures, named = photographs(root, settings)
    targets = teacher_targets(guide, pictures)
    student = Student(new_student(settings), settings, targets).to(memory_format=torch.channels_last)
    key = digest_of([asdict(settings), guide.sha, named])[:24]
    history = train(
        student,
        DistillationSet(pictures, targets),
        step,
        _schedule(settings, len(pictures)),
        folder=cache_folder("pretrain", f"nano-conv-{key}"),
        progress=progress,
        label="nano-conv",
    )
    return _ship(Path(out), student.backbone, guide, settings, history, named, root)


def teacher_name(data: Path | None) -> str:
    """The ImageNet network in ``data``, or the hub id of the same."""
    folder = None if data is None else data / "weights" / "mobilenet_v2_imagenet"
    return str(folder) if folder is not None and folder.is_dir() else HUB_TEACHER


def photographs(data: Path | None, config: ConvConfig) -> tuple[Pixels, dict[str, int]]:
    """As many training pictures as ``config`` can use, and how many come from where."""
    limit = config.steps * config.batch_size
    if data is None:
        count = min(config.world, limit)
        return world_pictures(count, config.size), {"products of the embedded world": count}
    files = [(name, file) for name, group in training_files(data).items() for file in group]
    order = np.random.default_rng(config.seed).permutation(len(files))[:limit]
    chosen = [files[i] for i in np.sort(order)]
    return decode([file for _, file in chosen], config.size), dict(Counter(name for name, _ in chosen))


def _schedule(config: ConvConfig, count: int) -> TrainConfig:
    """The number of epochs over ``count`` pictures that comes nearest to ``config.steps``."""
    per_epoch = math.ceil(count / config.batch_size)
    return TrainConfig(
        epochs=max(1, round(config.steps / per_epoch)),
        batch_size=config.batch_size,
        lr=config.lr,
        weight_decay=config.weight_decay,
        clip_norm=5.0,
        schedule="cosine",
        warmup=0.05,
        seed=config.seed,
        checkpoint_seconds=30.0,
    )


def _ship(
    out: Path,
    network: nn.Module,
    teacher: Backbone,
    config: ConvConfig,
    history: History,
    named: dict[str, int],
    data: Path | None,
) -> Path:
    """Write weights in half precision, preprocessing, scores, card and manifest, whole or not at all."""
    network = network.cpu().to(memory_format=torch.contiguous_format).eval()
    fresh = Backbone(new_student(config), "random", "", *IMAGENET)
    with atomic_folder(out, MANIFEST) as folder:
        network.half().save_pretrained(folder)
        write_json(folder / "preprocessor_config.json", _preprocessing(config.size))
        taught = load_backbone(folder)
        facts: dict[str, Any] = {
            "parameters": sum(p.numel() for p in network.parameters()),
            "pictures": named,
            "settings": asdict(config),
            "teacher": Path(teacher.name).name,
            "seconds": round(history.seconds),
            "hardware": hardware(),
            "last_epoch": {k: round(v, 5) for k, v in history.epochs[-1].items()},
            "probe": scores(data, fresh, taught, teacher, config.size) if data else {},
            "golden": golden(taught),
        }
        write_json(folder / "training.json", facts)
        write_text(folder / "README.md", conv_card(facts))
        write_manifest(folder)
    return out


def golden(backbone: Backbone) -> list[float]:
    """Six numbers that a correct load reproduces: mean and deviation of the maps of a colour ramp."""
    line = np.arange(64, dtype=np.uint8) * 4
    rows, columns = np.broadcast_arrays(line[:, None], line[None])
    picture = torch.from_numpy(np.stack([rows, columns, 255 - rows], axis=2)[None])
    maps, _ = look(backbone, picture)
    return [round(float(v), 5) for s in (4, 8, 16) for v in (maps[s].mean(), maps[s].std())]


def hardware() -> str:
    """The device in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} threads)"


def _preprocessing(size: int) -> dict[str, Any]:
    side = {"height": size, "width": size}
    mean, std = (list(v) for v in IMAGENET)
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": side,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }
