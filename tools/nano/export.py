"""Writing a nano checkpoint: half-precision weights, preprocessing, tokenizer, facts, card and manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wildsight.files import MANIFEST, atomic_folder, write_json, write_manifest, write_text
from wildsight.world import WORLD_VERSION

BILINEAR = 2


def clip_preprocessing(size: int) -> dict[str, Any]:
    """``preprocessor_config.json`` of a `CLIPImageProcessor` that stretches to ``size``."""
    from tools.nano.clip import MEAN, STD

    side = {"height": size, "width": size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": side,
        "resample": BILINEAR,
        "do_center_crop": False,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }


def sam_preprocessing(size: int, coarse: int) -> dict[str, Any]:
    """``preprocessor_config.json`` of a `SamImageProcessor`: pictures of ``size``, masks of ``coarse``."""
    from tools.nano.clip import MEAN, STD

    return {
        "image_processor_type": "SamImageProcessor",
        "processor_class": "SamProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"longest_edge": size},
        "mask_size": {"longest_edge": coarse},
        "resample": BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "do_pad": True,
        "pad_size": {"height": size, "width": size},
        "mask_pad_size": {"height": coarse, "width": coarse},
    }


def ship(
    out: Path,
    model: nn.Module,
    extras: Callable[[Path], None],
    measure: Callable[[Path], dict[str, Any]],
    card: Callable[[dict[str, Any]], str],
) -> Path:
    """Write a checkpoint, whole or not at all.

    Args:
        out: folder; an earlier one is replaced, anything else refused.
        model: of `transformers`; becomes half precision.
        extras: writes preprocessing and tokenizer into the folder.
        measure: the facts of ``training.json``, from the folder as it will be read.
        card: README.md from those facts.
    """
    with atomic_folder(out, MANIFEST) as folder:
        model.cpu().eval().half().save_pretrained(folder)
        for file in folder.glob("*.safetensors"):
            file.chmod(0o644)
        extras(folder)
        world = {"training": WORLD_VERSION, "scores": WORLD_VERSION}
        count = sum(p.numel() for p in model.parameters())
        describe(folder, {"parameters": count, "world": world, **measure(folder)}, card)
    return out


def describe(folder: Path, facts: dict[str, Any], card: Callable[[dict[str, Any]], str]) -> None:
    """Write facts, card and manifest of a checkpoint."""
    write_json(folder / "training.json", facts)
    write_text(folder / "README.md", card(facts))
    write_manifest(folder)


def plain_json(value: Any) -> Any:
    """Numbers rounded to four digits, all the way down.

    >>> plain_json({"a": [1 / 3, torch.tensor(2)]})
    {'a': [0.3333, 2]}
    """
    if isinstance(value, dict):
        return {str(k): plain_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(v) for v in value]
    if isinstance(value, torch.Tensor):
        return plain_json(value.tolist())
    return round(value, 4) if isinstance(value, float) else value
