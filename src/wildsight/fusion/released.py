"""The published PWRF module's weights, by their published names, into `PWRFFusion`.

The released module knows three modalities (r, d, t) and the sizes 12, 24 and 48; its capsules hold one
collapse vector for each size, of which ``length`` chooses one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wildsight.errors import CheckpointError
from wildsight.fusion.methods.pwrf import PWRF, PWRFFusion

LETTERS = ("r", "d", "t")


def load_released(state: Mapping[str, Tensor], length: int) -> PWRFFusion:
    """A `PWRFFusion` of `PWRF.released`, in evaluation mode.

    Args:
        state: the published module's state dictionary.
        length: side of the maps it is for: 12, 24 or 48.

    Raises:
        CheckpointError: a name is missing or a shape differs.
    """
    model = PWRF.released(length).module()
    try:
        model.load_state_dict(_renamed(state, length))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"not the published PWRF module ({error})", hint="check its names") from error
    return model.eval()


def _renamed(state: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for i, letter in enumerate(LETTERS):
        _block(state, out, f"reduce.{i}", f"conv{i + 1}", f"bn{i + 1}")
        for ours, theirs in (("own", f"{letter}s"), ("join", f"f{letter}")):
            _block(state, out, f"{ours}.{i}", f"convbnrelu_{theirs}.conv", f"convbnrelu_{theirs}.bn")
        _copy(state, out, f"gate.{i}", f"convbnrelu_w{letter}", ("weight", "bias"))
    width = len(state["conv1.bias"])
    _joined(state, out, "shared", "convbnrelu", [width] * 3)
    _joined(state, out, "specific", "convbnrelu_rdts", [256] * 3)
    for ours, theirs, mixer in (("rows", "horizontal", "cath"), ("columns", "vertical", "catv")):
        _axis(state, out, ours, theirs, f"convbnrelu_{mixer}", length)
    return out


BN = ("weight", "bias", "running_mean", "running_var")


def _copy(
    state: Mapping[str, Tensor], out: dict[str, Tensor], ours: str, theirs: str, names: tuple[str, ...]
) -> None:
    for name in names:
        out[f"{ours}.{name}"] = state[f"{theirs}.{name}"]
    if names is BN:
        out[f"{ours}.num_batches_tracked"] = torch.tensor(0)


def _block(state: Mapping[str, Tensor], out: dict[str, Tensor], ours: str, conv: str, bn: str) -> None:
    _copy(state, out, f"{ours}.0", conv, ("weight", "bias"))
    _copy(state, out, f"{ours}.1", bn, BN)


def _joined(
    state: Mapping[str, Tensor], out: dict[str, Tensor], ours: str, theirs: str, sizes: list[int]
) -> None:
    weight = state[f"{theirs}.conv.weight"]
    rest = weight.shape[1] - sum(sizes)
    for i, piece in enumerate(weight.split([*sizes, rest] if rest else sizes, dim=1)):
        out[f"{ours}.parts.{i}.weight"] = piece
    out[f"{ours}.bias"] = state[f"{theirs}.conv.bias"]
    _copy(state, out, f"{ours}.norm", f"{theirs}.bn", BN)


def _axis(
    state: Mapping[str, Tensor], out: dict[str, Tensor], ours: str, theirs: str, mixer: str, length: int
) -> None:
    primary = [f"primary_caps_{theirs}_{letter}" for letter in LETTERS]
    for name in ("weight", "bias"):
        both = [torch.cat([state[f"{p}.pose.{name}"], state[f"{p}.a.{name}"]]) for p in primary]
        out[f"{ours}.{name}"] = torch.stack(both).flatten(2) if name == "weight" else torch.stack(both)
    out[f"{ours}.k"] = torch.stack([state[f"{p}.conv{length}.weight"].flatten() for p in primary])
    out[f"{ours}.k_bias"] = torch.cat([state[f"{p}.conv{length}.bias"] for p in primary])
    vote = state[f"conv_caps1_{theirs}.weights"][0]
    out[f"{ours}.vote"] = vote.unflatten(0, (3, -1))
    for name in ("beta_u", "beta_a"):
        out[f"{ours}.{name}"] = state[f"conv_caps1_{theirs}.{name}"]
    kernel = state[f"{mixer}.conv.weight"]
    out[f"{ours}.mixer.0.weight"] = kernel[..., 1] if theirs == "horizontal" else kernel[:, :, 1]
    out[f"{ours}.mixer.0.bias"] = state[f"{mixer}.conv.bias"]
    _copy(state, out, f"{ours}.mixer.1", f"{mixer}.bn", BN)
