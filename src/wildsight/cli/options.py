"""Options as data, so that the same ones mean the same in every command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

Values = dict[str, Any]


@dataclass(frozen=True)
class Flag:
    """An option that one task has.

    Attributes:
        name: the parameter; ``image_size`` is written ``--image-size``.
        kind: its type.
        default: None leaves the estimator's own default in force.
        help: one line.
        to: the name that the estimator knows it by; default ``name``.
        spelled: how it is written, where that is not ``--name``.
        min: smallest value.
    """

    name: str
    kind: Any
    default: Any
    help: str
    to: str | None = None
    spelled: str | None = None
    min: float | None = None

    def parameter(self) -> inspect.Parameter:
        """The option as typer reads it."""
        words = () if self.spelled is None else (self.spelled,)
        option = typer.Option(*words, help=self.help, min=self.min)
        kind = self.kind if self.default is not None or self.kind is bool else self.kind | None
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=self.default,
            annotation=Annotated[kind, option],
        )

    def given(self, values: Values) -> Values:
        """The value under the estimator's name for it; nothing where it was left at None."""
        value = values.pop(self.name)
        return {} if value is None or value == [] else {self.to or self.name: value}


METHOD = Flag("method", str, None, "A name from `wildsight methods TASK`, also with options: NAME\\[a=1].")
BACKBONE = Flag("backbone", str, None, "Hub id (also NAME@REVISION/SUBFOLDER), local folder or nano-*.")
MOVED = Flag("backbone", str, None, "The backbone, if its folder has moved.")
DEVICE = Flag("device", str, None, "auto, cpu, cuda, cuda:1 or mps.")
BATCH = Flag("batch_size", int, None, "Pictures at a time.", min=1)
READERS = Flag("workers", int, None, "Threads that read ahead of the model.", min=0)
OVERLAY = Flag("overlay", str, "fit", "Drawn over pictures: fit (at most 1600 pixels), full or none.")
SEED = Flag("seed", int, 0, "Initialisation, order and draws.", min=0)
FULL_SCALE = Flag(
    "full_scale", float, None, "White of pictures of more than 8 bits, as stored: 4095 for 12 bits in 16."
)
SET = Flag(
    "option", list[str], None, "name=value: a hyper-parameter, setting or training setting.", spelled="--set"
)
ANNOTATIONS = Flag(
    "annotations", list[str], None, "Also write coco, yolo, labelme or labelstudio; repeat it."
)
OUTLINE = Flag("outline", str, None, "Of annotations: polygon, or rle.")
TRAINING = (
    Flag("epochs", int, None, "Passes over the training data.", min=1),
    Flag("batch_size", int, None, "Samples per step.", min=1),
    Flag("lr", float, None, "Peak learning rate."),
    Flag("workers", int, None, "Loader processes; changes nothing but speed.", min=0),
    Flag("precision", str, None, "Of training: fp32, bf16 or fp16."),
    Flag("tracker", str, None, "Also log the curves to tensorboard, wandb, mlflow, ...; see the docs."),
)


def out_flag(folder: str) -> Flag:
    """``--out`` with its default folder."""
    return Flag("out", Path, Path("runs") / folder, "Folder of the run.")


def argument(name: str, kind: Any, text: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """A positional argument."""
    kind = Annotated[kind, typer.Argument(help=text)]
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)


def command(
    app: typer.Typer,
    name: str,
    run: Callable[[Values], None],
    text: str,
    arguments: Sequence[inspect.Parameter],
    flags: Sequence[Flag],
) -> None:
    """Add a command whose parameters are data."""
    parameters = [*arguments, *(flag.parameter() for flag in flags)]

    def call(**values: Any) -> None:
        from wildsight.images import scaled

        with scaled(values.get("full_scale")):
            run(values)

    call.__doc__, call.__name__ = text, name
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name)(call)


def chosen(values: Mapping[str, Any], *names: str) -> Values:
    """Those of ``names`` that were given."""
    return {name: values[name] for name in names if values.get(name) is not None}
