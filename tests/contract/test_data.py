"""Sets at the edge: one class, one picture. They work, or are refused in one sentence with a hint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from contract.objects import Subject, each_object
from wildsight.errors import WildSightError


@each_object
@pytest.mark.parametrize("case", ["one picture", "single class"])
def test_a_hard_set_is_learned_or_refused(subject: Subject, case: str, tmp_path: Path) -> None:
    source = Path(shutil.copytree(subject.source, tmp_path / "set"))
    subject.fewer[case](source)
    model = subject.make(**({"k": 2} if "k" in subject.settings() else {}))
    try:
        subject.fit(model, str(source))
        model.evaluate(str(source))
    except WildSightError as error:
        assert "\n" not in str(error), error
        assert error.hint, f"no hint: {error}"


@each_object
def test_a_folder_without_pictures_is_refused(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(WildSightError) as error:
        subject.fit(subject.make(), str(tmp_path))
    assert error.value.hint


@each_object
def test_a_folder_that_is_not_there_is_refused(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(WildSightError, match="nosuch"):
        subject.fit(subject.make(), str(tmp_path / "nosuch"))
