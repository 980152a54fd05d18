"""``python -m tools.nano.rescore NAME``: a shipped checkpoint scored again, its weights as they are.

For when the world draws other pictures than those of the training. Rewrites ``training.json``, the card and
the manifest of nano-clip, nano-llava or nano-sam; nano-conv is scored on photographs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from tools.nano.clip_eval import clip_scores
from tools.nano.export import describe, plain_json
from tools.nano.llava_eval import llava_scores
from tools.nano.model_cards import clip_card, llava_card, sam_card
from tools.nano.sam import NanoSamConfig
from tools.nano.sam_pipeline import sam_scores
from wildsight.backbones import nano_folder
from wildsight.errors import ConfigError
from wildsight.files import read_json
from wildsight.world import WORLD_VERSION

Facts = dict[str, Any]
CARDS: dict[str, Callable[[Facts], str]] = {
    "nano-clip": clip_card,
    "nano-llava": llava_card,
    "nano-sam": sam_card,
}


def rescore(name: str) -> Facts:
    """Measure a shipped checkpoint's scores on the world's pictures of today, and write them down.

    Args:
        name: nano-clip, nano-llava or nano-sam.

    Returns:
        The new ``training.json``.

    Raises:
        ConfigError: another name.
    """
    if name not in CARDS:
        raise ConfigError(f"{name!r} has no scores on the world", hint=f"use one of {', '.join(CARDS)}")
    folder = nano_folder(name)
    facts = read_json(folder / "training.json")
    world = {**facts.get("world", {"training": 1}), "scores": WORLD_VERSION}
    facts = {**facts, "world": world, "scores": plain_json(scores(name, folder, facts))}
    describe(folder, facts, CARDS[name])
    return facts


def scores(name: str, folder: Path, facts: Facts) -> Facts:
    """The table of the card, as the training measures it."""
    if name == "nano-llava":
        return llava_scores(folder, count=facts["scores"]["questions"])
    if name == "nano-sam":
        from transformers import SamModel

        sam = SamModel.from_pretrained(folder, dtype=torch.float32).eval()
        return dict(sam_scores(sam, NanoSamConfig(**facts["settings"]), 200))
    from transformers import AutoTokenizer, CLIPModel

    clip = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(folder)
    return {**clip_scores(clip, words, facts["settings"]["size"]), "words": len(words)}


def main(name: Annotated[str, typer.Argument(help=", ".join(CARDS))]) -> None:
    """Score a shipped checkpoint again and rewrite its card."""
    rescore(name)


if __name__ == "__main__":
    typer.run(main)
