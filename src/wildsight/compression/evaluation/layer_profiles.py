"""Layer sizes of a model from the pictures of a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wildsight.backbones.vlm import LoadedModel
from wildsight.compression.cache import KVSettings
from wildsight.compression.calibrate import calibrate_prefix
from wildsight.compression.evaluation import questions
from wildsight.compression.evaluation.evaluate import picture_prompts, prepare
from wildsight.compression.evaluation.questions import QuestionData
from wildsight.compression.methods.cache.base import CACHE_METHODS
from wildsight.compression.profile import Profile
from wildsight.compression.sensitivity import calibrate_sensitivity
from wildsight.errors import ConfigError
from wildsight.training.progress import Meter

HOW = ("prefix", "sensitivity")


def first_questions(data: QuestionData, pictures: int) -> QuestionData:
    """The first question about each of the first pictures."""
    seen: dict[str, Any] = {}
    for sample in data.samples:
        seen.setdefault(sample.picture, sample)
    return QuestionData(data.name, data.root, tuple(seen.values())[:pictures], data.protocol)


def profile_from(
    loaded: LoadedModel,
    data: QuestionData,
    *,
    how: str = "prefix",
    base: KVSettings | None = None,
    progress: bool = True,
) -> Profile:
    """Layer sizes from one question about each picture.

    Args:
        loaded: the model.
        data: one question about each picture; more are ignored.
        how: ``prefix`` by attention mass, ``sensitivity`` by the change of the output.
        base: scorer and eviction rule that the sensitivity is measured with.
        progress: show progress and the time left.

    Raises:
        ConfigError: another word.
        DataError: no pictures.
    """
    if how not in HOW:
        raise ConfigError(f"how={how!r} is unknown", hint=f"use {' or '.join(HOW)}")
    batch = prepare(loaded, data.samples, max(1, len(data.samples)))[0]
    number, inputs, asked = picture_prompts(loaded, batch)
    source = f"{data.name}, {len(set(number))} pictures"
    if how == "prefix":
        return calibrate_prefix(loaded.model, [inputs], name=loaded.name, source=source)
    features = inputs["mm_encoder_outputs"]["image"].pooler_output
    prompts: list[tuple[dict[str, Any], Tensor]] = []
    for picture, own in enumerate(features):
        row = number.index(picture)
        answer = torch.tensor(batch.answers[row][:-1], device=asked[row].device, dtype=torch.long)
        prompt = {"input_ids": inputs["input_ids"][picture : picture + 1], "features": [own]}
        prompts.append((prompt, torch.cat([asked[row], answer])[None]))
    settings = base or KVSettings()
    with Meter("sensitivity", len(prompts), enabled=progress) as meter:
        return calibrate_sensitivity(
            loaded.model, prompts, settings, name=loaded.name, source=source, advance=meter.add
        )


def find_profile(
    loaded: LoadedModel,
    source: str,
    *,
    how: str = "prefix",
    samples: int = 10,
    scorer: str = "attention",
    options: Mapping[str, Any] | None = None,
) -> Profile:
    """Layer sizes of a model from the first pictures of a source.

    Args:
        loaded: the model.
        source: ``world``, a folder or ``NAME:PATH``.
        how: ``prefix`` or ``sensitivity``.
        samples: pictures to look at.
        scorer: that the sensitivity is measured with, a word for a ranking or a cache method's name.
        options: its parameters by name.

    Raises:
        ConfigError: an unknown word.
        DataError: the source does not fit its layout.
    """
    base = KVSettings(1.0, CACHE_METHODS.ranking(scorer, options))
    size = loaded.image_size or questions.SIZE
    if source == "world":
        data = questions.world(samples * 5, size=size, seed=questions.HELD_OUT + 1)
    else:
        data = questions.read_source(source, size=size)
    chosen = first_questions(data, samples)
    return profile_from(loaded, chosen, how=how, base=base)
