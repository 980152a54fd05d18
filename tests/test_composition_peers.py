"""The peers' equations, and what tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from composition_models import tiny_clip
from wildsight.backbones import load_backbone
from wildsight.composition.calibration import best_scale
from wildsight.composition.methods.compcos import CompCos
from wildsight.composition.methods.csp import CSP
from wildsight.composition.methods.product import Product
from wildsight.composition.methods.troika import Troika
from wildsight.composition.methods.zeroshot import ZeroShot
from wildsight.composition.modules import LabelledBatch, Pairs, Space, pair_scores
from wildsight.composition.openworld import feasibility
from wildsight.composition.prompts import PromptTower
from wildsight.errors import UnsupportedModelError

SEEN = torch.tensor([[0, 0], [1, 0], [0, 1], [2, 1]])
NAMES = ("red", "blue", "green"), ("square", "disc")


def _g(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _space(shared: bool, tower: PromptTower | None = None, dim: int = 12) -> Space:
    base = F.normalize(torch.randn(4, dim, generator=_g(3)), dim=-1) if shared else None
    words = torch.randn(3, dim, generator=_g(1)), torch.randn(2, dim, generator=_g(2))
    return Space(dim, *words, SEEN, base, 20.0, 40, NAMES, tower)


def _batch(dim: int = 12) -> LabelledBatch:
    return LabelledBatch(torch.randn(8, dim, generator=_g(5)), torch.arange(8) % 4)


def test_product_is_the_sum_of_two_log_probabilities() -> None:
    head = Product(hidden=False).head(_space(False)).eval()
    v = _batch().features
    x = head.prepare(v)
    slow = torch.stack(
        [head.attribute(x).softmax(-1)[:, a] * head.object(x).softmax(-1)[:, o] for a, o in SEEN], 1
    )
    assert torch.allclose(pair_scores(head.factors(v), SEEN, None), slow.log(), atol=1e-5)
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(2))
    assert torch.allclose(pair_scores(head.factors(v), grid, None).exp().sum(1), torch.ones(8), atol=1e-5)


def test_compcos_margins_push_what_is_not_feasible() -> None:
    torch.manual_seed(0)
    head = CompCos(margin=0.4).head(_space(False)).eval()
    batch = _batch()
    unseen = torch.tensor([[1, 1], [2, 0]])
    code = F.normalize(head.pair(head.prepare(batch.features)), dim=-1)
    push = feasibility(head.attributes(), head.objects(), SEEN)[unseen[:, 0], unseen[:, 1]]
    logits = torch.cat([code @ head.known().T, code @ head.prototypes(Pairs(unseen, None)).T - 0.4 * push], 1)  # type: ignore[union-attr]
    plain = F.cross_entropy(code @ head.known().T * 20, batch.label)
    slow = plain + F.cross_entropy(logits * 20, batch.label)
    assert torch.allclose(head(batch)["loss"], slow, atol=1e-5)


def test_troika_joins_its_paths() -> None:
    head = Troika().head(_space(True)).eval()
    v = _batch().features
    code, a, o = head._cosines(v)
    p_a, p_o = (a * 20).softmax(-1), (o * 20).softmax(-1)
    slow = 20 * code @ head.known().T + p_a[:, SEEN[:, 0]] * p_o[:, SEEN[:, 1]]
    assert torch.allclose(pair_scores(head.factors(v), SEEN, head.known()), slow, atol=1e-5)


def test_zero_shot_is_the_cosine() -> None:
    space = _space(True)
    head = ZeroShot().head(space).eval()
    v = _batch().features
    assert space.base is not None
    slow = F.cosine_similarity(v[:, None], space.base[None], dim=-1)
    assert torch.allclose(pair_scores(head.factors(v), SEEN, head.known()), slow, atol=1e-6)
    with pytest.raises(UnsupportedModelError, match="needs the text"):
        head.prototypes(Pairs(SEEN, None))


def test_csp_starts_at_the_prompts_and_learns_words_alone(tmp_path: Path) -> None:
    backbone = load_backbone(tiny_clip(tmp_path))
    tower = PromptTower(backbone)
    head = CSP().head(_space(True, tower, dim=24)).eval()
    texts = [f"a photo of {NAMES[0][a]} {NAMES[1][o]}" for a, o in SEEN.tolist()]
    assert torch.allclose(head.known(), F.normalize(backbone.embed_texts(texts), dim=-1), atol=1e-5)
    before = [p.clone() for p in backbone.model.parameters()]
    head.train()(_batch(24))["loss"].backward()
    learned = {n for n, p in head.named_parameters() if p.grad is not None}
    assert learned == {"attributes.delta", "objects.delta"}
    assert all(torch.equal(a, b) for a, b in zip(before, backbone.model.parameters(), strict=True))
    assert not tower.table._forward_hooks
    assert not any(k.startswith("_tower") for k in head.state_dict())


def test_the_temperature_has_the_least_loss() -> None:
    scores = torch.randn(200, 6, generator=_g(8))
    truth = torch.distributions.Categorical(logits=scores * 3).sample()
    found = best_scale(scores.double().numpy(), truth.numpy())
    assert 1.5 < found < 6.0
