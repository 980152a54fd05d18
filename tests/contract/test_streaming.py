"""Many files in constant memory: answers one by one, rows on disk as they come, little held at a time."""

from __future__ import annotations

import csv
import gc
import json
import os
import signal
import weakref
from pathlib import Path
from typing import Any

import pytest

from contract.objects import Subject, close, each_object, fitted
from contract.test_predict_files import copied, first_file
from contract.test_runs import in_a_fork
from wildsight.errors import BudgetError, ConfigError, WildSightError
from wildsight.estimators import resolve
from wildsight.estimators.predictions import BEHIND


def folder_of(subject: Subject, out: Path, **options: Any) -> Any:
    return resolve(f"wildsight.{subject.name}.reports:{subject.name.title()}Predictions")(out, **options)


def answers(subject: Subject, files: list[Any], **options: Any) -> Any:
    more, named = subject.ask(files)
    return fitted(subject.name).iter_files(files, *more, **named, **options)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@each_object
def test_an_answer_per_file_in_order(subject: Subject, tmp_path: Path) -> None:
    """Bad files have their error in their place; threads and the size of a batch change nothing."""
    one, two = subject.inputs(2)
    bad = copied(one, tmp_path, "bad.png")
    first_file(bad).write_bytes(b"no picture")
    files = [one, bad, two]
    for options in ({"workers": 0}, {"workers": 3, "batch_size": 1}, {"batch_size": 2}):
        found = list(answers(subject, files, **options))
        assert [a.file for a in found] == files
        assert [a.error is None for a in found] == [True, False, True] and not found[1].results
        said = subject.said([found[0].result, found[2].result])
        assert close(said, subject.said(subject.predict(fitted(subject.name), [one, two])))
        with pytest.raises(WildSightError, match=r"bad\.png"):
            _ = found[1].result


@each_object
def test_a_wrong_number_is_refused_before_a_file_is_read(subject: Subject) -> None:
    for wrong in ({"batch_size": 0}, {"workers": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            answers(subject, [], **wrong)


@each_object
def test_the_folder_of_a_prediction(subject: Subject, tmp_path: Path) -> None:
    """The same file names, the same words for what could not be read, the environment."""
    one, two = subject.inputs(2)
    bad = copied(one, tmp_path / "set", "bad.png")
    first_file(bad).write_bytes(b"no picture")
    with folder_of(subject, tmp_path / "out", notes=["look out"]) as folder:
        for answer in answers(subject, [one, bad, two], side=folder.side):
            folder.take(answer)
        page = folder.finish().read_text(encoding="utf-8")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert len(scores["not_read"]) == 1 and "bad.png" in scores["not_read"][0]
    assert "python" in scores["environment"] and folder.entries in scores
    assert "look out" in page and "not read: " in page and "bad.png" in page and "Environment" in page
    rows = rows_of(tmp_path / "out")
    assert {list(row)[-1] for row in rows} == {"not_read"}
    (unread,) = (row for row in rows if row["not_read"])
    assert "bad.png" in next(iter(unread.values()))
    assert rows[0] is not unread and rows[-1] is not unread  # as the files lie
    again = resolve(f"wildsight.{subject.name}.reports:write_predictions")
    again([r for a in answers(subject, [one, two]) for r in a.results], ["bad"], tmp_path / "again")
    kept = [{k: v for k, v in row.items() if k != "not_read"} for row in rows if row is not unread]
    assert rows_of(tmp_path / "again") == kept


@each_object
def test_a_killed_prediction_leaves_the_rows_that_are_done(subject: Subject, tmp_path: Path) -> None:
    """And nothing of an earlier run that would seem to be its own."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("of an earlier run")
    pictures = subject.inputs(2) * 2
    fitted(subject.name)

    def run() -> None:
        with folder_of(subject, out) as folder:
            for number, answer in enumerate(answers(subject, pictures, batch_size=1, side=folder.side)):
                folder.take(answer)
                if number == 2:
                    os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_fork(run) == -signal.SIGKILL
    whole = [
        row for a in answers(subject, pictures[:3]) for r in a.results for row in folder_rows(subject, r)
    ]
    assert len(rows_of(out)) == len(whole) > 0
    assert not (out / "report.html").exists() and not (out / "scores.json").exists()


def folder_rows(subject: Subject, result: Any) -> list[Any]:
    return folder_of(subject, Path("unused")).rows(result)


@each_object
def test_what_is_held_does_not_grow(subject: Subject, tmp_path: Path) -> None:
    """As many results and pictures live at a time of fifteen files as of five."""
    most, size = [], 2
    for count in (5, 15):
        alive: list[weakref.ref[Any]] = []
        counts = []
        with folder_of(subject, tmp_path / str(count)) as folder:
            folder.shown, folder.gallery.most = 3, 3
            for answer in answers(subject, (subject.inputs(2) * count)[:count], batch_size=size, side=200):
                alive = [r for r in alive if r() is not None]
                alive += [weakref.ref(held) for held in (*answer.results, answer.picture) if held is not None]
                counts.append(len(alive))
                folder.take(answer)
                del answer
            folder.finish()
        most.append(max(counts))
        gc.collect()
    assert max(most) <= 2 * (2 * size + BEHIND + 3 + 2), most


def test_a_batch_that_memory_does_not_hold_is_halved() -> None:
    """From then on, with a warning; one that does not fit alone is refused."""
    from wildsight.devices import Halving

    halving, sizes = Halving("pictures"), []

    def call(part: Any) -> list[int]:
        sizes.append(len(part))
        if len(part) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")
        return list(part)

    with pytest.warns(UserWarning, match="going on with 2"):
        assert [x for done in halving.parts(call, range(9)) for x in done] == list(range(9))
    assert sizes == [9, 4, 2, 2, 2, 2, 1]
    sizes.clear()
    assert [x for done in halving.parts(call, range(4)) for x in done] == [0, 1, 2, 3] and sizes == [2, 2]

    def never(part: Any) -> list[int]:
        raise MemoryError

    with pytest.warns(UserWarning), pytest.raises(BudgetError, match="one of the pictures"):
        list(halving.parts(never, range(2)))
    with pytest.raises(RuntimeError, match="shapes"):
        list(halving.parts(lambda _: (_ for _ in ()).throw(RuntimeError("shapes differ")), [1]))
