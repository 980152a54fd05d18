"""From questions to a cost card: readers, metrics, the exam's two protocols, the plan, the commands."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compression_models import nano_folder
from wildsight.backbones.vlm import load_model
from wildsight.cli import main
from wildsight.compression.cache import KVSettings
from wildsight.compression.evaluation import autotune as plan
from wildsight.compression.evaluation import metrics, questions
from wildsight.compression.evaluation.evaluate import ask_cache, ask_visual, prepare
from wildsight.compression.sensitivity import allocate, loss_curve
from wildsight.errors import BudgetError, CheckpointError, ConfigError, DataError
from wildsight.estimators import resolve, task_named
from wildsight.images import from_array


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nano_folder(tmp_path_factory.mktemp("nano") / "model")


@pytest.fixture(scope="module")
def asked(folder: Path) -> tuple[Any, questions.QuestionData, list[Any]]:
    loaded = load_model(folder)
    data = questions.read_source("world", 20, 48)
    return loaded, data, prepare(loaded, data.samples, 20)


def flat(answers: Any) -> list[float]:
    return [x for row in answers.losses for x in row]


def test_both_protocols_agree_when_nothing_is_dropped(asked: Any) -> None:
    loaded, _, batches = asked
    full = ask_visual(loaded, batches, 1.0, "grid")
    through = ask_cache(loaded, batches, KVSettings(keep=1.0))
    assert np.allclose(flat(full), flat(through), atol=1e-3)
    assert full.said == through.said


def test_answers_follow_generate(asked: Any) -> None:
    """What the exam's own loop says is what ``generate`` says."""
    loaded, data, batches = asked
    found = ask_visual(loaded, batches, 9, "vtc-cls")
    from wildsight.compression import compress

    sample = data.samples[0]
    inputs = loaded.inputs([sample.load()], [sample.question])
    with compress(loaded.model, visual_tokens=9, visual="vtc-cls"):
        out = loaded.model.generate(**inputs, max_new_tokens=2, do_sample=False)
    said = [t for t in out[0, inputs["input_ids"].shape[1] :].tolist() if t != loaded.end]
    assert found.said[0] == said[: len(found.said[0])]


@pytest.mark.parametrize("positions", ["compact", "original"])
def test_both_protocols_prune_alike(asked: Any, positions: str) -> None:
    """With the cache whole, the pruned picture is read the same way; question and answer follow it."""
    loaded, _, batches = asked
    read = ask_visual(loaded, batches, 9, "hybrid", positions=positions)
    settings = KVSettings(keep=1.0)
    through = ask_cache(loaded, batches, settings, keep=9, method="hybrid", positions=positions)
    assert np.allclose(flat(read), flat(through), atol=1e-3)


def test_pruning_and_caching_together(asked: Any) -> None:
    loaded, _, batches = asked
    answers = ask_cache(loaded, batches, KVSettings(keep=0.5), keep=9, method="hybrid")
    assert len(answers.said) == 20 and all(math.isfinite(x) for x in flat(answers))


def test_metrics() -> None:
    assert metrics.answer_score("The Cube", ["cube"]) == 1.0
    assert metrics.rouge_l([1, 2, 3], [1, 2, 3]) == 1.0 and metrics.rouge_l([], [1]) == 0.0
    low, high = metrics.bootstrap_interval([1.0] * 10 + [0.0] * 10, ["a"] * 10 + ["b"] * 10)
    assert low == 0.0 and high == 1.0
    assert math.isnan(metrics.f1_of_yes(["no"], ["no"]))


def write_folder(root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    lines = []
    for number in range(12):
        pixels = np.full((40, 40, 3), 20 * number, np.uint8)
        from_array(pixels).save(root / "images" / f"{number}.png")
        lines.append({"image": f"images/{number}.png", "question": "is there a cube ?", "answer": "no"})
    (root / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def test_plain_folder_and_its_check(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    data = questions.read_source(root)
    assert len(data.samples) == 12 and data.samples[0].load().size == (40, 40)
    assert questions.check_source(root) == []
    lines = (root / "questions.jsonl").read_text().splitlines()
    extra = [lines[0], json.dumps({"image": "gone.png", "question": " ", "answer": ["yes"]})]
    (root / "questions.jsonl").write_text("\n".join([*lines, *extra]))
    faults = " | ".join(p.what for p in questions.check_source(root))
    assert "asked 2 times" in faults and "empty question" in faults and "no such file" in faults
    for bad in ("{", '{"image": 3}', '{"image": "a", "question": "b", "answer": 3}'):
        (root / "questions.jsonl").write_text(bad)
        with pytest.raises(DataError, match=r"questions\.jsonl:1"):
            questions.read_source(root)


def test_benchmark_readers(tmp_path: Path) -> None:
    for kind in ("random", "popular", "adversarial"):
        line = {"question_id": 1, "image": "a.jpg", "text": "Is there a dog?", "label": "yes"}
        (tmp_path / f"coco_pope_{kind}.json").write_text(json.dumps(line))
    assert questions.read_source(f"pope:{tmp_path}").samples[0].kind == "random"
    table = {"7": {"imageId": "n1", "question": "What?", "answer": "dog", "types": {"structural": "query"}}}
    (tmp_path / "testdev_balanced_questions.json").write_text(json.dumps(table))
    sample = questions.read_source(f"gqa:{tmp_path}").samples[0]
    assert sample.kind == "query" and sample.answers == ("dog",)


def test_captions_are_of_the_pictures() -> None:
    from wildsight.compression.evaluation.evaluate import batched
    from wildsight.world.portraits import number_of
    from wildsight.world.render import render
    from wildsight.world.scene import random_scene

    data = questions.world(10, size=48, captions=True)
    captions = [s for s in data.samples if s.kind == questions.CAPTION]
    assert [s.picture for s in captions] == list(dict.fromkeys(s.picture for s in data.samples))
    scene = random_scene(number_of(questions.HELD_OUT, questions.SCENES, 1), count=None)
    assert np.array_equal(render(scene, 48).rgb, captions[1].image)
    assert [len(b) for b in batched(data.samples, 7)] == [7, 3, len(captions)]


def test_world_questions_repeat() -> None:
    first, again = questions.world(20, size=48), questions.world(20, size=48)
    assert first.protocol["hash"] == again.protocol["hash"]
    assert len(first.samples) == 20


def test_allocation_goes_where_it_helps() -> None:
    steep = loss_curve((0.1, 0.5), (1.0, 0.2))
    flat_ = loss_curve((0.1, 0.5), (0.01, 0.0))
    assert steep(1.0) == 0.0 and steep(0.1) == 1.0 and steep(0.05) > 1.0
    shares = allocate([steep, flat_], 0.4)
    assert math.isclose(sum(shares) / 2, 0.4, abs_tol=0.005) and shares[0] > shares[1]
    assert allocate([steep, flat_], 1.0) == [1.0, 1.0]


@pytest.mark.parametrize(("floor", "least"), [(0.0, 0.0), (0.5, 0.2), (0.75, 0.3), (1.0, 0.4)])
def test_allocation_starves_no_layer(floor: float, least: float) -> None:
    """A layer that seems not to matter alone keeps ``floor`` times the mean; at 1 sizes are uniform."""
    steep, idle = loss_curve((0.1, 0.5), (9.0, 4.0)), loss_curve((0.1, 0.5), (0.0, 0.0))
    shares = allocate([steep, steep, idle], 0.4, floor)
    assert math.isclose(sum(shares), 1.2) and math.isclose(min(shares), least)


def test_a_plan_is_the_least_loss_that_is_cheap_enough(tmp_path: Path) -> None:
    made = [
        plan.Candidate(16, 1.0, 1.0, 0.9, 0.0, 0.0, 0.0),
        plan.Candidate(8, 1.0, 1.9, 0.9, 0.0, 0.0, 0.0),
        plan.Candidate(8, 0.5, 2.1, 0.88, 0.02, 0.0, 0.0),
        plan.Candidate(4, 0.5, 3.0, 0.895, 0.005, 0.0, 0.0),
    ]
    assert plan.choose(made, 2.0, 0.01) is made[3]
    assert plan.choose(made, 1.5, 0.01) is made[1]
    with pytest.raises(BudgetError, match=r"at most 1\.90x"):
        plan.choose(made, 2.0, 0.001)
    settings = plan.TunedOptions("m", "s", 8, None, "hybrid", "prefixkv", {"gain": 2.0}, "original")
    assert settings.options()["positions"] == "original"
    assert plan.TunedOptions.load(settings.save(tmp_path / "s.json")) == settings
    for text, read in (("zero", plan.read_target), ("0.5x", plan.read_target), ("-1%", plan.read_drop)):
        with pytest.raises(ConfigError):
            read(text)


@pytest.mark.slow
def test_bench_runs_and_resumes(folder: Path, tmp_path: Path) -> None:
    run = resolve(task_named("compression").bench)
    options = {
        "backbone": str(folder), "methods": ["hybrid", "h2o", "prefixkv", "sensitivity/attention"],
        "seeds": 2, "tokens": (9,), "shares": (0.4,), "count": 10, "repeats": 1, "progress": False,
    }  # fmt: skip
    result = run("world", out=tmp_path, **options)
    methods = {(r["method"], r["group"]) for r in result["rows"]}
    assert ("random", "9 tokens") in methods and ("random", "cache 0.4") in methods
    timed = [r for r in result["rows"] if r["seed"] == 0]
    assert all(r["first_token_ms"] > 0 and r["cache_kib"] > 0 for r in timed)
    full = next(r for r in timed if r["method"] == "full")
    h2o = next(r for r in timed if r["method"] == "h2o")
    assert full["agreement"] == 1.0 and h2o["cache_kib"] < 0.45 * full["cache_kib"]
    assert result["pictures"]
    assert next(r for r in timed if r["method"] == "hybrid")["layer_tokens"] == 9.0
    assert h2o["layer_tokens"] is None
    cells = {f: f.stat().st_mtime_ns for f in (tmp_path / "cells").iterdir()}
    again = run("world", out=tmp_path, **{**options, "repeats": 0})
    assert cells == {f: f.stat().st_mtime_ns for f in (tmp_path / "cells").iterdir()}
    assert [r["accuracy"] for r in again["rows"]] == [r["accuracy"] for r in result["rows"]]
    with pytest.raises(ConfigError, match="nonsense"):
        run("world", out=tmp_path, **{**options, "methods": ["nonsense"]})


def call(words: list[str]) -> int:
    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_generate_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "a.png"
    from_array(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)).save(picture)
    words = ["compression", "generate", str(folder), str(picture), "is there a cube ?", "--repeats", "1"]
    out = ["--max-new-tokens", "4", "--out", str(tmp_path / "run")]
    figure = tmp_path / "kept.png"
    more = ["--visual-tokens", "9", "--kv-cache", "0.5", "--figure", str(figure)]
    assert call([*words, *out, *more]) == 0
    text = capsys.readouterr().out
    assert "visual tokens: 9 of 36" in text and "cache:" in text and "first_token_ms" in text
    assert figure.stat().st_size > 1000
    for name in ("report.html", "scores.json", "results.csv"):
        assert (tmp_path / "run" / name).is_file()
    for bad, said in (
        (["--visual-tokens", "0"], "outside"),
        (["--visual-tokens", "64"], "[1, 36]"),
        (["--visual-tokens", "many"], "no budget"),
        (["--kv-cache", "1.5"], "(0, 1]"),
        (["--visual", "nonsense"], "nonsense"),
    ):
        capsys.readouterr()
        assert call([*words, *out, *bad]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error, error
    assert call(["compression", "generate", str(tmp_path / "none"), str(picture), "x"]) == 2


@pytest.mark.slow
def test_profile_and_plan_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "profile.json"
    assert call(["compression", "profile", str(folder), "world", "--samples", "2", "--out", str(file)]) == 0
    assert json.loads(file.read_text())["samples"] == 2
    words = ["compression", "plan", str(folder), "world", "--count", "6", "--out", str(tmp_path / "plan")]
    assert call([*words, "--target", "1.5x", "--max-drop", "100%", "--measure", "memory"]) == 0
    found = plan.TunedOptions.load(tmp_path / "plan" / "settings.json")
    assert found.measured["gain"] >= 1.5
    picture = tmp_path / "a.png"
    from_array(np.zeros((60, 60, 3), np.uint8)).save(picture)
    words = ["compression", "generate", str(folder), str(picture), "is there a cube ?", "--repeats", "0"]
    settings = ["--settings", str(tmp_path / "plan" / "settings.json"), "--out", str(tmp_path / "run")]
    assert call([*words, *settings, "--max-new-tokens", "2"]) == 0
    capsys.readouterr()
    assert call(["compression", "plan", str(folder), "--target", "half"]) == 2
    assert "no gain" in capsys.readouterr().err


def test_loading_faults(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError):
        load_model(tmp_path)
    with pytest.raises(ConfigError, match="no nano checkpoint"):
        load_model("nano-nothing")
    with pytest.raises(ConfigError, match="precision"):
        load_model(tmp_path, precision="int3")
