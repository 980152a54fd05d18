"""An evaluation has rows, a protocol and errors, in one form for all tasks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from contract.objects import Subject, each_object, fitted
from wildsight import estimators
from wildsight.errors import ConfigError


@each_object
def test_rows(subject: Subject) -> None:
    """A list of mappings of names to numbers or words, JSON as they are."""
    rows = fitted(subject.name).evaluate(subject.source).rows
    assert rows and all(isinstance(r, Mapping) for r in rows)
    json.dumps(rows)
    assert all(any(isinstance(v, float) for v in r.values()) for r in rows)


@each_object
def test_rows_are_named_by_their_group(subject: Subject) -> None:
    evaluation = fitted(subject.name).evaluate(subject.source)
    if len(evaluation.rows) > 1:
        named = [isinstance(r.get(evaluation.group), str) for r in evaluation.rows]
        assert all(named), f"columns: {', '.join(evaluation.rows[0])}"


@each_object
def test_protocol(subject: Subject) -> None:
    """What was read and how it was split, with a hash, JSON as it is."""
    protocol = fitted(subject.name).evaluate(subject.source).protocol
    json.dumps(dict(protocol))
    assert "hash" in protocol, f"protocol has {', '.join(protocol)}"


@each_object
def test_one_class_for_all(subject: Subject) -> None:
    shared = getattr(estimators, "Evaluation", None)
    assert shared is not None, "wildsight.estimators has no Evaluation"
    assert isinstance(fitted(subject.name).evaluate(subject.source), shared)


@each_object
def test_a_damaged_picture_is_named_and_the_rest_scored(subject: Subject, tmp_path: Path) -> None:
    source = Path(shutil.copytree(subject.source, tmp_path / "set"))
    file = source / subject.damaged
    file.write_bytes(file.read_bytes()[:40])
    evaluation = fitted(subject.name).evaluate(source)
    assert evaluation.rows
    assert any(file.name in str(e) for e in evaluation.errors), evaluation.errors


@each_object
def test_twice_the_same(subject: Subject) -> None:
    one, two = (repr(fitted(subject.name).evaluate(subject.source).rows) for _ in range(2))
    assert one == two


@each_object
def test_an_unknown_split_is_refused(subject: Subject) -> None:
    with pytest.raises(ConfigError, match="tset"):
        fitted(subject.name).evaluate(subject.source, split="tset")


@each_object
def test_without_a_fit_evaluate_is_refused(subject: Subject) -> None:
    with pytest.raises(ConfigError, match="fit"):
        subject.make().evaluate(subject.source)
