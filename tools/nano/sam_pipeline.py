"""``python -m tools.nano nano-sam``: scenes, defective products, training, scores, card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.nano.clip import normalised
from tools.nano.conv_pipeline import hardware
from tools.nano.export import plain_json, sam_preprocessing, ship
from tools.nano.model_cards import sam_card
from tools.nano.sam import NanoSamConfig, begin_as, new_sam, overlap
from tools.nano.sam_train import (
    drafts,
    faults,
    inner_points,
    outline,
    tight_boxes,
)
from tools.nano.scene_cache import TEST, cached_scenes
from wildsight.backbones.backbone import load_backbone
from wildsight.errors import ConfigError
from wildsight.files import cache_folder, digest_of, write_json
from wildsight.training import History

_CLEAR = 40  # visible pixels of a thing that is scored


def pretrain_sam(
    out: str | Path,
    *,
    tower: str | None = "nano-clip",
    config: NanoSamConfig | None = None,
    progress: bool = True,
) -> Path:
    """Make nano-sam; a killed run with the same arguments goes on where it was.

    Args:
        out: checkpoint folder to write; an earlier one is replaced, anything else refused.
        tower: nano-clip, by name or folder, whose first layers the encoder starts as; None: from nothing.
        config: settings.
        progress: show progress and the time left.

    Returns:
        ``out``.

    Raises:
        ConfigError: a setting out of range, or no such tower.
    """
    settings = config or NanoSamConfig()
    if min(settings.steps, settings.still_steps) < 1:
        raise ConfigError(f"steps={settings.steps} is below 1", hint="give at least 1")
    model, clip = new_sam(settings), None if tower is None else load_backbone(tower)
    book, flawed = cached_scenes(settings.scenes, settings.size), faults(settings.products, settings.size)
    if clip is not None:
        begin_as(model, clip.model, torch.from_numpy(book.take(range(min(16, len(book))))[0]).float())
    key = digest_of([asdict(settings), None if clip is None else clip.sha])[:24]
    folder = cache_folder("pretrain", f"nano-sam-{key}")
    parts = [
        outline(model, book, flawed, settings, folder / name, still=still, progress=progress)
        for name, still in (("still", True), ("all", False))
    ]
    return ship_sam(Path(out), model, settings, sam_facts(settings, parts, tower))


def sam_facts(settings: NanoSamConfig, parts: Sequence[History], tower: str | None) -> dict[str, Any]:
    """What the card says of the training."""
    histories = dict(zip(("still", "all"), parts, strict=True))
    return {
        "settings": asdict(settings),
        "tower": None if tower is None else Path(tower).name,
        "steps": {name: history.steps for name, history in histories.items()},
        "seconds": {name: round(history.seconds) for name, history in histories.items()},
        "hardware": hardware(),
        "last_epoch": plain_json({name: history.epochs[-1] for name, history in histories.items()}),
    }


def ship_sam(
    out: Path, model: nn.Module, settings: NanoSamConfig, facts: dict[str, Any], *, scenes: int = 200
) -> Path:
    """Write nano-sam with its scores on ``scenes`` held-out scenes."""

    def extras(folder: Path) -> None:
        write_json(folder / "preprocessor_config.json", sam_preprocessing(settings.size, settings.coarse))

    def measure(folder: Path) -> dict[str, Any]:
        from transformers import SamModel

        read = SamModel.from_pretrained(folder, dtype=torch.float32).eval()
        return {**facts, "scores": plain_json(sam_scores(read, settings, scenes))}

    return ship(out, model, extras, measure, sam_card)


@torch.no_grad()
def sam_scores(model: Any, settings: NanoSamConfig, scenes: int) -> dict[str, float]:
    """Mean IoU at the picture's size by prompt, things of held-out scenes."""
    book = cached_scenes(scenes, settings.size, first=TEST)
    torch.manual_seed(0)
    sums: dict[str, list[Tensor]] = {}
    for row in range(scenes):
        picture, maps = book.take([row])
        things = np.flatnonzero(book.seen[row] >= _CLEAR)
        if len(things):
            masks = torch.from_numpy(maps[0] == things[:, None, None])[None]
            for name, values in _score(model, torch.from_numpy(picture).float(), masks, settings).items():
                sums.setdefault(name, []).append(values)
    return {name: float(torch.cat(values).mean()) for name, values in sums.items()}


def _score(model: Any, picture: Tensor, masks: Tensor, settings: NanoSamConfig) -> dict[str, Tensor]:
    """IoU [P] by prompt for masks [1, P, S, S] of one picture."""
    seen = model.get_image_embeddings(normalised(picture))
    boxes, points = tight_boxes(masks), inner_points(masks)
    ones = torch.ones(points.shape[:3], dtype=torch.long)
    rough = drafts(
        F.interpolate(masks.float(), size=(settings.coarse, settings.coarse), mode="area")[0][:, None]
    )
    asked: dict[str, dict[str, Any]] = {
        "box": {"input_boxes": boxes},
        "point": {"input_points": points, "input_labels": ones},
        "box and point": {"input_boxes": boxes, "input_points": points, "input_labels": ones},
    }
    table: dict[str, Tensor] = {}
    for name, prompt in asked.items():
        for label, several in ((name, False), (f"{name}, of three", True)):
            output = model(image_embeddings=seen, multimask_output=several, **prompt)
            table[label] = overlap(_own_choice(output, settings.size) > 0, masks[0])
    repeated = seen.expand(len(rough), -1, -1, -1)
    with_draft = {"input_points": points[0][:, None], "input_labels": ones[0][:, None], "input_masks": rough}
    output = model(image_embeddings=repeated, multimask_output=False, **with_draft)
    table["draft and point"] = overlap(_whole(output.pred_masks[:, 0, 0], settings.size) > 0, masks[0])
    return table


def _own_choice(output: Any, size: int) -> Tensor:
    """The mask [P, size, size] that the model rates best."""
    best = output.iou_scores[0].argmax(1)
    return _whole(output.pred_masks[0, torch.arange(len(best)), best], size)


def _whole(logits: Tensor, size: int) -> Tensor:
    return F.interpolate(logits[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
