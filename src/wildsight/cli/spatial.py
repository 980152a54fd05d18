"""``wildsight spatial``: fit, predict, evaluate, check, bench, methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wildsight.cli.options import (
    BATCH,
    MOVED,
    OVERLAY,
    READERS,
    Flag,
    Values,
    argument,
    command,
    out_flag,
)
from wildsight.cli.task import COMMON, READING, TaskCommands, pictures_of, source_help, task_app

app = task_app("Where things are in metres, from one picture and a question.")


class SpatialCommands(TaskCommands):
    """Pictures are asked about in words; the measures that descriptions give away may be hidden."""

    def add_predict(self) -> None:
        """``predict MODEL PICTURES EXPRESSIONS``."""
        out = out_flag("spatial-predict")
        flags = (out, *self.predicts, *self.predict_extras, MOVED, *READING, BATCH, READERS)
        places = [
            argument("model", Path, "Folder written by `wildsight spatial fit`."),
            argument("pictures", str, "A picture, a glob or a folder."),
            argument("expressions", list[str], "What is looked for; one or several."),
        ]
        text = "Find things in pictures, one line each; exit code 2 if a picture could not be used."
        command(self.app, "predict", self.predict, text, places, flags)

    def inputs(self, texts: Sequence[str]) -> Sequence[Any]:
        """The files that the argument names."""
        return pictures_of([texts] if isinstance(texts, str) else texts)

    def asked(self, values: Values, files: Sequence[Path]) -> Values:
        """Every expression about every picture, and the 2D box."""
        return {"expression": [values["expressions"]] * len(files), "box": numbers_of(values["box"])}

    def scored(self, values: Values) -> tuple[Any, str]:
        """The source, without the measures that descriptions state if they are to be hidden."""
        from wildsight.spatial.data import read_source

        data = read_source(values["source"])
        return data.without_measures() if values["hide_measures"] else data, values["source"]


def numbers_of(text: str | None) -> list[float] | None:
    """Numbers parted by commas.

    Raises:
        ConfigError: something else.
    """
    from wildsight.errors import ConfigError

    if text is None:
        return None
    try:
        return [float(v) for v in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{text!r} is no box", where="--box", hint="write left,top,right,bottom") from error


commands = SpatialCommands(
    task="spatial",
    app=app,
    source=source_help("kitti:/data/kitti"),
    fits=(
        Flag("cnn", str, None, "Network of the fine map."),
        Flag("queries", int, None, "3D query tokens: most boxes in one answer.", to="Q", min=1),
        Flag("pool", int, None, "Average visual tokens over pool x pool blocks.", min=1),
        Flag("geometry", str, None, "virtual, proj or fused."),
        Flag("fit_as", str, None, "letterbox or stretch.", to="fit", spelled="--fit"),
        Flag("fine_side", int, None, "Side of the CNN's picture, pixels.", min=32),
        Flag("augment", bool, None, "Mirror and zoom pictures, the camera with them."),
    ),
    predicts=(
        Flag("focal", float, None, "Focal length, pixels; else EXIF, else a guess."),
        Flag("calibration", Path, None, "A KITTI-like calibration file."),
        Flag("estimate", bool, None, "Whether the focal length may be guessed."),
        Flag("words", bool, None, "Let the model say the answer."),
    ),
    predict_extras=(Flag("box", str, None, "left,top,right,bottom, for cube-head."), OVERLAY),
    evaluate_extras=(
        Flag(
            "hide_measures",
            bool,
            False,
            "Hide distances and sizes that descriptions state.",
            spelled="--hide-measures",
        ),
    ),
)
commands.add(*COMMON)
