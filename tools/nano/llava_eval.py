"""How well nano-llava answers about scenes of held-out seeds, with and without the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tools.nano.clip import normalised
from wildsight.world.asking import KINDS, form_of
from wildsight.world.sets import QuestionSet, questions

SEED = 77


def llava_scores(folder: Path, *, count: int = 600, batch: int = 40) -> dict[str, Any]:
    """Accuracy by kind and over all: seeing, blind, and of the best constant answer to each form."""
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(folder)
    asked = questions(seed=SEED, size=model.config.vision_config.image_size, count=count)
    seeing = answers(model, words, asked, batch=batch)
    with blinded(model):
        blind = answers(model, words, asked, batch=batch)
    return {
        "questions": count,
        "with the picture": by_kind(asked, [a == b for a, b in zip(seeing, asked.answers, strict=True)]),
        "without the picture": by_kind(asked, [a == b for a, b in zip(blind, asked.answers, strict=True)]),
        "commonest answer": by_kind(asked, commonest(asked)),
    }


def by_kind(asked: QuestionSet, right: list[bool]) -> dict[str, float]:
    """Share of right answers of each kind and of ``all``."""
    table = {kind: [r for r, k in zip(right, asked.kinds, strict=True) if k == kind] for kind in KINDS}
    return {
        "all": float(np.mean(right)),
        **{kind: float(np.mean(rows)) for kind, rows in table.items() if rows},
    }


def commonest(asked: QuestionSet) -> list[bool]:
    """Which questions the commonest answer to their form gets right."""
    counts: dict[str, Counter[str]] = {}
    for text, answer in zip(asked.questions, asked.answers, strict=True):
        counts.setdefault(form_of(text), Counter())[answer] += 1
    best = {form: counter.most_common(1)[0][0] for form, counter in counts.items()}
    return [best[form_of(t)] == a for t, a in zip(asked.questions, asked.answers, strict=True)]


@torch.no_grad()
def answers(model: Any, words: Any, asked: QuestionSet, *, batch: int) -> list[str]:
    """What the model says, greedily, to every question."""
    out: list[str] = []
    for start in range(0, len(asked.questions), batch):
        part = slice(start, start + batch)
        ids, mask = prompts(model, words, asked.questions[part])
        pictures = pixels(asked.images[asked.picture[part]])
        said = model.generate(
            input_ids=ids, attention_mask=mask, pixel_values=pictures, max_new_tokens=4, do_sample=False
        )
        out += [words.decode(row, skip_special_tokens=True).strip() for row in said[:, ids.shape[1] :]]
    return out


def pixels(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [B, S, S, 3] -> [B, 3, S, S]."""
    return normalised(torch.from_numpy(np.ascontiguousarray(pictures)).float())


def prompts(model: Any, words: Any, texts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Token numbers [B, L] and their mask, padded on the left: ``<bos>``, the picture, the question."""
    config = model.config
    head = [words.bos_token_id] + [config.image_token_index] * config.image_seq_length
    rows = [head + words(text, add_special_tokens=False).input_ids for text in texts]
    longest = max(map(len, rows))
    gaps = [longest - len(row) for row in rows]
    ids = torch.tensor([[words.pad_token_id] * gap + row for gap, row in zip(gaps, rows, strict=True)])
    mask = torch.tensor([[0] * gap + [1] * len(row) for gap, row in zip(gaps, rows, strict=True)])
    return ids, mask


@contextmanager
def blinded(model: Any) -> Iterator[None]:
    """Every picture token is zero inside."""
    hook = model.model.multi_modal_projector.register_forward_hook(
        lambda _m, _i, output: torch.zeros_like(output)
    )
    try:
        yield
    finally:
        hook.remove()
