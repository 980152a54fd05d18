"""What `SpatialGrounder.predict` is asked: pictures with their cameras, and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.errors import ConfigError
from wildsight.images import Picture, path_of
from wildsight.spatial.answers import expressions_of, opened
from wildsight.spatial.camera import Camera, Fit, camera_for, read_calibration

Expression = str | Sequence[str | Sequence[str]]


@dataclass(frozen=True)
class Question:
    """One expression about one picture.

    Attributes:
        picture: RGB.
        camera: of it.
        expression: what is looked for.
        file: of the picture, or None.
    """

    picture: Image
    camera: Camera
    expression: str
    file: Path | None


@dataclass(frozen=True)
class Lens:
    """How the camera of a picture is known.

    Attributes:
        focal: focal length, pixels; else by EXIF, else by a guess.
        intrinsics: [3, 3], pixels; instead of ``focal``.
        calibration: a KITTI-like file; instead of ``intrinsics``.
        estimate: whether a guess is allowed.
    """

    focal: float | None = None
    intrinsics: Any = None
    calibration: str | Path | None = None
    estimate: bool = True

    def questions(self, picture: Picture, expressions: Sequence[str]) -> list[Question]:
        """The questions about one picture.

        Raises:
            ImageError: it cannot be read.
            ConfigError: a focal length that is not above 0, or two sources of intrinsics.
            DataError: no intrinsics and no guess allowed, or a calibration that does not fit.
        """
        image, exif = opened(picture)
        file, intrinsics = path_of(picture), self.intrinsics
        if self.calibration is not None:
            if intrinsics is not None:
                text = "calibration and intrinsics are both given"
                raise ConfigError(text, hint="give one of them")
            intrinsics = read_calibration(Path(self.calibration), image.size)[0].matrix
        camera = camera_for(
            image.size,
            focal=self.focal,
            intrinsics=intrinsics,
            exif=exif,
            estimate=self.estimate,
            where=file,
        )
        return [Question(image, camera, e, file) for e in expressions]


def per_picture(given: Expression | None, pictures: int, language: bool) -> list[list[str]]:
    """What is asked about each of several pictures.

    Args:
        given: one expression for all, or for each picture one or several.
        pictures: how many there are.
        language: whether the method reads them, so that each must name something.

    Raises:
        ConfigError: no expression, another number of them, or one that names nothing.
    """
    if given is None or not isinstance(given, list | tuple):
        return [expressions_of("" if given is None else given, language)] * pictures  # type: ignore[arg-type]
    if len(given) != pictures:
        text = f"{len(given)} expressions for {pictures} pictures"
        raise ConfigError(text, hint="give one for all, or for each picture one or a list")
    return [expressions_of(each, language) for each in given]


def square_box(box: Sequence[float] | None, camera: Camera, fit: Fit) -> tuple[float, float, float, float]:
    """A 2D box in pixels as (centre x, centre y, width, height) in sides of the square picture.

    Args:
        box: left, top, right, bottom.
        camera: of the picture.
        fit: how the picture becomes square.

    Raises:
        ConfigError: no box, or one without an area.
    """
    if box is None or len(box) != 4 or box[2] <= box[0] or box[3] <= box[1]:
        raise ConfigError("this method needs a 2D box", hint="give left, top, right, bottom")
    side = max(camera.width, camera.height)
    x, y = (1 / camera.width, 1 / camera.height) if fit == "stretch" else (1 / side, 1 / side)
    left, top, right, bottom = box[0] * x, box[1] * y, box[2] * x, box[3] * y
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
