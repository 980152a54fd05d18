"""Questions about pictures with known answers: the embedded world, benchmarks on disk, a plain folder.

`READERS` maps the name in a source (``pope:/data/pope``) to its reader. Nothing is ever downloaded, and
nothing here imports torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from wildsight.datasets.lists import read_json, read_json_lines
from wildsight.datasets.source import DataSource
from wildsight.errors import DataError, ImageError
from wildsight.files import digest_of
from wildsight.images import from_array, image_size, load_image
from wildsight.sources import Problem

HELD_OUT = 900_001
"""Seed of the world's questions here; the nano models were taught with others."""
COUNT = 1000
SIZE = 96
CAPTION = "caption"
CAPTION_PROMPT = "what is there ?"
"""How nano-llava was taught to be asked for a caption."""
SCENES = 50
"""The world's own number for the scenes of its questions."""


@dataclass(frozen=True)
class QuestionSample:
    """A question about a picture.

    Attributes:
        picture: what tells the picture from others.
        image: its file, or its pixels [H, W, 3] uint8.
        question: as a person would ask it.
        answers: accepted answers; several people's where a benchmark has them.
        kind: group that scores are given for.
    """

    picture: str
    image: Path | np.ndarray
    question: str
    answers: tuple[str, ...]
    kind: str

    def load(self) -> Image:
        """The picture as RGB.

        Raises:
            ImageError: its file cannot be read.
        """
        return load_image(self.image) if isinstance(self.image, Path) else from_array(self.image)


@dataclass(frozen=True)
class QuestionData:
    """An indexed set of questions.

    Attributes:
        name: the reader's name.
        root: the folder read; None for the world.
        samples: all questions; those about one picture stand together.
        protocol: what was read, with a hash; printed with scores.
    """

    name: str
    root: Path | None
    samples: tuple[QuestionSample, ...]
    protocol: dict[str, Any]

    def first(self, count: int | None) -> QuestionData:
        """The first ``count`` questions; None keeps all."""
        if count is None or count >= len(self.samples):
            return self
        return QuestionData(self.name, self.root, self.samples[:count], self.protocol | {"used": count})


def _data(name: str, root: Path | None, samples: Iterable[QuestionSample], **protocol: Any) -> QuestionData:
    found = tuple(samples)
    if not found:
        raise DataError("no question found", where=root, hint="check the layout in docs/tasks/compression.md")
    facts = {"questions": len(found), "pictures": len({s.picture for s in found}), **protocol}
    key = [[s.picture, s.question, s.answers, s.kind] for s in found]
    return QuestionData(name, root, found, facts | {"hash": digest_of(key)[:16]})


def world(
    count: int = COUNT, *, size: int = SIZE, seed: int = HELD_OUT, captions: bool = False
) -> QuestionData:
    """Questions about the embedded world, balanced over kinds and answers.

    Args:
        count: questions.
        size: side of the pictures, pixels.
        seed: of scenes and questions.
        captions: ask for a caption of every picture too, behind the questions, as kind `CAPTION`.
    """
    from wildsight.world.sets import questions

    found = questions(seed=seed, size=size, count=count)
    samples = [
        QuestionSample(f"{seed}-{p}", found.images[p], q, (a,), k)
        for p, q, a, k in zip(found.picture, found.questions, found.answers, found.kinds, strict=True)
    ]
    if captions:
        samples += [
            QuestionSample(f"{seed}-{p}", found.images[p], CAPTION_PROMPT, (text,), CAPTION)
            for p, text in enumerate(world_captions(seed, len(found.images)))
        ]
    return _data("world", None, samples, seed=seed, size=size)


def world_captions(seed: int, count: int) -> list[str]:
    """Captions of the first ``count`` scenes that the world's questions of ``seed`` are about."""
    from wildsight.world.language import caption
    from wildsight.world.portraits import number_of
    from wildsight.world.scene import random_scene

    return [caption(random_scene(number_of(seed, SCENES, i), count=None), 2) for i in range(count)]


def _field(value: Any, name: str, where: str) -> str:
    if not isinstance(value, dict) or not isinstance(value.get(name), str):
        raise DataError(f"no text {name!r}", where=where, hint="see docs/tasks/compression.md")
    return value[name]


def folder(root: Path) -> QuestionData:
    """A plain folder: ``questions.jsonl`` with ``image`` (a path in the folder), ``question``, ``answer``.

    ``answer`` is a text or a list of accepted ones; ``kind`` may name a group.
    """
    samples = []
    for number, value in read_json_lines(root / "questions.jsonl"):
        where = f"{root / 'questions.jsonl'}:{number}"
        answers = value.get("answer") if isinstance(value, dict) else None
        answers = [answers] if isinstance(answers, str) else answers
        if not isinstance(answers, list) or not answers or not all(isinstance(a, str) for a in answers):
            raise DataError("no text 'answer'", where=where, hint="give a text or a list of texts")
        name = _field(value, "image", where)
        question = _field(value, "question", where)
        samples.append(
            QuestionSample(name, root / name, question, tuple(answers), str(value.get("kind", "all")))
        )
    return _data("folder", root, samples)


def pope(root: Path) -> QuestionData:
    """POPE: ``coco_pope_{random,popular,adversarial}.json`` and the pictures in ``images`` or ``val2014``."""
    pictures = next((root / n for n in ("images", "val2014") if (root / n).is_dir()), root)
    samples = []
    for kind in ("random", "popular", "adversarial"):
        file = root / f"coco_pope_{kind}.json"
        for number, value in read_json_lines(file):
            where = f"{file}:{number}"
            name = _field(value, "image", where)
            label = _field(value, "label", where)
            samples.append(
                QuestionSample(name, pictures / name, _field(value, "text", where), (label,), kind)
            )
    return _data("pope", root, samples, metric="accuracy; POPE's own is F1 of yes, in column f1")


def gqa(root: Path) -> QuestionData:
    """GQA: ``testdev_balanced_questions.json`` and ``images``."""
    table = read_json(root / "testdev_balanced_questions.json")
    samples = []
    for name, value in table.items() if isinstance(table, dict) else ():
        where = f"{root / 'testdev_balanced_questions.json'}:{name}"
        picture = _field(value, "imageId", where)
        kind = str((value.get("types") or {}).get("structural", "all"))
        answers = (_field(value, "answer", where),)
        question = _field(value, "question", where)
        samples.append(QuestionSample(picture, root / "images" / f"{picture}.jpg", question, answers, kind))
    samples.sort(key=lambda s: s.picture)
    return _data("gqa", root, samples)


READERS: dict[str, Callable[[Path], QuestionData]] = {"folder": folder, "pope": pope, "gqa": gqa}


def read_source(
    text: str | Path, count: int | None = None, size: int = SIZE, *, captions: bool = False
) -> QuestionData:
    """The questions behind a source string.

    Args:
        text: ``world``, a folder, or ``NAME:PATH`` with a name from `READERS`.
        count: how many, from the first; None is all, and `COUNT` for the world.
        size: side of the world's pictures, pixels.
        captions: with the world's captions.

    Raises:
        DataError: a missing folder, or one that does not fit its layout.
    """
    source = DataSource(
        READERS, lambda: world(count or COUNT, size=size, captions=captions), check, files=_pictures
    )
    return source.read(text).first(count)


def check_source(text: str | Path) -> list[Problem]:
    """Every problem found in a source, before anything is run; imports no torch."""
    return DataSource(READERS, world, check, files=_pictures).problems(text)


def _pictures(data: QuestionData) -> list[Path]:
    """The files of a set, each once."""
    return list(dict.fromkeys(s.image for s in data.samples if isinstance(s.image, Path)))


def check(data: QuestionData) -> list[Problem]:
    """Pictures that cannot be read, empty texts, questions asked twice."""
    problems = []
    asked = Counter((s.picture, s.question) for s in data.samples)
    for sample in data.samples:
        where = sample.image if isinstance(sample.image, Path) else Path(sample.picture)
        if not sample.question.strip() or not all(a.strip() for a in sample.answers):
            problems.append(Problem(where, "an empty question or answer", "fill it in, or take it out"))
    for (picture, question), times in asked.items():
        if times > 1:
            text = f"{question!r} is asked {times} times"
            problems.append(Problem(Path(picture), text, "keep one of them"))
    for file in _pictures(data):
        try:
            image_size(file)
        except ImageError as error:
            problems.append(Problem(file, error.what, error.hint or "restore it"))
    return problems
