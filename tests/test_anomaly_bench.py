"""The bench: its names, its cells that are kept, its pictures, its demonstration's settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wildsight.anomaly.bench import bench
from wildsight.anomaly.variants import variant
from wildsight.errors import ConfigError, DataError


def test_names() -> None:
    both = variant("ras[gate=false,neighbour=all]@1e-3")
    assert (both.method, both.hyper, both.lr) == ("ras", {"gate": False, "neighbour": "all"}, 1e-3)
    assert variant("uniad").lr == 1e-4 and variant("uniad").differs == {}
    assert variant("uniad@7e-4").differs == {"lr": 7e-4} and variant("padim").lr is None
    assert variant("ras[gate=false]").stem == "ras_gate=false" and variant("uniad@7e-4").stem == "uniad@7e-4"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nosuch", "no method"),
        ("ras@fast", "no learning rate"),
        ("padim@1", "not trained"),
        ("ras[x]", "value"),
    ],
)
def test_wrong_names(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        variant(name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("bench")
    sizes = [4, 4, 6, 8]
    config = ResNetConfig(embedding_size=4, hidden_sizes=sizes, depths=[1] * 4, layer_type="basic")
    ResNetModel(config).save_pretrained(root / "network")
    for name in ("one", "two"):
        for part, count in (("train/good", 12), ("test/good", 3), ("test/spot", 3), ("ground_truth/spot", 3)):
            folder = root / "data" / name / part
            folder.mkdir(parents=True)
            for i in range(count):
                draw = np.random.default_rng(i + 10 * len(part))
                pixels = draw.integers(0, 256, (128, 128, 3), dtype=np.uint8)
                mask = Image.new("L", (128, 128), 0)
                mask.paste(255, (10, 10, 40, 40))
                if "truth" in part:
                    mask.save(folder / f"{i}_mask.png")
                else:
                    Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def test_a_cell_is_run_once_and_its_pictures_stay(root: Path, tmp_path: Path) -> None:
    names = ["ras", "ras[gate=false,d=16,heads=2]@1e-3", "padim"]
    source, network = f"mvtec-ad:{root / 'data'}", str(root / "network")
    settings = {"backbone": network, "seeds": 1, "epochs": 1, "image_size": 128, "progress": False}
    first = bench(source, out=tmp_path, methods=names, categories=["one"], **settings)
    assert [r["method"] for r in first["rows"]] == [n for n in names for _ in ("one", "mean")]
    assert len(first["pictures"]) == 9 and "ras 0.0007" in first["facts"]["learning rates"]
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*")}
    again = bench(source, out=tmp_path, methods=names, categories=["one"], **settings)
    assert again["rows"] == first["rows"] and len(again["pictures"]) == 9
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*")} == stamps
    assert [c for _, c in again["pictures"]] == [c for _, c in first["pictures"]]
    partly = bench(
        source, out=tmp_path, methods=names, categories=["one"], **settings | {"seeds": 2}, finished=True
    )
    assert partly["rows"] == first["rows"] and partly["facts"]["missing"].count("seed 1") == 3
    with pytest.raises(DataError, match="three"):
        bench(source, out=tmp_path, categories=["three"], **settings)
