"""From a folder to a network: the right class, whole weights, and the normalisation that goes with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wildsight.backbones.hub import quiet, reason, refuse_code
from wildsight.errors import CheckpointError, ConfigError, needs
from wildsight.files import read_json

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def read_model(folder: Path) -> nn.Module:
    """The model in fp32, refused if any weight but an unused pooler's would be random.

    A promptable mask model comes as the class for pictures, also where its repository names the one for
    videos (SAM 2, SAM 3, EdgeTAM).

    Raises:
        ConfigError: it cannot be read.
        CheckpointError: weights are missing, or hold NaN or infinity.
        UnsupportedModelError: it needs code of its own repository.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForMaskGeneration
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASK_GENERATION_MAPPING

    refuse_code(folder)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            masks = type(config) in MODEL_FOR_MASK_GENERATION_MAPPING
            model, report = (AutoModelForMaskGeneration if masks else AutoModel).from_pretrained(
                folder,
                dtype=torch.float32,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        raise ConfigError(
            f"cannot be loaded ({reason(error)})", where=folder, hint=_loading_hint(error)
        ) from error
    _check_weights(model, report, folder)
    return model


def _loading_hint(error: Exception) -> str:
    package = re.search(r"requires the (\w+) library", str(error))
    if package is None:
        return "check that its config.json and weights belong together, and fetch it again"
    return "pip install 'wildsight[timm]'" if package[1] == "timm" else f"pip install {package[1]}"


def _check_weights(model: nn.Module, report: Mapping[str, Any], folder: Path) -> None:
    """Refuse a model of which a weight would be random, or is no finite number."""
    missing = sorted(k for k in report["missing_keys"] if not k.startswith("pooler."))
    if missing:
        others = report["unexpected_keys"]
        hint = "give the weights that belong to its config.json" if others else "fetch or save it again"
        what = f"{len(missing)} weights are missing, {missing[0]} among them"
        raise CheckpointError(what, where=folder, hint=hint)
    broken = [name for name, value in model.named_parameters() if not value.sum().isfinite()]
    if broken:
        what = f"{len(broken)} weights hold NaN or infinity, {broken[0]} among them"
        raise CheckpointError(what, where=folder, hint="fetch or save it again")


def normalisation(folder: Path) -> tuple[Sequence[float], Sequence[float], str]:
    """Mean, deviation and the file that names them; ImageNet's where none does."""
    for file in filter(Path.is_file, (folder / name for name in _PROCESSORS)):
        value: dict[str, Any] = read_json(file)
        value = value.get("image_processor", value)
        if value.get("do_normalize") is False:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), file.name
        if "image_mean" in value and "image_std" in value:
            return value["image_mean"], value["image_std"], file.name
    timm = read_json(folder / "config.json").get("pretrained_cfg") or {}
    if "mean" in timm and "std" in timm:
        return timm["mean"], timm["std"], "config.json"
    return *IMAGENET, "ImageNet default"


def read_timm(name: str) -> nn.Module:
    """A timm model that gives its maps.

    Raises:
        ConfigError: timm is not installed, or has no such model.
    """
    with needs("timm", "timm"):
        import timm
    try:
        return timm.create_model(name.removeprefix("timm:"), pretrained=True, features_only=True)
    except Exception as error:
        raise ConfigError(
            f"timm cannot build {name!r} ({reason(error)})", hint="see timm.list_models()"
        ) from error
