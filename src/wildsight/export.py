"""ONNX export that proves itself: a graph is kept only if onnxruntime gives what torch gives.

The graph gives raw outputs. Thresholds, class names and whatever else turns them into a verdict go into the
JSON file beside it, where they can be read and changed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildsight.errors import ConfigError, UnsupportedModelError
from wildsight.files import explained, sha256, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET = 20
HALF_UP = 0.5 + 2.0**-10
"""Rounds half up; the extra keeps halves together on both sides of an export, whatever their last bit."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how far it is from torch.

    Attributes:
        file: the ``.onnx`` file; its JSON file lies beside it.
        inputs: names, in order.
        outputs: names, in order.
        differences: output name -> largest absolute difference between onnxruntime and torch.
        samples: inputs that it was measured on.
        tolerance: the largest difference allowed.
        sha256: of the ``.onnx`` file.
    """

    file: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    differences: Mapping[str, float]
    samples: int
    tolerance: float
    sha256: str

    def line(self) -> str:
        """One line for the terminal."""
        parts = ", ".join(f"{name} {value:.2g}" for name, value in self.differences.items())
        return f"{self.file}: onnxruntime differs from torch by {parts} at most ({self.samples} inputs)"


def export_onnx(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    folder: str | Path,
    *,
    name: str = "model",
    outputs: Sequence[str] = ("output",),
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    tolerance: float = 1e-3,
    samples: Sequence[Mapping[str, Tensor]] = (),
    settings: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Write ``NAME.onnx`` and ``NAME.json`` into ``folder``, after running both sides on every sample.

    Args:
        module: in evaluation mode, on the CPU; its ``forward`` takes the inputs in this order and returns a
            tensor or a tuple of tensors.
        example_inputs: one input set, by parameter name of ``forward``; traced. A dynamic axis must not be
            1 here, and no two axes of different names may be equal by chance alone.
        folder: takes both files; an older export of the same name is replaced, other files stay.
        name: stem of the files.
        outputs: names of the outputs, one per tensor returned.
        dynamic: input name -> axis -> name of the size; equal names are equal sizes.
        tolerance: largest absolute difference allowed in any output.
        samples: further inputs to compare on, best of other sizes; ``example_inputs`` is compared always.
        settings: goes into the JSON file (thresholds, labels, preprocessing...).

    Raises:
        ConfigError: the export extra is not installed, or an axis that does not exist.
        UnsupportedModelError: the module cannot be traced, or onnxruntime differs by more than
            ``tolerance``; nothing is written then.
        DataError: the folder cannot be written.
    """
    _need_extra()
    target, inputs = Path(folder), [example_inputs, *samples]
    with explained(target):
        target.mkdir(parents=True, exist_ok=True)
    with explained(target), tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target) as temporary:
        graph = Path(temporary) / f"{name}.onnx"
        _trace(module, example_inputs, graph, outputs, dynamic or {})
        differences = compare(module, graph, inputs, outputs)
        _refuse(differences, tolerance, name)
        final = target / graph.name
        report = ExportReport(
            final, tuple(example_inputs), tuple(outputs), differences, len(inputs), tolerance, sha256(graph)
        )
        beside = graph.with_suffix(".json")
        write_json(beside, {**_described(report, example_inputs, dynamic or {}), **(settings or {})})
        graph.replace(final)
        beside.replace(final.with_suffix(".json"))
    return report


def compare(
    module: nn.Module, graph: Path, inputs: Sequence[Mapping[str, Tensor]], outputs: Sequence[str]
) -> dict[str, float]:
    """Largest absolute difference of every output between onnxruntime and torch, over ``inputs``.

    A shape that differs or a value that is not finite on one side alone counts as infinitely far.
    """
    import torch

    session = open_session(graph)
    largest = dict.fromkeys(outputs, 0.0)
    for given in inputs:
        with torch.no_grad():
            expected = module(*given.values())
        tensors = (expected,) if isinstance(expected, torch.Tensor) else tuple(expected)
        found = session.run(list(outputs), {key: value.numpy() for key, value in given.items()})
        for name, ours, theirs in zip(outputs, tensors, found, strict=True):
            largest[name] = max(largest[name], _distance(ours, torch.from_numpy(theirs)))
    return largest


def _distance(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    if ours.numel() == 0:
        return 0.0
    gap = (ours.double() - theirs.double()).abs()
    gap[ours.double() == theirs.double()] = 0.0  # equal infinities
    return float(gap.nan_to_num(nan=float("inf")).max())


def open_session(graph: str | Path) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        ConfigError: the export extra is not installed.
        UnsupportedModelError: onnxruntime cannot load the file.
    """
    _need_extra()
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UnsupportedModelError(f"onnxruntime cannot load it ({error})", where=graph) from error


def _need_extra() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{missing[0]} is not installed", hint="pip install 'wildsight[export]'")


def _trace(
    module: nn.Module,
    example: Mapping[str, Tensor],
    graph: Path,
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
) -> None:
    import torch

    sizes = {name for axes in dynamic.values() for name in axes.values()}
    dims = {name: torch.export.Dim(name, min=1) for name in sizes}
    shapes = {key: {axis: dims[name] for axis, name in dynamic.get(key, {}).items()} for key in example}
    try:
        with _quiet():
            torch.onnx.export(
                module,
                tuple(example.values()),
                graph,
                input_names=list(example),
                output_names=list(outputs),
                dynamic_shapes=tuple(shapes.values()),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedModelError(f"{type(module).__name__} cannot be traced ({first})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's warnings are about its own tables, not about the module."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _refuse(differences: Mapping[str, float], tolerance: float, name: str) -> None:
    worst = max(differences, key=lambda key: differences[key])
    if not differences[worst] <= tolerance:
        raise UnsupportedModelError(
            f"onnxruntime differs from torch by {differences[worst]:.3g} in {worst!r}, "
            f"more than {tolerance:g}; nothing was written",
            where=f"{name}.onnx",
            hint="raise the tolerance if this is small for your use",
        )


def _described(
    report: ExportReport, example: Mapping[str, Tensor], dynamic: Mapping[str, Mapping[int, str]]
) -> dict[str, Any]:
    """What the JSON file says of the graph itself."""
    import torch

    inputs = {
        key: {
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": [dynamic.get(key, {}).get(axis, size) for axis, size in enumerate(value.shape)],
        }
        for key, value in example.items()
    }
    return {
        "file": report.file.name,
        "sha256": report.sha256,
        "opset": OPSET,
        "torch": torch.__version__,
        "inputs": inputs,
        "outputs": list(report.outputs),
        "largest_difference": dict(report.differences),
        "tolerance": report.tolerance,
        "samples": report.samples,
    }


def pillow_weights(inside: int, outside: int) -> Tensor:
    """Pillow's bilinear resize along one axis as a matrix ``[outside, inside]``, rows summing to 1.

    A triangle of half-width ``max(inside / outside, 1)`` around each output's centre. No branch depends on
    ``inside``, so that it may stay open in a traced graph.

    Args:
        inside: pixels there are.
        outside: pixels wanted.
    """
    import torch

    place = torch.arange(inside, dtype=torch.float32) + 0.5
    scale = torch.ones_like(place).sum() / outside
    centre = (torch.arange(outside, dtype=torch.float32) + 0.5) * scale
    weight = (1.0 - (place[None] - centre[:, None]).abs() / scale.clamp(min=1.0)).clamp(min=0.0)
    return weight / weight.sum(dim=1, keepdim=True)


def pillow_resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures stretched to ``size`` as Pillow does it: columns, then rows, rounded to whole levels.

    Args:
        pixels: ``[B, H, W, 3]`` uint8, any H and W.
        size: (rows, columns).

    Returns:
        ``[B, 3, *size]`` float32, whole numbers 0-255; within one level of Pillow's.
    """
    planes = pixels.float().permute(0, 3, 1, 2)
    wide = (planes @ pillow_weights(pixels.shape[2], size[1]).T + HALF_UP).floor()
    return (pillow_weights(pixels.shape[1], size[0]) @ wide + HALF_UP).floor()
