"""Odd pictures: what is no number is refused, what is only dull is answered or refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract.objects import Subject, each_object, fitted
from wildsight.errors import ImageError, WildSightError

SIDE = 48


def everywhere(subject: Subject, pixels: np.ndarray) -> Any:
    return dict.fromkeys(subject.scene, pixels) if subject.scene else pixels


@each_object
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_no_number_is_refused(subject: Subject, value: str) -> None:
    pixels = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    pixels[3, 4] = float(value)
    with pytest.raises(ImageError, match=r"NaN|infinity|finite"):
        subject.predict(fitted(subject.name), everywhere(subject, pixels))


@each_object
@pytest.mark.parametrize("level", [0, 127, 255])
def test_a_constant_picture_is_answered_or_refused(subject: Subject, level: int) -> None:
    picture = everywhere(subject, np.full((SIDE, SIDE, 3), level, np.uint8))
    try:
        said = subject.said(subject.predict(fitted(subject.name), picture))
    except WildSightError as error:
        assert "\n" not in str(error) and error.hint
        return
    numbers = [np.asarray(v, float) for v in said[0] if not isinstance(v, str | tuple)]
    assert all(np.isfinite(n).all() for n in numbers)


@each_object
@pytest.mark.parametrize("shape", ["empty", "five channels"])
def test_no_picture_at_all_is_refused(subject: Subject, shape: str) -> None:
    pixels = np.zeros((0, 0, 3) if shape == "empty" else (SIDE, SIDE, 5), np.uint8)
    with pytest.raises(WildSightError):
        subject.predict(fitted(subject.name), everywhere(subject, pixels))


@each_object
def test_a_picture_of_another_size_is_taken(subject: Subject) -> None:
    pixels = (np.arange(40 * 56 * 3).reshape(40, 56, 3) % 251).astype(np.uint8)
    assert len(subject.predict(fitted(subject.name), everywhere(subject, pixels))) == 1
