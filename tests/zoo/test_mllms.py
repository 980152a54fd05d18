"""Every family of multimodal LLMs that the docs name: real classes with narrow layers, compressed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vlm_models import FAMILIES, make, number, save
from wildsight import compress
from wildsight.backbones.vlm import load_model
from wildsight.compression import prune_visual_tokens
from wildsight.compression.families import family_of

PRUNED = [name for name in FAMILIES if name != "llama-3.2-vision"]
NEEDS = {"pixtral": "torchvision", "mistral3": "torchvision", "smolvlm": "num2words"}
"""Packages that the processor of a family cannot be read without; its inputs are made by hand here."""
HOW = {
    "max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "return_dict_in_generate": True,
    "output_logits": True,
}  # fmt: skip
QUESTIONS = ("is it red ?", "what is this thing ?")


def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 255, (*s, 3), dtype=np.uint8)) for s in ((60, 80), (100, 60))]


def by_hand(family: str) -> dict[str, Any]:
    """Two prompts with two pictures, as the family's processor lays them out."""
    draw = torch.Generator().manual_seed(1)
    words = [torch.randint(300, 380, (n,), generator=draw).tolist() for n in (5, 9)]
    if family == "smolvlm":
        tiles, image = [2, 1], [number("<image>")] * 4
        rows = [[*w, *[x for _ in range(t) for x in [number("<fake_token_around_image>"), *image]], *w]
                for w, t in zip(words, tiles, strict=True)]  # fmt: skip
        pixels = torch.randn(2, 2, 3, 128, 128, generator=draw)
        pixels[1, 1] = 0
        more: dict[str, Any] = {"pixel_values": pixels}
    else:
        patch, sizes = (16, [(48, 64), (64, 32)]) if family == "pixtral" else (28, [(56, 84), (84, 28)])
        rows = []
        for own, (h, w) in zip(words, sizes, strict=True):
            line = [*[number("[IMG]")] * (w // patch), number("[IMG_BREAK]")]
            rows.append([1, *own, *line * (h // patch)])
            rows[-1][-1] = number("[IMG_END]")
            rows[-1] += own
        pixels = torch.randn(2, 3, 84, 84, generator=draw)
        more = {"pixel_values": pixels, "image_sizes": torch.tensor(sizes)}
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[0] * (width - len(r)) + r for r in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows]),
        **more,
    }


@cache
def built(family: str) -> tuple[Any, dict[str, Any]]:
    """The model, and its inputs for two prompts of different lengths with a picture each."""
    if family in NEEDS:
        return make(family), by_hand(family)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        loaded = load_model(save(family, Path(folder)), device="cpu")
    return loaded.model, loaded.inputs(pictures(), QUESTIONS)


def logits_of(out: Any) -> torch.Tensor:
    return torch.stack(out.logits, dim=1)


def masked(model: Any, inputs: dict[str, Any], columns: torch.Tensor) -> torch.Tensor:
    """The last logits of the model itself, with every column but ``columns`` masked."""
    mask = inputs["attention_mask"]
    stays = torch.zeros_like(mask)
    for row, own in enumerate(columns):
        stays[row, own[own >= 0]] = 1
    given = {**inputs, "attention_mask": stays}
    if "image_grid_thw" in inputs:
        places, _ = model.model.get_rope_index(
            inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"],
            image_grid_thw=inputs["image_grid_thw"], attention_mask=mask,
        )  # fmt: skip
        given["position_ids"] = torch.cat([(mask.cumsum(-1) - 1).clamp_min(0)[None], places])
    else:
        given["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0) + family_of(model).first
    with torch.no_grad():
        return model(**given).logits[:, -1].float()


@pytest.mark.parametrize("family", PRUNED)
def test_nothing_dropped_is_bit_equal(family: str) -> None:
    model, inputs = built(family)
    before = dict(vars(model))
    plain = model.generate(**inputs, **HOW)
    with compress(model, visual_tokens=1.0, kv_cache=1.0):
        same = model.generate(**inputs, **HOW)
    assert torch.equal(logits_of(plain), logits_of(same))
    assert torch.equal(plain.sequences, same.sequences)
    assert vars(model) == before, "the model is as it was found"
    again = model.generate(**inputs, **HOW)
    assert torch.equal(logits_of(plain), logits_of(again))


@pytest.mark.parametrize("family", [f for f in PRUNED if f != "qwen3.5"])
def test_dropped_tokens_are_as_if_masked(family: str) -> None:
    """At their original positions, the tokens that stay say what they say when the others are masked."""
    model, inputs = built(family)
    pruned = prune_visual_tokens(model, inputs, 0.4, "vtc-cls", options={"K": 1}, positions="original")
    assert pruned.ids.shape[1] < inputs["input_ids"].shape[1]
    wanted = masked(model, inputs, pruned.columns)
    with torch.no_grad():
        got = model(**pruned.inputs()).logits[:, -1].float()
    assert torch.allclose(got, wanted, atol=1e-4), (got - wanted).abs().max()
    how = {"visual_tokens": 0.4, "visual_options": {"K": 1}, "positions": "original", "visual": "vtc-cls"}
    with compress(model, **how):
        first = model.generate(**inputs, **HOW).logits[0]
    assert torch.allclose(first, wanted, atol=1e-4)
