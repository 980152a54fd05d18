"""The recognizer end to end on a tiny CLIP, with and without its text tower, and its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from composition_models import draw, shapes_folder, tiny_clip
from resuming import check_states, copied
from wildsight import CompositionRecognizer
from wildsight.composition.bench import CompositionBench
from wildsight.composition.data import check_source
from wildsight.composition.features import Templates
from wildsight.composition.methods import ABLATIONS, METHODS
from wildsight.composition.methods.hdaoe import HDAOE
from wildsight.errors import CheckpointError, ConfigError, DataError, UnsupportedModelError
from wildsight.files import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    """The same tower without its tokenizer: no texts."""
    folder = tmp_path_factory.mktemp("blind")
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (folder / name).write_bytes((clip / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes_folder(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def fitted(clip: Path, shapes: Path) -> CompositionRecognizer:
    return CompositionRecognizer("hdaoe", str(clip)).fit(shapes, progress=False, epochs=6, lr=5e-3)


@pytest.mark.parametrize("method", [*METHODS, "hdaoe-scd", "hdaoe-composed"])
def test_every_method_fits_evaluates_and_survives_a_checkpoint(
    method: str, clip: Path, shapes: Path, tmp_path: Path
) -> None:
    model = CompositionRecognizer(method, str(clip), calibrate=method == "hdaoe")
    model.fit(shapes, progress=False, epochs=3)
    rows = model.evaluate(shapes, open_world=True).rows
    assert [r["world"] for r in rows] == ["closed", "open"]
    assert model.evaluate(shapes, open_world=True, feasibility="validation").rows[1]["pairs"] == 9
    with pytest.raises(ConfigError, match="is no limit"):
        model.evaluate(shapes, open_world=True, feasibility="much")
    assert all(0 <= r[m] <= 1 for r in rows for m in ("auc", "hm", "best_seen", "field_auc", "top1"))
    again = CompositionRecognizer.from_pretrained(model.save_pretrained(tmp_path / "model"))
    picture = np.asarray(draw("red", "square", 1))
    one, two = model.predict(picture)[0], again.predict(picture)[0]
    assert one == two
    assert sum(p for _, p in one.attributes) == pytest.approx(1.0, abs=1e-5)


def test_without_a_text_tower_words_are_learned(blind: Path, shapes: Path) -> None:
    model = CompositionRecognizer("hdaoe", str(blind)).fit(shapes, progress=False, epochs=20)
    assert model.evaluate(shapes).rows[0]["best_seen"] > 1 / 3
    with pytest.raises(UnsupportedModelError, match="no text tower, which zeroshot needs"):
        CompositionRecognizer("zeroshot", str(blind))
    with pytest.raises(UnsupportedModelError, match="new words need"):
        model.predict(draw("red", "disc", 0), pairs=["shiny disc"], open_vocabulary=True)


def test_words_that_the_tokenizer_does_not_know_are_learned(clip: Path, tmp_path: Path) -> None:
    for i, pair in enumerate(("red_square", "odd_square", "red_blob", "queer_disc")):
        (tmp_path / pair).mkdir()
        for n in range(6):
            draw("red", "square", 10 * i + n).save(tmp_path / pair / f"{n}.png")
    model = CompositionRecognizer("hdaoe", str(clip)).fit(tmp_path, progress=False, epochs=1)
    assert model.texts is None and model.shared
    with pytest.raises(UnsupportedModelError, match="cannot tell the words"):
        CompositionRecognizer("csp", str(clip)).fit(tmp_path, progress=False, epochs=1)


def test_before_the_first_step_the_head_is_the_zero_shot_tower(clip: Path, shapes: Path) -> None:
    """Residuals, word changes and gates all start at nothing: the pair part is the tower's own cosine."""
    zero = CompositionRecognizer("zeroshot", str(clip)).fit(shapes, progress=False)
    head = CompositionRecognizer("compcos", str(clip), calibrate=False)
    head.fit(shapes, progress=False, epochs=1, lr=1e-12)
    picture = draw("green", "cross", 5)
    a, b = (
        sorted(
            (p.text, p.score - m.calibration.bias * (not p.seen)) for p in m.predict(picture, top=9)[0].pairs
        )
        for m in (zero, head)
    )
    assert [t for t, _ in a] == [t for t, _ in b]
    assert np.allclose([s for _, s in a], [s for _, s in b], atol=1e-5)


def test_candidates_may_be_named_and_new_words_need_a_switch(fitted: CompositionRecognizer) -> None:
    picture = draw("red", "square", 3)
    named = fitted.predict(picture, pairs=["red square", ("blue", "disc")])[0]
    assert {p.text for p in named.pairs} == {"red square", "blue disc"}
    assert sum(p.probability for p in named.pairs) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(DataError, match="attribute 'shiny' is unknown"):
        fitted.predict(picture, pairs=["shiny square"])
    new = fitted.predict(picture, pairs=["shiny square", "red square"], open_vocabulary=True)[0]
    assert {p.text: p.calibrated for p in new.pairs} == {"shiny square": False, "red square": True}
    assert "shiny" not in fitted.vocabulary.attributes
    with pytest.raises(ConfigError, match="no candidate pair"):
        fitted.predict(picture, pairs=[])
    with pytest.raises(DataError, match="is no pair"):
        fitted.predict(picture, pairs=["red"])


def test_the_bias_comes_from_held_out_pairs_and_the_result_says_none_of_these(
    fitted: CompositionRecognizer,
) -> None:
    assert fitted.calibration.source == "held-out pairs"
    result = fitted.predict(draw("red", "square", 3))[0]
    assert result.to_dict()["attribute"] == result.pairs[0].attribute
    assert json.dumps(result.to_dict())


def test_a_fit_with_the_same_seed_is_the_same(clip: Path, shapes: Path) -> None:
    curves = []
    for workers in (0, 1):
        model = CompositionRecognizer("hdaoe", str(clip), calibrate=False, hyper={"start": 0.0, "p_aug": 1.0})
        model.fit(shapes, progress=False, epochs=2, batch_size=16, workers=workers)
        curves.append(model.history.curve("loss") if model.history else [])
    assert curves[0] == curves[1] and curves[0]


def test_mistakes_are_named(clip: Path, tmp_path: Path, fitted: CompositionRecognizer) -> None:
    with pytest.raises(ConfigError, match="sdde='half' is not one of light, scd"):
        CompositionRecognizer("hdaoe", str(clip), hyper={"sdde": "half"})
    with pytest.raises(ConfigError, match="unknown hyper-parameter"):
        CompositionRecognizer("hdaoe", str(clip), hyper={"nosuch": 1})
    with pytest.raises(ConfigError, match="not fitted"):
        CompositionRecognizer("hdaoe", str(clip)).predict(draw("red", "disc", 0))
    saved = fitted.save_pretrained(tmp_path / "model")
    torch.manual_seed(7)
    other = tiny_clip(tmp_path / "other")
    weights = other / "model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(str(weights))
    save_file({k: v + 1 for k, v in tensors.items()}, str(weights), metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="other weights"):
        CompositionRecognizer.from_pretrained(saved, backbone=str(other))


@pytest.mark.slow
def test_the_command_leaves_its_folders(clip: Path, shapes: Path, tmp_path: Path) -> None:
    from wildsight.cli import main

    def run(*words: str) -> int:
        try:
            main([str(w) for w in words])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    common = ("--backbone", str(clip), "--epochs", "2")
    assert run("composition", "fit", str(shapes), "--out", str(tmp_path / "fit"), *common) == 0
    model = str(tmp_path / "fit" / "checkpoint")
    out = str(tmp_path / "eval")
    assert run("composition", "evaluate", model, str(shapes), "--open-world", "--out", out) == 0
    picture = str(shapes / "red_disc" / "0.png")
    out = str(tmp_path / "predict")
    assert run("composition", "predict", model, picture, "--pair", "red disc", "--out", out) == 0
    assert run("composition", "predict", model, picture, "--pair", "wet disc", "--out", out) == 2
    out = str(tmp_path / "bench")
    methods = ("--method", "hdaoe", "--method", "product", "--seeds", "1")
    assert run("bench", "composition", str(shapes), *common, *methods, "--out", out) == 0
    for name in ("fit", "eval", "predict", "bench"):
        for file in ("scores.json", "results.csv", "report.html"):
            assert (tmp_path / name / file).stat().st_size > 0
    assert check_source(shapes) == []
    assert run("composition", "check", str(shapes)) == 0


def test_the_state_of_another_fit_is_refused(clip: Path, shapes: Path, tmp_path: Path) -> None:
    def fit(source: Path, **options: object) -> CompositionRecognizer:
        model = CompositionRecognizer("hdaoe", str(clip), **options)  # type: ignore[arg-type]
        return model.fit(source, folder=tmp_path / "train", progress=False, epochs=1)

    sources = {
        "": shapes,
        "moved": copied(shapes, tmp_path / "moved"),
        "pictures": copied(shapes, tmp_path / "other", "*.png"),
    }
    others = {
        "beta=0.3, not 0.5": {"hyper": {"beta": 0.5}},
        "templates.pair=": {"templates": Templates(pair="a {a} {o}")},
    }
    check_states(fit, tmp_path / "train", sources, others)
    again = fit(shapes, abstain=0.2)  # a limit is set after the training
    assert again.history is not None and again.history.resumed_from == again.history.steps


def test_a_misspelt_word_is_refused_at_once_with_the_nearest(clip: Path) -> None:
    for options, said in (
        ({"method": "hdaoe-sdc"}, "did you mean 'hdaoe-scd'"),
        ({"hyper": {"betta": 1.0}}, "did you mean 'beta'"),
        ({"hyper": {"start": 2.0}}, "start=2.0 is outside its range"),
        ({"hyper": {"weights": [1.0]}}, "give three numbers"),
        ({"abstian": 0.1}, "did you mean 'abstain'"),
        ({"abstain": 1.0}, "abstain=1.0 is outside its range"),
    ):
        with pytest.raises(ConfigError, match=said):
            CompositionRecognizer(**{"backbone": str(clip), **options})
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        CompositionRecognizer("hdaoe", str(clip)).fit("no such folder", epoch=1)


def test_a_method_is_named_given_or_an_ablation(clip: Path) -> None:
    back = str(clip)
    one, two = CompositionRecognizer("hdaoe-scd", back), CompositionRecognizer(HDAOE(sdde="scd"), back)
    assert one.method == two.method and one.settings == two.settings and one.hyper == {"sdde": "scd"}
    assert CompositionRecognizer("hdaoe", back, hyper=HDAOE(sdde="scd")).method == one.method
    more = CompositionRecognizer("hdaoe-scd", back, hyper={"beta": 0.5})
    assert more.method == HDAOE(sdde="scd", beta=0.5)
    with pytest.raises(ConfigError, match="carries hyper-parameters of its own"):
        CompositionRecognizer("hdaoe-scd", back, hyper=HDAOE())
    params = more.get_params()
    assert CompositionRecognizer(**params).get_params() == params
    assert [CompositionRecognizer.variant(n).method for n in ABLATIONS] == [
        HDAOE(**options) for options in ABLATIONS.values()
    ]
    variant = CompositionRecognizer.variant("hdaoe-scd[beta=0.5]@1e-3")
    assert (variant.method, variant.lr, variant.text) == (more.method, 1e-3, "hdaoe-scd[beta=0.5]@1e-3")


def test_pictures_come_in_every_form(fitted: CompositionRecognizer, shapes: Path, tmp_path: Path) -> None:
    file = shapes / "red_disc" / "0.png"
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    forms = [file, str(file), picture, np.asarray(picture), file.read_bytes()]
    results = fitted.predict(forms, batch_size=1)
    assert {r.pairs for r in results} == {results[0].pairs} and results[1].image == file
    assert fitted.predict(images=file)[0] == results[0] and fitted.predict([]) == []
    (tmp_path / "bad.png").write_text("no picture")
    options = {"pairs": ["shiny square", "red square"], "open_vocabulary": True, "batch_size": 1}
    found, errors = fitted.predict_files([file, tmp_path / "bad.png", file], **options)
    assert [r.image for r in found] == [file, file] and "bad.png" in str(errors[0])
    assert found[0].pairs == fitted.predict(file, **options)[0].pairs
    assert fitted.to("cpu").predict(file)[0] == results[0]
    for wrong in ({"top": 0}, {"batch_size": 0}):
        with pytest.raises(ConfigError):
            fitted.predict(file, **wrong)


def test_a_checkpoint_of_the_first_version_is_read(fitted: CompositionRecognizer, tmp_path: Path) -> None:
    """Its task was called ``room``, and it held every hyper-parameter that was given."""
    tensors, config = load_checkpoint(fitted.save_pretrained(tmp_path / "new"), name="head")
    config["room"] = config.pop("task")
    config["hyper"] = {"weights": [1.0, 0.6, 0.4], "sdde": "light"}
    again = CompositionRecognizer.from_pretrained(
        save_checkpoint(tmp_path / "old", tensors, config, name="head")
    )
    picture = draw("red", "square", 3)
    assert again.predict(picture) == fitted.predict(picture) and again.method == fitted.method


def test_other_splits_can_be_scored(fitted: CompositionRecognizer, shapes: Path) -> None:
    evaluation = fitted.evaluate(shapes, split="val", open_world=True)
    assert evaluation.overall["world"] == "closed" and evaluation.table().columns == [
        "metric",
        "closed",
        "open",
    ]
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        fitted.evaluate(shapes, split="tset")


def test_the_bench_names_ablations_and_leaves_out_what_needs_texts(
    clip: Path, blind: Path, shapes: Path, tmp_path: Path
) -> None:
    options = {"seeds": 1, "epochs": 1, "calibrate": False, "progress": False}
    methods = ["zeroshot", "hdaoe-base[beta=0.5]", "ablations"]
    bench = CompositionBench(shapes, out=tmp_path, backbone=str(blind), methods=methods, **options)
    assert [v.text for v in bench.variants] == ["hdaoe-base[beta=0.5]", *ABLATIONS]
    assert bench.facts(bench.data)["left out, for want of a text tower that knows the words"] == "zeroshot"
    with pytest.raises(UnsupportedModelError, match="zeroshot need a text tower"):
        CompositionBench(shapes, out=tmp_path, backbone=str(blind), methods=["zeroshot"], **options)
    few = CompositionBench(
        shapes, out=tmp_path, backbone=str(clip), methods=["hdaoe", "hdaoe-base"], **options
    )
    result = few.run()
    assert [(r["method"], r["group"]) for r in result.rows] == [("hdaoe", "closed"), ("hdaoe-base", "closed")]
    assert len(result.pictures) > 0 and "hdaoe-base 0.0005" in result.facts["learning rates"]
    assert few.run().rows == result.rows
