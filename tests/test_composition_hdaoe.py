"""HDA-OE's equations: slow references, golden values, invariants."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from wildsight.composition.methods.hdaoe import (
    HDAOE,
    HDAOEHead,
    contrastive_loss,
    mix_sources,
    mixed_loss,
    modulated_cosine,
)
from wildsight.composition.modules import LabelledBatch, Mixing, Pairs, Space, pair_scores
from wildsight.composition.synthesis import Partners, stream
from wildsight.training import Batch

SEEN = torch.tensor([[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 2]])  # object 2 has one attribute alone


def _g(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _space(shared: bool = False) -> Space:
    g = _g()
    width = 12 if shared else 7
    words = torch.randn(3, width, generator=g), torch.randn(3, width, generator=g)
    base = F.normalize(torch.randn(6, 12, generator=g), dim=-1) if shared else None
    return Space(12, *words, SEEN, base, 20.0, 60, (("a", "b", "c"), ("x", "y", "z")))


def _head(shared: bool = False, **hyper: object) -> HDAOEHead:
    torch.manual_seed(1)
    return HDAOEHead(_space(shared), HDAOE(d=10, **hyper)).eval()  # type: ignore[arg-type]


def _partners(**options: object) -> Partners:
    labels = torch.tensor([0] * 8 + [1] * 4 + [2] * 2 + [3] * 5 + [4] * 5 + [5] * 4)
    return Partners(torch.randn(28, 12, generator=_g()), labels, SEEN, **options)  # type: ignore[arg-type]


def test_modulated_cosine_is_the_materialised_one() -> None:
    z, w, gate = (torch.randn(n, 6, generator=_g(n)) for n in (5, 4, 3))
    gate = gate.repeat(2, 1)[:5].tanh()
    slow = F.cosine_similarity(z[:, None], w[None] * (1 + gate[:, None]), dim=-1)
    assert torch.allclose(modulated_cosine(z, w, gate), slow, atol=1e-6)


def test_a_new_gate_changes_nothing() -> None:
    with_gate, without = _head(sdde="light"), _head(sdde=None)
    without.load_state_dict(with_gate.state_dict(), strict=False)
    v = torch.randn(4, 12, generator=_g(3))
    a, b = with_gate.factors(v), without.factors(v)
    for one, two in ((a.code, b.code), (a.attribute, b.attribute), (a.object, b.object)):
        assert one is not None and two is not None and torch.equal(one, two)


def test_mixed_loss_golden_and_dropped_negatives() -> None:
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    virtual = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    pairs = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    none = torch.zeros(2, 2, dtype=torch.bool)
    slow = -math.log(math.exp(6) / (math.exp(6) + math.exp(10) + math.exp(0)))
    first = torch.tensor([True, False])
    assert float(mixed_loss(z, virtual, pairs, first, 0.1, none)) == pytest.approx(slow, abs=1e-5)
    assert slow == pytest.approx(4.018195, abs=1e-5)
    drop = torch.tensor([[True, False], [False, False]])
    assert float(mixed_loss(z, virtual, pairs, first, 0.1, drop)) == pytest.approx(
        math.log(1 + math.exp(-6)),
        abs=5e-6,  # float32 of logits about 10
    )
    assert float(mixed_loss(z, virtual, pairs, ~first & first, 0.1, none)) == 0.0


@pytest.mark.parametrize("kind", ["instance", "detach-anchor", "class"])
def test_contrast_matches_the_loop(kind: str) -> None:
    z, decoded = torch.randn(6, 4, generator=_g(1)), torch.randn(6, 4, generator=_g(2))
    own, other = torch.tensor([0, 0, 1, 1, 2, 0]), torch.tensor([0, 1, 0, 0, 1, 0])
    losses = []
    for i in range(6):
        cosine = [float(F.cosine_similarity(z[i], decoded[j], dim=0)) * 20 for j in range(6)]
        negatives = [j for j in range(6) if own[j] != own[i]][:2]
        if kind == "class":
            positives = [j for j in range(6) if own[j] == own[i] and other[j] != other[i]]
        else:
            positives = [i]
        for j in positives:
            below = sum(math.exp(cosine[n]) for n in negatives)
            losses.append(-math.log(math.exp(cosine[j]) / (math.exp(cosine[j]) + below)))
    found = contrastive_loss(z, decoded, own, other, 20.0, 2, kind)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_detached_anchors_get_no_gradient() -> None:
    z = torch.randn(4, 3, generator=_g(1), requires_grad=True)
    decoded = torch.randn(4, 3, generator=_g(2), requires_grad=True)
    own = torch.tensor([0, 1, 0, 1])
    contrastive_loss(z, decoded, own, own, 20.0, 9, "detach-anchor").backward()
    assert z.grad is None and decoded.grad is not None and bool(decoded.grad.abs().sum() > 0)


def test_a_detached_pair_code_learns_nothing_from_the_contrast() -> None:
    head = _head(sdde="light", omega=1.0, contrast="detach-pair", weights=(0.0, 0.0, 0.0))
    v = torch.randn(6, 12, generator=_g(2))
    z_a, z_o, z_c = (z.detach().requires_grad_() for z in head.encode(head.prepare(v)))
    loss = head._subclass_loss((z_a, z_o, z_c), head.known(), torch.arange(6))["contrast"]
    loss.backward()
    assert z_c.grad is None and z_a.grad is not None and float(z_a.grad.abs().sum()) > 0


def test_partners_share_the_object_and_differ_in_the_attribute() -> None:
    partners = _partners(k=3)
    index = torch.arange(28)
    mixing = partners.draw(index, _g(5))
    own = SEEN[partners.labels]
    assert torch.equal(SEEN[mixing.pairs, 1], own[:, 1:].expand(-1, 3))
    assert torch.equal(mixing.attributes[:, 0], own[:, 0])
    real = mixing.weights > 0
    assert bool((mixing.attributes[:, 1:] != own[:, :1])[real[:, 1:]].all())
    assert torch.allclose(mixing.weights.sum(1), torch.ones(28))
    assert torch.equal(mixing.active, own[:, 1] != 2)
    assert bool((mixing.weights[~mixing.active, 0] == 1).all())
    rows = (partners.features[:, None] == mixing.features.reshape(-1, 12)[None]).all(-1).int().argmax(0)
    assert torch.equal(partners.labels[rows].view(28, 2)[real[:, 1:]], mixing.pairs[:, 1:][real[:, 1:]])


def test_rare_attributes_are_drawn_in_proportion_to_one_over_n() -> None:
    """Object 0 has 8, 4 and 2 pictures: from the first pair, the others come 1/4 : 1/2."""
    from scipy.stats import chisquare

    mixing = _partners().draw(torch.zeros(6000, dtype=torch.long), _g(7))
    counts = torch.bincount(mixing.pairs[:, 1], minlength=6)[1:3].tolist()
    assert chisquare(counts, [2000, 4000]).pvalue > 1e-3
    even = _partners(gamma=0.0).draw(torch.zeros(6000, dtype=torch.long), _g(7))
    assert chisquare(torch.bincount(even.pairs[:, 1], minlength=6)[1:3].tolist()).pvalue > 1e-3


def test_weights_are_dirichlet_and_may_be_shared_by_the_batch() -> None:
    weights = _partners().draw(torch.zeros(4000, dtype=torch.long), _g(9)).weights
    assert float(weights[:, 0].mean()) == pytest.approx(0.5, abs=0.02)
    assert float(weights[:, 0].var()) == pytest.approx(1 / 12, abs=0.01)
    shared = _partners(per_batch=True).draw(torch.arange(12), _g(9)).weights
    assert bool((shared == shared[0]).all())


def test_one_source_is_the_picture_itself() -> None:
    """K = 1, or all weight on one source: the mixed code is its code and the virtual class its pair."""
    head = _head()
    v = torch.randn(2, 12, generator=_g(4))
    z = torch.stack([head.encode(head.prepare(x[None]))[2][0] for x in v])
    one_hot = torch.tensor([[0.0, 1.0]])
    assert torch.equal(mix_sources(z[None], one_hot)[0], z[1])
    sources = torch.tensor([[0, 2]])
    mixing = Mixing(v[:1, None], sources, sources, one_hot, torch.tensor([True]))
    virtual = head._virtual(torch.tensor([0]), mixing)
    assert torch.allclose(virtual, head.prototypes(Pairs(torch.tensor([[2, 0]]), None)))
    alone = _partners(k=1).draw(torch.arange(5), _g())
    assert alone.features.shape == (5, 0, 12) and bool((alone.weights == 1).all())


def test_masked_anchors_give_no_gradient() -> None:
    head = _head(sdde=None)
    v = torch.randn(3, 12, generator=_g(6), requires_grad=True)
    mixing = Mixing(
        torch.randn(3, 1, 12, generator=_g(8)),
        torch.tensor([[0, 1]] * 3),
        torch.tensor([[0, 1]] * 3),
        torch.full((3, 2), 0.5),
        torch.tensor([True, False, True]),
    )
    prepared = head.prepare(v)
    codes = head.encode(prepared)
    known = head.known()
    head._mix_loss(prepared, codes, known, torch.tensor([0, 0, 0]), mixing).backward()
    assert v.grad is not None
    norms = v.grad.norm(dim=1)
    assert float(norms[1]) == 0.0 and float(norms[0]) > 0 and float(norms[2]) > 0


def test_the_table_of_an_objects_attributes_sees_training_alone() -> None:
    partners = _partners()
    assert not bool(torch.isfinite(partners.log_weight[5]).any())
    assert float(partners.log_weight[3].exp().sum()) == pytest.approx(1 / 5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"sdde": "scd"},
        {"sdde": "scd", "contrast": "class", "gate": "softmax"},
        {"comp": "composed", "w_soft": 0.5},
        {"mix_level": "feature", "drop_sources": True, "w_soft": 0.5},
        {"score": "product"},
        {"score": "comp+prod"},
    ],
)
def test_every_switch_trains_and_scores(shared: bool, hyper: dict[str, object]) -> None:
    head = _head(shared, **hyper).train()
    partners = _partners(k=2)
    index = torch.arange(0, 28, 2)
    batch = LabelledBatch(partners.features[index], partners.labels[index], partners.draw(index, _g()))
    losses = head(batch)
    losses["loss"].backward()
    assert all(bool(torch.isfinite(x)) for x in losses.values()) and float(losses["mix"]) > 0
    head.eval()
    with torch.no_grad():
        scores = pair_scores(head.factors(batch.features), SEEN, head.known())
    assert scores.shape == (14, 6) and bool(torch.isfinite(scores).all())


def test_total_is_alpha_base_plus_beta_embedding() -> None:
    head = _head(sdde="scd", alpha=2.0, beta=0.25)
    partners = _partners()
    index = torch.arange(20)
    x = head(LabelledBatch(partners.features[index], partners.labels[index], partners.draw(index, _g())))
    base = x["pair"] + x["attribute"] + x["object"] + x["mix"]
    embedding = x["dec"] + x["cross"] + x["contrast"]
    assert torch.allclose(x["loss"], 2.0 * base + 0.25 * embedding)


def test_scores_do_not_depend_on_the_other_candidates_or_pictures() -> None:
    head = _head()
    v = torch.randn(5, 12, generator=_g(2))
    full = pair_scores(head.factors(v), SEEN, head.known())
    part = pair_scores(head.factors(v[2:3]), SEEN[[4, 1]], head.prototypes(Pairs(SEEN[[4, 1]], None)))
    assert torch.allclose(full[2, [4, 1]], part[0], atol=1e-6)


def test_draws_come_from_seed_epoch_and_positions() -> None:
    batch = [Batch(None, torch.arange(4), e, 0) for e in (0, 0, 1)]
    drawn = [torch.rand(3, generator=stream(b)).tolist() for b in batch]
    assert drawn[0] == drawn[1] != drawn[2]
