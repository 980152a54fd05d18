"""Questions about the training scenes as token numbers, drawn once and kept in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.nano.scene_cache import SceneCache, nano_scene, world_print
from wildsight.files import atomic_path, cache_folder, digest_of
from wildsight.world.asking import KINDS, Examiner

LONGEST = 24


@dataclass(frozen=True)
class QuestionCache:
    """Questions and one-word answers.

    Attributes:
        texts: int16 [N, K, 24] token numbers without ``<bos>``; padded.
        answers: int16 [N, K], -1 where a scene has fewer questions.
        kinds: int8 [N, K] index into `KINDS`.
    """

    texts: npt.NDArray[np.int16]
    answers: npt.NDArray[np.int16]
    kinds: npt.NDArray[np.int8]


def cached_questions(book: SceneCache, words: Any, drawn: int, *, seed: int = 0) -> QuestionCache:
    """``drawn`` balanced questions about each scene of a book."""
    key = digest_of(
        ["asked", world_print(), book.first, len(book), drawn, seed, sorted(words.get_vocab().items())]
    )[:24]
    names = ("texts", "answers", "kinds")
    files = [cache_folder("pretrain", "scenes") / f"{key}-{name}.npy" for name in names]
    if not files[-1].is_file():
        for file, array in zip(files, _draw(book, words, drawn, seed), strict=True):
            with atomic_path(file) as temporary:
                np.save(temporary, array)
    return QuestionCache(*(np.load(file) for file in files))


def _draw(book: SceneCache, words: Any, drawn: int, seed: int) -> tuple[npt.NDArray[np.generic], ...]:
    table, unknown = words.get_vocab(), words.unk_token_id
    texts = np.full((len(book), drawn, LONGEST), words.pad_token_id, np.int16)
    answers, kinds = np.full((len(book), drawn), -1, np.int16), np.zeros((len(book), drawn), np.int8)
    examiner = Examiner(seed=seed)
    for row in range(len(book)):
        for column, question in enumerate(examiner.ask(nano_scene(book.first + row), drawn)):
            ids = [table.get(word, unknown) for word in question.text.split()]
            texts[row, column, : len(ids)] = ids[:LONGEST]
            answers[row, column] = table[question.answer]
            kinds[row, column] = KINDS.index(question.kind)
    return texts, answers, kinds
