"""What a checkpoint of the discoverer holds, and how it is put back."""

from __future__ import annotations

import math
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wildsight.discovery.features import ViewConfig
from wildsight.discovery.space import Space, SpaceConfig
from wildsight.errors import CheckpointError
from wildsight.training import depends_on

if TYPE_CHECKING:
    from wildsight.discovery.data import CategoryData
    from wildsight.discovery.discoverer import CategoryDiscoverer

RECIPE = ("lr", "epochs", "batch_size", "weight_decay")
"""Hyper-parameters that the training keeps itself."""


def state_of(discoverer: CategoryDiscoverer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings of a fitted discoverer."""
    tensors = {"groups": torch.from_numpy(discoverer.groups), "rows": torch.from_numpy(discoverer.kept)}
    tensors |= {f"space.{k}": torch.from_numpy(v) for k, v in vars(discoverer.space).items()}
    if discoverer.centres is not None:
        tensors["centres"] = torch.from_numpy(discoverer.centres)
    if discoverer.head is not None:
        tensors |= {f"head.{k}": v for k, v in discoverer.head.state_dict().items()}
    settings = {
        "settings": asdict(discoverer.settings),
        "hyper": discoverer.hyper,
        "known": list(discoverer.known),
        "k": discoverer.k,
        "k_from": discoverer.k_from,
        "temperature": discoverer.temperature,
        "backbone_sha256": discoverer.backbone.sha,
        "fitted_on": discoverer.fitted_on,
    }
    return tensors, settings


def plain(hyper: Any) -> dict[str, Any]:
    """Hyper-parameters, by name or in a dataclass, as JSON values: infinity is a word that is read again."""
    hyper = asdict(hyper) if is_dataclass(hyper) and not isinstance(hyper, type) else hyper
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in hyper.items()}


def identity_of(discoverer: CategoryDiscoverer, data: CategoryData) -> dict[str, Any]:
    """What a training state must have been saved with, beyond its recipe, to go on for this fit."""
    learned, sha, free = [data.samples, data.known], discoverer.backbone.sha, (*RECIPE, "doubt")
    settings, config = discoverer.settings, discoverer.config
    return depends_on(settings, config, learned, data.root, backbone=sha, without=free, k=discoverer.k)


def made_with(settings: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Method, backbone and the other arguments that a saved discoverer was made with."""
    saved = dict(settings["settings"])
    method, backbone = saved.pop("method"), saved.pop("backbone")
    views, space = ViewConfig(**saved["views"]), SpaceConfig(**saved["space"])
    return method, backbone, {**saved, "views": views, "space": space, "hyper": settings["hyper"]}


def put_state(found: CategoryDiscoverer, tensors: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Put what `state_of` gave into a discoverer that was made with the same arguments.

    Raises:
        CheckpointError: one of an earlier version, without the pictures that could not be read.
    """
    found.known, found.k, found.k_from = tuple(settings["known"]), settings["k"], settings["k_from"]
    found.temperature, found.fitted_on = settings["temperature"], settings["fitted_on"]
    found.groups = tensors["groups"].numpy()
    if "rows" not in tensors and found.fitted_on["not_read"]:
        raise CheckpointError("does not say which pictures could not be read", hint="fit again")
    found.kept = tensors["rows"].numpy() if "rows" in tensors else np.arange(len(found.groups))
    found.space = Space(tensors["space.mean"].numpy(), tensors["space.basis"].numpy())
    if "centres" in tensors:
        found.centres = tensors["centres"].numpy()
    state = {k.removeprefix("head."): v for k, v in tensors.items() if k.startswith("head.")}
    if state:
        found.head = found.new_head()
        found.head.load_state_dict(state)
        found.head.eval()
