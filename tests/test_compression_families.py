"""LLaVA-NeXT, Qwen2.5-VL, towers without [CLS], and chats of text alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compression_models import IMAGE, PAD, llava, llava_inputs, text_part
from wildsight.backbones.anyres import next_geometry
from wildsight.compression import compress, prune_visual_tokens
from wildsight.compression.families import NEWLINE, family_of
from wildsight.errors import ConfigError, UnsupportedModelError

FULL = {
    "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True,
    "output_logits": True,
}  # fmt: skip
SIZES = torch.tensor([[32, 60], [64, 64], [20, 64]])


def logits_of(out: Any) -> torch.Tensor:
    return torch.stack(out.logits, dim=1)


def next_inputs(model: Any) -> dict[str, Any]:
    """Three rows with one picture each: 3, 5 and 3 tiles, some of them cropped."""
    draw = torch.Generator().manual_seed(2)
    lengths = [g.numel() for g in next_geometry(model, SIZES)]
    rows = [
        [1, 5, *[IMAGE] * n, *torch.randint(2, 90, (4 + i,), generator=draw).tolist()]
        for i, n in enumerate(lengths)
    ]
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[PAD] * (width - len(r)) + r for r in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows]),
        "pixel_values": torch.randn(3, 5, 3, 32, 32, generator=draw),
        "image_sizes": SIZES,
    }


def test_next_keeping_all_is_bit_equal() -> None:
    model = llava(next_=True)
    inputs = next_inputs(model)
    plain = model.generate(**inputs, **FULL)
    with compress(model, visual_tokens=1.0, kv_cache=1.0):
        same = model.generate(**inputs, **FULL)
    assert torch.equal(logits_of(plain), logits_of(same))


def test_next_map_is_the_packing() -> None:
    """Packing the features and looking them up by the map give the same tensor."""
    model = llava(next_=True)
    inputs = next_inputs(model)
    with torch.no_grad():
        out = model.model.get_image_features(inputs["pixel_values"], SIZES, return_dict=True)
        pictures = family_of(model).encode(model, inputs)
    for picture, features in zip(pictures, out.pooler_output, strict=True):
        assert torch.equal(picture.features, features)
        newline = model.model.image_newline.expand(int((picture.source == NEWLINE).sum()), -1)
        assert torch.equal(features[picture.source == NEWLINE], newline)
        assert picture.source[:16].tolist() == list(range(16)) and (picture.row[:16] == -1).all()


@pytest.mark.parametrize(("newlines", "extra"), [("none", 0), ("all", None), ("row", None)])
def test_next_newlines(newlines: str, extra: int | None) -> None:
    model = llava(next_=True)
    inputs = next_inputs(model)
    pruned = prune_visual_tokens(model, inputs, 9, "random", newlines=newlines)
    for picture, selection, kept in zip(pruned.pictures, pruned.selections, pruned.features, strict=True):
        flags = picture.flags(selection.keep, newlines)
        ends = (picture.source == NEWLINE) & flags
        assert int((flags & (picture.source >= 0)).sum()) == 9
        assert kept.shape[0] == 9 + int(ends.sum())
        if extra is not None:
            assert int(ends.sum()) == extra
        elif newlines == "all":
            assert int(ends.sum()) == int((picture.source == NEWLINE).sum())
        else:
            alive = set(picture.row[flags & (picture.source >= 0)].tolist()) - {-1}
            assert set(picture.row[ends].tolist()) == alive


@pytest.mark.parametrize("method", ["vtc-cls", "prumerge"])
def test_next_budget_per_tile(method: str) -> None:
    model = llava(next_=True)
    inputs = next_inputs(model)
    pruned = prune_visual_tokens(model, inputs, 10, method, budget="per_tile", newlines="none")
    for picture, selection, kept in zip(pruned.pictures, pruned.selections, pruned.features, strict=True):
        assert picture.tiles is not None
        counts = picture.tiles[selection.keep].unique(return_counts=True)[1].tolist()
        assert sum(counts) == 10 == kept.shape[0] and max(counts) - min(counts) <= 1
    with pytest.raises(ConfigError, match="per_tile"):
        prune_visual_tokens(model, inputs, 10, budget="each")


def test_next_prunes_and_compresses() -> None:
    model = llava(next_=True)
    inputs = next_inputs(model)
    with compress(model, visual_tokens=12, kv_cache=0.5):
        together = model.generate(**inputs, **FULL)
        length = int(inputs["attention_mask"][0].sum())
        alone = {k: v[:1] for k, v in inputs.items()}
        alone |= {k: alone[k][:, -length:] for k in ("input_ids", "attention_mask")}
        single = model.generate(**alone, **FULL)
    assert torch.allclose(logits_of(single)[0], logits_of(together)[0], atol=1e-4)


def qwen() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    text = text_part() | {
        "model_type": "qwen2_5_vl_text",
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
    }
    vision = {
        "depth": 4, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "patch_size": 4,
        "out_hidden_size": 32, "fullatt_block_indexes": [1, 3], "window_size": 16, "initializer_range": 0.3,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=IMAGE, video_token_id=97,
        vision_start_token_id=96, vision_end_token_id=95,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = PAD, 99
    return model


def qwen_inputs() -> dict[str, Any]:
    draw = torch.Generator().manual_seed(3)
    grids = torch.tensor([[1, 6, 8], [1, 10, 6]])
    rows = [
        [1, 96, *[IMAGE] * (g[1] * g[2] // 4), 95, *torch.randint(2, 90, (w,), generator=draw).tolist()]
        for g, w in zip(grids.tolist(), (5, 8), strict=True)
    ]
    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(r)) + r for r in rows])
    return {
        "input_ids": ids,
        "attention_mask": torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows]),
        "mm_token_type_ids": (ids == IMAGE).int(),
        "pixel_values": torch.randn(int(grids.prod(1).sum()), 3 * 2 * 16, generator=draw),
        "image_grid_thw": grids,
    }


def test_qwen_keeping_all_is_bit_equal() -> None:
    model, inputs = qwen(), qwen_inputs()
    plain = model.generate(**inputs, **FULL)
    with compress(model, visual_tokens=1.0, kv_cache=1.0):
        same = model.generate(**inputs, **FULL)
    assert torch.equal(logits_of(plain), logits_of(same))


def test_qwen_survivors_keep_their_positions() -> None:
    model, inputs = qwen(), qwen_inputs()
    types = inputs["mm_token_type_ids"]
    own, _ = model.model.get_rope_index(
        inputs["input_ids"], mm_token_type_ids=types, image_grid_thw=inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
    )  # fmt: skip
    pruned = prune_visual_tokens(model, inputs, 5)
    for row in range(2):
        real = pruned.columns[row] >= 0
        assert torch.equal(pruned.positions[1:, row, real], own[:, row, pruned.columns[row, real]])
    assert [f.shape[0] for f in pruned.features] == [5, 5]
    assert pruned.pictures[0].view.rule == "received attention"


def test_qwen_scores_follow_the_tokens() -> None:
    """Scores are in the order of the features: scoring one picture alone gives the same ones."""
    model, inputs = qwen(), qwen_inputs()
    with torch.no_grad():
        both = family_of(model).encode(model, inputs)
        second = family_of(model).encode(
            model,
            {"pixel_values": inputs["pixel_values"][48:], "image_grid_thw": inputs["image_grid_thw"][1:]},
        )
    assert torch.allclose(both[1].view.rows, second[0].view.rows, atol=1e-5)
    assert torch.allclose(both[1].features, second[0].features, atol=1e-4)


def test_qwen_prunes_with_beams_and_a_second_turn() -> None:
    model, inputs = qwen(), qwen_inputs()
    with compress(model, visual_tokens=5, kv_cache=0.6) as handle:
        model.generate(**inputs, max_new_tokens=4, num_beams=2)
        first = model.generate(**inputs, **FULL)
        ids = torch.cat([first.sequences, torch.tensor([[3, 4], [5, 6]])], dim=1)
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 8), value=1)
        second = model.generate(
            input_ids=ids, attention_mask=mask, past_key_values=first.past_key_values, **FULL
        )
    assert torch.isfinite(logits_of(second)).all()
    assert handle.cache is not None and handle.cache.get_seq_length() > 0


@pytest.mark.parametrize("use_head", [True, False])
def test_siglip_tower(use_head: bool) -> None:
    model = llava(tower="siglip_vision_model")
    if not use_head:
        del model.model.vision_tower.head
        model.model.vision_tower.use_head = False
    inputs = llava_inputs()
    pruned = prune_visual_tokens(model, inputs, 5, "vtc-cls")
    wanted = "pooling head" if use_head else "received attention"
    assert {p.view.rule for p in pruned.pictures} == {wanted}
    plain = model.generate(**inputs, **FULL)
    with compress(model, visual_tokens=16):
        assert torch.equal(logits_of(plain), logits_of(model.generate(**inputs, **FULL)))


def test_received_attention_is_the_column_mean() -> None:
    model = llava(tower="siglip_vision_model", attention="eager")
    tower = model.model.vision_tower
    del tower.head
    tower.use_head = False
    inputs = llava_inputs()
    pruned = prune_visual_tokens(model, inputs, 5)
    with torch.no_grad():
        maps = tower(inputs["pixel_values"], output_attentions=True).attentions
    for number, picture in enumerate(pruned.pictures):
        wanted = maps[3][number].mean(dim=0).mean(dim=0)
        assert torch.allclose(picture.view.rows[0], wanted, atol=1e-6)


def test_a_tower_without_known_attention_is_refused_by_name() -> None:
    from transformers import AutoModel, ConvNextConfig

    tower = AutoModel.from_config(ConvNextConfig(hidden_sizes=[4, 4, 4, 4], depths=[1, 1, 1, 1]))
    from wildsight.compression.image_tokens import ImageView
    from wildsight.compression.saliency import watch

    with watch(tower, -2) as found:
        tower(torch.randn(1, 3, 32, 32))
    assert found.rule == "none" and not found.rows
    view = ImageView(torch.randn(4, 3), torch.zeros(0, 4), found.rule, None, type(tower).__name__)
    with pytest.raises(UnsupportedModelError, match="ConvNextModel"):
        view.saliency()


def test_text_alone_and_chats_without_pictures() -> None:
    model = llava()
    ids = torch.tensor([[1, 5, 6, 7, 8, 9]])
    plain = model.generate(ids, attention_mask=torch.ones_like(ids), **FULL)
    with compress(model, visual_tokens=4):
        same = model.generate(ids, attention_mask=torch.ones_like(ids), **FULL)
    assert torch.equal(logits_of(plain), logits_of(same))
