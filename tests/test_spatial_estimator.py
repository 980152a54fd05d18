"""What the grounder has as every estimator: many pictures, methods as objects, old checkpoints, the bench."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spatial_models import tiny_folder, tiny_mllm
from wildsight.errors import ConfigError
from wildsight.spatial import SpatialGrounder
from wildsight.spatial.data import world
from wildsight.spatial.methods import METHODS
from wildsight.spatial.samples import SpatialData

FAST = {"epochs": 1, "batch_size": 8, "progress": False}


@pytest.fixture(scope="module")
def data() -> SpatialData:
    return world(12, 4, 48, 0, (1.0, 2.5))


@pytest.fixture(scope="module")
def fitted(data: SpatialData) -> SpatialGrounder:
    return SpatialGrounder("llmi3d", tiny_mllm(), hyper={"threshold": 0.0}).fit(data, **FAST)


def test_pictures_come_one_by_one_or_many(fitted: SpatialGrounder, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (48, 48, 3)).astype(np.uint8)).save(file)
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:40])
    asked = ["the red cube", "a tree"]
    one = [r for file in files for r in fitted.predict(file, asked, focal=50.0)]
    nested = fitted.predict(files, [asked, asked], focal=50.0)
    assert [r.expression for r in nested] == asked * 2 and [r.image for r in nested] == [
        *files[:1] * 2,
        *files[1:] * 2,
    ]
    for a, b in zip(one, nested, strict=True):
        assert np.allclose(a.boxes[0].centre, b.boxes[0].centre, atol=1e-4)
    assert [r.expression for r in fitted.predict(files, asked, focal=50.0)] == asked
    assert [r.expression for r in fitted.predict(image=files[0], expression="a tree", focal=50.0)] == [
        "a tree"
    ]
    assert fitted.predict([], "a tree") == []
    with pytest.raises(ConfigError, match="3 expressions for 2 pictures"):
        fitted.predict(files, [*asked, "a car"], focal=50.0)
    results, errors = fitted.predict_files([files[0], tmp_path / "cut.png", files[1]], "a tree", focal=50.0)
    assert [r.image for r in results] == files and "cut.png" in str(errors[0]) and len(errors) == 1
    assert "intrinsics: given" in results[0].line()


def test_a_method_is_its_hyper_parameters(data: SpatialData) -> None:
    method = METHODS.create("llmi3d", {"Q": 2})
    assert SpatialGrounder(method, tiny_mllm()).get_params()["hyper"] == {"Q": 2}
    assert not METHODS.create("no-local").local and not METHODS.create("no-virtual-depth").virtual
    with pytest.raises(ConfigError, match="did you mean 'hidden'"):
        SpatialGrounder("llmi3d", tiny_mllm(), hyper={"hiden": 4})


def test_a_model_that_another_fit_took_is_not_asked(data: SpatialData) -> None:
    mllm = tiny_mllm()
    first = SpatialGrounder("llmi3d", mllm).fit(data, **FAST)
    SpatialGrounder("text", mllm).fit(data, **FAST)
    with pytest.raises(ConfigError, match="another fit"):
        first.predict(np.zeros((48, 48, 3), np.uint8), "the cube", focal=50.0)


def test_hyper_parameters_that_a_method_does_not_read_are_dropped_from_old_checkpoints(
    data: SpatialData, tmp_path: Path
) -> None:
    from wildsight.files import load_checkpoint, save_checkpoint

    folder = tiny_folder(tmp_path / "llava")
    SpatialGrounder("cube-head", str(folder)).fit(data, **FAST).save_pretrained(tmp_path / "new")
    tensors, config = load_checkpoint(tmp_path / "new", name="head")
    hyper = {"Q": 1, "pool": 1, "geometry": "fused"}  # as the command wrote them for every method
    save_checkpoint(tmp_path / "old", tensors, {**config, "hyper": hyper}, name="head")
    assert SpatialGrounder.from_pretrained(tmp_path / "old").hyper == {"geometry": "fused"}


def test_the_bench_takes_variants_presets_and_the_worlds_options(tmp_path: Path) -> None:
    from wildsight.spatial.bench import SpatialBench

    options = {
        "train": 8,
        "test": 2,
        "epochs": 1,
        "batch_size": 8,
        "seeds": 1,
        "tokens": [0.5],
        "image_size": 48,
    }
    bench = SpatialBench(
        "world",
        out=tmp_path,
        preset="minutes",
        methods=["llmi3d[K_d=8]", "cube-head"],
        progress=False,
        **options,
    )
    result = bench.run()
    assert {r["method"] for r in result.rows} == {
        "llmi3d[K_d=8]",
        "llmi3d[K_d=8], 50% of tokens",
        "cube-head",
    }
    assert {r["group"] for r in result.rows} == {"x0.6", "x1", "x1.6", "x2.5", "all"}
    assert bench.options.hyper == {"pool": 2, "d": 32, "tune": "full"} and bench.network.name == "tiny"
    with pytest.raises(ConfigError, match="did you mean 'minutes'"):
        SpatialBench("world", out=tmp_path, preset="minute")
