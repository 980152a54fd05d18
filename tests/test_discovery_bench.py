"""The bench on a tiny set: cells are kept, options are refused by name; real class folders where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_discovery_cli import PALETTE, picture
from wildsight.discovery.bench import DiscoveryBench
from wildsight.discovery.data import read_source
from wildsight.discovery.estimator import CategoryDiscoverer
from wildsight.discovery.features import ViewConfig
from wildsight.errors import ConfigError


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("classes")
    for number, colour in enumerate(PALETTE):
        (root / colour).mkdir()
        for i in range(6):
            picture(colour, 100 * number + i).save(root / colour / f"{i}.png")
    return f"classes:{root}"


def test_a_bench_keeps_its_cells(classes: str, tmp_path: Path) -> None:
    methods = ("sskmeans", "sskmeans-raw", "nngcd", "NN-GCD, act relu", "nngcd-text")
    options = {"methods": methods, "seeds": 1, "epochs": 2, "image_size": 48, "views": 1, "progress": False}
    options |= {"k": "true", "hyper": {"hidden": 32, "out": 16}}
    first = DiscoveryBench(classes, out=tmp_path, **options).run()  # type: ignore[arg-type]
    assert [r["method"] for r in first.rows] == list(methods)
    assert all(0 <= r["all"] <= 1 and r["k"] == 4 and r["transductive"] for r in first.rows)
    assert first.rows[3]["abar_negative"] == 0.0 and first.facts["K"] == "given (the true number)"
    assert all(0 < r["abar_consistency"] <= 1 for r in first.rows[2:])
    assert len(list((tmp_path / "cells").glob("*.json"))) == 5
    assert DiscoveryBench(classes, out=tmp_path, **options).run().rows == first.rows  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown method 'magic'"):
        DiscoveryBench(classes, out=tmp_path, methods=["magic"])
    with pytest.raises(ConfigError, match="unknown method 'nngcd-verse'; did you mean 'nngcd-"):
        DiscoveryBench(classes, out=tmp_path, methods=["nngcd-verse"])


def test_variants_carry_their_settings_and_the_options_of_the_bench(classes: str, tmp_path: Path) -> None:
    names = ["sskmeans", "sskmeans-raw", "nngcd-released:cifar-100[t=0.3]@0.02", "NN-GCD, act relu", "simgcd"]
    bench = DiscoveryBench(classes, out=tmp_path, methods=names, epochs=3, components=8, image_size=48)
    made = [bench.made(v, 0, bench.network, "cpu") for v in bench.variants]
    assert [m.settings.space.components for m in made] == [8, 0, 8, 8, 8]
    released, relu, simgcd = (m.method for m in made[2:])
    assert (released.epochs, released.eps, released.t, released.start) == (3, 4.0, 0.3, "random")
    assert bench.variants[2].lr == 0.02 and relu.act == "relu" and relu.epochs == simgcd.epochs == 3
    assert simgcd.act == "none" and made[0].settings.k == "auto"  # the product's default


@pytest.mark.slow
def test_half_of_the_groceries_are_new(shared: Path) -> None:
    data = read_source(f"classes:{shared / 'data' / 'grocery81' / 'train'}").limited(8, 12)
    network = str(shared / "data" / "weights" / "mobilenet_v2_imagenet")
    found = CategoryDiscoverer(backbone=network, k=8, views=ViewConfig(96)).fit(data)
    row = found.evaluate(data).rows[0]
    assert row["all"] > 0.5 and row["fixed_old"] > 0.5
