"""The forms of the app hold every parameter of every method, and mean by them what Python means."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest

pytest.importorskip("gradio")

import gradio as gr

from wildsight.app import forms
from wildsight.app.models import DATA, Chosen, Preset, source_state
from wildsight.app.tabs import TABS, compression
from wildsight.errors import ConfigError
from wildsight.estimators.description import parameters
from wildsight.estimators.registry import hyper_names
from wildsight.estimators.tasks import TASKS
from wildsight.training import TrainConfig

PRESETS: dict[str, Preset] = {
    name: importlib.import_module(f"wildsight.app.tabs.{name}").PRESET
    for name in TABS
    if name not in ("inspect", "compression")
}


def test_every_task_has_a_form() -> None:
    assert {*PRESETS, "compression"} == set(TASKS)


@pytest.mark.parametrize("task", PRESETS)
def test_every_parameter_of_every_method_is_in_the_form_with_its_help(task: str) -> None:
    kind = PRESETS[task].kind
    for name, method in kind.methods.items():
        sections = {s.name: s for s in forms.estimator_sections(PRESETS[task], name)}
        shown = {p.name.split(".")[0] for p in sections[f"hyper:{name}"].parameters}
        assert shown == set(hyper_names(method)), (task, name)
        settings = {p.name.split(".")[0] for p in sections["settings"].parameters}
        assert settings | {*forms.FIXED, *PRESETS[task].apart} == set(hyper_names(kind.settings_type))
        assert [p.name for s in sections.values() for p in s.parameters if not p.help] == []
        assert forms.refusal({}, list(sections.values())) == "", "what the form begins with is accepted"


def test_every_parameter_of_both_sides_of_compression_is_in_the_form() -> None:
    from wildsight.compression import CACHE_METHODS, SELECTORS

    for visual in SELECTORS:
        first, *_ = compression.sections(visual, "prefixkv")
        assert {p.name for p in first.parameters} == set(hyper_names(SELECTORS[visual]))
    for cache in CACHE_METHODS:
        section = compression.sections("scope", cache)[1]
        assert {p.name for p in section.parameters} == set(hyper_names(CACHE_METHODS[cache]))
    assert compression.sections("scope", "prefix/snapkv")[1].name == "cache:snapkv"


def typed(preset: Preset, method: str, section: str, name: str, raw: Any) -> tuple[dict[str, Any], str]:
    """What a form remembers of a field, and what it says."""
    sections = forms.estimator_sections(preset, method)
    chosen = next(s for s in sections if s.name == section)
    parameter = next(p for p in chosen.parameters if p.name == name)
    values = forms.remembered({}, chosen, parameter, raw)
    return values, forms.refusal(values, sections)


def test_what_is_typed_is_checked_at_once_and_reaches_the_object() -> None:
    anomaly = PRESETS["anomaly"]
    values, text = typed(anomaly, "ras", "hyper:ras", "d", 31)
    assert "Cannot be used" in text or values == {"hyper:ras": {"d": 31}}
    values, text = typed(anomaly, "patchcore", "hyper:patchcore", "coreset", "0.5")
    assert (values, text) == ({"hyper:patchcore": {"coreset": 0.5}}, "")
    made = Chosen(method="patchcore", values=values).made(anomaly)
    assert made.hyper == {"coreset": 0.5} and made.settings.calibration == 0.3
    values, text = typed(anomaly, "patchcore", "settings", "neck.image_size", 64)
    assert text == "" and Chosen(values=values).made(anomaly).settings.neck.image_size == 64
    assert typed(anomaly, "patchcore", "settings", "seed", 0)[0] == {"settings": {}}, "a default is no change"
    values, text = typed(anomaly, "patchcore", "hyper:patchcore", "neighbours", "many")
    assert text.startswith("**Cannot be used:** hyper-parameter neighbours='many' is not a whole number")
    values, text = typed(anomaly, "ras", "training", "epochs", "3")
    assert text == "" and Chosen(method="ras", values=values).training(anomaly)["epochs"] == 3
    assert typed(anomaly, "ras", "training", "epochs", "")[0] == {"training": {}}


def test_a_preset_of_one_method_is_not_given_to_another() -> None:
    spatial = PRESETS["spatial"]
    assert Chosen().training(spatial) == spatial.training
    assert Chosen(method="text").training(spatial) == {}
    shown = {p.name: p.default for p in forms.estimator_sections(spatial, "llmi3d")[0].parameters}
    assert shown["pool"] == spatial.hyper["pool"]


def test_a_field_fits_what_it_holds() -> None:
    from wildsight.discovery.methods.nngcd import NNGCD

    with gr.Blocks():
        fields = {p.name: forms.field_of(p, p.default) for p in parameters(NNGCD)}
        settings = {
            p.name: forms.field_of(p, p.default) for p in parameters(PRESETS["fusion"].kind.settings_type)
        }
    assert isinstance(fields["strict_code"], gr.Checkbox) and isinstance(fields["l"], gr.Number)
    assert isinstance(fields["act"], gr.Textbox)
    assert isinstance(settings["encoders"], gr.Dropdown) and settings["encoders"].value == "frozen"
    assert settings["fine"].value == forms.NOTHING and settings["strides"].value == "[4, 8, 16]"
    training = parameters(TrainConfig)
    with gr.Blocks():
        blank = [forms.field_of(p, None, blank=True) for p in training]
    assert {type(f) for f in blank} == {gr.Textbox} and {f.value for f in blank} <= {"", None}
    endless = next(p for p in parameters(PRESETS["discovery"].kind.methods["simgcd"]) if p.name == "sigma")
    with gr.Blocks():
        assert forms.field_of(endless, math.inf).value == "inf"


def test_data_that_are_not_named_are_a_sentence(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="no data are named"):
        Chosen(DATA).model(PRESETS["anomaly"])
    before = source_state(f"mvtec-ad:{tmp_path}")
    (tmp_path / "a.png").write_bytes(b"1")
    assert source_state(f"mvtec-ad:{tmp_path}") != before
