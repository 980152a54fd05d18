"""Forms built from what an estimator says of itself: method, its parameters, settings, training, backbone.

The parameters of a method are laid out when the form is first opened, so that the page itself imports no
task. What a person changes is kept by section and checked at once by the code that the constructor runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from wildsight.app.models import CHECKPOINT, DATA, Chosen, Preset
from wildsight.errors import WildSightError
from wildsight.estimators.description import Parameter, parameters, unflattened
from wildsight.estimators.registry import Registry, configured

DEVICES = ["auto", "cpu", "cuda", "mps"]
NOTHING = "(none)"
FIXED = ("method", "backbone")


@dataclass(frozen=True)
class Section:
    """Parameters under one heading.

    Attributes:
        name: under which changed values are kept.
        title: the heading.
        parameters: in order.
        check: refuses changed values.
        blank: begins empty; an empty field leaves the method's own value in force.
    """

    name: str
    title: str
    parameters: Sequence[Parameter]
    check: Callable[[dict[str, Any]], Any]
    blank: bool = False


def method_section(registry: Registry[Any], method: str, name: str = "", **shown: Any) -> Section:
    """The parameters of a method.

    Args:
        registry: where it is registered.
        method: its name.
        name: of the section; ``hyper:METHOD`` by default.
        shown: values that the form begins with, where they are not the defaults.
    """
    found = [_with_default(p, shown) for p in parameters(registry[method])]
    title = f"Parameters of {method}" if found else f"{method} has no parameters"
    return Section(name or f"hyper:{method}", title, found, lambda v: registry.create(method, v))


def estimator_sections(preset: Preset, method: str) -> list[Section]:
    """Everything that can be set of a task's public object: hyper-parameters, settings, training."""
    from wildsight.training import TrainConfig

    kind = preset.kind
    hidden = (*FIXED, *preset.apart)
    shown = {k: v for k, v in preset.settings.items() if not isinstance(v, dict)}
    settings = [
        _with_default(p, shown) for p in parameters(kind.settings_type) if p.name.split(".")[0] not in hidden
    ]
    hyper = preset.hyper if method == preset.method else {}
    training = preset.training if method == preset.method else {}
    found = [method_section(kind.methods, method, **hyper)]
    names = {"method": method, "backbone": preset.backbone_name}

    def check(values: dict[str, Any]) -> Any:
        return configured(kind.settings_type, values, noun="setting", **names)

    found.append(Section("settings", "Settings", settings, check))
    if getattr(kind.methods[method], "trained", True):
        fields = [_with_default(p, training) for p in parameters(TrainConfig) if p.name != "seed"]
        title = "Training (an empty field leaves the method's own value)"
        found.append(Section("training", title, fields, lambda v: configured(TrainConfig, v), True))
    return found


def _with_default(parameter: Parameter, shown: dict[str, Any] | Any) -> Parameter:
    if parameter.name not in shown:
        return parameter
    return Parameter(parameter.name, parameter.hint, shown[parameter.name], parameter.help)


def field_of(parameter: Parameter, value: Any, blank: bool = False) -> Any:
    """The component that fits a parameter: a box to tick, a list, a number or a text."""
    words: dict[str, Any] = {
        "label": parameter.name,
        "info": parameter.help.replace("``", "") or None,
        "min_width": 180,
        "interactive": True,
    }
    if parameter.choices:
        shown = [NOTHING if c is None else c for c in parameter.choices]
        return gr.Dropdown(shown, value=NOTHING if value is None else value, **words)
    if parameter.forms == (bool,) and not blank:
        return gr.Checkbox(bool(value), **words)
    if parameter.forms in ((int,), (float,)) and not parameter.optional and not blank and _is_finite(value):
        precision = 0 if parameter.forms == (int,) else None
        return gr.Number(value, precision=precision, **words)
    return gr.Textbox(text_of(value), max_lines=1, **words)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def text_of(value: Any) -> str:
    """A value as the form shows it in a text field.

    >>> text_of((4, 8)), text_of(None), text_of("all"), text_of(float("inf"))
    ('[4, 8]', '', 'all', 'inf')
    """
    if value is None:
        return ""
    if isinstance(value, str) or (isinstance(value, float) and math.isinf(value)):
        return str(value)
    return json.dumps(value)


def value_of(parameter: Parameter, raw: Any) -> Any:
    """What a field of the form means.

    >>> value_of(Parameter("strides", tuple[int, ...], (4, 8)), "[4, 8, 16]")
    [4, 8, 16]
    >>> value_of(Parameter("omega", float | None, None), "")
    """
    if raw is None or raw == NOTHING or (isinstance(raw, str) and not raw.strip() and parameter.optional):
        return None
    if not isinstance(raw, str) or parameter.choices or parameter.forms == (str,):
        return raw
    try:
        return json.loads(raw)
    except ValueError:
        return raw.strip()


def remembered(values: dict[str, Any], section: Section, parameter: Parameter, raw: Any) -> dict[str, Any]:
    """The changed values of a form after a field changed; a field at its default is no change."""
    value, name = value_of(parameter, raw), parameter.name
    inside = {k: v for k, v in values.get(section.name, {}).items() if k != name}
    start = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    left = section.blank and (value is None or raw == "")
    if not left and (section.blank or value != start):
        inside[name] = value
    return {**values, section.name: inside}


def refusal(values: dict[str, Any], sections: Sequence[Section]) -> str:
    """Why the changed values cannot be used; empty where they can."""
    for section in sections:
        try:
            section.check(unflattened(values.get(section.name, {})))
        except WildSightError as fault:
            return f"**Cannot be used:** {fault}"
    return ""


def lay_out(sections: Sequence[Section], values: dict[str, Any], state: Any, note: Any) -> None:
    """The fields of every section, each of which remembers what is typed into it."""
    for section in sections:
        gr.Markdown(f"**{section.title}**")
        with gr.Row(equal_height=False, elem_classes="fields"):
            for parameter in section.parameters:
                given = values.get(section.name, {})
                start = None if section.blank and parameter.name not in given else parameter.default
                component = field_of(parameter, given.get(parameter.name, start), section.blank)

                def remember(raw: Any, now: Any, section: Any = section, parameter: Any = parameter) -> Any:
                    later = remembered(now or {}, section, parameter, raw)
                    return later, refusal(later, sections)

                component.change(
                    remember, [component, state], [state, note], queue=False, show_progress="hidden"
                )


@dataclass
class ModelForm:
    """Where a tab's model comes from, and how it is made; laid out where it is constructed.

    Attributes:
        preset: the tab's.
        ways: what the model may learn from beside the sample; `DATA` and `CHECKPOINT` by default.
        label: of the choice.
    """

    preset: Preset
    ways: Sequence[str] = (DATA, CHECKPOINT)
    label: str = "Model"
    inputs: list[Any] = field(init=False)
    kind: Any = field(init=False)
    folder: Any = field(init=False)
    source: Any = field(init=False)

    def __post_init__(self) -> None:
        preset = self.preset
        task = preset.task
        choices = [preset.sample, *self.ways]
        self.kind = gr.Radio(choices, value=preset.sample, label=self.label, visible=bool(self.ways))
        self.source = gr.Textbox(
            label="What it learns from, as the command takes it", visible=False,
            placeholder=f"a folder on this computer, or {preset.sources or 'NAME:PATH'}",
        )  # fmt: skip
        self.folder = gr.Textbox(label=f"Folder that `wildsight {task} fit` or *Save* wrote", visible=False)
        with gr.Accordion("Method, parameters, backbone", open=False) as box:
            with gr.Row():
                method = gr.Dropdown([preset.method], value=preset.method, label="Method", min_width=180)
                backbone = gr.Textbox(
                    preset.backbone_name, label="Backbone: hub id, folder or nano-*", min_width=180,
                    placeholder="the sample's own" if callable(preset.backbone) else "",
                )  # fmt: skip
                device = gr.Dropdown(
                    DEVICES, value="auto", label="Device", allow_custom_value=True, min_width=120
                )
            note = gr.Markdown()
            values = gr.State({})
            self._fields(box, method, values, note)
        self.inputs = [self.kind, self.folder, self.source, method, backbone, device, values]
        self.kind.change(self._visible, self.kind, [self.folder, self.source, box], show_progress="hidden")

    def _visible(self, kind: str) -> tuple[Any, ...]:
        return tuple(gr.update(visible=v) for v in (kind == CHECKPOINT, kind == DATA, kind != CHECKPOINT))

    def _fields(self, box: Any, method: Any, values: Any, note: Any) -> None:
        """Lay the parameters out when the form is opened, and again for another method."""

        def names() -> Any:
            return gr.update(choices=list(self.preset.kind.methods))

        box.expand(names, None, method, queue=False, show_progress="hidden")

        @gr.render(inputs=[method, values], triggers=[box.expand, method.change], queue=False)
        def fields(name: str, now: dict[str, Any]) -> None:
            lay_out(estimator_sections(self.preset, name or self.preset.method), now or {}, values, note)

    def asks(self, job: Callable[..., Any]) -> Callable[..., Any]:
        """``job`` of a `Chosen` and further values, as a job of this form's inputs and those values."""

        def run(*values: Any) -> Any:
            count = len(self.inputs)
            return job(Chosen(*values[:count]), *values[count:])

        run.__name__ = getattr(job, "__name__", "job")
        return run
