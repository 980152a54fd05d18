"""What `predict` takes, and that how it is given changes no answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract.objects import Subject, close, each_object, equal, fitted
from wildsight.errors import ConfigError


def opened(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        picture.load()
        return picture.copy()


FORMS: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "PIL": opened,
    "array": lambda file: np.asarray(opened(file)),
    "bytes": lambda file: file.read_bytes(),
}


def as_form(form: str, picture: Any) -> Any:
    if isinstance(picture, dict):
        return {sensor: FORMS[form](file) for sensor, file in picture.items()}
    return FORMS[form](picture)


@each_object
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_gives_the_same(subject: Subject, form: str) -> None:
    picture, model = subject.inputs()[0], fitted(subject.name)
    usual = subject.said(subject.predict(model, picture))
    assert equal(usual, subject.said(subject.predict(model, as_form(form, picture))))


@each_object
def test_a_list_mixes_forms(subject: Subject) -> None:
    pictures, model = subject.inputs(2), fitted(subject.name)
    mixed = [as_form("PIL", pictures[0]), as_form("array", pictures[1])]
    usual = subject.said(subject.predict(model, pictures))
    assert equal(usual, subject.said(subject.predict(model, mixed)))


@each_object
def test_an_empty_list_gives_an_empty_list(subject: Subject) -> None:
    assert subject.predict(fitted(subject.name), []) == []


@each_object
def test_one_picture_is_the_same_in_a_batch(subject: Subject) -> None:
    pictures, model = subject.inputs(3), fitted(subject.name)
    together = subject.said(subject.predict(model, pictures))
    assert len(together) == len(pictures)
    for picture, said in zip(pictures, together, strict=True):
        assert close([said], subject.said(subject.predict(model, picture)))


@each_object
def test_the_batch_size_changes_no_answer(subject: Subject) -> None:
    pictures, model = subject.inputs(3), fitted(subject.name)
    usual = subject.said(subject.predict(model, pictures))
    assert close(usual, subject.said(subject.predict(model, pictures, batch_size=1)))


@each_object
def test_a_batch_size_below_one_is_refused(subject: Subject) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        subject.predict(fitted(subject.name), subject.inputs(1), batch_size=0)


@each_object
def test_predicting_twice_gives_the_same(subject: Subject) -> None:
    pictures, model = subject.inputs(1)[0], fitted(subject.name)
    assert equal(
        subject.said(subject.predict(model, pictures)), subject.said(subject.predict(model, pictures))
    )


@each_object
def test_without_a_fit_predict_is_refused(subject: Subject) -> None:
    with pytest.raises(ConfigError, match=r"call (fit|update)"):
        subject.predict(subject.make(), subject.inputs()[0])


@each_object
def test_results_are_json(subject: Subject) -> None:
    import json

    result = subject.predict(fitted(subject.name), subject.inputs()[0])[0]
    json.dumps(result.to_dict(), allow_nan=False)
