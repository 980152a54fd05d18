"""When what is found counts as what is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

FREE = ("_seconds", "_ms")
"""Ends of the names of what differs from run to run."""


@dataclass(frozen=True)
class Close:
    """Numbers differ by at most ``absolute`` + ``relative`` * |kept|; everything else is equal."""

    relative: float
    absolute: float

    def __call__(self, kept: float, found: float) -> bool:
        return math.isclose(kept, found, rel_tol=self.relative, abs_tol=self.absolute)


def differences(kept: Any, found: Any, close: Close, where: str = "") -> Iterator[str]:
    """One line per value that is not as it was."""
    if isinstance(kept, dict):
        names = [n for n in kept if not n.endswith(FREE)]
        if not isinstance(found, dict) or set(names) - set(found):
            lost = sorted(set(names) - set(found)) if isinstance(found, dict) else names
            yield f"{where}: without {', '.join(lost)}"
            return
        for name in names:
            yield from differences(kept[name], found[name], close, f"{where} {name}".strip())
    elif isinstance(kept, list):
        if not isinstance(found, Sequence) or len(kept) != len(found):
            yield f"{where}: {len(kept)} values kept, {len(found) if hasattr(found, '__len__') else found!r}"
            return
        for number, (one, other) in enumerate(zip(kept, found, strict=True)):
            name = f"{one.get('method', '')} {one.get('group', number)}" if isinstance(one, dict) else number
            yield from differences(one, other, close, f"{where} {name}".strip())
    elif isinstance(kept, float | int) and isinstance(found, float | int) and not isinstance(kept, bool):
        if not close(kept, found):
            yield f"{where}: {kept!r} kept, {found!r} found"
    elif kept != found:
        yield f"{where}: {kept!r} kept, {found!r} found"


def check_same(kept: Any, found: Any, close: Close) -> None:
    """Fail with the first differences."""
    lines = list(differences(kept, found, close))
    assert not lines, f"{len(lines)} values are not as they were:\n" + "\n".join(lines[:12])
