"""What nano-clip knows, on scenes and pairs that it never saw: scores between 0 and 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tools.nano.scene_cache import NAMES, TEST, held_out, nano_scene
from tools.nano.views import tokens
from wildsight.world.language import caption, with_article
from wildsight.world.render import render
from wildsight.world.scene import COLOURS, MATERIALS, SHAPES, Scene

Pixels = npt.NDArray[np.uint8]


def singles(count: int, size: int, *, held: bool, first: int = TEST) -> tuple[Pixels, list[Scene]]:
    """``count`` pictures of one thing each, whose pair training never shows (``held``) or may show."""
    pairs = [(m, s) for m in MATERIALS for s in SHAPES if held_out(m, s) == held]
    scenes = []
    for number in range(count):
        scene = nano_scene(first + number, count=1)
        material, shape = pairs[number % len(pairs)]
        scenes.append(replace(scene, things=(replace(scene.things[0], material=material, shape=shape),)))
    return np.stack([render(scene, size).rgb for scene in scenes]), scenes


def groups(count: int, size: int, *, first: int = TEST + 100_000) -> tuple[Pixels, list[Scene]]:
    """``count`` pictures of whole scenes of held-out seeds."""
    scenes = [nano_scene(first + number) for number in range(count)]
    return np.stack([render(scene, size).rgb for scene in scenes]), scenes


@torch.no_grad()
def pictures_in(clip: Any, pixels: Pixels, *, batch: int = 64) -> Tensor:
    """Pictures in the shared space, unit length, [N, S]."""
    from tools.nano.clip import normalised

    parts = [
        normalised(torch.from_numpy(pixels[i : i + batch]).float()) for i in range(0, len(pixels), batch)
    ]
    return torch.cat(
        [F.normalize(clip.get_image_features(pixel_values=p).pooler_output, dim=1) for p in parts]
    )


@torch.no_grad()
def texts_in(clip: Any, words: Any, texts: list[str]) -> Tensor:
    """Texts in the shared space, unit length, [T, S]."""
    ids = tokens(words, texts, clip.config.text_config.max_position_embeddings)
    return F.normalize(clip.get_text_features(input_ids=ids).pooler_output, dim=1)


def zero_shot(clip: Any, words: Any, pixels: Pixels, scenes: list[Scene]) -> dict[str, float]:
    """Accuracy of the nearest of all texts "a photo of a ..." for pairs, shapes, materials and colours."""
    seen = pictures_in(clip, pixels)
    pools = {
        "pair": [f"{m} {s}" for m in MATERIALS for s in SHAPES],
        "shape": list(SHAPES),
        "material": [f"{m} object" for m in MATERIALS],
        "colour": [f"{c} object" for c in COLOURS],
    }
    table = {}
    for name, pool in pools.items():
        told = texts_in(clip, words, [f"a photo of {with_article(p)}" for p in pool])
        best = [pool[i] for i in (seen @ told.T).argmax(1).tolist()]
        table[name] = float(np.mean([b == _truth(name, s) for b, s in zip(best, scenes, strict=True)]))
    return table


def _truth(name: str, scene: Scene) -> str:
    thing = scene.things[0]
    if name == "pair":
        return f"{thing.material} {thing.shape}"
    return thing.shape if name == "shape" else f"{getattr(thing, name)} object"


def recall(
    clip: Any, words: Any, pixels: Pixels, scenes: list[Scene], level: int, *, among: int = 100
) -> float:
    """Share of captions whose nearest picture, of ``among``, is one that the caption was made for."""
    told = texts_in(clip, words, [caption(scene, level) for scene in scenes])
    seen, right = pictures_in(clip, pixels), 0
    for start in range(0, len(scenes), among):
        part = slice(start, start + among)
        best = (told[part] @ seen[part].T).argmax(1).tolist()
        names = [caption(scene, level) for scene in scenes[part]]
        right += sum(names[b] == own for own, b in zip(names, best, strict=True))
    return right / len(scenes)


@torch.no_grad()
def attention_on_things(clip: Any, pixels: Pixels, scenes: list[Scene]) -> tuple[list[float], float]:
    """(per layer, the share of the class token's attention on patches with a thing; their share of area)."""
    from tools.nano.clip import normalised
    from tools.nano.views import owners

    size, patch = pixels.shape[1], clip.config.vision_config.patch_size
    maps = np.stack([render(scene, size, smooth=False).instance for scene in scenes])
    on = (owners(torch.from_numpy(np.where(maps < 0, 255, maps)), patch) >= 0).float()
    before = clip.config._attn_implementation
    clip.set_attn_implementation("eager")  # the only one that tells its weights
    try:
        seen = normalised(torch.from_numpy(pixels).float())
        attentions = clip.vision_model(pixel_values=seen, output_attentions=True).attentions
    finally:
        clip.set_attn_implementation(before)
    shares = []
    for weights in attentions:
        own = weights[:, :, 0, 1:].mean(1)
        shares.append(float(((own * on).sum(1) / own.sum(1)).mean()))
    return [round(s, 4) for s in shares], round(float(on.mean()), 4)


def clip_scores(
    clip: Any, words: Any, size: int, *, singles_of: int = 480, groups_of: int = 300
) -> dict[str, Any]:
    """All scores of the card."""
    table: dict[str, Any] = {}
    for name, held in (("pairs never seen", True), ("pairs seen", False)):
        table[name] = zero_shot(clip, words, *singles(singles_of, size, held=held))
    pixels, scenes = groups(groups_of, size)
    table["caption to picture, first of 100"] = {
        f"level {level}": recall(clip, words, pixels, scenes, level) for level in (1, 2, 3)
    }
    shares, area = attention_on_things(clip, pixels[:64], scenes[:64])
    table["class token's attention on things, by layer"], table["area of things"] = shares, area
    table["chance of a pair"] = 1 / (len(MATERIALS) * len(SHAPES))
    return table


def readings(student: Any, pixels: Pixels, scenes: list[Scene]) -> list[float]:
    """Share of patches that show a thing whose shape, colour, material and size are read off rightly."""
    from tools.nano.clip import normalised
    from tools.nano.scene_cache import codes
    from tools.nano.views import owners

    maps = np.stack([render(scene, pixels.shape[1], smooth=False).instance for scene in scenes])
    owner = owners(torch.from_numpy(np.where(maps < 0, 255, maps)), student.config.patch)
    with torch.no_grad():
        answers = student.patch_heads(student.see(normalised(torch.from_numpy(pixels).float()))[0])
    right = [0.0] * len(NAMES)
    for row, scene in enumerate(scenes):
        for index, thing in enumerate(scene.things):
            on = owner[row] == index
            for k, code in enumerate(codes(thing)):
                right[k] += float((answers[k][row][on].argmax(1) == code).sum())
    total = max(1, int((owner >= 0).sum()))
    return [round(r / total, 4) for r in right]
