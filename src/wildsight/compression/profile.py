"""Layer sizes found beforehand, as a JSON file: from attention, from sensitivity, or as published."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wildsight.errors import BudgetError, DataError
from wildsight.files import digest_of, read_json, write_json

FORMAT = 1
_NAME = re.compile(r"^prefixkv_(?P<model>.+)_(?P<forgotten>0\.\d+)\.json$")


def fingerprint(config: Any) -> dict[str, int]:
    """What tells one text model's layers from another's."""
    text = config.get_text_config(decoder=True)
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
    return {name: int(getattr(text, name)) for name in names if getattr(text, name, None) is not None}


@dataclass(frozen=True)
class Profile:
    """Retained share per layer at several mean shares.

    Attributes:
        model: name of the model it was found on.
        how: ``prefix``, ``sensitivity`` or ``published``.
        budgets: mean share -> share of each layer, each in [0, 1].
        samples: number of prompts.
        source: where the prompts came from.
        text: the text model's fingerprint; empty where it is not known.
        about: settings of the search.
    """

    model: str
    how: str
    budgets: Mapping[float, tuple[float, ...]]
    samples: int = 0
    source: str = ""
    text: Mapping[str, int] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(next(iter(self.budgets.values())))

    def check(self, config: Any) -> None:
        """Refuse a model whose layers these are not.

        Raises:
            BudgetError: another number of layers, width or vocabulary.
        """
        own = fingerprint(config)
        different = {k: v for k, v in self.text.items() if own.get(k) != v}
        if self.layers != own["num_hidden_layers"] or different:
            what = ", ".join(f"{k} {v} instead of {own.get(k)}" for k, v in different.items())
            what = what or f"{self.layers} layers instead of {own['num_hidden_layers']}"
            raise BudgetError(
                f"the profile belongs to another model, {self.model} ({what})",
                hint="make one with `wildsight compression profile`",
            )

    def shares(self, share: float, layers: int) -> list[float]:
        """The share of each layer at a mean of ``share``, interpolated between the stored budgets.

        Raises:
            BudgetError: the profile has another number of layers.
        """
        if layers != self.layers:
            raise BudgetError(
                f"the profile has {self.layers} layers, the model {layers}", hint="use its own profile"
            )
        known = {0.0: (0.0,) * layers, **dict(sorted(self.budgets.items())), 1.0: (1.0,) * layers}
        low = max(b for b in known if b <= share)
        high = min(b for b in known if b >= share)
        weight = 0.0 if high == low else (share - low) / (high - low)
        mixed = [a + weight * (b - a) for a, b in zip(known[low], known[high], strict=True)]
        return to_mean(mixed, share)

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, whole or not at all."""
        value = asdict(self) | {"format": FORMAT, "budgets": {str(k): v for k, v in self.budgets.items()}}
        write_json(path, value | {"sha256": digest_of(value["budgets"])})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read what `save` wrote.

        Raises:
            DataError: missing, damaged, or no profile.
        """
        value = read_json(path)
        try:
            budgets = {float(k): tuple(map(float, v)) for k, v in value["budgets"].items()}
            known = {k: value[k] for k in ("model", "how", "samples", "source", "text", "about")}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError("not a cache profile", where=path, hint="make one again") from error
        if value.get("format") != FORMAT or value.get("sha256") != digest_of(value["budgets"]):
            raise DataError("a damaged cache profile, or of another format", where=path, hint="make it again")
        _check_budgets(budgets, path)
        return cls(budgets=budgets, **known)

    @classmethod
    def from_published(cls, files: Sequence[str | Path]) -> Profile:
        """Import the lists of the PrefixKV repository, one file per forgotten share.

        Args:
            files: ``prefixkv_MODEL_0.N.json``, a flat list of the share each layer forgets.

        Raises:
            DataError: another name, or not a list of shares.
        """
        budgets: dict[float, tuple[float, ...]] = {}
        models = set()
        for file in files:
            match = _NAME.match(Path(file).name)
            values = read_json(file)
            if match is None or not isinstance(values, list) or not all(isinstance(v, float) for v in values):
                raise DataError(
                    "not a published list of layer sizes", where=file, hint="name the repository's"
                )
            models.add(match["model"])
            if float(match["forgotten"]) > 0.0:
                budgets[round(1.0 - float(match["forgotten"]), 6)] = tuple(1.0 - v for v in values)
        if len(models) != 1 or not budgets:
            raise DataError("lists of several models, or none", hint="name the files of one model")
        _check_budgets(budgets, files[0])
        return cls(models.pop(), "published", budgets, source="the PrefixKV repository")


def _check_budgets(budgets: Mapping[float, Sequence[float]], path: str | Path) -> None:
    lengths = {len(v) for v in budgets.values()}
    inside = all(0.0 < b <= 1.0 and all(0.0 <= s <= 1.0 for s in v) for b, v in budgets.items())
    if len(lengths) != 1 or not inside:
        raise DataError(
            "layer shares outside [0, 1] or of different lengths", where=path, hint="make it again"
        )


def to_mean(shares: Sequence[float], mean: float) -> list[float]:
    """Move shares to an exact mean, none above 1, in proportion.

    >>> [round(s, 3) for s in to_mean([0.2, 0.3], 0.5) + to_mean([0.9, 0.1], 0.9)]
    [0.4, 0.6, 1.0, 0.8]
    """
    values = list(shares)
    goal = mean * len(values)
    for _ in values:
        short = goal - math.fsum(values)
        free = [i for i, v in enumerate(values) if v < 1.0] if short > 0 else list(range(len(values)))
        room = math.fsum(values[i] for i in free)
        if abs(short) < 1e-12 or not free:
            break
        for i in free:
            change = short * values[i] / room if room > 0 else short / len(free)
            values[i] = min(1.0, max(0.0, values[i] + change))
    return values
