"""The segmenter end to end on a tiny real SAM: fit, predict, evaluate, save, the command, export."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resuming import check_states, copied
from segmentation_models import base_of, sam
from wildsight.cli import main
from wildsight.errors import CheckpointError, ConfigError, DataError, UnsupportedModelError
from wildsight.segmentation import AnomalySegmenter
from wildsight.segmentation.bench import SegmentationBench
from wildsight.segmentation.data import read
from wildsight.segmentation.inference import prompts_per_call
from wildsight.segmentation.methods.spt import SPT
from wildsight.segmentation.prompts import PromptMix

FAST = {"points": 64, "augment": "flip"}
BRIEF = {"epochs": 1, "batch_size": 4, "progress": False}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real SAM, saved to a folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sam")
    sam().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight spots on noise, in two sizes, with masks."""
    root = tmp_path_factory.mktemp("spots")
    for name in ("images", "masks"):
        (root / name).mkdir()
    for i in range(8):
        rng = np.random.default_rng(i)
        height, width = (48, 64) if i % 2 else (64, 64)
        picture = rng.integers(40, 90, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        y, x = rng.integers(5, 25, 2)
        mask[y : y + 18, x : x + 22] = 255
        picture[mask > 0] = 230
        Image.fromarray(picture).save(root / "images" / f"{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def fitted(network: Path, folder: Path) -> AnomalySegmenter:
    return AnomalySegmenter("spt", network, hyper={"rank": 4}, **FAST).fit(folder, **BRIEF)


def first(folder: Path) -> Path:
    return folder / "images" / "1.png"


def test_predict_shapes_and_order(fitted: AnomalySegmenter, folder: Path) -> None:
    file = first(folder)
    result = fitted.predict(
        file, boxes=[(5, 5, 40, 30), (1, 2, 20, 22)], points=[[(8, 9)], [(4, 4), (20, 9)]]
    )[0]
    assert result.masks.shape == result.drafts.shape == (4, 48, 64)
    assert result.logits.shape == (4, 32, 32) and result.logits.dtype == np.float32
    assert result.prompts[0] == {"box": [5.0, 5.0, 40.0, 30.0]} and result.prompts[2] == {
        "points": [[8.0, 9.0]]
    }
    alone = fitted.predict(file, boxes=[(1, 2, 20, 22)])[0]
    assert np.allclose(alone.logits[0], result.logits[1], atol=1e-5)
    json.dumps(result.to_dict())
    assert result.overlay().size == (64, 48)
    assert result.figure() is not None
    assert result.mask.shape == (48, 64) and result.draft.dtype == bool


def test_several_pictures_of_several_kinds(fitted: AnomalySegmenter, folder: Path) -> None:
    files = sorted((folder / "images").iterdir())[:5]
    array, opened = np.asarray(Image.open(files[1])), Image.open(files[2])
    images = [files[0], array, opened, files[3], fitted.embed(files[4])[0]]
    boxes = [[(2, 2, 30, 30)]] * 5
    together = fitted.predict(images, boxes=boxes)
    for image, result in zip(images, together, strict=True):
        alone = fitted.predict(image, boxes=boxes[0])[0]
        assert np.allclose(alone.logits, result.logits, atol=1e-5)
    assert together[1].image is None and together[4].image == files[4]


def test_a_picture_is_encoded_once_for_many_prompts(fitted: AnomalySegmenter, folder: Path) -> None:
    counts: list[int] = []
    handle = fitted.base.model.vision_encoder.register_forward_hook(lambda *_: counts.append(1))
    try:
        look = fitted.embed(first(folder))[0]
        for _ in range(3):
            fitted.predict(look, boxes=[(5, 5, 40, 30), (3, 3, 9, 9)])
    finally:
        handle.remove()
    assert len(counts) == 1


def test_prompts_that_do_not_fit_are_split(network: Path, folder: Path) -> None:
    boxes = [(i, i, i + 20, i + 20) for i in range(7)]
    roomy, tight = (AnomalySegmenter("zero-shot-2", network, memory=m) for m in (1 << 30, 1))
    assert prompts_per_call(tight.base, 1) == 1
    a, b = (s.predict(first(folder), boxes=boxes)[0] for s in (roomy, tight))
    assert np.allclose(a.logits, b.logits, atol=1e-5)


def test_evaluate_reports_both_passes(fitted: AnomalySegmenter, folder: Path) -> None:
    found = fitted.evaluate(folder, keep=True, progress=False)
    assert len(found.scores) == len(found.results) == len(found.samples) == 4
    assert len(found.pictures(1)) == 2 and found.pictures(1)[0][0].width > 64
    assert found.rows[-1]["category"] == "mean"
    assert set(found.rows[-1]) >= {"iou", "boundary_iou", "draft_iou", "draft_boundary_iou"}
    assert "ORACLE" in found.protocol["prompt"]
    again = fitted.evaluate(folder, prompt="points", points=3, progress=False)
    assert again.rows == fitted.evaluate(folder, prompt="points", points=3, progress=False).rows
    with pytest.raises(ConfigError, match="prompt"):
        fitted.evaluate(folder, prompt="word")
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        fitted.evaluate(folder, split="tset")
    assert not again.pictures() and fitted.evaluate(folder, split="train").protocol["scored"] == "train"


def test_save_and_load(fitted: AnomalySegmenter, folder: Path, tmp_path: Path) -> None:
    saved = fitted.save_pretrained(tmp_path / "adapter")
    names = sorted(p.name for p in saved.iterdir())
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    count = sum(v.numel() for v in fitted.network.state_dict().values())
    header = (saved / "adapter_model.safetensors").stat().st_size - 4 * count
    assert 0 < header < 16_000
    config = json.loads((saved / "adapter_config.json").read_text())
    assert config["adapter"] == "spt" and config["base_class"] == "SamModel" and config["hyper"]["rank"] == 4
    loaded = AnomalySegmenter.from_pretrained(saved)
    one, other = (s.predict(first(folder), boxes=[(5, 5, 40, 30)])[0] for s in (fitted, loaded))
    assert np.array_equal(one.logits, other.logits)
    assert loaded.fitted_on["masks"] == 4


def test_another_base_is_refused(fitted: AnomalySegmenter, tmp_path: Path) -> None:
    saved = fitted.save_pretrained(tmp_path / "adapter")
    torch.manual_seed(1)
    sam().save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="was made for SamModel"):
        AnomalySegmenter.from_pretrained(saved, base=str(tmp_path / "other"))
    with pytest.raises(CheckpointError, match="not for the Sam2Model"):
        AnomalySegmenter.from_pretrained(saved, base=base_of("Sam2Model"))
    with pytest.raises(ConfigError):
        AnomalySegmenter.from_pretrained(saved, base=str(tmp_path / "absent"))


def test_merge_and_unmerge(fitted: AnomalySegmenter, folder: Path, tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in fitted.base.model.state_dict().items()}
    plain = fitted.predict(first(folder), boxes=[(5, 5, 40, 30)])[0]
    merged = fitted.merge().merge().predict(first(folder), boxes=[(5, 5, 40, 30)])[0]
    assert np.allclose(plain.logits, merged.logits, atol=1e-5)
    fitted.save_pretrained(tmp_path / "merged")
    fitted.unmerge()
    assert all(torch.equal(v, before[k]) for k, v in fitted.base.model.state_dict().items())
    assert np.array_equal(fitted.predict(first(folder), boxes=[(5, 5, 40, 30)])[0].logits, plain.logits)
    again = AnomalySegmenter.from_pretrained(tmp_path / "merged")
    assert np.array_equal(again.predict(first(folder), boxes=[(5, 5, 40, 30)])[0].logits, plain.logits)
    with pytest.raises(UnsupportedModelError, match="low-rank"):
        AnomalySegmenter("decoder", fitted.base).merge()


@pytest.mark.parametrize("kind", ["SamModel", "Sam2Model"])
def test_frozen_encoder_learns_from_cached_embeddings(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached and direct training agree, and the encoder runs twice per picture, not once per epoch."""
    found = []
    for cached in (True, False):
        base = base_of(kind)
        segmenter = AnomalySegmenter("spt", base, hyper={"encoder_targets": ()}, points=64, augment="none")
        counts: list[int] = []
        base.model.vision_encoder.register_forward_hook(lambda *_, n=counts: n.append(1))
        if not cached:  # with nothing to train in the encoder, this skips the cache alone
            monkeypatch.setattr(segmenter, "_frozen_embeddings", lambda _: None)
        segmenter.fit(folder, epochs=3, batch_size=4, progress=False)
        found.append(segmenter.history.curve("loss"))
        # direct: once per epoch, and once for the look at how flat the relation is
        assert len(counts) <= (2 if cached else 4)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize(
    "settings", [{"geometry": "letterbox"}, {"per_component": True}, {"augment": "jitter"}]
)
def test_other_settings(settings: dict[str, object], network: Path, folder: Path) -> None:
    segmenter = AnomalySegmenter("spt", network, points=64, **settings).fit(folder, **BRIEF)
    assert 0.0 <= segmenter.evaluate(folder, progress=False).rows[-1]["iou"] <= 1.0


def test_unusable_samples_are_listed(network: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for file in (folder / name).iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    data = read("folder", tmp_path)
    files = [s.masks[0] for s in data.train]
    Image.new("L", (64, 64)).save(files[0])
    Image.new("L", (5, 5), 255).save(files[1])
    Image.fromarray(np.arange(64 * 64).reshape(64, 64).astype(np.uint8)).save(files[2])
    segmenter = AnomalySegmenter("spt", network, **FAST).fit(data, **BRIEF)
    texts = sorted(segmenter.not_read)
    assert len(texts) == 3 and segmenter.fitted_on["masks"] == 1
    assert any("an empty mask" in t for t in texts) and any("values, not two" in t for t in texts)
    for file in files:
        Image.new("L", (64, 64)).save(file)
    with pytest.raises(DataError, match="an empty mask"):
        segmenter.fit(data, **BRIEF)


@pytest.mark.parametrize(
    ("prompts", "text"),
    [
        ({"boxes": [(5, 5, 5, 9)]}, "has no area"),
        ({"boxes": [(90, 5, 99, 9)]}, "lies outside the 64 x 48 picture"),
        ({"boxes": [(1, 2, 3)]}, "not four finite numbers"),
        ({"boxes": [(1, 2, 3, float("nan"))]}, "not four finite numbers"),
        ({"points": [[(3, float("nan"))]]}, "not finite"),
        ({"points": [[(3, 70)]]}, "lies outside the 64 x 48 picture"),
        ({"points": [[]]}, "not finite"),
        ({}, "no box and no point"),
    ],
)
def test_bad_prompts(prompts: dict[str, object], text: str, fitted: AnomalySegmenter, folder: Path) -> None:
    with pytest.raises((DataError, ConfigError), match=text):
        fitted.predict(first(folder), **prompts)  # type: ignore[arg-type]


def test_bad_settings(network: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match="prompts for 1 pictures, but 2"):
        AnomalySegmenter("zero-shot", network).predict([first(folder)] * 2, boxes=[[(1, 1, 5, 5)]])
    with pytest.raises(ConfigError, match="nothing to learn"):
        AnomalySegmenter("zero-shot", network).fit(folder)
    with pytest.raises(ConfigError, match="geometry"):
        AnomalySegmenter("spt", network, geometry="round")
    with pytest.raises(ConfigError, match="unknown setting 'pionts'; did you mean 'points'"):
        AnomalySegmenter("spt", network, pionts=1)
    with pytest.raises(UnsupportedModelError, match="takes no boxes or points"):
        AnomalySegmenter("spt", "nano-conv")


def test_a_box_that_reaches_out_is_cut(fitted: AnomalySegmenter, folder: Path) -> None:
    result = fitted.predict(first(folder), boxes=[(-5, 4, 30, 99)])[0]
    assert result.prompts[0] == {"box": [0.0, 4.0, 30.0, 48.0]}


def code(words: list[str]) -> int:
    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_command(network: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    task = ["segmentation"]
    assert code([*task, "fit", str(folder), "--base", str(network), "--epochs", "1", "--out", str(run)]) == 0
    assert {p.name for p in run.iterdir()} >= {
        "scores.json",
        "results.csv",
        "report.html",
        "splits.json",
        "checkpoint",
    }
    splits = json.loads((run / "splits.json").read_text())
    assert len(splits["train"]) == len(splits["test"]) == 4
    adapter, out = str(run / "checkpoint"), str(tmp_path / "out")
    assert code([*task, "evaluate", adapter, str(folder), "--out", out]) == 0
    assert "draft" in (tmp_path / "out" / "report.html").read_text()
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"splits.json", "pictures.csv", "results.csv"}
    file, shown = str(first(folder)), str(tmp_path / "shown")
    assert (
        code([*task, "predict", adapter, file, "--box", "5,5,40,30", "--point", "9,9", "--out", shown]) == 0
    )
    assert len(list((tmp_path / "shown" / "masks").iterdir())) == 2
    table = tmp_path / "prompts.json"
    table.write_text(json.dumps({"1.png": {"boxes": [[5, 5, 40, 30]]}}))
    assert code([*task, "predict", adapter, file, "--prompts", str(table), "--merged", "--out", shown]) == 0
    assert code(["check", "segmentation", str(folder)]) == 0
    capsys.readouterr()
    for words, text in (
        (["predict", adapter, file], "no box and no point"),
        (["predict", adapter, file, "--box", "1,2"], "is not 4 numbers"),
        (["predict", str(tmp_path / "no"), file, "--box", "1,2,3,4"], "no such checkpoint folder"),
        (["fit", str(folder), "--base", str(tmp_path / "nosam")], "nosam"),
    ):
        assert code([*task, *words]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and text in lines[0]
    assert code([*task, "predict", adapter, file, "--box", "90,90,95,95", "--out", shown]) == 2


def test_bench_goes_on_where_it_stopped(network: Path, folder: Path, tmp_path: Path) -> None:
    options = {
        "out": tmp_path,
        "backbone": str(network),
        "seeds": 2,
        "epochs": 1,
        "masks": 4,
        "progress": False,
    }
    methods = ("zero-shot", "spt")
    first_run = SegmentationBench(folder, methods=methods, points=64, **options).run()  # type: ignore[arg-type]
    assert {(r["method"], r["seed"]) for r in first_run.rows} == {(m, s) for m in methods for s in (0, 1)}
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.json")}
    assert len(files) == 3
    assert sorted(p.name for p in (tmp_path / "adapters").iterdir()) == ["spt-seed0", "spt-seed1"]
    again = SegmentationBench(folder, methods=methods, points=64, **options).run()  # type: ignore[arg-type]
    assert again.rows == first_run.rows
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.json")} == files
    with pytest.raises(ConfigError, match="unknown method"):
        SegmentationBench(folder, methods=("nosuch",), **options)  # type: ignore[arg-type]


def test_the_bench_measures_the_product(network: Path, folder: Path, tmp_path: Path) -> None:
    """Its defaults are the constructor's; those of the committed figures are options."""
    usual = SegmentationBench(folder, out=tmp_path, base=str(network), methods=["spt[rank=2]@3e-3", "lora"])
    made = usual.made(usual.variants[0], 0, usual.network, usual.device)
    product = AnomalySegmenter("spt", network, hyper={"rank": 2})
    assert made.get_params() == product.get_params()
    given = {"train_prompt": "same", "prompt": "points", "augment": "flip", "points": 2048, "masks": 64}
    other = SegmentationBench(folder, out=tmp_path, backbone=str(network), methods=["spt"], **given)
    settings = other.made(other.variants[0], 0, other.network, other.device).settings
    assert (settings.prompts, settings.augment, settings.points) == (PromptMix(0.0, 1.0), "flip", 2048)
    assert other.options.fit == {"masks": 64} and other.options.evaluate == {"prompt": "points"}
    with pytest.raises(ConfigError, match="did you mean 'same'"):
        SegmentationBench(folder, out=tmp_path, base=str(network), train_prompt="sane")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SamModel"])
def test_export_is_proved_and_served_without_torch(kind: str, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import subprocess
    import sys

    from wildsight.segmentation.export import export_segmenter

    segmenter = AnomalySegmenter("spt", base_of(kind), hyper={"rank": 4})
    segmenter.fitted_on = {"source": "drawn weights"}
    for weight in segmenter.network.adapter.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    pictures = [Image.open(folder / "images" / f"{i}.png") for i in (0, 1)]
    boxes = [[(5, 5, 40, 30)], [(3, 4, 30, 31), (10, 6, 50, 40)]]
    samples = list(zip(pictures, boxes, strict=True))
    found = export_segmenter(segmenter, tmp_path, samples)
    assert max(found.report.differences.values()) < 1e-4
    assert found.pixels_differ < 0.02
    expected = segmenter.predict(pictures[1], boxes=boxes[1])[0].masks
    script = Path(__file__).resolve().parents[1] / "examples" / "segment_without_torch.py"
    words = [str(tmp_path / "segmenter.onnx"), str(first(folder)), "3,4,30,31", "10,6,50,40"]
    lines = subprocess.run(
        [sys.executable, script, *words, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert "torch" not in lines.stdout
    for i in range(2):
        mask = np.asarray(Image.open(tmp_path / f"1-{i}.png")) > 0
        assert (mask != expected[i]).mean() < 0.02
    with pytest.raises(UnsupportedModelError, match="squash"):
        export_segmenter(AnomalySegmenter("spt", base_of(kind), geometry="letterbox"), tmp_path, samples)


def test_a_killed_fit_ends_with_the_same_bits(network: Path, folder: Path, tmp_path: Path) -> None:
    """SIGTERM in the first step of two epochs, then the same call again."""
    settings = {"epochs": 2, "batch_size": 2, "progress": False}
    whole = AnomalySegmenter("spt", network, **FAST).fit(folder, **settings)
    stopped = AnomalySegmenter("spt", network, **FAST)
    encoder = stopped.base.model.vision_encoder
    handle = encoder.register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        stopped.fit(folder, folder=tmp_path, **settings)
    handle.remove()
    again = AnomalySegmenter("spt", network, **FAST).fit(folder, folder=tmp_path, **settings)
    assert again.history is not None and again.history.resumed_from == 1
    for key, value in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[key], value)


def test_mixed_precision_and_every_prompt_kind(network: Path, folder: Path) -> None:
    segmenter = AnomalySegmenter("spt", network, prompts=PromptMix(0.4, 0.3, 0.3, count=3), **FAST)
    segmenter.fit(folder, precision="bf16", **BRIEF)
    assert all(v.isfinite().all() for v in segmenter.network.state_dict().values())


@pytest.mark.parametrize("frozen", [False, True])
def test_the_state_of_another_fit_is_refused(
    network: Path, folder: Path, tmp_path: Path, frozen: bool
) -> None:
    own = {"encoder_targets": ()} if frozen else {"rank": 4}

    def fit(source: Path, hyper: dict[str, object] | None = None, **options: object) -> AnomalySegmenter:
        segmenter = AnomalySegmenter("spt", network, hyper={**own, **(hyper or {})}, **{**FAST, **options})
        return segmenter.fit(source, folder=tmp_path / "train", **BRIEF)

    sources = {
        "": folder,
        "moved": copied(folder, tmp_path / "moved"),
        "pictures": copied(folder, tmp_path / "pictures", "images/*.png"),
        "masks": copied(folder, tmp_path / "masks", "masks/*.png"),
    }
    others = {
        "points=64, not 32": {"points": 32},
        "prompts.box=0.5, not 0.4": {"prompts": PromptMix(0.4, 0.3, 0.3)},
        "geometry=squash, not letterbox": {"geometry": "letterbox"},
    }
    check_states(fit, tmp_path / "train", sources, others)


def test_names_of_the_first_release(fitted: AnomalySegmenter, network: Path, folder: Path) -> None:
    """``base=``, ``images=`` and ``Evaluation`` go on working."""
    from wildsight.segmentation import Evaluation, SegmentationEvaluation

    assert Evaluation is SegmentationEvaluation
    one, other = AnomalySegmenter("zero-shot", base=network), AnomalySegmenter("zero-shot", network)
    assert one.get_params() == other.get_params() and one.base.kind == "SamModel"
    results = [s.predict(images=first(folder), boxes=[(5, 5, 40, 30)])[0].logits for s in (one, other)]
    assert np.array_equal(*results)
    with pytest.raises(ConfigError, match="give backbone alone"):
        AnomalySegmenter("zero-shot", network, base=network)


def test_a_method_with_training_is_fitted_first(network: Path, folder: Path, tmp_path: Path) -> None:
    segmenter = AnomalySegmenter(SPT(rank=4), network)
    for call in (
        lambda: segmenter.predict(first(folder), boxes=[(5, 5, 40, 30)]),
        lambda: segmenter.predict_files([first(folder)], boxes=[[(5, 5, 40, 30)]]),
        lambda: segmenter.evaluate(folder),
        lambda: segmenter.save_pretrained(tmp_path / "adapter"),
    ):
        with pytest.raises(ConfigError, match="the segmenter is not fitted"):
            call()
    with pytest.raises(ConfigError, match="did you mean 'rank'"):
        AnomalySegmenter("spt", network, hyper={"rnak": 4})
    assert AnomalySegmenter("zero-shot", network).fitted


def test_a_second_fit_starts_anew(network: Path, folder: Path) -> None:
    once = AnomalySegmenter("spt", network, **FAST).fit(folder, **BRIEF)
    twice = AnomalySegmenter("spt", network, **FAST).fit(folder, epochs=2, batch_size=2, progress=False)
    twice.fit(folder, **BRIEF)
    for key, value in once.network.state_dict().items():
        assert torch.equal(twice.network.state_dict()[key], value)


def test_many_files_of_which_some_cannot_be_used(
    fitted: AnomalySegmenter, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    good = sorted((folder / "images").iterdir())[:3]
    files, box, counts = [good[0], tmp_path / "bad.png", good[1], good[2]], (5, 5, 40, 30), []
    boxes = [[box], [box], [(90, 90, 95, 95)], [box]]
    results, errors = fitted.predict_files(files, boxes=boxes, progress=counts.append, batch_size=3)
    assert [r.image for r in results] == [good[0], good[2]] and counts == [3, 1]
    assert "bad.png" in str(errors[0]) and "lies outside" in str(errors[1]) and len(errors) == 2
    alone = fitted.predict(good[2], boxes=[box])[0]
    assert np.allclose(alone.logits, results[1].logits, atol=1e-5)
    assert fitted.predict([], boxes=[]) == [] and fitted.predict_files([]) == ([], [])


def test_fit_leaves_a_folder(network: Path, folder: Path, tmp_path: Path) -> None:
    AnomalySegmenter("decoder", network, **FAST).fit(folder, tmp_path / "run", **BRIEF)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names >= {"scores.json", "results.csv", "report.html", "splits.json", "checkpoint", "train"}
    assert AnomalySegmenter.from_pretrained(tmp_path / "run" / "checkpoint").method.name == "decoder"  # type: ignore[attr-defined]
