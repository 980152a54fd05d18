"""`compress` is no estimator, but refuses as one does, and leaves the model as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compression_models import llava, llava_inputs
from contract.expected_failures import COMPRESS
from wildsight.compression import compress
from wildsight.errors import BudgetError, ConfigError, WildSightError


def known(name: str) -> Any:
    """The mark of a check that is known to fail."""
    reason = COMPRESS.get(name)
    return pytest.mark.xfail(reason=reason or "", strict=True) if reason else ()


@pytest.fixture(scope="module")
def model() -> Any:
    return llava()


def check(name: str, *values: Any) -> Any:
    return pytest.param(*values, id=name, marks=known(name))


MISSPELT = [
    check("visual", {"visual_tokens": 8, "visual": "vtc-clss"}, "vtc-cls"),
    check("kv", {"kv_cache": 0.5, "kv": "snapvk"}, "snapkv"),
    check("cache hyper", {"kv_cache": 0.5, "windoww": 3}, "window"),
    check("visual hyper", {"visual_tokens": 8, "windoww": 3}, None),
    check("positions", {"visual_tokens": 8, "positions": "compacted"}, "compact"),
]


@pytest.mark.parametrize("given, word", MISSPELT)
def test_a_misspelt_word_is_refused_at_once(model: Any, given: dict[str, Any], word: str | None) -> None:
    """With the nearest valid one, where there is one."""
    with pytest.raises(ConfigError) as error:
        compress(model, **given).remove()
    assert word is None or f"did you mean {word!r}" in str(error.value), error.value


@pytest.mark.parametrize("option", [check("a selector's parameter", {"K": 2})])
def test_every_parameter_of_a_method_is_reachable(model: Any, option: dict[str, Any]) -> None:
    """It is taken, and a word that is none is refused."""
    compress(model, visual_tokens=8, visual="vtc-cls", visual_options=option).remove()
    with pytest.raises(ConfigError, match="nosuch"):
        compress(model, visual_tokens=8, visual="vtc-cls", visual_options={"nosuch": 7}).remove()


@pytest.mark.parametrize("tokens", [0, -1, 17, 1.5, float("nan")])
def test_a_budget_out_of_range_is_refused(model: Any, tokens: float) -> None:
    """When the model is compressed, or in the first call, where a count depends on the picture."""
    with pytest.raises(WildSightError) as error, compress(model, visual_tokens=tokens):
        model.generate(**llava_inputs((1,), (5,)), max_new_tokens=1)
    assert isinstance(error.value, BudgetError | ConfigError)


def test_nothing_to_do_is_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match="nothing to compress"):
        compress(model)


def test_the_model_is_left_as_it_was(model: Any) -> None:
    before = {n: id(p) for n, p in model.named_parameters()}
    said, names = model.generate(**llava_inputs((1,), (5,)), max_new_tokens=3), set(model.__dict__)
    with compress(model, visual_tokens=8, kv_cache=0.5, kv="snapkv"):
        model.generate(**llava_inputs((1,), (5,)), max_new_tokens=3)
    assert before == {n: id(p) for n, p in model.named_parameters()} and names == set(model.__dict__)
    assert torch.equal(said, model.generate(**llava_inputs((1,), (5,)), max_new_tokens=3))


@pytest.mark.parametrize("given", [{"visual_tokens": 8}, {"kv_cache": 0.5, "kv": "snapkv"}], ids=str)
def test_twice_the_same(model: Any, given: dict[str, Any]) -> None:
    said = []
    for _ in range(2):
        with compress(model, **given):
            said.append(model.generate(**llava_inputs((1,), (5,)), max_new_tokens=4))
    assert torch.equal(*said)


def test_compressing_nothing_away_changes_nothing(model: Any) -> None:
    plain = model.generate(**llava_inputs((1,), (5,)), max_new_tokens=4)
    with compress(model, visual_tokens=1.0):
        assert torch.equal(plain, model.generate(**llava_inputs((1,), (5,)), max_new_tokens=4))
