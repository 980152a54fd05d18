"""What a fit depends on beyond its recipe, for ``extra`` of `train`: named once for every task."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.files import digest_of

DATA = "pictures and labels"
_TAIL = 4096
_SHORT = 16


def depends_on(
    settings: Any,
    hyper: Any,
    learned: Any,
    root: Path | None,
    *,
    backbone: str,
    without: Collection[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Everything that has to be the same for a fit to go on from a saved state, by name.

    A folder of pictures may be moved or copied between two runs: a file is known by its name below ``root``,
    its size and its last 4 KiB, where PNG keeps a checksum of all pixels; no picture is read whole.

    Args:
        settings: the task's, a dataclass.
        hyper: the method's hyper-parameters, a dataclass or by name.
        learned: what is learned from: samples, class names, ...; dataclasses, lists, paths, arrays, plain
            values.
        root: the folder that the paths are named from.
        backbone: SHA-256 of the frozen network.
        without: names among the settings and hyper-parameters that change nothing that is learned.
        more: further facts, or better ones than the settings hold.
    """
    facts = _flat(settings)
    for name, value in _flat(hyper).items():
        facts[name if name not in facts else f"hyper {name}"] = value
    kept = {name: value for name, value in facts.items() if name not in without}
    stamp = functools.cache(functools.partial(_stamp, root=root))
    data = digest_of(_plain(learned, stamp))[:_SHORT]
    return {**kept, **_flat(more), "backbone": backbone[:_SHORT], DATA: data}


def data_digest(data: Any, root: Path | None) -> str:
    """What tells a set of pictures and labels from another, wherever it lies; see `depends_on`."""
    return digest_of(_plain(data, functools.partial(_stamp, root=root)))[:_SHORT]


def _flat(values: Any, within: str = "") -> dict[str, Any]:
    """Fields by name, those of nested ones behind a dot; infinity is a word, which JSON can hold."""
    named = asdict(values) if is_dataclass(values) and not isinstance(values, type) else dict(values)
    found: dict[str, Any] = {}
    for name, value in named.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{within}{name}.")
        else:
            endless = isinstance(value, float) and not math.isfinite(value)
            found[f"{within}{name}"] = str(value) if endless else value
    return found


def _plain(value: Any, stamp: Callable[[Path], list[Any]]) -> Any:
    """The JSON form of what is learned from."""
    if isinstance(value, Path):
        return stamp(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), stamp) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item, stamp) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item, stamp) for item in value]
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a PIL picture
        return [value.mode, list(value.size), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, np.ndarray):
        return [list(value.shape), str(value.dtype), hashlib.sha256(value.tobytes()).hexdigest()]
    return value


def _stamp(file: Path, root: Path | None) -> list[Any]:
    """Name, size and end of a file: enough to tell it from another, quick enough for a large set."""
    inside = root is not None and file.is_relative_to(root)
    name = file.relative_to(root).as_posix() if root is not None and inside else file.name
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL))
            return [name, size, hashlib.sha256(stream.read()).hexdigest()]
    except OSError:
        return [name, None]
