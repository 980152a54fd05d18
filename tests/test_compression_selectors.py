"""VTC-CLS and the other selectors against slow references, by hand and under permutation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from compression_models import llava, llava_inputs
from wildsight.compression.families import family_of
from wildsight.compression.image_tokens import ImageView
from wildsight.compression.inputs import placeholder_flags, positions_of, shorten
from wildsight.compression.methods.visual import hybrid, prumerge, scope, visionzip, vispruner, vtc_cls
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector
from wildsight.compression.methods.visual.divprune import farthest
from wildsight.compression.prune import selector_of
from wildsight.errors import BudgetError, ConfigError

HAND = torch.tensor([[0.5, 0.1, 0.2, 0.2], [0.1, 0.6, 0.2, 0.1]])


def view(n: int = 25, seed: int = 0, layers: int = 5) -> ImageView:
    draw = torch.Generator().manual_seed(seed)
    rows = torch.rand(layers, n, generator=draw)
    return ImageView(torch.randn(n, 8, generator=draw), rows, "cls", torch.randn(n, 4, generator=draw))


@pytest.mark.parametrize(
    ("rows", "how", "keep"),
    [(HAND, "mean", [0, 1]), (HAND[1:], "mean", [1, 2]), (HAND, "max", [0, 1]), (HAND, "min", [0, 2])],
)
def test_by_hand(rows: torch.Tensor, how: str, keep: list[int]) -> None:
    assert vtc_cls.keep_best(vtc_cls.ensemble(rows, how), 2).tolist() == keep


def test_mean_of_the_hand_example() -> None:
    wanted = torch.tensor([0.30, 0.35, 0.20, 0.15])
    assert torch.allclose(vtc_cls.ensemble(HAND), wanted)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_probe_equals_eager_attention(attention: str) -> None:
    model, inputs = llava(attention=attention), llava_inputs()
    with torch.no_grad():
        pictures = family_of(model).encode(model, inputs)
        model.set_attn_implementation("eager")
        maps = model.model.vision_tower(inputs["pixel_values"], output_attentions=True).attentions
    for number, picture in enumerate(pictures):
        wanted = torch.stack([maps[layer][number, :, 0, 1:].mean(dim=0) for layer in range(4)])
        assert picture.view.rule == "cls"
        assert (picture.view.rows - wanted).abs().max() <= 1e-6


def test_sdpa_gives_no_attentions() -> None:
    """Why hooks are needed: asking for them under sdpa is silently in vain."""
    model, inputs = llava(), llava_inputs()
    with torch.no_grad():
        out = model.model.vision_tower(inputs["pixel_values"], output_attentions=True)
    assert not any(isinstance(a, torch.Tensor) for a in out.attentions or ())


def test_budgets_nest() -> None:
    one = view()
    chosen = [set(vtc_cls.VTCCLS().select(one, n).keep.tolist()) for n in range(1, 25)]
    assert all(a < b for a, b in itertools.pairwise(chosen))


def test_permuted_patches_permute_the_choice() -> None:
    one = view()
    order = torch.randperm(25, generator=torch.Generator().manual_seed(3))
    moved = ImageView(one.features[order], one.rows[:, order], "cls", None)
    for name in ("vtc-cls", "fastervlm", "divprune", "hybrid", "scope", "norm"):
        keep = selector_of(name).select(one, 9).keep
        again = order[selector_of(name).select(moved, 9).keep].sort().values
        assert torch.equal(keep, again), name


SELECT = sorted(name for name, kind in SELECTORS.items() if issubclass(kind, VisualSelector))


@pytest.mark.parametrize("name", SELECT)
@pytest.mark.parametrize("count", [1, 2, 7, 24])
def test_every_selector_meets_its_count(name: str, count: int) -> None:
    found = selector_of(name).select(view(), count)
    keep = found.keep.tolist()
    assert len(keep) == count and keep == sorted(set(keep)) and keep[0] >= 0 and keep[-1] < 25
    if found.features is not None:
        assert found.features.shape == (count, 8)


def test_farthest_against_brute_force() -> None:
    unit = view().unit
    distance = 1 - unit @ unit.T
    n = unit.shape[0]
    picks = [max(range(n), key=lambda i: min(float(distance[i, j]) for j in range(n) if j != i))]
    while len(picks) < 6:
        rest = [i for i in range(n) if i not in picks]
        picks.append(max(rest, key=lambda i: min(float(distance[i, j]) for j in picks)))
    assert farthest(unit, 6).tolist() == picks


def test_duplicates_are_chosen_once() -> None:
    unit = torch.nn.functional.normalize(torch.ones(6, 4), dim=-1)
    assert sorted(farthest(unit, 4).tolist()) == sorted(set(farthest(unit, 4).tolist()))


def test_hybrid_holds_the_salient_quarter() -> None:
    one = view()
    keep = set(hybrid.Hybrid().select(one, 8).keep.tolist())
    assert set(vtc_cls.VTCCLS().select(one, 2).keep.tolist()) <= keep


def test_scope_against_brute_force() -> None:
    draw = torch.Generator().manual_seed(1)
    similarity, weight = torch.rand(10, 10, generator=draw), torch.rand(10, generator=draw)
    covered, picks = [0.0] * 10, []
    for _ in range(4):
        gains = {
            v: sum(max(0.0, float(similarity[u, v]) - covered[u]) for u in range(10)) * float(weight[v])
            for v in range(10)
            if v not in picks
        }
        best = max(gains, key=lambda v: gains[v])
        picks.append(best)
        covered = [max(c, float(similarity[u, best])) for u, c in enumerate(covered)]
    assert scope.coverage_greedy(similarity, weight, 4).tolist() == picks


def test_vispruner_drops_near_duplicates() -> None:
    features = torch.randn(10, 8, generator=torch.Generator().manual_seed(2))
    features[5:] = features[:5] + 1e-3
    one = ImageView(features, torch.linspace(1, 0.5, 10)[None], "cls")
    keep = vispruner.VisPruner(r=0.0).select(one, 5).keep.tolist()
    assert {k % 5 for k in keep} == set(range(5))


def test_visionzip_merges_what_it_drops() -> None:
    one = view(40)
    found = visionzip.VisionZip().select(one, 16)
    assert found.features is not None
    untouched = (found.features == one.features[found.keep]).all(dim=1)
    assert int(untouched.sum()) >= 16 - round(16 * 10 / 64)
    dominant = set(vtc_cls.keep_best(one.score, 16 - round(16 * 10 / 64)).tolist())
    assert dominant <= set(found.keep[untouched].tolist())


def test_prumerge_is_a_weighted_mean() -> None:
    one = view(10)
    found = prumerge.PruMerge(k=2).select(one, 3)
    assert found.features is not None and one.keys is not None
    unit = torch.nn.functional.normalize(one.keys, dim=-1)
    dropped = [i for i in range(10) if i not in found.keep.tolist()]
    for place, token in enumerate(found.keep.tolist()):
        near = sorted(dropped, key=lambda i: -float(unit[token] @ unit[i]))[:2]
        group = [token, *near]
        weights = [float(one.score[i]) / sum(float(one.score[j]) for j in group) for i in group]
        wanted = sum(w * one.features[i] for w, i in zip(weights, group, strict=True))
        assert torch.allclose(found.features[place], wanted, atol=1e-5)
    outliers = torch.tensor([1.0, 1.1, 0.9, 1.0, 9.0, 1.05])
    assert prumerge.adaptive_count(outliers) == 1


def test_shortening_pads_on_the_left() -> None:
    ids = torch.tensor([[0, 5, 98, 98, 98, 6], [7, 98, 98, 98, 8, 9]])
    mask = (ids != 0).long()
    flags = [torch.tensor([True, False, True]), torch.tensor([False, False, True])]
    stay = placeholder_flags(ids, 98, flags, "tiny")
    short = shorten(ids, mask, stay, 0)
    assert short.ids.tolist() == [[5, 98, 98, 6], [7, 98, 8, 9]]
    flags[0] = torch.tensor([True, False, False])
    short = shorten(ids, mask, placeholder_flags(ids, 98, flags, "tiny"), 0)
    assert short.ids.tolist() == [[0, 5, 98, 6], [7, 98, 8, 9]]
    assert short.mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert positions_of(short, mask, "compact").tolist() == [[0, 0, 1, 2], [0, 1, 2, 3]]
    assert positions_of(short, mask, "original").tolist() == [[0, 0, 1, 4], [0, 3, 4, 5]]
    with pytest.raises(ConfigError):
        positions_of(short, mask, "other")
    with pytest.raises(BudgetError, match="6 image placeholders, the 1 images 3 tokens"):
        placeholder_flags(ids, 98, flags[:1], "tiny")


def test_random_depends_on_the_seed_alone() -> None:
    one: Any = view()
    first = selector_of("random").select(one, 9).keep
    assert torch.equal(first, selector_of("random").select(one, 9).keep)
    other = ImageView(one.features, one.rows, "cls", None, seed=1)
    assert not torch.equal(first, selector_of("random").select(other, 9).keep)


def test_scored_layers() -> None:
    assert vtc_cls.scored_layers(24, -2, 3) == [20, 21, 22]
    assert vtc_cls.scored_layers(24, -1, 1) == [23]
    assert vtc_cls.scored_layers(5, -2, 4) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="9 vision layers"):
        vtc_cls.scored_layers(5, -2, 9)


def test_cls_row_leaves_its_own_share_out() -> None:
    query, key = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    row = vtc_cls.cls_row(query, key, 2)
    wanted = torch.zeros(4)
    for h in range(2):
        logits = key[0, :, 4 * h : 4 * h + 4] @ query[0, 0, 4 * h : 4 * h + 4] / math.sqrt(4)
        wanted += torch.softmax(logits, 0)[1:] / 2
    assert torch.allclose(row[0], wanted, atol=1e-6) and float(row.sum()) < 1
