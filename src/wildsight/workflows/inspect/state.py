"""The files of a project, read back: every type is checked before anything uses a value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wildsight.errors import CheckpointError, DataError
from wildsight.files import read_json

FORMAT = 2
READS = (1, 2)
"""Formats that this version opens; the first had no list of files under ``not_read``."""
Check = Callable[[Any], bool]


def text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def positive(value: Any) -> bool:
    """A number above zero."""
    return number(value) and bool(value > 0)


def flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def or_none(check: Check) -> Check:
    """What ``check`` admits, or null."""
    return lambda value: value is None or check(value)


def box(value: Any) -> bool:
    """Four numbers that span an area."""
    if not isinstance(value, list) or len(value) != 4 or not all(number(v) for v in value):
        return False
    return bool(value[0] < value[2] and value[1] < value[3])


def record(fields: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these fields and no others."""
    known = {**fields, **(optional or {})}

    def check(value: Any) -> bool:
        if not isinstance(value, dict) or not set(fields) <= set(value) <= set(known):
            return False
        return all(known[k](v) for k, v in value.items())

    return check


def listed(check: Check) -> Check:
    """A list of them."""
    return lambda value: isinstance(value, list) and all(check(v) for v in value)


def mapped(check: Check) -> Check:
    """An object of them under any names."""
    return lambda value: isinstance(value, dict) and all(check(v) for v in value.values())


def find_id(value: Any) -> bool:
    """The name of a find, which is that of its files as well."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{16}-\d+", value) is not None


FIND = record({"id": find_id, "box": box, "area": number, "peak": number})
LOOKED = record(
    {"sha": text, "file": text, "score": number, "threshold": positive, "finds": listed(FIND)},
    {"detector": text, "when": text, "batch": text},
)
ANSWER = record({"name": text, "confidence": number})
GROUP = record({"group": text, "confidence": number, "doubtful": flag})
WORDS = record({"attribute": text, "object": text, "probability": number, "known": flag, "by": text})
SETTINGS = record(
    {"good": text, "method": text, "backbone": text},
    {"adapter": or_none(text), "false_alarm_rate": number, "environment": mapped(lambda _: True)},
)
LOCK = ".lock"
"""The file whose lock a writer of the project holds."""
AGAIN = "restore a copy of it, or delete it and {} again"
PARTS: dict[str, tuple[Check, str]] = {
    "groups": (mapped(GROUP), AGAIN.format("group")),
    "names": (mapped(text), AGAIN.format("name")),
    "answers": (mapped(ANSWER), AGAIN.format("learn")),
    "words": (mapped(WORDS), AGAIN.format("describe")),
}
"""What a person may delete: absent, it is empty."""


def read_settings(root: Path) -> dict[str, Any]:
    """``project.json`` without its format.

    Raises:
        DataError: no project there, or a damaged file.
        CheckpointError: written by another version.
    """
    file = root / "project.json"
    if not file.is_file():
        raise DataError("holds no project", where=root, hint="make one with `wildsight inspect start`")
    value = read_json(file)
    found = value.get("format") if isinstance(value, dict) else None
    if isinstance(found, bool) or found not in READS:
        hint = f"this version reads {' and '.join(map(str, READS))}; restore it or start a new project"
        raise CheckpointError(f"has format {found}", where=file, hint=hint)
    settings = {k: v for k, v in value.items() if k != "format"}
    checked(settings, SETTINGS, file, "restore a copy of it, or start a new project")
    return settings


def read_looked(root: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The pictures of ``looked.json`` as rows, and the sentence of each file that could not be read."""
    file, hint = root / "looked.json", AGAIN.format("look at the pictures")
    if not file.exists():
        return [], {}
    value = read_json(file)
    checked(value, record({"pictures": listed(LOOKED), "not_read": lambda _: True}), file, hint)
    listed_errors = value["not_read"]
    errors = {} if listed(text)(listed_errors) else listed_errors  # the first format's list names no files
    checked(errors, mapped(text), file, hint)
    return value["pictures"], errors


def read_part(root: Path, name: str) -> dict[str, Any]:
    """One of `PARTS`; empty where its file is absent."""
    file, (check, hint) = root / f"{name}.json", PARTS[name]
    return checked(read_json(file), check, file, hint) if file.exists() else {}


def merged(before: Mapping[str, Any], now: Mapping[str, Any], disk: Mapping[str, Any]) -> dict[str, Any]:
    """What is on the disk with our changes: what we added, changed or removed since we read ``before``."""
    gone = before.keys() - now.keys()
    ours = {k: v for k, v in now.items() if k not in before or before[k] != v}
    return {**{k: v for k, v in disk.items() if k not in gone}, **ours}


def checked(value: Any, check: Check, file: Path, hint: str) -> Any:
    """``value``, if it is what it should be.

    Raises:
        DataError: it is not.
    """
    if not check(value):
        raise DataError("is damaged: a value is missing or of another kind", where=file, hint=hint)
    return value
