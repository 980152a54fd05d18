"""Tiny networks with random weights, of the classes that the tasks are used with.

They are kept in half precision, which every loader reads as float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from segmentation_models import sam

SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>", "<image>")
WORDS = [
    "a",
    "the",
    "is",
    "are",
    "what",
    "it",
    "of",
    "photo",
    "picture",
    "object",
    "colour",
    "with",
    "in",
    "at",
    "left",
    "right",
    "centre",
    "there",
    "no",
    "yes",
    "not",
    "?",
    ".",
    ",",
    ":",
    "-",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "red",
    "green",
    "blue",
    "grey",
    "square",
    "disc",
    "cross",
    "cube",
    "barrel",
    "metres",
    "away",
    "wide",
    "high",
    "long",
    "turned",
    "question",
    "answer",
    "where",
    "how",
]
LAYER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}


def tokenizer(closing: bool) -> Any:
    """One token a word; ``closing``: with ``<eos>`` behind, as a text tower reads it."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    table = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    core = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    core.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    core.normalizer = normalizers.Lowercase()
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), digits])
    ends = [(word, table[word]) for word in ("<bos>", "<eos>")]
    form = "<bos> $A <eos>" if closing else "<bos> $A"
    core.post_processor = processors.TemplateProcessing(single=form, special_tokens=ends)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"}, padding_side="right",
    )  # fmt: skip


def text_ids() -> dict[str, int]:
    return {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def clip(folder: Path) -> None:
    """A `CLIPModel` of 32 px."""
    torch.manual_seed(0)
    vocabulary = len(SPECIAL) + len(WORDS)
    text = {**LAYER, "vocab_size": vocabulary, "max_position_embeddings": 16, **text_ids()}
    vision = {**LAYER, "image_size": 32, "patch_size": 8}
    config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    hf.CLIPModel(config).half().save_pretrained(folder)
    tokenizer(closing=True).save_pretrained(folder)
    _normalised(folder)


def conv(folder: Path) -> None:
    """A `ResNetModel` with maps at strides 2 to 16."""
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}
    hf.ResNetModel(hf.ResNetConfig(layer_type="basic", **sizes)).half().save_pretrained(folder)
    _normalised(folder)


def segmenting(folder: Path) -> None:
    """A `SamModel` of 64 px."""
    torch.manual_seed(0)
    sam().half().save_pretrained(folder)


def llava(folder: Path) -> None:
    """A LLaVA of 36 patches of 8 px, with its processor."""
    torch.manual_seed(0)
    words = tokenizer(closing=False)
    text = {
        "model_type": "llama", "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "initializer_range": 0.3, **text_ids(),
    }  # fmt: skip
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 5,
        "num_attention_heads": 4, "image_size": 48, "patch_size": 8, "initializer_range": 0.3,
    }  # fmt: skip
    image = SPECIAL.index("<image>")
    model = hf.LlavaForConditionalGeneration(
        hf.LlavaConfig(vision_config=vision, text_config=text, image_token_id=image)
    )
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, 3
    side = {"height": 48, "width": 48}
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False), words, patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token="<image>",
    )  # fmt: skip
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)


def _normalised(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(HALF), encoding="utf-8")


BACKBONES: dict[str, Callable[[Path], None]] = {
    "clip": clip, "conv": conv, "sam": segmenting, "llava": llava
}  # fmt: skip
