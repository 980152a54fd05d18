"""The segmenter end to end on small folders and tiny networks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

import fusion_scenes
from resuming import check_states, copied
from wildsight.backbones import load_backbone
from wildsight.cli import main
from wildsight.errors import CheckpointError, ConfigError, DataError
from wildsight.fusion import FusionSegmenter
from wildsight.fusion.bench import FusionBench
from wildsight.fusion.data import FusionSample, read_mask, read_source, read_values, without
from wildsight.fusion.inputs import Reader, Scenes, Store, flipped, stretched
from wildsight.fusion.methods import METHODS

TINY = {"image_size": 32, "width": 12, "strides": (4, 8)}
SMALL = {"A": 6, "T": 2, "C": 2, "ref_len": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fusion_scenes.write(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def fitted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FusionSegmenter, Path]:
    segmenter = FusionSegmenter("pwrf", hyper=SMALL, **TINY)
    segmenter.fit(folder, epochs=30, batch_size=4, lr=5e-3, progress=False)
    target = tmp_path_factory.mktemp("model") / "m"
    segmenter.save_pretrained(target)
    return segmenter, target


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_learns(method: str, folder: Path) -> None:
    segmenter = FusionSegmenter(method, hyper=SMALL if method == "pwrf" else None, **TINY)
    segmenter.fit(folder, epochs=4, batch_size=4, lr=5e-3, progress=False)
    assert segmenter.history is not None
    curve = segmenter.history.curve("loss")
    assert curve[-1] < curve[0]
    rows = segmenter.evaluate(folder).rows
    assert rows[-1]["condition"] == "all" and 0 < rows[-1]["miou"] < 1


def test_fusion_finds_what_no_modality_shows(fitted: tuple[FusionSegmenter, Path], folder: Path) -> None:
    evaluation = fitted[0].evaluate(folder)
    assert evaluation.rows[-1]["miou"] > 0.5
    assert sum(evaluation.share.values()) == pytest.approx(1.0, abs=1e-5)
    assert fitted[0].evaluate(without(read_source(folder), "thermal")).rows[-1]["miou"] > 0.2


def test_any_split_is_scored_and_a_scene_counts_in_each_of_its_conditions(
    fitted: tuple[FusionSegmenter, Path], folder: Path
) -> None:
    data = read_source(folder)
    places = {"test/000": ("fog",), "test/001": ("fog", "motionblur"), "test/002": ("sun",)}
    samples = tuple(
        replace(s, split="validation", conditions=places[s.name]) if s.name in places else s
        for s in data.found.samples
    )
    data = replace(data, found=replace(data.found, samples=samples))
    for part in (data, without(data, "thermal"), without(without(data, "thermal"), "depth")):
        evaluation = fitted[0].evaluate(part, split="val")
        assert [r["condition"] for r in evaluation.rows] == ["fog", "motionblur", "sun", "all"]
        assert len(evaluation.names) == 3 and evaluation.protocol["scored split"] == "validation"
    assert len(fitted[0].evaluate(data).names) == 1
    with pytest.raises(ConfigError, match="no split is called 'dev'"):
        fitted[0].evaluate(data, split="dev")
    with pytest.raises(DataError, match="no validation scene with a mask"):
        fitted[0].evaluate(folder, split="validation")


def test_results_say_who_contributed(fitted: tuple[FusionSegmenter, Path], folder: Path) -> None:
    test = folder / "test"
    scene = {n: test / n / "000.png" for n in ("rgb", "thermal", "depth")}
    whole, part = fitted[0].predict([scene, {"rgb": scene["rgb"]}])
    assert whole.labels.shape == (32, 32) and whole.labels.dtype == np.int64
    assert set(whole.share) == {"rgb", "thermal", "depth"} and whole.missing == ()
    assert sum(whole.share.values()) == pytest.approx(1.0, abs=1e-5)
    assert np.allclose(sum(whole.maps.values()), 1.0, atol=1e-5)
    assert part.share["rgb"] == pytest.approx(1.0, abs=1e-5) and part.missing == ("depth", "thermal")
    assert whole.figure() is not None and whole.strip().height == 96
    summary = json.loads(json.dumps(whole.to_dict()))
    assert sum(summary["area"].values()) == pytest.approx(1.0)
    arrays = {n: np.asarray(Image.open(p)) for n, p in scene.items()}
    assert np.array_equal(fitted[0].predict(arrays)[0].labels, whole.labels)


def test_saved_and_loaded_are_equal(fitted: tuple[FusionSegmenter, Path], folder: Path) -> None:
    loaded = FusionSegmenter.from_pretrained(fitted[1])
    scene = {"rgb": folder / "test" / "rgb" / "001.png", "depth": folder / "test" / "depth" / "001.png"}
    before, after = fitted[0].predict(scene)[0], loaded.predict(scene)[0]
    assert np.array_equal(before.confidence, after.confidence)
    assert loaded.evaluate(folder).rows == fitted[0].evaluate(folder).rows


def test_a_damaged_checkpoint_is_named(fitted: tuple[FusionSegmenter, Path], tmp_path: Path) -> None:
    shutil.copytree(fitted[1], tmp_path / "m")
    file = next((tmp_path / "m").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="damaged"):
        FusionSegmenter.from_pretrained(tmp_path / "m")


def test_the_same_seed_gives_the_same_bits(folder: Path) -> None:
    runs = [
        FusionSegmenter("pwrf", hyper=SMALL, **TINY).fit(folder, epochs=1, batch_size=4, progress=False)
        for _ in range(2)
    ]
    first, second = (r.net.state_dict() for r in runs if r.net is not None)
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("frozen", [True, False])
def test_mirrored_samples_are_those_of_mirrored_pictures(frozen: bool, folder: Path) -> None:
    data, backbone = read_source(folder), load_backbone("nano-conv")
    samples = data.part("train")[:2]
    reader = Reader(backbone, data.modalities, (32, 32), (4, 8), frozen)
    batch = default_collate([Scenes(samples, data.found, reader)[i] for i in range(2)])
    x, mask = flipped(batch, torch.tensor([True, False]))
    turned = []
    for sample in samples:
        pictures = {n: read_values(p, n)[:, ::-1].copy() for n, p in sample.pictures.items()}
        turned.append(reader.row(replace(sample, pictures=pictures), data.found)["x"])
    pairs = [(x[s], batch["x"][s], turned[0][s]) for s in (4, 8)] if frozen else [(x, batch["x"], turned[0])]
    for found, plain, expected in pairs:
        assert torch.allclose(found[0], expected, atol=2e-3) and torch.equal(found[1], plain[1])
    assert torch.equal(mask, torch.stack([batch["mask"][0].flip(-1), batch["mask"][1]]))


@pytest.mark.parametrize("encoders", ["shared", "each"])
def test_backbones_may_train_along(encoders: str, folder: Path, tmp_path: Path) -> None:
    segmenter = FusionSegmenter("summation", encoders=encoders, **TINY)
    data = read_source(folder).with_modalities(["rgb", "thermal"])
    segmenter.fit(data, epochs=1, batch_size=6, progress=False)
    assert segmenter.net is not None
    assert len(segmenter.net.encoders) == (2 if encoders == "each" else 1)
    frozen = segmenter.backbone.model.state_dict()
    trained = segmenter.net.encoders[0].state_dict()
    assert any(not torch.equal(frozen[k], trained[k]) for k in frozen if k in trained)
    segmenter.save_pretrained(tmp_path / "m")
    loaded = FusionSegmenter.from_pretrained(tmp_path / "m")
    assert loaded.evaluate(data).rows == segmenter.evaluate(data).rows


@pytest.mark.slow
def test_saliency(tmp_path: Path) -> None:
    root = fusion_scenes.write(tmp_path, classes=False)
    (root / "fusion.json").write_text('{"task": "saliency"}')
    for method in ("pwrf", "concatenation"):
        segmenter = FusionSegmenter(method, hyper=SMALL if method == "pwrf" else None, **TINY)
        segmenter.fit(root, epochs=8, batch_size=4, lr=5e-3, progress=False)
        row = segmenter.evaluate(root).rows[-1]
        assert row["s"] > 0.5 and row["mae"] < 0.4 and row["maxf"] > 0.5
    segmenter.save_pretrained(tmp_path / "m")
    words = [f"{n}={root / 'test' / n}" for n in ("rgb", "depth", "thermal")]
    assert code("fusion", "predict", tmp_path / "m", *words, "--out", tmp_path / "p") == 0
    result = segmenter.predict({n: root / "test" / n / "000.png" for n in ("rgb", "depth", "thermal")})[0]
    saved = np.asarray(Image.open(tmp_path / "p" / "saliency" / "000.png"))
    assert len(np.unique(saved)) > 2 and np.array_equal(saved, np.rint(result.confidence * 255))
    assert "saliency" in [caption for _, caption in result.tiles()]


def test_bad_scenes_are_named(fitted: tuple[FusionSegmenter, Path], folder: Path, tmp_path: Path) -> None:
    segmenter, rgb = fitted[0], folder / "test" / "rgb" / "000.png"
    with pytest.raises(DataError, match=r"sonar.*unknown to the model; it knows rgb, depth, thermal"):
        segmenter.predict({"sonar": rgb})
    with pytest.raises(DataError, match="all modalities are missing"):
        segmenter.predict({})
    Image.new("L", (30, 32)).save(tmp_path / "small.png")
    with pytest.raises(DataError, match=r"small\.png: thermal is 30 x 32, its rgb 32 x 32"):
        segmenter.predict({"rgb": rgb, "thermal": tmp_path / "small.png"})
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: thermal has 16 bits, the model was trained on 8"):
        segmenter.predict({"rgb": rgb, "thermal": tmp_path / "deep.png"})
    with pytest.raises(DataError, match="leaves the range"):
        segmenter.predict({"depth": np.full((8, 8), 3.5)})
    with pytest.raises(DataError, match="no stated range"):
        segmenter.predict({"depth": np.full((8, 8), 3)})
    with pytest.raises(DataError, match="sizes differ"):
        segmenter.predict({"rgb": np.zeros((8, 8, 3)), "depth": np.zeros((8, 9))})
    with pytest.raises(DataError, match="no modality is called 'sonar'"):
        segmenter.evaluate(without(read_source(folder), "sonar"))


def test_predict_takes_what_training_took(tmp_path: Path) -> None:
    """DELIVER: events of another size, and alpha that is dropped, also after loading."""
    labels = np.zeros((32, 32, 3), np.uint8)
    labels[:, 16:, 0], labels[:, :16, 0] = 7, 3
    grey = np.arange(1024, dtype=np.uint8).reshape(32, 32)
    planes = dict.fromkeys(fusion_scenes.DELIVER, grey) | {"semantic": labels, "event": grey[:16, :16]}
    planes["img"] = np.dstack([grey, grey, grey, grey * 0])
    for frame in ("000", "001"):
        fusion_scenes.deliver_frame(tmp_path, ("fog", "train", "MAP_1_point1"), frame, planes)
    segmenter = FusionSegmenter("summation", **TINY)
    segmenter.fit(f"deliver:{tmp_path}", epochs=1, batch_size=2, progress=False)
    segmenter.save_pretrained(tmp_path / "m")
    place = Path("fog", "train", "MAP_1_point1")
    scene = {n: tmp_path / n / place / f"000_{n}_front.png" for n in ("event", "lidar")}
    scene["rgb"] = tmp_path / "img" / place / "000_rgb_front.png"
    whole = FusionSegmenter.from_pretrained(tmp_path / "m").predict(scene)[0]
    assert whole.labels.shape == (32, 32)
    shown = np.asarray(whole.pictures["rgb"])[..., 0]
    assert np.array_equal(shown, grey)
    arrays = {n: np.asarray(Image.open(p).convert("RGBA"))[..., :3] for n, p in scene.items()}
    assert np.array_equal(segmenter.predict(arrays)[0].labels, whole.labels)


@pytest.mark.parametrize("names", [4, 5, 6])
def test_two_to_six_modalities(names: int, folder: Path) -> None:
    data = read_source(folder)

    def widened(sample: FusionSample) -> FusionSample:
        first = sample.pictures["rgb"]
        more = {f"band{i}": first for i in range(names - 3)}
        return replace(sample, pictures={**sample.pictures, **more})

    samples = tuple(widened(s) for s in data.found.samples[:4] + data.found.samples[-2:])
    order = (*data.modalities, *(f"band{i}" for i in range(names - 3)))
    data = replace(data, found=replace(data.found, samples=samples, modalities=order))
    segmenter = FusionSegmenter("pwrf", hyper=SMALL, **TINY)
    segmenter.fit(data, epochs=1, batch_size=4, progress=False)
    assert sum(segmenter.evaluate(data).share.values()) == pytest.approx(1.0, abs=1e-5)


def test_fewer_than_two_modalities_are_nothing_to_fuse(folder: Path) -> None:
    with pytest.raises(ConfigError, match="rgb alone is nothing to fuse"):
        FusionSegmenter("pwrf", hyper=SMALL, **TINY).fit(folder, modalities=["rgb"], progress=False)
    two = FusionSegmenter("pwrf", hyper=SMALL, **TINY)
    two.fit(folder, modalities=["rgb", "depth"], epochs=1, progress=False)
    assert set(two.evaluate(folder).share) == {"rgb", "depth"}
    alone = FusionSegmenter("single", **TINY).fit(folder, modalities=["rgb"], epochs=1, progress=False)
    assert alone.modalities == ("rgb",)


def test_what_has_no_partner_is_said(
    fitted: tuple[FusionSegmenter, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(folder, tmp_path / "scenes")
    (root / "test" / "thermal" / "001.png").rename(root / "test" / "thermal" / "wrong.png")
    (root / "test" / "masks" / "002.png").unlink()
    evaluation = fitted[0].evaluate(root)
    expected = ["scene test/001 has no thermal", "scene test/002 has no mask"]
    assert evaluation.gaps == [*expected, "scene test/wrong has no rgb, no depth, no mask"]
    assert "no scene has depth" in fitted[0].evaluate(without(read_source(root), "depth")).gaps
    assert fitted[0].evaluate(folder).gaps == []
    assert code("fusion", "evaluate", fitted[1], root, "--out", tmp_path / "e") == 0
    assert json.loads((tmp_path / "e" / "scores.json").read_text())["gaps"] == evaluation.gaps
    for name in ("rgb", "thermal"):
        (tmp_path / name).mkdir()
        shutil.copy(folder / "test" / name / "000.png", tmp_path / name / f"{name}.png")
    both = [f"{n}={tmp_path / n}" for n in ("rgb", "thermal")]
    assert code("fusion", "predict", fitted[1], *both, "--out", tmp_path / "p") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "scene test/001 has no thermal" in said and "(no depth, no thermal)" in said
    assert "no file name is in two of the folders: every scene has one modality" in said
    report = (tmp_path / "p" / "report.html").read_text()
    assert "no file name is in two of the folders" in report and "thermal has no rgb, no depth" in report


def test_one_store_serves_several_backbones(folder: Path) -> None:
    data, store = read_source(folder), Store()
    sample = data.part("train")[0]
    for name, strides in (("nano-conv", (8,)), ("nano-clip", (8,)), ("nano-conv", (8,))):
        reader = Reader(load_backbone(name), data.modalities, (32, 32), strides, True, store=store)
        alone = replace(reader, store=Store())
        found, expected = (r.row(sample, data.found)["x"][8] for r in (reader, alone))
        assert torch.equal(found, expected)


def test_masks_are_kept_small(folder: Path) -> None:
    data = read_source(folder)
    reader = Reader(load_backbone("nano-conv"), data.modalities, (32, 32), (8,), True)
    scenes = Scenes(data.part("train")[:1], data.found, reader)
    assert scenes[0]["mask"].dtype == torch.int64 and scenes.masks[0].dtype == torch.uint8
    assert np.array_equal(scenes[0]["mask"].numpy(), read_mask(data.part("train")[0], data.found))


def test_strides_follow_the_backbone(folder: Path, tmp_path: Path) -> None:
    segmenter = FusionSegmenter("pwrf", "nano-clip", hyper=SMALL, width=12, image_size=32)
    assert segmenter.settings.strides == segmenter.backbone.strides
    run = ("--backbone", "nano-clip", "--stride", 8, "--epochs", 1, "--width", 8, "--image-size", 32)
    assert code("fusion", "fit", folder, "--method", "summation", "--out", tmp_path / "run", *run) == 0
    assert FusionSegmenter("pwrf").settings.strides == (4, 8, 16)


def test_dark_pictures_can_be_stretched(folder: Path) -> None:
    dark = np.linspace(0.03, 0.04, 1024, dtype=np.float32).reshape(32, 32, 1).repeat(3, 2)
    wide = stretched(dark)
    assert wide.min() == 0 and wide.max() == 1 and float(wide.mean()) == pytest.approx(0.5, abs=0.01)
    assert np.array_equal(stretched(dark * 0), dark * 0)
    data, backbone = read_source(folder), load_backbone("nano-conv")
    sample = replace(data.part("train")[0], pictures={"depth": dark})
    plain, spread = (
        Reader(backbone, ("depth",), (32, 32), (8,), False, names).row(sample, data.found)["x"]
        for names in (frozenset(), frozenset({"depth"}))
    )
    assert float(spread[0, 0].std()) > 10 * float(plain[0, 0].std())
    with pytest.raises(ConfigError, match="stretch names 'sonar'"):
        FusionSegmenter("summation", stretch=("sonar",), **TINY).fit(folder, epochs=1, progress=False)


def test_bad_settings_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="not fitted"):
        FusionSegmenter("pwrf").predict({"rgb": np.zeros((8, 8, 3))})
    for bad in ({"encoders": "none"}, {"drop": 1.0}, {"nonsense": 1}, {"width": 0}, {"fine": "best"}):
        with pytest.raises(ConfigError):
            FusionSegmenter("pwrf", **bad)
    with pytest.raises(ConfigError, match="unknown hyper-parameter 'itres'; did you mean 'iters'"):
        FusionSegmenter("pwrf", hyper={"itres": 1}, **TINY)
    with pytest.raises(ConfigError, match="width=12 does not split over 5 heads"):
        FusionSegmenter("cross-attention", hyper={"heads": 5}, **TINY)
    with pytest.raises(ConfigError, match="give an index below 6"):
        FusionSegmenter("single", hyper={"modality": 6}, **TINY)
    with pytest.raises(ConfigError, match=r"pools.*odd"):
        FusionSegmenter("token-selection", hyper={"pools": [4]}, **TINY)
    for names in (["rgb", "rgb"], "rgb"):
        with pytest.raises(DataError, match="no list of different names"):
            read_source(folder).with_modalities(names)
    with pytest.raises(ConfigError, match="unknown method"):
        FusionBench(str(folder), out=folder, methods=["nosuch"])
    with pytest.raises(DataError, match="no modality is called 'sonar'"):
        FusionBench(str(folder), out=folder, methods=["single"], modalities=[["rgb", "sonar"]])


def test_bench_rows_and_resumption(folder: Path, tmp_path: Path) -> None:
    names = ["concatenation", "token-selection[pools=[3]]"]
    options = {"out": tmp_path, "methods": names, "seeds": 1, "epochs": 1, "image_size": 32}
    sets = [["rgb", "thermal"]]

    def bench(**more: object) -> list[dict[str, object]]:
        given = {"modalities": sets, "progress": False, **options, **more}
        return list(FusionBench(str(folder), **given).run().rows)

    first = bench()
    assert {r["method"] for r in first} == set(names)
    groups = {r["group"].split(" ", 1)[1] for r in first}
    assert groups == {
        "all", "missing:rgb", "missing:thermal", "dead:rgb", "dead:thermal", "drop when one is missing",
    }  # fmt: skip
    assert all(r["parameters"] for r in first)
    assert bench() == bench(finished=True) == first


def code(*words: object) -> int:
    try:
        main([str(w) for w in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    few = ("--epochs", 1, "--width", 8, "--image-size", 32)
    assert code("fusion", "fit", folder, "--method", "summation", "--out", run, *few) == 0
    test = [f"{n}={folder / 'test' / n}" for n in ("rgb", "depth")]
    assert code("fusion", "predict", run / "checkpoint", *test, "--out", tmp_path / "p") == 0
    assert len(list((tmp_path / "p" / "masks").glob("*.png"))) == 4
    words = ("fusion", "evaluate", run / "checkpoint", folder, "--out", tmp_path / "e")
    assert code(*words, "--without", "thermal") == 0
    for place in (run, tmp_path / "p", tmp_path / "e"):
        assert {"scores.json", "results.csv", "report.html"} <= {p.name for p in place.iterdir()}
    assert code("fusion", "check", folder) == 0 and code("check", "fusion", folder) == 0
    assert code("fusion", "predict", run / "checkpoint", "rgb.png") == 2
    assert code("fusion", "predict", run / "checkpoint", *test, *test) == 2
    assert code("fusion", "predict", run / "checkpoint", f"sonar={folder / 'test' / 'rgb'}") == 2
    assert "unknown to the model" in capsys.readouterr().out


def test_the_state_of_another_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    def fit(source: Path, hyper: dict[str, object] | None = None, **options: object) -> FusionSegmenter:
        segmenter = FusionSegmenter("pwrf", hyper={**SMALL, **(hyper or {})}, **{**TINY, **options})  # type: ignore[arg-type]
        return segmenter.fit(source, folder=tmp_path / "train", epochs=1, batch_size=6, progress=False)

    classes = copied(folder, tmp_path / "classes")
    (classes / "fusion.json").write_text('{"classes": ["none", "two", "one", "both"]}')
    sources = {
        "": folder,
        "moved": copied(folder, tmp_path / "moved"),
        "pictures": copied(folder, tmp_path / "pictures", "train/thermal/*.png"),
        "classes": classes,
    }
    others = {"T=2, not 3": {"hyper": {"T": 3}}, "drop=0.1, not 0.2": {"drop": 0.2}}
    check_states(fit, tmp_path / "train", sources, others)
