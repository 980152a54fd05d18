"""``wildsight pretrain``: a door to `tools/nano`, which makes the nano checkpoints from a clone."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

CLONE = Path(__file__).resolve().parents[3]
"""The source repository, where this file is run from one."""

app = typer.Typer(add_completion=False)


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def pretrain(context: typer.Context) -> None:
    """Make a nano checkpoint from nothing, in a clone."""
    from typer.main import get_command

    get_command(_makers())(args=context.args, prog_name="wildsight pretrain")


def _makers() -> Any:
    """The command of ``tools/nano``.

    Raises:
        ConfigError: this is not a clone.
    """
    from wildsight.errors import ConfigError

    if "tools.nano" not in sys.modules:
        if not (CLONE / "tools" / "nano" / "command.py").is_file():
            raise ConfigError(
                "the makers of the nano checkpoints are in the source repository, not in the package",
                hint="clone the repository and run `python -m tools.nano NAME` in it",
            )
        sys.path.insert(0, str(CLONE))
    return import_module("tools.nano.command").app
