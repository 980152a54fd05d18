"""``wildsight fusion``: fit, predict, evaluate, check, bench, methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wildsight.cli.options import ANNOTATIONS, OUTLINE, Flag, Values
from wildsight.cli.task import COMMON, TaskCommands, source_help, task_app

app = task_app("One mask from several sensors, also when one is missing.")


class FusionCommands(TaskCommands):
    """What is predicted for are scenes of several pictures; sensors may be taken away from what is scored."""

    def inputs(self, texts: Sequence[str]) -> list[dict[str, Path]]:
        """The scenes that arguments name."""
        return scenes_of(texts)

    def scored(self, values: Values) -> tuple[Any, str]:
        """The source, without the sensors of ``--without``."""
        from wildsight.fusion.data import read_source, without

        source, names = values["source"], values["without"] or []
        data = read_source(source)
        for name in names:
            data = without(data, name)
        return data, f"{source} without {', '.join(names)}" if names else source


def scenes_of(pictures: Sequence[str]) -> list[dict[str, Path]]:
    """Scenes from ``MODALITY=FILE`` or ``MODALITY=FOLDER``; single files are one scene, folders pair by stem.

    Raises:
        ConfigError: an argument of another form, or a modality given twice.
        DataError: no picture, or files mixed with folders.
    """
    from wildsight.datasets.folders import by_stem
    from wildsight.errors import ConfigError, DataError

    given: dict[str, Path] = {}
    for text in pictures:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise ConfigError(f"{text!r} names no modality", hint="write rgb=FILE or rgb=FOLDER")
        if name in given:
            raise ConfigError(
                f"{name} is given twice", where=text, hint="give one file or folder of each modality"
            )
        given[name] = Path(path)
    folders = [p.is_dir() for p in given.values()]
    if not any(folders):
        return [dict(given)]
    if not all(folders):
        raise DataError("files are mixed with folders", where=", ".join(pictures), hint="give one kind")
    scenes: dict[str, dict[str, Path]] = {}
    for name, folder in given.items():
        for stem, file in by_stem(folder).items():
            scenes.setdefault(stem, {})[name] = file
    if not scenes:
        raise DataError("no picture found", where=", ".join(pictures), hint="name folders of pictures")
    return [scenes[stem] for stem in sorted(scenes)]


commands = FusionCommands(
    task="fusion",
    app=app,
    source=source_help("deliver:/data/DELIVER"),
    pictures="MODALITY=FILE or MODALITY=FOLDER, one each; folders pair by stem, any may be left out.",
    fits=(
        Flag("encoders", str, None, "frozen, shared (one trains) or each."),
        Flag("modality", list[str], None, "Only these; repeat it.", to="modalities"),
        Flag("image_size", int, None, "Side of the input square, pixels.", min=32),
        Flag("stride", list[int], None, "Tap of the backbone; repeat it.", to="strides"),
        Flag("stretch", list[str], None, "Spread each picture of this; repeat it."),
        Flag("width", int, None, "Channels of the fused maps.", min=4),
        Flag("drop", float, None, "Share of modalities hidden while training."),
        Flag("allow_missing", bool, None, "Train on scenes that lack a modality too."),
    ),
    predict_extras=(ANNOTATIONS, OUTLINE),
    evaluate_extras=(Flag("without", list[str], None, "As if these were missing; repeat it."),),
)
commands.add(*COMMON)
