"""Tiny real models and a KITTI folder for the spatial task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image


def tiny_mllm(seed: int = 0, side: int = 48, layers: int = 2, kind: str = "Llava") -> Any:
    """A random model of a ``kind`` of LLaVA that speaks the world's words: 36 patches of 8 pixels."""
    import transformers

    from wildsight.spatial.mllm import Mllm
    from wildsight.world.tokens import tokenizer

    words = tokenizer(closing=False)
    text = {
        "model_type": "llama", "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
    }  # fmt: skip
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": side, "patch_size": 8,
    }  # fmt: skip
    torch.manual_seed(seed)
    image = words.convert_tokens_to_ids("<image>")
    own: dict[str, Any] = {
        "LlavaNext": {"image_grid_pinpoints": [[side, 2 * side], [2 * side, side], [2 * side, 2 * side]]},
        "VipLlava": {"vision_feature_layers": [-2, 1]},
    }.get(kind, {})
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision, text_config=text, image_token_id=image, **own
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    model.generation_config.pad_token_id = words.pad_token_id
    model.generation_config.eos_token_id = words.eos_token_id
    frozen = model.eval().requires_grad_(False)
    return Mllm(frozen, words, "tiny", "0" * 8, (0.5,) * 3, (0.25,) * 3, "<image> {question}")


def tiny_folder(path: Any, kind: str = "Llava") -> Any:
    """The same as a folder with its processor."""
    from transformers import CLIPImageProcessor, LlavaNextProcessor, LlavaProcessor

    made = tiny_mllm(kind=kind)
    side = {"height": 48, "width": 48}
    pictures = CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)
    join = LlavaProcessor
    if kind == "LlavaNext":
        pictures, join = next_pictures(made), LlavaNextProcessor
    processor = join(
        pictures, made.tokenizer, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, image_token="<image>",
    )  # fmt: skip
    made.model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def next_pictures(made: Any) -> Any:
    """The model's own preparation of pictures in tiles."""
    from transformers import LlavaNextImageProcessor

    side = {"height": made.side, "width": made.side}
    return LlavaNextImageProcessor(
        size=side, crop_size=side, image_grid_pinpoints=made.model.config.image_grid_pinpoints,
        image_mean=made.mean, image_std=made.std,
    )  # fmt: skip


def kitti_folder(root: Path) -> Path:
    for name in ("image_2", "label_2", "calib"):
        (root / "training" / name).mkdir(parents=True)
    for i in range(6):
        stem = f"{i:06d}"
        Image.new("RGB", (200, 60)).save(root / "training" / "image_2" / f"{stem}.png")
        (root / "training" / "label_2" / f"{stem}.txt").write_text(
            "Car 0 0 0 10 10 50 50 1.5 1.8 4.0 1.0 1.7 12.0 0.3\n"
            "DontCare -1 -1 -10 1 1 2 2 -1 -1 -1 -1000 -1000 -1000 -10\n"
        )
        (root / "training" / "calib" / f"{stem}.txt").write_text(
            "P0: 1 0 0 0 0 1 0 0 0 0 1 0\nP2: 150 0 100 9 0 150 30 0 0 0 1 0\n"
        )
    return root
