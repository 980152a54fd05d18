"""What every reader of this task gives: pictures with a camera, an expression, and the boxes it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from wildsight.datasets.faults import Faults
from wildsight.errors import ImageError
from wildsight.files import digest_of
from wildsight.images import from_array, load_image
from wildsight.spatial.boxes import Box
from wildsight.spatial.camera import Camera, check_size
from wildsight.spatial.captions import masked

Split: TypeAlias = Literal["train", "val", "test"]
SPLITS = ("train", "val", "test")
TEST_SHARE = 5  # one picture in so many is for testing where the data names no split


@dataclass(frozen=True)
class SpatialSample:
    """One question about one picture.

    Attributes:
        name: unique within the set.
        image: file, or uint8 [H, W, 3].
        camera: of the picture.
        expression: what is looked for.
        targets: the boxes that it names; none for a refusal.
        others: the other labelled boxes of the picture.
        split: ``train``, ``val`` or ``test``.
        group: for tables: a range of focal lengths, a difficulty, a kind of expression.
        answer: what to say, or empty for an answer made by rule.
        subsets: further rows of the tables that it counts in.
    """

    name: str
    image: Path | npt.NDArray[np.uint8]
    camera: Camera
    expression: str
    targets: tuple[Box, ...]
    others: tuple[Box, ...] = ()
    split: Split = "train"
    group: str = ""
    answer: str = ""
    subsets: tuple[str, ...] = ()

    def picture(self) -> Image:
        """RGB.

        Raises:
            ImageError: the file cannot be read.
            DataError: it has another size than its calibration.
        """
        if isinstance(self.image, Path):
            loaded = load_image(self.image)
            check_size(loaded, self.camera, self.image)
            return loaded
        return from_array(self.image)

    @property
    def key(self) -> str:
        """Names the picture, whatever is asked about it."""
        return str(self.image) if isinstance(self.image, Path) else f"{self.name.split('#')[0]}"


@dataclass(frozen=True)
class SpatialData:
    """A data set.

    Attributes:
        name: as it was asked for.
        root: the folder; None for the world.
        samples: all questions.
        protocol: how it was read: split, its hash, assumptions, what was left out.
        unread: (split, a sentence) for each picture that is damaged; its questions are left out.
    """

    name: str
    root: Path | None
    samples: tuple[SpatialSample, ...]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[tuple[str, str], ...] = ()

    def part(self, split: str) -> tuple[SpatialSample, ...]:
        """The samples of one split."""
        return tuple(s for s in self.samples if s.split == split)

    def unread_in(self, split: str) -> list[str]:
        """A sentence for each damaged picture of one split."""
        return [text for name, text in self.unread if name == split]

    def without_measures(self) -> SpatialData:
        """The same questions, distances and sizes in numbers hidden: some descriptions state the answer."""
        samples = tuple(replace(s, expression=masked(s.expression)) for s in self.samples)
        return replace(self, samples=samples, protocol={**self.protocol, "measures": "hidden"})


@contextmanager
def left_out(faults: Faults, unread: list[tuple[str, str]], split: str) -> Iterator[None]:
    """The reading of one picture of ``split``: a damaged one goes to ``unread``, or is a fault of a check.

    Raises:
        ImageError: it is damaged, and faults are noted.
    """
    try:
        yield
    except ImageError as error:
        if faults.noted:
            raise
        unread.append((split, str(error)))


def protocol(samples: Sequence[SpatialSample], rule: str, **more: Any) -> dict[str, Any]:
    """What is printed with every score of a set."""
    counts = {s: sum(x.split == s for x in samples) for s in SPLITS}
    split = digest_of([[s.name, s.expression, s.split] for s in samples])
    return {
        "split": rule,
        "hash": split,
        "questions": counts,
        "pictures": len({s.key for s in samples}),
        "refusals": sum(not s.targets for s in samples),
        **more,
    }


def split_of(name: str) -> Split:
    """A picture's split by the hash of its name: one in five is for testing."""
    return "test" if int(digest_of(name)[:8], 16) % TEST_SHARE == 0 else "train"
