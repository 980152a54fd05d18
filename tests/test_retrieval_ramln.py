"""RAMLN's equations against slow references, golden values and invariants."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from wildsight.errors import ConfigError
from wildsight.retrieval.methods import METHODS
from wildsight.retrieval.methods.ramln import (
    MarginNet,
    Memory,
    Quadruplet,
    distances,
    info_nce,
    meta_loss,
    mine,
    parts,
    penalty,
    quadruplet_loss,
    relation,
)


def batch(seed: int = 0, classes: int = 3, each: int = 2, width: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Unit embeddings, labels, modalities."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(classes).repeat_interleave(2 * each)
    modality = torch.tensor([0] * each + [1] * each).repeat(classes)
    z = torch.randn(len(label), width, generator=generator, dtype=torch.float64)
    return normalize(z, dim=1), label, modality


def slow_quadruplet(
    z: Tensor, label: Tensor, modality: Tensor, margin: float, lam: float, beta: float
) -> float:
    """Equation (1) and (2) by loops over every anchor and candidate."""
    total, count = 0.0, 0
    for i in range(len(z)):
        kinds: dict[str, list[float]] = {"p": [], "n1": [], "n2": []}
        for j in range(len(z)):
            away = math.sqrt(max(1e-12, float(((z[i] - z[j]) ** 2).sum())))
            if label[i] == label[j] and modality[i] != modality[j]:
                kinds["p"].append(away)
            elif label[i] != label[j]:
                kinds["n1" if modality[i] == modality[j] else "n2"].append(away)
        if all(kinds.values()):
            v = max(kinds["p"]) - (1 - lam) * min(kinds["n1"]) - lam * min(kinds["n2"]) + margin
            total, count = total + math.log1p(math.exp(beta * v)) / beta, count + 1
    return total / max(count, 1)


@pytest.mark.parametrize(("seed", "lam"), [(0, 0.5), (1, 0.3), (2, 1.0), (3, 0.0)])
def test_loss_equals_the_slow_reference(seed: int, lam: float) -> None:
    z, label, modality = batch(seed)
    away = distances(z, z)
    config = Quadruplet(lam=lam, mu0=0.2)
    loss = quadruplet_loss(away, mine(away, label, modality), 0.2, config)
    assert loss.item() == pytest.approx(slow_quadruplet(z, label, modality, 0.2, lam, 20.0), abs=1e-9)


def test_golden_values_of_the_penalty() -> None:
    v = relation(*(torch.tensor([x], dtype=torch.float64) for x in (0.5, 0.9, 0.7)), 0.3, 0.25)
    assert v.item() == pytest.approx(-0.05)
    assert penalty(v, "hinge", 20.0).item() == 0.0
    assert penalty(v, "softplus", 20.0).item() == pytest.approx(0.015663, abs=1e-6)


def test_mining_by_hand() -> None:
    label, modality = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    away = torch.tensor([[0, 5, 2, 3], [5, 0, 4, 1], [2, 4, 0, 6], [3, 1, 6, 0.0]])
    mined = mine(away, label, modality)
    assert mined.positive.tolist() == [1, 0, 3, 2]
    assert mined.same.tolist() == [2, 3, 0, 1]
    assert mined.other.tolist() == [3, 2, 1, 0]
    assert mined.valid.all()


def test_an_anchor_without_a_cross_modal_positive_is_left_out() -> None:
    z, label, modality = batch()
    lonely = torch.where(label == 0, 0, modality)
    away = distances(z, z)
    mined = mine(away, label, lonely)
    assert mined.valid.tolist() == [bool(c != 0) for c in label]
    loss = quadruplet_loss(away, mined, 0.2, Quadruplet())
    assert loss.item() == pytest.approx(slow_quadruplet(z, label, lonely, 0.2, 0.5, 20.0), abs=1e-9)


def test_triplet_is_lambda_one_and_the_batch_order_does_not_matter() -> None:
    z, label, modality = batch(5)
    away = distances(z, z)
    mined = mine(away, label, modality)
    one = quadruplet_loss(away, mined, 0.2, Quadruplet(lam=1.0))
    triplet = quadruplet_loss(away, mined, 0.2, Quadruplet(mode="triplet"))
    assert one == triplet
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))
    moved = distances(z[order], z[order])
    again = quadruplet_loss(moved, mine(moved, label[order], modality[order]), 0.2, Quadruplet(lam=1.0))
    assert again.item() == pytest.approx(one.item(), abs=1e-12)


def test_gradient_is_finite_for_equal_pictures() -> None:
    z = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    unit = normalize(z, dim=1)
    away = distances(unit, unit)
    mined = mine(away, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]))
    quadruplet_loss(away, mined, 0.2, Quadruplet()).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_memory_fills_merges_and_forgets_the_oldest() -> None:
    memory = Memory(3, 4)
    eye = torch.eye(4)
    memory.write(eye[:3], theta=1.01, eta=0.1)
    assert torch.equal(memory.slots, eye[:3])
    memory.write(eye[3:], theta=1.01, eta=0.1)
    assert torch.equal(memory.slots[0], eye[3])
    near = normalize(torch.tensor([[0.0, 1.0, 0.1, 0.0]]), dim=1)
    memory.write(near, theta=0.6, eta=1.0)
    assert torch.allclose(memory.slots[1], near[0])
    assert memory.age[1] == 0
    assert torch.allclose(memory.slots.norm(dim=1), torch.ones(3))


def test_memory_reads_by_similarity_without_gradient() -> None:
    memory = Memory(3, 4)
    memory.write(torch.eye(4)[:3], theta=1.01, eta=0.1)
    query = torch.eye(4)[:1].requires_grad_()
    read = memory.read(query, tau=0.1)
    weights = torch.tensor([math.exp(10), 1.0, 1.0])
    assert torch.allclose(read[0, :3], weights / weights.sum())
    assert not read.requires_grad


def test_memory_is_saved_and_restored() -> None:
    memory, other = Memory(8, 4), Memory(8, 4)
    memory.write(batch(width=4)[0].float(), theta=0.6, eta=0.1)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.slots, memory.slots)
    assert torch.equal(other.age, memory.age)


def test_budget_holds_the_mean_and_ignores_a_constant() -> None:
    net = MarginNet(8, Quadruplet(memory=0))
    h = torch.rand(32, generator=torch.Generator().manual_seed(0)) - 0.5
    margin = net.bounded(h)
    assert margin.mean().item() == pytest.approx(0.2, abs=1e-6)
    assert torch.allclose(net.bounded(h + 0.3), margin)
    free = MarginNet(8, Quadruplet(memory=0, budget=False)).bounded(torch.tensor([-1.0, 1.0]))
    assert free.tolist() == pytest.approx([0.02, 0.6])


def outer(net: MarginNet, config: Quadruplet) -> Tensor:
    """The meta loss on two small disjoint batches of trunk features."""
    z, label, modality = batch(3, classes=4)
    z = z.float() * 2
    half = len(z) // 2
    generator = torch.Generator().manual_seed(9)
    head = torch.randn(6, 8, generator=generator) * 0.4, torch.zeros(6)
    prototypes = torch.randn(4, 6, generator=generator)
    return meta_loss(
        (z[:half], z[half:]), (label[:half], label[half:]), (modality[:half], modality[half:]),
        head, prototypes, net, config,
    )  # fmt: skip


def moved_net(config: Quadruplet) -> MarginNet:
    torch.manual_seed(0)
    net = MarginNet(6, config)
    torch.nn.init.normal_(net.last.weight, std=0.3)
    return net


def test_meta_gradient_is_zero_for_the_hinge_and_not_for_softplus() -> None:
    gradient = {}
    for kind in ("hinge", "softplus"):
        config = Quadruplet(penalty=kind, memory=16)
        net = moved_net(config)
        outer(net, config).backward()
        gradient[kind] = net.last.weight.grad
    assert gradient["hinge"] is None or float(gradient["hinge"].abs().max()) == 0.0
    assert float(gradient["softplus"].abs().max()) > 0


def test_meta_gradient_equals_finite_differences() -> None:
    config = Quadruplet(memory=0, beta=5.0, inner_lr=0.5)
    net = moved_net(config).double()
    z, label, modality = batch(3, classes=4)
    half = len(z) // 2
    generator = torch.Generator().manual_seed(9)
    head = (
        torch.randn(6, 8, generator=generator, dtype=torch.float64) * 0.4,
        torch.zeros(6, dtype=torch.float64),
    )
    prototypes = torch.randn(4, 6, generator=generator, dtype=torch.float64)

    def value() -> Tensor:
        return meta_loss(
            (z[:half], z[half:]), (label[:half], label[half:]), (modality[:half], modality[half:]),
            head, prototypes, net, config,
        )  # fmt: skip

    value().backward()
    slope = net.last.weight.grad
    assert slope is not None
    weight = net.last.weight.data
    for place in (0, 13, 40):
        weight[0, place] += 1e-5
        up = value().item()
        weight[0, place] -= 2e-5
        down = value().item()
        weight[0, place] += 1e-5
        assert slope[0, place].item() == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-9)


def test_the_loss_never_falls_when_a_margin_grows() -> None:
    z, label, modality = batch(7)
    away = distances(z, z)
    margin = torch.full((len(z),), 0.2, dtype=torch.float64, requires_grad=True)
    quadruplet_loss(away, mine(away, label, modality), margin, Quadruplet()).backward()
    assert margin.grad is not None
    assert (margin.grad >= 0).all()


def test_info_nce_by_hand() -> None:
    z, label, modality = batch(2)
    total = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if modality[j] != modality[i]]
        logits = torch.stack([z[i] @ z[j] / 0.1 for j in others]).log_softmax(0)
        total.append(-logits[[k for k, j in enumerate(others) if label[j] == label[i]]].mean())
    assert info_nce(z, label, modality).item() == pytest.approx(torch.stack(total).mean().item(), abs=1e-9)


def test_margins_see_the_parts_of_the_relation() -> None:
    z, label, modality = batch(1)
    z = z.float()
    away = distances(z, z)
    mined = mine(away, label, modality)
    net = MarginNet(8, Quadruplet(memory=4))
    torch.nn.init.normal_(net.last.weight)
    margin = net(z, away, mined, modality)
    assert margin.shape == (len(z),)
    assert float(margin.detach().std()) > 0
    row = torch.arange(len(z))
    assert torch.equal(parts(away, mined)[0], away[row, mined.positive])


@pytest.mark.parametrize(
    "wrong",
    [{"mode": "pair"}, {"margin": "none"}, {"penalty": "cube"}, {"lam": 2.0}, {"mu0": 0.0}, {"memory": -1}],
)
def test_settings_out_of_range_are_named(wrong: dict[str, object]) -> None:
    name = next(iter(wrong))
    with pytest.raises(ConfigError, match=name):
        METHODS.create("quadruplet", wrong)


def test_every_combination_of_switches_gives_a_finite_loss() -> None:
    z, label, modality = batch(4)
    away = distances(z, z)
    mined = mine(away, label, modality)
    for mode, kind in itertools.product(("quad", "quad+intra", "triplet"), ("softplus", "hinge")):
        assert quadruplet_loss(away, mined, 0.2, Quadruplet(mode=mode, penalty=kind)).isfinite()
