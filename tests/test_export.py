"""The export helper: files, dynamic sizes, refusal above the tolerance, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wildsight.errors import UnsupportedModelError
from wildsight.export import compare, export_onnx, open_session

pytest.importorskip("onnxruntime")


class Sums(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(x), (x * y).sum(dim=1)


class Half(nn.Module):
    """Rounds differently once exported: the two sides see another constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (0.0 if torch.compiler.is_exporting() else 0.5)


def inputs(rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return {name: torch.randn(rows, 4, generator=generator) for name in ("x", "y")}


def test_two_outputs_any_batch(tmp_path: Path) -> None:
    module = Sums().eval()
    report = export_onnx(
        module,
        inputs(2),
        tmp_path,
        name="sums",
        outputs=("line", "total"),
        dynamic={"x": {0: "batch"}, "y": {0: "batch"}},
        samples=[inputs(1), inputs(5)],
        settings={"threshold": 0.5},
    )
    assert report.samples == 3 and set(report.differences) == {"line", "total"}
    assert max(report.differences.values()) < 1e-5
    beside = json.loads((tmp_path / "sums.json").read_text())
    assert beside["threshold"] == 0.5 and beside["sha256"] == report.sha256
    assert beside["inputs"]["x"] == {"dtype": "float32", "shape": ["batch", 4]}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sums.json", "sums.onnx"]
    given = inputs(7)
    line, _ = open_session(report.file).run(None, {k: v.numpy() for k, v in given.items()})
    assert torch.allclose(torch.from_numpy(line), module(**given)[0], atol=1e-5)
    assert "differs from torch by line" in report.line()


def test_refused_above_tolerance_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"differs from torch by 0\.5"):
        export_onnx(Half().eval(), {"x": torch.randn(2, 3)}, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    loose = export_onnx(Half().eval(), {"x": torch.randn(2, 3)}, tmp_path / "out", tolerance=1.0)
    assert loose.differences["output"] == pytest.approx(0.5, abs=1e-6)
    wide = {"x": torch.randn(2, 3)}
    assert compare(Half().eval(), loose.file, [wide], ["output"])["output"] == pytest.approx(0.5, abs=1e-6)


def test_not_traceable_is_one_sentence(tmp_path: Path) -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(UnsupportedModelError, match="Asks cannot be traced"):
        export_onnx(Asks().eval(), {"x": torch.randn(2)}, tmp_path)
    assert list(tmp_path.iterdir()) == []
