"""Batches for nano-clip: windows about one thing and whole scenes, with the texts that are true of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tools.nano.clip import ClipConfig, normalised
from tools.nano.scene_cache import NAMES, SceneCache, nano_scene, world_print
from wildsight.files import atomic_path, cache_folder, digest_of
from wildsight.world.language import caption, view_of, with_article

View = TypeVar("View", "Windows", "Scenes")
LEVELS = (1, 2, 3)
_FORMS = ("{}", "{}", "a photo of {}", "a picture of {}", "an image of {}")
_CLEAR = 60  # visible pixels that a thing needs to be a sample of its own


@dataclass(frozen=True)
class Speech:
    """What can be said of the scenes of a `SceneCache`.

    Attributes:
        captions: int16 [N, 3, L]: token numbers of `caption` at each level, padded.
        far: float32 [N, 6]: distance of each thing from the camera, metres; 0 for no thing.
    """

    captions: npt.NDArray[np.int16]
    far: npt.NDArray[np.float32]


def speech(book: SceneCache, words: Any, length: int) -> Speech:
    """Captions and distances of a book's scenes, kept in the cache."""
    key = digest_of(
        ["speech", world_print(), book.first, len(book), length, sorted(words.get_vocab().items())]
    )[:24]
    files = [cache_folder("pretrain", "scenes") / f"{key}-{name}.npy" for name in ("captions", "far")]
    if not files[-1].is_file():
        for file, array in zip(files, _speak(book, words, length), strict=True):
            with atomic_path(file) as temporary:
                np.save(temporary, array)
    return Speech(np.load(files[0]), np.load(files[1]))


def _speak(
    book: SceneCache, words: Any, length: int
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    far, texts = np.zeros(book.seen.shape, np.float32), []
    for row in range(len(book)):
        scene = nano_scene(book.first + row)
        texts += [caption(scene, level) for level in LEVELS]
        far[row, : len(scene.things)] = view_of(scene).distance
    return tokens(words, texts, length).numpy().astype(np.int16).reshape(len(book), len(LEVELS), -1), far


def tokens(words: Any, texts: Sequence[str], length: int) -> Tensor:
    """Token numbers [T, length], cut and padded."""
    given = words(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    ids: Tensor = given.input_ids
    return ids


def clear_things(book: SceneCache) -> npt.NDArray[np.int64]:
    """Rows (scene, thing) of the things that are seen well enough."""
    return np.argwhere(book.seen >= _CLEAR)


def phrase(code: Sequence[int], said: Sequence[bool], form: str) -> str:
    """A thing's words, of those attributes that are ``said``.

    >>> phrase((1, 1, 1, 1), (True, False, True, False), "a photo of {}")
    'a photo of a matte cube'
    """
    shape, colour, material, size = (
        names[c - 1] if s else "" for names, c, s in zip(NAMES, code, said, strict=True)
    )
    return form.format(with_article(" ".join(w for w in (size, colour, material, shape or "object") if w)))


def drawn_phrases(codes: Tensor, *, sizes: bool) -> tuple[list[str], Tensor]:
    """A phrase about each thing [T, 4] with some attributes, and which [T, 4]; chance is torch's."""
    said = torch.rand(codes.shape) < torch.tensor([0.85, 0.5, 0.5, 0.3 if sizes else 0.0])
    said &= codes.cpu() > 0
    said[~said[:, :3].any(1), 0] = True
    forms = torch.randint(len(_FORMS), (len(codes),)).tolist()
    rows = zip(codes.tolist(), said.tolist(), forms, strict=True)
    return [phrase(code, which, _FORMS[form]) for code, which, form in rows], said


def fits(things: Tensor, codes: Tensor, said: Tensor) -> Tensor:
    """[B, T] whether a thing of each picture [B, things, 4] has all that is ``said`` [T, 4] of ``codes``."""
    same = (things[:, None] == codes[None, :, None]) | ~said[None, :, None]
    return same.all(3).any(2)


@dataclass(frozen=True)
class Windows:
    """Windows about one thing each, at a random place of the picture's grid.

    Attributes:
        pixels: [B, 3, h, w].
        where: [B, N] patch numbers.
        truth: [B, N, 3] shape, colour and material of the patches that show the thing, 0 elsewhere.
        codes: [B, 4] of the thing.
    """

    pixels: Tensor
    where: Tensor
    truth: Tensor
    codes: Tensor


def windows(book: SceneCache, things: npt.NDArray[np.int64], config: ClipConfig) -> Windows:
    """Windows of 4 to 7 patches about ``things`` [B, 2] (scene, thing); chance is torch's generator's."""
    count, wide = len(things), min(int(torch.randint(4, 8, ())), config.side)
    pictures, maps = book.take(things[:, 0].tolist())
    box = torch.from_numpy(book.places[things[:, 0], things[:, 1]])
    codes = torch.from_numpy(book.things[things[:, 0], things[:, 1]].astype(np.int64))
    grid = _frame(box, wide * config.patch, config.size)
    colour = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    seen = F.grid_sample(colour, grid, padding_mode="border", align_corners=False)
    own = torch.from_numpy(maps == things[:, 1][:, None, None])[:, None].float()
    mask = F.grid_sample(own, grid, mode="nearest", align_corners=False)
    on = F.avg_pool2d(mask, config.patch).flatten(1) > 0.3
    truth = codes[:, None, :3] * on[..., None]
    corner = torch.randint(config.side - wide + 1, (count, 2))
    line = torch.arange(wide)
    rows, columns = corner[:, :1] + line, corner[:, 1:] + line
    where = (rows[:, :, None] * config.side + columns[:, None]).flatten(1)
    return Windows(normalised(_light(seen.permute(0, 2, 3, 1))), where, truth, codes)


def _frame(box: Tensor, side: int, size: int) -> Tensor:
    """Sampling grid [B, side, side, 2] of a square about each box, a little off and by chance mirrored."""
    count = len(box)
    reach = (box[:, 2:] - box[:, :2]).amax(1)
    span = (reach * (1.05 + 0.9 * torch.rand(count))).clamp(16, 1.2 * size)
    centre = (box[:, :2] + box[:, 2:]) / 2 + (torch.rand(count, 2) - 0.5) * 0.35 * reach[:, None]
    line = ((torch.arange(side) + 0.5) / side - 0.5) * span[:, None]
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)[:, None]
    x = (centre[:, :1] + mirror * line) / size * 2 - 1
    y = (centre[:, 1:] + line) / size * 2 - 1
    return torch.stack([x[:, None].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], 3)


def _light(pictures: Tensor) -> Tensor:
    """Pictures [B, H, W, 3] a little brighter or darker, with noise: names of colours stay true."""
    gain = 1 + 0.25 * (torch.rand(len(pictures), 1, 1, 1) - 0.5)
    noise = torch.randn(pictures.shape) * 5 * torch.rand(len(pictures), 1, 1, 1)
    return (pictures * gain + noise).clamp(0, 255)


@dataclass(frozen=True)
class Scenes:
    """Whole pictures.

    Attributes:
        pixels: [B, 3, S, S].
        things: [B, 6, 4] codes.
        truth: [B, N, 4] codes of the patches.
        place: [B, N, 5] box of the patch's thing from its centre (left, top, right, bottom, in picture sides)
            and the logarithm of its distance in metres; zeros on the ground.
        mirrored: [B] left and right are exchanged.
    """

    pixels: Tensor
    things: Tensor
    truth: Tensor
    place: Tensor
    mirrored: Tensor


def scenes(
    book: SceneCache,
    talk: Speech,
    rows: Sequence[int],
    config: ClipConfig,
    *,
    vary: bool = True,
    covered: Tensor | None = None,
) -> Scenes:
    """Whole pictures of some rows; with ``vary``, light and mirror by torch's generator.

    The things of pictures that are ``covered`` [B] are painted over: of their colour and material nothing is
    told any more (-1 in ``truth``, 0 in ``things``).
    """
    pictures, maps = (torch.from_numpy(a) for a in book.take(rows))
    index = np.asarray(rows)
    things = torch.from_numpy(book.things[index].astype(np.int64))
    box, far = torch.from_numpy(book.places[index]), torch.from_numpy(talk.far[index])
    mirrored = (torch.rand(len(rows)) < 0.5) if vary else torch.zeros(len(rows), dtype=torch.bool)
    pictures = torch.where(mirrored[:, None, None, None], pictures.flip(2), pictures)
    maps = torch.where(mirrored[:, None, None], maps.flip(2), maps)
    turned = torch.stack([config.size - box[..., 2], box[..., 1], config.size - box[..., 0], box[..., 3]], 2)
    box = torch.where(mirrored[:, None, None], turned, box)
    owner = owners(maps, config.patch)
    seen = owner >= 0
    at = owner.clamp_min(0)
    truth = things.gather(1, at[..., None].expand(-1, -1, 4)) * seen[..., None]
    line = (torch.arange(config.side) + 0.5) * config.patch
    middle = torch.stack([line.repeat(config.side), line.repeat_interleave(config.side)], 1).repeat(1, 2)
    place = (box.gather(1, at[..., None].expand(-1, -1, 4)) - middle) / config.size
    place = torch.cat([place, far.clamp_min(0.1).log().gather(1, at)[..., None]], 2) * seen[..., None]
    shown = pictures.float()
    if covered is not None:
        shown = torch.where(covered[:, None, None, None], painted(shown, maps != 255), shown)
        things[covered, :, 1:3] = 0
        truth[covered, :, 1:3] = torch.where(seen[covered][..., None], -1, 0)
    return Scenes(normalised(_light(shown) if vary else shown), things, truth, place, mirrored)


def painted(pictures: Tensor, on: Tensor) -> Tensor:
    """Pictures [B, S, S, 3] whose things, where ``on`` [B, S, S], are covered with noise of any grain.

    Half of them keep the light and shade of what is covered.
    """
    count, side = pictures.shape[:2]
    grain = int(torch.randint(2, 25, ()))
    noise = F.interpolate(torch.rand(count, 3, grain, grain), size=(side, side), mode="bilinear")
    contrast, level = 0.3 + 1.2 * torch.rand(count, 1, 1, 1), torch.rand(count, 3, 1, 1)
    paint = 255 * ((noise - 0.5) * contrast + level).clamp(0, 1).permute(0, 2, 3, 1)
    bright = pictures.mean(3) + 1
    mean = (bright * on).sum((1, 2)) / on.sum((1, 2)).clamp_min(1)
    shade = (bright / mean.clamp_min(1)[:, None, None]).clamp(0.4, 1.8)
    shade = torch.where(torch.rand(count, 1, 1) < 0.5, shade, torch.ones(()))
    return torch.where(on[..., None], (paint * shade[..., None]).clamp(0, 255), pictures)


def owners(maps: Tensor, patch: int) -> Tensor:
    """[B, N] the thing that covers most of each patch, -1 where none covers 30 %; ``maps`` [B, S, S]."""
    cells = maps.unfold(1, patch, patch).unfold(2, patch, patch).flatten(3).flatten(1, 2)
    counts = torch.stack([(cells == number).sum(2) for number in range(6)], 2)
    most, owner = counts.max(2)
    return torch.where(most > 0.3 * patch * patch, owner, -1)


def mirrored_text(ids: Tensor, mirrored: Tensor, left: int, right: int) -> Tensor:
    """Token numbers [B, ...] with left and right exchanged where ``mirrored`` [B]."""
    swapped = torch.where(ids == left, right, torch.where(ids == right, left, ids))
    return torch.where(mirrored.view(-1, *[1] * (ids.ndim - 1)), swapped, ids)


def moved(view: View, device: torch.device) -> View:
    """The same batch on ``device``."""
    return replace(view, **{field.name: getattr(view, field.name).to(device) for field in fields(view)})
