"""Asking a model many questions, compressed or not: answers, likelihoods, agreement.

Pictures are encoded once for all methods. Two protocols: *visual* prunes the tokens of each picture and
reads the whole prompt; *cache* reads the picture alone, compresses what the cache holds of it, and then
lets the question and the answer come token by token through the compressed cache, so that every answer
token depends on it.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wildsight.backbones.vlm import LoadedModel
from wildsight.compression import defaults
from wildsight.compression.attention import ragged_attention
from wildsight.compression.cache import KVSettings, RaggedCache, build_cache
from wildsight.compression.config import CompressionConfig
from wildsight.compression.decoding import Decoder
from wildsight.compression.evaluation.questions import CAPTION, QuestionSample
from wildsight.compression.families import Picture, family_of
from wildsight.compression.methods.visual.base import SELECTORS, VisualMethod
from wildsight.compression.prune import prune_visual_tokens, selector_of
from wildsight.compression.reader import reading
from wildsight.errors import ConfigError

LONGEST = 32
"""Tokens of an answer, at most."""


@dataclass(frozen=True)
class Batch:
    """Questions ready to be asked.

    Attributes:
        samples: the questions.
        inputs: ids, mask and what else the model wants, without pixels.
        pictures: one encoded picture per row.
        answers: target tokens of each row, the end included.
    """

    samples: list[QuestionSample]
    inputs: dict[str, Any]
    pictures: list[Picture]
    answers: list[list[int]]


@dataclass
class Answers:
    """What a model said, in the order of the questions.

    Attributes:
        said: generated tokens of each answer, without the end.
        losses: negative log likelihood of each target token.
    """

    said: list[list[int]]
    losses: list[list[float]]


def batched(samples: Sequence[QuestionSample], size: int) -> list[list[QuestionSample]]:
    """Batches in order; captions, whose answers are long, have batches of their own."""
    out: list[list[QuestionSample]] = []
    for sample in samples:
        if out and len(out[-1]) < size and (out[-1][0].kind == CAPTION) == (sample.kind == CAPTION):
            out[-1].append(sample)
        else:
            out.append([sample])
    return out


@torch.no_grad()
def prepare(
    loaded: LoadedModel,
    samples: Sequence[QuestionSample],
    batch: int = 50,
    advance: Callable[[int], Any] | None = None,
) -> list[Batch]:
    """Tokenise all questions, and encode every picture once, with the saliency of every layer."""
    family = family_of(loaded.model)
    known: dict[str, Picture] = {}
    out = []
    for rows in batched(samples, batch):
        new = list(dict.fromkeys(s.picture for s in rows if s.picture not in known))
        images = {s.picture: s.load() for s in rows}
        inputs = loaded.inputs([images[s.picture] for s in rows], [s.question for s in rows])
        if new:
            shown = loaded.inputs([images[p] for p in new], [""] * len(new))
            known |= dict(zip(new, family.encode(loaded.model, shown), strict=True))
        rest = {k: v for k, v in inputs.items() if k != "pixel_values"}
        answers = [loaded.answer_ids(s.answers[0])[:LONGEST] for s in rows]
        out.append(Batch(rows, rest, [known[s.picture] for s in rows], answers))
        if advance is not None:
            advance(len(rows))
    return out


@torch.no_grad()
def ask_visual(
    loaded: LoadedModel,
    batches: Sequence[Batch],
    keep: int | float,
    method: str | VisualMethod,
    *,
    positions: str = defaults.POSITIONS,
    seed: int = 0,
    kv: KVSettings | None = None,
) -> Answers:
    """Answer with ``keep`` tokens of each picture; a picture is pruned the same way for all its questions.

    Args:
        loaded: the model.
        batches: from `prepare`.
        keep: count or share.
        method: a selector or ``fastv``, by name or with its parameters.
        positions: ``compact`` or ``original``.
        seed: for selectors that draw.
        kv: compresses the cache as well; what it holds after the prompt bears on later tokens alone.
    """
    config = CompressionConfig(keep, SELECTORS.create(method), kv, positions, seed)
    found = Answers([], [])
    with reading(loaded.model, config) as reader:
        for batch in batches:
            # A picture draws with the same seed wherever it is asked about.
            pictures = [replace(p, view=replace(p.view, seed=seed)) for p in batch.pictures]
            inputs, cache = reader.prompt(batch.inputs, pictures)
            said, losses = _answer(loaded, inputs, batch.answers, cache)
            found.said += said
            found.losses += losses
    return found


def _answer(
    loaded: LoadedModel, inputs: Mapping[str, Any], answers: Sequence[Sequence[int]], cache: Any
) -> tuple[list[list[int]], list[list[float]]]:
    """Read the prompt once; follow the target answer in one copy of the cache, speak freely in another."""
    model = loaded.model
    out = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    state = Decoder(out.past_key_values, inputs["position_ids"][..., -1:], inputs["attention_mask"])
    logits = out.logits[:, -1].float()
    return _answered(loaded, state, logits, answers)


def _answered(
    loaded: LoadedModel, state: Decoder, logits: Tensor, answers: Sequence[Sequence[int]]
) -> tuple[list[list[int]], list[list[float]]]:
    """What is said behind a prompt, and the likelihood of the answers, cut to their own lengths."""
    longest = max(map(len, answers))
    free = copy.deepcopy(state)
    targets = torch.tensor([[*a, *[loaded.end] * (longest - len(a))] for a in answers], device=logits.device)
    losses = _follow(loaded.model, state, logits, targets)
    said = _speak(loaded.model, free, logits, longest, loaded.end)
    return said, [row[: len(a)] for row, a in zip(losses, answers, strict=True)]


def _follow(model: Any, state: Decoder, logits: Tensor, targets: Tensor) -> list[list[float]]:
    """Negative log likelihood of every target token."""
    losses = []
    for number in range(targets.shape[1]):
        losses.append(torch.nn.functional.cross_entropy(logits, targets[:, number], reduction="none"))
        if number + 1 < targets.shape[1]:
            logits = state.step(model, targets[:, number])
    return torch.stack(losses, dim=1).tolist()


def _speak(model: Any, state: Decoder, logits: Tensor, longest: int, end: int) -> list[list[int]]:
    """Greedy tokens until the end, ``longest`` at most."""
    said, alive = [], torch.ones(logits.shape[0], dtype=torch.bool, device=logits.device)
    for number in range(longest):
        token = logits.argmax(dim=-1)
        alive = alive & (token != end)
        said.append(token.masked_fill(~alive, -1))
        if number + 1 == longest or not bool(alive.any()):
            break
        logits = state.step(model, token)
    return [[t for t in row if t >= 0] for row in torch.stack(said, dim=1).tolist()]


@torch.no_grad()
def ask_cache(
    loaded: LoadedModel,
    batches: Sequence[Batch],
    settings: KVSettings,
    *,
    seed: int = 0,
    keep: int | float = 1.0,
    method: str | VisualMethod = defaults.SELECTOR,
    positions: str = defaults.POSITIONS,
) -> Answers:
    """Answer through a cache of the picture that was compressed before the question came.

    Args:
        loaded: the model.
        batches: from `prepare`.
        settings: what the cache keeps of the tokens that the model reads.
        seed: for scorers that draw.
        keep: tokens of a picture that the model reads.
        method: selector of those tokens, by name or with its parameters.
        positions: of those tokens, ``compact`` or ``original``.
    """
    settings = replace(settings, seed=seed)
    found: dict[int, tuple[list[int], list[float]]] = {}
    first = 0
    with ragged_attention(loaded.model):
        for batch in batches:
            for rows, said, losses in _ask_batch(loaded, batch, settings, keep, method, positions):
                for row, own, loss in zip(rows, said, losses, strict=True):
                    found[first + row] = (own, loss)
            first += len(batch.samples)
    ordered = [found[i] for i in range(first)]
    return Answers([s for s, _ in ordered], [x for _, x in ordered])


def split_prompt(ids: Tensor, mask: Tensor, token: int) -> tuple[Tensor, Tensor]:
    """A row's tokens up to the last image placeholder, and those behind it, padding left out."""
    own = ids[mask.bool()]
    places = (own == token).nonzero()[:, 0]
    if not places.numel() or int(places[-1]) + 1 == own.numel():
        raise ConfigError("the prompt has no question behind its picture", hint="use another template")
    cut = int(places[-1]) + 1
    return own[:cut], own[cut:]


def picture_prompts(
    loaded: LoadedModel,
    batch: Batch,
    keep: int | float = 1.0,
    method: str | VisualMethod = defaults.SELECTOR,
    positions: str = defaults.POSITIONS,
) -> tuple[list[int], dict[str, Any], list[Tensor]]:
    """The different pictures of a batch as prompts of their own, pruned to ``keep`` tokens.

    Returns:
        for each row the number of its picture; inputs of the pictures; for each row its question's tokens.
    """
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    parts = [split_prompt(i, m, loaded.model.config.image_token_id) for i, m in zip(ids, mask, strict=True)]
    names = list(dict.fromkeys(s.picture for s in batch.samples))
    number = [names.index(s.picture) for s in batch.samples]
    chosen = [number.index(i) for i in range(len(names))]
    prompts = [parts[i][0] for i in chosen]
    if len({p.numel() for p in prompts}) > 1:
        raise ConfigError("pictures of different lengths in one batch", hint="ask one picture at a time")
    asked = {"input_ids": torch.stack(prompts)}
    pictures = [batch.pictures[i] for i in chosen]
    pruned = prune_visual_tokens(
        loaded.model, asked, keep, selector_of(method), positions=positions, encoded_pictures=pictures
    )
    if not bool(pruned.mask.all()):
        raise ConfigError("pictures of different lengths in one batch", hint="ask one picture at a time")
    inputs = {"input_ids": pruned.ids, "mm_encoder_outputs": {"image": pruned.encoded()}}
    if positions == "original":
        inputs["position_ids"] = pruned.positions
    return number, inputs, [p[1] for p in parts]


def _ask_batch(
    loaded: LoadedModel,
    batch: Batch,
    settings: KVSettings,
    keep: int | float,
    method: str | VisualMethod,
    positions: str,
) -> Iterator[tuple[list[int], list[list[int]], list[list[float]]]]:
    """Compress each picture once, then ask its questions in groups of equal length."""
    number, inputs, questions = picture_prompts(loaded, batch, keep, method, positions)
    length = inputs["input_ids"].shape[1]
    before = length
    if positions == "original":
        before += batch.pictures[0].features.shape[0]
        before -= inputs["mm_encoder_outputs"]["image"].pooler_output[0].shape[0]
    cache = build_cache(loaded.model, settings, length)
    loaded.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, question in enumerate(questions):
        groups[question.numel()].append(row)
    for rows in groups.values():
        own = copy.deepcopy(cache)
        own.batch_select_indices(torch.tensor([number[r] for r in rows], device=inputs["input_ids"].device))
        asked = torch.stack([questions[r] for r in rows])
        said, losses = _ask_group(loaded, own, asked, length, before, [batch.answers[r] for r in rows])
        yield rows, said, losses


def _ask_group(
    loaded: LoadedModel, cache: RaggedCache, asked: Tensor, length: int, before: int, answers: list[list[int]]
) -> tuple[list[list[int]], list[list[float]]]:
    """Ask behind a picture that takes ``length`` columns and ends at position ``before - 1``."""
    mask = torch.ones(asked.shape[0], length, dtype=torch.long, device=asked.device)
    place = torch.full((asked.shape[0], 1), before - 1, device=asked.device)
    state = Decoder(cache, place, mask)
    logits = asked.new_zeros(0).float()
    for column in asked.unbind(dim=1):
        logits = state.step(loaded.model, column)
    return _answered(loaded, state, logits, answers)
