"""Where it runs: ``auto``, ``cpu``, or refused by name."""

from __future__ import annotations

import pytest
import torch

from contract.objects import Subject, each_object, equal, fitted
from wildsight.errors import ConfigError


@each_object
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_known_devices(subject: Subject, device: str) -> None:
    assert subject.make(device=device).get_params()["device"] == device


@each_object
def test_an_unknown_device_is_refused(subject: Subject) -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        subject.make(device="nosuch")


@each_object
def test_to_gives_the_object_back_and_changes_no_answer(subject: Subject) -> None:
    model = fitted(subject.name)
    before = subject.said(subject.predict(model, subject.inputs()[0]))
    assert model.to("cpu") is model
    assert equal(before, subject.said(subject.predict(model, subject.inputs()[0])))


@each_object
def test_to_refuses_an_unknown_device(subject: Subject) -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        fitted(subject.name).to("nosuch")


@each_object
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_answers_come_back_to_the_cpu(subject: Subject) -> None:
    moved = fitted(subject.name).to("cuda")
    try:
        subject.said(subject.predict(moved, subject.inputs()[0]))
    finally:
        moved.to("cpu")
