"""The verbs have the same names and the same parameters in every task."""

from __future__ import annotations

import inspect
from inspect import Parameter, signature
from typing import Any

from contract.objects import Subject, each_object


def parameters(verb: Any) -> dict[str, Parameter]:
    return {n: p for n, p in signature(verb).parameters.items() if n != "self"}


def defaults(verb: Any, **wanted: Any) -> None:
    """``verb`` has these parameters with these defaults."""
    there = parameters(verb)
    lost = [n for n in wanted if n not in there]
    assert not lost, f"no parameter {', '.join(lost)}; it has {', '.join(there)}"
    wrong = {n: there[n].default for n, v in wanted.items() if there[n].default != v}
    assert not wrong, f"other defaults: {wrong}"


@each_object
def test_constructor(subject: Subject) -> None:
    """(method, backbone, hyper=None, device="auto", seed=0, and the task's own)."""
    there = parameters(subject.cls.__init__)
    assert list(there)[:2] == ["method", "backbone"]
    assert all(there[n].default is not Parameter.empty for n in ("method", "backbone"))
    params = subject.make().get_params()
    assert {"method", "backbone", "hyper", "device", "seed"} <= set(params)


@each_object
def test_device_is_a_parameter(subject: Subject) -> None:
    defaults(subject.cls.__init__, device="auto")


@each_object
def test_fit(subject: Subject) -> None:
    """fit(source, out=None, progress=True, **training)."""
    there = parameters(subject.cls.fit)
    assert next(iter(there)) == "source"
    assert any(p.kind is Parameter.VAR_KEYWORD for p in there.values())
    defaults(subject.cls.fit, out=None, progress=True)


@each_object
def test_predict(subject: Subject) -> None:
    """predict(pictures, ..., batch_size=None)."""
    assert next(iter(parameters(subject.cls.predict))) == "pictures"
    defaults(subject.cls.predict, batch_size=None)


@each_object
def test_predict_files(subject: Subject) -> None:
    """predict_files(files, ..., batch_size=None, progress=...)."""
    assert hasattr(subject.cls, "predict_files"), "no predict_files"
    there = parameters(subject.cls.predict_files)
    assert next(iter(there)) == "files" and "progress" in there
    defaults(subject.cls.predict_files, batch_size=None)


@each_object
def test_evaluate(subject: Subject) -> None:
    """evaluate(source, split="test", progress=...)."""
    there = parameters(subject.cls.evaluate)
    assert next(iter(there)) == "source" and "progress" in there
    defaults(subject.cls.evaluate, split="test")


@each_object
def test_what_a_checkpoint_is_loaded_with(subject: Subject) -> None:
    """save_pretrained(folder), from_pretrained(folder or hub id, revision=None, device=...), push_to_hub."""
    assert next(iter(parameters(subject.cls.save_pretrained))) == "folder"
    there = parameters(subject.cls.from_pretrained)
    assert {"revision", "device"} <= set(there), f"it has {', '.join(there)}"
    assert callable(getattr(subject.cls, "push_to_hub", None)), "no push_to_hub"


@each_object
def test_to(subject: Subject) -> None:
    assert callable(getattr(subject.cls, "to", None)), "no to(device)"
    assert list(parameters(subject.cls.to)) == ["device"]


@each_object
def test_an_object_says_what_it_is(subject: Subject) -> None:
    """``task``, ``methods`` and ``settings_type``, from which command, app and bench are built."""
    assert subject.cls.task == subject.name
    assert subject.method in subject.cls.methods
    assert inspect.isclass(subject.cls.settings_type)


@each_object
def test_every_parameter_is_documented(subject: Subject) -> None:
    for verb in ("fit", "predict", "evaluate"):
        call = getattr(subject.cls, verb)
        text = inspect.getdoc(call) or ""
        missing = [n for n in parameters(call) if n not in text]
        assert not missing, f"{verb} does not speak of {', '.join(missing)}"
