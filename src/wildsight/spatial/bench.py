"""LLMI3D, its ablations and its peers on one source: the same features, the same budget, several seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.backbones import Backbone, load_backbone
from wildsight.estimators import resolve
from wildsight.files import atomic_path, digest_of, read_json, write_json
from wildsight.spatial.data import read_source, world
from wildsight.spatial.drawing import side_by_side
from wildsight.spatial.grounder import SpatialGrounder
from wildsight.spatial.inputs import Seen
from wildsight.spatial.lesson import BATCH, EPOCHS, LR, MOST, POOL, SCALES, STRIDES, WIDTH
from wildsight.spatial.methods import METHODS, config_of
from wildsight.spatial.mllm import Mllm, load_mllm
from wildsight.spatial.reports import at_ranks, best_and_worst
from wildsight.spatial.samples import SpatialData

METRICS = (
    "acc@0.25", "acc@0.5", "iou", "ap_asked", "depth_error", "centre_error", "size_error", "yaw_error",
    "refusal", "within_spread", "fit_seconds",
)  # fmt: skip
WORLD = "world"
TINY = "tiny"
EXAMPLES = "examples.png"  # the first seed's questions at 10, 50 and 90 % of the order from worst to best
COMPRESSED = "llmi3d"  # the method that is also asked with fewer visual tokens


def tiny_llava(tower: str = "nano-clip", width: int = 96, layers: int = 2, seed: int = 0) -> Mllm:
    """A LLaVA that knows nothing yet: the frozen tower of a CLIP, a small fresh Llama, the world's words.

    Args:
        tower: nano-clip, by name or folder.
        width: of the Llama.
        layers: of the Llama.
        seed: of its weights.
    """
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from wildsight.world.tokens import tokenizer

    clip, words = load_backbone(tower), tokenizer(closing=False)
    text = {
        "model_type": "llama", "vocab_size": len(words), "hidden_size": width, "intermediate_size": 3 * width,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 512, "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
    }  # fmt: skip
    torch.manual_seed(seed)
    vision = clip.model.config.vision_config.to_dict()
    image = words.convert_tokens_to_ids("<image>")
    settings = LlavaConfig(vision_config=vision, text_config=text, image_token_id=image)
    model = LlavaForConditionalGeneration(settings)
    model.model.vision_tower.load_state_dict(clip.model.vision_model.state_dict())
    sha = digest_of([clip.sha, width, layers, seed])
    return Mllm(
        model.eval().requires_grad_(False), words, TINY, sha, clip.mean, clip.std, "<image> {question}"
    )


def bench(
    source: str,
    *,
    out: Path,
    backbone: str = TINY,
    methods: Sequence[str] = tuple(METHODS),
    seeds: int = 3,
    epochs: int = EPOCHS,
    batch_size: int = BATCH,
    lr: float = LR,
    train: int = 2000,
    test: int = 100,
    most: int = MOST,
    scales: Sequence[float] = SCALES,
    image_size: int = 96,
    pool: int = POOL,
    width: int = WIDTH,
    tokens: Sequence[float] = (0.5, 0.25),
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and evaluate every method with every seed.

    All methods see the same frozen features, made once per picture, and the same number of steps. A group of
    ``world`` is a factor of the training focal lengths. `COMPRESSED` is asked again with fewer visual tokens,
    chosen by `wildsight.compress`, without being taught that. Finished cells are kept under ``out/cells``,
    pictures in ``out/examples.png``.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        out: the bench's folder.
        backbone: a LLaVA: hub id, local folder or ``nano-llava``, with LoRA; or ``tiny``: a fresh one of two
            layers on nano-clip's tower, trained whole, which is what minutes on a CPU can teach.
        methods: names from `METHODS`.
        seeds: number of seeds, counted from 0.
        epochs: passes over the training questions.
        batch_size: questions per step.
        lr: peak learning rate.
        train: training pictures of ``world``.
        test: test pictures of ``world`` for each factor.
        most: things in a picture of ``world``, 1 to 4.
        scales: range of their sizes in multiples of a shape's own.
        image_size: side of the world's pictures, pixels.
        pool: visual tokens are averaged over pool x pool blocks, for all methods.
        width: of the attention to local features and of the depth predictor, for all methods.
        tokens: shares of the visual tokens that are kept in the further questions.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures, cost.

    Raises:
        ConfigError: unknown method or backbone.
        DataError: the source does not fit its layout.
    """
    for name in methods:
        config_of(name, {"pool": pool, "d": width})
    data = (
        read_source(source)
        if source != WORLD
        else world(train, test, image_size, most=most, scales=(scales[0], scales[1]), all_named=True)
    )
    cnn = load_backbone("nano-conv")
    recipe = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    hyper = {"pool": pool, "d": width, "tune": "full" if backbone == TINY else "lora"}
    rows: list[dict[str, Any]] = []
    pictures: list[tuple[Image, str]] = []
    store: dict[str, Seen] = {}
    sha = _mllm(backbone, 0).sha
    for seed in range(seeds):
        for method in methods:
            key = digest_of([sha, cnn.sha, dict(data.protocol), recipe, hyper, image_size, list(tokens)])[:12]
            file = out / "cells" / f"{method}-seed{seed}-{key}.json"
            if not file.is_file():
                cell, shown = _cell(data, backbone, cnn, method, seed, hyper, recipe, store, tokens, progress)
                write_json(file, cell)
                pictures += shown
                if shown:
                    _write_row(shown, out / EXAMPLES)
            rows += read_json(file)
    facts = {
        "source": source,
        "backbone": f"{backbone}, tower frozen, language model tuned: {hyper['tune']}",
        "backbone SHA-256": sha,
        "recipe": recipe,
        "hyper-parameters": hyper,
        "image size": image_size,
        "seeds": seeds,
        "cube-head": "ORACLE: it is told the true 2D box",
        "selection": "last epoch; nothing is selected on test data",
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    return {"rows": rows, "metrics": METRICS, "facts": facts, "pictures": pictures, "cost": "fit_seconds"}


def _mllm(name: str, seed: int) -> Mllm:
    return tiny_llava(seed=seed) if name == TINY else load_mllm(name)


def _cell(
    data: SpatialData,
    backbone: str,
    cnn: Backbone,
    method: str,
    seed: int,
    hyper: dict[str, Any],
    recipe: dict[str, Any],
    store: dict[str, Seen],
    tokens: Sequence[float],
    progress: bool,
) -> tuple[list[dict[str, Any]], list[tuple[Image, str]]]:
    """One method and seed: a row per group, and pictures of the paper's method."""
    mllm = _mllm(backbone, seed)
    grounder = SpatialGrounder(method, mllm, hyper=hyper, cnn=cnn, store=store, seed=seed, strides=STRIDES)
    grounder.eyes.prepare(data.samples)
    begin = time.process_time()
    grounder.fit(data, progress=progress, **recipe)
    fitted = time.process_time() - begin
    evaluation = grounder.evaluate(data)
    extra = {
        "fit_seconds": fitted,
        "parameters": sum(p.numel() for p in grounder.net.parameters() if p.requires_grad),
    }
    own = {"method": method, "seed": seed, **extra}
    rows = [{**own, **row} for row in evaluation.rows]
    if method == COMPRESSED:
        for share in tokens:
            few = {**own, "method": f"{method}, {share:.0%} of tokens"}
            rows += [{**few, **row} for row in _compressed(grounder, data, share)]
    wanted = method == COMPRESSED and seed == 0
    return rows, [*at_ranks(evaluation, data), *best_and_worst(evaluation, data)] if wanted else []


def _write_row(shown: Sequence[tuple[Image, str]], file: Path) -> None:
    """The first three pictures in a row."""
    with atomic_path(file) as temporary:
        side_by_side([picture for picture, _ in shown[:3]], 200).save(temporary, format="PNG")


def _compressed(grounder: SpatialGrounder, data: SpatialData, share: float) -> list[dict[str, Any]]:
    """The rows of an evaluation that reads ``share`` of the visual tokens."""
    compress = resolve("wildsight.compression:compress")
    with compress(grounder.mllm.model, visual_tokens=share, positions="original"):
        return grounder.evaluate(data).rows
