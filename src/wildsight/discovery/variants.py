"""Named variants of NN-GCD: the presets of its recipes and the rungs of its ablation."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from wildsight.discovery.methods import METHODS
from wildsight.discovery.methods.nngcd import NNGCD
from wildsight.discovery.methods.simgcd import ABLATION
from wildsight.estimators.base import changed_fields
from wildsight.estimators.registry import Variant, configured

PRESET = "nngcd-"


def named_variant(text: str) -> Variant[Any] | None:
    """The variant that a preset (``nngcd-text``, ``nngcd-released:cub``) or a rung of `ABLATION` names.

    Args:
        text: also with options or a learning rate behind it: ``nngcd-text[t=0.2]@0.05``.

    Returns:
        None where it names something else.

    Raises:
        ConfigError: a preset that does not exist, or an unknown hyper-parameter.

    >>> found = named_variant("nngcd-released:cub[t=1.0]")
    >>> (found.name, found.method.lr, found.method.t)
    ('nngcd', 0.174, 1.0)
    """
    stem = re.split(r"[\[@]", text, maxsplit=1)[0].strip()
    if stem in METHODS or not (stem in ABLATION or stem.startswith(PRESET)):
        return None
    rung = ABLATION[stem] if stem in ABLATION else changed_fields(NNGCD.preset(stem.removeprefix(PRESET)))
    plain = METHODS.parse(f"nngcd{text.strip().removeprefix(stem)}")
    method = configured(NNGCD, {**rung, **plain.options}, noun="hyper-parameter")
    return replace(plain, text=text.strip(), method=method)
