"""Trainings of the nano checkpoints that last seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tools.nano import clip_pipeline, llava_pipeline, sam_pipeline
from tools.nano.clip import ClipConfig
from tools.nano.llava import NanoLlavaConfig
from tools.nano.sam import NanoSamConfig

CLIP = ClipConfig(
    size=32, patch=8, width=64, layers=2, text_width=32, text_layers=1, shared=16, scenes=8,
    window_steps=2, window_batch=4, scene_steps=2, scene_batch=4, painted_steps=2,
)  # fmt: skip
LLAVA = NanoLlavaConfig(
    width=32, feed=32, layers=2, heads=4, groups=2, scenes=8, agree_steps=2, agree_batch=4,
    few_steps=2, steps=2, batch=4, questions=3, drawn=4, shown=6,
)  # fmt: skip
SAM = NanoSamConfig(
    size=32, patch=8, width=64, layers=2, window=2, channels=32, scenes=8, products=3, still_steps=2,
    steps=2, batch=4,
)  # fmt: skip


def few_scores(patch: pytest.MonkeyPatch) -> None:
    """Score the trained models on a handful of scenes."""
    full_clip, full_llava, full_sam = (
        clip_pipeline.clip_scores,
        llava_pipeline.llava_scores,
        sam_pipeline.sam_scores,
    )
    patch.setattr(clip_pipeline, "clip_scores", lambda m, w, s: full_clip(m, w, s, singles_of=4, groups_of=4))
    patch.setattr(llava_pipeline, "llava_scores", lambda folder, count: full_llava(folder, count=6, batch=3))
    patch.setattr(sam_pipeline, "sam_scores", lambda model, settings, scenes: full_sam(model, settings, 2))


def tiny_teacher(folder: Path) -> str:
    """A random MobileNetV2, saved."""
    from transformers import MobileNetV2Config, MobileNetV2Model

    torch.manual_seed(0)
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.1, image_size=32)).save_pretrained(folder)
    return str(folder)
