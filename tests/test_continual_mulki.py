"""Every equation of MulKI against a slow reference, with the invariants of its stages."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from wildsight.continual.distillation_targets import DistillationTargets
from wildsight.continual.methods import METHODS, mulki
from wildsight.continual.methods.mulki import MulKI, MulKIObjective, Views
from wildsight.continual.methods.zscl import ZSCL, ZSCLObjective
from wildsight.continual.objective import Objective, RunningMean, StudentBatch, blended, distilled, task_loss
from wildsight.continual.student import Student
from wildsight.errors import ConfigError

SCALE = 20.0


def rows(count: int, seed: int, width: int = 6) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, width, generator=draw, dtype=torch.float64), dim=-1)


LABELS = torch.tensor([0, 2, 1, 2, 0])
SPECIFIED = MulKI(a=5, b=0.25, c=0.25, d=0.25)
"""All terms of the loss; the default leaves the relations out."""


def loss_of(student: Views, zero: Views, previous: Views, prototypes: Tensor, config: MulKI) -> Tensor:
    weights = mulki.teacher_weights(
        (zero.image, zero.text), (previous.image, previous.text), LABELS, SCALE, config.weights, config.kappa
    )
    teachers = [(zero, weights[:, 0]), (previous, weights[:, 1])]
    return mulki.knowledge_loss(student, teachers, prototypes, SCALE, config)


def slow_kl(teacher: Tensor, student: Tensor, tau: float) -> float:
    total = 0.0
    for t, s in zip(teacher.tolist(), student.tolist(), strict=True):
        p = [math.exp(v / tau) for v in t]
        q = [math.exp(v / tau) for v in s]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += tau * tau * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(teacher)


def test_relations_equal_a_slow_reference() -> None:
    teacher, student = rows(4, 1) * 7, rows(4, 2) * 7
    alone = mulki.relation([teacher], [torch.ones(())], student, 2.0)
    assert float(alone.mean()) == pytest.approx(slow_kl(teacher, student, 2.0), rel=1e-10)
    other, weight = rows(4, 3) * 7, rows(4, 4).abs()[:, 0]
    both = mulki.relation([teacher, other], [weight, 1 - weight], student, 2.0)
    for x in range(4):
        one, w = slice(x, x + 1), float(weight[x])
        slow = w * slow_kl(teacher[one], student[one], 2.0) + (1 - w) * slow_kl(other[one], student[one], 2.0)
        assert float(both[x]) == pytest.approx(slow, rel=1e-10)
    target = (teacher / 2).softmax(-1)
    slow = 4 * float(-(target * (student / 2).log_softmax(-1)).sum(-1).mean())
    assert float(distilled(teacher, student, 2.0)) == pytest.approx(slow, rel=1e-12)


def test_knowledge_loss_equals_the_sum_written_out() -> None:
    config = MulKI(a=5, b=0.25, c=0.5, d=0.125)
    student, zero, previous = (Views(rows(5, i), rows(3, i + 10)) for i in (1, 2, 3))
    prototypes, weight = rows(3, 30), rows(5, 4).softmax(-1)[:, :2]
    got = mulki.knowledge_loss(
        student, [(zero, weight[:, 0]), (previous, weight[:, 1])], prototypes, SCALE, config
    )
    expected = 0.0
    for column, m in enumerate((zero, previous)):
        for x in range(5):
            one = slice(x, x + 1)
            own = 5 * (1 - float(student.image[x] @ m.image[x]))
            pair = (SCALE * m.image[one] @ prototypes.T, SCALE * student.image[one] @ prototypes.T)
            own += 0.25 * slow_kl(*pair, 2.0)
            pair = (SCALE * m.image[one] @ m.text.T, SCALE * student.image[one] @ student.text.T)
            expected += float(weight[x, column]) * (own + 0.5 * slow_kl(*pair, 2.0)) / 5
        text = 5 * (1 - float((student.text * m.text).sum(-1).mean()))
        text += 0.125 * slow_kl(SCALE * prototypes @ m.text.T, SCALE * prototypes @ student.text.T, 2.0)
        expected += float(weight[:, column].mean()) * text
    assert float(got) == pytest.approx(expected, rel=1e-9)


def test_teacher_equal_to_student_gives_no_loss_and_no_gradient() -> None:
    image, text = rows(5, 1).requires_grad_(), rows(3, 2).requires_grad_()
    same = Views(image.detach(), text.detach())
    loss = loss_of(Views(image, text), same, same, rows(3, 3), replace(SPECIFIED, a=0))
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-12)
    assert image.grad is not None and text.grad is not None
    assert float(image.grad.abs().max()) < 1e-10 and float(text.grad.abs().max()) < 1e-10
    assert float(loss_of(same, same, same, rows(3, 3), SPECIFIED)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rule", mulki.RULES)
def test_weights_sum_to_one_and_equal_teachers_share(rule: str) -> None:
    zero, previous = (rows(5, 1), rows(3, 2)), (rows(5, 3), rows(3, 4))
    weights = mulki.teacher_weights(zero, previous, LABELS, SCALE, rule, 1.0)
    assert torch.allclose(weights.sum(1), torch.ones(5, dtype=torch.float64))
    if rule in ("label_ce", "entropy", "uniform"):
        same = mulki.teacher_weights(zero, zero, LABELS, SCALE, rule, 1.0)
        assert torch.allclose(same, torch.full_like(same, 0.5))


def test_small_kappa_takes_the_teacher_with_the_lower_error() -> None:
    zero, previous = (rows(5, 1), rows(3, 2)), (rows(5, 3), rows(3, 4))
    weights = mulki.teacher_weights(zero, previous, LABELS, SCALE, "label_ce", 1e-4)
    errors = torch.stack(
        [functional.cross_entropy(SCALE * f @ g.T, LABELS, reduction="none") for f, g in (zero, previous)], 1
    )
    assert torch.equal(weights.argmax(1), errors.argmin(1))
    assert float(weights.max(1).values.min()) > 0.999


def test_alignment_is_symmetric_and_least_for_equal_orthonormal_rows() -> None:
    p, g = rows(4, 1), rows(4, 2)
    assert torch.allclose(mulki.cross_space_alignment(p, g, SCALE), mulki.cross_space_alignment(g, p, SCALE))
    best = torch.eye(6, dtype=torch.float64)[:4]
    least = mulki.cross_space_alignment(best, best, SCALE)
    assert all(least < mulki.cross_space_alignment(rows(4, i), rows(4, i + 9), SCALE) for i in range(5))


def test_a_joint_rotation_changes_nothing_and_one_of_texts_alone_does() -> None:
    turn = torch.linalg.qr(rows(6, 40)).Q
    student, zero, previous = (Views(rows(5, i), rows(3, i + 10)) for i in (1, 2, 3))
    prototypes = rows(3, 30)

    def turned(view: Views, image: bool = True) -> Views:
        return Views(view.image @ turn if image else view.image, view.text @ turn)

    config = replace(SPECIFIED, weights="uniform")
    plain = loss_of(student, zero, previous, prototypes, config)
    both = loss_of(turned(student), turned(zero), turned(previous), prototypes @ turn, config)
    assert float(plain) == pytest.approx(float(both), rel=1e-10)
    only_vv, only_vt = replace(config, a=0, c=0, d=0), replace(config, a=0, b=0, d=0)
    for one, moves in ((only_vv, False), (only_vt, True)):
        before = float(loss_of(student, zero, previous, prototypes, one))
        after = float(loss_of(turned(student, False), zero, previous, prototypes, one))
        assert (abs(before - after) > 1e-6) is moves


def test_prototypes_stay_unit_rows_and_absent_classes_stand() -> None:
    start, features = rows(4, 1), rows(5, 2).requires_grad_()
    moved = mulki.updated_prototypes(start, features, LABELS, 0.9)
    assert torch.allclose(moved.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert torch.equal(moved[3], start[3])
    slow = 0.9 * start[2] + 0.1 * (features[1] + features[3]) / 2
    assert torch.allclose(moved[2], slow / slow.norm())
    assert torch.allclose(mulki.updated_prototypes(start, features, LABELS, 1.0), start)
    moved.sum().backward()
    assert features.grad is not None and float(features.grad.abs().sum()) > 0


def targets_of(first: bool) -> DistillationTargets:
    return DistillationTargets(
        LABELS, 3, SCALE, first, rows(5, 1), rows(3, 2), rows(5, 3), rows(3, 4), steps=30
    )


def batch_of(image: Tensor, text: Tensor) -> StudentBatch:
    kept = targets_of(True)
    return StudentBatch(
        image, text, LABELS, torch.arange(5), kept.zero_image, kept.previous_image,
        lambda p: p, lambda t: t, torch.nn.Identity(),
    )  # fmt: skip


def test_first_task_is_a_run_with_one_teacher() -> None:
    batch = batch_of(rows(5, 7), rows(3, 8))
    first = MulKIObjective(SPECIFIED, targets_of(True))(batch)
    alone = MulKIObjective(replace(SPECIFIED, weights="zs_only"), targets_of(False))(batch)
    assert float(first["loss"]) == float(alone["loss"])


def test_objective_moves_its_prototypes_and_reports_drift() -> None:
    objective = MulKIObjective(MulKI(mu=0.5), targets_of(False)).train()
    losses = objective(batch_of(rows(5, 7), rows(3, 8)))
    total = losses["task"] + losses["csa"] + losses["kd"]
    assert float(losses["loss"]) == pytest.approx(float(total))
    assert float(objective.drift().min()) < 1 - 1e-6
    assert tuple(objective.teacher_weights().shape) == (5, 2) and objective.average_every == 3


def test_weights_of_cached_teachers_are_those_of_the_batch() -> None:
    objective = MulKIObjective(MulKI(), targets_of(False))
    chosen = torch.tensor([3, 0])
    own = targets_of(False)
    zero, previous = own.zero_image[chosen], own.previous_image[chosen]
    given = (zero, own.zero_text), (previous, own.previous_text)
    slow = mulki.teacher_weights(*given, LABELS[chosen], SCALE, "label_ce", 1.0)
    assert torch.allclose(objective._cached_weights(chosen), slow) and "shares" not in objective.state_dict()


def test_golden_value() -> None:
    losses = MulKIObjective(SPECIFIED, targets_of(False))(batch_of(rows(5, 7), rows(3, 8)))
    assert float(losses["task"]) == pytest.approx(
        float(task_loss(rows(5, 7), rows(3, 8), LABELS, SCALE, 0.2)), rel=1e-12
    )
    assert float(losses["loss"]) == pytest.approx(GOLDEN, rel=1e-6)


GOLDEN = 36.88834761658191


def test_running_mean_is_the_mean_and_the_merge_ends_where_it_should() -> None:
    snapshots = [{"w": rows(2, i), "b": rows(1, i + 5)} for i in range(4)]
    mean = RunningMean(snapshots[0])
    for one in snapshots[1:]:
        mean.add(one)
    got = mean.restored(snapshots[0])
    for name in ("w", "b"):
        assert torch.allclose(got[name], torch.stack([s[name] for s in snapshots]).mean(0))
    before = {"w": torch.zeros(2), "logit_scale": torch.tensor(3.0), "n": torch.tensor(1)}
    after = {"w": torch.ones(2), "logit_scale": torch.tensor(4.0), "n": torch.tensor(2)}
    assert torch.equal(blended(before, after, 1.0)["w"], after["w"])
    assert torch.equal(blended(before, after, 0.0)["w"], before["w"])
    half = blended(before, after, 0.5)
    assert float(half["logit_scale"]) == 4.0 and int(half["n"]) == 2


@pytest.mark.parametrize(
    ("objective", "after"),
    [
        (ZSCLObjective(ZSCL(avg_freq=3), targets_of(True)), {9: (1, 4, 7, 9), 8: (1, 4, 7), 1: (1,)}),
        (ZSCLObjective(ZSCL(avg_freq=1), targets_of(True)), {3: (1, 2, 3)}),
        (MulKIObjective(MulKI(avg_freq=3), targets_of(True)), {9: (3, 6, 9), 8: (3, 6), 1: ()}),
    ],
)
def test_zscl_takes_its_first_snapshot_after_the_first_step(
    objective: Objective, after: dict[int, tuple[int, ...]]
) -> None:
    """Released: iterations 0 .. N, one after each that avg_freq divides; the mean begins with the start."""
    for steps, taken in after.items():
        towers = torch.nn.Linear(1, 1, bias=False).double()
        torch.nn.init.zeros_(towers.weight)
        student = Student(towers, objective, torch.zeros(1, 1), 1.0)  # type: ignore[arg-type]
        for step in range(1, steps + 1):
            student.snapshot()
            student.done += 1
            torch.nn.init.constant_(towers.weight, float(step**2))
        mean = sum(step**2 for step in taken) / (1 + len(taken))
        assert float(student.finished({})["weight"].detach()) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("method", "bad"),
    [
        ("mulki", {"weights": "best"}), ("mulki", {"mu": 1.5}), ("mulki", {"kappa": 0.0}),
        ("mulki", {"a": -1.0}), ("mulki", {"avg_freq": -5}), ("mulki", {"tau": "hot"}),
        ("wise-ft", {"alpha": 9}), ("zscl", {"batch": 0}), ("zscl", {"avg_freq": -1}),
        ("icarl", {"memory": -3}), ("icarl", {"batch": 0}), ("finetune", {"smoothing": 5}),
        ("lwf", {"tau": 0}), ("lwf-vr", {"image": -1}), ("snd", {"batch": 0}), ("lora", {"rank": 0}),
        ("snd", {"slope": float("nan")}), ("lora", {"smoothing": 1.0}),
    ],
)  # fmt: skip
def test_settings_outside_their_range_are_named(method: str, bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        METHODS.create(method, bad)
    assert METHODS.create(method) == METHODS[method]()
