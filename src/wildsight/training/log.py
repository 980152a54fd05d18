"""The curves of a run on disk: ``log.csv``, and TensorBoard events where tensorboard is installed."""

from __future__ import annotations

import csv
import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from wildsight.files import atomic_path, explained

EVENTS = "events"


def write_csv(file: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one line per epoch, whole or not at all; nothing when there are no rows.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    if not rows:
        return
    with atomic_path(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_events(folder: Path, rows: Sequence[Mapping[str, float]]) -> bool:
    """Replace the TensorBoard events below ``folder`` by those of ``rows``.

    Returns:
        False where tensorboard is not installed, and nothing was written.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return False
    from torch.utils.tensorboard import SummaryWriter

    with explained(folder):
        shutil.rmtree(folder / EVENTS, ignore_errors=True)
        with SummaryWriter(str(folder / EVENTS)) as writer:
            for row in rows:
                for name in sorted(row.keys() - {"epoch"}):
                    writer.add_scalar(name, row[name], int(row["epoch"]))
    return True
