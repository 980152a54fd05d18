"""The public object end to end on small world pictures, readers, checks and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resuming import check_states, copied
from wildsight.cli import main
from wildsight.datasets.sketch_splits import UNSEEN, plain
from wildsight.errors import CheckpointError, ConfigError, DataError, ImageError
from wildsight.files import load_checkpoint, save_checkpoint
from wildsight.images import from_array
from wildsight.retrieval import SketchRetriever
from wildsight.retrieval.data import PHOTO, SKETCH, check, read
from wildsight.retrieval.methods import METHODS
from wildsight.retrieval.methods.ramln import RAMLN, Quadruplet
from wildsight.retrieval.sketch import SIDE, looks_like_photo, normalise_sketch

TOWER = "nano-conv"
SHORT = {"epochs": 1, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder of the world's photos and drawings."""
    from wildsight.world.sets import sketches

    root = tmp_path_factory.mktemp("sketches")
    sets = sketches(seed=1, size=48, per_class=4, unseen=4)
    for split, part in sets.items():
        sides = (("photos", part.photos, part.photo_labels), ("sketches", part.sketches, part.sketch_labels))
        for side, pictures, labels in sides:
            for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
                target = root / side / label / f"{split}{number}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                from_array(picture).save(target)
    held = {"validation": sets["val"], "test": sets["test"]}
    listed = {k: sorted(set(v.photo_labels)) for k, v in held.items()}
    (root / "classes.json").write_text(json.dumps(listed))
    return root


@pytest.fixture(scope="module")
def fitted(folder: Path) -> SketchRetriever:
    return SketchRetriever("ramln", TOWER, image_size=64, width=16).fit(folder, **SHORT)


def test_splits_share_no_class(folder: Path) -> None:
    data = read("folder", folder)
    seen, held, unseen = (set(data.classes(s)) for s in ("train", "validation", "test"))
    assert (len(seen), len(held), len(unseen)) == (13, 3, 4)
    assert not (seen & unseen or seen & held or held & unseen)
    assert {i.modality for i in data.part("test")} == {SKETCH, PHOTO}
    assert check(data) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_and_is_measured(method: str, folder: Path) -> None:
    retriever = SketchRetriever(method, TOWER, image_size=64, width=16, seed=1)
    row = retriever.fit(folder, **SHORT).evaluate(folder).row
    assert 0 < row["map_all"] <= 1
    assert row["queries"] == 16


def test_a_fit_is_the_same_twice_and_after_saving(
    fitted: SketchRetriever, folder: Path, tmp_path: Path
) -> None:
    again = SketchRetriever("ramln", TOWER, image_size=64, width=16).fit(folder, **SHORT)
    first, second = fitted.evaluate(folder), again.evaluate(folder)
    assert np.array_equal(first.embeddings[0], second.embeddings[0])
    fitted.save_pretrained(tmp_path / "checkpoint")
    loaded = SketchRetriever.from_pretrained(tmp_path / "checkpoint")
    assert np.array_equal(loaded.evaluate(folder).embeddings[1], first.embeddings[1])
    assert loaded.maker == fitted.maker


@pytest.mark.slow
def test_a_fit_that_was_cut_short_goes_on_with_the_same_bits(folder: Path, tmp_path: Path) -> None:
    whole = SketchRetriever("ramln", TOWER, image_size=64, width=16).fit(folder, epochs=2, progress=False)
    retriever = SketchRetriever("ramln", TOWER, image_size=64, width=16)
    state = tmp_path / "train"

    class Stop(Exception):
        pass

    from wildsight.training import loop

    original = loop._Run._end_epoch

    def once(run: loop._Run) -> None:
        original(run)
        if run.at.epoch == 1 and run.resumed_from == 0:
            run._save()
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_end_epoch", once)
        with pytest.raises(Stop):
            retriever.fit(folder, folder=state, epochs=2, progress=False)
        again = SketchRetriever("ramln", TOWER, image_size=64, width=16)
        again.fit(folder, folder=state, epochs=2, progress=False)
    assert again.maker == whole.maker


def test_binary_codes_are_kept(folder: Path, tmp_path: Path) -> None:
    retriever = SketchRetriever("quadruplet", TOWER, image_size=64, width=16, bits=8).fit(folder, **SHORT)
    row = retriever.evaluate(folder).row
    retriever.save_pretrained(tmp_path / "c")
    assert SketchRetriever.from_pretrained(tmp_path / "c").evaluate(folder).row == row


def test_index_and_search(fitted: SketchRetriever, folder: Path, tmp_path: Path) -> None:
    data = read("folder", folder)
    photos = [i.file for i in data.part("test", PHOTO)]
    report = fitted.index(photos, tmp_path / "p.db", root=folder / "photos")
    assert report.total == len(photos)
    result = fitted.search(data.part("test", SKETCH)[0].file, tmp_path / "p.db", k=5)[0]
    assert [h.distance for h in result.hits] == sorted(h.distance for h in result.hits)
    assert result.warnings == ()
    assert result.to_dict()["query"]
    photo = fitted.search(photos[0], tmp_path / "p.db", k=1)[0]
    assert "looks like a photo" in photo.warnings[0]
    other = SketchRetriever("zero-shot", TOWER, image_size=64)
    with pytest.raises(CheckpointError, match="another model"):
        other.search(photos[0], tmp_path / "p.db")


def test_sketches_on_any_ground_are_one() -> None:
    white = np.full((120, 200, 3), 255, np.uint8)
    white[40:80, 60:64] = white[40:44, 60:120] = 0
    forms = [normalise_sketch(Image.fromarray(p)) for p in (white, 255 - white)]
    assert forms[0].size == (SIDE, SIDE)
    assert np.array_equal(np.asarray(forms[0]), np.asarray(forms[1]))
    moved = np.roll(white, (20, 50), axis=(0, 1))
    assert np.array_equal(np.asarray(normalise_sketch(Image.fromarray(moved))), np.asarray(forms[0]))
    assert not looks_like_photo(Image.fromarray(white))
    with pytest.raises(ImageError, match="no strokes"):
        normalise_sketch(Image.new("RGB", (50, 50), "white"))


@pytest.mark.parametrize(
    ("name", "count"), [("sketchy-1", 25), ("sketchy-2", 21), ("tu-berlin", 30), ("quickdraw", 30)]
)
def test_published_lists_have_their_numbers_of_classes(name: str, count: int) -> None:
    assert len({plain(c) for c in UNSEEN[name]}) == count


def test_list_files_take_the_class_from_the_folder(tmp_path: Path) -> None:
    def line(path: str, number: int) -> str:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(file)
        return f"{path} {number}\n"

    lists = tmp_path / "zeroshot1"
    lists.mkdir()
    (lists / "sketch_x_filelist_train.txt").write_text(
        line("s/alarm clock/1.png", 0) + line("s/cat/1.png", 1)
    )
    (lists / "all_photo_filelist_train.txt").write_text(
        line("p/alarm clock/2.png", 0) + line("p/cat/2.png", 100)
    )
    (lists / "sketch_x_filelist_zero.txt").write_text(line("s/bell/1.png", 0))
    (lists / "all_photo_filelist_zero.txt").write_text(line("p/bell/2.png", 0))
    data = read("lists", tmp_path)
    assert data.classes("train") == ["alarm clock", "cat"]
    assert data.classes("test") == ["bell"]
    (lists / "sketch_x_filelist_zero.txt").write_text("s/bell/1.png 0\ns/bell/3.png 7\n")
    with pytest.raises(DataError, match="two numbers"):
        read("lists", tmp_path)


def test_faults_of_a_folder_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="no sketches/CLASS"):
        read("folder", tmp_path)
    for side, name in (
        ("photos", "a"),
        ("photos", "b"),
        ("sketches", "a"),
        ("sketches", "b"),
        ("photos", "c"),
    ):
        (tmp_path / side / name).mkdir(parents=True)
        number = len(list(tmp_path.rglob("*.png")))
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / side / name / "1.png")
    (tmp_path / "classes.json").write_text(json.dumps({"test": ["b"], "validation": []}))
    (tmp_path / "photos" / "a" / "broken.png").write_bytes(b"no")
    (tmp_path / "photos" / "b" / "same.png").write_bytes((tmp_path / "photos" / "a" / "1.png").read_bytes())
    found = [p.what for p in check(read("folder", tmp_path))]
    assert any("class c (train) has no sketches" in w for w in found)
    assert any("cannot be read" in w for w in found)
    assert any("is also in" in w for w in found)
    with pytest.raises(DataError, match="only 1 classes"):
        SketchRetriever("quadruplet", TOWER, image_size=64).fit(tmp_path, **SHORT)
    (tmp_path / "classes.json").write_text(json.dumps({"test": ["z"]}))
    with pytest.raises(DataError, match="'z'"):
        read("folder", tmp_path)


def test_settings_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'quadruplet'"):
        SketchRetriever("quad", TOWER)
    with pytest.raises(ConfigError, match="lambda"):
        SketchRetriever("ramln", TOWER, hyper={"lambda": 1})
    with pytest.raises(ConfigError, match="not fitted"):
        SketchRetriever("ramln", TOWER, image_size=64).evaluate(folder)


def code(words: list[str]) -> int:
    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.slow
def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    tower = ["--backbone", TOWER, "--image-size", "64", "--epochs", "1"]
    assert code(["retrieval", "fit", str(folder), "--out", str(out), *tower]) == 0
    for name in ("scores.json", "results.csv", "report.html", "checkpoint"):
        assert (out / name).exists()
    model, index = str(out / "checkpoint"), ["--index", str(tmp_path / "photos.db")]
    assert code(["retrieval", "index", model, str(folder / "photos"), *index]) == 0
    assert "80 photos: 80 added" in capsys.readouterr().out
    sketch = str(read("folder", folder).part("test", SKETCH)[0].file)
    found = tmp_path / "found"
    assert code(["retrieval", "search", model, sketch, *index, "-k", "3", "--out", str(found)]) == 0
    assert capsys.readouterr().out.count(sketch) == 3
    assert (found / "report.html").is_file()
    blank = tmp_path / "blank.png"
    Image.new("RGB", (40, 40), "white").save(blank)
    assert code(["retrieval", "search", model, str(blank), *index]) == 2
    assert "no strokes" in capsys.readouterr().out
    assert code(["check", "retrieval", str(folder)]) == 0


def test_the_state_of_another_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    def fit(source: Path, **options: object) -> SketchRetriever:
        settings = {"image_size": 64, "width": 16, **options}
        retriever = SketchRetriever("quadruplet", TOWER, **settings)  # type: ignore[arg-type]
        return retriever.fit(source, folder=tmp_path / "train", **SHORT)

    sources = {
        "": folder,
        "moved": copied(folder, tmp_path / "moved"),
        "pictures": copied(folder, tmp_path / "other", "photos/*/train*.png"),
    }
    others = {
        "mu0=": {"hyper": {"mu0": 0.5}},
        "dropout=0.2, not 0.1": {"dropout": 0.1},
        "image_size=64, not 32": {"image_size": 32},
    }
    check_states(fit, tmp_path / "train", sources, others)


def test_a_misspelt_word_is_refused_at_once_with_the_nearest() -> None:
    for options, said in (
        ({"method": "triplett"}, "did you mean 'triplet'"),
        ({"hyper": {"kapa": 0.1}}, "did you mean 'kappa'"),
        ({"hyper": {"lam": 2.0}}, "lam=2.0 is outside its range"),
        ({"widht": 8}, "did you mean 'width'"),
        ({"bits": 12}, "give a multiple of 8"),
    ):
        with pytest.raises(ConfigError, match=said):
            SketchRetriever(**{"backbone": TOWER, **options})
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        SketchRetriever("ramln", TOWER).fit("no such folder", epoch=1)


def test_a_method_carries_its_hyper_parameters() -> None:
    one = SketchRetriever(RAMLN(memory=8), TOWER, image_size=64)
    two = SketchRetriever("ramln", TOWER, hyper={"memory": 8}, image_size=64)
    assert one.get_params() == two.get_params() and one.method == two.method and one.hyper == {"memory": 8}
    with pytest.raises(ConfigError, match="given as RAMLN"):
        SketchRetriever("quadruplet", TOWER, hyper=RAMLN())
    assert METHODS.parse("quadruplet[mu0=0.3]@1e-4").method == Quadruplet(mu0=0.3)


def test_sketches_come_in_every_form(fitted: SketchRetriever, folder: Path, tmp_path: Path) -> None:
    data = read("folder", folder)
    fitted.index([i.file for i in data.part("test", PHOTO)], tmp_path / "p.shelf")
    file = data.part("test", SKETCH)[0].file
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    forms = [file, str(file), picture, np.asarray(picture), file.read_bytes()]
    results = fitted.predict(forms, index=tmp_path / "p.shelf", k=3, batch_size=1)  # same bits row by row
    assert {r.hits for r in results} == {results[0].hits} and results[1].query == file
    assert fitted.predict(sketches=file, uri=tmp_path / "p.shelf", k=3) == results[:1]
    assert fitted.predict([], tmp_path / "p.shelf") == []
    with pytest.raises(ConfigError, match="no index is named"):
        fitted.predict(file)
    Image.new("RGB", (40, 40), "white").save(tmp_path / "blank.png")
    (tmp_path / "bad.png").write_text("no picture")
    files = [file, tmp_path / "blank.png", tmp_path / "bad.png", file]
    found, errors = fitted.predict_files(files, tmp_path / "p.shelf", k=3, batch_size=1)
    assert [r.hits for r in found] == [results[0].hits] * 2
    assert ["blank.png" in str(errors[0]), "bad.png" in str(errors[1])] == [True, True]
    assert fitted.to("cpu").predict(file, tmp_path / "p.shelf", k=3) == results[:1]


def test_a_checkpoint_of_the_first_version_is_read(folder: Path, tmp_path: Path) -> None:
    """Its task was called ``room``, and every method took the hyper-parameters of the paper's loss."""
    new = SketchRetriever("classes", TOWER, image_size=64, width=16).fit(folder, **SHORT)
    tensors, config = load_checkpoint(new.save_pretrained(tmp_path / "new"), name="head")
    config["room"], config["hyper"] = config.pop("task"), {"lam": 0.4, "gamma": 1.0}
    old = SketchRetriever.from_pretrained(save_checkpoint(tmp_path / "old", tensors, config, name="head"))
    assert old.maker == new.maker and old.method == new.method


def test_a_fit_into_a_folder_is_measured(folder: Path, tmp_path: Path) -> None:
    retriever = SketchRetriever("quadruplet", TOWER, image_size=64, width=16).fit(folder, tmp_path, **SHORT)
    scores = json.loads((tmp_path / "scores.json").read_text())
    evaluation = retriever.evaluate(folder, compare=True)
    assert scores["scores"] == evaluation.row and evaluation.untouched is not None
    untouched = SketchRetriever("zero-shot", TOWER, image_size=64).evaluate(folder).row
    assert scores["untouched"] == untouched == evaluation.untouched.row
    assert evaluation.table().columns == ["metric", "trained", "tower untouched"]
    with pytest.raises(ConfigError, match="unknown split 'val'; use one of test, validation, train"):
        retriever.evaluate(folder, split="val")
