"""Sorting a folder from the command line: nothing moves unasked, nothing is overwritten, all is undone."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.cli import main
from wildsight.discovery.sorting import Action, apply_plan, make_plan, undo
from wildsight.errors import ConfigError, DataError

PALETTE = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "yellow": (230, 220, 40)}


def picture(colour: str, seed: int) -> Image.Image:
    """Noise around a colour, one stripe pattern per colour."""
    draw = np.random.default_rng(seed)
    base = np.array(PALETTE[colour], float) * np.ones((40, 40, 1))
    base[:: 2 + 3 * list(PALETTE).index(colour)] = 255
    return Image.fromarray(np.clip(base + draw.normal(0, 12, base.shape), 0, 255).astype(np.uint8))


def make_folder(root: Path, per_class: int = 6) -> Path:
    """Known red and green; unlabelled pictures of all four colours, in two folders; a truth table."""
    truth = [("path", "label")]
    for number, colour in enumerate(PALETTE):
        for i in range(per_class):
            if colour in ("red", "green"):
                file = root / "labelled" / colour / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture(colour, 1000 + 100 * number + i).save(file)
            file = root / "unlabelled" / "ab"[i % 2] / f"{number}{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(colour, 100 * number + i).save(file)
            truth.append((file.relative_to(root).as_posix(), colour))
    (root / "truth.csv").write_text("\n".join(map(",".join, truth)))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "sorted"
    command("sort", str(folder), "--out", str(out), "--k", "4", "--image-size", "48")
    return out


def command(*words: str) -> int:
    """Exit code of ``wildsight discovery ...``."""
    try:
        main(["discovery", *words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def files_below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_sort_writes_tables_sheets_and_a_report_and_moves_nothing(folder: Path, run: Path) -> None:
    before = files_below(folder)
    rows = table(run / "results.csv")
    assert len(rows) == 24 and list(rows[0])[:4] == ["path", "group", "kind", "name"]
    assert {r["name"] for r in rows} == {"red", "green", "new_000", "new_001"}
    names = [r["name"] for r in table(run / "groups.csv")]
    assert names == ["green", "red", "new_000", "new_001"]
    assert len(list((run / "sheets").glob("*.jpg"))) == 4
    page = (run / "report.html").read_text()
    assert "Co-occurrence" in page and "v2" in page and "http" not in page.split("</style>")[1][:200]
    assert files_below(folder) == before


def test_apply_copies_under_edited_names_and_undo_leaves_nothing(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(folder)
    text = (run / "groups.csv").read_text()
    try:
        (run / "groups.csv").write_text(text.replace("new_000", "sky"))
        assert command("apply", str(run), "--to", str(tmp_path / "out")) == 0
    finally:
        (run / "groups.csv").write_text(text)
    made = files_below(tmp_path / "out")
    kinds = {"/".join(name.split("/")[:2]) for name in made if name != "undo.json"}
    assert {"known/red", "known/green", "new/sky", "new/new_001"} <= kinds
    assert len(made) == 25 and files_below(folder) == before
    assert command("apply", str(run), "--to", str(tmp_path / "out")) == 2
    assert "is not empty" in capsys.readouterr().err
    assert command("undo", str(tmp_path / "out")) == 0
    assert not (tmp_path / "out").exists() and files_below(folder) == before


def test_moved_pictures_come_back_byte_for_byte(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "mine", 3)
    before = files_below(folder)
    words = ["sort", str(folder), "--out", str(tmp_path / "run"), "--k", "4", "--image-size", "48"]
    assert command(*words, "--apply", "--move") == 0
    assert not list((folder / "unlabelled").rglob("*.png"))
    assert command("undo", str(tmp_path / "run" / "folders")) == 0
    assert files_below(folder) == before and not (tmp_path / "run" / "folders").exists()


def test_two_folders_may_be_named(folder: Path, tmp_path: Path) -> None:
    words = [str(folder / "labelled"), str(folder / "unlabelled"), "--image-size", "48"]
    assert command("sort", *words, "--k", "3-5", "--out", str(tmp_path)) == 0
    assert len(table(tmp_path / "results.csv")) == 24
    assert "How many classes" in (tmp_path / "report.html").read_text()


def test_a_folder_without_any_label_is_sorted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat, run = tmp_path / "flat", tmp_path / "run"
    flat.mkdir()
    for file in (folder / "unlabelled").rglob("*.png"):
        (flat / file.name).write_bytes(file.read_bytes())
    assert command("sort", str(flat), "--out", str(run), "--image-size", "48", "--apply") == 0
    rows = table(run / "results.csv")
    assert len(rows) == 24 and {r["kind"] for r in rows} == {"new"}
    colours = {(r["path"][0], r["group"]) for r in rows}
    assert len(colours) == len({r["group"] for r in rows}) == 4, "the number is found, and each colour is one"
    assert "0 of them known classes" in capsys.readouterr().out
    assert len(list((run / "folders" / "new").rglob("*.png"))) == 24
    assert command("sort", str(flat), "--out", str(tmp_path / "two"), "--image-size", "48", "--k", "2") == 0
    assert len({r["group"] for r in table(tmp_path / "two" / "results.csv")}) == 2
    assert command("fit", str(flat), "--out", str(tmp_path / "trained")) == 2
    assert "needs a labelled class" in capsys.readouterr().err


def test_a_known_class_called_like_a_group_keeps_its_name_to_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = make_folder(tmp_path / "mine", 3), tmp_path / "run"
    (folder / "labelled" / "red").rename(folder / "labelled" / "new_000")
    assert command("sort", str(folder), "--out", str(run), "--k", "4", "--image-size", "48", "--apply") == 0
    assert [r["name"] for r in table(run / "groups.csv")] == ["green", "new_000", "new_001", "new_002"]
    said = capsys.readouterr().out
    for row in table(run / "groups.csv"):
        assert f"{row['name']}: {row['pictures']}" in said
    kinds = {(r["kind"], r["name"]) for r in table(run / "results.csv")}
    made = {tuple(p.relative_to(run / "folders").parts[:2]) for p in (run / "folders").rglob("*.png")}
    assert len({name for _, name in kinds}) == len(kinds) == 4
    assert {(kind, name) for kind, name in made if kind != "doubtful"} <= kinds


def pair(folder: Path) -> tuple[Path, Path]:
    """A folder of pictures and a target beside it."""
    (folder / "in").mkdir()
    return folder / "in", folder / "out"


def test_an_interrupted_apply_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path, out = pair(tmp_path)
    for name in "abc":
        (tmp_path / name).write_text(name)
    plan = [Action(tmp_path / n, out / "new" / n, True) for n in "abc"]
    done: list[int] = []

    def stop(count: int) -> None:
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_plan(plan, out, progress=stop)
    assert not (tmp_path / "a").exists() and (tmp_path / "c").exists()
    assert undo(out).count == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_without_hard_links_nothing_is_overwritten_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    tmp_path, out = pair(tmp_path)
    (tmp_path / "a").write_text("a")
    apply_plan([Action(tmp_path / "a", out / "x" / "a", True)], out)
    assert (out / "x" / "a").read_text() == "a" and not (tmp_path / "a").exists()
    (tmp_path / "a").write_text("another")
    left = undo(out)
    assert left.count == 0 and "another file" in left.kept[0][1]
    assert (tmp_path / "a").read_text() == "another" and (out / "x" / "a").exists()


def test_undo_keeps_a_changed_copy_and_the_last_copy(tmp_path: Path) -> None:
    tmp_path, out = pair(tmp_path)
    for name in "ab":
        (tmp_path / name).write_text(name)
    plan = [Action(tmp_path / n, out / "known" / n, False) for n in "ab"]
    apply_plan(plan, out)
    (out / "known" / "a").write_text("edited")
    (tmp_path / "b").unlink()
    left = undo(out)
    assert left.count == 0 and {p.name for p, _ in left.kept} == {"a", "b"}
    assert (out / "known" / "a").exists() and (out / "undo.json").exists()


def test_names_that_meet_stay_apart_and_bad_ones_are_refused(tmp_path: Path) -> None:
    rows = [{"path": f"{d}/x.png", "group": "3", "name": "new_000"} for d in ("a", "b", "C")]
    rows[2]["path"] = "c/X.PNG"
    plan = make_plan(rows, {}, ["red"], root=tmp_path, to=tmp_path / "out")
    assert [a.target.name for a in plan][:2] == ["x.png", "x~2.png"]
    assert len({str(a.target).casefold() for a in plan}) == 3
    joined = make_plan(rows[:1], {"3": "red"}, ["red"], root=tmp_path, to=tmp_path / "out")
    assert joined[0].target.parent.parts[-2:] == ("known", "red")
    for bad in ("../x", "", ".hidden", "a/b"):
        with pytest.raises(ConfigError, match="folder"):
            make_plan(rows, {"3": bad}, [], root=tmp_path, to=tmp_path / "out")


def test_a_link_is_copied_never_moved(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_text("pixels")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "real.png")
    row = {"path": "in/link.png", "group": "0", "name": "red"}
    plan = make_plan([row], {}, ["red"], root=tmp_path, to=tmp_path / "out", move=True)
    apply_plan(plan, tmp_path / "out")
    assert (tmp_path / "in" / "link.png").is_symlink()
    assert (tmp_path / "out" / "known" / "red" / "link.png").read_text() == "pixels"


def test_a_target_among_the_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("a")
    plan = [Action(tmp_path / "in" / "a", tmp_path / "in" / "out" / "a", False)]
    with pytest.raises(DataError, match="among the pictures"):
        apply_plan(plan, tmp_path / "in" / "out")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--k", "1"], "below the 2 known classes"),
        (["--k", "99"], "asks for 97 new groups of 24"),
        (["--k", "few"], "give auto"),
        (["--method", "magic"], "unknown method 'magic'"),
        (["--doubt", "3"], "outside [0, 1]"),
    ],
)
def test_bad_settings_are_one_sentence(
    folder: Path, tmp_path: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run"), "--image-size", "48"]
    assert command("sort", str(folder), *out, *words) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_check_and_estimate_k(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check", str(folder)) == 0
    assert command("estimate-k", str(folder), "--high", "6", "--image-size", "48") == 0
    assert "of them known" in capsys.readouterr().out
    broken = make_folder(tmp_path / "broken", 2)
    (broken / "unlabelled" / "a" / "bad.png").write_text("no picture")
    (broken / "unlabelled" / "twin.png").write_bytes((broken / "labelled" / "red" / "0.png").read_bytes())
    assert command("check", str(broken)) == 1
    text = capsys.readouterr().out
    assert "2 problems" in text and "not a picture" in text and "which is labelled red" in text


def test_edited_names_are_not_written_over(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, words = tmp_path / "run", ["--image-size", "48", "--out", str(tmp_path / "run")]
    assert command("sort", str(folder), *words, "--k", "6") == 0
    for name in ("groups.csv", "results.csv"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace("new_000", "sky", 1))
        before = files_below(run)
        assert command("sort", str(folder), *words, "--k", "4") == 2
        assert f"edited in {name}" in capsys.readouterr().err and files_below(run) == before
        (run / name).write_text(text)
    (run / "groups.csv").write_text((run / "groups.csv").read_text().replace("new_000", "sky", 1))
    assert command("sort", str(folder), *words, "--k", "4", "--again") == 0
    assert len(table(run / "groups.csv")) == 4 and len(list((run / "sheets").glob("*.jpg"))) <= 4


def test_what_apply_would_refuse_is_refused_before_the_fit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    words = ["sort", str(folder), "--image-size", "48", "--out", str(tmp_path / "run"), "--apply", "--to"]
    assert command(*words, str(tmp_path / "full")) == 2
    assert "is not empty" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert command(*words, str(folder / "unlabelled" / "a" / "in")) == 2
    assert "lies among the pictures" in capsys.readouterr().err and not (tmp_path / "run").exists()
    rows = ["path,label", *(f"{p.as_posix()},a/b" for p in (folder / "labelled").rglob("*.png"))]
    rows += [f"{p.as_posix()}," for p in (folder / "unlabelled").rglob("*.png")]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "labels.csv").write_text("\n".join(rows))
    assert command("sort", str(tmp_path / "set"), "--out", str(tmp_path / "run")) == 2
    assert "'a/b' cannot name a folder" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_hyper_parameters_and_presets_are_options(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", str(folder), "--k", "4", "--image-size", "32", "--out", str(tmp_path)]
    small = ["--set", "hidden=8", "--set", "out=4", "--set", "epochs=1", "--set", "views=1"]
    assert command(*words, *small, "--preset", "text", "--set", "sigma=inf", "--set", "components=8") == 0
    saved = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    scores = json.loads((tmp_path / "scores.json").read_text())["hyper"]
    assert (scores["act"], scores["start"], scores["sigma"]) == ("rep_relu", "random", "inf")
    assert '"components": 8' in json.dumps(saved) and '"views": 1' in json.dumps(saved)
    assert "features of the projector" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "train" / "log.csv").is_file() and not (tmp_path / "train" / "state").exists()
    assert command(*words[:-1], str(tmp_path / "other"), *small, "--method", "simgcd") == 0
    capsys.readouterr()
    for bad, sentence in [
        (["--set", "speed=9"], "unknown option 'speed'"),
        (["--set", "t=warm"], "t='warm'"),
        (["--set", "crop=wide"], "crop='wide'"),
        (["--preset", "verse"], "no preset is called 'verse'"),
        (["--preset", "text", "--method", "cms"], "presets are for nngcd"),
    ]:
        assert command(*words, *bad) == 2
        assert sentence in capsys.readouterr().err


def test_estimate_k_says_what_sort_takes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder), "--image-size", "48"]
    assert command("estimate-k", *words) == 0
    said = capsys.readouterr().out
    assert command("sort", *words, "--out", str(tmp_path)) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert f"{scores['k']} classes (" in said
    for number, (mean, std) in scores["k_curve"]["curve"].items():
        assert f"{int(number):6d}  {mean:.4f} +- {std:.4f}" in said


def test_where_every_picture_is_doubtful_the_run_is_written(tmp_path: Path) -> None:
    folder, run = make_folder(tmp_path / "noise", 3), tmp_path / "run"
    for seed, file in enumerate(folder.rglob("*.png")):
        noise = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    words = ["--out", str(run), "--k", "4", "--image-size", "48", "--doubt", "1"]
    assert command("sort", str(folder), *words) == 0
    (scores,) = json.loads((run / "scores.json").read_text())["scores"]
    assert scores["sure"] == 0 and scores["sure_fixed_all"] is None
    assert command("evaluate", str(run / "checkpoint"), str(folder), "--out", str(run / "again")) == 0


def test_overlapping_folders_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("sort", str(folder / "labelled"), str(folder / "labelled" / "red")) == 2
    assert "overlaps" in capsys.readouterr().err


def test_check_and_help_load_no_torch(folder: Path) -> None:
    code = (
        "import sys\nfrom wildsight.cli import main\n"
        "for words in (['discovery', 'sort', '--help'], ['discovery', 'check', sys.argv[1]]):\n"
        "    try:\n        main(words)\n    except SystemExit as end:\n        assert not end.code\n"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'matplotlib') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("[]")
