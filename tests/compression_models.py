"""Tiny real models of the classes that the compression task serves."""

from __future__ import annotations

from typing import Any

import torch

IMAGE = 98
PAD = 0


def llama(seed: int = 0, layers: int = 4, attention: str = "sdpa", dtype: Any = torch.float32) -> Any:
    """A random Llama with grouped heads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        pad_token_id=PAD, bos_token_id=1, eos_token_id=99, attn_implementation=attention,
        initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().to(dtype)


def text_part(layers: int = 3) -> dict[str, Any]:
    return {
        "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 99,
        "initializer_range": 0.3,
    }  # fmt: skip


def vision_part(kind: str = "clip_vision_model", layers: int = 5) -> dict[str, Any]:
    return {
        "model_type": kind, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": layers,
        "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "initializer_range": 0.3,
    }  # fmt: skip


def llava(
    seed: int = 0,
    *,
    attention: str = "sdpa",
    dtype: Any = torch.float32,
    tower: str = "clip_vision_model",
    vision_layers: int = 5,
    next_: bool = False,
) -> Any:
    """A random LLaVA (16 patches of 8 pixels), or LLaVA-NeXT."""
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
    )

    torch.manual_seed(seed)
    full = tower != "clip_vision_model"
    options: dict[str, Any] = {
        "vision_config": vision_part(tower, vision_layers), "text_config": text_part(),
        "image_token_id": IMAGE, "attn_implementation": attention,
        "vision_feature_select_strategy": "full" if full else "default",
    }  # fmt: skip
    if next_:
        config = LlavaNextConfig(**options, image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]])
        model = LlavaNextForConditionalGeneration(config)
    else:
        model = LlavaForConditionalGeneration(LlavaConfig(**options))
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = PAD, 99
    return model.eval().to(dtype)


def llava_inputs(
    images: tuple[int, ...] = (1, 1, 1),
    text: tuple[int, ...] = (9, 4, 6),
    *,
    seed: int = 1,
    patches: int = 16,
    dtype: Any = torch.float32,
) -> dict[str, Any]:
    """A left-padded batch: each row has so many pictures and so many text tokens around them."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for count, words in zip(images, text, strict=True):
        ids = [1]
        for _ in range(count):
            ids += [*torch.randint(2, 90, (2,), generator=draw).tolist(), *[IMAGE] * patches]
        rows.append(ids + torch.randint(2, 90, (words,), generator=draw).tolist())
    length = max(map(len, rows))
    out = {
        "input_ids": torch.tensor([[PAD] * (length - len(r)) + r for r in rows]),
        "attention_mask": torch.tensor([[0] * (length - len(r)) + [1] * len(r) for r in rows]),
    }
    if sum(images):
        out["pixel_values"] = torch.randn(sum(images), 3, 32, 32, generator=draw).to(dtype)
    return out


def nano_folder(path: Any, layers: int = 4) -> Any:
    """A random LLaVA that speaks the world's words, saved with its processor: 36 patches of 8 pixels."""
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    from wildsight.world.tokens import tokenizer

    words = tokenizer(closing=False)
    image = words.convert_tokens_to_ids("<image>")
    text = text_part(layers) | {
        "vocab_size": len(words),
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
    }
    torch.manual_seed(0)
    vision = vision_part() | {"image_size": 48}
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=image)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.pad_token_id = words.pad_token_id
    model.generation_config.eos_token_id = words.eos_token_id
    side = {"height": 48, "width": 48}
    pictures = CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)
    processor = LlavaProcessor(
        pictures, words, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, image_token="<image>",
    )  # fmt: skip
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path
