"""Every kind of picture ends as 8-bit RGB, or as one sentence."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.datasets.masks import read_mask as load_mask
from wildsight.errors import ConfigError, DataError, ImageError
from wildsight.images import expand, from_array, image_size, list_images, load_image, load_stored


def test_modes(tmp_path: Path) -> None:
    grey16 = np.full((3, 4), 257 * 100, dtype=np.uint16)
    Image.fromarray(grey16).save(tmp_path / "grey16.png")
    assert load_image(tmp_path / "grey16.png").getpixel((0, 0)) == (100, 100, 100)
    Image.fromarray(np.full((3, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    assert load_image(tmp_path / "float.tif").getpixel((0, 0)) == (128, 128, 128)
    Image.new("RGBA", (4, 3), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert load_image(tmp_path / "clear.png", background=(1, 2, 3)).getpixel((0, 0)) == (1, 2, 3)
    Image.new("CMYK", (4, 3), (0, 0, 0, 0)).save(tmp_path / "cmyk.jpg")
    assert load_image(tmp_path / "cmyk.jpg").getpixel((0, 0)) == (255, 255, 255)
    red = Image.new("RGB", (4, 3), (255, 0, 0))
    red.quantize(4).save(tmp_path / "palette.png")
    assert load_image(tmp_path / "palette.png").getpixel((0, 0)) == (255, 0, 0)
    Image.new("1", (4, 3), 1).save(tmp_path / "bits.png")
    assert load_image(tmp_path / "bits.png").mode == "RGB"


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(tmp_path / "turned.jpg").size == (4, 8) == image_size(tmp_path / "turned.jpg")


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    for name in ("cut.png", "text.png", "empty.jpg", "missing.png"):
        with pytest.raises(ImageError, match=name):
            load_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"cut\.png"):
        image_size(tmp_path / "cut.png")
    with pytest.raises(ImageError, match="above the limit"):
        load_image(tmp_path / "whole.png", max_pixels=64 * 64 - 1)
    with pytest.raises(ImageError, match="pixels"):
        Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
        load_image(tmp_path / "bomb.png")


def test_masks(tmp_path: Path) -> None:
    values = np.zeros((5, 6), np.uint8)
    values[2, 3] = 1
    Image.fromarray(values).save(tmp_path / "m.png")
    assert np.array_equal(load_mask(tmp_path / "m.png"), values > 0)
    rgba = np.zeros((5, 6, 4), np.uint8)
    rgba[..., 3] = 255
    rgba[2, 3, 0] = 9
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    assert np.array_equal(load_mask(tmp_path / "rgba.png"), values > 0)


def test_arrays() -> None:
    assert from_array(np.ones((2, 2))).getpixel((0, 0)) == (255, 255, 255)
    for wrong in (np.zeros((2, 2, 2)), np.zeros(3), np.zeros((0, 4, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(ImageError):
            from_array(wrong)


def test_listing(tmp_path: Path) -> None:
    for name in ("a10.png", "a9.png", ".hidden.png", "b.txt"):
        Image.new("L", (2, 2)).save(tmp_path / name, format="PNG")
    assert [p.name for p in list_images(tmp_path)] == ["a9.png", "a10.png"]
    assert expand(str(tmp_path / "a*.png"))[0].name == "a9.png"
    with pytest.raises(DataError):
        expand(str(tmp_path / "z*.png"))
    with pytest.raises(DataError):
        list_images(tmp_path / "missing")


def test_a_fault_found_after_decoding_names_the_file(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(ImageError, match=r"nan\.tif.*NaN"):
        load_image(tmp_path / "nan.tif")


def test_declared_range(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 4), 1023, np.uint16)).save(tmp_path / "ten_bit.png")
    assert load_image(tmp_path / "ten_bit.png", full_scale=1023).getpixel((0, 0)) == (255, 255, 255)
    assert from_array(np.full((2, 2), 5.0), full_scale=10.0).getpixel((0, 0)) == (128, 128, 128)


def test_pixel_cap_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    monkeypatch.setenv("WILDSIGHT_MAX_PIXELS", "63")
    for reader in (load_image, load_stored, image_size):
        with pytest.raises(ImageError, match="above the limit of 63"):
            reader(tmp_path / "small.png")
    assert load_image(tmp_path / "small.png", max_pixels=64).size == (8, 8)
    monkeypatch.setenv("WILDSIGHT_MAX_PIXELS", "many")
    with pytest.raises(ConfigError, match="WILDSIGHT_MAX_PIXELS"):
        load_image(tmp_path / "small.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_damaged_bytes_are_always_an_image_error(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if kind in ("BMP", "GIF") else {"exif": exif}
    noise = Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
    noise.save(stream, format=kind, **options)
    whole, file = stream.getvalue(), tmp_path / "damaged"
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(0, rng.choice([40, 200, len(damaged)]), 3)
        damaged[where] = rng.integers(0, 256, 3)
        file.write_bytes(damaged.tobytes()[: rng.integers(1, len(damaged) + 1)])
        for reader in (load_image, load_stored, image_size):
            with contextlib.suppress(ImageError):
                reader(file)


def test_odd_names(tmp_path: Path) -> None:
    for name in ("1²2.png", "10.png", "9.png"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    names = [p.name for p in list_images(tmp_path)]
    assert names == ["1²2.png", "9.png", "10.png"]
