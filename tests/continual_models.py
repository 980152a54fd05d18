"""A CLIP of a few thousand weights with nano-clip's tokenizer, and tasks of flat colours for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wildsight.backbones import Backbone, load_backbone, nano_folder
from wildsight.continual import TaskData

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}


def tiny_clip(folder: Path, seed: int = 0) -> Backbone:
    """Saved to ``folder`` and loaded from there."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 185, "max_position_embeddings": 16, "eos_token_id": 3, "pad_token_id": 0}
    config = CLIPConfig(
        text_config={**text, "bos_token_id": 2},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(nano_folder("nano-clip") / name, folder / name)
    return load_backbone(folder)


def picture(colour: str, seed: int) -> Image.Image:
    """A noisy flat colour, 32 x 32."""
    noise = np.random.default_rng(seed).normal(0, 25, (32, 32, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8))


def colour_task(
    name: str, colours: tuple[str, ...], classes: tuple[str, ...], count: int = 4, seed: int = 0
) -> TaskData:
    """Pictures in memory, ``count`` to train and two to test per class."""
    keys = [(c, i) for c in range(len(colours)) for i in range(count + 2)]
    made = [(picture(colours[c], seed + 100 * c + i), c, i) for c, i in keys]
    train = [(p, c) for p, c, i in made if i < count]
    test = [(p, c) for p, c, i in made if i >= count]
    return TaskData.of(
        name,
        [p for p, _ in train],
        [c for _, c in train],
        classes,
        test=([p for p, _ in test], [c for _, c in test]),
    )


def saved(task: TaskData, root: Path) -> None:
    """Write a task in the plain-folder layout."""
    for split, rows in (("train", task.train), ("test", task.test)):
        for number, (image, label) in enumerate(rows):
            file = root / task.name / split / task.classes[label] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            assert isinstance(image, Image.Image)
            image.save(file)
