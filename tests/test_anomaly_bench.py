"""The bench: its names, its cells that are kept, its pictures, its demonstration's settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wildsight import AnomalyDetector
from wildsight.anomaly.bench import AnomalyBench
from wildsight.anomaly.methods.ras import RAS
from wildsight.errors import ConfigError, DataError

variant = AnomalyDetector.variant


def test_names() -> None:
    both = variant("ras[gate=false,neighbour=all]@1e-3")
    assert (both.name, both.options, both.lr) == ("ras", {"gate": False, "neighbour": "all"}, 1e-3)
    assert both.method == RAS(gate=False, neighbour="all")
    assert variant("uniad").lr is None and variant("uniad@7e-4").lr == 7e-4
    assert variant("ras[gate=false]").stem == "ras_gate=false" and variant("uniad@7e-4").stem == "uniad@7e-4"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nosuch", "unknown method"),
        ("rass", "did you mean 'ras'"),
        ("ras@fast", "no learning rate"),
        ("padim@1", "not trained"),
        ("ras[x]", "value"),
        ("ras[dd=3]", "unknown hyper-parameter 'dd'; did you mean 'd'"),
        ("ras[d=wide]", "not a whole number"),
        ("ras[channels=3]", "unknown hyper-parameter"),
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
    first = AnomalyBench(source, out=tmp_path, methods=names, categories=["one"], **settings).run()
    assert [r["method"] for r in first.rows] == [n for n in names for _ in ("one", "mean")]
    assert len(first.pictures) == 9 and "ras 0.0007" in first.facts["learning rates"]
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*")}
    again = AnomalyBench(source, out=tmp_path, methods=names, categories=["one"], **settings).run()
    assert again.rows == first.rows and len(again.pictures) == 9
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*")} == stamps
    assert [c for _, c in again.pictures] == [c for _, c in first.pictures]
    partly = AnomalyBench(
        source, out=tmp_path, methods=names, categories=["one"], **settings | {"seeds": 2}, finished=True
    ).run()
    assert partly.rows == first.rows and partly.facts["missing"].count("seed 1") == 3
    with pytest.raises(DataError, match="three"):
        AnomalyBench(source, out=tmp_path, categories=["three"], **settings)


def test_the_bench_measures_the_product(root: Path, tmp_path: Path) -> None:
    bench = AnomalyBench(f"mvtec-ad:{root / 'data'}", out=tmp_path, backbone=str(root / "network"))
    for chosen in bench.variants:
        made = bench.made(chosen, 0, bench.network, "cpu")
        own = AnomalyDetector(chosen.name, bench.network, device="cpu")
        assert made.get_params() == own.get_params() and made.training_config({}) == own.training_config({})


def test_an_unknown_option_is_refused_with_the_nearest(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown option 'epocs'; did you mean 'epochs'"):
        AnomalyBench(f"mvtec-ad:{root / 'data'}", out=tmp_path, backbone=str(root / "network"), epocs=3)
