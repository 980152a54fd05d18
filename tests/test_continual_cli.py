"""The command on a tiny CLIP and a plain folder; the bench; peers' own equations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from continual_models import colour_task, saved, tiny_clip
from wildsight.cli import main
from wildsight.continual.methods.icarl import herded, quotas, remembered
from wildsight.continual.methods.lwf import answer_distillation
from wildsight.continual.methods.snd import SnD, selected, selective_loss
from wildsight.continual.methods.zscl import distance_to
from wildsight.continual.pictures import Pictures
from wildsight.continual.towers import Towers
from wildsight.errors import DataError
from wildsight.estimators.bench import run_bench
from wildsight.files import read_json, write_json


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("continual")
    tiny_clip(root / "clip")
    for number, colours in enumerate((("red", "white"), ("green", "blue"))):
        saved(colour_task(f"task{number}", colours, colours, seed=number), root / "tasks")
    return root / "clip", root / "tasks"


def test_update_predict_evaluate(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, tasks = folders
    run = tmp_path / "run"
    words = ["continual", "update", str(tasks), "--out", str(run), "--backbone", str(clip), "--epochs", "1"]
    with pytest.raises(SystemExit) as first:
        main(words)
    assert first.value.code == 0 and "task1: learned" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(words)
    assert "task0: learned before" in capsys.readouterr().out
    summary = read_json(run / "scores.json")["summary"]
    assert set(summary) >= {"transfer", "avg", "last"}
    page = (run / "report.html").read_text()
    for part in (
        "right of the diagonal", "forgetting: best accuracy", "Teacher weights", "drift of the prototypes",
        "Task task1", "Learned in an earlier run",
    ):  # fmt: skip
        assert part in page
    record = {u["task"]: u for u in read_json(run / "updates.json")}["task1"]
    assert sum(record["teacher_weights"]["counts"]) == 8 and len(record["drift"]) == 2
    picture = next((tasks / "task0" / "test").rglob("*.png"))
    with pytest.raises(SystemExit):
        main(["continual", "predict", str(run / "checkpoint"), str(picture), "--top", "2"])
    assert str(picture) in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main(["continual", "evaluate", str(run / "checkpoint"), str(tasks), "--out", str(tmp_path / "e")])
    assert done.value.code == 0 and (tmp_path / "e" / "report.html").is_file()
    with pytest.raises(SystemExit) as wrong:
        main([*words, "--method", "nosuch"])
    assert wrong.value.code == 2 and "unknown method 'nosuch'" in capsys.readouterr().err


def test_every_switch_is_an_option(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, tasks = folders
    words = ["continual", "update", str(tasks), "--out", str(tmp_path / "run"), "--backbone", str(clip)]
    chosen = ["l1=5", "weights=entropy", "avg-freq=0", "teacher_view=exact", "lr=1e-4", "epochs=1"]
    with pytest.raises(SystemExit) as done:
        main([*words, *(w for option in chosen for w in ("--set", option))])
    assert done.value.code == 0
    saved = read_json(tmp_path / "run" / "checkpoint" / "config.json")
    assert saved["hyper"] == {"l1": 5, "weights": "entropy", "avg_freq": 0}
    assert saved["settings"]["teacher_view"] == "exact"
    for option, said in (
        ("nosuch=1", "unknown option 'nosuch'"),
        ("tau=hot", "tau='hot'"),
        ("lr", "name=value"),
    ):
        with pytest.raises(SystemExit) as wrong:
            main([*words, "--set", option])
        assert wrong.value.code == 2 and said in " ".join(capsys.readouterr().err.split())


def test_class_incremental_steps_report_what_was_forgotten(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, tasks = folders
    root, run = tmp_path / "steps", tmp_path / "run"
    shutil.copytree(tasks, root)
    write_json(root / "tasks.json", {"scenario": "class", "tasks": [{"name": f"task{i}"} for i in range(2)]})
    for _ in range(2):
        with pytest.raises(SystemExit) as done:
            main(["continual", "update", str(root), "--out", str(run), "--backbone", str(clip)])
        assert done.value.code == 0
        scores = read_json(run / "scores.json")
        first, second = (row["accuracy"] for row in scores["matrix"])
        assert list(first) == ["task0"] and set(second) == {"task0", "task1"}
        assert set(scores["summary"]) == {"avg", "last", "forgetting", "backward_transfer"}
        assert scores["summary"]["backward_transfer"] == pytest.approx(second["task0"] - first["task0"])
        assert "forgetting: best accuracy" in (run / "report.html").read_text()
    assert [u["accuracy"] for u in scores["updates"]] == [first, second]
    capsys.readouterr()


def test_bench_keeps_its_cells(folders: tuple[Path, Path], tmp_path: Path) -> None:
    clip, tasks = folders
    options = {"backbone": str(clip), "methods": ["zeroshot", "mulki"], "seeds": 1, "orders": 2, "epochs": 1}
    options |= {"per_class": 16, "per_class_test": 1}
    result, tables = run_bench("continual", str(tasks), tmp_path, **options, progress=False)
    assert {r["group"] for r in result.rows} == {"order 1", "order 2"} and len(tables[0].rows) == 2
    told = result.facts["pictures per class"]
    assert told == "train 4 (16 asked for, no more are there), test 1"
    cells = sorted((tmp_path / "cells").glob("*.json"))
    stamps = [c.stat().st_mtime_ns for c in cells]
    again, _ = run_bench("continual", str(tasks), tmp_path, **options, progress=False)
    assert list(again.rows) == list(result.rows) and len(again.pictures) == len(result.pictures) == 4
    assert [c.stat().st_mtime_ns for c in cells] == stamps and len(cells) == 4


def unit(count: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, 5, generator=draw, dtype=torch.float64), dim=-1)


def test_kept_answers_equal_the_definition_and_are_least_at_the_teacher() -> None:
    teacher, student, text = unit(4, 1), unit(4, 2), unit(3, 3)
    target, given = 9 * teacher @ text.T, 9 * student @ text.T
    slow = 0.0
    for t, s in ((target, given), (target.T, given.T)):
        slow += 4 * float(-((t / 2).softmax(1) * (s / 2).log_softmax(1)).sum(1).mean())
    assert float(answer_distillation(teacher, student, text, 9.0, 2.0, (1.0, 1.0))) == pytest.approx(slow)
    best = answer_distillation(teacher, teacher, text, 9.0, 2.0, (1.0, 1.0))
    assert float(best) < slow


def test_select_and_distill() -> None:
    zero, previous, student = unit(4, 1), unit(4, 2), unit(4, 3)
    share = torch.sigmoid(6 * ((zero - previous).norm(dim=1) - 0.2))
    assert torch.allclose(selected(zero, previous, 6.0, 0.2), share)
    slow = 9 * share * (student - previous).norm(dim=1) + 0.5 * (1 - share) * (student - zero).norm(dim=1)
    assert float(selective_loss(student, zero, previous, SnD())) == pytest.approx(
        float(slow.mean()), abs=1e-5
    )
    same = zero.clone().requires_grad_()
    selective_loss(same, zero, zero, SnD()).backward()
    assert same.grad is not None and bool(same.grad.isfinite().all())


def test_herding_follows_the_mean() -> None:
    rows = unit(12, 5)
    chosen = herded(rows, 4)
    assert len(set(chosen.tolist())) == 4 and quotas(3, 10) == 3
    assert int(chosen[0]) == int((rows - rows.mean(0)).norm(dim=1).argmin())
    assert sorted(herded(rows, 99).tolist()) == list(range(12))


def test_the_memory_is_herded_a_batch_at_a_time() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (300, 4, 4, 3), np.uint8)
    pictures = Pictures([(Image.fromarray(p), 0) for p in pixels], np.asarray)
    sizes: list[int] = []

    def embed(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return functional.normalize(batch.flatten(1).double(), dim=-1)

    first = remembered([], pictures, embed, 10)
    assert sizes == [] and torch.equal(first[0], torch.from_numpy(pixels[:10]))
    both = remembered(first, pictures, embed, 10)
    every = torch.from_numpy(pixels)
    assert sizes == [128, 128, 44] and torch.equal(both[0], first[0][:5])
    assert torch.equal(both[1], every[herded(embed(every), 5)])


def test_distance_to_the_start() -> None:
    layer = torch.nn.Linear(2, 2)
    start = {n: w.detach().clone() for n, w in layer.named_parameters()}
    with torch.no_grad():
        layer.weight.add_(0.5)
    assert float(distance_to(start, layer)) == pytest.approx(4 * 0.25)


def test_words_that_the_tokenizer_lacks_get_rows_of_their_own(tmp_path: Path) -> None:
    base = tiny_clip(tmp_path / "clip")
    towers = Towers(base, 32)
    assert towers.unknown(["a photo of a zebra", "a cube"]) == ["zebra"]
    before = towers.encode_prompts(["cube"], ["a photo of a {}"])
    plain = Towers(base, 32, grow=False)
    plain.grow(["zebra"])
    assert plain.words == []
    towers.grow(["zebra", "okapi"])
    rows = towers.encode_prompts(["zebra", "okapi"], ["a photo of a {}"])
    assert not torch.allclose(rows[0], rows[1])
    assert torch.allclose(before, towers.encode_prompts(["cube"], ["a photo of a {}"]))
    other = Towers(base, 32)
    other.grow(["okapi", "zebra"])
    assert torch.allclose(rows[0], other.encode_prompts(["zebra"], ["a photo of a {}"])[0], atol=1e-6)
    with pytest.raises(DataError, match="read the same"):
        towers.encode_prompts(["Zebra", "zebra"], ["a photo of a {}"])


def test_fit_and_update_are_one_command_and_a_refusal_ends_with_code_3(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, tasks = folders
    run, words = tmp_path / "run", [str(tasks), "--backbone", str(clip), "--epochs", "1", "--repeat"]
    with pytest.raises(SystemExit) as done:
        main(["continual", "fit", *words, "--out", str(run), "--method", "mulki-uniform"])
    assert done.value.code == 0 and "task1: learned" in capsys.readouterr().out
    assert read_json(run / "checkpoint" / "config.json")["hyper"] == {"weights": "uniform"}
    guard = tmp_path / "guard"
    saved(colour_task("probe", ("red", "white"), ("white", "red"), seed=50), guard)  # names swapped
    first = [str(tasks), "--backbone", str(clip), "--out", str(tmp_path / "refused"), "--guard", str(guard)]
    harsh = ["--method", "finetune", "--epochs", "40", "--lr", "3e-3", "--max-drop", "0"]
    with pytest.raises(SystemExit) as refused:
        main(["continual", "update", *first, *harsh])
    said = capsys.readouterr().out
    assert refused.value.code == 3 and "refused: the guard set fell" in said
    assert "was refused" in (tmp_path / "refused" / "report.html").read_text()
