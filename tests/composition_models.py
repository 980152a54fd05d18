"""A tiny CLIP folder with a word tokenizer, and small data sets: coloured shapes, the standard layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from PIL import Image, ImageDraw

from wildsight.datasets.compositions import NATURAL

WORDS = [
    *("<pad>", "<eos>", "<unk>", "a", "photo", "of", "object"),
    *("red", "blue", "green", "square", "disc", "cross", "small", "shiny"),
]
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220), "green": (40, 180, 60)}
SHAPES = ("square", "disc", "cross")


def tiny_clip(folder: Path) -> Path:
    """A random `CLIPModel` of 32 px with its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    text = {**TOWER, "vocab_size": len(WORDS), "max_position_embeddings": 10, "pad_token_id": 0}
    text |= {"bos_token_id": 0, "eos_token_id": 1}
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(
        folder
    )
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    hf.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}), encoding="utf-8"
    )
    return folder


def draw(colour: str, shape: str, seed: int) -> Image.Image:
    """One coloured shape on grey, moved and sized by the seed."""
    rng = np.random.default_rng(seed)
    picture = Image.fromarray(rng.integers(90, 140, (32, 32, 3), dtype=np.uint8))
    pen, half = ImageDraw.Draw(picture), int(rng.integers(7, 11))
    x, y = (int(v) for v in rng.integers(half + 1, 31 - half, 2))
    box = [x - half, y - half, x + half, y + half]
    if shape == "square":
        pen.rectangle(box, fill=COLOURS[colour])
    elif shape == "disc":
        pen.ellipse(box, fill=COLOURS[colour])
    else:
        pen.line([box[0], y, box[2], y], fill=COLOURS[colour], width=5)
        pen.line([x, box[1], x, box[3]], fill=COLOURS[colour], width=5)
    return picture


def shapes_folder(root: Path, per_pair: int = 8) -> Path:
    """``attribute_object`` folders, with red squares and blue discs held out."""
    for i, colour in enumerate(COLOURS):
        for j, shape in enumerate(SHAPES):
            folder = root / f"{colour}_{shape}"
            folder.mkdir(parents=True)
            for n in range(per_pair):
                draw(colour, shape, 1000 * i + 100 * j + n).save(folder / f"{n}.png")
    (root / "unseen_pairs.txt").write_text("red square\nblue disc\n", encoding="utf-8")
    return root


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    return path


def natural(root: Path, plus: bool = False, nested: bool = True) -> Path:
    """Two attributes and three objects in the standard layout, metadata in JSON."""
    sign = "+" if plus else " "
    lists = {
        "train": ["wet cat", "dry dog", "wet owl"],
        "val": ["wet cat", "dry cat"],
        "test": ["dry dog", "wet dog", "dry owl"],
    }
    folder = root / NATURAL
    folder.mkdir(parents=True)
    rows = [{"image": "x.png", "attr": "NA", "obj": "cat", "set": "train"}]
    rows += [{"image": "y.png", "attr": "wet", "obj": "cat", "set": "NA"}]
    seed = 0
    for split, pairs in lists.items():
        (folder / f"{split}_pairs.txt").write_text("\n".join(p.replace(" ", sign) for p in pairs) + "\n")
        for pair in pairs:
            attribute, name = pair.split()
            for n in range(2):
                seed += 1
                file = f"{split}{n}{attribute}{name}.png"
                where = f"{attribute}_{name}/{file}" if nested else file
                picture(root / "images" / where, seed)
                listed = f"{attribute} {name}/{file}" if nested else file
                rows.append({"image": listed, "attr": attribute, "obj": name, "set": split})
    (root / f"metadata_{NATURAL}.json").write_text(json.dumps(rows))
    return root
