"""The learner on a tiny CLIP: data access, caches, guard, resume, checkpoints, every method."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Image

from continual_models import colour_task, picture, saved, tiny_clip
from wildsight.backbones import Backbone
from wildsight.continual import ContinualLearner, TaskData, TaskSequence, training
from wildsight.continual.data import read_source
from wildsight.continual.distillation_targets import teacher_rows
from wildsight.continual.guard import refused
from wildsight.continual.methods import METHODS
from wildsight.continual.methods.mulki import MulKI
from wildsight.continual.pictures import Pictures
from wildsight.continual.result import Update
from wildsight.continual.tasks import content
from wildsight.continual.variants import ABLATIONS
from wildsight.errors import CheckpointError, ConfigError, DataError
from wildsight.files import read_json
from wildsight.images import load_image

FAST = {"epochs": 2, "batch_size": 4, "progress": False}
ONE = colour_task("warm", ("red", "white"), ("red", "white"))
TWO = colour_task("cold", ("green", "blue"), ("green", "blue"), seed=7)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


def fitted(
    learner: ContinualLearner, sequence: TaskSequence, folder: Path, training: Mapping[str, Any]
) -> list[Update]:
    return learner.fit(sequence, folder=folder, progress=False, **training).updates


def weights(learner: ContinualLearner) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for w in learner.towers.parameters()])


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_learns_two_tasks(base: Backbone, method: str) -> None:
    learner = ContinualLearner(method, base, reference_count=4)
    before = weights(learner)
    for task in (ONE, TWO):
        made = learner.update(task, tests=(ONE, TWO), **FAST)
        assert made.accepted and set(made.accuracy) == {"warm", "cold"}
    assert torch.equal(before, weights(learner)) is (method == "zeroshot")
    assert [t["name"] for t in learner.learned] == ["warm", "cold"]
    assert set(learner.scores()) >= {"transfer", "avg", "last", "forgetting"}
    assert float(learner.towers.clip.logit_scale) == pytest.approx(float(base.model.logit_scale))


def test_an_update_from_files_in_memory_with_four_pictures_a_class(base: Backbone, tmp_path: Path) -> None:
    files, labels = [], []
    for i in range(8):
        files.append(tmp_path / f"{i}.png")
        picture("red" if i % 2 else "blue", i).save(files[-1])
        labels.append("small blob" if i % 2 else "long smear")
    learner = ContinualLearner(backbone=base)
    learner.update(TaskData.of("defects", files, labels), epochs=40, lr=3e-3, progress=False)
    found = learner.predict([files[0], picture("red", 99)], top=2)
    assert [r.label for r in found] == ["long smear", "small blob"]
    assert found[0].task == "defects" and sum(found[0].probabilities) == pytest.approx(1, abs=1e-5)
    assert learner.towers.words == ["smear", "blob"]
    assert learner.predict(files[0], classes=["zebra", "cube"])[0].label in ("zebra", "cube")


HOOKED: list[bool] = []
OPENED: list[Path] | None = None
"""Every file that this process opens while it is a list; Python's own audit hook cannot be taken off."""


def listening(event: str, args: tuple[object, ...]) -> None:
    if event == "open" and OPENED is not None and isinstance(args[0], str | bytes | os.PathLike):
        OPENED.append(Path(os.fsdecode(args[0])))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    if not HOOKED:
        sys.addaudithook(listening)
        HOOKED.append(True)
    seen: list[Path] = []
    monkeypatch.setattr(sys.modules[__name__], "OPENED", seen)
    return seen


@pytest.mark.parametrize("method", ["mulki", "lwf", "icarl"])
def test_no_picture_of_another_task_is_opened(
    base: Backbone, tmp_path: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Whatever opens a file: the caller's reader, hashing, caches or evaluation."""
    for task in (ONE, TWO, colour_task("probe", ("red", "blue"), ("ruby", "sea"), seed=40)):
        saved(task, tmp_path)
    probe, cold, warm = sorted(
        read_source(tmp_path).tasks, key=lambda t: ("probe", "cold", "warm").index(t.name)
    )
    pictures = set(tmp_path.rglob("*.png"))
    done: list[int] = []
    trained = training.run_task
    monkeypatch.setattr(training, "run_task", lambda *given: (trained(*given), done.append(len(opened)))[0])
    learner = ContinualLearner(method, base, max_drop=100.0)
    for task in (warm, cold):
        opened.clear()
        learner.update(task, guard=[replace(probe, train=())], tests=(warm, cold), **FAST)
        own, guard = ({p for p, _ in rows} for rows in (task.train, probe.test))
        held_out = {p for t in (warm, cold) for p, _ in t.test}
        learning, after = (set(part) & pictures for part in (opened[: done[-1]], opened[done[-1] :]))
        assert own <= learning <= own | guard
        assert after <= own | guard | held_out and (task is cold or held_out <= after)


def test_a_picture_of_another_task_is_seen_by_the_audit(opened: list[Path], tmp_path: Path) -> None:
    saved(ONE, tmp_path)
    files = [p for p, _ in read_source(tmp_path).tasks[0].train if isinstance(p, Path)]
    opened.clear()
    load_image(files[0])
    files[1].read_bytes()
    content(files[2])
    assert set(files[:3]) <= set(opened) and files[3] not in opened


def test_cached_teachers_equal_live_ones_on_the_test_view(base: Backbone) -> None:
    learner = ContinualLearner(backbone=base)
    pictures = Pictures(ONE.train, learner.towers.pixels)
    first, again = (teacher_rows(learner.towers, pictures) for _ in range(2))
    pixels = torch.stack([pictures.pixels(i) for i in range(len(pictures))])
    live = learner.towers.encode_images(learner.towers.normalised(pixels)).detach()
    assert torch.equal(first, again) and torch.allclose(first, live, atol=5e-4)
    exact = ContinualLearner(backbone=base, teacher_view="exact")
    assert all(exact.update(task, **FAST).accepted for task in (ONE, TWO))


def test_a_bad_update_is_refused_and_the_old_model_serves(base: Backbone) -> None:
    learner = ContinualLearner("finetune", base, max_drop=1.0)
    guard = [replace(TWO, train=())]
    learner.update(TWO, epochs=20, lr=3e-3, batch_size=8, progress=False)
    kept = weights(learner)
    wrong = TaskData.of("swap", [p for p, _ in ONE.train] * 1, [1 - y for _, y in ONE.train], ONE.classes)
    poison = replace(wrong, train=tuple((picture("green", 50 + i), i % 2) for i in range(4)))
    made = learner.update(poison, guard=guard, epochs=30, lr=3e-2, progress=False)
    assert not made.accepted and "guard set fell" in made.reason
    assert torch.equal(kept, weights(learner)) and len(learner.learned) == 1


def test_a_guard_set_with_training_pictures_is_named(base: Backbone) -> None:
    learner = ContinualLearner(backbone=base)
    with pytest.raises(DataError, match="training picture in the guard set 'probe'"):
        learner.update(ONE, guard=[replace(ONE, name="probe", test=ONE.train[:1])], **FAST)
    assert not learner.learned


def test_a_guard_set_is_compared_with_every_task_before_the_first(base: Backbone, tmp_path: Path) -> None:
    probe = [replace(TWO, name="probe", test=TWO.train[:1])]
    learner = ContinualLearner(backbone=base)
    with pytest.raises(DataError, match="training picture in the guard set 'probe'"):
        learner.fit(TaskSequence((ONE, TWO)), guard=probe, **FAST)
    assert not learner.learned
    learner.update(TWO, **FAST)
    learner.save_pretrained(tmp_path / "saved")
    for taught in (learner, ContinualLearner.from_pretrained(tmp_path / "saved", backbone=base)):
        with pytest.raises(DataError, match="training picture in the guard set 'probe'"):
            taught.update(ONE, guard=probe, **FAST)


def test_the_guard_counts_the_drop_over_all_updates() -> None:
    first, allowed = {"a": 90.0, "b": 80.0}, 1.0
    assert refused({}, {}, allowed) == ""
    assert refused({"a": (90.0, 89.2), "b": (80.0, 79.0)}, first, allowed) == ""
    assert "fell by 1.5 points, allowed" in refused({"a": (90.0, 88.0), "b": (80.0, 79.0)}, first, allowed)
    told = refused({"a": (89.2, 88.4), "b": (79.0, 78.0)}, first, allowed)
    assert "fell by 1.8 points since it was first measured" in told
    assert refused({"a": (95.0, 94.5), "b": (80.0, 79.0)}, first, allowed) == ""


def test_a_learner_remembers_the_first_accuracy_of_its_guard_set(base: Backbone, tmp_path: Path) -> None:
    probe = [replace(TWO, train=())]
    learner = ContinualLearner(backbone=base, max_drop=100.0)
    began = learner.update(ONE, guard=probe, **FAST).guard["cold"][0]
    assert list(learner.guard.values()) == [began]
    learner.save_pretrained(tmp_path / "saved")
    twin = ContinualLearner.from_pretrained(tmp_path / "saved", backbone=base)
    low = {key: value + 500.0 for key, value in twin.guard.items()}
    twin.guard = low
    made = twin.update(colour_task("more", ("red",), ("dot",), seed=3), guard=probe, **FAST)
    assert not made.accepted and "since it was first measured" in made.reason and twin.guard == low
    assert made.first == {"cold": began + 500.0}


def test_a_killed_run_goes_on_in_its_task_with_the_same_bits(
    base: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence = TaskSequence((ONE, TWO))
    options = {**FAST, "checkpoint_seconds": 0.0}
    options.pop("progress")
    whole = ContinualLearner(backbone=base)
    fitted(whole, sequence, tmp_path / "whole", options)
    from wildsight.continual import student

    step, calls = student.Student.step, [0]

    def dying(self, model, batch):  # type: ignore[no-untyped-def]
        calls[0] += 1
        if calls[0] == 7:
            raise KeyboardInterrupt
        return step(self, model, batch)

    monkeypatch.setattr(student.Student, "step", dying)
    killed = ContinualLearner(backbone=base)
    with pytest.raises(KeyboardInterrupt):
        fitted(killed, sequence, tmp_path / "killed", options)
    monkeypatch.undo()
    again = ContinualLearner(backbone=base)
    updates = fitted(again, sequence, tmp_path / "killed", options)
    assert [u.resumed for u in updates] == [True, False]
    assert torch.equal(weights(whole), weights(again)) and whole.matrix == again.matrix
    idle = fitted(ContinualLearner(backbone=base), sequence, tmp_path / "killed", options)
    assert all(u.resumed for u in idle)
    assert read_json(tmp_path / "killed" / "matrix.json") == whole.matrix
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == [
        "matrix.json", "task-01", "task-02", "updates.json"
    ]  # fmt: skip
    with pytest.raises(CheckpointError, match="another base, method or settings"):
        other = ContinualLearner("lwf", base)
        fitted(other, sequence, tmp_path / "killed", options)


def test_a_killed_task_goes_on_only_as_what_it_was(
    base: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wildsight.continual import student

    step, calls = student.Student.step, [0]

    def dying(self, model, batch):  # type: ignore[no-untyped-def]
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return step(self, model, batch)

    options = {"folder": tmp_path, "checkpoint_seconds": 0.0, **FAST}
    monkeypatch.setattr(student.Student, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        ContinualLearner("mulki", base, hyper={"l1": 5.0}).update(ONE, **options)
    monkeypatch.undo()
    twin = replace(ONE, train=tuple((p.rotate(90), y) for p, y in ONE.train if isinstance(p, Image)))
    taught = ContinualLearner("mulki", base, hyper={"l1": 5.0})
    taught.update(TWO, **FAST)
    for learner, task, name in (
        (ContinualLearner("mulki", base, hyper={"l1": 5.0, "weights": "uniform", "a": 0.0}), ONE, "a=5.0"),
        (ContinualLearner("mulki-csa", base), ONE, "holds a run with"),
        (ContinualLearner("finetune", base), ONE, "holds a run with"),
        (ContinualLearner("mulki", base, hyper={"l1": 5.0}), twin, "pictures and names="),
        (taught, ONE, "tasks before="),
    ):
        with pytest.raises(CheckpointError, match=name):
            learner.update(task, **options)
    assert ContinualLearner("mulki", base, hyper={"l1": 5.0}).update(ONE, **options).accepted


def test_a_checkpoint_restores_answers_and_names_another_base(base: Backbone, tmp_path: Path) -> None:
    learner = ContinualLearner("icarl", base, hyper={"memory": 6})
    learner.update(ONE, tests=(ONE,), **FAST)
    learner.update(TWO, tests=(ONE,), **FAST)
    learner.save_pretrained(tmp_path / "saved")
    twin = ContinualLearner.from_pretrained(tmp_path / "saved")
    shown = [p for p, _ in ONE.test]
    assert [r.to_dict() for r in learner.predict(shown)] == [r.to_dict() for r in twin.predict(shown)]
    assert twin.matrix == learner.matrix and [len(m) for m in twin.memory] == [3, 3]
    with pytest.raises(CheckpointError, match="trained on other weights"):
        ContinualLearner.from_pretrained(tmp_path / "saved", backbone=tiny_clip(tmp_path / "other", 5))


def test_faults_of_a_task_are_named(base: Backbone) -> None:
    learner = ContinualLearner(backbone=base)
    with pytest.raises(ConfigError, match="nothing was learned"):
        learner.predict(picture("red", 1))
    with pytest.raises(DataError, match="'dent' has no training picture"):
        TaskData.of("t", [picture("red", 1)], [0], ["scratch", "dent"])
    with pytest.raises(DataError, match="without class names"):
        TaskData.of("t", [], [], [])
    with pytest.raises(DataError, match="names class 'a' twice"):
        TaskData.of("t", [picture("red", 1)], [0], ["a", "a"])
    learner.update(ONE, **FAST)
    with pytest.raises(DataError, match="was taught by task 'warm'"):
        learner.update(replace(ONE, name="again"), **FAST)
    assert learner.update(replace(ONE, name="again"), repeat=True, **FAST).accepted


def test_a_class_taught_twice_is_named_before_the_first_task(base: Backbone, tmp_path: Path) -> None:
    again = replace(TWO, name="again", classes=("green", "white"))
    sequence = TaskSequence((ONE, again))
    learner = ContinualLearner(backbone=base)
    with pytest.raises(DataError, match="class 'white' of task 'again' was taught by task 'warm'"):
        learner.fit(sequence, folder=tmp_path, epochs=1, progress=False)
    assert not learner.learned and not list(tmp_path.iterdir())
    assert len(learner.fit(sequence, repeat=True, epochs=1, progress=False).learned) == 2


def test_a_fault_of_a_later_task_is_named_before_the_first(base: Backbone) -> None:
    learner = ContinualLearner(backbone=base)
    empty = replace(TWO, train=TWO.train[:4])
    for wrong, said in ((replace(TWO, test=()), "has no test picture"), (empty, "'blue' has no training")):
        with pytest.raises(DataError, match=said):
            learner.fit(TaskSequence((ONE, wrong)), **FAST)
    with pytest.raises(DataError, match="has no test picture"):
        learner.update(ONE, tests=(ONE, replace(TWO, test=())), **FAST)
    assert not learner.learned


def test_a_task_put_before_the_learned_ones_is_told_where_to_go(base: Backbone, tmp_path: Path) -> None:
    fitted(ContinualLearner(backbone=base), TaskSequence((TWO,)), tmp_path, {"epochs": 1})
    for sequence, said in (
        (
            TaskSequence((ONE, TWO)),
            "holds task 'cold', and the source has 'warm' in its place.*after the learned",
        ),
        (TaskSequence((replace(TWO, train=TWO.train[::-1]),)), "learned task 'cold' from other pictures"),
    ):
        with pytest.raises(CheckpointError, match=said) as told:
            fitted(ContinualLearner(backbone=base), sequence, tmp_path, {"epochs": 1})
        assert "remove" not in str(told.value)


def test_pictures_changed_in_place_are_another_task(tmp_path: Path) -> None:
    file = tmp_path / "a.bmp"
    picture("red", 1).save(file)
    task = TaskData.of("t", [file], ["red"])
    whole = task.fingerprint()
    shutil.copytree(tmp_path, tmp_path / "moved")
    moved = TaskData.of("t", [tmp_path / "moved" / "a.bmp"], ["red"])
    assert moved.fingerprint() == whole
    picture("blue", 1).save(file)
    assert task.digest() == moved.digest() and task.fingerprint() != whole


def test_a_task_added_later_gets_its_column_in_every_row(base: Backbone, tmp_path: Path) -> None:
    fitted(ContinualLearner(backbone=base), TaskSequence((ONE,)), tmp_path, {"epochs": 1})
    learner = ContinualLearner(backbone=base)
    updates = fitted(learner, TaskSequence((ONE, TWO)), tmp_path, {"epochs": 1})
    assert [u.resumed for u in updates] == [True, False]
    assert [list(row["accuracy"]) for row in learner.matrix] == [["warm", "cold"]] * 2
    assert read_json(tmp_path / "matrix.json") == learner.matrix and "transfer" in learner.scores()


def test_a_task_added_later_may_bring_new_words(base: Backbone, tmp_path: Path) -> None:
    strange = replace(TWO, name="strange", classes=("okapi", "zebra"))
    fitted(ContinualLearner(backbone=base), TaskSequence((ONE,)), tmp_path, {"epochs": 1})
    stood = weights(ContinualLearner.from_pretrained(tmp_path / "task-01", backbone=base))
    for state in ([True, False], [True, True]):
        learner = ContinualLearner(backbone=base)
        updates = fitted(learner, TaskSequence((ONE, strange)), tmp_path, {"epochs": 1})
        assert [u.resumed for u in updates] == state and learner.towers.words == ["okapi", "zebra"]
    assert learner.predict(picture("red", 3), task="strange")[0].label in strange.classes
    assert torch.equal(stood, weights(ContinualLearner.from_pretrained(tmp_path / "task-01", backbone=base)))


def test_names_are_refused_at_once_with_the_nearest_word(base: Backbone) -> None:
    for wrong, match in (
        ({"hyper": {"weigths": "uniform"}}, "did you mean 'weights'"),
        ({"max_dropp": 2.0}, "did you mean 'max_drop'"),
        ({"method": "mulky"}, "did you mean 'mulki'"),
    ):
        with pytest.raises(ConfigError, match=match):
            ContinualLearner(backbone=base, **wrong)  # type: ignore[arg-type]
    learner = ContinualLearner(backbone=base)
    with pytest.raises(ConfigError, match="unknown training setting 'epoch'"):
        learner.update(ONE, epoch=1)
    with pytest.raises(ConfigError, match="split='val' is unknown"):
        learner.evaluate(TaskSequence((ONE,)), split="val")
    with pytest.raises(ConfigError, match="scenario='both' is unknown"):
        learner.evaluate(TaskSequence((ONE,)), scenario="both")


def test_a_method_may_be_given_whole_or_by_the_name_of_its_rung(base: Backbone) -> None:
    whole = ContinualLearner(MulKI(weights="uniform"), base)
    named = ContinualLearner("mulki", base, hyper={"weights": "uniform"})
    rung = ContinualLearner("mulki-uniform", base)
    assert whole.method == named.method == rung.method and whole.settings == rung.settings
    csa = ContinualLearner("mulki-csa", base, hyper={"l1": 3.0})
    assert csa.method == MulKI(**{**ABLATIONS["mulki-csa"], "l1": 3.0})
    again = ContinualLearner(**whole.get_params() | {"backbone": base})
    assert again.method == whole.method and again.settings == whole.settings


def test_every_form_of_a_picture_is_named_alike(base: Backbone, tmp_path: Path) -> None:
    learner = ContinualLearner(backbone=base)
    learner.update(ONE, **FAST)
    file = tmp_path / "a.png"
    picture("red", 5).save(file)
    forms = [file, str(file), file.read_bytes(), picture("red", 5), np.asarray(picture("red", 5))]
    results = learner.predict(forms, batch_size=5)
    said = np.array([r.probabilities for r in results])  # a row is rounded by its place in the batch
    assert np.abs(said - said[0]).max() < 1e-6 and learner.predict([]) == []
    assert learner.predict(images=file)[0].label == results[0].label
    (tmp_path / "b.png").write_text("no picture")
    found, errors = learner.predict_files([file, tmp_path / "b.png"], top=1)
    assert [len(r.classes) for r in found] == [1] and "b.png" in str(errors[0])


def test_an_evaluation_has_a_row_per_task_and_their_mean(base: Backbone) -> None:
    found = ContinualLearner(backbone=base).evaluate(TaskSequence((ONE, TWO)), progress=False)
    assert [row["task"] for row in found.rows] == ["warm", "cold", "mean"]
    assert found.mean == sum(found.accuracy.values()) / 2 and found.protocol["learned"] == "nothing"
    assert found.overall["pictures"] == sum(found.counts.values()) == 8


def test_a_fit_leaves_a_run_and_a_refused_task_ends_it(base: Backbone, tmp_path: Path) -> None:
    learner = ContinualLearner(backbone=base).fit(TaskSequence((ONE, TWO)), tmp_path, **FAST)
    assert {p.name for p in tmp_path.iterdir()} >= {"checkpoint", "report.html", "scores.json", "task-01"}
    assert learner.fitted_on["tasks"] == ["warm", "cold"]
    guarded = ContinualLearner(backbone=base, max_drop=100.0)
    probe = [replace(TWO, train=())]
    guarded.update(ONE, guard=probe, **FAST)
    guarded.guard = {key: value + 500.0 for key, value in guarded.guard.items()}
    more = TaskSequence(
        (colour_task("more", ("red",), ("dot",), seed=3), colour_task("last", ("blue",), ("sea",)))
    )
    with pytest.raises(DataError, match="more: was refused"):
        guarded.fit(more, guard=probe, **FAST)
    updates = guarded.fit(more, tmp_path / "run", guard=probe, strict=False, **FAST).updates
    assert [u.accepted for u in updates] == [False] and len(guarded.learned) == 1
    assert "was refused" in (tmp_path / "run" / "report.html").read_text()
