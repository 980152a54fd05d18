"""What a camera does to metres, where its numbers come from, and how they follow the picture; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image, Resampling

from wildsight.datasets.kitti import read_calibration_lines
from wildsight.errors import ConfigError, DataError
from wildsight.spatial.boxes import Array

Origin = Literal["given", "calibration", "exif", "estimate"]
Fit = Literal["letterbox", "stretch"]
FITS = ("letterbox", "stretch")
FILM_DIAGONAL = math.hypot(36.0, 24.0)  # millimetres
GUESS = 1.2  # focal length over the longer side, where nothing is known
_FOCAL, _FOCAL_35, _PLANE_X, _PLANE_UNIT = 0x920A, 0xA405, 0xA20E, 0xA210
_ACROSS, _DOWN = 0xA002, 0xA003  # size of the picture as it was taken
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0}
INCH = 2


@dataclass(frozen=True)
class Camera:
    """A pinhole camera and the size of its picture, pixels; (0, 0) is the outer corner of the first pixel.

    Attributes:
        fx, fy, cx, cy: pixels.
        width, height: of the picture.
        origin: where the numbers come from.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    origin: Origin = "given"

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(v) for v in numbers) or self.fx <= 0 or self.fy <= 0:
            raise ConfigError(f"a focal length of {self.fx:g} x {self.fy:g} pixels", hint="give one above 0")
        if self.width < 1 or self.height < 1:
            raise ConfigError(
                f"a picture of {self.width} x {self.height} pixels", hint="give one that is not empty"
            )

    @classmethod
    def from_matrix(cls, matrix: Any, width: int, height: int, origin: Origin = "given") -> Camera:
        """The camera of an intrinsics matrix [3, 3] without skew.

        Raises:
            ConfigError: another shape, a skew, rows that are turned or scaled, or a focal length that is not
                above 0.
        """
        try:
            k = np.asarray(matrix, float)
        except (TypeError, ValueError):
            k = np.zeros(0)
        good = k.shape == (3, 3) and bool(np.isfinite(k).all())
        if not good or np.abs(k[(0, 1), (1, 0)]).max() > 1e-6 * abs(k[0, 0]) or not _last_row(k[2]):
            raise ConfigError(
                "intrinsics that are no [3, 3] matrix without skew", hint="give fx 0 cx 0 fy cy 0 0 1"
            )
        return cls(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), width, height, origin)

    @property
    def matrix(self) -> Array:
        """[3, 3]."""
        return np.array(((self.fx, 0.0, self.cx), (0.0, self.fy, self.cy), (0.0, 0.0, 1.0)))

    @property
    def off_centre(self) -> bool:
        """Whether the optical axis meets the picture far from its middle, as it does where the intrinsics are
        those of another size."""
        across, down = self.cx / self.width, self.cy / self.height
        return not (0.25 <= across <= 0.75 and 0.25 <= down <= 0.75)

    @property
    def row(self) -> tuple[float, float, float, float]:
        """(fx, fy, cx, cy)."""
        return self.fx, self.fy, self.cx, self.cy

    def scaled(self, sx: float, sy: float, width: int, height: int) -> Camera:
        """The camera of the picture resized by (sx, sy) to ``width`` x ``height``."""
        return replace(
            self,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=self.cx * sx,
            cy=self.cy * sy,
            width=width,
            height=height,
        )

    def cropped(self, left: float, top: float, width: int, height: int) -> Camera:
        """The camera of a crop, or of a padded picture where left and top are negative."""
        return replace(self, cx=self.cx - left, cy=self.cy - top, width=width, height=height)

    def flipped(self) -> Camera:
        """The camera of the picture mirrored left to right."""
        return replace(self, cx=self.width - self.cx)


def _last_row(row: Array) -> bool:
    return bool(np.abs(row - (0.0, 0.0, 1.0)).max() <= 1e-6)


def fitted(image: Image, camera: Camera, side: int, fit: Fit = "letterbox") -> tuple[Image, Camera]:
    """The picture as a square that the network reads, and its camera.

    Args:
        image: RGB.
        camera: of ``image``.
        side: pixels.
        fit: ``letterbox`` keeps the shape and pads right and bottom with grey, ``stretch`` does not.

    Raises:
        DataError: the picture has another size than its camera.
    """
    check_size(image, camera)
    if fit == "stretch":
        picture = image.resize((side, side), Resampling.BILINEAR)
        return picture, camera.scaled(side / image.width, side / image.height, side, side)
    scale = side / max(image.size)
    width, height = (max(1, round(v * scale)) for v in image.size)
    canvas = PILImage.new("RGB", (side, side), (127, 127, 127))
    canvas.paste(image.resize((width, height), Resampling.BILINEAR), (0, 0))
    return canvas, camera.scaled(width / image.width, height / image.height, side, side)


def zoomed(image: Image, camera: Camera, scale: float) -> tuple[Image, Camera]:
    """Focal jitter: a central crop (scale > 1) or a grey border (below 1), resized back to the same size.

    Nothing in the world moves: depths stay, the focal length grows by ``scale``.
    """
    width, height = (round(v / scale) for v in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    canvas = PILImage.new("RGB", (width, height), (127, 127, 127))
    canvas.paste(image, (-left, -top))
    sx, sy = image.width / width, image.height / height
    resized = canvas.resize(image.size, Resampling.BILINEAR)
    return resized, camera.cropped(left, top, width, height).scaled(sx, sy, image.width, image.height)


def check_size(image: Image, camera: Camera, where: Any = None) -> None:
    """Refuse a picture of another size than its calibration.

    Raises:
        DataError: the sizes differ.
    """
    if image.size != (camera.width, camera.height):
        what = f"is {image.width} x {image.height}, its calibration is for {camera.width} x {camera.height}"
        raise DataError(what, where=where, hint="calibrate for this size, or resize the picture")


def camera_for(
    size: tuple[int, int],
    *,
    focal: float | None = None,
    intrinsics: Any = None,
    exif: Mapping[int, Any] | None = None,
    estimate: bool = True,
    where: Any = None,
) -> Camera:
    """The camera of a picture: from the argument, then EXIF, then an estimate.

    Args:
        size: (width, height), pixels.
        focal: focal length, pixels; the optical axis meets the picture's centre.
        intrinsics: [3, 3], pixels; instead of ``focal``.
        exif: tags of the file.
        estimate: whether a guess is allowed; it is 1.2 times the longer side.
        where: named in errors.

    Raises:
        ConfigError: a focal length that is not above 0, or both ``focal`` and ``intrinsics``.
        DataError: nothing is known, and an estimate is refused.
    """
    width, height = size
    if focal is not None and intrinsics is not None:
        raise ConfigError("focal and intrinsics are both given", hint="give one of them")
    if intrinsics is not None:
        return Camera.from_matrix(intrinsics, width, height)
    origin: Origin = "given"
    if focal is not None and (isinstance(focal, bool) or not isinstance(focal, int | float | np.number)):
        raise ConfigError(f"a focal length of {focal!r}", hint="give a number of pixels")
    if focal is None:
        focal, origin = focal_of_exif(exif or {}, width, height), "exif"
    if focal is None:
        if not estimate:
            raise DataError(
                "has no intrinsics", where=where, hint="give focal or intrinsics, or allow an estimate"
            )
        focal, origin = GUESS * max(width, height), "estimate"
    return Camera(float(focal), float(focal), width / 2, height / 2, width, height, origin)


def focal_of_exif(tags: Mapping[int, Any], width: int, height: int) -> float | None:
    """Focal length in pixels that EXIF tags tell, or None.

    From the 35 mm equivalent, which goes by the diagonal; else from the focal length and the focal plane's
    resolution, in inches where no unit is named, for the size that the tags give: a picture that was resized
    since has fewer pixels on the same plane.

    >>> round(focal_of_exif({0xA405: 26}, 4032, 3024))
    3029
    """
    equivalent = _number(tags.get(_FOCAL_35))
    if equivalent:
        return equivalent * math.hypot(width, height) / FILM_DIAGONAL
    length, dots = _number(tags.get(_FOCAL)), _number(tags.get(_PLANE_X))
    unit = _UNIT_MM.get(int(_number(tags.get(_PLANE_UNIT, INCH)) or 0))
    if not (length and dots and unit):
        return None
    taken = max(_number(tags.get(_ACROSS)) or 0.0, _number(tags.get(_DOWN)) or 0.0)
    return length * dots / unit * (max(width, height) / taken if taken else 1.0)


def _number(value: Any) -> float | None:
    """A tag as a number above 0, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def read_calibration(file: Path, size: tuple[int, int]) -> tuple[Camera, Array]:
    """The camera of a KITTI-like file, and how far its centre lies from the labels' origin [3], metres.

    Lines are ``KEY: numbers``: ``P2`` (3 x 4) or ``K`` (3 x 3), and optionally ``size: WIDTH HEIGHT``.
    A label at X has its place at X + offset before this camera.

    Raises:
        DataError: no such line, numbers that do not fit, or a picture of another size.
    """
    rows = read_calibration_lines(file)
    name = next((n for n in ("P2", "K") if n in rows), None)
    if name is None:
        raise DataError("has no line P2 or K", where=file, hint="write `P2: fx 0 cx 0 0 fy cy 0 0 0 1 0`")
    values = rows[name]
    if len(values) not in (9, 12):
        raise DataError(f"{name} has {len(values)} numbers", where=file, hint="give 12 (P2) or 9 (K)")
    matrix = np.array(values).reshape(3, -1)
    if "size" in rows and tuple(rows["size"]) != tuple(map(float, size)):
        what = f"is for {'x'.join(f'{v:g}' for v in rows['size'])} pixels, the picture is {size[0]}x{size[1]}"
        raise DataError(what, where=file, hint="calibrate for this size, or resize the picture")
    try:
        camera = Camera.from_matrix(matrix[:, :3], *size, origin="calibration")
    except ConfigError as error:
        raise DataError(error.what, where=file, hint=error.hint) from error
    offset = np.linalg.solve(matrix[:, :3], matrix[:, 3]) if matrix.shape[1] == 4 else np.zeros(3)
    return camera, offset
