"""NN-GCD's equations: slow references, golden values, invariants; the head and its teacher."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, normalize, relu

from wildsight.discovery import CategoryDiscoverer, losses
from wildsight.discovery.fitting import Tokens, fit_head
from wildsight.discovery.methods import METHODS
from wildsight.discovery.methods.legogcd import LegoGCD, dual_views, local_entropy
from wildsight.discovery.methods.nngcd import NNGCD, GCDHead, cosine_logits, random_classifier, total_loss
from wildsight.discovery.methods.simgcd import ABLATION, SimGCD
from wildsight.discovery.partial_finetune import ResidualTail
from wildsight.errors import ConfigError
from wildsight.training import TrainConfig


def unit(n: int, d: int = 6, seed: int = 0, positive: bool = False) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(x.abs() if positive else x, dim=1)


def slow_nmf_nce(u: Tensor, t: float, m: float, sigma: float) -> float:
    """Loops over anchors and negatives, as the equation reads."""
    n, total = len(u), 0.0
    for i in range(n):
        pair = (i + n // 2) % n
        others = [j for j in range(n) if j not in (i, pair)]
        cosines = [float(u[i] @ u[j]) for j in others]
        raw = [1.0 if math.isinf(sigma) else math.exp(-((s - m) ** 2) / (2 * sigma**2)) for s in cosines]
        weights = [w * len(raw) / sum(raw) for w in raw]
        positive = math.exp(float(u[i] @ u[pair]) / t)
        negative = sum(w * math.exp(s / t) for w, s in zip(weights, cosines, strict=True))
        total -= math.log(positive / (positive + negative))
    return total / n


@pytest.mark.parametrize(("t", "sigma"), [(0.5, 1.0), (1.0, 0.25), (0.2, math.inf)])
def test_nmf_nce_is_its_equation(t: float, sigma: float) -> None:
    u = unit(10)
    assert float(losses.nmf_nce(u, t=t, sigma=sigma)) == pytest.approx(
        slow_nmf_nce(u, t, 0.1, sigma), abs=1e-9
    )


def test_nmf_nce_golden() -> None:
    u = normalize(torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]], dtype=torch.float64), dim=1)
    assert float(losses.nmf_nce(u, t=0.5)) == pytest.approx(0.6952883006675399, abs=1e-9)
    assert slow_nmf_nce(u, 0.5, 0.1, 1.0) == pytest.approx(0.6952883006675399, abs=1e-9)


def test_without_width_nmf_nce_is_infonce() -> None:
    u, t = unit(12), 0.3
    n = len(u)
    pair = (torch.arange(n) + n // 2) % n
    scores = (u @ u.T / t).masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)
    expected = torch.nn.functional.cross_entropy(scores, pair)
    assert losses.nmf_nce(u, t=t, sigma=math.inf) == pytest.approx(float(expected), abs=1e-6)


def test_nmf_nce_invariants() -> None:
    u = unit(8, seed=3)
    base = float(losses.nmf_nce(u, t=0.5))
    order = torch.tensor([2, 0, 3, 1])
    turned = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    assert float(losses.nmf_nce(torch.cat([u[4:], u[:4]]), t=0.5)) == pytest.approx(base, abs=1e-9)
    shuffled = torch.cat([u[:4][order], u[4:][order]])
    assert float(losses.nmf_nce(shuffled, t=0.5)) == pytest.approx(base, abs=1e-9)
    assert float(losses.nmf_nce(u @ turned, t=0.5)) == pytest.approx(base, abs=1e-9)
    assert float(losses.nmf_nce(u, t=0.6)) != pytest.approx(base, abs=1e-3)
    assert float(losses.nmf_nce(u[:2], t=0.5)) == 0.0
    assert math.isfinite(float(losses.nmf_nce(u.float(), t=0.01)))


def test_negative_weights_have_mean_one_and_the_stated_ratio() -> None:
    s = torch.tensor([[0.0, 0.1, 0.5, 1.0]]).double().expand(4, 4)
    mask = torch.ones(4, 4, dtype=torch.bool)
    w = losses.negative_weights(s, mask, 0.1, 1.0)
    assert torch.allclose(w.mean(1), torch.ones(4).double())
    assert float(w[0, 3] / w[0, 1]) == pytest.approx(0.667, abs=1e-3)
    assert float(w[0, 2] / w[0, 1]) == pytest.approx(0.923, abs=1e-3)


def test_no_gradient_runs_through_the_weights() -> None:
    u = unit(6, 3).requires_grad_()
    losses.nmf_nce(u, t=0.5, sigma=0.3).backward()
    frozen_s = (u.detach() @ u.detach().T).clone()
    mask = torch.ones(6, 6, dtype=torch.bool)
    at = torch.arange(6)
    mask[at, at] = mask[at, (at + 3) % 6] = False
    w = losses.negative_weights(frozen_s, mask, 0.1, 0.3)
    v = u.detach().clone().requires_grad_()
    s = v @ v.T
    positive = (s[at, (at + 3) % 6] / 0.5).exp()
    (-(positive / (positive + (w * (s / 0.5).exp() * mask).sum(1))).log()).mean().backward()
    assert u.grad is not None and v.grad is not None and torch.allclose(u.grad, v.grad, atol=1e-10)


def test_gradients_in_float64() -> None:
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 0])
    teacher = torch.randn(6, 4, dtype=torch.float64)
    check = torch.autograd.gradcheck
    assert check(lambda v: losses.nmf_nce(normalize(v, dim=1), t=0.5, sigma=math.inf), (x,))
    assert check(lambda v: losses.supervised_contrastive(normalize(v, dim=1), y), (x,))
    assert check(lambda v: losses.mean_entropy(v, tau=0.5), (x,))
    assert check(lambda v: losses.self_distillation(v, teacher, tau=0.5, teacher_tau=0.4), (x,))
    assert check(lambda v: losses.sparse(v, 0.6), (x,))


def test_supervised_contrastive_is_its_equation() -> None:
    u, y = unit(8), torch.tensor([0, 1, 0, 2])
    both, total = y.repeat(2), 0.0
    for i in range(8):
        scores = {j: float(u[i] @ u[j]) / 0.07 for j in range(8) if j != i}
        floor = math.log(sum(math.exp(s - 14) for s in scores.values())) + 14
        own = [scores[j] - floor for j in scores if both[j] == both[i]]
        total -= sum(own) / len(own)
    assert float(losses.supervised_contrastive(u, y)) == pytest.approx(total / 8, abs=1e-9)
    assert float(losses.supervised_contrastive(u[:0], y[:0])) == 0.0


def test_mean_entropy_is_zero_at_uniform_and_finite_at_zero_probability() -> None:
    assert float(losses.mean_entropy(torch.zeros(4, 5), tau=0.1)) == pytest.approx(0.0, abs=1e-6)
    one = torch.zeros(4, 5)
    one[:, 0] = 1000.0
    assert float(losses.mean_entropy(one, tau=0.1)) == pytest.approx(math.log(5), abs=1e-6)
    assert float(losses.mean_entropy(torch.randn(9, 5), tau=0.1)) >= 0.0


def test_self_distillation_crosses_views_and_spares_the_teacher() -> None:
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    value = losses.self_distillation(student, teacher, tau=0.1, teacher_tau=0.05)
    q, log_p = (torch.softmax(teacher / 0.05, 1).detach(), torch.log_softmax(student / 0.1, 1).detach())
    slow = sum(-float((q[(i + 2) % 4] * log_p[i]).sum()) for i in range(4)) / 4
    assert value.item() == pytest.approx(slow, abs=1e-9)
    value.backward()
    assert teacher.grad is None and student.grad is not None


def test_activations() -> None:
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64, requires_grad=True)
    assert -0.17 < losses.activate(x, "gelu").min().item() < -0.169
    straight = losses.activate(x, "rep_relu")
    assert torch.allclose(straight, relu(x), atol=1e-12)
    (got,) = torch.autograd.grad(straight.sum(), x)
    (want,) = torch.autograd.grad(gelu(x).sum(), x)
    assert torch.allclose(got, want)
    u = normalize(losses.activate(torch.randn(20, 8), "relu") + 1e-9, dim=1)
    assert float((u @ u.T).min()) >= 0.0
    with pytest.raises(ConfigError, match="no activation"):
        losses.activate(x, "swish")


def test_sparse_regularisation() -> None:
    w = torch.tensor([[0.3, -0.4], [0.0, 2.0]], dtype=torch.float64)
    by_hand = 0.6 * 2.7 + 0.4 * ((0.5 - 0.25) + (2.0 - 4.0))
    assert float(losses.sparse(w, 0.6)) == pytest.approx(by_hand, abs=1e-9)
    assert float(losses.sparse(unit(7), 0.0)) == pytest.approx(0.0, abs=1e-9)
    zero = torch.zeros(3, 4, requires_grad=True)
    losses.sparse(zero, 0.6).backward()
    assert zero.grad is not None and bool(zero.grad.isfinite().all())
    short = unit(5) * torch.rand(5, 1, dtype=torch.float64)
    assert float(losses.sparse(short, 0.6)) >= 0.0


@pytest.mark.parametrize(("norm", "grows"), [(0.3, False), (0.7, True)])
def test_rows_below_a_half_shrink_and_above_grow(norm: float, grows: bool) -> None:
    row = (unit(1) * norm).requires_grad_()
    losses.sparse(row, 0.0).backward()
    assert row.grad is not None
    moved = row.detach() - 0.01 * row.grad
    assert (float(moved.norm()) > norm) is grows


def test_schedules() -> None:
    rates = [losses.momentum(s, 50) for s in range(51)]
    assert rates[0] == pytest.approx(0.699) and rates[-1] == pytest.approx(0.999)
    assert rates == sorted(rates)
    for warm, epochs in ((30, 40), (2, 3), (1, 3), (0, 2)):
        released = np.concatenate([np.linspace(0.07, 0.04, warm), np.full(epochs - warm, 0.04)])
        found = [losses.teacher_temperature(e, warm=warm) for e in range(epochs)]
        assert found == pytest.approx(released.tolist(), abs=1e-12)
    assert losses.teacher_temperature(29) == 0.04 < losses.teacher_temperature(28)


def head(config: NNGCD | None = None, k: int = 5) -> GCDHead:
    torch.manual_seed(0)
    config = config or NNGCD(hidden=8, out=6)
    return GCDHead(ResidualTail(torch.zeros(4), torch.eye(4)), 4, k, config)


def test_logits_do_not_see_scale_and_the_tail_starts_as_identity() -> None:
    one = head()
    tokens = torch.randn(3, 1, 4)
    out = one(tokens)
    assert torch.allclose(out.z, 2 * normalize(tokens[:, 0], dim=1)) and out.logits.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        one.prototypes.mul_(7.0)
    assert torch.allclose(one(5.0 * tokens).logits, out.logits, atol=1e-5)


def test_teacher_starts_as_a_copy_follows_slowly_and_gets_no_gradient() -> None:
    one = head()
    assert torch.equal(one.teacher, one.prototypes.detach())
    strict = head(NNGCD(hidden=8, out=6, strict_code=True))
    assert not torch.equal(strict.teacher, strict.prototypes.detach())
    before = one.teacher.clone()
    with torch.no_grad():
        one.prototypes.add_(1.0)
    one.step += 1
    one.follow(10)
    assert torch.allclose(one.teacher, before + 0.301, atol=1e-5) and int(one.step) == 1
    assert not one.teacher.requires_grad


def test_the_teacher_follows_each_step_by_the_released_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Released: after step i of N, i = 0 .. N - 1, teacher <- m(i) teacher + (1 - m(i)) student."""
    one, after = head(), []
    expected, follow = one.teacher.clone(), one.follow

    def kept(total: int) -> None:
        after.append(one.prototypes.detach().clone())
        follow(total)

    monkeypatch.setattr(one, "follow", kept)
    draw = np.random.default_rng(0)
    data = Tokens(draw.normal(size=(6, 2, 1, 4)), np.arange(6), np.array([0, 1, 0, -1, -1, -1]))
    config = TrainConfig(epochs=2, batch_size=2, lr=0.1, optimizer="sgd")
    fit_head(one, data, config, progress=False, device="cpu")
    assert len(after) == 6
    for i, student in enumerate(after):
        rate = 0.999 - 0.3 * (math.cos(math.pi * i / 6) + 1) / 2
        expected = rate * expected + (1 - rate) * student
    assert torch.allclose(one.teacher, expected, atol=1e-6)


def test_a_random_classifier_trains_like_the_released_weight_norm() -> None:
    """Its rows are drawn as `nn.Linear` draws them, and move as those below a fixed gain of 1."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 50, bias=False)
    torch.manual_seed(0)
    drawn = random_classifier(50, 64).requires_grad_()
    assert torch.allclose(drawn, linear.weight, atol=1e-6)
    assert drawn.norm(dim=1).mean().item() == pytest.approx(3**-0.5, abs=0.01)
    released = torch.nn.utils.parametrizations.weight_norm(linear)
    gain, rows = released.parametrizations.weight.original0, released.parametrizations.weight.original1
    torch.nn.init.ones_(gain)
    z, y = torch.randn(8, 64), torch.arange(8)
    for logits in (cosine_logits(z, drawn), released(normalize(z, dim=1))):
        torch.nn.functional.cross_entropy(logits / 0.1, y).backward()
    assert drawn.grad is not None and rows.grad is not None
    assert torch.allclose(drawn.grad, rows.grad, atol=1e-6) and float(rows.grad.norm()) > 0.1


def total(config: NNGCD, labelled: list[bool]) -> dict[str, Tensor]:
    one = head(config)
    tokens = torch.randn(2 * len(labelled), 1, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([i % 2 if seen else 4 for i, seen in enumerate(labelled)])
    return total_loss(one, one(tokens), labels, torch.tensor(labelled), 0.0)


@pytest.mark.parametrize("name", list(ABLATION))
def test_every_rung_of_the_ablation_trains(name: str) -> None:
    config = NNGCD(**{**ABLATION[name], "hidden": 8, "out": 6})
    terms = total(config, [True, False, True, False])
    c = config
    free = c.w_cluster * terms["cluster"] + c.eps * terms["entropy"] + c.w_nce * terms["nce"]
    held = c.w_cls * terms["cls"] + c.w_supcon * terms["supcon"]
    whole = (1 - c.l) * free + c.l * held + c.rho * terms["hsr"]
    assert float(terms["loss"]) == pytest.approx(float(whole), rel=1e-5)
    terms["loss"].backward()


def test_every_term_has_a_switch() -> None:
    small: dict[str, Any] = {"hidden": 8, "out": 6}
    whole = total(NNGCD(**small), [True, False, True, False])
    parts = {"w_cluster": 0.65, "w_nce": 0.65, "w_cls": 0.35, "w_supcon": 0.35, "eps": 1.3, "rho": 1e-5}
    for (switch, share), term in zip(
        parts.items(), ("cluster", "nce", "cls", "supcon", "entropy", "hsr"), strict=True
    ):
        without = total(NNGCD(**small, **{switch: 0.0}), [True, False, True, False])
        gone = float(whole["loss"]) - float(without["loss"])
        assert gone == pytest.approx(share * float(whole[term]), abs=1e-5)
        with pytest.raises(ConfigError):
            NNGCD(**{"w_cls" if switch == "rho" else switch: -1.0})


def test_a_batch_without_labels_is_no_nan() -> None:
    terms = total(NNGCD(hidden=8, out=6), [False, False])
    assert float(terms["cls"]) == float(terms["supcon"]) == 0.0 and bool(terms["loss"].isfinite())


def test_strict_code_leaves_out_what_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Released: nan_to_num(nan=0, posinf=0, neginf=0) of each loss."""
    plain = total(NNGCD(hidden=8, out=6, strict_code=True), [True, False])
    for bad in (math.inf, -math.inf, math.nan):
        monkeypatch.setattr(losses, "nmf_nce", lambda u, bad=bad, **_: u.sum() * 0.0 + bad)
        found = total(NNGCD(hidden=8, out=6, strict_code=True), [True, False])
        assert float(found["nce"]) == 0.0
        gone = float(plain["loss"]) - float(found["loss"])
        assert gone == pytest.approx(0.65 * float(plain["nce"]), abs=1e-5)
        assert not bool(total(NNGCD(hidden=8, out=6), [True, False])["loss"].isfinite())


def test_the_scope_of_regularisation() -> None:
    narrow, wide = head(), head(NNGCD(hidden=8, out=6, hsr_scope="code"))
    assert all(w.ndim > 1 for w in narrow.regularised())
    assert len(wide.regularised()) == len(narrow.regularised()) + 1  # the classifier


def test_presets() -> None:
    cub = NNGCD.released("cub")
    assert (cub.lr, cub.t, cub.rho, cub.eps, cub.l) == (0.174, 0.5, 3e-5, 2.0, 0.35)
    assert NNGCD.strict("cub").hsr_scope == "code" and NNGCD.strict().strict_code
    with pytest.raises(ConfigError, match="no recipe was released for 'cubb'"):
        NNGCD.released("cubb")
    assert NNGCD.preset("released:cub") == cub and NNGCD.preset("text") == NNGCD.text()
    assert NNGCD.preset("strict") == NNGCD.strict()
    for preset in ("reprint", "text:cub", "released:cubb"):
        with pytest.raises(ConfigError, match=r"preset|recipe"):
            NNGCD.preset(preset)
    assert {NNGCD.preset(n).start for n in ("text", "released", "strict")} == {"random"}
    text = NNGCD.text()
    assert text.act == "rep_relu" and text.hsr_target == "cooccurrence"
    simgcd = SimGCD()
    assert (simgcd.act, simgcd.rho, simgcd.teacher) == ("none", 0.0, "student") and math.isinf(simgcd.sigma)
    assert METHODS.create("nngcd", cub) == cub and METHODS.create("simgcd", {"sigma": "inf"}) == simgcd
    found = METHODS.parse("nngcd-released:cub[t=1.0]@0.5")
    assert (found.method, found.lr) == (replace(cub, t=1.0), 0.5)
    for wrong, match in [
        ({"t": "warm"}, "t='warm' is not a number"),
        ({"epochs": 2.5}, "epochs=2.5 is not a whole number"),
        ({"strict_code": 1}, "strict_code=1 is not true or false"),
        ({"sigmaa": 1.0}, "did you mean 'sigma'"),
    ]:
        with pytest.raises(ConfigError, match=match):
            METHODS.create("nngcd", wrong)
    with pytest.raises(ConfigError, match="given as NNGCD"):
        METHODS.create("cms", cub)
    with pytest.raises(ConfigError, match="unknown method 'simgcd-text'"):
        CategoryDiscoverer.variant("simgcd-text")
    for bad in ({"act": "swish"}, {"beta": 2.0}, {"t": 0.0}, {"hsr_target": "all"}):
        with pytest.raises(ConfigError):
            NNGCD(**bad)  # type: ignore[arg-type]


def test_the_terms_of_legogcd_are_their_equations() -> None:
    draw = torch.Generator().manual_seed(3)
    logits = torch.rand(8, 5, generator=draw, dtype=torch.float64) * 0.6
    prior = torch.softmax(torch.rand(5, generator=draw, dtype=torch.float64), 0)
    free = torch.tensor([True, False, True, True] * 2)
    p = torch.softmax(logits / 0.1, 1)
    slow_dual = sum(float(p[i, k] * (p[i, k] / p[i + 4, k]).log()) for i in range(4) for k in range(5)) / 4
    assert float(dual_views(logits, tau=0.1)) == pytest.approx(slow_dual, abs=1e-12)
    assert float(dual_views(torch.cat([logits[:4]] * 2), tau=0.1)) == pytest.approx(0.0, abs=1e-12)
    slow, chosen = 0.0, 0
    for row, unlabelled in zip(logits, free.tolist(), strict=True):
        best = int(row.argmax())
        if not unlabelled or best >= 3 or float(torch.softmax(row / 0.1, 0)[best]) < 0.5:
            continue
        z = [math.exp(float(row[k]) / 0.05) * float(prior[k]) ** 0.4 for k in range(5)]
        sharpened = torch.softmax(row / 0.05, 0)
        slow -= sum(float(sharpened[k]) * math.log(z[k] / sum(z)) for k in range(5))
        chosen += 1
    found = local_entropy(logits, free, prior, 3, tau=0.1, sharp=0.05, thr=0.5, margin=0.4)
    assert 0 < chosen < 6 and float(found) == pytest.approx(slow / 8, abs=1e-12)


def test_legogcd_is_simgcd_and_two_terms() -> None:
    torch.manual_seed(0)
    config = LegoGCD(hidden=8, out=6, thr=0.3)
    one = GCDHead(ResidualTail(torch.zeros(4), torch.eye(4)), 4, 5, config, known=2)
    out = one(torch.randn(8, 1, 4))
    labels, labelled = torch.tensor([0, 1, -1, -1]), torch.tensor([True, True, False, False])
    before = one.prior.clone()
    terms = total_loss(one, out, labels, labelled, 0.0)
    one.config = SimGCD(hidden=8, out=6)
    base = total_loss(one, out, labels, labelled, 0.0)
    expected = base["loss"] + 0.65 * terms["dual"] + 2 * terms["ler"]
    assert torch.allclose(terms["loss"], expected, atol=1e-6)
    assert torch.allclose(one.prior, 0.999 * before + 0.001 * torch.softmax(out.logits, 1).mean(0), atol=1e-7)
    assert torch.allclose(before, torch.full((5,), 0.2)) and "prior" not in dict(head().named_buffers())
    with pytest.raises(ConfigError, match="thr"):
        LegoGCD(thr=1.5)
