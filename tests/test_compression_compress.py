"""The public call on tiny LLaVA models: bit-equality, batches, turns, beams, and what it leaves behind.

Pitfalls that were met once, and the test that holds each:

| pitfall | test |
|---|---|
| P1 a pruned batch is padded on the left anew | `test_shortening_pads_on_the_left` (selectors) |
| P2 `generate` drops an all-ones mask | `test_original_positions_survive_an_all_ones_mask` |
| P3 beams change the features' container | `test_one_pruned_batch_serves_many_calls` |
| P4 gaps in positions look like packed sequences | `test_gapped_positions_are_no_packed_sequences` |
| P5 sdpa gives no attention maps | `test_sdpa_gives_no_attentions` (selectors) |
| P6 budgets and pointers are per row | `test_a_row_in_a_batch_equals_the_row_alone` (here and ragged) |
| P7 a layer that forgets nothing appends | `test_keeping_all_is_bit_equal` (ragged, padded rows) |
| P8 padding's queries look at nothing | `test_padding_adds_no_score` (prefixkv) |
| P9 other caches are refused | `test_bad_calls`, `test_other_caches_are_refused_by_name` |

What the specification asks for, V of visual tokens and K of the cache, in the same way:

V1 `test_keeping_all_is_bit_equal`, V2 `test_probe_equals_eager_attention`, V3 `test_budgets_nest`,
V4 `test_permuted_patches_permute_the_choice`, V5 `test_by_hand`,
V6 `test_a_row_in_a_batch_equals_the_row_alone`, V7 `test_next_map_is_the_packing`,
V8 `test_qwen_survivors_keep_their_positions`, V9 `test_placeholders_and_pictures_must_match`,
V10 `test_one_pruned_batch_serves_many_calls`;
K1 `test_keeping_all_is_bit_equal`, `test_keeping_all_with_beams_and_sampling`,
K2 `test_ragged_equals_a_dense_cache_with_masks`, K3 `test_a_row_in_a_batch_equals_the_row_alone`,
K4 `test_golden_sizes`, `test_published_lists`, K5 `test_solver_invariants`, K6 `test_prompt_in_chunks`,
K7 `test_a_further_turn_equals_a_dense_cache_with_masks`, K8 `test_bytes_are_the_budget`,
K9 `test_every_scorer_with_every_size`, K10 `test_streamed_scores_equal_the_whole_matrix`,
K11 `test_rollback_is_refused`, K12 `test_a_stock_cache_is_left_alone`, K13 `test_reset_copy_and_reuse`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compression_models import IMAGE, llama, llava, llava_inputs
from wildsight.compression import compress, prune_visual_tokens
from wildsight.compression.methods.visual.base import SELECTORS
from wildsight.errors import BudgetError, ConfigError, UnsupportedModelError

MIDDLE = torch.arange(28) == 10
GREEDY = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
FULL = {**GREEDY, "return_dict_in_generate": True, "output_logits": True}


def logits_of(out: Any) -> torch.Tensor:
    return torch.stack(out.logits, dim=1)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeping_all_is_bit_equal(attention: str, dtype: Any) -> None:
    model, inputs = llava(attention=attention, dtype=dtype), llava_inputs((1, 1, 1), dtype=dtype)
    plain = model.generate(**inputs, **FULL)
    with compress(model, visual_tokens=16, kv_cache=1.0):
        same = model.generate(**inputs, **FULL)
    assert torch.equal(plain.sequences, same.sequences)
    assert torch.equal(logits_of(plain), logits_of(same))


@pytest.mark.parametrize("how", [{"num_beams": 3}, {"do_sample": True}, {"num_return_sequences": 2,
                                 "do_sample": True}])  # fmt: skip
def test_keeping_all_with_several_pictures(how: dict[str, Any]) -> None:
    model, inputs = llava(), llava_inputs((2, 0, 1))
    torch.manual_seed(0)
    plain = model.generate(**inputs, **{**GREEDY, **how})
    torch.manual_seed(0)
    with compress(model, visual_tokens=1.0, kv_cache=1.0):
        same = model.generate(**inputs, **{**GREEDY, **how})
    assert torch.equal(plain, same)


@pytest.mark.parametrize("positions", ["compact", "original"])
def test_a_row_in_a_batch_equals_the_row_alone(positions: str) -> None:
    model = llava()
    images, words = (2, 0, 1), (9, 4, 6)
    inputs = llava_inputs(images, words)
    with compress(model, visual_tokens=6, kv_cache=0.6, positions=positions):
        together = model.generate(**inputs, **FULL)
        first = 0
        for row, count in enumerate(images):
            length = int(inputs["attention_mask"][row].sum())
            alone = {k: inputs[k][row : row + 1, -length:] for k in ("input_ids", "attention_mask")}
            if count:
                alone["pixel_values"] = inputs["pixel_values"][first : first + count]
            first += count
            single = model.generate(**alone, **FULL)
            assert torch.equal(single.sequences[0, length:], together.sequences[row, -8:])
            assert torch.allclose(logits_of(single)[0], logits_of(together)[row], atol=1e-4)


def test_the_prompt_comes_back_as_it_was_given() -> None:
    model, inputs = llava(), llava_inputs()
    with compress(model, visual_tokens=4) as handle:
        out = model.generate(**inputs, **GREEDY)
        assert torch.equal(out[:, :-8], inputs["input_ids"])
        limited = model.generate(**inputs, max_length=inputs["input_ids"].shape[1] + 5, min_new_tokens=5)
        assert limited.shape[1] == inputs["input_ids"].shape[1] + 5
    assert handle.pruned is not None
    assert int((handle.pruned.ids == IMAGE).sum()) == 12


@pytest.mark.parametrize("name", sorted(set(SELECTORS) - {"fastv"}))
def test_every_selector_generates(name: str) -> None:
    model, inputs = llava(), llava_inputs((2, 0, 1))
    with compress(model, visual_tokens=5, visual=name) as handle:
        out = model.generate(**inputs, **GREEDY)
    assert out.shape == (3, inputs["input_ids"].shape[1] + 8)
    assert handle.pruned is not None
    assert [f.shape[0] for f in handle.pruned.features] == [5, 5, 5]
    for selection in handle.pruned.selections:
        assert selection.keep.tolist() == sorted(set(selection.keep.tolist()))


def test_pruned_beams_chunks_and_static_cache() -> None:
    model, inputs = llava(), llava_inputs()
    with compress(model, visual_tokens=5):
        plain = model.generate(**inputs, **GREEDY)
        assert torch.equal(plain, model.generate(**inputs, **GREEDY, prefill_chunk_size=7))
        assert torch.equal(plain, model.generate(**inputs, **GREEDY, cache_implementation="static"))
        model.generate(**inputs, **{**GREEDY, "num_beams": 3})
        assert torch.equal(plain, model.generate(**inputs, **GREEDY))


def test_one_pruned_batch_serves_many_calls() -> None:
    """Beams change the container of the features; a second call must not notice."""
    model, inputs = llava(), llava_inputs()
    before = {k: v.clone() for k, v in inputs.items()}
    pruned = prune_visual_tokens(model, inputs, 5)
    plain = model.generate(**pruned.inputs(), **GREEDY)
    model.generate(**pruned.inputs(), **{**GREEDY, "num_beams": 2})
    assert torch.equal(plain, model.generate(**pruned.inputs(), **GREEDY))
    assert all(torch.equal(before[k], inputs[k]) for k in inputs)


def test_original_positions_survive_an_all_ones_mask() -> None:
    """`generate` drops such a mask, and counts positions itself unless they are given."""
    model, inputs = llava(), llava_inputs((1,), (9,))
    pruned = prune_visual_tokens(model, inputs, 5, positions="original")
    seen: list[torch.Tensor] = []
    handle = model.model.language_model.layers[0].register_forward_pre_hook(
        lambda _m, _a, kwargs: seen.append(kwargs["position_ids"].clone()), with_kwargs=True
    )
    model.generate(**pruned.inputs(), **GREEDY)
    handle.remove()
    assert torch.equal(seen[0], pruned.positions)
    assert seen[1].item() == inputs["input_ids"].shape[1]
    with torch.no_grad():
        cached = model(**pruned.inputs(), use_cache=True).logits
        masked = model(**pruned.inputs(), use_cache=False).logits
    assert torch.allclose(cached, masked, atol=1e-5)


def test_gapped_positions_are_no_packed_sequences() -> None:
    """Without mask and cache, `transformers` takes a gap for a new sequence; our inputs carry the mask."""
    model, inputs = llava(), llava_inputs((1,), (9,))
    pruned = prune_visual_tokens(model, inputs, 5, positions="original")
    call = pruned.inputs()
    assert bool((pruned.positions.diff() > 1).any()) and bool(call["attention_mask"].all())
    with torch.no_grad():
        right = model(**call, use_cache=True).logits
        assert torch.allclose(right, model(**pruned.inputs(), use_cache=False).logits, atol=1e-5)
        wrong = model(**{**pruned.inputs(), "attention_mask": None}, use_cache=False).logits
    assert not torch.allclose(right, wrong, atol=1e-3)
    with compress(model, visual_tokens=5, positions="original"), pytest.raises(ConfigError, match="cache"):
        model.generate(**inputs, **GREEDY, use_cache=False)


@pytest.mark.parametrize("kv", [None, 0.5])
@pytest.mark.parametrize("whole", [True, False])
def test_second_turn(kv: float | None, whole: bool) -> None:
    model, inputs = llava(), llava_inputs((1, 2), (9, 4))
    more = torch.tensor([[5, 6, 7], [8, 9, 10]])
    count = 16 if whole else 5
    with compress(model, visual_tokens=count, kv_cache=kv or 1.0):
        first = model.generate(**inputs, **FULL)
        ids = torch.cat([first.sequences, more], dim=1)
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 11), value=1)
        second = model.generate(
            input_ids=ids, attention_mask=mask, past_key_values=first.past_key_values, **FULL
        )
    assert torch.equal(second.sequences[:, : ids.shape[1]], ids)
    if whole and kv is None:
        plain = model.generate(
            input_ids=ids, attention_mask=mask, pixel_values=inputs["pixel_values"], **FULL
        )
        assert torch.allclose(logits_of(plain), logits_of(second), atol=1e-4)


def test_second_turn_with_a_new_picture() -> None:
    model, inputs = llava(), llava_inputs((1,), (6,))
    more = torch.tensor([[5, *[IMAGE] * 16, 7]])
    picture = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    with compress(model, visual_tokens=6):
        first = model.generate(**inputs, **FULL)
        ids = torch.cat([first.sequences, more], dim=1)
        second = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=picture,
            past_key_values=first.past_key_values, **FULL,
        )  # fmt: skip
        both = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        both["pixel_values"] = torch.cat([inputs["pixel_values"], picture])
        fresh = model.generate(**both, **FULL)
    assert torch.allclose(logits_of(fresh), logits_of(second), atol=1e-4)


def test_the_model_is_left_as_it_was() -> None:
    model, inputs = llava(), llava_inputs()
    model.generate(**inputs, **GREEDY)  # `transformers` sets its own hooks on the first call
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    attributes = set(model.__dict__)
    with pytest.raises(BudgetError), compress(model, visual_tokens=5, kv_cache=0.4):
        model.generate(**{**inputs, "input_ids": inputs["input_ids"].masked_fill(MIDDLE, 5)}, **GREEDY)
    assert set(model.__dict__) == attributes
    assert model.config.text_config._attn_implementation == "sdpa"
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    handle = compress(model, visual_tokens=5)
    with pytest.raises(ConfigError, match="compressed already"):
        compress(model, kv_cache=0.5)
    handle.remove()
    handle.remove()
    assert set(model.__dict__) == attributes


def test_a_text_model_has_its_cache_compressed() -> None:
    model = llama()
    ids = torch.randint(2, 90, (2, 40), generator=torch.Generator().manual_seed(1))
    with compress(model, kv_cache=0.3, kv="snapkv") as handle:
        out = model.generate(ids, attention_mask=torch.ones_like(ids), **GREEDY)
    assert out.shape == (2, 48)
    assert handle.cache is not None
    assert all(13 <= n <= 16 for layer in handle.cache.tokens for n in layer)


def test_fastv_drops_after_the_second_layer() -> None:
    model, inputs = llava(), llava_inputs((2, 0, 1))
    plain = model.generate(**inputs, **FULL)
    with compress(model, visual_tokens=1.0, visual="fastv"):
        same = model.generate(**inputs, **FULL)
        assert torch.allclose(logits_of(plain), logits_of(same), atol=1e-4)
    with compress(model, visual_tokens=4, visual="fastv"):
        together = model.generate(**inputs, **FULL)
        model.generate(**inputs, **{**GREEDY, "num_beams": 2})
        first = 0
        for row, count in enumerate((2, 0, 1)):
            length = int(inputs["attention_mask"][row].sum())
            alone = {k: inputs[k][row : row + 1, -length:] for k in ("input_ids", "attention_mask")}
            if count:
                alone["pixel_values"] = inputs["pixel_values"][first : first + count]
            first += count
            single = model.generate(**alone, **FULL)
            assert torch.allclose(logits_of(single)[0], logits_of(together)[row], atol=1e-4)
    lengths = [layer.stored()[0].shape[2] for layer in together.past_key_values.ragged]
    assert lengths[0] == lengths[1] == inputs["input_ids"].shape[1] + 7 and lengths[2] < lengths[1]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"visual_tokens": 0}, BudgetError),
        ({"visual_tokens": 1.5}, BudgetError),
        ({"visual_tokens": -3}, BudgetError),
        ({"kv_cache": 0.0}, BudgetError),
        ({"kv_cache": 1.2}, BudgetError),
        ({"kv_cache": 1}, BudgetError),
        ({"kv_cache": "half"}, BudgetError),
        ({"kv_cache": float("nan")}, BudgetError),
        ({}, ConfigError),
        ({"visual_tokens": 4, "visual": "nonsense"}, ConfigError),
        ({"kv_cache": 0.5, "kv": "nonsense"}, ConfigError),
        ({"kv_cache": 0.5, "flavour": 3}, ConfigError),
    ],
)
def test_bad_settings(options: dict[str, Any], error: Any) -> None:
    with pytest.raises(error) as caught:
        compress(llava(), **options)
    assert error is ConfigError or "LlavaForConditionalGeneration" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cache_implementation": "quantized"}, UnsupportedModelError),
        ({"cache_implementation": "offloaded"}, UnsupportedModelError),
        ({"prompt_lookup_num_tokens": 3}, UnsupportedModelError),
        ({"penalty_alpha": 0.6}, UnsupportedModelError),
        ({"use_cache": False}, ConfigError),
        ({"position_ids": torch.zeros(3, 4)}, ConfigError),
    ],
)
def test_bad_calls(options: dict[str, Any], error: Any) -> None:
    model = llava()
    with compress(model, visual_tokens=4, kv_cache=0.5), pytest.raises(error):
        model.generate(**llava_inputs(), **GREEDY, **options)


def test_other_caches_are_refused_by_name() -> None:
    from transformers import DynamicCache, EncoderDecoderCache

    model, inputs = llava(), llava_inputs()
    for cache in (DynamicCache(), EncoderDecoderCache(DynamicCache(), DynamicCache())):
        wanted = f"LlavaForConditionalGeneration.*{type(cache).__name__}"
        with compress(model, kv_cache=0.5), pytest.raises(UnsupportedModelError, match=wanted):
            model.generate(**inputs, past_key_values=cache, **GREEDY)


def test_placeholders_and_pictures_must_match() -> None:
    model, inputs = llava(), llava_inputs()
    ids = inputs["input_ids"].clone()
    ids[tuple((ids == IMAGE).nonzero()[0])] = 5
    text = {k: v for k, v in inputs.items() if k != "pixel_values"}
    with compress(model, visual_tokens=5):
        with pytest.raises(BudgetError, match=r"LlavaFor.* 47 image placeholders, the 3 images 48 tokens"):
            model.generate(**{**inputs, "input_ids": ids}, **GREEDY)
        with pytest.raises(BudgetError, match="48 image placeholders, the 0 images"):
            model.generate(**text, **GREEDY)
        with pytest.raises(ConfigError, match="pixels"):
            model.generate(**text, mm_encoder_outputs={"image": 1}, **GREEDY)


def test_more_bad_calls() -> None:
    model, inputs = llava(), llava_inputs()
    with pytest.raises(BudgetError, match=r"visual_tokens=17 is outside \[1, 16\]"):
        compress(model, visual_tokens=17)
    with compress(model, kv_cache=0.5, start=30), pytest.raises(BudgetError, match="never evicted"):
        model.generate(**inputs, **GREEDY)
    with pytest.raises(ConfigError, match="not both"):
        prune_visual_tokens(model, {**inputs, "mm_encoder_outputs": {"image": 1}}, 4)
    with pytest.raises(UnsupportedModelError, match="LlamaForCausalLM"):
        compress(llama(), visual_tokens=4)
    model.config.text_config._attn_implementation = "flex_attention"
    with pytest.raises(UnsupportedModelError, match="flex_attention"):
        compress(model, kv_cache=0.5)
