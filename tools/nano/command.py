"""The command that makes a nano checkpoint; `wildsight pretrain` and `python -m tools.nano` run it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAMES = ("nano-conv", "nano-clip", "nano-llava", "nano-sam")


app = typer.Typer(add_completion=False)


@app.command()
def pretrain(
    name: Annotated[str, typer.Argument(help=", ".join(NAMES))],
    out: Annotated[Path | None, typer.Option(help="Folder to write; runs/pretrain/NAME by default.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of real sets, for nano-conv and nano-clip; none: the embedded world."),
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="MobileNetV2 folder or hub id.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of its (last) part.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
) -> None:
    """Make a nano checkpoint again. Killed, it goes on where it was; on the GPU where there is one."""
    from wildsight.cli.common import console
    from wildsight.errors import ConfigError
    from wildsight.files import MANIFEST, check_replaceable

    if name not in NAMES:
        raise ConfigError(f"no checkpoint is called {name!r}", hint=f"use one of {', '.join(NAMES)}")
    folder = out or Path("runs/pretrain") / name
    check_replaceable(folder, MANIFEST)
    _make(name, folder, data, teacher, steps, seed)
    console.print(f"checkpoint: {folder}", markup=False, soft_wrap=True, highlight=False)


def _make(name: str, out: Path, data: Path | None, teacher: str | None, steps: int | None, seed: int) -> Path:
    if name == "nano-conv":
        from tools.nano.conv_pipeline import pretrain_conv
        from tools.nano.conv_train import ConvConfig

        return pretrain_conv(
            out, data=data, teacher=teacher, config=ConvConfig(steps=steps or 1800, seed=seed)
        )
    if name == "nano-clip":
        from tools.nano.clip import ClipConfig
        from tools.nano.clip_pipeline import pretrain_clip

        config = ClipConfig(seed=seed, scene_steps=steps or ClipConfig.scene_steps)
        return pretrain_clip(out, data=data, teacher=teacher, config=config)
    if name == "nano-llava":
        from tools.nano.llava import NanoLlavaConfig
        from tools.nano.llava_pipeline import pretrain_llava

        return pretrain_llava(out, config=NanoLlavaConfig(seed=seed, steps=steps or NanoLlavaConfig.steps))
    from tools.nano.sam import NanoSamConfig
    from tools.nano.sam_pipeline import pretrain_sam

    return pretrain_sam(out, config=NanoSamConfig(seed=seed, steps=steps or NanoSamConfig.steps))
