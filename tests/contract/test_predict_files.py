"""Many files: the bad ones are named, the good ones answered as by `predict`, in their order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from contract.objects import Subject, close, each_object, fitted
from wildsight.errors import WildSightError


def copied(picture: Any, folder: Path, name: str) -> Any:
    """A copy of a picture, or of every sensor's."""
    if isinstance(picture, dict):
        return {sensor: copied(file, folder / sensor, name) for sensor, file in picture.items()}
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(picture, folder / name))


def first_file(picture: Any) -> Path:
    return next(iter(picture.values())) if isinstance(picture, dict) else picture


@each_object
def test_bad_files_among_good(subject: Subject, tmp_path: Path) -> None:
    one, two = subject.inputs(2)
    cut, text = copied(one, tmp_path / "cut", "cut.png"), copied(one, tmp_path / "text", "text.png")
    first_file(cut).write_bytes(first_file(cut).read_bytes()[:60])
    first_file(text).write_text("no picture")
    gone = copied(one, tmp_path / "gone", "gone.png")
    first_file(gone).unlink()
    results, errors = subject.predict_files(fitted(subject.name), [cut, one, text, gone, two])
    assert close(subject.said(results), subject.said(subject.predict(fitted(subject.name), [one, two])))
    assert len(errors) == 3 and all(isinstance(e, WildSightError) for e in errors)
    for name, error in zip(("cut.png", "text.png", "gone.png"), errors, strict=True):
        assert name in str(error)


@each_object
def test_no_file(subject: Subject) -> None:
    assert subject.predict_files(fitted(subject.name), []) == ([], [])


@each_object
def test_only_bad_files(subject: Subject, tmp_path: Path) -> None:
    bad = copied(subject.inputs(1)[0], tmp_path, "bad.png")
    first_file(bad).write_bytes(b"")
    results, errors = subject.predict_files(fitted(subject.name), [bad])
    assert results == [] and len(errors) == 1
