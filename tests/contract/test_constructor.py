"""What a constructor refuses, and when: at once, naming the word that was meant."""

from __future__ import annotations

import pytest

from contract.objects import SUBJECTS, Subject, each_object, found
from wildsight.errors import ConfigError


def meant(error: pytest.ExceptionInfo[ConfigError], word: str) -> bool:
    return f"did you mean {word!r}" in str(error.value)


@each_object
def test_a_misspelt_method_is_refused_with_the_nearest(subject: Subject) -> None:
    with pytest.raises(ConfigError) as error:
        subject.make(f"{subject.method}e", hyper={})
    assert meant(error, subject.method), error.value


@each_object
def test_a_misspelt_setting_is_refused_with_the_nearest(subject: Subject) -> None:
    wrong, word = subject.wrong_setting
    with pytest.raises(ConfigError) as error:
        subject.make(**{wrong: 1})
    assert meant(error, word), error.value


@each_object
def test_a_misspelt_hyper_parameter_is_refused(subject: Subject) -> None:
    """In the constructor, not after minutes of features."""
    with pytest.raises(ConfigError, match=subject.typo[0]):
        subject.make(hyper={subject.typo[0]: 1})


@each_object
def test_a_misspelt_hyper_parameter_is_refused_with_the_nearest(subject: Subject) -> None:
    wrong, word = subject.typo
    with pytest.raises(ConfigError) as error:
        subject.make(hyper={wrong: 1})
    assert meant(error, word), error.value


@each_object
def test_a_backbone_that_is_not_there_is_refused(subject: Subject, tmp_path) -> None:
    with pytest.raises(ConfigError) as error:
        subject.cls(subject.method, str(tmp_path / "nosuch"))
    assert "nosuch" in str(error.value)


@each_object
def test_hyper_parameters_may_be_the_dataclass(subject: Subject) -> None:
    """What a mapping says, the method's own dataclass says too."""
    config = found(subject.config)(**subject.hyper)
    assert subject.make(hyper=config).get_params()["hyper"] == subject.make().get_params()["hyper"]


@each_object
def test_the_dataclass_of_another_method_is_refused(subject: Subject) -> None:
    other = "retrieval" if subject.name != "retrieval" else "discovery"
    with pytest.raises(ConfigError):
        subject.make(hyper=found(SUBJECTS[other].config)())
    with pytest.raises(ConfigError, match="is no method here"):
        subject.make(found(SUBJECTS[other].config)(), hyper={})


@each_object
def test_the_dataclass_of_a_sibling_is_refused(subject: Subject) -> None:
    """Also where one method's class is derived from the other's, as LoRA from SPT."""
    methods = subject.cls.methods
    for sibling, kind in methods.items():
        if sibling != subject.method:
            with pytest.raises(ConfigError, match=f"given as {kind.__name__}"):
                methods.create(subject.method, kind())


@each_object
def test_training_settings_are_checked_before_the_pictures(subject: Subject, tmp_path) -> None:
    """A misspelt setting of `fit` is refused with the nearest, though the source is not there either."""
    with pytest.raises(ConfigError) as error:
        subject.make().fit(str(tmp_path / "nosuch"), progress=False, epoch=1)
    assert meant(error, "epochs"), error.value
