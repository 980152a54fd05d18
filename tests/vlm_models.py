"""Multimodal LLMs of real classes with narrow layers, saved as their hub repositories are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SPECIAL = (
    "<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>", "<IMG_CONTEXT>", "<img>", "</img>", "[IMG]", "[IMG_BREAK]", "[IMG_END]",
    "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<start_of_image>", "<end_of_image>",
    "<|image|>",
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


Parts = tuple[Any, Any, Any, str, str]
"""Model, image processor, tokenizer, name of the processor's class, how the chat writes a picture."""

QWEN_IDS = {
    "image_token_id": number("<|image_pad|>"), "video_token_id": number("<|video_pad|>"),
    "vision_start_token_id": number("<|vision_start|>"), "vision_end_token_id": number("<|vision_end|>"),
}  # fmt: skip


def _rope(**more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]} | more


def _qwen(model: Any, processor: str, patch: int = 14) -> Parts:
    import transformers as t

    pixels = (patch * 4) ** 2
    pictures = t.Qwen2VLImageProcessor(patch_size=patch, min_pixels=pixels, max_pixels=4 * pixels)
    words = tokenizer(image_token="<|image_pad|>", video_token="<|video_pad|>")
    return model, pictures, words, processor, "<|vision_start|><|image_pad|><|vision_end|>"


def qwen2() -> Parts:
    import transformers as t

    tower = {"depth": 3, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 14}
    config = t.Qwen2VLConfig(text_config=_text(rope_parameters=_rope()), vision_config=tower, **QWEN_IDS)
    return _qwen(t.Qwen2VLForConditionalGeneration(config), "Qwen2VLProcessor")


def qwen25() -> Parts:
    import transformers as t

    tower = {
        "depth": 4, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 4, "intermediate_size": 48,
        "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1, 3],
    }  # fmt: skip
    config = t.Qwen2_5_VLConfig(text_config=_text(rope_parameters=_rope()), vision_config=tower, **QWEN_IDS)
    return _qwen(t.Qwen2_5_VLForConditionalGeneration(config), "Qwen2_5_VLProcessor")


def _tower3(**more: Any) -> dict[str, Any]:
    return {
        "depth": 4, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 4, "intermediate_size": 48,
        "patch_size": 16, "num_position_embeddings": 2304, **more,
    }  # fmt: skip


def qwen3() -> Parts:
    import transformers as t

    config = t.Qwen3VLConfig(
        text_config=_text(num_hidden_layers=4, head_dim=8, rope_parameters=_rope(mrope_interleaved=True)),
        vision_config=_tower3(deepstack_visual_indexes=[0, 1, 2]), **QWEN_IDS,
    )  # fmt: skip
    return _qwen(t.Qwen3VLForConditionalGeneration(config), "Qwen3VLProcessor", 16)


def qwen35() -> Parts:
    import transformers as t

    rope = _rope(mrope_section=[2, 1, 1], mrope_interleaved=True, partial_rotary_factor=0.25)
    linear = {
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }  # fmt: skip
    config = t.Qwen3_5Config(
        text_config=_text(num_hidden_layers=4, head_dim=32, rope_parameters=rope, **linear),
        vision_config=_tower3(), **QWEN_IDS,
    )  # fmt: skip
    return _qwen(t.Qwen3_5ForConditionalGeneration(config), "Qwen3VLProcessor", 16)


def _clip(side: int = 336) -> tuple[dict[str, Any], Any]:
    import transformers as t

    tower = _vision(model_type="clip_vision_model", num_hidden_layers=5, image_size=side, patch_size=14)
    size = {"height": side, "width": side}
    return tower, t.CLIPImageProcessor(size={"shortest_edge": side}, crop_size=size)


def _siglip(side: int, patch: int = 14, **more: Any) -> dict[str, Any]:
    return _vision(
        model_type="siglip_vision_model", image_size=side, patch_size=patch, vision_use_head=False, **more
    )


def llava() -> Parts:
    import transformers as t

    tower, pictures = _clip()
    config = t.LlavaConfig(
        vision_config=tower, text_config=_text(model_type="llama"), image_token_id=number("<image>")
    )
    return t.LlavaForConditionalGeneration(config), pictures, tokenizer(), "LlavaProcessor", "<image>\n"


def vip() -> Parts:
    import transformers as t

    tower, pictures = _clip()
    config = t.VipLlavaConfig(
        vision_config=tower, text_config=_text(model_type="llama"), image_token_id=number("<image>"),
        vision_feature_layer=[-2, -3, 1],
    )  # fmt: skip
    return t.VipLlavaForConditionalGeneration(config), pictures, tokenizer(), "LlavaProcessor", "<image>\n"


def llava_next() -> Parts:
    import transformers as t

    tower, _ = _clip()
    config = t.LlavaNextConfig(
        vision_config=tower, text_config=_text(model_type="mistral", sliding_window=None),
        image_token_id=number("<image>"),
    )  # fmt: skip
    pictures = t.LlavaNextImageProcessor(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336},
        image_grid_pinpoints=config.image_grid_pinpoints,
    )  # fmt: skip
    model = t.LlavaNextForConditionalGeneration(config)
    return model, pictures, tokenizer(), "LlavaNextProcessor", "<image>\n"


def onevision() -> Parts:
    import transformers as t

    config = t.LlavaOnevisionConfig(
        vision_config=_siglip(56), text_config=_text(model_type="qwen2"),
        image_token_id=number("<image>"), video_token_id=number("<video>"),
        image_grid_pinpoints=[[56, 56], [112, 112], [112, 224]],
    )  # fmt: skip
    side = {"height": 56, "width": 56}
    pictures = t.LlavaOnevisionImageProcessor(image_grid_pinpoints=config.image_grid_pinpoints, size=side)
    words = tokenizer(image_token="<image>", video_token="<video>")
    model = t.LlavaOnevisionForConditionalGeneration(config)
    return model, pictures, words, "LlavaOnevisionProcessor", "<image>\n"


def internvl() -> Parts:
    import transformers as t

    config = t.InternVLConfig(
        vision_config=_vision(image_size=[56, 56], patch_size=[14, 14]),
        text_config=_text(model_type="qwen2"),
        image_token_id=number("<IMG_CONTEXT>"),
    )  # fmt: skip
    side = {"height": 56, "width": 56}
    pictures = t.GotOcr2ImageProcessor(size=side, crop_to_patches=True, max_patches=4)
    words = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )  # fmt: skip
    model = t.InternVLForConditionalGeneration(config)
    return model, pictures, words, "InternVLProcessor", "<IMG_CONTEXT>\n"


def smolvlm() -> Parts:
    import transformers as t

    config = t.SmolVLMConfig(
        vision_config=_vision(image_size=128, patch_size=16), text_config=_text(model_type="llama"),
        scale_factor=4, image_token_id=number("<image>"), pad_token_id=0,
    )  # fmt: skip
    words = tokenizer(
        image_token="<image>", fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>", end_of_utterance_token="<end_of_utterance>",
    )  # fmt: skip
    pictures = t.SmolVLMImageProcessor(size={"longest_edge": 256}, max_image_size={"longest_edge": 128})
    return t.SmolVLMForConditionalGeneration(config), pictures, words, "SmolVLMProcessor", "<image>"


def idefics3() -> Parts:
    import transformers as t

    config = t.Idefics3Config(
        vision_config=_vision(image_size=112, patch_size=14), text_config=_text(model_type="llama"),
        scale_factor=2, image_token_id=number("<image>"), pad_token_id=0,
    )  # fmt: skip
    pictures = t.Idefics3ImageProcessor(size={"longest_edge": 224}, max_image_size={"longest_edge": 112})
    return t.Idefics3ForConditionalGeneration(config), pictures, tokenizer(), "Idefics3Processor", "<image>"


def paligemma() -> Parts:
    import transformers as t

    text = _text(
        model_type="gemma2", head_dim=8, sliding_window=64, query_pre_attn_scalar=8, num_hidden_layers=4
    )
    config = t.PaliGemmaConfig(
        vision_config=_siglip(224, projection_dim=32), text_config=text, image_token_id=number("<image>"),
        projection_dim=32, hidden_size=32,
    )  # fmt: skip
    pictures = t.SiglipImageProcessor(size={"height": 224, "width": 224})
    pictures.image_seq_length = 256
    model = t.PaliGemmaForConditionalGeneration(config)
    return model, pictures, tokenizer(image_token="<image>"), "PaliGemmaProcessor", "<image>"


def gemma3() -> Parts:
    import transformers as t

    text = _text(
        model_type="gemma3_text", head_dim=8, sliding_window=512, query_pre_attn_scalar=8, num_hidden_layers=6
    )
    config = t.Gemma3Config(
        vision_config=_siglip(224), text_config=text, mm_tokens_per_image=64,
        image_token_id=number("<image>"), boi_token_index=number("<start_of_image>"),
        eoi_token_index=number("<end_of_image>"),
    )  # fmt: skip
    words = tokenizer(image_token="<image>", boi_token="<start_of_image>", eoi_token="<end_of_image>")
    pictures = t.Gemma3ImageProcessor(size={"height": 224, "width": 224})
    model = t.Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)
    return model, pictures, words, "Gemma3Processor", "<start_of_image>"


def mllama() -> Parts:
    import transformers as t

    tower = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_global_layers": 1,
        "attention_heads": 4, "image_size": 56, "patch_size": 14, "intermediate_layers_indices": [0, 1],
        "vision_output_dim": 96, "max_num_tiles": 4,
    }  # fmt: skip
    text = _text(num_hidden_layers=4, cross_attention_layers=[1, 3])
    config = t.MllamaConfig(vision_config=tower, text_config=text, image_token_id=number("<|image|>"))
    pictures = t.MllamaImageProcessor(size={"height": 56, "width": 56})
    words = tokenizer(image_token="<|image|>")
    return t.MllamaForConditionalGeneration(config), pictures, words, "MllamaProcessor", "<|image|>"


def _pixtral_tower(patch: int) -> dict[str, Any]:
    return _vision(model_type="pixtral", image_size=112, patch_size=patch, head_dim=8)


def pixtral() -> Parts:
    import transformers as t

    config = t.LlavaConfig(
        vision_config=_pixtral_tower(16),
        text_config=_text(model_type="mistral", sliding_window=None, head_dim=8),
        image_token_id=number("[IMG]"), vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    pictures = t.PixtralImageProcessor(size={"longest_edge": 64}, patch_size={"height": 16, "width": 16})
    return t.LlavaForConditionalGeneration(config), pictures, tokenizer(), "PixtralProcessor", "[IMG]"


def mistral3() -> Parts:
    import transformers as t

    config = t.Mistral3Config(
        vision_config=_pixtral_tower(14),
        text_config=_text(model_type="mistral", sliding_window=None, head_dim=8),
        image_token_id=number("[IMG]"), spatial_merge_size=2,
    )  # fmt: skip
    pictures = t.PixtralImageProcessor(size={"longest_edge": 112}, patch_size={"height": 28, "width": 28})
    return t.Mistral3ForConditionalGeneration(config), pictures, tokenizer(), "PixtralProcessor", "[IMG]"


FAMILIES: dict[str, Callable[[], Parts]] = {
    "llava": llava,
    "vip-llava": vip,
    "llava-next": llava_next,
    "llava-onevision": onevision,
    "qwen2-vl": qwen2,
    "qwen2.5-vl": qwen25,
    "qwen3-vl": qwen3,
    "qwen3.5": qwen35,
    "internvl": internvl,
    "smolvlm": smolvlm,
    "idefics3": idefics3,
    "paligemma2": paligemma,
    "gemma3": gemma3,
    "pixtral": pixtral,
    "mistral3": mistral3,
    "llama-3.2-vision": mllama,
}
CLIP_SETTINGS = {
    "patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "llava": CLIP_SETTINGS,
    "vip-llava": CLIP_SETTINGS,
    "llava-next": CLIP_SETTINGS,
    "llava-onevision": {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    "internvl": {"image_seq_length": 4},
    "smolvlm": {"image_seq_len": 4},
    "idefics3": {"image_seq_len": 16},
    "gemma3": {"image_seq_length": 64},
    "pixtral": {"patch_size": 16},
    "mistral3": {"patch_size": 14, "spatial_merge_size": 2},
}


def make(family: str) -> Any:
    """The model alone, with weights large enough for what it says to depend on what it sees."""
    torch.manual_seed(0)
    model = FAMILIES[family]()[0].eval().requires_grad_(False)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    return model


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
