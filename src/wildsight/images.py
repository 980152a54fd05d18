"""The only place where bytes become pixels.

Formats come from an allow-list, the number of pixels is checked before anything is decoded, and every
kind of picture ends as 8-bit RGB: EXIF orientation applied, 16-bit and float scaled by their declared
range, alpha laid over a stated background, palette and CMYK converted. A page of a TIFF or of an animation
is a picture of its own, named ``file.tif#2``; a file of several pages of which none is named is refused.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from wildsight.errors import ConfigError, ImageError
from wildsight.files import atomic_path
from wildsight.full_scale import carried, checked_scale, declare_scale, declared_scale, scaled
from wildsight.listing import SUFFIXES, SYSTEM, expand, list_images, natural_key
from wildsight.pages import FORMATS, frames_of, split_page

__all__ = [
    "FORMATS", "MAX_PIXELS", "SUFFIXES", "SYSTEM", "Picture", "Stored", "as_list", "as_picture", "bit_depth",
    "carried", "checked_scale", "declare_scale", "declared_scale", "exif_of", "expand", "from_array",
    "image_size", "list_images", "load_image", "load_labels", "load_stored", "load_values", "natural_key",
    "no_larger", "path_of", "save_png", "scaled",
]  # fmt: skip

MAX_PIXELS = 100_000_000
WHITE = (255, 255, 255)
Picture = str | Path | Image.Image | np.ndarray | bytes
"""A file, a PIL picture, pixels as `from_array` takes them, or an encoded picture's bytes."""


def _pixel_cap() -> int:
    """``$WILDSIGHT_MAX_PIXELS``, or `MAX_PIXELS`."""
    text = os.environ.get("WILDSIGHT_MAX_PIXELS", "")
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{text!r} is no number of pixels", where="WILDSIGHT_MAX_PIXELS", hint="unset it")
    return int(text)


def _open(path: Path, max_pixels: int | None, data: bytes | None = None) -> Image.Image:
    """An opened, not yet decoded picture whose header has been checked; from ``data`` where it is given.

    Of a file of several pages it stands at the one that ``path`` names.
    """
    cap = _pixel_cap() if max_pixels is None else max_pixels
    file, page = split_page(path) if data is None else (path, None)
    try:
        if data is None and not stat.S_ISREG(file.stat().st_mode):
            raise ImageError("not a regular file", where=path, hint="name a picture file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(file if data is None else io.BytesIO(data), formats=FORMATS)
            _turn_to(picture, path, page)
    except FileNotFoundError as error:
        raise ImageError("no such file", where=path, hint="check the path") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            "not a picture that can be read", where=path, hint="save it as PNG or JPEG"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError("far too many pixels", where=path, hint="make it smaller") from error
    except (OSError, ValueError, SyntaxError, EOFError, TypeError) as error:
        raise ImageError(f"cannot be opened ({error})", where=path, hint="restore or remove it") from error
    width, height = picture.size
    if width * height > cap:
        picture.close()
        what = f"{width} x {height} pixels, above the limit of {cap}"
        raise ImageError(what, where=path, hint="make it smaller")
    return picture


def _turn_to(picture: Image.Image, path: Path, page: int | None) -> None:
    """Go to a page, counted from 1.

    Raises:
        ImageError: there are several and none is named, or there is no such page.
    """
    frames = frames_of(picture)
    if page is None and len(frames) == 1:
        return
    if page is None:
        one = f"name one, such as {path.name}#2"
        hint = one if path.suffix else "give one: picture.seek(1), then picture.copy()"
        raise ImageError(f"holds {len(frames)} pages, each a picture of its own", where=path, hint=hint)
    if not 1 <= page <= len(frames):
        hint = f"name 1 to {len(frames)}"
        raise ImageError(f"there is no page {page} of {len(frames)}", where=path, hint=hint)
    picture.seek(frames[page - 1])


def _decode(picture: Image.Image, path: Path) -> Image.Image:
    try:
        picture.load()
        return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ImageError(
            f"truncated or damaged ({error})", where=path, hint="restore or remove it"
        ) from error


def load_image(
    path: str | Path,
    *,
    background: tuple[int, int, int] = WHITE,
    full_scale: float | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Read a picture as 8-bit RGB.

    Args:
        path: a file in one of `FORMATS`, or a page of one: ``scan.tif#2``.
        background: colour behind transparent pixels, 0-255 each.
        full_scale: the value of white in a 16-bit, 32-bit or float picture, see `from_array`; that of
            `scaled` if None.
        max_pixels: width x height allowed, checked before decoding; ``$WILDSIGHT_MAX_PIXELS`` or
            `MAX_PIXELS` if None. Pillow's own limit (179 million) stands above it.

    Returns:
        A PIL picture in mode RGB, upright.

    Raises:
        ImageError: missing, unknown, truncated, holding NaN, of several pages of which none is named, or with
            more pixels than allowed.
    """
    return _loaded(Path(path), None, background, full_scale, max_pixels)


def _loaded(
    file: Path,
    data: bytes | None,
    background: tuple[int, int, int] = WHITE,
    full_scale: float | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """A picture file, or the bytes of one, as 8-bit RGB."""
    with _open(file, max_pixels, data) as picture:
        upright = _decode(picture, file)
    try:
        return _to_rgb(upright, background, full_scale or declared_scale())
    except ImageError as error:
        raise ImageError(error.what, where=file, hint=error.hint) from error


def _to_rgb(
    picture: Image.Image, background: tuple[int, int, int], full_scale: float | None = None
) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        return from_array(np.asarray(picture), full_scale=full_scale)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        base = Image.new("RGBA", over.size, (*background, 255))
        return Image.alpha_composite(base, over).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def from_array(array: np.ndarray, *, full_scale: float | None = None) -> Image.Image:
    """Pixels as 8-bit RGB.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]; bool, uint8 (0-255), other integers (0-65535)
            or float (0-1).
        full_scale: the value that becomes 255, for another range; values outside are clipped.

    Raises:
        ImageError: another shape, an empty picture, or values that are not finite.

    >>> from_array(np.full((2, 2), 65535, dtype=np.uint16)).getpixel((0, 0))
    (255, 255, 255)
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise ImageError(f"an array of shape {array.shape} is no picture", hint="give [H, W] or [H, W, 3]")
    picture = Image.fromarray(_eight_bit(array, full_scale))
    return _to_rgb(picture, WHITE)


def as_picture(item: Picture) -> Image.Image:
    """A file, a PIL picture, pixels or encoded bytes as 8-bit RGB: the same pixels, whichever way they come.

    A PIL picture is treated as its file would be: turned upright by its EXIF, transparency laid over white,
    16-bit and float values scaled. One that is 8-bit RGB and upright is returned as it is.

    Raises:
        ImageError: it cannot be read, is empty, or holds NaN.
    """
    if isinstance(item, Image.Image):
        return _of_pil(item)
    if isinstance(item, bytes | bytearray | memoryview):
        return _loaded(Path("the bytes"), bytes(item))
    if isinstance(item, np.ndarray):
        deep = item.dtype not in (np.dtype(np.uint8), np.dtype(np.bool_))
        return from_array(item, full_scale=declared_scale() if deep else None)
    return load_image(item)


def _of_pil(picture: Image.Image) -> Image.Image:
    """A PIL picture as its file would be read."""
    where = Path(getattr(picture, "filename", "") or "the picture")
    if not getattr(picture, "format", None):
        return _to_rgb(ImageOps.exif_transpose(picture), WHITE, declared_scale())
    try:
        _turn_to(picture, where, None)
    except (OSError, ValueError, SyntaxError, EOFError, TypeError) as error:
        raise ImageError(f"damaged ({error})", where=where, hint="restore or remove it") from error
    return _to_rgb(_decode(picture, where), WHITE, declared_scale())


def no_larger(picture: Image.Image, side: int | None) -> Image.Image:
    """A picture whose longer side is at most ``side`` pixels; as it is where it fits, or where that is None.

    >>> no_larger(Image.new("RGB", (400, 100)), 200).size
    (200, 50)
    """
    longest = max(picture.size)
    if side is None or longest <= side:
        return picture
    width, height = (max(1, round(n * side / longest)) for n in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def save_png(picture: Image.Image, path: str | Path) -> None:
    """Write a picture as PNG, whole or not at all; packed lightly, which takes less than half the time.

    Raises:
        DataError: disk full, or the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=1)


def as_list(items: Picture | Sequence[Picture]) -> list[Picture]:
    """One picture or several as a list."""
    single = isinstance(items, str | Path | Image.Image | np.ndarray | bytes)
    return [items] if single else list(items)  # type: ignore[list-item, arg-type]


def path_of(item: Picture) -> Path | None:
    """The file of a picture that is given as one."""
    return Path(item) if isinstance(item, str | Path) else None


def _eight_bit(array: np.ndarray, full_scale: float | None) -> np.ndarray:
    if array.dtype == np.uint8 and full_scale is None:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise ImageError("the picture holds NaN or infinity", hint="clean the array")
    full = full_scale or (1.0 if np.issubdtype(array.dtype, np.floating) else 65535.0)
    return np.rint(np.clip(values / full, 0.0, 1.0) * 255.0).astype(np.uint8)


@dataclass(frozen=True)
class Stored:
    """What a file holds before it becomes 8-bit RGB.

    Attributes:
        values: as stored, upright: [H, W] or [H, W, channels]; palette indices in mode ``P``.
        mode: Pillow's name of the channels.
        format: one of `FORMATS`.
        palette: [256, 3] uint8 colours of mode ``P``, as far as the file gives them.
    """

    values: np.ndarray
    mode: str
    format: str
    palette: np.ndarray | None


def load_stored(path: str | Path, *, max_pixels: int | None = None) -> Stored:
    """Read a picture's values as they stand in the file, for masks.

    Raises:
        ImageError: as `load_image`.
    """
    file = Path(path)
    with _open(file, max_pixels) as picture:
        kind = picture.format or ""
        upright = _decode(picture, file)
    colours = upright.getpalette() if upright.mode == "P" else None
    palette = None if colours is None else np.array(colours, np.uint8).reshape(-1, 3)
    return Stored(np.asarray(upright), upright.mode, kind, palette)


def load_labels(path: str | Path, *, max_pixels: int | None = None) -> np.ndarray:
    """Read class ids: [H, W] int64, the stored value, palette index or first channel as it is.

    Raises:
        ImageError: as `load_image`, or values that are not whole numbers.
    """
    file = Path(path)
    with _open(file, max_pixels) as picture:
        values = np.asarray(_decode(picture, file))
    if np.issubdtype(values.dtype, np.floating):
        raise ImageError("holds fractions, not class ids", where=file, hint="save whole numbers")
    return (values[..., 0] if values.ndim == 3 else values).astype(np.int64)


def load_values(
    item: str | Path | bytes | Image.Image, *, full_scale: float | None = None, channels: slice | None = None
) -> np.ndarray:
    """Read a sensor's picture without cutting it to 8 bits: [H, W, 3] float32 in [0, 1].

    Args:
        item: a file in one of `FORMATS`, its bytes or its PIL picture; a single channel is repeated.
        full_scale: the stored value that becomes 1 in a 16-bit, 32-bit or float picture; by default that of
            `scaled`, else 65535 (float: 1). Values above it are clipped.
        channels: these stored channels alone, alpha among them; one or three of them.

    Raises:
        ImageError: as `load_image`.
    """
    full_scale = full_scale or declared_scale()
    if bit_depth(item) <= 8 and channels is None:
        return np.asarray(as_picture(item), np.float32) / 255.0
    values, file = _upright_values(item)
    if channels is not None:
        return _chosen(values, channels, file)
    full = full_scale or (1.0 if np.issubdtype(values.dtype, np.floating) else 65535.0)
    if not np.isfinite(values).all():
        raise ImageError("the picture holds NaN or infinity", where=file, hint="clean it")
    plane = np.clip(values.astype(np.float64) / full, 0.0, 1.0).astype(np.float32)
    return np.repeat(plane[..., None], 3, axis=2)


def _upright_values(item: str | Path | bytes | Image.Image) -> tuple[np.ndarray, Path]:
    """Values as stored, turned upright, and what the picture is called."""
    if isinstance(item, Image.Image):
        where = Path(getattr(item, "filename", "") or "the picture")
        return np.asarray(_decode(item, where)), where
    data = item if isinstance(item, bytes) else None
    file = Path("the bytes") if isinstance(item, bytes) else Path(item)
    with _open(file, None, data) as picture:
        return np.asarray(_decode(picture, file)), file


def _chosen(values: np.ndarray, channels: slice, file: Path) -> np.ndarray:
    kept = values[..., channels] if values.ndim == 3 else values[..., None][..., channels]
    if kept.shape[-1] not in (1, 3) or values.dtype != np.uint8:
        raise ImageError(
            f"has no such channels: {values.shape}, {values.dtype}", where=file, hint="check the layout"
        )
    return np.repeat(kept, 3 // kept.shape[-1], axis=2).astype(np.float32) / 255.0


def bit_depth(item: str | Path | bytes | Image.Image) -> int:
    """Bits per channel of a file, encoded bytes or a PIL picture, from the header: 1, 8, 16 or 32.

    Raises:
        ImageError: as `load_image`, but a truncated body goes unnoticed.
    """
    if isinstance(item, Image.Image):
        return _bits(item.mode)
    data = item if isinstance(item, bytes) else None
    with _open(Path("the bytes") if isinstance(item, bytes) else Path(item), None, data) as picture:
        return _bits(picture.mode)


def _bits(mode: str) -> int:
    return 16 if mode.startswith("I;16") else {"1": 1, "I": 32, "F": 32}.get(mode, 8)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) after EXIF orientation; from the header, but for PNG, whose EXIF may follow the pixels.

    Raises:
        ImageError: as `load_image`, but a truncated body may go unnoticed.
    """
    file = Path(path)
    with _open(file, None) as picture:
        width, height = picture.size
        turned = _orientation(picture, file) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def exif_of(item: Picture) -> dict[int, object]:
    """The EXIF tags of a picture by number, those of the camera (focal length and so on) among them.

    Args:
        item: as in `as_picture`; an array has none.

    Raises:
        ImageError: as `load_image`, but a truncated body may go unnoticed.
    """
    if isinstance(item, np.ndarray):
        return {}
    if isinstance(item, Image.Image):
        return _tags(item, Path("the picture"))
    data = item if isinstance(item, bytes) else None
    file = Path("the bytes" if isinstance(item, bytes) else item)
    with _open(file, None, data) as picture:
        return _tags(picture, file)


def _tags(picture: Image.Image, file: Path) -> dict[int, object]:
    try:
        tags = picture.getexif()
        return {**tags, **tags.get_ifd(0x8769)}
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise ImageError(f"damaged header ({error})", where=file, hint="restore or remove it") from error


def _orientation(picture: Image.Image, path: Path) -> int:
    try:
        return int(picture.getexif().get(0x0112, 1))
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise ImageError(f"damaged header ({error})", where=path, hint="restore or remove it") from error
