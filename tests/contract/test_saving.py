"""A checkpoint says what the object said, bit for bit, and is refused where it is not what it seems."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.objects import NAMES, SUBJECTS, Subject, each_object, equal, fitted
from wildsight.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of each object."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {n: Path(fitted(n).save_pretrained(root / n)) for n in NAMES}


@each_object
def test_predictions_are_the_same_bit_for_bit(subject: Subject, checkpoints: dict[str, Path]) -> None:
    picture = subject.inputs()[0]
    loaded = subject.cls.from_pretrained(checkpoints[subject.name])
    usual = subject.said(subject.predict(fitted(subject.name), picture))
    assert equal(usual, subject.said(subject.predict(loaded, picture)))


@each_object
def test_saved_again_it_is_the_same_file(
    subject: Subject, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = checkpoints[subject.name]
    again = Path(subject.cls.from_pretrained(folder).save_pretrained(tmp_path / "again"))
    weights = sorted(p.name for p in folder.glob("*.safetensors"))
    assert weights
    for name in weights:
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name


@each_object
def test_parameters_survive(subject: Subject, checkpoints: dict[str, Path]) -> None:
    """All but where it runs, which belongs to the machine."""
    loaded = subject.cls.from_pretrained(checkpoints[subject.name]).get_params()
    assert loaded | {"device": ""} == fitted(subject.name).get_params() | {"device": ""}


@each_object
def test_parameters_make_the_same_object(subject: Subject) -> None:
    model = subject.make()
    params = model.get_params()
    assert type(model)(**params).get_params() == params


@each_object
def test_a_checkpoint_of_another_object_is_refused(subject: Subject, checkpoints: dict[str, Path]) -> None:
    other = NAMES[(NAMES.index(subject.name) + 1) % len(NAMES)]
    with pytest.raises(CheckpointError):
        subject.cls.from_pretrained(checkpoints[other])


@each_object
def test_a_damaged_checkpoint_is_refused(
    subject: Subject, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(fitted(subject.name).save_pretrained(tmp_path / "damaged"))
    weights = next(folder.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        subject.cls.from_pretrained(folder)


@each_object
def test_what_is_not_fitted_is_not_saved(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fit"):
        subject.make().save_pretrained(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


@each_object
def test_a_checkpoint_has_a_card(subject: Subject, checkpoints: dict[str, Path]) -> None:
    assert SUBJECTS[subject.name].method in (checkpoints[subject.name] / "README.md").read_text()
