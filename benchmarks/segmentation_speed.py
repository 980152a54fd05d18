"""Speed and memory of the segmentation task on one thread, by CPU time, ratios of interleaved medians.

    python benchmarks/segmentation_speed.py --part prompts --part merged --part relation --part onnx
    python benchmarks/segmentation_speed.py --part memory

Weights are random: speed does not depend on them. ``--base`` takes a checkpoint in their place.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from wildsight.backbones import Backbone
from wildsight.segmentation import AnomalySegmenter
from wildsight.segmentation.adapter import PromptedSam
from wildsight.segmentation.base import SamBase, load_base
from wildsight.segmentation.inference import outline
from wildsight.segmentation.methods.spt import MergedSPT, relate, relation_matrix

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROMPTS = 16


def random_sam(size: int, layers: int, width: int) -> SamBase:
    """A SamModel of SAM's own decoder (256 channels, patches of 16) over a small encoder."""
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    torch.manual_seed(0)
    vision = SamVisionConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        image_size=size,
        mlp_dim=4 * width,
        global_attn_indexes=[layers - 1],
        initializer_range=0.02,
    )
    prompts = SamPromptEncoderConfig(image_size=size, image_embedding_size=size // 16)
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=SamMaskDecoderConfig()
    )
    return SamBase(Backbone(SamModel(config), f"random-{size}", f"random-{size}", MEAN, STD))


def medians(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """CPU seconds of each run, interleaved, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for round_number in range(repeats + 1):
            for name, run in runs.items():
                begin = time.process_time()
                run()
                if round_number:
                    times[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def boxes_in(size: int, count: int) -> list[tuple[float, float, float, float]]:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, size * 0.6, (count, 2))
    return [(x, y, x + size * 0.3, y + size * 0.3) for x, y in corners.tolist()]


def stirred(segmenter: AnomalySegmenter) -> AnomalySegmenter:
    segmenter.fitted_on = {"source": "drawn weights"}
    for weight in segmenter.network.adapter.parameters():
        weight.data = 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    return segmenter


def part_prompts(base: SamBase, repeats: int) -> dict[str, float]:
    """16 boxes on one picture: in one call, and in loops over the picture and over the embedded picture."""
    segmenter = stirred(AnomalySegmenter("spt", base, memory=8 << 30))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    boxes = boxes_in(200, PROMPTS)
    look = segmenter.embed(picture)[0]
    found = medians(
        {
            "one_call": lambda: segmenter.predict(picture, boxes=boxes),
            "one_call_embedded": lambda: segmenter.predict(look, boxes=boxes),
            "loop_embedded": lambda: [segmenter.predict(look, boxes=[b]) for b in boxes],
            "loop": lambda: [segmenter.predict(picture, boxes=[b]) for b in boxes],
        },
        repeats,
    )
    ratios = {
        "loop / one call": found["loop"] / found["one_call"],
        "loop over the embedded picture / one call on it": found["loop_embedded"]
        / found["one_call_embedded"],
    }
    return found | ratios


def part_relation(base: SamBase, repeats: int) -> dict[str, float]:
    """How often the relation is built for 16 prompts, and what building and using it costs."""
    from wildsight.segmentation.methods import spt

    segmenter, counts = stirred(AnomalySegmenter("spt", base)), []
    original = spt.relation_matrix
    spt.relation_matrix = lambda *a: (counts.append(1), original(*a))[1]
    try:
        segmenter.predict(Image.new("RGB", (64, 64)), boxes=boxes_in(64, PROMPTS))
    finally:
        spt.relation_matrix = original
    tokens = base.grid[0] * base.grid[1]
    embedding, keys = torch.randn(1, base.channels, *base.grid), torch.randn(1, 1, tokens, base.channels)
    weights, gamma = relation_matrix(embedding), torch.ones(base.channels)
    found = medians(
        {"build": lambda: relation_matrix(embedding), "use": lambda: relate(keys, weights, gamma)}, repeats
    )
    return {"built_per_picture": float(len(counts))} | found


def copied_base(base: SamBase) -> SamBase:
    backbone = copy.copy(base.backbone)
    backbone.model = copy.deepcopy(base.model)
    return SamBase(backbone)


def part_merged(base: SamBase, repeats: int) -> dict[str, float]:
    """Merged SPT against stock SAM in two passes plus the relation's own arithmetic."""
    stock = AnomalySegmenter("zero-shot-2", base)
    adapted = stirred(AnomalySegmenter("spt", base))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    boxes = boxes_in(200, 1)

    def predict(network: PromptedSam) -> Any:
        from wildsight.segmentation.inference import embed, placed

        embedded = embed(network, [placed(base, picture, "squash")], "squash")[0]
        return outline(network, embedded, boxes, [], 8 << 30)

    tokens = base.grid[0] * base.grid[1]
    embedding, keys = torch.randn(1, base.channels, *base.grid), torch.randn(1, 1, tokens, base.channels)
    gamma = torch.ones(base.channels)

    def arithmetic() -> None:
        weights = relation_matrix(embedding)
        for _ in range(4):
            relate(keys, weights, gamma)

    spt = adapted.network.adapter
    folded = copied_base(base)
    merged = PromptedSam(folded, MergedSPT(copy.deepcopy(spt), folded)).eval()  # type: ignore[arg-type]
    unmerged = PromptedSam(base, spt).eval()
    runs = {
        "stock_two_passes": lambda: predict(stock.network),
        "relation": arithmetic,
        "unmerged": lambda: predict(unmerged),
        "merged": lambda: predict(merged),
    }
    found = medians(runs, repeats)
    bound = found["stock_two_passes"] + found["relation"]
    return found | {
        "merged / (stock in two passes + relation)": found["merged"] / bound,
        "unmerged / (stock in two passes + relation)": found["unmerged"] / bound,
    }


def part_onnx(base: SamBase, repeats: int) -> dict[str, float]:
    """The exported graph in onnxruntime against the same graph in eager torch, one thread each."""
    import onnxruntime

    from wildsight.segmentation.export import SegmenterGraph, export_segmenter

    segmenter = stirred(AnomalySegmenter("spt", base))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    boxes = boxes_in(200, 2)
    with tempfile.TemporaryDirectory() as folder:
        done = export_segmenter(segmenter, folder, [(picture, boxes)])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(done.report.file), options, ["CPUExecutionProvider"])
    graph = SegmenterGraph(segmenter).eval()
    pixels, corners = torch.from_numpy(np.array(picture))[None], torch.tensor(boxes, dtype=torch.float32)
    given = {"pixels": pixels.numpy(), "boxes": corners.numpy()}
    found = medians(
        {"torch_eager": lambda: graph(pixels, corners), "onnxruntime": lambda: session.run(None, given)},
        repeats,
    )
    return found | {
        "onnxruntime / eager torch": found["onnxruntime"] / found["torch_eager"],
        "largest difference": max(done.report.differences.values()),
    }


def part_memory() -> dict[str, float]:
    """Peak memory of a fit with a frozen encoder at SAM's own 1024-pixel geometry, from cached embeddings."""
    import os

    base = random_sam(1024, 2, 64)
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        os.environ["WILDSIGHT_CACHE"] = str(root / "cache")
        for i in range(4):
            rng = np.random.default_rng(i)
            for name in ("images", "masks"):
                (root / "set" / name).mkdir(parents=True, exist_ok=True)
            picture = rng.integers(0, 255, (700, 900, 3), dtype=np.uint8)
            mask = np.zeros((700, 900), np.uint8)
            mask[100 + 40 * i : 300 + 40 * i, 200:500] = 255
            Image.fromarray(picture).save(root / "set" / "images" / f"{i}.png")
            Image.fromarray(mask).save(root / "set" / "masks" / f"{i}.png")
        segmenter = AnomalySegmenter("spt", base, hyper={"encoder_targets": ()})
        begin = time.process_time()
        segmenter.fit(root / "set", epochs=1, batch_size=2, progress=False)
        seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"peak_gib": peak, "seconds": seconds, "batch": 2.0}


def main() -> None:
    """Print one JSON object per part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts: dict[str, Any] = {
        "prompts": part_prompts,
        "relation": part_relation,
        "merged": part_merged,
        "onnx": part_onnx,
    }
    parser.add_argument("--part", action="append", choices=[*parts, "memory"])
    parser.add_argument("--base", help="a checkpoint; default random weights of SAM's decoder at --size")
    parser.add_argument("--size", type=int, default=256, help="side of the square, pixels")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.part or list(parts):
        if name == "memory":
            print(json.dumps({"part": name, **part_memory()}))
            continue
        base = load_base(given.base) if given.base else random_sam(given.size, 4, 192)
        print(json.dumps({"part": name, "base": base.name, **parts[name](base, given.repeats)}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
