"""Every family of multimodal LLMs that the docs name: real classes with narrow layers, compressed."""

from __future__ import annotations

import copy
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
from wildsight.compression.cache import held
from wildsight.compression.families import family_of
from wildsight.errors import ConfigError, UnsupportedModelError, WildSightError
from wildsight.spatial.mllm import check_family

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


@pytest.mark.parametrize("family", PRUNED)
def test_saliency_is_the_mean_over_a_tokens_patches(family: str) -> None:
    """Pooled scores stand in the order of the features: one picture alone gives the same."""
    model, inputs = built(family)
    both = family_of(model).encode(model, inputs, 1)
    assert sum(p.features.shape[0] for p in both) == int(
        (inputs["input_ids"] == model.config.image_token_id).sum()
    )
    for picture in both:
        rows = picture.view.rows
        assert rows.shape == (1, picture.view.features.shape[0]) and bool((rows > 0).all())
        wanted = "cls" if family in ("llava", "vip-llava", "llava-next", "internvl") else "received attention"
        assert picture.view.rule == wanted
        unread = family_of(model).encode(model, inputs, 0)[0]
        assert not unread.view.rows.shape[0]


def eager_attention(tower: Any, layer: int, run: Any) -> torch.Tensor:
    """Attention weights [B, H, N, N] that a layer of an eager tower computes while ``run`` runs."""
    seen: list[torch.Tensor] = []
    modules = [m for m in tower.modules() if hasattr(m, "q_proj")]
    handle = modules[layer].register_forward_hook(lambda *a: seen.append(a[-1][1]))
    before = tower.config._attn_implementation
    tower.config._attn_implementation = "eager"
    try:
        run()
    finally:
        tower.config._attn_implementation = before
        handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("family", "side"), [("internvl", 2), ("idefics3", 2), ("gemma3", 2), ("mistral3", 2)]
)
def test_pooled_scores_come_from_the_tower(family: str, side: int) -> None:
    """Against the weights of the eager tower, pooled over blocks by a loop."""
    model, inputs = built(family)
    family_ = family_of(model)
    got = torch.cat([p.view.rows[0] for p in family_.encode(model, inputs, 1)])
    tower = getattr(model.model, "vision_tower", None) or model.model.vision_model
    weights = eager_attention(tower, -1, lambda: family_.encode(model, inputs, 0)).mean(dim=1)
    scores = weights[:, 0, 1:] if family == "internvl" else weights.mean(dim=1)
    if family == "mistral3":
        lengths = [h * w // 196 for h, w in inputs["image_sizes"].tolist()]
        shapes = [(h // 14, w // 14) for h, w in inputs["image_sizes"].tolist()]
        parts = [p * sum(lengths) / n for p, n in zip(scores[0].split(lengths), lengths, strict=True)]
    else:
        parts = list(scores)
        shapes = [(int(p.numel() ** 0.5),) * 2 for p in parts]
    wanted = [
        part.view(shape)[i : i + side, j : j + side].mean()
        for part, shape in zip(parts, shapes, strict=True)
        for i in range(0, shape[0], side)
        for j in range(0, shape[1], side)
    ]
    assert torch.allclose(got, torch.stack(wanted), atol=1e-6)


def test_qwen35_reads_what_stays_as_a_prompt_of_its_own() -> None:
    """Linear attention knows no mask: the reference is the language model over embeddings made by hand."""
    model, inputs = built("qwen3.5")
    pruned = prune_visual_tokens(model, inputs, 0.4)
    whole = model.model.get_image_features(
        inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True
    ).pooler_output
    places, _ = model.model.get_rope_index(
        inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs["image_grid_thw"], attention_mask=inputs["attention_mask"],
    )  # fmt: skip
    got = model(**pruned.inputs()).logits[:, -1]
    for row, features in enumerate(whole):
        columns = pruned.columns[row][pruned.columns[row] >= 0]
        ids = inputs["input_ids"][row]
        embedded = model.get_input_embeddings()(ids)
        embedded[ids == model.config.image_token_id] = features
        text = torch.arange(columns.numel())[None, None]
        out = model.model.language_model(
            inputs_embeds=embedded[columns][None],
            position_ids=torch.cat([text, places[:, row, columns][:, None]]),
        )
        assert torch.allclose(model.lm_head(out.last_hidden_state[0, -1]), got[row], atol=1e-4)


def test_deepstack_features_are_cut_with_the_tokens() -> None:
    model, inputs = built("qwen3-vl")
    pruned = prune_visual_tokens(model, inputs, 0.4)
    whole = model.model.get_image_features(
        inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True
    ).deepstack_features
    assert len(pruned.deep) == len(whole) == 3
    for layer, full in zip(pruned.deep, whole, strict=True):
        for own, features, chosen in zip(layer, full, pruned.selections, strict=True):
            assert torch.equal(own, features[chosen.keep])


CHATS = ["qwen2.5-vl", "qwen3-vl", "gemma3", "internvl", "idefics3", "pixtral"]


@pytest.mark.parametrize("family", CHATS)
def test_a_second_turn_goes_on_from_the_cache(family: str) -> None:
    """A turn of text behind the first says what the whole conversation says, read at once."""
    model, inputs = built(family)
    how = {"visual_tokens": 0.5, "positions": "original", "visual": "grid"}
    more = torch.randint(300, 380, (2, 3), generator=torch.Generator().manual_seed(2))
    with compress(model, **how):
        first = model.generate(**inputs, **HOW)
        said = torch.cat([first.sequences, more], dim=1)
        mask = torch.nn.functional.pad(
            inputs["attention_mask"], (0, said.shape[1] - inputs["attention_mask"].shape[1]), value=1
        )
        types = {
            k: torch.nn.functional.pad(v, (0, said.shape[1] - v.shape[1]))
            for k, v in inputs.items()
            if k.endswith("token_type_ids")
        }
        second = model.generate(
            input_ids=said, attention_mask=mask, past_key_values=first.past_key_values, **types, **HOW
        )
        pictures = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask", *types)}
        once = model.generate(input_ids=said, attention_mask=mask, **types, **pictures, **HOW)
    assert torch.equal(second.sequences, once.sequences)
    assert torch.allclose(logits_of(second), logits_of(once), atol=1e-4)


@pytest.mark.parametrize("family", ["qwen3-vl", "idefics3"])
def test_pictures_of_a_later_turn_are_pruned_too(family: str) -> None:
    """A conversation whose second turn brings pictures is what it is when it is read at once."""
    model, inputs = built(family)
    how = {"visual_tokens": 0.5, "positions": "original", "visual": "grid"}
    mask = inputs["attention_mask"]
    rows = [inputs["input_ids"][i][mask[i].bool()] for i in range(2)]
    start, end = (rows[0], rows[1]) if family == "qwen3-vl" else (rows[1], rows[0])
    parts = {k: v for k, v in inputs.items() if k.startswith(("pixel", "image_grid"))}

    def of(row: int) -> dict[str, Any]:
        if family == "idefics3":
            return {k: v[row : row + 1] for k, v in parts.items()}
        sizes = parts["image_grid_thw"].prod(dim=1).tolist()
        return {
            "pixel_values": parts["pixel_values"].split(sizes)[row],
            "image_grid_thw": parts["image_grid_thw"][row : row + 1],
        }

    order = (0, 1) if family == "qwen3-vl" else (1, 0)
    with compress(model, **how) as handle:
        first = model.generate(input_ids=start[None], **of(order[0]), **HOW)
        said = torch.cat([first.sequences[0], end])[None]
        second = model.generate(input_ids=said, past_key_values=first.past_key_values, **of(order[1]), **HOW)
        late = handle.pruned
        if family == "qwen3-vl":
            both = {k: torch.cat([of(0)[k], of(1)[k]]) for k in parts}
        else:
            both = {k: torch.cat([of(1)[k], of(0)[k]], dim=1) for k in parts}
        once = model.generate(input_ids=said, **both, **HOW)
    assert late is not None and late.ids.shape[1] < end.numel() + HOW["max_new_tokens"]
    assert torch.allclose(logits_of(second), logits_of(once), atol=1e-4)


@pytest.mark.parametrize("family", ["qwen3-vl", "gemma3", "internvl", "smolvlm", "paligemma2", "mistral3"])
def test_beams_and_chunks_and_both_halves(family: str) -> None:
    model, inputs = built(family)
    how = {"max_new_tokens": 3, "do_sample": False}
    with compress(model, visual_tokens=0.4, kv_cache=0.5, visual="grid") as handle:
        model.generate(**inputs, **how, num_beams=2)
        model.generate(**inputs, **how)
        assert handle.cache is not None and handle.pruned is not None
        for layer in handle.cache.tokens:
            assert max(layer) < handle.pruned.ids.shape[1] + 3
    with compress(model, visual_tokens=0.4, visual="grid"):
        whole = model.generate(**inputs, **HOW)
        if family not in ("paligemma2", "gemma3"):  # a mask both ways over a picture cannot be cut in chunks
            chunked = model.generate(**inputs, **HOW, prefill_chunk_size=16)
            assert torch.allclose(logits_of(whole), logits_of(chunked), atol=1e-4)


def test_a_row_without_a_picture_and_one_with_two() -> None:
    model, inputs = built("gemma3")
    rows = [inputs["input_ids"][i][inputs["attention_mask"][i].bool()] for i in range(2)]
    batch = [torch.cat(rows), torch.tensor([1, 301, 302, 303])]
    width = max(map(len, batch))
    ids = torch.stack([torch.nn.functional.pad(r, (width - len(r), 0)) for r in batch])
    types = (ids == model.config.image_token_id).long()
    padding = torch.tensor([[width - len(r)] for r in batch])
    given = {
        "input_ids": ids,
        "attention_mask": (torch.arange(width) >= padding).long(),
        "token_type_ids": types,
        "pixel_values": inputs["pixel_values"],
    }
    pruned = prune_visual_tokens(model, given, 7, "grid", positions="original")
    assert [f.shape[0] for f in pruned.features] == [7, 7]
    got = model(**pruned.inputs()).logits[:, -1]
    assert torch.allclose(got, masked(model, given, pruned.columns), atol=1e-4)


def test_what_cannot_be_pruned_is_refused_at_once() -> None:
    model, inputs = built("llama-3.2-vision")
    with pytest.raises(UnsupportedModelError, match="by cross-attention, not as tokens of the prompt"):
        compress(model, visual_tokens=0.5)
    plain = model.generate(**inputs, **HOW)
    with compress(model, kv_cache=1.0):
        assert torch.equal(logits_of(plain), logits_of(model.generate(**inputs, **HOW)))
    with compress(model, kv_cache=0.4) as handle:
        model.generate(**inputs, **HOW)
        assert handle.cache is not None and len(handle.cache.tokens) == 2, "self-attention layers alone"
    for family in ("qwen2.5-vl", "llava-next", "pixtral"):
        with pytest.raises(UnsupportedModelError, match="FastV knows the layers of LLaVA"):
            compress(built(family)[0], visual_tokens=0.5, visual="fastv")


def test_a_video_is_refused_and_a_state_stays_whole() -> None:
    model, inputs = built("qwen2.5-vl")
    video = {
        "input_ids": torch.tensor([[6, 9, 9, 9, 9, 7, 301]]),
        "pixel_values_videos": torch.randn(16, 1176),
        "video_grid_thw": torch.tensor([[1, 4, 4]]),
    }
    with compress(model, visual_tokens=0.25), pytest.raises(ConfigError, match="does not prune videos"):
        model.generate(**video, max_new_tokens=1)
    model, inputs = built("qwen3.5")
    with compress(model, visual_tokens=0.5, kv_cache=0.5) as handle:
        model.generate(**inputs, **HOW)
        assert handle.cache is not None and len(handle.cache.tokens) == 1
        assert any(t.ndim == 4 for t in held(handle.cache)) and handle.cache.nbytes > 0
    gemma, own = built("gemma3")
    with compress(gemma, kv_cache=0.5, cache="expected"):
        assert gemma.generate(**own, **HOW).sequences.shape[0] == 2


@pytest.mark.parametrize("wrap", [pytest.param("compile", marks=pytest.mark.slow), "peft"])
def test_a_wrapped_model_answers_as_the_model_inside(wrap: str) -> None:
    model, inputs = built("llava-onevision")
    if wrap == "compile":
        outside = torch.compile(model)
    else:
        peft = pytest.importorskip("peft")
        model = copy.deepcopy(model)
        settings = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        outside = peft.get_peft_model(model, settings)
    plain = outside.generate(**inputs, **HOW)
    with compress(outside, visual_tokens=0.4, kv_cache=0.5) as handle:
        short = outside.generate(**inputs, **HOW)
        assert handle.pruned is not None and "generate" in vars(model)
    with compress(model, visual_tokens=0.4, kv_cache=0.5):
        assert torch.equal(logits_of(short), logits_of(model.generate(**inputs, **HOW)))
    assert "generate" not in vars(model)
    assert torch.equal(logits_of(plain), logits_of(outside.generate(**inputs, **HOW)))


RANKED = {"cls": "[CLS]", "received attention": "attention received"}


def works(call: Any) -> str:
    try:
        call()
    except WildSightError:
        return "refused"
    return "yes"


def row(family: str) -> str:
    """A row of the docs' table, from what the model does."""
    model, inputs = built(family)
    tower = ", Pixtral tower" if family == "pixtral" else ""
    ranked = works(lambda: compress(model, visual_tokens=0.5).remove())
    if ranked == "yes":
        ranked = RANKED[family_of(model).encode(model, inputs, 1)[0].view.rule]

    def halved() -> None:
        with compress(model, kv_cache=0.5):
            model.generate(**inputs, **HOW)

    cells = [
        f"`{type(model).__name__}`{tower}",
        ranked,
        works(lambda: compress(model, visual_tokens=0.5, visual="fastv", K=1).remove()),
        works(halved),
        works(lambda: check_family(model)),
    ]
    return f"| {' | '.join(cells)} |"


def test_the_docs_say_what_works() -> None:
    """The table of models on the page of compression is what the models here do, in their order."""
    page = (Path(__file__).parents[2] / "docs" / "tasks" / "compression.md").read_text(encoding="utf-8")
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| model of `transformers` |"))
    table = lines[start + 2 : start + 2 + len(FAMILIES)]
    assert table == [row(family) for family in FAMILIES]
    assert not lines[start + 2 + len(FAMILIES)].startswith("|")
