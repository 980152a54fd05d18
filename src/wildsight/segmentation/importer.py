"""Reads the authors' published checkpoints (``spt_vit_{b,l,h}.pth``) into an adapter for a `SamModel`.

Their names: ``mask_decoder`` makes the draft and ``draft_decoder`` the final mask; ``lora_sim_scale`` is
gamma; a fused ``qkv`` stacks its q pair and its v pair. Their layers fold the low-rank update into the
frozen weight in evaluation mode, and a state saved then holds it twice: every weight is compared with the
base's, and a difference of exactly ``s B A`` is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildsight.errors import CheckpointError
from wildsight.segmentation.base import ATTENTIONS, SamBase, load_base
from wildsight.segmentation.estimator import AnomalySegmenter
from wildsight.segmentation.lora import Site, decoder_sites, encoder_sites

DECODERS = {"draft": "mask_decoder", "refine": "draft_decoder"}
TARGETS = ("q", "v")
CLOSE = 1e-4


def read_official(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, ``.safetensors`` or ``.pth``; no code in it is run.

    Raises:
        CheckpointError: missing, damaged, or holding more than tensors.
    """
    file = Path(path)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(file))
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError("no such file", where=file, hint="check the path") from error
    except Exception as error:
        raise CheckpointError(f"cannot be read ({type(error).__name__})", where=file) from error
    state: Any = loaded if isinstance(loaded, dict) else {}
    state = state.get("model") or state.get("state_dict") or state
    tensors = {k.removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError("holds no tensors by name", where=file, hint="name an spt_vit_*.pth")
    return tensors


def import_official(
    path: str | Path, base: str | Path | SamBase, *, alpha: float = 1.0, tolerance: float = CLOSE
) -> AnomalySegmenter:
    """A segmenter from the authors' checkpoint.

    Args:
        path: the file.
        base: the SAM that it was trained on, of class `SamModel`.
        alpha: the published value; the file does not hold it.
        tolerance: how far a weight may be from the base's, or from the base's with its update.

    Raises:
        CheckpointError: not such a checkpoint, or one for another base.
    """
    sam = base if isinstance(base, SamBase) else load_base(base)
    state = read_official(path)
    if sam.kind != "SamModel":
        raise CheckpointError(f"fits a SamModel, not a {sam.kind}", where=path, hint="name a SamModel")
    tensors = converted(state, sam)
    if not tensors:
        raise CheckpointError("holds no SPT adapter", where=path, hint="name an spt_vit_*.pth")
    rank = next(v.shape[0] for k, v in sorted(tensors.items()) if k.endswith("lora_A"))
    _same_base(state, sam, tensors, alpha / rank, tolerance, Path(path))
    hyper: dict[str, Any] = {"rank": int(rank), "alpha": alpha}
    if not any(k.startswith("encoder.") for k in tensors):
        hyper["encoder_targets"] = ()
    segmenter = AnomalySegmenter("spt", sam, hyper=hyper, geometry="squash")
    try:
        segmenter.network.adapter.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"does not fit the base ({error})", where=path, hint="name its base") from error
    segmenter.fitted_on = {"source": Path(path).name, "format": "the authors' checkpoint"}
    return segmenter


def converted(state: Mapping[str, Tensor], base: SamBase) -> dict[str, Tensor]:
    """Their tensors under our names."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        block = re.fullmatch(r"image_encoder\.blocks\.(\d+)\.attn\.qkv\.(lora_[AB])", key)
        if block:
            for target, half in zip(TARGETS, value.chunk(2), strict=True):
                found[f"encoder.{block[1]}.{target}.{block[2]}"] = half.clone()
    for stage, name in DECODERS.items():
        for site in decoder_sites(base.decoder, TARGETS):
            for part in ("lora_A", "lora_B"):
                theirs = f"{name}.transformer.{_their_path(site)}.{part}"
                if theirs in state:
                    found[f"decoder.{stage}.{'.'.join(site.path)}.{part}"] = state[theirs]
        for number in range(len(base.decoder.transformer.layers)):
            theirs = f"{name}.transformer.layers.{number}.lora_sim_scale"
            if theirs in state:
                found[f"decoder.{stage}.{number}.relation_scale"] = state[theirs]
    return found


def _their_path(site: Site) -> str:
    block, attention, target = site.path
    if block == "final":
        return f"final_attn_token_to_image.{target}_proj"
    return f"layers.{block}.{ATTENTIONS[attention]}.{target}_proj"


def _same_base(
    state: Mapping[str, Tensor],
    base: SamBase,
    tensors: Mapping[str, Tensor],
    scale: float,
    tolerance: float,
    path: Path,
) -> None:
    """Every adapted weight in the file is the base's, or the base's with its update folded in."""
    for site in encoder_sites(base, TARGETS):
        theirs = state.get(f"image_encoder.blocks.{site.path[0]}.attn.qkv.weight")
        _compare(theirs, site, tensors, f"encoder.{'.'.join(site.path)}", scale, tolerance, path)
    for stage, name in DECODERS.items():
        for site in decoder_sites(base.decoder, TARGETS):
            theirs = state.get(f"{name}.transformer.{_their_path(site)}.weight")
            ours = f"decoder.{stage}.{'.'.join(site.path)}"
            _compare(theirs, site, tensors, ours, scale, tolerance, path)


def _compare(
    theirs: Tensor | None,
    site: Site,
    tensors: Mapping[str, Tensor],
    ours: str,
    scale: float,
    tolerance: float,
    path: Path,
) -> None:
    if theirs is None:
        return
    a, b = tensors.get(f"{ours}.lora_A"), tensors.get(f"{ours}.lora_B")
    weight = site.linear.weight.detach()
    if theirs.shape != weight.shape:
        raise CheckpointError("was made for a base of another size", where=path, hint="name its own base")
    gap = theirs[site.rows] - weight[site.rows].cpu()
    folded = gap if a is None or b is None else gap - scale * (b @ a)
    if min(float(gap.abs().max()), float(folded.abs().max())) > tolerance:
        raise CheckpointError("was made for another base", where=path, hint="name the base it was trained on")
