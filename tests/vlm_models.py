"""Multimodal LLMs of real classes with narrow layers, saved as their hub repositories are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SPECIAL = (
    "<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>", "<IMG_CONTEXT>", "<img>", "</img>", "[IMG]", "[IMG_BREAK]", "[IMG_END]",
    "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
    *(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)),
)  # fmt: skip
CHAT = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}ASSISTANT:"
)
VOCABULARY = 384


def number(token: str) -> int:
    return SPECIAL.index(token)


def tokenizer(**extra: str) -> Any:
    """Byte-level, with the special tokens of every family here."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(BPE({t: i for i, t in enumerate((*SPECIAL, *letters))}, [], unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        extra_special_tokens=extra,
    )  # fmt: skip


def _text(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, **more,
    }  # fmt: skip


def _vision(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    } | more


def qwen25() -> tuple[Any, Any, Any, str, str]:
    import transformers as t

    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    tower = {
        "depth": 4, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 4, "intermediate_size": 48,
        "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1, 3],
    }  # fmt: skip
    config = t.Qwen2_5_VLConfig(
        text_config=_text(rope_parameters=rope), vision_config=tower,
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"), vision_end_token_id=number("<|vision_end|>"),
    )  # fmt: skip
    pictures = t.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    words = tokenizer(image_token="<|image_pad|>", video_token="<|video_pad|>")
    chat = "<|vision_start|><|image_pad|><|vision_end|>"
    return t.Qwen2_5_VLForConditionalGeneration(config), pictures, words, "Qwen2_5_VLProcessor", chat


def onevision() -> tuple[Any, Any, Any, str, str]:
    import transformers as t

    config = t.LlavaOnevisionConfig(
        vision_config=_vision(
            model_type="siglip_vision_model", image_size=56, patch_size=14, vision_use_head=False
        ),
        text_config=_text(model_type="qwen2"),
        image_token_id=number("<image>"), video_token_id=number("<video>"),
        image_grid_pinpoints=[[56, 56], [112, 112]],
    )  # fmt: skip
    side = {"height": 56, "width": 56}
    pictures = t.LlavaOnevisionImageProcessor(image_grid_pinpoints=config.image_grid_pinpoints, size=side)
    words = tokenizer(image_token="<image>", video_token="<video>")
    return (
        t.LlavaOnevisionForConditionalGeneration(config),
        pictures,
        words,
        "LlavaOnevisionProcessor",
        "<image>\n",
    )


def internvl() -> tuple[Any, Any, Any, str, str]:
    import transformers as t

    config = t.InternVLConfig(
        vision_config=_vision(image_size=[56, 56], patch_size=[14, 14]),
        text_config=_text(model_type="qwen2"),
        image_token_id=number("<IMG_CONTEXT>"),
    )  # fmt: skip
    pictures = t.GotOcr2ImageProcessor(size={"height": 56, "width": 56}, crop_to_patches=False)
    words = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )  # fmt: skip
    return t.InternVLForConditionalGeneration(config), pictures, words, "InternVLProcessor", "<IMG_CONTEXT>\n"


def pixtral() -> tuple[Any, Any, Any, str, str]:
    import transformers as t

    tower = _vision(model_type="pixtral", image_size=112, patch_size=16, head_dim=8)
    config = t.LlavaConfig(
        vision_config=tower, text_config=_text(model_type="mistral", sliding_window=None, head_dim=8),
        image_token_id=number("[IMG]"), vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    pictures = t.PixtralImageProcessor(size={"longest_edge": 64}, patch_size={"height": 16, "width": 16})
    return t.LlavaForConditionalGeneration(config), pictures, tokenizer(), "PixtralProcessor", "[IMG]"


FAMILIES = {"qwen2.5-vl": qwen25, "llava-onevision": onevision, "internvl": internvl, "pixtral": pixtral}
SETTINGS: dict[str, dict[str, Any]] = {
    "llava-onevision": {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    "internvl": {"image_seq_length": 4},
    "pixtral": {"patch_size": 16},
}


def save(family: str, folder: Path) -> Path:
    """A folder as ``hf download`` leaves it: weights, tokenizer, settings, the chat template."""
    torch.manual_seed(0)
    model, pictures, words, kind, placeholder = FAMILIES[family]()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    settings = json.loads(pictures.to_json_string()) | {"processor_class": kind}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    whole = {"processor_class": kind, **SETTINGS.get(family, {})}
    (folder / "processor_config.json").write_text(json.dumps(whole))
    (folder / "chat_template.jinja").write_text(CHAT.replace("IMAGE", placeholder))
    return folder
