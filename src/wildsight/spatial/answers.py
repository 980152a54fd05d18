"""From tensors to the boxes and words of a result, and the tokens that a compressed model keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones.vlm import active_pruner
from wildsight.errors import CheckpointError, ConfigError
from wildsight.images import Picture, as_picture, exif_of
from wildsight.spatial.boxes import Box
from wildsight.spatial.camera import Camera, fitted
from wildsight.spatial.captions import names_something
from wildsight.spatial.heads import Boxes3D
from wildsight.spatial.inputs import Eyes
from wildsight.spatial.result import GroundingResult
from wildsight.spatial.token_pooling import Kept, blocks_kept, pixels_of, places_of
from wildsight.training.batches import to_device


class Answer(NamedTuple):
    """What a method gives to one question.

    Attributes:
        boxes: the surest first.
        score: of the surest, given or not.
        words: what the model says, if it was asked to speak.
        parsed: whether the answer could be read at all.
    """

    boxes: list[Box]
    score: float
    words: str = ""
    parsed: bool = True


def answers_of(found: Boxes3D, threshold: float) -> list[Answer]:
    """The boxes of each row whose score reaches ``threshold``.

    Raises:
        CheckpointError: numbers that are not finite.
    """
    rows: list[Answer] = []
    values = [v.detach().cpu().double().numpy() for v in found]
    if not all(np.isfinite(v).all() for v in values):
        raise CheckpointError("the network answers with numbers that are not finite", hint="fit it again")
    for row in range(len(values[0])):
        centre, size, rotation, spread, score = (v[row] for v in values)
        order = [q for q in np.argsort(-score, kind="stable") if score[q] >= threshold]
        boxes = [Box(centre[q], size[q], rotation[q], "", float(score[q]), float(spread[q])) for q in order]
        rows.append(Answer(boxes, float(score.max())))
    return rows


def expressions_of(given: str | Sequence[str], language: bool) -> list[str]:
    """What is asked, one by one.

    Args:
        given: an expression, or several.
        language: whether the method reads them, so that each must name something.

    Raises:
        ConfigError: no expression, one that is no text, or one that names nothing.
    """
    hint = 'say what is looked for: "the red cube"'
    many: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    for text in many or [""]:
        if not isinstance(text, str):
            raise ConfigError(f"an expression that is no text ({text!r})", hint=hint)
        if not text.strip():
            raise ConfigError("an expression without words", hint=hint)
        if language and not names_something(text):
            raise ConfigError(f"an expression that names no object ({text!r})", hint=hint)
    return many


def result_of(
    expression: str,
    answer: Answer,
    camera: Camera,
    image: Path | None,
    picture: Image,
    unknown: Sequence[str] = (),
) -> GroundingResult:
    """The result of one question; boxes behind the camera are left out and flagged, as are words that the
    model does not know and intrinsics that look like those of another size."""
    flags = ["intrinsics estimated"] if camera.origin == "estimate" else []
    if camera.off_centre:
        flags.append("intrinsics of another size")
    if unknown:
        flags.append(f"unknown words: {' '.join(unknown)}")
    named = [Box(b.centre, b.size, b.rotation, expression, b.score, b.spread) for b in answer.boxes]
    shown = [b for b in named if b.centre[2] > 0]
    if len(shown) < len(named):
        flags.append("behind camera")
    if any(_out_of_sight(b, camera) for b in shown):
        flags.append("out of sight")
    if not shown:
        flags.append("not there")
    score = max((b.score for b in shown), default=answer.score)
    words, by = (answer.words, "model") if answer.words else (by_rule(expression, shown), "rule")
    return GroundingResult(expression, tuple(shown), words, by, camera, tuple(flags), score, image, picture)


def _out_of_sight(box: Box, camera: Camera) -> bool:
    left, top, right, bottom = box.bounds(camera.matrix, camera.width, camera.height)
    return bool(right - left < 1 or bottom - top < 1)


def by_rule(expression: str, boxes: Sequence[Box]) -> str:
    """The answer in words that the boxes give.

    >>> by_rule("the cube", [Box.upright((-1, 0, 5), (1, 1, 2), 0)])
    'the cube is 5.0 m ahead and 1.0 m to the left, 1.0 m long, 1.0 m high and 2.0 m wide'
    """
    if not boxes:
        return f"{expression}: there is none"
    if len(boxes) > 1:
        depths = ", ".join(f"{b.centre[2]:.1f}" for b in boxes)
        return f"{expression}: {len(boxes)} found, {depths} m ahead"
    x, _, z = (float(v) for v in boxes[0].centre)
    length, height, width = (float(v) for v in boxes[0].size)
    side = "right" if x > 0 else "left"
    return (
        f"{expression} is {z:.1f} m ahead and {abs(x):.1f} m to the {side}, "
        f"{length:.1f} m long, {height:.1f} m high and {width:.1f} m wide"
    )


def kept_tokens(eyes: Eyes, pictures: Sequence[Image], batch: Mapping[str, Tensor]) -> Kept | None:
    """The visual tokens that stay where something prunes the model's pictures; None where nothing does.

    They are chosen from the same picture and question; the enhancer has then still seen all.
    """
    mllm = eyes.mllm
    pruner = active_pruner(mllm.model)
    if pruner is None:
        return None
    if mllm.native:
        raise ConfigError(
            f"{type(mllm.model).__name__} grounds with all of its visual tokens alone",
            hint="remove visual_tokens, or use a LLaVA",
        )
    places, before = places_of(mllm, pictures), batch["before"].shape[1]
    squares = [fitted(p, _plain(p), mllm.side, eyes.fit)[0] for p in pictures]
    text = _with_placeholders(batch, [len(p) for p in places], int(mllm.model.config.image_token_id))
    inputs = to_device({**text, **pixels_of(mllm, squares, pictures)}, mllm.device)
    columns = [c.cpu() for c in pruner.prune(inputs).columns]
    rows = []
    for own, column in zip(places, columns, strict=True):
        kept = column[(column >= before) & (column < before + len(own))] - before
        rows.append(blocks_kept(kept, own, mllm.grid, eyes.pool))
    stay = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(mllm.device)
    return Kept(stay, pruner.positions == "original")


def _with_placeholders(batch: Mapping[str, Tensor], counts: Sequence[int], image: int) -> dict[str, Tensor]:
    """The questions as ids [B, T] with ``counts`` placeholders in each, and their mask."""
    visual = (torch.arange(max(counts)) < torch.tensor(counts)[:, None]).long()
    ids = torch.cat((batch["before"], visual * image, batch["after"]), 1)
    mask = torch.cat((torch.ones_like(batch["before"]), visual, batch["after_mask"].long()), 1)
    return {"input_ids": ids, "attention_mask": mask}


def _plain(picture: Image) -> Camera:
    """A camera of the picture's size, for fitting alone."""
    return Camera(1.0, 1.0, 0.0, 0.0, picture.width, picture.height)


def opened(image: Picture) -> tuple[Image, Mapping[int, Any]]:
    """A picture as RGB, and its EXIF tags.

    Raises:
        ImageError: the file cannot be read.
    """
    return as_picture(image), exif_of(image)
