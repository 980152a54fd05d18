"""What every task's fit keeps: its own state is gone on with, that of another fit is refused and stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from wildsight.errors import CheckpointError


def copied(source: Path, target: Path, changed: str = "") -> Path:
    """A copy of a folder in which the pictures of the pattern ``changed`` are their own negatives."""
    shutil.copytree(source, target)
    for file in target.rglob(changed) if changed else ():
        with Image.open(file) as picture:
            negative = ImageOps.invert(picture.convert("RGB")).convert(picture.mode)
        negative.save(file)
    return target


def check_states(
    fit: Callable[..., Any], state: Path, sources: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]
) -> None:
    """Fit into ``state``, then again in every way.

    Args:
        fit: (source, options) -> what was fitted, its state in ``state``.
        state: an empty folder.
        sources: what each source changes -> it; the empty name for one that changes nothing.
        others: what the refusal says -> options of another fit of the source that changes nothing.
    """
    fit(sources[""])
    kept = {file: file.read_bytes() for file in state.rglob("*") if file.is_file()}
    for what, source in sources.items():
        if not what or what == "moved":
            again = fit(source).history
            assert again.resumed_from == again.steps > 0
            continue
        with pytest.raises(CheckpointError, match="holds a run with pictures and labels="):
            fit(source)
    for said, options in others.items():
        with pytest.raises(CheckpointError, match=f"holds a run with {said}"):
            fit(sources[""], **options)
    assert kept == {file: file.read_bytes() for file in state.rglob("*") if file.is_file()}
