"""Files that come from the page and go to it. Pictures become pixels in `wildsight.images` alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr

from wildsight.app.jobs import message, plainly
from wildsight.errors import WildSightError
from wildsight.images import load_image

THUMBNAILS, SIDE = 60, 96


def run_folder(task: str) -> Path:
    """A new folder for what one click leaves, in the system's place for temporary files."""
    return Path(mkdtemp(prefix=f"wildsight-{task}-"))


def readable(files: list[Path], what: str) -> tuple[list[Path], list[str]]:
    """The uploads that are pictures, and a sentence for each that is not.

    Args:
        files: the uploads.
        what: they are, for the message.

    Raises:
        gr.Error: none is a picture.
    """
    good, bad = [], []
    for file in files:
        try:
            load_image(file)
            good.append(file)
        except WildSightError as fault:
            bad.append(plainly(fault))
    if not good:
        raise message(f"no {what} could be read: {'; '.join(bad[:3])}")
    return good, bad


def thumbnails(files: Any) -> Any:
    """Small copies of the first `THUMBNAILS` uploads for a gallery, which is hidden where there are none."""
    shown = []
    for file in uploaded(files)[:THUMBNAILS]:
        try:
            picture = load_image(file)
        except WildSightError:  # named by the job that needs it
            continue
        picture.thumbnail((SIDE, SIDE))
        shown.append((picture, file.name))
    return gr.update(value=shown, visible=bool(shown))


def results_of(report: Path, *more: Path) -> list[str]:
    """The files of a run to take away: its report, its table, and whatever else."""
    return [str(report), str(report.with_name("results.csv")), *map(str, more)]


def lent(files: Iterable[Path], task: str) -> list[str]:
    """Copies of sample files that the page may hand out."""
    folder = run_folder(task)
    return [str(shutil.copyfile(f, folder / f"{n:02d}-{f.name}")) for n, f in enumerate(files)]


def uploaded(files: Any) -> list[Path]:
    """The uploaded files, in order of upload."""
    many = files if isinstance(files, list) else [files]
    return [Path(str(getattr(f, "name", f))) for f in many if f]


def paths(files: Any) -> list[Path]:
    """The uploaded files, in order of upload.

    Raises:
        gr.Error: there is none.
    """
    found = uploaded(files)
    if not found:
        raise message("no picture was given; upload one or take a sample")
    return found


def stored_copies(folder: Path, files: list[Path]) -> list[Path]:
    """Copies of uploads under the hash of their bytes: the server's own copies do not last."""
    from wildsight.files import sha256

    folder.mkdir(parents=True, exist_ok=True)
    targets = []
    for file in files:
        target = folder / f"{sha256(file)[:12]}-{file.name}"
        if not target.exists():
            shutil.copyfile(file, target)
        targets.append(target)
    return targets
