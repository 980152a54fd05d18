"""The command ``wildsight``. A sub-command is imported when it is called, never for ``wildsight --help``."""

from __future__ import annotations

import importlib
import io
import sys
from pathlib import Path
from typing import Any, NoReturn

from wildsight.errors import WildSightError
from wildsight.files import REFUSED, refusal

COMMANDS: dict[str, tuple[str, str]] = {
    "tour": ("wildsight.cli.tour:tour", "Every method on the embedded world, one report."),
    "doctor": ("wildsight.cli.doctor:doctor", "Versions, devices, memory, and what is missing."),
    "check": ("wildsight.cli.check:check", "Name every problem of a data set before training."),
    "bench": ("wildsight.cli.bench:app", "A method and its peers on one source, one table."),
    "methods": ("wildsight.cli.methods:methods", "The methods of a task, their parameters and defaults."),
    "report": ("wildsight.cli.report:app", "What changed between two runs."),
    "pretrain": ("wildsight.cli.pretrain:app", "Make a nano checkpoint from nothing, in a clone."),
    "world": ("wildsight.cli.world:app", "See the embedded world, or write it to folders."),
    "inspect": ("wildsight.cli.inspect:app", "Find, outline, group and name defects, in one project."),
    "app": ("wildsight.cli.app:app", "The browser page: a tab per task."),
    "anomaly": ("wildsight.cli.anomaly:app", "Find what is wrong in pictures, from good ones alone."),
    "composition": ("wildsight.cli.composition:app", "Name pairs such as wet cat that were never trained."),
    "continual": ("wildsight.cli.continual:app", "Teach one CLIP new tasks, break nothing it knew."),
    "discovery": ("wildsight.cli.discovery:app", "Sort pictures into the classes you know and new groups."),
    "compression": ("wildsight.cli.compression:app", "Make a multimodal LLM faster and smaller."),
    "segmentation": ("wildsight.cli.segmentation:app", "Outline a defect exactly, from a box or points."),
    "fusion": ("wildsight.cli.fusion:app", "One mask from several sensors, also when one is missing."),
    "retrieval": ("wildsight.cli.retrieval:app", "Find photos by sketch, for classes never trained."),
    "spatial": ("wildsight.cli.spatial:app", "Where things are in metres, from one picture and a question."),
}


def usage() -> str:
    """The text of ``wildsight --help``."""
    lines = [f"  {name:12} {text}" for name, (_, text) in COMMANDS.items()]
    head = "usage: wildsight [--version] COMMAND [--help] ...\n\ncommands:"
    return "\n".join([head, *lines, "\n`wildsight COMMAND --help` explains a command."])


def load_command(name: str) -> Any:
    """The runnable command called ``name``: a callable with ``args`` and ``prog_name``."""
    import typer
    from typer.main import get_command

    module, _, attribute = COMMANDS[name][0].partition(":")
    target: Any = getattr(importlib.import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command()(target)
        target = single
    return get_command(target)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a user's mistake is one sentence and exit code 2."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return
    if words[0] == "--version":
        import wildsight

        print(wildsight.__version__)
        return
    if words[0] not in COMMANDS:
        _fail(f"no command is called {words[0]!r}; use one of {', '.join(COMMANDS)}")
    try:
        code = _run(words)
    except WildSightError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        _fail(str(refusal(error, Path(error.filename or Path.cwd()))))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(code)


def _run(words: list[str]) -> int:
    """Run a command; returns its exit code. What is wrong with the words themselves is one sentence too."""
    import typer

    command, name = load_command(words[0]), f"wildsight {words[0]}"
    try:
        code = command(args=words[1:], prog_name=name, standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's click has no public name for what it raises
            raise
        where = getattr(getattr(error, "ctx", None), "command_path", name)
        said = error.format_message()
        if "\n" in said:  # a group without a command shows its help
            print(said)
            return int(getattr(error, "exit_code", 2))
        _fail(f"{where}: {said[:1].lower()}{said[1:].rstrip('.')}; see `{where} --help`")
    return code if isinstance(code, int) else 0


def _fail(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(2)
