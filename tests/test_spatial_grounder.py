"""The public object, from end to end: fit, predict, evaluate, save, load, the command, compression."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from resuming import check_states
from spatial_models import tiny_folder, tiny_mllm
from wildsight.errors import CheckpointError, ConfigError, DataError, UnsupportedModelError
from wildsight.spatial import SpatialGrounder
from wildsight.spatial.boxes import Box
from wildsight.spatial.data import world
from wildsight.spatial.gltf import write_gltf
from wildsight.spatial.inputs import _in_sight, varied
from wildsight.spatial.methods import METHODS
from wildsight.spatial.mllm import check_family
from wildsight.spatial.samples import SpatialData

FAST = {"epochs": 1, "batch_size": 8, "progress": False}


@pytest.fixture(scope="module")
def data() -> SpatialData:
    return world(12, 4, 48, 0, (1.0, 2.5))


@pytest.fixture(scope="module")
def fitted(data: SpatialData) -> SpatialGrounder:
    return SpatialGrounder("llmi3d", tiny_mllm(), hyper={"threshold": 0.0}).fit(data, **FAST)


FIRST = ("llmi3d", "text", "cube-head")
LATER = [pytest.param(m, marks=pytest.mark.slow) for m in METHODS if m not in FIRST]


@pytest.mark.parametrize("method", [*FIRST, *LATER])
def test_every_method_fits_and_is_evaluated(method: str, data: SpatialData) -> None:
    grounder = SpatialGrounder(method, tiny_mllm()).fit(data, **FAST)
    evaluation = grounder.evaluate(data)
    assert [r["group"] for r in evaluation.rows] == ["x1", "x2.5", "all"]
    for row in evaluation.rows:
        assert all(np.isfinite(v) for v in row.values() if isinstance(v, float))
    assert ("2D box" in evaluation.protocol) == METHODS[method].oracle
    assert len(evaluation.scores) == evaluation.rows[-1]["questions"]


@pytest.mark.slow
def test_a_fit_is_the_same_twice_and_learns(data: SpatialData) -> None:
    one = SpatialGrounder("llmi3d", tiny_mllm()).fit(data, **{**FAST, "epochs": 3, "lr": 3e-3})
    two = SpatialGrounder("llmi3d", tiny_mllm()).fit(data, **{**FAST, "epochs": 3, "lr": 3e-3})
    for name, tensor in one.net.state_dict().items():
        assert torch.equal(tensor, two.net.state_dict()[name]), name
    losses = one.history.curve("loss")
    assert losses[-1] < losses[0]
    one.fit(data, **{**FAST, "epochs": 3, "lr": 3e-3})
    for name, tensor in one.net.state_dict().items():
        assert torch.equal(tensor, two.net.state_dict()[name]), name


@pytest.mark.slow
def test_a_few_pictures_are_learned_by_heart() -> None:
    """The whole way: what training calls a small loss is a right box when it is asked for."""
    data = world(5, 1, 48, 0, (1.0,))
    hyper = {"tune": "full", "w_text": 0.1, "w_d": 0.1, "dropout": 0.0}
    grounder = SpatialGrounder("llmi3d", tiny_mllm(), hyper=hyper)
    grounder.fit(data, epochs=250, batch_size=6, lr=5e-3, progress=False)
    scores = grounder.evaluate(data, split="train").rows[-1]
    assert scores["acc@0.5"] >= 0.8, scores
    assert scores["refusal"] == 1.0, scores


@pytest.mark.slow
def test_augmented_pictures_train(data: SpatialData) -> None:
    grounder = SpatialGrounder("llmi3d", tiny_mllm()).fit(data, augment=True, **FAST)
    assert np.isfinite(grounder.history.curve("loss")[-1])


def test_predict_says_where_its_intrinsics_come_from(fitted: SpatialGrounder, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 35
    file = tmp_path / "a.jpg"
    Image.fromarray(np.full((60, 80, 3), 120, np.uint8)).save(file, exif=exif)
    told = fitted.predict(file, "the red cube", focal=70.0)[0]
    assert told.intrinsics_from == "given"
    assert told.flags == () or "out of sight" in told.flags
    assert fitted.predict(file, "the red cube")[0].intrinsics_from == "exif"
    guess = fitted.predict(np.zeros((60, 80, 3), np.uint8), ["the red cube", "a tree"])
    assert [r.intrinsics_from for r in guess] == ["estimate"] * 2
    assert "intrinsics estimated" in guess[0].flags
    assert told.boxes[0].spread > 0
    assert "unknown words: weather" in fitted.predict(file, "the weather")[0].flags
    twice = fitted.predict(file, "the red cube", focal=140.0)[0]
    assert twice.boxes[0].centre[2] == pytest.approx(2 * told.boxes[0].centre[2], rel=0.6)
    with pytest.raises(DataError, match="no intrinsics"):
        fitted.predict(np.zeros((60, 80, 3), np.uint8), "the cube", estimate=False)
    for focal in (0.0, -5.0):
        with pytest.raises(ConfigError, match="focal length"):
            fitted.predict(file, "the cube", focal=focal)
    for words in ("", "  ", []):
        with pytest.raises(ConfigError, match="without words"):
            fitted.predict(file, words)


@pytest.mark.parametrize(
    "words", ["?", "the", "123", "where is it?", ["the red cube", "--"], 5, ["a cube", None]]
)
def test_a_prompt_without_an_object_is_refused(fitted: SpatialGrounder, words: Any) -> None:
    with pytest.raises(ConfigError, match=r"names no object|no text"):
        fitted.predict(np.zeros((48, 48, 3), np.uint8), words, focal=50.0)


def test_intrinsics_of_another_size_are_flagged(fitted: SpatialGrounder) -> None:
    picture = np.zeros((48, 48, 3), np.uint8)
    own = np.array(((50.0, 0, 24), (0, 50.0, 24), (0, 0, 1)))
    other = np.array(((721.5, 0, 609.6), (0, 721.5, 172.9), (0, 0, 1)))
    mark = "intrinsics of another size"
    assert mark in fitted.predict(picture, "the red cube", intrinsics=other)[0].flags
    assert mark not in fitted.predict(picture, "the red cube", intrinsics=own)[0].flags
    for focal in ("x", True, [3]):
        with pytest.raises(ConfigError, match="focal length"):
            fitted.predict(picture, "the red cube", focal=focal)


def test_results_are_drawn_written_and_exported(fitted: SpatialGrounder, tmp_path: Path) -> None:
    picture = np.full((48, 48, 3), 120, np.uint8)
    result = fitted.predict(picture, "the red cube", focal=50.0, words=True)[0]
    assert result.answer_by in ("model", "rule")
    assert json.dumps(result.to_dict())
    assert result.figure() is not None
    assert result.strip().size[1] == 240
    document = json.loads(result.save_gltf(tmp_path / "a.gltf").read_text())
    assert document["asset"]["version"] == "2.0"
    node = document["nodes"][1]
    assert np.allclose(node["translation"], result.boxes[0].centre)
    assert np.allclose(node["scale"], result.boxes[0].size)


def test_gltf_holds_closed_boxes_of_their_volume(tmp_path: Path) -> None:
    boxes = [Box.upright((1, 0.5, 6), (4, 1.5, 2), 0.4, "car"), Box.upright((-2, 0.2, 9), (1, 1.8, 1), -1.1)]
    document = json.loads(write_gltf(tmp_path / "a.gltf", boxes).read_text())
    data = base64.b64decode(document["buffers"][0]["uri"].partition("base64,")[2])
    assert len(data) == document["buffers"][0]["byteLength"]
    raw = [data[v["byteOffset"] : v["byteOffset"] + v["byteLength"]] for v in document["bufferViews"]]
    points = np.frombuffer(raw[0], "<f4").reshape(-1, 3)
    triangles = np.frombuffer(raw[1], "<u2").reshape(-1, 3)
    assert [a["count"] for a in document["accessors"]] == [len(points), triangles.size]
    assert triangles.max() == len(points) - 1
    camera, *nodes = document["nodes"]
    assert camera["children"] == [1, 2] and [n["mesh"] for n in nodes] == [0, 1]
    for node, box in zip(nodes, boxes, strict=True):
        turn = Rotation.from_quat(node["rotation"]).as_matrix()
        at = (points * node["scale"]) @ turn.T + node["translation"]
        assert np.allclose(np.sort(at, 0), np.sort(box.corners(), 0), atol=1e-5)
        volume = sum(np.linalg.det(at[t] - box.centre) for t in triangles) / 6
        assert volume == pytest.approx(box.size.prod(), rel=1e-5)  # all triangles look outwards


def test_every_thing_with_a_name_of_its_own_is_asked_for() -> None:
    assert all(len(s.targets) + len(s.others) == 1 for s in world(4, 2, 48, most=1).samples)
    few, many = world(12, 2, 48), world(12, 2, 48, all_named=True)
    assert len({s.name for s in many.samples}) == len(many.samples)
    assert [s.name for s in few.part("test")] == [s.name for s in many.part("test")]
    more = [s for s in many.part("train") if s.targets and s.name not in {x.name for x in few.samples}]
    assert more
    for sample in more:
        assert sample.expression == f"the {sample.targets[0].name}"
        assert sample.targets[0].name not in {b.name for b in sample.others}


def test_what_is_not_there_is_refused(data: SpatialData) -> None:
    grounder = SpatialGrounder("llmi3d", tiny_mllm(), hyper={"threshold": 1.0}).fit(data, **FAST)
    result = grounder.predict(np.zeros((48, 48, 3), np.uint8), "the red cube", focal=50.0)[0]
    assert result.refused
    assert "not there" in result.flags
    assert result.answer == "the red cube: there is none"
    result.strip()


def test_several_boxes_in_one_answer() -> None:
    data = world(12, 4, 48, 0, (1.0,), several=True)
    assert any(len(s.targets) > 1 for s in data.part("train"))
    grounder = SpatialGrounder("llmi3d", tiny_mllm(), hyper={"Q": 4, "threshold": 0.0}).fit(data, **FAST)
    result = grounder.predict(np.zeros((48, 48, 3), np.uint8), "the cubes", focal=50.0)[0]
    assert len(result.boxes) == 4
    assert [b.score for b in result.boxes] == sorted((b.score for b in result.boxes), reverse=True)


def test_more_boxes_than_an_answer_holds_are_not_left_out_silently() -> None:
    data = world(12, 4, 48, 0, (1.0,), several=True)
    most = max(len(s.targets) for s in data.part("train"))
    for method, hint in (("llmi3d", f"--queries {most}"), ("text", "use llmi3d")):
        with pytest.raises(DataError, match=f"{most} boxes") as caught:
            SpatialGrounder(method, tiny_mllm()).fit(data, **FAST)
        assert hint in (caught.value.hint or "")


@pytest.mark.slow
def test_two_boxes_of_one_question_are_learned_by_heart() -> None:
    data = world(8, 1, 48, 0, (1.0,), several=True, most=2)
    pairs = tuple(s for s in data.samples if s.split == "train" and len(s.targets) == 2)[:3]
    assert len(pairs) >= 2
    hyper = {"Q": 2, "tune": "full", "w_text": 0.1, "w_d": 0.1, "dropout": 0.0}
    grounder = SpatialGrounder("llmi3d", tiny_mllm(), hyper=hyper)
    grounder.fit(replace(data, samples=pairs), epochs=300, batch_size=3, lr=5e-3, progress=False)
    scores = grounder.evaluate(replace(data, samples=pairs), split="train").rows[-1]
    assert scores["found"] == 1.0
    assert scores["acc@0.5"] >= 0.8, scores


def test_a_picture_and_its_camera_enlarged_together_give_the_same_box(fitted: SpatialGrounder) -> None:
    from wildsight.images import from_array

    small = from_array(np.random.default_rng(0).integers(0, 255, (48, 48, 3)).astype(np.uint8))
    large = small.resize((144, 144), 0)
    one = fitted.predict(small, "the red cube", focal=50.0)[0].boxes[0]
    two = fitted.predict(large.resize((48, 48), 0), "the red cube", focal=50.0)[0].boxes[0]
    assert np.allclose(one.centre, two.centre, atol=1e-4)
    camera = np.array(((150.0, 0, 72), (0, 150.0, 72), (0, 0, 1)))
    three = fitted.predict(large, "the red cube", intrinsics=camera)[0].boxes[0]
    assert three.centre[2] == pytest.approx(one.centre[2], rel=0.2)  # resized pixels are not the same
    plain = (np.full((h, w, 3), (90, 140, 60), np.uint8) for h, w in ((32, 48), (96, 144)))
    four, five = (fitted.predict(p, "the red cube", focal=f)[0].boxes[0]
                  for p, f in zip(plain, (50.0, 150.0), strict=True))  # fmt: skip
    assert np.allclose(five.centre, four.centre, atol=1e-5)
    assert np.allclose(five.size, four.size, atol=1e-6)


def test_features_are_kept_while_there_is_room(data: SpatialData) -> None:
    eyes = SpatialGrounder("llmi3d", tiny_mllm()).eyes
    samples = list({s.key: s for s in data.samples}.values())
    eyes.prepare(samples[:1])
    one = eyes.of(samples[0]).size
    eyes.limit = 3 * one
    eyes.prepare(samples)
    assert len(eyes.kept) == 3
    again = [eyes.of(samples[5]) for _ in range(2)]
    assert torch.equal(again[0].tokens, again[1].tokens)
    assert len(eyes.kept) == 3


def test_a_zoom_leaves_the_target_in_the_picture() -> None:
    for sample in world(40, 1, 48, 0, (1.0,)).part("train"):
        if all(_in_sight(b, sample.camera) for b in sample.targets):
            drawn, _ = varied(sample, 10)
            assert all(_in_sight(b, drawn.camera) for b in drawn.targets), sample.name


def test_cube_head_needs_its_box(data: SpatialData) -> None:
    grounder = SpatialGrounder("cube-head", tiny_mllm()).fit(data, **FAST)
    picture = np.zeros((60, 80, 3), np.uint8)
    found = grounder.predict(picture, "it", focal=60.0, box=(10, 10, 40, 50))[0]
    assert len(found.boxes) == 1
    for box in (None, (10, 10, 5, 50)):
        with pytest.raises(ConfigError, match="2D box"):
            grounder.predict(picture, "it", focal=60.0, box=box)


def test_new_words_get_embeddings_of_their_own(data: SpatialData) -> None:
    strange = [
        replace(s, expression=f"the zebra {s.expression}", answer="yes : a zebra") for s in data.samples
    ]
    grounder = SpatialGrounder("llmi3d", tiny_mllm()).fit(replace(data, samples=tuple(strange)), **FAST)
    assert grounder.mllm.words == ["zebra"]
    assert grounder.net.speaker.new_words.shape[0] == 1
    zebra = grounder.mllm.ids("the zebra")
    assert zebra[1] == grounder.mllm.vocabulary


def test_saved_and_loaded_it_answers_the_same(data: SpatialData, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "llava")
    grounder = SpatialGrounder("llmi3d", str(folder), hyper={"threshold": 0.0}).fit(data, **FAST)
    grounder.save_pretrained(tmp_path / "saved")
    again = SpatialGrounder.from_pretrained(tmp_path / "saved")
    picture = np.random.default_rng(1).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    one, two = (g.predict(picture, "the red cube", focal=50.0)[0].boxes[0] for g in (grounder, again))
    assert np.array_equal(one.centre, two.centre)
    assert np.array_equal(one.rotation, two.rotation)
    names = [n for n in grounder.net.state_dict() if "vision_tower" in n or "embed_tokens" in n]
    assert not names
    other = tiny_folder(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "note": 1}))
    with pytest.raises(CheckpointError, match="other weights"):
        SpatialGrounder.from_pretrained(tmp_path / "saved", backbone=str(other))


def test_it_works_inside_compress(fitted: SpatialGrounder) -> None:
    from wildsight import compress
    from wildsight.backbones.vlm import active_pruner

    picture = np.random.default_rng(2).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    whole = fitted.predict(picture, "the red cube", focal=50.0)[0].boxes[0]
    with compress(fitted.mllm.model, visual_tokens=9):
        few = fitted.predict(picture, "the red cube", focal=50.0)[0].boxes[0]
    with compress(fitted.mllm.model, visual_tokens=9, positions="original"):
        in_place = fitted.predict(picture, "the red cube", focal=50.0)[0].boxes[0]
    with compress(fitted.mllm.model, visual_tokens=1.0, positions="original"):
        all_of_them = fitted.predict(picture, "the red cube", focal=50.0)[0].boxes[0]
    again = fitted.predict(picture, "the red cube", focal=50.0)[0].boxes[0]
    assert not np.array_equal(few.centre, whole.centre)
    assert not np.array_equal(few.centre, in_place.centre)
    assert np.allclose(all_of_them.centre, whole.centre, atol=1e-5)
    assert active_pruner(fitted.mllm.model) is None
    assert np.array_equal(again.centre, whole.centre)


@pytest.mark.parametrize("method", ["text", "text-virtual"])
def test_numbers_as_text_read_the_kept_tokens_alone(method: str, data: SpatialData, monkeypatch: Any) -> None:
    from wildsight import compress

    grounder = SpatialGrounder(method, tiny_mllm()).fit(data, **FAST)
    read, lengths = grounder.net.speaker.read, []
    monkeypatch.setattr(
        grounder.net.speaker, "read", lambda p, **o: lengths.append(p[1][0].shape[1]) or read(p, **o)
    )
    picture = np.random.default_rng(2).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    grounder.predict(picture, "the red cube", focal=50.0)
    with compress(grounder.mllm.model, visual_tokens=9, positions="original"):
        grounder.predict(picture, "the red cube", focal=50.0)
    assert lengths == [36, 9]


def test_spoken_answers_read_the_kept_tokens_alone(fitted: SpatialGrounder, monkeypatch: Any) -> None:
    from wildsight import compress

    read, lengths = fitted.net.speaker.read, []
    monkeypatch.setattr(
        fitted.net.speaker, "read", lambda p, **o: lengths.append(p[1][0].shape[1]) or read(p, **o)
    )
    picture = np.zeros((48, 48, 3), np.uint8)
    with compress(fitted.mllm.model, visual_tokens=9, positions="original"):
        fitted.predict(picture, "the red cube", focal=50.0, words=True)
    assert lengths == [9, 9]


def test_a_refusal_keeps_its_score_and_damaged_weights_are_named(data: SpatialData) -> None:
    grounder = SpatialGrounder("llmi3d", tiny_mllm(), hyper={"threshold": 1.0}).fit(data, **FAST)
    picture = np.zeros((48, 48, 3), np.uint8)
    assert 0.0 < grounder.predict(picture, "the red cube", focal=50.0)[0].score < 1.0
    with torch.no_grad():
        grounder.net.heads.parts["there"][-1].bias.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        grounder.predict(picture, "the red cube", focal=50.0)


def test_answers_in_text_have_a_share_that_could_be_read(data: SpatialData, monkeypatch: Any) -> None:
    grounder = SpatialGrounder("text", tiny_mllm()).fit(data, **FAST)
    box = "centre 0.10 1.00 5.00 size 1.00 1.00 1.00 turn 0.30"
    texts = [box, "no", "centre 1", "a cube"]
    monkeypatch.setattr(
        grounder.net, "texts", lambda batch, keep=None: [texts[i % 4] for i in range(len(batch["camera"]))]
    )
    four = replace(data, samples=tuple(s for s in data.part("test") if s.targets)[:4])
    row = grounder.evaluate(four).rows[-1]
    assert row["parsed"] == 0.5
    assert row["found"] == 0.25
    assert "acc_released@0.5" in row


def test_settings_are_checked() -> None:
    for hyper, message in (({"nosuch": 1}, "nosuch"), ({"geometry": "x"}, "geometry"), ({"r": 0}, "r=0")):
        with pytest.raises(ConfigError, match=message):
            METHODS.create("llmi3d", hyper)
    with pytest.raises(ConfigError, match="unknown method"):
        SpatialGrounder("nosuch")
    with pytest.raises(ConfigError, match="virtual"):
        METHODS.create("text", {"virtual": True})
    with pytest.raises(ConfigError, match="fit"):
        SpatialGrounder("llmi3d", tiny_mllm(), fit="crop")
    with pytest.raises(ConfigError, match="not fitted"):
        SpatialGrounder("llmi3d", tiny_mllm()).predict(np.zeros((8, 8, 3), np.uint8), "x", focal=3)
    with pytest.raises(UnsupportedModelError):
        check_family(torch.nn.Linear(1, 1))


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: Any) -> None:
    from wildsight.cli import main
    from wildsight.world.export import export

    export("grounding", tmp_path / "w", count=8, size=48)
    folder = tiny_folder(tmp_path / "llava")

    def run(*words: str) -> int:
        try:
            main(["spatial", *words])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    out = str(tmp_path / "run")
    fit = (
        "fit",
        str(tmp_path / "w"),
        "--backbone",
        str(folder),
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--out",
        out,
    )
    assert run(*fit) == 0
    for name in ("scores.json", "results.csv", "report.html", "checkpoint"):
        assert (tmp_path / "run" / name).exists()
    picture = str(tmp_path / "w" / "images" / "000000.png")
    calib = str(tmp_path / "w" / "calib" / "000000.txt")
    asked = ("predict", f"{out}/checkpoint", picture, "the cube", "--calibration", calib, "--out", f"{out}/p")
    assert run(*asked) == 0
    assert (tmp_path / "run" / "p" / "report.html").exists()
    assert (
        run("evaluate", f"{out}/checkpoint", str(tmp_path / "w"), "--split", "train", "--out", f"{out}/e")
        == 0
    )
    capsys.readouterr()
    assert run("predict", f"{out}/checkpoint", picture, "the cube", "--no-estimate", "--out", f"{out}/q") == 2
    assert "no intrinsics" in capsys.readouterr().out
    assert "no intrinsics" in (tmp_path / "run" / "q" / "scores.json").read_text()
    assert run("predict", f"{out}/checkpoint", picture, "the cube", "--focal", "0") == 2


def test_the_state_of_another_fit_is_refused(data: SpatialData, tmp_path: Path) -> None:
    def fit(source: SpatialData, seed: int = 0, augment: bool = False, **hyper: object) -> SpatialGrounder:
        mllm = replace(tiny_mllm(seed), sha=str(seed) * 8)
        grounder = SpatialGrounder("llmi3d", mllm, hyper=hyper)
        return grounder.fit(source, folder=tmp_path / "train", augment=augment, **FAST)

    def changed(**fields: object) -> SpatialData:
        first = replace(data.samples[0], **fields)
        return replace(data, samples=(first, *data.samples[1:]))

    box = data.samples[0].targets[0]
    sources = {
        "": data,
        "pictures": changed(image=255 - np.asarray(data.samples[0].image)),
        "boxes": changed(targets=(replace(box, centre=box.centre + 1),)),
    }
    others = {
        "w_d=": {"w_d": 0.5},
        "augment=False, not True": {"augment": True},
        "backbone=00000000, not 11111111": {"seed": 1},
    }
    check_states(fit, tmp_path / "train", sources, others)
