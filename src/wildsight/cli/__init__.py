"""The command ``wildsight``. Sub-commands are imported when they are called, never for ``--help``."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
import typer
from typer.main import get_command

from wildsight.errors import WildSightError

COMMANDS: dict[str, tuple[str, str]] = {
    "tour": ("wildsight.cli.tour:tour", "Every method on the embedded world, one report."),
    "doctor": ("wildsight.cli.doctor:doctor", "Versions, devices, memory, and what is missing."),
    "check": ("wildsight.cli.check:check", "Name every problem of a data set before training."),
    "bench": ("wildsight.cli.bench:bench", "A method and its peers on one source, one table."),
    "anomaly": ("wildsight.cli.anomaly:app", "Find what is wrong in pictures, from good ones alone."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and help, and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def load_command(name: str) -> click.Command:
    """The click command called ``name``."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    target: Any = getattr(importlib.import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command()(target)
        target = single
    return get_command(target)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wildsight")
def cli() -> None:
    """WildSight: vision foundation models in the open world, at a price you can pay."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a user's mistake is one sentence and exit code 2."""
    try:
        cli(args=arguments, standalone_mode=True)
    except WildSightError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
