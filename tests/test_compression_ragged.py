"""The ragged cache against a dense cache with per-layer masks, and against the stock cache."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from compression_models import llama
from wildsight.compression.attention import ragged_attention
from wildsight.compression.cache import KVSettings, RaggedCache, build_cache
from wildsight.compression.profile import Profile
from wildsight.errors import UnsupportedModelError

SHARES = (0.9, 0.7, 0.5, 0.3)


def settings(**options: Any) -> KVSettings:
    profile = Profile("tiny", "prefix", {0.6: SHARES})
    return KVSettings(**{"keep": 0.6, "profile": profile, "tail": 5, **options})


def batch(lengths: tuple[int, ...], seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.randint(2, 90, (len(lengths), width), generator=draw)
    mask = torch.tensor([[0] * (width - n) + [1] * n for n in lengths])
    return {"input_ids": ids * mask, "attention_mask": mask}


def greedy(model: Any, inputs: dict[str, torch.Tensor], cache: Any, steps: int = 20, **options: Any) -> Any:
    return model.generate(
        **inputs, past_key_values=cache, max_new_tokens=steps, min_new_tokens=steps, do_sample=False,
        return_dict_in_generate=True, output_logits=True, **options,
    )  # fmt: skip


def logits_of(out: Any) -> torch.Tensor:
    return torch.stack(out.logits, dim=1)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeping_all_is_bit_equal(attention: str, dtype: Any) -> None:
    model, inputs = llama(attention=attention, dtype=dtype), batch((30, 17, 24))
    plain = greedy(model, inputs, None)
    with ragged_attention(model):
        ragged = greedy(model, inputs, build_cache(model, KVSettings(keep=1.0)))
    assert torch.equal(plain.sequences, ragged.sequences)
    assert torch.equal(logits_of(plain), logits_of(ragged))
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("how", [{"num_beams": 3, "do_sample": False}, {"do_sample": True}])
def test_keeping_all_with_beams_and_sampling(how: dict[str, Any]) -> None:
    model, inputs = llama(), batch((30, 17))
    torch.manual_seed(3)
    plain = model.generate(**inputs, max_new_tokens=8, **how)
    torch.manual_seed(3)
    with ragged_attention(model):
        cache = build_cache(model, KVSettings(keep=1.0))
        ragged = model.generate(**inputs, past_key_values=cache, max_new_tokens=8, **how)
    assert torch.equal(plain, ragged)


class Oracle:
    """A dense cache whose evicted columns are masked, layer by layer, with the eviction rule written out."""

    def __init__(self, length: int, tail: int) -> None:
        self.length, self.tail = length, tail
        self.kept: list[list[int]] = []

    def start(self, importance: list[list[float]], keep: list[int]) -> None:
        for scores, count in zip(importance, keep, strict=True):
            middle = sorted(range(1, self.length - 1), key=lambda i: (-scores[i], i))[: count - 2]
            self.kept.append(sorted([0, *middle, self.length - 1]))
        self.first = [k - self.tail if k - self.tail >= 1 else k // 2 for k in keep]

    def step(self, seen: int) -> None:
        """After a decoding forward that brought ``seen`` tokens in all."""
        for layer, columns in enumerate(self.kept):
            columns.append(seen - 1)
            if int(len(columns) - seen * SHARES[layer]) > 0:
                del columns[self.first[layer]]


def dense_logits(
    model: Any, ids: torch.Tensor, steps: int, tail: int, turn: torch.Tensor | None = None
) -> tuple[torch.Tensor, list[Any]]:
    """The same steps with an eager model whose masks hide what the rule evicts; then a further turn."""
    from transformers import DynamicCache

    length = ids.shape[1]
    keep = [length - (length - k) for k in (round(s * length) for s in SHARES)]
    total = int(sum(SHARES) * length + 0.5)
    assert sum(keep) == total
    cache = DynamicCache(config=model.config)
    out = model(ids, past_key_values=cache, output_attentions=True)
    importance = [a[0].float().mean(0).sum(0).tolist() for a in out.attentions]
    oracle = Oracle(length, tail)
    oracle.start(importance, keep)
    logits, sets, handles = [out.logits[:, -1]], [], []
    masks: list[torch.Tensor] = []

    def hide(layer: int) -> Any:
        def hook(_module: Any, args: Any, kwargs: Any) -> Any:
            return args, {**kwargs, "attention_mask": masks[layer]}

        return hook

    try:
        for number, block in enumerate(model.model.layers):
            handles.append(block.self_attn.register_forward_pre_hook(hide(number), with_kwargs=True))
        for _ in range(steps):
            seen = cache.get_seq_length() + 1
            masks[:] = []
            for columns in oracle.kept:
                row = torch.full((1, 1, 1, seen), torch.finfo(torch.float32).min)
                row[..., [*columns, seen - 1]] = 0.0
                masks.append(row)
            sets.append([[*c, seen - 1] for c in oracle.kept])
            token = logits[-1].argmax(-1, keepdim=True)
            logits.append(model(token, past_key_values=cache).logits[:, -1])
            oracle.step(seen)
        if turn is not None:
            logits += _next_turn(model, cache, oracle, masks, turn)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(logits, dim=1), sets


def _next_turn(
    model: Any, cache: Any, oracle: Oracle, masks: list[torch.Tensor], turn: torch.Tensor
) -> list[torch.Tensor]:
    """A chunk of new tokens: each sees what its layer still holds, and the chunk up to itself."""
    before, new = cache.get_seq_length(), turn.shape[1]
    masks[:] = []
    for columns in oracle.kept:
        table = torch.full((1, 1, new, before + new), torch.finfo(torch.float32).min)
        table[..., columns] = 0.0
        table[0, 0, :, before:] = torch.triu(table[0, 0, :, before:] * 0 + table.min(), diagonal=1)
        masks.append(table)
    return list(model(turn, past_key_values=cache).logits.unbind(dim=1))


def test_a_further_turn_equals_a_dense_cache_with_masks() -> None:
    ids, turn = batch((60,))["input_ids"], torch.tensor([[5, 6, 7, 8, 9]])
    wanted, _ = dense_logits(llama(attention="eager"), ids, 12, tail=5, turn=turn)
    model = llama()
    cache = build_cache(model, settings(), prompt_len=60)
    with ragged_attention(model), torch.no_grad():
        logits = model(ids, past_key_values=cache).logits[:, -1]
        for _ in range(12):
            logits = model(logits.argmax(-1, keepdim=True), past_key_values=cache).logits[:, -1]
        got = model(turn, past_key_values=cache).logits
    assert cache.get_seq_length() == 60 + 12 + 5
    assert (got - wanted[:, -5:]).abs().max() <= 1e-5 * wanted.abs().max()


def test_ragged_equals_a_dense_cache_with_masks() -> None:
    ids = batch((60,))["input_ids"]
    steps = 40
    wanted, sets = dense_logits(llama(attention="eager"), ids, steps, tail=5)
    model = llama()
    cache = build_cache(model, settings(), prompt_len=60)
    got, held = [], []
    with ragged_attention(model), torch.no_grad():
        got.append(model(ids, past_key_values=cache).logits[:, -1])
        for _ in range(steps):
            got.append(model(got[-1].argmax(-1, keepdim=True), past_key_values=cache).logits[:, -1])
            held.append([sorted(x.slots[0, 0, : x.counts[0]].tolist()) for x in cache.ragged])
    assert held == sets
    assert (torch.stack(got, dim=1) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("scorer", ["attention", "window"])
def test_a_row_in_a_batch_equals_the_row_alone(attention: str, scorer: str) -> None:
    model, inputs = llama(attention=attention), batch((60, 33, 47))
    own = settings(scorer=scorer, **({"window": 4} if scorer == "window" else {}))
    with ragged_attention(model):
        together = greedy(model, inputs, build_cache(model, own, prompt_len=60), 30)
        for row, length in enumerate((60, 33, 47)):
            alone = {k: v[row : row + 1, -length:] for k, v in inputs.items()}
            single = greedy(model, alone, build_cache(model, own, prompt_len=length), 30)
            assert torch.equal(single.sequences[0, length:], together.sequences[row, 60:])
            difference = (logits_of(single)[0] - logits_of(together)[row]).abs().max()
            assert difference <= 1e-5 * logits_of(single).abs().max()


@pytest.mark.parametrize("chunk", [7, 9, 13])
def test_prompt_in_chunks(chunk: int) -> None:
    model, inputs = llama(), batch((55, 41))
    with ragged_attention(model):
        whole = greedy(model, inputs, build_cache(model, settings(), prompt_len=55))
        parts = greedy(model, inputs, build_cache(model, settings(), prompt_len=55), prefill_chunk_size=chunk)
    assert torch.equal(whole.sequences, parts.sequences)
    assert torch.allclose(logits_of(whole), logits_of(parts), atol=1e-4)


@pytest.mark.parametrize("name", ["attention", "window", "expected", "key-norm", "key-diff", "mix", "recent",
                                  "random", "attention-mean"])  # fmt: skip
@pytest.mark.parametrize("sizes", ["uniform", "pyramid", "prefix"])
def test_every_scorer_with_every_size(name: str, sizes: str) -> None:
    model, inputs = llama(), batch((50, 38))
    options = {"profile": None, "sizes": sizes, "scorer": name, "keep": 0.4}
    with ragged_attention(model):
        cache = build_cache(model, settings(**options), prompt_len=50)
        out = greedy(model, inputs, cache, 1)
        assert sum(layer[0] for layer in cache.tokens) == 80
        assert sum(layer[1] for layer in cache.tokens) == round(0.4 * 4 * 38)
        greedy(model, inputs, build_cache(model, settings(**options), prompt_len=50), 6, num_beams=2)
    for layer in cache.ragged:
        for row, first in ((0, 0), (1, 12)):
            for group in layer.slots[row, :, : layer.counts[row]].tolist():
                assert first in group and 49 in group and min(group) >= first
    assert torch.isfinite(logits_of(out)).all()


def test_bytes_are_the_budget() -> None:
    model = llama()
    ids = batch((60,))["input_ids"]
    with ragged_attention(model), torch.no_grad():
        cache = build_cache(model, settings(), prompt_len=60)
        model(ids, past_key_values=cache)
    assert cache.tokens == [[54], [42], [30], [18]]
    assert cache.nbytes == (54 + 42 + 30 + 18) * 2 * 2 * 8 * 4
    assert cache.get_seq_length() == 60


def test_a_number_of_tokens_stays_fixed() -> None:
    model = llama()
    with ragged_attention(model):
        cache = build_cache(model, KVSettings(keep=20, sizes="uniform", tail=5), prompt_len=60)
        greedy(model, batch((60,)), cache, 30)
    assert [n for (n,) in cache.tokens] == [21] * 4


def test_second_turn_continues() -> None:
    model, inputs = llama(), batch((40, 28))
    with ragged_attention(model):
        cache = build_cache(model, settings(), prompt_len=40)
        first = greedy(model, inputs, cache, 5)
        more = torch.randint(2, 90, (2, 6), generator=torch.Generator().manual_seed(5))
        ids = torch.cat([first.sequences, more], dim=1)
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 11), value=1)
        second = greedy(model, {"input_ids": ids, "attention_mask": mask}, cache, 5)
    assert second.sequences.shape[1] == 56
    assert cache.get_seq_length() == 55
    assert torch.isfinite(logits_of(second)).all()


def test_second_turn_after_keeping_all_equals_a_fresh_run() -> None:
    model, inputs = llama(), batch((40,))
    with ragged_attention(model):
        cache = build_cache(model, KVSettings(keep=0.999, sizes="uniform"), prompt_len=40)
        first = greedy(model, inputs, cache, 5)
        ids = torch.cat([first.sequences, torch.tensor([[7, 8, 9]])], dim=1)
        second = greedy(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, cache, 5)
    plain = greedy(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, None, 5)
    assert torch.equal(plain.sequences, second.sequences)
    assert torch.allclose(logits_of(plain), logits_of(second), atol=1e-4)


def test_reset_copy_and_reuse() -> None:
    model, inputs = llama(), batch((40,))
    with ragged_attention(model):
        cache = build_cache(model, settings(), prompt_len=40)
        first = greedy(model, inputs, cache, 6)
        twin = copy.deepcopy(cache)
        assert twin.tokens == cache.tokens and twin.ragged[0].owner is twin
        cache.reset()
        assert cache.get_seq_length() == 0
        again = greedy(model, inputs, cache, 6)
    assert torch.equal(logits_of(first), logits_of(again))


def test_rollback_is_refused() -> None:
    model, inputs = llama(), batch((40,))
    with ragged_attention(model):
        cache = build_cache(model, settings(), prompt_len=40)
        greedy(model, inputs, cache, 3)
        with pytest.raises(UnsupportedModelError, match="rolled back"):
            cache.crop(-1)


def test_without_our_attention_function_it_says_so() -> None:
    model, inputs = llama(), batch((40,))
    cache = build_cache(model, settings(), prompt_len=40)
    with pytest.raises(UnsupportedModelError, match="does not pass"):
        model(**inputs, past_key_values=cache)


def test_a_stock_cache_is_left_alone() -> None:
    model, inputs = llama(), batch((40, 22))
    plain = greedy(model, inputs, None)
    with ragged_attention(model):
        same = greedy(model, inputs, None)
    assert torch.equal(logits_of(plain), logits_of(same))


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_short_prompts(length: int) -> None:
    model = llama()
    with ragged_attention(model):
        cache = build_cache(model, settings(keep=0.05, profile=None), prompt_len=length)
        out = greedy(model, batch((length,)), cache, 12)
    assert out.sequences.shape[1] == length + 12
    assert isinstance(cache, RaggedCache)


def test_heads_choose_their_own_or_share() -> None:
    model = llama()
    with ragged_attention(model), torch.no_grad():
        for heads, groups in (("own", 2), ("shared", 1)):
            own = settings(scorer="key-diff", heads=heads)
            cache = build_cache(model, own, prompt_len=60)
            model(**batch((60, 41)), past_key_values=cache)
            assert cache.ragged[2].slots.shape[1] == groups
            assert cache.tokens[2] == [30, 20]


def test_heads_of_their_own_equal_a_dense_cache() -> None:
    """One decoding step of one layer, each head attending to the columns that it kept."""
    model = llama(layers=1)
    ids = batch((40,))["input_ids"]
    states: list[Any] = []
    attend = model.model.layers[0].self_attn
    handle = attend.register_forward_hook(lambda _m, _a, out: states.append(out[0].clone()))
    with ragged_attention(model), torch.no_grad():
        own = settings(scorer="key-norm", profile=None, sizes="uniform", keep=0.3)
        cache = build_cache(model, own, prompt_len=40)
        model(ids, past_key_values=cache)
        kept = cache.ragged[0].slots.clone()
        full = build_cache(model, KVSettings(keep=1.0))
        model(ids, past_key_values=full)
        keys, values = full.layers[0].keys.clone(), full.layers[0].values.clone()
        assert torch.equal(cache.ragged[0].keys, keys.gather(2, kept[..., None].expand(-1, -1, -1, 8)))
        assert not torch.equal(kept[0, 0], kept[0, 1])
        token = torch.tensor([[7]])
        model(token, past_key_values=cache, position_ids=torch.tensor([[40]]))
        got = states[-1]
        hide = torch.full((1, 2, 1, 41), torch.finfo(torch.float32).min)
        hide.scatter_(3, kept[:, :, None], 0.0)
        hide[..., 40] = 0.0
        mask = hide.repeat_interleave(2, dim=1)
        full.layers[0].keys, full.layers[0].values = keys, values
        model.set_attn_implementation("sdpa")
        model(token, past_key_values=full, position_ids=torch.tensor([[40]]), attention_mask=mask)
    handle.remove()
    assert torch.allclose(got, states[-1], atol=1e-5)


def test_only_the_prompt_is_compressed_on_demand() -> None:
    model = llama()
    with ragged_attention(model):
        cache = build_cache(model, settings(decoding=False), prompt_len=60)
        greedy(model, batch((60,)), cache, 30)
    assert [n for (n,) in cache.tokens] == [54 + 29, 42 + 29, 30 + 29, 18 + 29]


def mixed(window: int = 12) -> Any:
    """Two layers of full attention, then two of a sliding window."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, use_sliding_window=True, sliding_window=window, max_window_layers=2,
        pad_token_id=0, eos_token_id=99, initializer_range=0.3,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def test_sliding_window_layers_stay_as_they_are() -> None:
    model, inputs = mixed(), batch((40, 29))
    plain = greedy(model, inputs, None)
    with ragged_attention(model):
        whole = greedy(model, inputs, build_cache(model, KVSettings(keep=1.0), prompt_len=40))
        cache = build_cache(model, KVSettings(keep=0.4), prompt_len=40)
        greedy(model, inputs, cache, 10)
        assert len(cache.ragged) == 2 and len(cache.layers) == 4
        alone = {k: v[1:, -29:] for k, v in inputs.items()}
        single = greedy(model, alone, build_cache(model, KVSettings(keep=0.4), prompt_len=29), 10)
        again = greedy(model, inputs, build_cache(model, KVSettings(keep=0.4), prompt_len=40), 10)
    assert torch.equal(logits_of(plain), logits_of(whole))
    assert torch.allclose(logits_of(single)[0], logits_of(again)[1], atol=1e-4)


def test_models_without_full_attention_are_refused() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    config = MistralConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, sliding_window=8)
    with pytest.raises(UnsupportedModelError, match="no full-attention layer"):
        build_cache(MistralForCausalLM(config), KVSettings(keep=0.5))
