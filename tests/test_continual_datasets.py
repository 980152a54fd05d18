"""Metrics, readers and the check: fixtures of the field, small trees on disk, every fault by name."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.continual import metrics
from wildsight.continual.data import check, check_source, read, reordered, thinned
from wildsight.continual.incremental import grouped, published
from wildsight.continual.schedule import steps_of, task_schedule
from wildsight.continual.tasks import TaskData
from wildsight.datasets import mtil
from wildsight.datasets.class_incremental import CIFAR_START, class_order
from wildsight.datasets.mtil import ORDERS, SIZES, SPLIT
from wildsight.datasets.mtil_names import TEMPLATES
from wildsight.errors import DataError

ZERO_SHOT = dict(
    zip(ORDERS[1], (24.3, 88.4, 68.2, 44.6, 54.9, 71.0, 88.5, 59.4, 89.0, 64.7, 65.2), strict=True)
)


def paint(file: Path, seed: int = 0, size: tuple[int, int] = (24, 20)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def tree(root: Path, tasks: dict[str, tuple[str, ...]], each: int = 2) -> Path:
    seed = 0
    for task, classes in tasks.items():
        for split in ("train", "test"):
            for name in classes:
                for i in range(each):
                    seed += 1
                    paint(root / task / split / name / f"{i}.png", seed)
    return root


def test_transfer_avg_last_of_the_fixture() -> None:
    matrix = np.array([[80.0, 50, 40], [70, 90, 45], [60, 85, 95]])
    found = metrics.summary(matrix)
    assert found["transfer"] == 46.25 and found["last"] == 80.0
    assert found["avg"] == pytest.approx(68.333, abs=5e-4)
    assert metrics.forgetting(matrix).tolist() == [20.0, 5.0, 0.0]
    turned = matrix[::-1, ::-1]
    assert metrics.average(turned) == pytest.approx(metrics.average(matrix))
    assert metrics.transfer(turned) != metrics.transfer(matrix)


@pytest.mark.parametrize(("order", "expected"), [(1, (69.4, 65.3, 65.3)), (2, (65.4, 65.3, 65.3))])
def test_the_zero_shot_row_repeated(order: int, expected: tuple[float, float, float]) -> None:
    names = ORDERS[order]
    rows = [{"task": n, "accuracy": {c: ZERO_SHOT[c] for c in names}} for n in names]
    found = metrics.summary(metrics.square(*metrics.history(rows)))
    assert (found["transfer"], found["avg"], found["last"]) == pytest.approx(expected, abs=0.0501)


def test_columns_in_another_order_than_rows_are_refused() -> None:
    with pytest.raises(DataError, match="another order"):
        metrics.square([[1, 2], [3, 4]], ["a", "b"], ["b", "a"])
    assert metrics.class_incremental([90.0, 70.0]) == {"avg": 80.0, "last": 70.0}


def test_forgetting_of_steps_that_test_only_what_was_seen() -> None:
    rows = [{"task": "a", "accuracy": {"a": 90.0}}, {"task": "b", "accuracy": {"a": 70.0, "b": 80.0}}]
    rows.append({"task": "c", "accuracy": {"a": 75.0, "b": 60.0, "c": 50.0}})
    matrix = metrics.triangle(rows)
    assert np.isnan(matrix[0, 1]) and metrics.forgetting(matrix).tolist() == [15.0, 20.0, 0.0]
    assert metrics.backward_transfer(matrix) == pytest.approx((75 - 90 + 60 - 80) / 2)
    with pytest.raises(DataError, match="'a' was not tested"):
        metrics.triangle([rows[0], {"task": "b", "accuracy": {"b": 1.0}}])


def test_orders_and_sizes_of_the_benchmark() -> None:
    index = [ORDERS[1].index(n) for n in ORDERS[2]]
    assert index == [9, 6, 7, 8, 5, 10, 0, 1, 3, 4, 2]
    assert sum(k for k, _, _ in SIZES.values()) == 1201


def test_a_plain_folder_with_and_without_its_table(tmp_path: Path) -> None:
    root = tree(tmp_path, {"task10": ("a", "b"), "task2": ("open_valve", "shut_valve")})
    plain = read("folder", root)
    assert [t.name for t in plain.tasks] == ["task2", "task10"]
    assert plain.tasks[0].classes == ("open valve", "shut valve") and check(plain) == []
    entry = {"name": "task10", "classes": ["cube", "cone"], "folders": ["b", "a"], "templates": ["one {}"]}
    (root / "tasks.json").write_text(json.dumps({"scenario": "class", "tasks": [entry]}))
    listed = read("folder", root)
    assert listed.scenario == "class" and listed.tasks[0].prompts() == ["one cube", "one cone"]
    first = listed.tasks[0].train[0][0]
    assert isinstance(first, Path) and first.parent.name == "b"
    (root / "tasks.json").write_text('{"tasks": [{"name": "gone"}]}')
    with pytest.raises(DataError, match="has no folder"):
        read("folder", root)


def test_every_fault_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, {"one": ("a", "b"), "two": ("a", "c")})
    (root / "two" / "train" / "d").mkdir()
    (root / "one" / "train" / "a" / "0.png").write_bytes(b"\x89PNG broken")
    (root / "two" / "test" / "c" / "9.png").write_bytes((root / "one/train/b/0.png").read_bytes())
    found = " | ".join(p.what for p in check_source(root))
    assert "class 'd' of task 'two' has no train picture" in found
    assert "class 'a' of task 'two' is also taught by task 'one'" in found
    assert "not a picture" in found and "the same picture as 0.png in train of task 'one'" in found
    with pytest.raises(DataError, match="without \\{\\}"):
        TaskData("t", ("a",), ("no name",), ())


def test_drawing_and_reordering_are_fixed_by_their_seed(tmp_path: Path) -> None:
    root = tree(tmp_path, {"one": ("a", "b"), "two": ("c", "d"), "three": ("e", "f")}, each=3)
    whole = read("folder", root)
    some = thinned(whole, 2, 1, seed=1)
    assert some == thinned(whole, 2, 1, seed=1) != thinned(whole, 2, 1, seed=2)
    assert all(len(t.train) == 4 and len(t.test) == 2 for t in some.tasks)
    assert some.protocol["pictures per class"] == "train 2, test 1"
    short = thinned(whole, 16, 10).protocol["pictures per class"]
    assert short == "train 3 (16 asked for, no more are there), test 3 (10 asked for, no more are there)"
    uneven = replace(whole, tasks=(replace(whole.tasks[0], train=whole.tasks[0].train[:-1]), whole.tasks[1]))
    assert thinned(uneven, None, 2).protocol["pictures per class"] == "train 2 to 3, test 2"
    other = [t.name for t in reordered(whole, 2).tasks]
    assert sorted(other) == sorted(t.name for t in whole.tasks)
    assert reordered(whole, 1) is whole


def test_class_incremental_cifar(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"thing_{i}" for i in range(100)))
    for part in ("train", "test"):
        records = rng.integers(0, 255, (100, 3074), np.uint8)
        records[:, 1] = np.arange(100)
        records.tofile(tmp_path / f"{part}.bin")
    sequence = read("cifar100-10", tmp_path)
    assert len(sequence.tasks) == 10 and sequence.scenario == "class"
    assert sequence.tasks[0].classes == tuple(f"thing {i}" for i in CIFAR_START)
    assert all(len(t.train) == len(t.test) == 10 for t in sequence.tasks)
    assert [y for _, y in sequence.tasks[0].train] == sorted(range(10), key=lambda i: CIFAR_START[i])
    (tmp_path / "class_order.txt").write_text("1 2 3")
    with pytest.raises(DataError, match="no order of 100 classes"):
        class_order(tmp_path, CIFAR_START, 100)
    assert [len(g) for g in grouped(range(100), 0, 20)] == [5] * 20


def test_class_incremental_tiny_imagenet(tmp_path: Path) -> None:
    ids = [f"n{i:08d}" for i in range(10)]
    (tmp_path / "wnids.txt").write_text("\n".join(ids))
    (tmp_path / "words.txt").write_text("\n".join(f"{w}\tcrane, bird {w}" for w in ids))
    lines = []
    for i, wnid in enumerate(ids):
        paint(tmp_path / "train" / wnid / "images" / "0.png", i)
        paint(tmp_path / "val" / "images" / f"{i}.png", 50 + i)
        lines.append(f"{i}.png\t{wnid}\t0\t0\t1\t1")
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(lines))
    sequence = read("tinyimagenet-5", tmp_path)
    assert [len(t.classes) for t in sequence.tasks] == [5, 1, 1, 1, 1, 1]
    assert len({c for t in sequence.tasks for c in t.classes}) == 10
    assert all(len(t.train) == len(t.classes) for t in sequence.tasks)


def test_mtil_from_its_folders_and_the_written_split(tmp_path: Path) -> None:
    for i, name in enumerate(("AnnualCrop", "River")):
        for j in range(5):
            paint(tmp_path / "eurosat" / "2750" / name / f"{name}_{j}.png", 10 * i + j)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 3), ("t10k", 2)):
        header = struct.pack(">I", 0x803) + struct.pack(">3I", count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + bytes(count * 784))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2I", 0x801, count) + bytes(range(count))
        )
    dtd = tmp_path / "dtd" / "dtd"
    for split in ("train", "test"):
        paint(dtd / "images" / "banded" / f"{split}.png", 77)
        (dtd / "labels").mkdir(exist_ok=True)
        (dtd / "labels" / f"{split}1.txt").write_text(f"banded/{split}.png\n")
    pets = tmp_path / "oxford-iiit-pet" / "annotations"
    pets.mkdir(parents=True)
    for split in ("trainval", "test"):
        (pets / f"{split}.txt").write_text("great_dane_1 1 1 1\nbirman_2 2 1 1\n")
    with pytest.raises(DataError, match="holds 1 classes, 1 training and 1 test pictures; published are 47"):
        read("mtil", tmp_path)
    first, second = read("mtil-part", tmp_path), read("mtil-part-order2", tmp_path)
    assert first.protocol["size differs from the published one"] == "dtd, eurosat, mnist, oxford-pet"
    assert first.tasks[2].recipe == {"lr": 5e-5} and first.tasks[0].recipe == {}
    assert [t.name for t in first.tasks] == ["dtd", "eurosat", "mnist", "oxford-pet"]
    assert [t.name for t in second.tasks] == ["mnist", "oxford-pet", "dtd", "eurosat"]
    by_name = {t.name: t for t in first.tasks}
    assert by_name["eurosat"].classes == ("annual crop land", "river")
    assert (len(by_name["eurosat"].train), len(by_name["eurosat"].test)) == (8, 2)
    assert by_name["mnist"].prompts()[3] == 'a photo of the number: "3".'
    assert by_name["oxford-pet"].classes == ("great dane", "birman")
    split = json.loads((tmp_path / "eurosat" / SPLIT).read_text())
    assert sorted(split["train"] + split["test"]) == list(range(10))
    paint(tmp_path / "eurosat" / "2750" / "River" / "new.png", 99)
    with pytest.raises(DataError, match="splits 10 pictures, not 11"):
        read("mtil", tmp_path)


def test_a_split_of_a_folder_that_cannot_be_written_lies_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    for i, name in enumerate(("AnnualCrop", "River")):
        for j in range(5):
            paint(root / "eurosat" / "2750" / name / f"{name}_{j}.png", 10 * i + j)
    written = mtil.write_json

    def forbidden(path: Path, value: object) -> None:
        if path.is_relative_to(root):
            raise DataError("cannot write here", where=path)
        written(path, value)

    monkeypatch.setattr(mtil, "write_json", forbidden)
    first, again = read("mtil-part", root), read("mtil-part", root)
    assert first == again and (len(first.tasks[0].train), len(first.tasks[0].test)) == (8, 2)
    assert not (root / "eurosat" / SPLIT).exists()
    monkeypatch.setattr(mtil, "write_json", written)
    assert first.protocol["written splits (SHA-256)"].keys() == {"eurosat"}


def test_recipes_of_a_full_size_clip_are_the_published_ones() -> None:
    full, small = 150_000_000, 1_000_000
    assert steps_of(task_schedule(full, 50_000, {}), 50_000) == 1564
    assert steps_of(task_schedule(full, 60_000, {}), 60_000) == 1876
    assert steps_of(task_schedule(full, 3680, {}), 3680) == 1044
    assert task_schedule(full, 3334, {}, {"lr": 5e-5}).lr == 5e-5 and task_schedule(full, 3334, {}).lr == 1e-5
    assert task_schedule(full, 3334, {"lr": 1e-6}, {"lr": 5e-5}).lr == 1e-6
    step = task_schedule(full, 5000, {}, published(5000))
    assert (step.lr, step.epochs, round(step.warmup * steps_of(step, 5000))) == (7.1e-6, 1, 30)
    assert task_schedule(small, 5000, {}, published(5000)) == task_schedule(small, 5000, {})
    assert [steps_of(task_schedule(small, n, {}), n) for n in (3, 52, 1000)] == [64, 60, 128]
    assert task_schedule(small, 52, {"epochs": 3}).epochs == 3


def test_templates_are_as_many_as_published_and_differ() -> None:
    counts = {
        "aircraft": 2, "caltech101": 34, "cifar100": 18, "dtd": 8, "eurosat": 3, "flowers": 1, "food": 1,
        "mnist": 1, "oxford-pet": 1, "stanford-cars": 8, "sun397": 2,
    }  # fmt: skip
    assert {name: len(set(found)) for name, found in TEMPLATES.items()} == counts
    assert all(t.count("{}") == 1 for found in TEMPLATES.values() for t in found)
    assert TEMPLATES["cifar100"][-1] == "a photo of the big {}."
