"""Contact sheets, the export to folders, and the command that makes both."""

import json

import numpy as np
import pytest

from wildsight.cli import main
from wildsight.compression.evaluation.questions import read_source as read_questions
from wildsight.continual.distillation_targets import _folder
from wildsight.datasets.masks import read_mask as load_mask
from wildsight.errors import ConfigError
from wildsight.estimators import TASKS, resolve
from wildsight.fusion.data import read_mask, read_source
from wildsight.images import load_image, load_labels, load_values
from wildsight.world import sets
from wildsight.world.export import EXPORTS, export
from wildsight.world.products import CATEGORIES, DEFECTS
from wildsight.world.sheets import (
    SHEETS,
    compose,
    grounding_sheet,
    products_sheet,
    scene_in_words,
    scenes_sheet,
    sheet,
)


def test_sheets_have_a_cell_for_each_picture():
    wide, tall = products_sheet(size=32).size
    beside = wide - 32 * (1 + len(DEFECTS))  # names of the rows; 18 pixels above hold those of the columns
    assert 30 < beside < 100 and tall == 18 + 64 * len(CATEGORIES)
    assert compose([[np.zeros((8, 8, 3), np.uint8)] * 2]).size == (16, 8)
    assert scenes_sheet(rows=2, columns=3, size=32).size == (96, 64)
    assert grounding_sheet(size=32).size == (160, 150)
    assert len(SHEETS) == 9
    with pytest.raises(ConfigError, match="choose from"):
        sheet("moon")


def test_rows_and_columns_have_names():
    cells = [[np.zeros((40, 60, 3), np.uint8)] * 2] * 3
    named = np.asarray(compose(cells, across=("one", "two"), down=("a", "b", "c")))
    plain = np.asarray(compose(cells))
    tall, wide = plain.shape[:2]
    assert np.array_equal(named[-tall:, -wide:], plain)
    ink = named.min(2) < 128
    for column in range(2):
        assert ink[:-tall, -wide:][:, 60 * column : 60 * column + 60].any()
    for row in range(3):
        assert ink[-tall:, :-wide][40 * row : 40 * row + 40].any()
    assert named[:-tall, :-wide].min() == 255


def test_told_answers_about_its_picture():
    picture, caption, expression, question, answer = scene_in_words(3)
    assert picture.size == (256, 256)
    assert caption.startswith("a") and expression.startswith("the") and question.endswith("?")
    assert answer in ("yes", "no")


def test_exported_folders_hold_what_the_sets_hold(tmp_path):
    root = export("compositions", tmp_path / "pairs", count=1, size=32)
    folders = {p.name for p in (root / "train").iterdir()}
    assert len(folders) == 48
    assert folders.isdisjoint("_".join(p) for p in sets.held_out_pairs(0, 0.25))
    root = export("sketches", tmp_path / "sketches", count=1, size=32)
    assert (
        len(list((root / "photos").glob("*/*.png"))) == len(list((root / "sketches").glob("*/*.png"))) == 20
    )
    assert len(json.loads((root / "classes.json").read_text())["test"]) == 5
    root = export("categories", tmp_path / "categories", count=2, size=32)
    rows = (root / "truth.csv").read_text().splitlines()
    assert rows[0] == "path,label" and len(rows) == 1 + len(list((root / "unlabelled").iterdir()))
    root = export("outlines", tmp_path / "outlines", count=3, size=32)
    made = sets.outlines(size=32, count=3)
    assert np.array_equal(load_mask(root / "masks/0002.png"), made.masks[2])
    assert np.array_equal(np.asarray(load_image(root / "images/0001.png")), made.images[1])


def test_exported_readings_keep_their_units(tmp_path):
    root = export("modalities", tmp_path / "modalities", count=4, size=32)
    made = sets.modalities(size=32, count=4)
    settings = json.loads((root / "fusion.json").read_text())
    assert tuple(settings["classes"]) == made.classes
    assert np.array_equal(load_labels(root / "test/masks/0003.png"), made.masks[3])
    for name in ("depth", "lidar", "thermal"):
        full = settings["modalities"][name]["full_scale"]
        read = load_values(root / "train" / name / "0001.png", full_scale=full)
        assert np.abs(read[..., 0] - made.inputs[name][1, ..., 0]).max() < 1e-4


def test_exported_labels_say_what_the_set_says(tmp_path):
    root = export("grounding", tmp_path / "grounding", count=3, size=32)
    made = sets.grounding(size=32, count=3)
    rows = [json.loads(line) for line in (root / "labels.jsonl").read_text().splitlines()]
    asked = [row for row in rows if row["expression"]]
    assert tuple(row["expression"] for row in asked) == made.expressions
    assert len(rows) == sum(map(len, made.boxes))
    for row, boxes in zip(asked, made.boxes, strict=True):
        assert np.allclose(row["centre"], boxes[0].centre, atol=1e-4)
        assert np.allclose(row["size"], boxes[0].size, atol=1e-4)
    line = (root / "calib/000002.txt").read_text().split()
    assert line[0] == "P2:" and np.allclose(float(line[1]), made.intrinsics[2, 0, 0], atol=1e-5)
    root = export("questions", tmp_path / "questions", count=5, size=32)
    assert len((root / "questions.jsonl").read_text().splitlines()) == 5
    assert [s.load().size for s in read_questions(root).samples] == [(32, 32)] * 5
    root = export("captions", tmp_path / "captions", count=2, size=32)
    rows = [json.loads(line) for line in (root / "captions.jsonl").read_text().splitlines()]
    assert [len(row["captions"]) for row in rows] == [3, 3]
    read = _folder(root, 10)  # what the continual task's reference corpus reads
    assert [text for _, text in read] == [row["captions"][1] for row in rows]
    assert all((root / row["image"]).is_file() for row in rows)


READ_BY = {
    "compositions": "composition",
    "sketches": "retrieval",
    "categories": "discovery",
    "tasks": "continual",
    "modalities": "fusion",
    "saliency": "fusion",
    "grounding": "spatial",
    "outlines": "segmentation",
    "questions": "compression",
    "products": "anomaly",
}


@pytest.mark.parametrize("name", READ_BY)
def test_a_task_reads_its_export(name, tmp_path, capsys):
    assert set(EXPORTS) == {*READ_BY, "captions"}
    count = {"grounding": 8, "compositions": 2, "tasks": 2, "questions": 2, "products": 2}.get(name, 4)
    side = 64 if name == "products" else 32  # a scratch is thinner than a pixel of 32
    assert run("export", name, tmp_path / name, "--count", count, "--size", side) == 0
    found = check(READ_BY[name], tmp_path / name)
    assert not found, capsys.readouterr().out


def check(task, folder):
    return [str(p) for p in resolve(TASKS[task].check)(str(folder))]


def test_failures_are_conditions_of_the_test_scenes(tmp_path, capsys):
    failing = ("--failure", "night", "--failure", "dead:depth")
    for name in ("modalities", "saliency"):
        root = tmp_path / name
        assert run("export", name, root, "--count", 4, "--size", 32, *failing) == 0
        assert not check("fusion", root)
        data = read_source(root)
        conditions = {s.condition: s for s in data.part("test")}
        assert set(conditions) == {"clear", "night", "dead:depth"} and len(data.part("train")) == 3
        made = sets.modalities(size=32, count=4, failure="night")
        truth = made.saliency if name == "saliency" else made.masks
        assert data.found.task == ("saliency" if name == "saliency" else "segmentation")
        assert np.array_equal(read_mask(conditions["night"], data.found), truth[3])
        assert not load_values(conditions["dead:depth"].pictures["depth"], full_scale=12000).any()
    assert run("export", "modalities", tmp_path / "x", "--failure", "rain") == 2
    assert run("export", "sketches", tmp_path / "x", "--failure", "night") == 2
    error = capsys.readouterr().err
    assert "choose from night, fog" in error and "export modalities or saliency" in error
    assert not (tmp_path / "x").exists()


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(["world", *map(str, words)])
    return int(stop.value.code or 0)


def test_the_command_draws_and_exports(tmp_path, capsys):
    assert run("show", "scenes", "--out", tmp_path / "sheets", "--format", "webp") == 0
    assert load_image(tmp_path / "sheets/world-scenes.webp").size == (640, 384)
    assert run("export", "products", tmp_path / "products", "--count", 1, "--size", 32) == 0
    assert (tmp_path / "products/bolt/train/good/000.png").is_file()
    assert set(EXPORTS) >= {"products", "tasks", "compositions"}
    assert run("show", "moon", "--out", tmp_path) == 2
    assert run("show", "scenes", "--out", tmp_path, "--format", "gif") == 2
    assert run("export", "moon", tmp_path / "x") == 2
    error = capsys.readouterr().err
    assert "choose from" in error and "give png, jpg or webp" in error
    assert run("export", "sketches", tmp_path / "x", "--count", 0) == 2
    assert not (tmp_path / "x").exists()


def test_an_export_replaces_an_earlier_one_and_nothing_else(tmp_path, capsys):
    precious = tmp_path / "precious"
    precious.mkdir()
    for _ in range(2):  # an empty folder, then an earlier export
        assert run("export", "outlines", precious, "--count", 2, "--size", 32) == 0
    for name in ("outlines", "products"):
        thesis = tmp_path / name / "thesis.txt"
        thesis.parent.mkdir()
        thesis.touch()
        assert run("export", name, thesis.parent, "--count", 2, "--size", 32) == 2
        assert thesis.is_file() and len(list(thesis.parent.iterdir())) == 1
    assert capsys.readouterr().err.count("holds something that would be lost") == 2


@pytest.mark.slow
def test_every_sheet_and_export_is_made(tmp_path):
    for name in SHEETS:
        assert min(sheet(name).size) > 300
    root = export("tasks", tmp_path / "tasks", count=1, size=32)
    listed = json.loads((root / "tasks.json").read_text())["tasks"]
    for task in listed:
        assert {p.name for p in (root / task["name"] / "train").iterdir()} == set(task["classes"])
