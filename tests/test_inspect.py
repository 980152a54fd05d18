"""The inspection on the world's products: every step, done again, cut short, and told wrong things."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from wildsight.anomaly import AnomalyDetector, AnomalyResult
from wildsight.cli import main
from wildsight.datasets.masks import read_mask as load_mask
from wildsight.errors import CheckpointError, ConfigError, DataError, WildSightError
from wildsight.images import from_array
from wildsight.segmentation import AnomalySegmenter
from wildsight.workflows.inspect import (
    Project,
    clear,
    describe,
    describing,
    group,
    learn,
    look,
    name,
    open_project,
    start,
    write_report,
)
from wildsight.workflows.inspect.crops import cropped
from wildsight.workflows.inspect.project import GOOD, Find, Looked, absolute_source
from wildsight.workflows.inspect.reporting import RED, SIDE, YELLOW, outlined
from wildsight.workflows.inspect.steps import SMALLEST, _carry
from wildsight.world.products import CATEGORIES, render_product

pytestmark = pytest.mark.slow
SIZE = 64


def draw(folder: Path, count: int, first: int, defect: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        image = render_product("washer", seed, defect=defect, size=SIZE).image
        from_array(image).save(folder / f"{defect or 'good'}-{seed}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("line")
    draw(root / "good" / "normal", 24, 0)
    draw(root / "new", 3, 500)
    draw(root / "new", 5, 600, "stain")
    draw(root / "new", 5, 700, "missing_part")
    (root / "new" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def project(pictures: Path) -> Project:
    opened = start(pictures / "project", str(pictures / "good"), false_alarm_rate=0.1, progress=False)
    look(opened, [pictures / "new"])
    return opened


def copied(project: Project, folder: Path) -> Project:
    """The project as it is on disk, in a folder of its own."""
    shutil.copytree(project.folder, folder)
    return open_project(folder)


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_looking_finds_outlines_and_lists_what_it_cannot_read(project: Project) -> None:
    rejected = [p for p in project.looked.values() if p.anomalous]
    assert len(project.looked) == 13
    assert sum("good-" not in p.file for p in rejected) >= 5
    for find, looked in project.finds().items():
        assert project.crop(find).is_file()
        assert project.mask(find).is_file()
        assert looked.anomalous
    assert len(project.errors) == 1
    assert "broken.png" in next(iter(project.errors.values()))


def test_looking_again_changes_nothing_and_the_state_is_on_disk(project: Project, pictures: Path) -> None:
    before = digest(pictures / "new")
    look(project, [pictures / "new"])
    again = open_project(project.folder)
    assert again == project
    assert digest(pictures / "new") == before
    assert len(again.errors) == 1


def test_a_file_that_is_not_there_is_listed_and_the_others_are_looked_at(
    project: Project, pictures: Path
) -> None:
    opened = copied(project, pictures / "one-missing")
    good = pictures / "new" / "good-500.png"
    assert [p.file for p in look(opened, [pictures / "gone.png", good])] == [str(good)]
    assert any("gone.png: no such file" in error for error in opened.errors.values())
    (pictures / "shut.png").mkdir()
    with pytest.raises(DataError, match="no picture found"):
        look(opened, [pictures / "shut.png"])


def test_a_repaired_picture_is_no_longer_listed(project: Project, pictures: Path) -> None:
    opened, file = copied(project, pictures / "one-repaired"), pictures / "torn.png"
    file.write_bytes(b"")
    assert look(opened, [file]) == []
    assert str(file) in opened.errors
    shutil.copyfile(pictures / "new" / "good-501.png", file)
    assert len(look(opened, [file])) == 1
    assert str(file) not in open_project(opened.folder).errors
    assert len(opened.errors) == 1


def test_groups_are_named_and_names_survive_a_regrouping(project: Project) -> None:
    assert group(project, backbone="nano-conv", k=4) >= 2
    assert set(project.groups) == set(project.finds())
    kinds = {str(row["group"]) for row in project.groups.values()} - {GOOD}
    first = max(kinds, key=lambda k: sum(row["group"] == k for row in project.groups.values()))
    count = name(project, first, "blemish")
    assert count >= 1
    named = dict(project.names)
    group(project, backbone="nano-conv", k=4)
    assert project.names == named
    assert all(project.groups[f]["group"] == "blemish" for f in named)
    one = next(f for f in project.finds() if f not in named)
    assert name(project, one, "dent") == 1
    with pytest.raises(ConfigError, match="no group or find is called 'nothing'"):
        name(project, "nothing", "dent")
    with pytest.raises(ConfigError, match="empty name"):
        name(project, one, " ")


@pytest.mark.parametrize("method", ["nngcd", "simgcd"])
def test_a_trained_method_groups_as_well(project: Project, tmp_path: Path, method: str) -> None:
    opened = copied(project, tmp_path / "p")
    assert group(opened, method=method, backbone="nano-conv", k=3, epochs=1) >= 1
    assert set(opened.groups) == set(opened.finds())
    with pytest.raises(ConfigError, match="unknown method 'nosuch'"):
        group(opened, method="nosuch")
    with pytest.raises(ConfigError, match="trains nothing"):
        group(opened, backbone="nano-conv", k=3, epochs=1)


@pytest.fixture
def short_lesson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(describing.TRAINING_SET, "per_pair", 2)
    monkeypatch.setitem(describing.TRAINING_SET, "size", 32)
    monkeypatch.setitem(describing.TRAINING_SET, "training", {"epochs": 1})


def test_finds_are_described_in_two_words(
    project: Project, tmp_path: Path, short_lesson: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    opened = copied(project, tmp_path / "p")
    assert describe(opened, progress=False) == len(opened.finds())
    for said in open_project(opened.folder).words.values():
        assert said["attribute"] in describing.STATES.values()
        assert said["object"] in CATEGORIES
        assert 0 <= said["probability"] <= 1
    taught = next((tmp_path / "cache" / "inspect").glob("describer-*"))
    before = digest(taught)
    (tmp_path / "words.txt").write_text("# what we see\nscratch washer\n\nmissing washer\n")
    describe(opened, words=tmp_path / "words.txt", progress=False)
    assert digest(taught) == before
    assert {w["attribute"] for w in opened.words.values()} <= {"scratch", "missing"}
    (tmp_path / "words.txt").write_text("mouldy washer\n")
    with pytest.raises(ConfigError, match="'mouldy' was not taught, and nano-conv reads no text"):
        describe(opened, words=tmp_path / "words.txt", progress=False)
    describe(opened, model=str(taught), progress=False)
    first = next(iter(opened.words.values()))
    first["known"] = True
    assert f"{first['attribute']} {first['object']}" in write_report(opened).read_text()


def test_what_cannot_describe_is_said(project: Project, tmp_path: Path) -> None:
    opened, words = copied(project, tmp_path / "p"), tmp_path / "words.txt"
    with pytest.raises(DataError, match="cannot be read"):
        describe(opened, words=words)
    for text, match in (("", "holds no pair"), ("a b c", "line 1 is no pair")):
        words.write_text(text)
        with pytest.raises(DataError, match=match):
            describe(opened, words=words)
    with pytest.raises(ConfigError, match="no method or folder is called 'nosuch'"):
        describe(opened, model="nosuch")
    opened.looked.clear()
    with pytest.raises(DataError, match="no find to describe"):
        describe(opened)


def test_names_are_learned_and_answered(project: Project) -> None:
    if not project.names:
        group(project, backbone="nano-conv", k=3)
    finds = list(project.finds())
    for find in finds[:3]:
        name(project, find, "blemish")
    assert "blemish" in learn(project, progress=False, epochs=1)
    assert set(project.answers) == set(finds)
    assert all(0 <= a["confidence"] <= 1 for a in project.answers.values())
    assert {a["name"] for a in project.answers.values()} <= {GOOD, *project.names.values()}
    with pytest.raises(DataError, match="nothing was named"):
        learn(project, progress=False)
    assert open_project(project.folder).answers == project.answers


def test_a_name_that_no_find_carries_is_answered_no_more(project: Project, tmp_path: Path) -> None:
    opened = copied(project, tmp_path / "p")
    opened.names, opened.groups, opened.answers = {}, {}, {}
    shutil.rmtree(opened.learner, ignore_errors=True)
    finds = list(opened.finds())
    for number, find in enumerate(finds[:6]):
        name(opened, find, "blemish" if number % 2 else "dent")
    learn(opened, progress=False, method="zeroshot")
    opened.answers = {f: {"name": "dent", "confidence": 0.9} for f in finds}
    for find in finds[:6]:
        name(opened, find, "blemish")
    assert "dent" not in {a["name"] for a in opened.answers.values()}
    learn(opened, progress=False)
    assert {a["name"] for a in opened.answers.values()} <= {"blemish", GOOD}
    assert {opened.label(f) for f in finds} <= {"blemish", GOOD, "perhaps good"}
    taught = json.loads((opened.learner / "taught.json").read_text())
    assert set(taught) == {"blemish", GOOD}


def test_a_false_alarm_is_accepted_after_review(project: Project, tmp_path: Path) -> None:
    opened = copied(project, tmp_path / "p")
    opened.names, opened.groups, opened.answers = {}, {}, {}
    seen = next(p for p in opened.looked.values() if p.finds)
    finds = [f.id for f in seen.finds]
    assert opened.verdict(seen) == "rejected"
    opened.groups = {f: {"group": GOOD, "confidence": 1.0, "doubtful": False} for f in finds}
    assert opened.verdict(seen) == "rejected"  # a group is no review
    opened.answers = {f: {"name": GOOD, "confidence": 0.5} for f in finds}
    assert (opened.verdict(seen), opened.label(finds[0])) == ("rejected", "perhaps good")
    opened.groups[finds[0]]["group"] = "new_003"
    assert (opened.label(finds[0]), opened.said_by(finds[0])[0]) == ("new_003", "group")
    opened.answers = {f: {"name": GOOD, "confidence": 0.95} for f in finds}
    assert (opened.verdict(seen), opened.label(finds[0])) == ("rejected", "perhaps good")
    opened.answers = {}
    for find in finds:
        name(opened, find, GOOD)
    assert opened.verdict(seen) == "accepted after review"
    assert "Accepted after review" in write_report(opened).read_text()
    scores = json.loads((opened.folder / "scores.json").read_text())
    assert scores["accepted_after_review"] == 1
    assert scores["rejected"] == scores["anomalous"] - 1
    assert GOOD not in scores["kinds"]
    whole = replace(seen, finds=())
    assert opened.verdict(whole) == "rejected"


def test_a_name_is_taken_back(project: Project, tmp_path: Path) -> None:
    opened = copied(project, tmp_path / "p")
    opened.names, opened.groups, opened.answers = {}, {}, {}
    first, second, *_ = opened.finds()
    for find in (first, second):
        name(opened, find, "dent")
    assert clear(opened, first) == 1
    assert open_project(opened.folder).names == {second: "dent"}
    assert opened.label(first) == "not grouped"
    assert clear(opened, "dent") == 1
    assert open_project(opened.folder).names == {}
    with pytest.raises(ConfigError, match="no group or find is called 'dent'"):
        clear(opened, "dent")
    with pytest.raises(ConfigError, match="was not named by a person"):
        clear(opened, first)


def test_another_learner_is_begun_only_when_told(project: Project, tmp_path: Path) -> None:
    opened = copied(project, tmp_path / "p")
    opened.names, opened.groups = {}, {}
    shutil.rmtree(opened.learner, ignore_errors=True)
    finds = list(opened.finds())
    for find in finds[:2]:
        name(opened, find, "dent")
    learn(opened, progress=False, method="zeroshot")
    name(opened, finds[2], "dent")
    with pytest.raises(ConfigError, match="the learner's method is zeroshot; leave it out"):
        learn(opened, progress=False, method="mulki")
    assert set(learn(opened, progress=False, method="mulki", again=True, epochs=1)) == {"dent", GOOD}


def test_a_project_starts_again_in_its_own_folder(
    project: Project, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = copied(project, tmp_path / "p")
    opened.names, opened.groups = {}, {}
    find = next(iter(opened.finds()))
    name(opened, find, "dent")
    good = str(pictures / "good")
    with pytest.raises(ConfigError, match="holds a project; go on with it, learn anew with --again"):
        start(opened.folder, good)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not empty and holds no project"):
        start(tmp_path / "other", good, again=True)
    before = opened.fingerprint()
    renewed = start(opened.folder, good, again=True, false_alarm_rate=0.2, method="padim", progress=False)
    assert renewed.fingerprint() != before
    assert renewed.names == {find: "dent"}
    assert renewed.looked == opened.looked
    file = renewed.finds()[find].file
    assert look(renewed, [file])[0].detector == renewed.fingerprint()
    once = renewed.looked
    look(renewed, [file])
    assert renewed.looked == once


def test_a_start_that_was_killed_starts_again(project: Project, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    shutil.copytree(project.detector, tmp_path / "p" / "detector")
    (tmp_path / "p" / ".detector.xyz").mkdir()
    assert start(tmp_path / "p", str(pictures / "good"), progress=False).looked == {}


def test_the_page_mixes_no_sample_products(project: Project, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    from wildsight.app.tabs.inspect import default_folder, look_at, other_product

    washer, bolt = default_folder("washer"), default_folder("bolt")
    assert washer != bolt
    assert other_product(washer, "bolt") == bolt
    assert other_product("my/project", "bolt") == "my/project"
    opened = copied(project, tmp_path / "p")
    opened.settings["good"] = "mvtec-ad:/cache/product-bolt"
    opened.save()
    with pytest.raises(ConfigError, match="this project inspects the sample product bolt; choose that"):
        look_at(str(opened.folder), "washer", None, [str(pictures / "new" / "good-500.png")])
    assert open_project(opened.folder).looked == project.looked


def test_names_go_to_the_find_in_the_same_place(project: Project, tmp_path: Path) -> None:
    opened = copied(project, tmp_path / "p")
    seen = next(p for p in opened.looked.values() if p.finds)
    first = seen.finds[0]
    left, top, right, bottom = first.box
    near = Find(f"{first.id[:-1]}8", (left, top, right + 0.1 * (right - left), bottom), 9, 1.0)
    far = Find(f"{first.id[:-1]}9", (right + 1, bottom + 1, right + 9, bottom + 9), 9, 1.0)
    for finds, names in (((far, near), {near.id: "dent"}), ((far,), {})):
        opened.names = {first.id: "dent"}
        _carry(opened, replace(seen, finds=(first,)), replace(seen, finds=finds))
        assert opened.names == names
        assert first.id not in opened.groups


def test_a_project_holds_from_another_directory(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(pictures / "good", tmp_path / "good")
    shutil.copytree(pictures / "new", tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    opened = start("p", "good", false_alarm_rate=0.1, progress=False)
    look(opened, ["new"])
    assert opened.settings["good"] == str(tmp_path / "good")
    monkeypatch.chdir(pictures)
    moved = open_project(tmp_path / "p")
    assert all(Path(p.file).is_file() for p in moved.looked.values())
    assert all(Path(f).is_absolute() for f in moved.errors)
    assert group(moved, backbone="nano-conv", k=3) >= 1  # reads the good pictures
    (pictures / "set").mkdir()
    assert absolute_source("mvtec-ad:set") == f"mvtec-ad:{pictures / 'set'}"
    assert absolute_source("world") == "world"


def spot(side: int) -> AnomalyResult:
    """Of a picture of 224 pixels a side: one hot square of ``side`` pixels."""
    heat = np.zeros((224, 224), np.float32)
    heat[64 : 64 + side, 64 : 64 + side] = 2.0
    return AnomalyResult(None, 2.0, 1.0, True, heat, None)


@pytest.mark.parametrize(("side", "finds"), [(5, 0), (56, 1)])
def test_what_is_smaller_than_a_few_pixels_is_no_find(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, finds: int
) -> None:
    opened, file = copied(project, tmp_path / "p"), tmp_path / "small.png"
    from_array(np.full((16, 16, 3), 90, np.uint8)).save(file)
    monkeypatch.setattr(AnomalyDetector, "predict", lambda *_, **__: [spot(side)])
    seen = look(opened, [file])[0]
    assert len(seen.finds) == finds
    assert all(f.area >= SMALLEST for f in seen.finds)
    assert opened.verdict(seen) == "rejected"


KILLED = """
import os, signal, sys
from wildsight.workflows.inspect import look, open_project, steps
calls = []
def killed(project, looked):
    calls.append(looked)
    if len(calls) == 4:  # the crops of this picture are written, the state is not
        os.kill(os.getpid(), signal.SIGKILL)
steps._answer = killed
look(open_project(sys.argv[1]), sys.argv[2:])
"""


def bare(project: Project, folder: Path) -> Project:
    """The project as it was before the first look."""
    folder.mkdir()
    shutil.copytree(project.detector, folder / "detector")
    shutil.copyfile(project.folder / "project.json", folder / "project.json")
    return open_project(folder)


def timeless(project: Project) -> list[Looked]:
    return [replace(p, when="") for p in open_project(project.folder).looked.values()]


def test_a_look_that_was_killed_goes_on_to_the_same_end(
    project: Project, pictures: Path, tmp_path: Path
) -> None:
    whole, torn = bare(project, tmp_path / "whole"), bare(project, tmp_path / "torn")
    files = [*sorted((pictures / "new").glob("stain-*.png")), pictures / "new" / "good-500.png"]
    look(whole, files)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(torn.folder), *map(str, files)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(open_project(torn.folder).looked) == 3
    look(open_project(torn.folder), files)
    assert timeless(torn) == timeless(whole)
    assert len(timeless(torn)) == len(files)
    for part in ("crops", "masks"):
        assert digest(torn.folder / part) == digest(whole.folder / part)


def test_looking_again_redoes_a_step_and_keeps_what_is_known(project: Project, tmp_path: Path) -> None:
    opened = copied(project, tmp_path / "p")
    first = next(iter(opened.finds()))
    name(opened, first, "dent")
    before, pixels = timeless(opened), digest(opened.folder / "crops")
    seen = opened.finds()[first]
    opened.looked[seen.sha] = replace(seen, when="2000-01-01 00:00:00+00:00")
    opened.crop(first).unlink()
    again = look(opened, [seen.file], again=True)
    assert again[0].when > "2001"
    assert timeless(opened) == before
    assert digest(opened.folder / "crops") == pixels
    assert opened.names[first] == "dent"


def test_an_adapter_draws_the_outlines(pictures: Path, tmp_path: Path) -> None:
    segmenter = AnomalySegmenter("zero-shot")
    segmenter.save_pretrained(tmp_path / "adapter")
    good = str(pictures / "good")
    opened = start(
        tmp_path / "p", good, adapter=str(tmp_path / "adapter"), false_alarm_rate=0.1, progress=False
    )
    files = sorted((pictures / "new").glob("stain-*.png"))[:3]
    look(open_project(opened.folder), files)
    finds = open_project(opened.folder).finds()
    assert finds
    for find, looked in finds.items():
        row = next(f for f in looked.finds if f.id == find)
        masked = segmenter.predict(looked.file, boxes=[row.box])[0].masks[0]
        drawn = load_mask(opened.mask(find))
        assert drawn.sum() == row.area
        assert (drawn == masked).mean() > 0.99


def test_a_crop_lies_inside_the_picture_and_shows_enough_of_it() -> None:
    shades = np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    crop = np.asarray(cropped(from_array(shades), (62.0, 62.0, 63.0, 63.0)))
    assert crop.shape == (96, 96, 3)
    assert int(crop.min()) <= 50  # sixteen pixels a side
    assert int(crop.max()) == 63
    tiny = from_array(np.full((5, 9, 3), 7, np.uint8))
    assert np.asarray(cropped(tiny, (0.0, 0.0, 1.0, 1.0))).max() == 7


def test_outlines_can_be_seen_in_the_report(project: Project, tmp_path: Path) -> None:
    opened, file = copied(project, tmp_path / "p"), tmp_path / "large.png"
    from_array(np.zeros((2000, 2000, 3), np.uint8)).save(file)
    mask = np.zeros((2000, 2000), np.uint8)
    mask[500:900, 500:900] = 255
    seen = next(p for p in opened.looked.values() if p.finds)
    find = replace(seen.finds[0], box=(450.0, 450.0, 950.0, 950.0))
    from_array(mask).save(opened.mask(find.id))
    drawn = np.asarray(outlined(opened, replace(seen, file=str(file), finds=(find,))))
    assert drawn.shape == (SIDE, SIDE, 3)
    assert (drawn == YELLOW).all(2).sum() > 2 * 4 * 0.2 * SIDE * 0.9  # two pixels wide at least, all around
    assert (drawn == RED).all(2).any()


def test_an_adapter_that_is_none_is_said_at_the_start(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        start(tmp_path / "p", str(pictures / "good"), adapter=str(tmp_path / "none"), progress=False)
    assert not (tmp_path / "p").exists()


def test_the_report_says_what_was_found(project: Project) -> None:
    page = write_report(project).read_text()
    assert "Inspection report" in page
    assert "broken.png" in page
    scores = json.loads((project.folder / "scores.json").read_text())
    assert scores["looked"] == 13
    assert scores["anomalous"] == sum(p.anomalous for p in project.looked.values())


def test_the_report_has_what_a_plant_files(project: Project, pictures: Path, tmp_path: Path) -> None:
    opened = copied(project, tmp_path / "line7")
    draw(tmp_path / "shift", 2, 900)
    start_of_day = datetime.now().astimezone().replace(microsecond=0)
    seen = look(opened, [tmp_path / "shift"], batch=" lot 4711 ")
    assert [p.batch for p in seen] == ["lot 4711", "lot 4711"]
    assert all(datetime.fromisoformat(p.when) >= start_of_day for p in seen)
    opened.names, opened.answers = {}, {}
    first, second, *others = opened.finds()
    name(opened, first, "dent")
    opened.answers = {second: {"name": "dent", "confidence": 0.75}}
    opened.groups = {others[0]: {"group": "dent", "confidence": 0.6, "doubtful": False}}
    page = write_report(opened).read_text()
    assert "line7" in page
    assert f"<td>lot 4711</td><td>{seen[0].when}" in page
    accepted = [Path(p.file).name for p in opened.looked.values() if opened.verdict(p) == "accepted"]
    assert all(file in page for file in accepted)
    assert "<td>dent</td><td>3</td>" in page
    assert "<td>1</td><td>1</td><td>0.75</td><td>1</td>" in page
    rows = list(csv.DictReader((opened.folder / "results.csv").open()))
    said = {r["find"]: (r["said_by"], r["confidence"]) for r in rows}
    assert said[first] == ("person", "")
    assert said[second] == ("learner", "0.75")
    assert said[others[0]] == ("group", "0.6")
    assert {r["batch"] for r in rows if "shift" in r["file"]} == {"lot 4711"}


def test_a_folder_that_is_no_project_or_another_version(tmp_path: Path, project: Project) -> None:
    with pytest.raises(DataError, match="holds no project"):
        open_project(tmp_path)
    with pytest.raises(ConfigError, match="is not empty"):
        start(project.folder, "world")
    (tmp_path / "project.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        open_project(tmp_path)


DAMAGES: dict[str, list[str]] = {
    "project.json": ["null", "[]", "{", "{}", '{"format": true, "good": "x"}', '{"format": 2}'],
    "looked.json": [
        "null",
        "[]",
        "{}",
        '{"pictures": [], "not_read": null}',
        '{"pictures": {}, "not_read": {}}',
    ],
    "groups.json": [
        "null",
        "[]",
        '{"id": {}}',
        '{"id": {"group": "a", "confidence": "b", "doubtful": false}}',
    ],
    "names.json": ["null", "[]", '{"id": 3}'],
    "answers.json": ["null", "[]", '{"id": {}}', '{"id": {"name": "x", "confidence": null}}'],
}
FIELDS = {
    "score": ["x", None, float("nan")], "threshold": [0, True], "finds": [None, {}, ["x"]],
    "sha": [1], "file": [None], "more": [1],
    "id": ["../../x", 7], "box": [None, [0, 0, 1], [0, 0, 0, 0]], "area": ["x"],
}  # fmt: skip


@pytest.mark.parametrize("file", DAMAGES)
def test_a_damaged_file_is_named_in_one_sentence(project: Project, tmp_path: Path, file: str) -> None:
    opened = copied(project, tmp_path / "p")
    for text in DAMAGES[file]:
        (opened.folder / file).write_text(text)
        with pytest.raises(WildSightError, match=file):
            open_project(opened.folder)


@pytest.mark.parametrize("field", FIELDS)
def test_a_damaged_row_of_a_picture_is_named_in_one_sentence(
    project: Project, tmp_path: Path, field: str
) -> None:
    file = copied(project, tmp_path / "p").folder / "looked.json"
    whole = json.loads(file.read_text())
    for value in FIELDS[field]:
        row = next(r for r in whole["pictures"] if r["finds"])
        changed = {**row, field: value} if field not in row["finds"][0] else row
        if field in row["finds"][0]:
            changed = {**row, "finds": [{**row["finds"][0], field: value}]}
        file.write_text(json.dumps({**whole, "pictures": [changed]}))
        with pytest.raises(DataError, match=r"looked.json: is damaged: .*; restore a copy"):
            open_project(file.parent)


def test_what_may_be_deleted_and_what_the_first_format_had(project: Project, tmp_path: Path) -> None:
    opened = copied(project, tmp_path / "p")
    for part in ("groups", "names", "answers"):
        (opened.folder / f"{part}.json").unlink()
    settings = json.loads((opened.folder / "project.json").read_text())
    (opened.folder / "project.json").write_text(json.dumps({**settings, "format": 1}))
    looked = json.loads((opened.folder / "looked.json").read_text())
    (opened.folder / "looked.json").write_text(json.dumps({**looked, "not_read": ["a.png: torn"]}))
    old = open_project(opened.folder)
    assert (old.looked, old.groups, old.names, old.errors) == (project.looked, {}, {}, {})


def test_damaged_pictures_of_a_project_stop_nothing(project: Project, tmp_path: Path) -> None:
    opened = copied(project, tmp_path / "p")
    opened.names, opened.groups = {}, {}
    first, second, third, *_ = opened.finds()
    opened.crop(first).write_bytes(b"torn")
    opened.mask(first).write_bytes(b"torn")
    opened.crop(second).unlink()
    opened.mask(second).unlink()
    assert "Inspection report" in write_report(opened).read_text()
    for find in (first, second, third):
        name(opened, find, "blemish")
    with pytest.raises(DataError, match="no name has 2 finds yet"):
        learn(opened, progress=False)
    opened.learner.mkdir(exist_ok=True)
    (opened.learner / "taught.json").write_text("[]")
    for find in opened.finds():
        name(opened, find, "blemish")
    with pytest.raises(DataError, match=r"taught.json: is damaged"):
        learn(opened, progress=False)


def test_too_few_finds_are_said(pictures: Path, tmp_path: Path) -> None:
    opened = start(tmp_path / "p", str(pictures / "good"), progress=False)
    with pytest.raises(DataError, match="0 finds are too few"):
        group(opened)


def test_the_command(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> int:
        try:
            main(["inspect", *words])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    folder = str(tmp_path / "p")
    assert run("start", folder, str(pictures / "good"), "--false-alarm-rate", "0.1") == 0
    assert run("look", folder, str(pictures / "new"), "--batch", "lot 1") == 2  # broken.png is among them
    assert "REJECTED" in capsys.readouterr().out
    assert run("look", folder, str(pictures / "new" / "stain-*.png")) == 1
    known = str(pictures / "good" / "normal" / "good-0.png")
    capsys.readouterr()
    assert run("look", folder, known) == 0
    assert "broken.png" not in capsys.readouterr().out
    assert run("look", folder, known, str(pictures / "gone.png")) == 2
    assert run("group", folder, "-k", "3", "--backbone", "nano-conv") == 0
    assert run("start", folder, str(pictures / "good")) == 2
    assert run("name", folder, "nothing") == 2
    assert run("name", folder, "new_000", "blot") == 0
    assert run("name", folder, "blot", "--clear") == 0
    assert "finds have no name now" in capsys.readouterr().out
    assert run("name", folder, "nothing", "word") == 2
    assert "the groups are" in capsys.readouterr().err
    assert run("report", folder) == 0
    assert (Path(folder) / "report.html").is_file()
