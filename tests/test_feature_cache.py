"""The feature cache: computed once, resumed, shared by processes, honest about what it cannot read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from wildsight.backbones import Backbone, cache, load_backbone
from wildsight.backbones.cache import cached_features
from wildsight.errors import DataError, ImageError


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("resnet")
    sizes = {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    hf.ResNetModel(hf.ResNetConfig(embedding_size=4, **sizes)).save_pretrained(folder)
    return load_backbone(folder)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Five noise pictures and, third, one that cannot be read."""
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{i}.png" for i in range(6)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file)
    files[2].write_text("no picture")
    return files


def _deepest(pyramid: dict[int, torch.Tensor]) -> torch.Tensor:
    return pyramid[max(pyramid)]


def _cached(backbone: Backbone, files: list[Path], **options: Any) -> cache.CachedFeatures:
    return cached_features(backbone, files, 32, (8,), _deepest, options.pop("extra", {}), batch=2, **options)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the files decoded, in a cache of its own."""
    names: list[str] = []
    real = cache.load_image
    monkeypatch.setattr(cache, "load_image", lambda f: (names.append(f.name), real(f))[1])
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    return names


def test_features_are_those_of_the_network_and_computed_once(
    backbone: Backbone, pictures: list[Path], opened: list[str]
) -> None:
    done: list[int] = []
    first = _cached(backbone, pictures, progress=done.append)
    assert sum(done) == 6 and sorted(opened) == [f.name for f in pictures], "each decoded once"
    assert first.ok.tolist() == [True, True, False, True, True, True]
    assert [type(e) for e in first.errors] == [ImageError] and "2.png" in str(first.errors[0])
    assert not first.array[2].any()
    for row in (0, 1, 3, 4, 5):
        with Image.open(pictures[row]) as picture:
            expected = backbone.pyramid(backbone.preprocess([picture], 32), (8,))[8][0]
        np.testing.assert_allclose(first.array[row], expected, atol=1e-5)
    opened.clear()
    again = _cached(backbone, pictures)
    assert opened == ["2.png"] and np.array_equal(again.array, first.array)
    assert [str(e) for e in again.errors] == [str(e) for e in first.errors]


def test_an_interrupted_pass_goes_on(backbone: Backbone, pictures: list[Path], opened: list[str]) -> None:

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _cached(backbone, pictures, progress=interrupt)
    opened.clear()
    assert _cached(backbone, pictures).ok.sum() == 5
    assert sorted(opened) == ["2.png", "3.png", "4.png", "5.png"]


def test_the_key_holds_all_that_matters(backbone: Backbone, pictures: list[Path], opened: list[str]) -> None:
    files = pictures[:2]
    other = Backbone(backbone.model, "other", backbone.sha, (0.1,) * 3, backbone.std)
    _cached(backbone, files)
    for run in (
        lambda: _cached(other, files),
        lambda: _cached(backbone, files, extra={"smooth": 3}),
        lambda: _cached(backbone, files, dtype="float16"),
        lambda: _cached(backbone, files[::-1]),
        lambda: (Image.new("RGB", (9, 9)).save(files[0]), _cached(backbone, files)),
    ):
        opened.clear()
        run()
        assert len(opened) == 2
    assert _cached(backbone, files, dtype="float16").array.dtype == np.float16


def test_two_passes_at_once_lose_nothing(backbone: Backbone, pictures: list[Path], opened: list[str]) -> None:
    """A whole pass runs between another's opening of the store and its first row;
    then that other is cut off.
    """
    inner: list[cache.CachedFeatures] = []

    def assemble(pyramid: dict[int, torch.Tensor]) -> torch.Tensor:
        inner.append(_cached(backbone, pictures))
        return _deepest(pyramid)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_features(backbone, pictures, 32, (8,), assemble, {}, batch=2, progress=interrupt)
    after = _cached(backbone, pictures)
    for pass_ in (inner[0], after):
        assert pass_.ok.sum() == 5
        assert all(pass_.array[i].any() for i in np.flatnonzero(pass_.ok)), "done means there"
    assert not list((pictures[0].parent / "cache" / "features").glob(".*")), "nothing left behind"


def test_no_picture_at_all(backbone: Backbone, pictures: list[Path], opened: list[str]) -> None:
    with pytest.raises(ImageError, match=r"2\.png"):
        _cached(backbone, [pictures[2]])
    with pytest.raises(DataError, match="no pictures"):
        _cached(backbone, [])


def test_a_full_disk_is_one_sentence(
    backbone: Backbone, pictures: list[Path], opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write_zeros", full)
    with pytest.raises(DataError, match="disk is full"):
        _cached(backbone, pictures)


def test_a_damaged_cache_is_named(backbone: Backbone, pictures: list[Path], opened: list[str]) -> None:
    _cached(backbone, pictures)
    (folder,) = (pictures[0].parent / "cache" / "features").iterdir()
    (folder / "features.npy").write_bytes(b"short")
    with pytest.raises(DataError, match="damaged"):
        _cached(backbone, pictures)
