"""PrefixKV's equations: golden sizes, slow references, invariants, profiles and the published lists."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from compression_models import llama
from wildsight.compression import attention_weights, eviction
from wildsight.compression.cache import KVSettings, build_cache
from wildsight.compression.calibrate import calibrate_prefix
from wildsight.compression.methods.cache import prefixkv
from wildsight.compression.methods.cache.base import CACHE_METHODS
from wildsight.compression.methods.cache.scorer import Chunk, Stored
from wildsight.compression.methods.cache.sizes import published_counts, pyramid_shares, token_counts
from wildsight.compression.profile import Profile, to_mean
from wildsight.compression.published import llava_15_7b
from wildsight.errors import BudgetError, DataError

POWERS = torch.stack([torch.arange(1, 257, dtype=torch.float64) ** -a for a in (0.25, 0.75, 1.25, 2.0)])
SMALL = torch.tensor([[8, 4, 2, 1, 1], [4, 4, 4, 2, 2], [10, 3, 1, 1, 1.0]])


@pytest.mark.parametrize(
    ("forgotten", "published", "rescaled", "exact"),
    [
        (0.1, [0, 0, 3, 95], [0, 0, 3, 99], [0, 1, 5, 96]),
        (0.3, [5, 14, 64, 228], [4, 13, 63, 225], [6, 14, 59, 228]),
        (0.5, [29, 65, 174, 248], [28, 64, 172, 246], [29, 63, 171, 249]),
        (0.7, [81, 150, 235, 252], [80, 149, 234, 251], [79, 148, 236, 254]),
        (0.9, [183, 237, 252, 253], [182, 236, 251, 252], [178, 236, 253, 255]),
    ],
)
def test_golden_sizes(forgotten: float, published: list[int], rescaled: list[int], exact: list[int]) -> None:
    found = prefixkv.bisect_sizes(POWERS, forgotten)
    assert found == published
    assert [int(f * forgotten * 1024 / sum(found)) for f in found] == rescaled
    sizes = prefixkv.solve_sizes(POWERS, round((1 - forgotten) * 1024))
    assert (256 - sizes).tolist() == exact


@pytest.mark.parametrize(
    ("total", "sizes"),
    [(3, [1, 1, 1]), (6, [2, 3, 1]), (8, [3, 3, 2]), (9, [3, 4, 2]), (12, [4, 5, 3]), (15, [5, 5, 5])],
)
def test_sizes_by_hand(total: int, sizes: list[int]) -> None:
    assert prefixkv.solve_sizes(SMALL, total).tolist() == sizes


@pytest.mark.parametrize(("forgotten", "each"), [(0.1, 60), (0.33, 198), (0.5, 300), (0.8, 480)])
def test_uniform_attention_gives_uniform_sizes(forgotten: float, each: int) -> None:
    rows = torch.ones(32, 600)
    assert prefixkv.bisect_sizes(rows, forgotten) == [each] * 32
    assert set(prefixkv.solve_sizes(rows, 32 * (600 - each)).tolist()) == {600 - each}


def test_published_search_at_its_edges() -> None:
    assert prefixkv.bisect_sizes(POWERS, 0.0) == [0, 0, 0, 4]
    assert prefixkv.bisect_sizes(POWERS, 0.995) == prefixkv.bisect_sizes(POWERS, 1.0) == [253] * 4


def test_solver_invariants() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        scores = torch.rand(6, 40, generator=draw) ** 4
        before = torch.zeros(6, dtype=torch.long)
        for share in (0.1, 0.25, 0.5, 0.9, 1.0):
            total = round(share * 240)
            sizes = prefixkv.solve_sizes(scores, total, 2)
            assert int(sizes.sum()) == total and (sizes >= before).all() and (sizes >= 2).all()
            before = sizes
            order = torch.randperm(6, generator=draw)
            assert torch.equal(prefixkv.solve_sizes(scores[order] * 7.0, total, 2), sizes[order])


def slow_importance(query: torch.Tensor, key: torch.Tensor, scaling: float) -> torch.Tensor:
    """``I_n = sum_q mean_h softmax_n(q.k)``, one query and head at a time."""
    batch, heads, queries, _ = query.shape
    groups, length = heads // key.shape[1], key.shape[2]
    total = torch.zeros(batch, length)
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                seen = length - queries + i + 1
                logits = [float(query[b, h, i] @ key[b, h // groups, n]) * scaling for n in range(seen)]
                top = max(logits)
                weights = [math.exp(x - top) for x in logits]
                for n, w in enumerate(weights):
                    total[b, n] += w / sum(weights) / heads
    return total


def test_importance_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(1)
    query, key = torch.randn(2, 4, 9, 8, generator=draw), torch.randn(2, 2, 12, 8, generator=draw)
    wanted = slow_importance(query, key, 0.4)
    assert torch.allclose(attention_weights.importance(query, key, None, 0.4), wanted, atol=1e-5)
    monkeypatch.setattr(attention_weights, "BLOCK", 64)
    assert torch.allclose(attention_weights.importance(query, key, None, 0.4), wanted, atol=1e-5)


def test_padding_adds_no_score() -> None:
    query, key = torch.randn(1, 2, 6, 4), torch.randn(1, 2, 6, 4)
    allowed = attention_weights.causal(0, 6, 6, key.device) & (torch.arange(6) >= 2)
    found = attention_weights.importance(query, key, allowed, 0.5)
    alone = attention_weights.importance(query[:, :, 2:], key[:, :, 2:], None, 0.5)
    assert torch.isfinite(found).all() and (found[:, :2] == 0).all()
    assert torch.allclose(found[:, 2:], alone, atol=1e-6)


def test_streamed_scores_equal_the_whole_matrix() -> None:
    model = llama(attention="eager")
    ids = torch.randint(2, 90, (1, 50), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        maps = model(ids, output_attentions=True).attentions
    from wildsight.compression.attention import ragged_attention

    with ragged_attention(model), torch.no_grad():
        cache = build_cache(model, KVSettings(keep=0.5))
        for part in ids.split(17, dim=1):
            model(part, past_key_values=cache)
    for layer, weights in zip(cache.ragged, maps, strict=True):
        assert torch.allclose(layer.scores()[0, 0], weights[0].mean(0).sum(0), atol=1e-5)


def test_kept_columns() -> None:
    scores = torch.tensor([[9.0, 0, 5, 3, 5, 1, 0, 0], [0, 0, 0, 7.0, 1, 9, 1, 0]])
    valid = torch.tensor([[True] * 8, [False] * 3 + [True] * 5])
    kept = eviction.kept_columns(scores[:, None], valid, [4, 3], 1, 1)
    assert kept[:, 0].tolist() == [[0, 2, 4, 7], [3, 5, 7, -1]]
    alone = eviction.kept_columns(scores[:1, None], None, [4], 1, 1)
    assert alone[0, 0].tolist() == [0, 2, 4, 7]
    whole = eviction.kept_columns(scores[1:, None, 3:], None, [5], 3, 9)
    assert whole[0, 0].tolist() == [0, 1, 2, 3, 4]


def test_tail_and_eviction() -> None:
    assert [eviction.tail_rank(n, 25) for n in (100, 26, 25, 7, 2, 1)] == [75, 1, 12, 3, 1, 0]
    assert eviction.must_evict(10, 9.0) and not eviction.must_evict(10, 9.5)


@pytest.mark.parametrize("length", [1, 2, 7, 63, 640])
@pytest.mark.parametrize("share", [0.05, 0.31, 0.5, 0.97])
def test_counts_are_exact(length: int, share: float) -> None:
    shares = to_mean([0.1, 0.9, 0.4, 0.6, 0.5], share)
    counts = token_counts(shares, length, 2)
    floor = min(2, length)
    assert all(floor <= c <= length for c in counts)
    assert sum(counts) == max(floor * 5, int(share * 5 * length + 0.5))
    assert token_counts([1.0] * 3, length, 2) == [length] * 3


def test_published_rounding_and_pyramid() -> None:
    assert published_counts([0.8, 0.123, 0.0], 100, 2) == [80, 12, 2]
    assert math.isclose(sum(pyramid_shares(0.8, 9)) / 9, 0.8)
    assert max(pyramid_shares(0.8, 9)) == 1.0


def test_published_lists() -> None:
    profile = llava_15_7b()
    for share, shares in profile.budgets.items():
        assert abs(sum(shares) / 32 - share) <= 0.0012
        assert all(0.0 < s <= 1.0 for s in shares) and max(shares) == shares[0]
        exact = profile.shares(share, 32)
        assert math.isclose(sum(exact) / 32, share, abs_tol=1e-9)
    ordered = [profile.budgets[b] for b in sorted(profile.budgets)]
    assert all(a <= b for low, high in itertools.pairwise(ordered)
               for a, b in zip(low, high, strict=True))  # fmt: skip
    assert token_counts(profile.budgets[0.2], 700, 2)[0] in (503, 504, 505)


def test_published_files_import(tmp_path: Path) -> None:
    for forgotten in ("0.0", "0.2", "0.5"):
        values = [float(forgotten)] * 32
        (tmp_path / f"prefixkv_llava-v1.5-7b_{forgotten}.json").write_text(json.dumps(values))
    profile = Profile.from_published(sorted(tmp_path.glob("*.json")))
    assert sorted(profile.budgets) == [0.5, 0.8] and profile.model == "llava-v1.5-7b"
    (tmp_path / "prefixkv_llava-v1.5-7b_0.7.json").write_text("[1, 2")
    with pytest.raises(DataError):
        Profile.from_published(sorted(tmp_path.glob("*.json")))


def test_a_profile_is_found_saved_and_used(tmp_path: Path) -> None:
    model = llama()
    draw = torch.Generator().manual_seed(0)
    prompts = [{"input_ids": torch.randint(2, 90, (1, n), generator=draw)} for n in (40, 50, 60)]
    profile = calibrate_prefix(model, prompts, budgets=(0.2, 0.5), name="tiny", source="random")
    again = Profile.load(profile.save(tmp_path / "profile.json"))
    assert again.budgets == {k: pytest.approx(v) for k, v in profile.budgets.items()}
    for share, shares in profile.budgets.items():
        assert abs(sum(shares) / 4 - share) < 0.02
    assert math.isclose(sum(again.shares(0.35, 4)) / 4, 0.35)
    assert again.shares(1.0, 4) == [1.0] * 4
    build_cache(model, KVSettings(keep=0.3, profile=again))
    with pytest.raises(BudgetError, match="another model"):
        build_cache(llama(layers=3), KVSettings(keep=0.3, profile=again))
    file = tmp_path / "profile.json"
    file.write_text(file.read_text().replace("0.2", "0.3"))
    with pytest.raises(DataError):
        Profile.load(file)


def stored(length: int = 12) -> tuple[Stored, torch.Tensor]:
    draw = torch.Generator().manual_seed(7)
    keys, values = (torch.randn(1, 2, length, 8, generator=draw) for _ in range(2))
    query = torch.randn(1, 4, length, 8, generator=draw)
    return Stored(keys, values, torch.ones(1, length, dtype=torch.bool)), query


def seen(name: str, length: int = 12, **options: Any) -> tuple[Any, Stored, torch.Tensor]:
    parts, query = stored(length)
    scorer = CACHE_METHODS.ranking(name, options).scorer()
    positions = torch.arange(length)[None]
    scorer.observe(Chunk(query, parts.keys, None, parts.valid, positions, 0.35))
    return scorer, parts, query


def test_window_scorer_against_its_equation() -> None:
    scorer, parts, query = seen("window", window=4)
    votes = torch.zeros(2, 12)
    for h in range(4):
        for i in range(8, 12):
            logits = parts.keys[0, h // 2, : i + 1] @ query[0, h, i] * 0.35
            votes[h // 2, : i + 1] += torch.softmax(logits, 0) / 8
    columns = [votes[:, max(0, n - 2) : n + 3].sum(dim=1) / 5 for n in range(12)]
    pooled = torch.stack(columns, dim=1)
    assert torch.allclose(scorer.mass(parts)[0], pooled.mean(dim=0), atol=1e-6)
    assert torch.allclose(scorer.scores(parts)[0, :, :8], pooled[:, :8], atol=1e-6)
    assert scorer.scores(parts)[0, 1].argsort(descending=True)[:4].tolist() == [11, 10, 9, 8]


def test_key_scorers_against_their_equations() -> None:
    parts, _ = stored()
    norm = CACHE_METHODS.ranking("key-norm").scorer().scores(parts)[0]
    assert torch.allclose(norm, -parts.keys[0].norm(dim=-1), atol=1e-6)
    unit = torch.nn.functional.normalize(parts.keys[0], dim=-1)
    cosine = torch.nn.functional.cosine_similarity(unit, unit.mean(dim=1, keepdim=True), dim=-1)
    assert torch.allclose(CACHE_METHODS.ranking("key-diff").scorer().scores(parts)[0], -cosine, atol=1e-5)


def test_likeness_is_the_mean_cosine_of_pairs() -> None:
    from wildsight.compression.methods.cache.mixkv import likeness

    parts, _ = stored(6)
    unit = torch.nn.functional.normalize(parts.keys[0], dim=-1)
    for head in range(2):
        pairs = [float(unit[head, i] @ unit[head, j]) for i in range(6) for j in range(6) if i != j]
        wanted = min(1.0, max(0.0, sum(pairs) / 30))
        assert math.isclose(float(likeness(parts.keys, parts.valid)[0, head]), wanted, abs_tol=1e-5)


def test_expected_attention_undoes_the_rotation() -> None:
    """Moments of the queries before rotation, whatever positions they stood at."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    from wildsight.compression.methods.cache.expected_attention import rotate

    model = llama()
    rope = LlamaRotaryEmbedding(model.config)

    def turn(positions: torch.Tensor) -> Any:
        return rope(torch.zeros(1), positions)

    parts, query = stored()
    positions = torch.arange(12)[None] + 30
    cos, sin = (p[:, None] for p in turn(positions))
    scorer = CACHE_METHODS.create("expected").scorer(0, 0, turn)
    scorer.observe(Chunk(rotate(query, cos, sin), parts.keys, None, parts.valid, positions, 0.35))
    assert torch.allclose(scorer.state["sum"][0], query[0, :, 4:].sum(dim=1), atol=1e-4)
    outer = query[0, 0, 4:].T @ query[0, 0, 4:]
    assert torch.allclose(scorer.state["outer"][0, 0], outer, atol=1e-4)
    assert torch.isfinite(scorer.scores(parts)).all()


def test_expected_attention_leaves_the_first_tokens_out() -> None:
    """The softmax is over the columns behind the sinks, which are kept ahead of all; padding gets nothing."""
    from wildsight.compression.methods.cache.expected_attention import SINKS, expected_scores

    parts, query = stored()
    mean, spread = query.mean(dim=2), 0.01 * torch.eye(8).expand(1, 4, 8, 8)
    keys, values = (t.repeat_interleave(2, dim=1) for t in (parts.keys, parts.values))
    open_ = torch.arange(12)[None] >= SINKS
    short = expected_scores(mean, spread, keys[:, :, SINKS:], values[:, :, SINKS:], 0.35)
    whole = expected_scores(mean, spread, keys, values, 0.35, open_)
    assert torch.allclose(whole[..., SINKS:], short, atol=1e-6) and not whole[..., :SINKS].any()
    scorer = CACHE_METHODS.create("expected").scorer(
        0, 0, lambda p: (torch.ones(*p.shape, 8), torch.zeros(*p.shape, 8))
    )
    padded = Stored(parts.keys, parts.values, torch.arange(12)[None] >= 2)
    scorer.observe(Chunk(query, parts.keys, None, padded.valid, torch.arange(12)[None], 0.35))
    scores = scorer.scores(padded)[0]
    assert not scores[:, :2].any() and bool((scores[:, 2:6] > scores[:, 6:].amax(dim=1, keepdim=True)).all())
