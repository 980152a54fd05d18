"""The table of a prediction, written row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wildsight.errors import WildSightError
from wildsight.files import explained, write_text
from wildsight.results import Table, write_csv

NOT_READ = "not_read"
"""The last column of a table of results: why a picture has none."""
ODD = "surrogateescape"
"""File names that are not UTF-8 keep their bytes."""


class RowWriter:
    """A CSV whose rows are on disk as soon as they are added; what is there when a run ends can be read.

    Args:
        path: the file; an earlier one is replaced.

    Raises:
        DataError: disk full, or the folder cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.columns: list[str] = []
        self._early: list[WildSightError] = []
        write_csv(self.path, [])
        self._open()

    def _open(self) -> None:
        with explained(self.path):
            self.stream = self.path.open("a", newline="", encoding="utf-8", errors=ODD)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row; one with a column that is new widens those before it."""
        early, self._early = self._early, []
        for error in early:
            self._unread(next(iter(row), "image"), error)
        if new := [name for name in row if name not in self.columns]:
            self._shut()
            with self.path.open(newline="", encoding="utf-8", errors=ODD) as stream:
                before = list(csv.DictReader(stream)) if self.columns else []
            self.columns = sorted([*self.columns, *new], key=lambda name: name == NOT_READ)
            write_text(
                self.path, Table(self.columns, [[r.get(c, "") for c in self.columns] for r in before]).csv()
            )
            self._open()
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([row.get(c, "") for c in self.columns])
        with explained(self.path):
            self.stream.write(line.getvalue())
            self.stream.flush()

    def add_unread(self, error: WildSightError) -> None:
        """Write a row for what could not be read: its name in the first column, why in a last one.

        It waits for the first result, which says what the columns are.
        """
        if self.columns:
            self._unread(self.columns[0], error)
        else:
            self._early.append(error)

    def _unread(self, first: str, error: WildSightError) -> None:
        self.add({first: error.where or "", NOT_READ: error.what})

    def close(self) -> None:
        """Nothing more is added."""
        early, self._early = self._early, []
        for error in early:
            self._unread("image", error)
        self._shut()

    def _shut(self) -> None:
        with explained(self.path):
            self.stream.close()
