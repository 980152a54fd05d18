"""What ``fusion.json`` in a set's folder may state, and whether it does so rightly.

``classes`` by id, ``task``, ``conditions`` by stem (a plain folder reads these three), and ``modalities``:
the unit of every picture with more than 8 bits (any layout reads it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wildsight.datasets.lists import read_json
from wildsight.errors import DataError

SETTINGS = "fusion.json"
TASKS = ("segmentation", "saliency")


def unit_example(name: str) -> str:
    """How ``fusion.json`` states a unit."""
    return f'{{"modalities": {{"{name}": {{"full_scale": 10000, "unit": "mm"}}}}}}'


def settings_of(root: Path) -> dict[str, Any]:
    """What a folder's ``fusion.json`` states; empty where there is none.

    Raises:
        DataError: an unknown key, or a value of another form.
    """
    file = root / SETTINGS
    if not file.is_file():
        return {}
    value = read_json(file)
    if not isinstance(value, dict) or (unknown := sorted(set(value) - set(_FORMS))):
        what = f"states {unknown[0]!r}, which is unknown" if isinstance(value, dict) else "is no object"
        raise DataError(what, where=file, hint=f"state {', '.join(_FORMS)}")
    for key, (right, example) in _FORMS.items():
        if key in value and not right(value[key]):
            raise DataError(f"states no {key} that can be read", where=file, hint=f"write {example}")
    for name, entry in value.get("modalities", {}).items():
        if not _unit(entry):
            hint = f"write {unit_example(name)}, the scale above 0"
            raise DataError(f"states no full_scale and unit for {name}", where=file, hint=hint)
    return value


def scales_of(root: Path, modalities: Sequence[str]) -> dict[str, float]:
    """Modality -> stored value that stands for 1, as ``fusion.json`` states it.

    Raises:
        DataError: as `settings_of`, or a modality that the set does not have.
    """
    stated = settings_of(root).get("modalities", {})
    if unknown := [name for name in stated if name not in modalities]:
        hint = f"choose from {', '.join(modalities)}"
        what = f"states a unit for {unknown[0]!r}, which the set does not hold"
        raise DataError(what, where=root / SETTINGS, hint=hint)
    return {name: float(entry["full_scale"]) for name, entry in stated.items()}


def _unit(entry: Any) -> bool:
    scale = entry.get("full_scale") if isinstance(entry, dict) else None
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        return False
    return math.isfinite(scale) and scale > 0 and bool(entry.get("unit"))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) and v for v in value)


def _conditions(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) or _texts(v) for v in value.values())


_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "classes": (lambda v: _texts(v) and len(set(v)) == len(v) > 1, '"classes": ["road", "crack"]'),
    "task": (lambda v: v in TASKS, f'"task": "{TASKS[1]}" or "{TASKS[0]}"'),
    "conditions": (_conditions, '"conditions": {"0001": "night"}'),
    "modalities": (lambda v: isinstance(v, dict), f"as in {unit_example('depth')}"),
}
