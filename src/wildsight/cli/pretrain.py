"""``wildsight pretrain``: make a nano checkpoint from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    name: Annotated[str, typer.Argument(help="nano-conv")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; runs/pretrain/NAME by default.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of real sets; none: the embedded world.")] = None,
    teacher: Annotated[str | None, typer.Option(help="MobileNetV2 folder or hub id.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 1800,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
) -> None:
    """Make a nano checkpoint again. Killed, it goes on where it was; on the GPU where there is one."""
    from wildsight.errors import ConfigError

    if name != "nano-conv":
        raise ConfigError(f"no checkpoint is called {name!r}", mend="use nano-conv")
    from wildsight.backbones.pretrain.conv import pretrain_conv
    from wildsight.backbones.pretrain.distil import ConvConfig
    from wildsight.cli.common import console

    config = ConvConfig(steps=steps, seed=seed)
    folder = pretrain_conv(out or Path("runs/pretrain") / name, data=data, teacher=teacher, config=config)
    console.print(f"checkpoint: {folder}", markup=False, soft_wrap=True, highlight=False)
