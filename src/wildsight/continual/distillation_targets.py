"""What a method may know of a task before training: the teachers' rows, the corpus, the memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.continual.pictures import Pictures
from wildsight.continual.tasks import TaskData, content
from wildsight.continual.towers import Towers
from wildsight.datasets.lists import read_names
from wildsight.errors import DataError
from wildsight.files import atomic_path, cache_folder, digest_of
from wildsight.images import list_images, load_image

RANDOM_SENTENCES, RANDOM_LENGTH = 1000, 10
CAPTIONS = "captions.txt"


@dataclass(frozen=True)
class Reference:
    """The outside corpus of ZSCL and SnD, encoded once.

    Attributes:
        pixels: uint8 [R, S, S, 3].
        tokens: [M, L] ids of the captions, or None.
        zero_image, zero_text: unit rows of the first model, [R, D] and [M, D].
        previous_image, previous_text: the same of the previous model.
    """

    pixels: Tensor
    tokens: Tensor | None
    zero_image: Tensor
    zero_text: Tensor
    previous_image: Tensor
    previous_text: Tensor


@dataclass(frozen=True)
class DistillationTargets:
    """What a method may know of a task before it is trained, in features.

    Attributes:
        labels: [N] int64.
        classes: K.
        scale: s, the inverse temperature of CLIP.
        first: True for the first task, where both teachers are the same.
        zero_image, zero_text: f_0 [N, D] and G_0 [K, D], unit rows of the first model.
        previous_image, previous_text: f_p and G_p, of the model before this task.
        steps: optimiser steps of the task.
        reference: the outside corpus, for the methods that ask for it.
        memory: pixels uint8 [M, S, S, 3] of earlier pictures with the previous model's rows [M, D].
        random_tokens: [R, L] token sentences with the previous model's rows [R, D], for LwF-VR.
        live: the teachers themselves, (first, previous), where the teacher view is exact.
    """

    labels: Tensor
    classes: int
    scale: float
    first: bool
    zero_image: Tensor
    zero_text: Tensor
    previous_image: Tensor
    previous_text: Tensor
    steps: int = 1
    reference: Reference | None = None
    memory: tuple[Tensor, Tensor] | None = None
    random_tokens: tuple[Tensor, Tensor] | None = None
    live: tuple[Any, Any] | None = None


def weights_digest(towers: Towers) -> str:
    """SHA-256 over all weights and the word list."""
    digest = hashlib.sha256(repr((towers.words, towers.size, towers.resize)).encode())
    for name, value in sorted(towers.clip.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def teacher_rows(towers: Towers, pictures: Pictures, *, cache: bool = True) -> Tensor:
    """Unit rows [N, D] of the test view, through the cache on disk (half precision).

    The key is the weights, the view and the pictures' bytes; a damaged file is computed again.
    """
    key = digest_of([weights_digest(towers), [content(p) for p, _ in pictures.pairs]])
    file = cache_folder("continual") / f"{key[:32]}.npy"
    if cache and file.is_file():
        try:
            return torch.from_numpy(np.load(file, allow_pickle=False)).float()
        except (OSError, ValueError):
            file.unlink(missing_ok=True)
    parts = [towers.embed(batch) for batch in pictures.batches()]
    rows = torch.cat(parts).half()
    if cache:
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, rows.numpy())
    return rows.float()


def make_targets(
    needs: Collection[str],
    zero: Towers,
    previous: Towers,
    task: TaskData,
    pictures: Pictures,
    *,
    first: bool,
    steps: int,
    teachers: bool = True,
    exact: bool = False,
    reference: tuple[Tensor, Sequence[str]] | None = None,
    memory: Tensor | None = None,
    seed: int = 0,
) -> DistillationTargets:
    """What a method needs of a task.

    Args:
        needs: what else the method needs: of ``reference``, ``memory``, ``random``.
        zero, previous: the first model and the one before this task, with the same words.
        task: the task, and ``pictures``: its training pictures.
        first: the two models are the same.
        steps: optimiser steps of the task.
        teachers: whether the teachers' image rows are used at all.
        exact: keep the teachers at hand in place of their cached rows.
        reference: pixels and captions of the outside corpus.
        memory: pixels of earlier pictures.
        seed: of the random sentences.
    """
    tokens, empty = previous.tokens(task.prompts()), torch.zeros(len(pictures), 1)
    zero_image = previous_image = empty
    if teachers:
        zero_image = teacher_rows(zero, pictures)
        previous_image = zero_image if first else teacher_rows(previous, pictures)
    zero_text, previous_text = _texts(zero, tokens), _texts(previous, tokens)
    live = (zero.eval(), previous.eval()) if exact else None
    return DistillationTargets(
        labels=pictures.labels,
        classes=len(task.classes),
        scale=previous.scale,
        first=first,
        zero_image=zero_image,
        zero_text=zero_text,
        previous_image=previous_image,
        previous_text=previous_text,
        steps=steps,
        reference=_corpus(zero, previous, reference, first) if "reference" in needs else None,
        memory=_memory(previous, memory) if "memory" in needs else None,
        random_tokens=_sentences(previous, seed) if "random" in needs else None,
        live=live,
    )


@torch.no_grad()
def _texts(towers: Towers, tokens: Tensor) -> Tensor:
    towers.eval()
    parts = [towers.encode_tokens(t) for t in tokens.split(256)]
    return torch.cat(parts).cpu()


def _corpus(
    zero: Towers, previous: Towers, given: tuple[Tensor, Sequence[str]] | None, first: bool
) -> Reference:
    if given is None:
        raise DataError("this method needs a reference corpus", hint="give the setting reference")
    pixels, captions = given
    tokens = zero.tokens(captions)
    rows = zero.embed(pixels), _texts(zero, tokens)
    before = rows if first else (previous.embed(pixels), _texts(previous, tokens))
    return Reference(pixels, tokens, *rows, *before)


def _memory(previous: Towers, pixels: Tensor | None) -> tuple[Tensor, Tensor] | None:
    return None if pixels is None or not len(pixels) else (pixels, previous.embed(pixels))


def _sentences(previous: Towers, seed: int) -> tuple[Tensor, Tensor]:
    """Random token sentences between the start and end tokens of a real one, and their rows."""
    frame = previous.tokens(["a"])[0]
    draw = torch.Generator().manual_seed(seed)
    special = set(previous.tokenizer.all_special_ids)
    plain = torch.tensor([i for i in range(previous.base_rows) if i not in special])
    chosen = plain[torch.randint(len(plain), (RANDOM_SENTENCES, RANDOM_LENGTH), generator=draw)]
    start, end = frame[:1].expand(RANDOM_SENTENCES, 1), frame[-1:].expand(RANDOM_SENTENCES, 1)
    tokens = torch.cat([start, chosen, end], 1)
    return tokens, _texts(previous, tokens)


def read_reference(source: str, towers: Towers, count: int, seed: int = 0) -> tuple[Tensor, list[str]]:
    """Pictures and captions of an outside corpus.

    Args:
        source: ``world`` (rendered scenes), or a folder of pictures with ``captions.txt``, one per line.
        towers: whose view the pictures are brought to.
        count: pictures at most.
        seed: of the scenes.

    Raises:
        DataError: no pictures, or no captions.
    """
    pairs = _world(towers.size, count, seed) if source == "world" else _folder(Path(source), count)
    pixels = torch.stack([torch.from_numpy(np.array(towers.pixels(p))) for p, _ in pairs])
    return pixels, [c for _, c in pairs]


def _world(size: int, count: int, seed: int) -> list[tuple[Image, str]]:
    from PIL.Image import fromarray

    from wildsight.world.language import caption
    from wildsight.world.render import render
    from wildsight.world.scene import random_scene

    scenes = [random_scene(10_000_000 + 1000 * seed + i) for i in range(count)]
    return [(fromarray(render(s, max(32, size)).rgb), caption(s, 2)) for s in scenes]


def _folder(root: Path, count: int) -> list[tuple[Image, str]]:
    files = list_images(root)[:count]
    listed = root / CAPTIONS
    if not files or not listed.is_file():
        raise DataError(f"a reference corpus needs pictures and {CAPTIONS}", where=root, hint="add them")
    captions = read_names(listed)
    if not captions:
        raise DataError("holds no caption", where=listed, hint="write one per line")
    return [(load_image(f), captions[i % len(captions)]) for i, f in enumerate(files)]
