"""What the grounder returns: one result per question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.results import Result
from wildsight.spatial.boxes import Box
from wildsight.spatial.camera import Camera
from wildsight.spatial.drawing import from_above, on_picture, side_by_side


@dataclass(frozen=True)
class GroundingResult(Result):
    """Where something is.

    Attributes:
        expression: what was looked for.
        boxes: in camera coordinates, metres, the surest first; none for a refusal.
        answer: in words.
        answer_by: ``model`` or ``rule``.
        camera: that was used.
        flags: what to be careful about: ``intrinsics estimated``, ``behind camera`` (a box was left out),
            ``out of sight``, ``not there``, ``unknown words: ...`` (the answer does not rest on them).
        score: in [0, 1], that such an object is there.
        image: the file, or None.
        picture: RGB.
    """

    expression: str
    boxes: tuple[Box, ...]
    answer: str
    answer_by: str
    camera: Camera
    flags: tuple[str, ...] = ()
    score: float = 0.0
    image: Path | None = None
    picture: Image | None = None

    @property
    def refused(self) -> bool:
        """Whether nothing was found."""
        return not self.boxes

    @property
    def intrinsics_from(self) -> str:
        """``given``, ``calibration``, ``exif`` or ``estimate``."""
        return self.camera.origin

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; metres, pixels, radians."""
        return {
            "expression": self.expression,
            "answer": self.answer,
            "answer_by": self.answer_by,
            "score": float(self.score),
            "boxes": [b.to_dict() for b in self.boxes],
            "intrinsics": dict(zip(("fx", "fy", "cx", "cy"), self.camera.row, strict=True)),
            "intrinsics_from": self.intrinsics_from,
            "flags": list(self.flags),
            "image": None if self.image is None else str(self.image),
        }

    def line(self) -> str:
        """The result on one line of a terminal."""
        marks = f" [{', '.join(self.flags)}]" if self.flags else ""
        where = "the picture" if self.image is None else self.image
        return f"{where}: {self.answer} (intrinsics: {self.intrinsics_from}){marks}"

    def overlay(self, truth: Sequence[Box] = (), highest: int | None = None) -> Image:
        """The boxes on the picture, which is made smaller where it is above ``highest`` pixels.

        Raises:
            ValueError: the result holds no picture.
        """
        if self.picture is None:
            raise ValueError("the result holds no picture")
        return on_picture(self.picture, self.camera.matrix, self.boxes, truth, highest)

    def from_above(self, truth: Sequence[Box] = ()) -> Image:
        """The boxes seen from above."""
        return from_above(self.boxes, truth)

    def strip(self, truth: Sequence[Box] = (), height: int = 240) -> Image:
        """Picture and bird's-eye view in one row."""
        return side_by_side([self.overlay(truth, 2 * height), self.from_above(truth)], height)

    def figure(self) -> Any:
        """Picture and bird's-eye view as a matplotlib figure."""
        from wildsight.report.plots import side_by_side as figures

        return figures([(self.overlay(), self.answer), (self.from_above(), "from above")])

    def save_gltf(self, path: str | Path) -> Path:
        """Write the boxes as a glTF 2.0 file; see `wildsight.spatial.gltf`."""
        from wildsight.spatial.gltf import write_gltf

        return write_gltf(path, self.boxes)
