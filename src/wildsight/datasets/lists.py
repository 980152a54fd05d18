"""CSV, TXT and JSON that a person may have edited, read with one rule.

UTF-8 with or without a mark (BOM), UTF-16, and the Windows-1252 of an older Excel are read; so are comma,
semicolon and tab, any line ending, and blanks around a value. A file of another encoding is named for that.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from wildsight.errors import DataError

DELIMITERS = (",", ";", "\t")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGNS = frozenset("€‚„…‘’“”•–—\u00a0°«»§²³µ½¼¾ºª·´¨¿¡")
"""What Windows-1252 text holds above ASCII besides letters; other symbols speak for another encoding."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        number: its line in the file, counted from 1.
        values: column -> text without blanks around it; empty where the row ends early.
        written: the same with its blanks, for file names.
    """

    number: int
    values: dict[str, str]
    written: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values[column]


def decode(data: bytes) -> str:
    r"""The text of a file's bytes, with the mark at its start and every line ending as ``\n``.

    Raises:
        ValueError: neither UTF-8, UTF-16 nor Windows-1252.

    >>> decode("é;1".encode("cp1252")), decode("é\r\n".encode("utf-16"))
    ('é;1', 'é\n')
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    text = data.decode(encoding) if encoding else _unmarked(data)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unmarked(data: bytes) -> str:
    head = data[:400]
    if head.count(0) > len(head) // 4:  # UTF-16 of mostly Latin text has every other byte zero
        return data.decode("utf-16-be" if head[::2].count(0) > head[1::2].count(0) else "utf-16-le")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("cp1252")
        if not all(c.isascii() or c.isalpha() or c in _SIGNS for c in text):
            raise
        return text


def read_text(path: str | Path) -> str:
    r"""The text of a file, whatever program saved it; lines end in ``\n``.

    Raises:
        DataError: the file is missing or cannot be read, or has another encoding.
    """
    file = Path(path)
    try:
        return decode(file.read_bytes())
    except FileNotFoundError as error:
        raise DataError("cannot be read: no such file", where=file, hint="check the path") from error
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise DataError(what, where=file, hint="check the path and its rights") from error
    except ValueError as error:
        raise DataError("is not UTF-8 text", where=file, hint="save it again as UTF-8") from error


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """(number from 1, line without blanks around it) of every line that is not empty.

    Raises:
        DataError: as `read_text`.
    """
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_names(path: str | Path) -> list[str]:
    """The lines of a file that are not empty, without blanks around them.

    Raises:
        DataError: as `read_text`.
    """
    return [line for _, line in read_lines(path)]


def read_json(path: str | Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: as `read_text`, or the text is not JSON; the line is named.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        what = f"not a readable JSON file ({error})"
        raise DataError(what, where=path, hint="restore it, or correct that place") from error


def read_json_lines(path: str | Path) -> list[tuple[int, Any]]:
    """(line number, value) of a file with one JSON value a line.

    Raises:
        DataError: as `read_text`, or a line is not JSON.
    """
    return [(number, _value(line, f"{path}:{number}")) for number, line in read_lines(path)]


def _value(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON ({error})", where=where, hint="write one JSON object a line") from error


def read_table(path: str | Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a table with a header, separated by comma, semicolon or tab; empty rows are left out.

    Args:
        path: a CSV file.
        columns: those that the header must hold; others are kept too.

    Raises:
        DataError: as `read_text`, a column that is missing, or quotes that do not close.
    """
    file = Path(path)
    text = read_text(file)
    if text.lower().startswith("sep="):  # Excel's own line that tells the separator; the line count stays
        text = "\n" + text.partition("\n")[2]
    header = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = max(DELIMITERS, key=lambda sign: (_held(header, sign, columns), header.count(sign)))
    if _held(header, delimiter, columns) < len(columns):
        named = f"columns `{'`, `'.join(columns[:-1])}` and `{columns[-1]}`" if columns[1:] else columns[0]
        raise DataError(f"has no {named}", where=file, hint="add that header")
    try:
        return list(_rows(text, delimiter))
    except csv.Error as error:
        raise DataError(f"is no table ({error})", where=file, hint="save it as CSV in UTF-8") from error


def _names(header: str, delimiter: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]


def _held(header: str, delimiter: str, columns: Sequence[str]) -> int:
    return len(set(columns) & set(_names(header, delimiter)))


def _rows(text: str, delimiter: str) -> list[Row]:
    reader = csv.reader(text.split("\n"), delimiter=delimiter, strict=True)
    names: list[str] = []
    rows: list[Row] = []
    for values in reader:
        stripped = [value.strip() for value in values]
        if not any(stripped):
            continue
        if not names:
            names = stripped
            continue
        written = {n: v for n, v in zip_longest(names, values[: len(names)], fillvalue="") if n}
        rows.append(Row(reader.line_num, {n: v.strip() for n, v in written.items()}, written))
    return rows
