"""From samples to the rows that a network learns from; frozen features are made once per picture and kept.

A row is a mapping of tensors (a batch adds B in front):

    tokens [N, D] of the tower; fine [C, h, w]; inside bool [h, w], False in the padding; camera [4] of
    the square
    picture, pixels; before [T1], after [T2], after_mask [T2]: the question; answer [A], numbers [A2]:
    -1 where nothing stands; centre, size [Q, 3], rotation [Q, 3, 3], box2d [Q, 4], valid [Q];
    depth_map [g, g], metres in the virtual camera, 0 where unknown; of a picture in tiles also
    behind [M, D], behind_kind [M]: see `wildsight.spatial.token_pooling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

from wildsight.backbones import Backbone
from wildsight.errors import WildSightError
from wildsight.spatial.box_text import written
from wildsight.spatial.boxes import Box
from wildsight.spatial.camera import Camera, Fit, fitted, zoomed
from wildsight.spatial.captions import in_words, mirrored_text
from wildsight.spatial.geometry import F_VIRTUAL
from wildsight.spatial.mllm import Mllm
from wildsight.spatial.samples import SpatialSample
from wildsight.spatial.token_pooling import behind, places_of, see_tiles, stacked_behind
from wildsight.training.batches import mix

MAP = 24  # cells of the depth map along a side
ZOOM = (0.7, 1.4)
MEMORY = 4 << 30  # most bytes of frozen features held; beyond them they are made again each time
SPARE = 4  # tokens by which an augmented answer may be longer than any other


@dataclass(frozen=True)
class Seen:
    """Frozen features of one fitted picture, and its camera.

    Attributes:
        tokens: [N, D] of the square picture.
        fine: [C, h, w] of it.
        inside: bool [h, w], False in its padding.
        camera: of it.
        tiles: [T, N, D] of the T tiles beside it.
        places: which of all these tokens stands where, see `wildsight.spatial.token_pooling.places_of`.
    """

    tokens: Tensor
    fine: Tensor
    inside: Tensor
    camera: Camera
    tiles: Tensor
    places: Tensor

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(t.numel() * t.element_size() for t in (self.tokens, self.fine, self.inside, self.tiles))


@dataclass
class Eyes:
    """The frozen part: the tower, the CNN, and what they saw.

    Attributes:
        mllm: the model.
        cnn: gives the fine map.
        strides: of the CNN; coarser maps are stretched to the finest and stacked.
        fine_side: side of the CNN's picture, pixels; None: the tower's.
        fit: how a picture becomes square.
        pool: visual tokens are averaged over blocks of pool x pool.
        kept: features by picture.
        limit: most bytes that they take.
    """

    mllm: Mllm
    cnn: Backbone
    strides: tuple[int, ...] = (4, 8)
    fine_side: int | None = None
    fit: Fit = "letterbox"
    pool: int = 1
    kept: dict[str, Seen] = field(default_factory=dict)
    limit: int = MEMORY

    @property
    def channels(self) -> int:
        """Channels of the fine map."""
        probe = self.cnn.pyramid(torch.zeros(1, 3, 64, 64, device=self.cnn.device), self.strides)
        return sum(m.shape[1] for m in probe.values())

    @torch.no_grad()
    def look(self, pictures: Sequence[tuple[Image, Camera]]) -> list[Seen]:
        """Features of pictures, each with its camera, on the CPU."""
        side, images = self.mllm.side, [image for image, _ in pictures]
        squares = [fitted(image, camera, side, self.fit) for image, camera in pictures]
        large = self.fine_side or side
        fine_squares = [s for s, _ in squares] if large == side else [
            fitted(image, camera, large, self.fit)[0] for image, camera in pictures
        ]  # fmt: skip
        tokens = self.mllm.see(self.mllm.pixels([s for s, _ in squares])).float().cpu()
        fine = self._fine(self.cnn.preprocess(fine_squares, large)).cpu()
        inside = torch.stack([self._inside(i.size, fine.shape[-1]) for i in images])
        cameras = [camera for _, camera in squares]
        tiles, places = see_tiles(self.mllm, images), places_of(self.mllm, images)
        return [Seen(*row) for row in zip(tokens, fine, inside, cameras, tiles, places, strict=True)]

    def _fine(self, pixels: Tensor) -> Tensor:
        maps = [m.float() for _, m in sorted(self.cnn.pyramid(pixels, self.strides).items())]
        return torch.cat([maps[0], *(F.interpolate(m, size=maps[0].shape[-2:]) for m in maps[1:])], 1)

    def _inside(self, size: tuple[int, int], cells: int) -> Tensor:
        if self.fit == "stretch":
            return torch.ones(cells, cells, dtype=torch.bool)
        scale = cells / max(size)
        at = torch.arange(cells)
        return (at[:, None] < size[1] * scale) & (at[None] < size[0] * scale)

    def prepare(
        self, samples: Sequence[SpatialSample], batch: int = 32, tick: Any = None
    ) -> dict[str, WildSightError]:
        """See every picture of ``samples`` that was not seen yet, and keep it while there is room.

        Returns:
            The error of each picture that cannot be used, by its key.
        """
        errors: dict[str, WildSightError] = {}
        fresh = list({s.key: s for s in samples if s.key not in self.kept}.values())
        room = self._room()
        for start in range(0, len(fresh), batch):
            part = fresh[start : start + batch]
            opened = _opened(part, errors)
            if room > 0 and opened:
                for (sample, _), features in zip(opened, self._seen(opened), strict=True):
                    room -= features.size
                    if room >= 0:
                        self.kept[sample.key] = features
            if tick is not None:
                tick(len(part))
        return errors

    def of(self, sample: SpatialSample) -> Seen:
        """The features of a sample's picture."""
        if sample.key in self.kept:
            return self.kept[sample.key]
        (one,) = self._seen([(sample, sample.picture())])
        if one.size <= self._room():
            self.kept[sample.key] = one
        return one

    def _room(self) -> int:
        return self.limit - sum(one.size for one in self.kept.values())

    def _seen(self, opened: Sequence[tuple[SpatialSample, Image]]) -> list[Seen]:
        """Features in half precision."""
        seen = self.look([(picture, s.camera) for s, picture in opened])
        return [replace(s, tokens=s.tokens.half(), fine=s.fine.half(), tiles=s.tiles.half()) for s in seen]

    def behind(self, seen: Sequence[Seen], length: int | None = None) -> dict[str, Tensor]:
        """What stands behind the tokens of the square pictures, as fields of a batch; nothing where the model
        reads no tiles."""
        if self.mllm.pinpoints is None:
            return {}
        rows = [behind(s.tiles.float(), s.places, self.mllm.grid, self.pool) for s in seen]
        return stacked_behind(rows, length)


def _opened(
    samples: Sequence[SpatialSample], errors: dict[str, WildSightError]
) -> list[tuple[SpatialSample, Image]]:
    """Samples with their pictures; what cannot be used goes to ``errors``."""
    opened = []
    for sample in samples:
        try:
            opened.append((sample, sample.picture()))
        except WildSightError as error:
            errors[sample.key] = error
    return opened


@dataclass(frozen=True)
class Lengths:
    """How long rows are padded: the question behind the picture, the answer, the written numbers, what stands
    behind the base tile."""

    after: int
    answer: int
    numbers: int
    behind: int


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Samples as rows.

    Args:
        samples: questions.
        eyes: frozen features.
        queries: Q.
        virtual: whether numbers are written with virtual depth.
        numbers: whether the answer is written in numbers at all.
    """

    def __init__(
        self,
        samples: Sequence[SpatialSample],
        eyes: Eyes,
        queries: int,
        *,
        virtual: bool = True,
        numbers: bool = False,
    ) -> None:
        self.samples, self.eyes, self.queries = list(samples), eyes, queries
        self.virtual, self.numbers = virtual, numbers
        self.lengths = self._lengths()

    def __len__(self) -> int:
        return len(self.samples)

    def _lengths(self) -> Lengths:
        texts = [self._texts(s, self.eyes.of(s).camera) for s in self.samples]
        longest = [max((len(t[i]) for t in texts), default=1) for i in (1, 2, 3)]
        shapes = {tuple(s.places.tolist()): s for s in (self.eyes.of(s) for s in self.samples)}
        rows = [self.eyes.behind([s]) for s in shapes.values()]
        most = max((r["behind_kind"].shape[1] for r in rows if r), default=0)
        return Lengths(longest[0], longest[1] + SPARE, longest[2] + (SPARE if self.numbers else 0), most)

    def _texts(
        self, sample: SpatialSample, camera: Camera
    ) -> tuple[list[int], list[int], list[int], list[int]]:
        mllm = self.eyes.mllm
        before, after = mllm.prompt(sample.expression)
        answer = mllm.answer(sample.answer or in_words(sample.targets, camera))
        factor = F_VIRTUAL / camera.fy if self.virtual else 1.0
        box = sample.targets[0] if sample.targets else None
        numbers = mllm.answer(written(box, factor) if self.numbers else "")
        return before, after, answer, numbers

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.samples[index]
        return self._row(sample, self.eyes.of(sample))

    def statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        """Depth [N], fy [N] and size [N, 3] of all boxes asked for."""
        pairs = [(b, self.eyes.of(s).camera.fy) for s in self.samples for b in s.targets]
        depth = torch.tensor([float(b.centre[2]) for b, _ in pairs])
        size = torch.tensor(np.stack([b.size for b, _ in pairs]), dtype=torch.float32)
        return depth, torch.tensor([f for _, f in pairs]), size

    def varied(self, indices: Sequence[int], epoch: int, seed: int) -> dict[str, Tensor]:
        """A batch of mirrored and zoomed samples, drawn from (seed, epoch, index); features are made anew."""
        drawn = [varied(self.samples[i], mix(seed, epoch, i)) for i in indices]
        seen = self.eyes.look([(picture, sample.camera) for sample, picture in drawn])
        rows = [self._row(sample, one) for (sample, _), one in zip(drawn, seen, strict=True)]
        batch: dict[str, Tensor] = torch.utils.data.default_collate(rows)
        return batch

    def _row(self, sample: SpatialSample, seen: Seen) -> dict[str, Tensor]:
        lengths = self.lengths
        before, after, answer, numbers = self._texts(sample, seen.camera)
        return {
            "tokens": seen.tokens.float(),
            "fine": seen.fine.float(),
            "inside": seen.inside,
            "camera": torch.tensor(seen.camera.row),
            "before": torch.tensor(before),
            **_question(after, lengths.after),
            "answer": _padded(answer, lengths.answer, -1),
            "numbers": _padded(numbers, lengths.numbers, -1),
            **box_rows(sample.targets, seen.camera, self.queries),
            "depth_map": depth_map((*sample.targets, *sample.others), seen.camera),
            **{k: v[0] for k, v in self.eyes.behind([seen], lengths.behind).items()},
        }


def asked(eyes: Eyes, seen: Sequence[Seen], expressions: Sequence[str]) -> dict[str, Tensor]:
    """A batch of questions without answers."""
    prompts = [eyes.mllm.prompt(e) for e in expressions]
    longest = max(len(after) for _, after in prompts)
    rows = [_question(after, longest) for _, after in prompts]
    return {
        "tokens": torch.stack([s.tokens.float() for s in seen]),
        "fine": torch.stack([s.fine.float() for s in seen]),
        "inside": torch.stack([s.inside for s in seen]),
        "camera": torch.tensor([s.camera.row for s in seen]),
        "before": torch.tensor([before for before, _ in prompts]),
        "after": torch.stack([r["after"] for r in rows]),
        "after_mask": torch.stack([r["after_mask"] for r in rows]),
        "depth_map": torch.zeros(len(seen), MAP, MAP),
        "box2d": torch.zeros(len(seen), 1, 4),
        **eyes.behind(seen),
    }


def _question(after: list[int], length: int) -> dict[str, Tensor]:
    mask = torch.zeros(length)
    mask[: len(after)] = 1
    return {"after": _padded(after, length, 0), "after_mask": mask}


def _padded(ids: list[int], length: int, filler: int) -> Tensor:
    return torch.tensor([*ids, *[filler] * (length - len(ids))])


def box_rows(boxes: Sequence[Box], camera: Camera, queries: int) -> dict[str, Tensor]:
    """The first ``queries`` boxes as tensors, filled up with a box that is not valid."""
    some = list(boxes[:queries])
    filler = Box.upright((0.0, 0.0, 1.0), (1.0, 1.0, 1.0), 0.0)
    rows = [*some, *[filler] * (queries - len(some))]
    flat = np.stack([b.bounds(camera.matrix, camera.width, camera.height) for b in rows])
    flat = flat / (camera.width, camera.height, camera.width, camera.height)
    square = np.concatenate(((flat[:, :2] + flat[:, 2:]) / 2, flat[:, 2:] - flat[:, :2]), 1)
    valid = [1.0] * len(some) + [0.0] * (queries - len(some))
    return {
        "centre": torch.tensor(np.stack([b.centre for b in rows]), dtype=torch.float32),
        "size": torch.tensor(np.stack([b.size for b in rows]), dtype=torch.float32),
        "rotation": torch.tensor(np.stack([b.rotation for b in rows]), dtype=torch.float32),
        "box2d": torch.tensor(square, dtype=torch.float32),
        "valid": torch.tensor(valid),
    }


def depth_map(boxes: Sequence[Box], camera: Camera, cells: int = MAP) -> Tensor:
    """Virtual depth of the nearest box's centre at each cell [cells, cells], 0 where there is no box."""
    found = np.zeros((cells, cells), np.float32)
    for box in sorted(boxes, key=lambda b: -b.centre[2]):
        flat = box.bounds(camera.matrix, camera.width, camera.height)
        left, top = np.floor(flat[:2] * cells / (camera.width, camera.height)).astype(int)
        right, bottom = np.ceil(flat[2:] * cells / (camera.width, camera.height)).astype(int)
        found[top:bottom, left:right] = box.centre[2] * F_VIRTUAL / camera.fy
    return torch.from_numpy(found)


def varied(sample: SpatialSample, seed: int) -> tuple[SpatialSample, Image]:
    """The sample and its picture, zoomed by a factor in `ZOOM`, less where a target would leave the picture,
    and mirrored half of the time."""
    rng = np.random.default_rng(seed)
    factor = float(np.exp(rng.uniform(*np.log(ZOOM))))
    picture, camera = zoomed(sample.picture(), sample.camera, factor)
    if factor > 1 and not all(_in_sight(b, camera) for b in sample.targets):
        picture, camera = zoomed(sample.picture(), sample.camera, 1.0)
    sample = replace(sample, camera=camera)
    return mirrored(sample, picture) if rng.random() < 0.5 else (sample, picture)


def _in_sight(box: Box, camera: Camera) -> bool:
    """Whether the box's centre lies within the picture."""
    x, y = camera.matrix[:2] @ (box.centre / box.centre[2])
    return bool(0 < x < camera.width and 0 < y < camera.height)


def mirrored(sample: SpatialSample, picture: Image) -> tuple[SpatialSample, Image]:
    """The sample and its picture flipped left to right: boxes, camera and words."""
    from PIL.Image import Transpose

    flipped = replace(
        sample,
        camera=sample.camera.flipped(),
        expression=mirrored_text(sample.expression),
        answer=mirrored_text(sample.answer),
        targets=tuple(mirrored_box(b) for b in sample.targets),
        others=tuple(mirrored_box(b) for b in sample.others),
    )
    return flipped, picture.transpose(Transpose.FLIP_LEFT_RIGHT)


def mirrored_box(box: Box) -> Box:
    """The box in the picture flipped left to right."""
    flip, turn = np.array((-1.0, 1.0, 1.0)), np.array((1.0, 1.0, -1.0))
    return replace(box, centre=box.centre * flip, rotation=flip[:, None] * box.rotation * turn)
