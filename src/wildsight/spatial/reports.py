"""What a prediction leaves in its folder: ``scores.json``, ``results.csv``, ``report.html``, boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.estimators.predictions import Predictions, write_all
from wildsight.spatial.result import GroundingResult

BOX = ("centre", "size", "yaw", "score", "spread")


class SpatialPredictions(Predictions[GroundingResult]):
    """A strip and a glTF file per question."""

    title, caption = "Where things are", "The box on the picture, and from above (rings: metres)"
    entries = "questions"
    shown = 24
    guessed = False

    def rows(self, result: GroundingResult) -> list[Mapping[str, Any]]:
        """The answer and the surest box."""
        box = result.boxes[0].to_dict() if result.boxes else {}
        named = {"image": str(result.image or ""), "expression": result.expression, "answer": result.answer}
        return [{**named, **{k: box.get(k, "") for k in BOX}, "flags": " ".join(result.flags)}]

    @property
    def side(self) -> int | None:
        """Nothing: results hold their pictures."""
        return 0

    def draw(self, number: int, result: GroundingResult, picture: Image | None) -> None:  # noqa: ARG002
        """The boxes on the picture and from above, and as glTF."""
        self.guessed |= result.intrinsics_from == "estimate"
        result.save_gltf(self.out / "boxes" / f"{number:04d}.gltf")
        if self.overlay == "none" and not self.gallery.wants(number):
            return
        whole = self.overlay == "full" and result.picture is not None
        strip = result.strip(height=result.picture.height) if whole and result.picture else result.strip()
        if self.overlay != "none":
            self.save("pictures", f"{number:04d}", strip)
        words = f"{result.expression}: {result.answer} (intrinsics: {result.intrinsics_from})"
        self.gallery.add(number, strip, words)

    def facts(self) -> dict[str, Any]:
        """The first release called ``not_read`` so."""
        return {"not_asked": self.errors}

    def warnings(self) -> list[str]:
        """That a focal length is a guess."""
        text = "The focal length is a guess: metres are no better than it. Give --focal."
        return [text] if self.guessed else []


def write_predictions(results: Sequence[GroundingResult], errors: Sequence[str], out: Path) -> Path:
    """The folder of a prediction; returns its report."""
    return write_all(SpatialPredictions(out), results, errors)
