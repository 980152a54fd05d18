"""Speed and memory of visual pruning and of the ragged cache on a random LLaVA of 0.3 B parameters or more.

Runs of all settings are interleaved; wall clock and CPU time of the process are both given, as medians. CPU
time is what to compare on a machine that other work shares.

    python benchmarks/compression_speed.py --runs 15 --out benchmarks/results/compression-speed
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from wildsight.compression import compress
from wildsight.compression.attention import ragged_attention, switch
from wildsight.compression.cache import KVSettings, build_cache
from wildsight.compression.evaluation.cost import Shape, vision_flops
from wildsight.compression.evaluation.timing import peak_memory
from wildsight.compression.families import family_of
from wildsight.compression.methods.visual.vtc_cls import cls_row
from wildsight.compression.prune import prune_visual_tokens, select_tokens, selector_of
from wildsight.files import write_json
from wildsight.results import environment

TEXT = 64


def llava() -> Any:
    """A random LLaVA: 576 patches of a half-depth ViT-L, a 16-layer Llama with grouped heads."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=12, num_attention_heads=16,
        image_size=336, patch_size=14,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=32064, hidden_size=1024, intermediate_size=2816, num_hidden_layers=16,
        num_attention_heads=16, num_key_value_heads=4, max_position_embeddings=4096,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=32000)
    model = LlavaForConditionalGeneration(config).eval().requires_grad_(False)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    return model


def prompt(batch: int = 1) -> dict[str, Any]:
    """Text, 576 placeholders, text: 640 tokens."""
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(5, 31000, (batch, TEXT), generator=draw)
    image = torch.full((batch, 576), 32000)
    ids = torch.cat([words[:, :8], image, words[:, 8:]], dim=1)
    pixels = torch.randn(batch, 3, 336, 336, generator=draw)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def interleaved(actions: dict[str, Callable[[], Any]], runs: int) -> dict[str, dict[str, float]]:
    """Median wall and CPU seconds of each action, after one warm-up; making an action is not timed."""
    marks: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for turn in range(runs + 1):
        for name, make in actions.items():
            action = make()
            if not callable(action):
                raise TypeError(f"{name} is made by a function that returns the action")
            wall, cpu = time.perf_counter(), time.process_time()
            action()
            if turn:
                marks[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {
            "wall": statistics.median(w for w, _ in found),
            "cpu": statistics.median(c for _, c in found),
            "runs": float(len(found)),
        }
        for name, found in marks.items()
    }


@torch.no_grad()
def prefill(model: Any, runs: int) -> dict[str, Any]:
    """Time of the language model with U visual tokens against what the products predict from the full run."""
    inputs = prompt()
    pictures = family_of(model).encode(model, inputs)
    counts = (576, 256, 128, 64)
    pruned = {n: prune_visual_tokens(model, inputs, n, "vtc-cls", encoded_pictures=pictures) for n in counts}

    def run(n: int) -> Callable[[], Any]:
        return lambda: lambda: model(**pruned[n].inputs(), use_cache=True, logits_to_keep=1)

    times = interleaved({str(n): run(n) for n in counts}, runs)
    shape = Shape.of(model.config)
    out = {}
    for n in counts:
        predicted = shape.prefill_flops(n + TEXT) / shape.prefill_flops(576 + TEXT)
        measured = times[str(n)]["cpu"] / times["576"]["cpu"]
        out[str(n)] = {**times[str(n)], "share": measured, "predicted": predicted,
                       "over prediction": measured / predicted}  # fmt: skip
    return out


@torch.no_grad()
def selection(model: Any, runs: int) -> dict[str, Any]:
    """What scoring and selecting cost beside the vision tower."""
    inputs = prompt()
    tower = model.model.vision_tower
    picture = family_of(model).encode(model, inputs)[0]
    layer = tower.encoder.layers[0].self_attn
    hidden = torch.randn(1, 577, 1024)
    query, key = layer.q_proj(hidden), layer.k_proj(hidden)

    def score() -> None:
        cls_row(query, key, 16)

    actions: dict[str, Callable[[], Any]] = {
        "tower": lambda: lambda: tower(inputs["pixel_values"]),
        "scores of a layer": lambda: score,
    }
    methods = {name: selector_of(name) for name in ("scope", "vtc-cls", "hybrid", "divprune")}
    for name, method in methods.items():
        actions[name] = lambda method=method: lambda: select_tokens(picture, 128, method, 0, fixed=True)
    times = interleaved(actions, runs)
    base = times["tower"]["cpu"]
    for name, method in methods.items():
        scores = method.saliency_layers * times["scores of a layer"]["cpu"]
        times[name]["share of tower, scores included"] = (times[name]["cpu"] + scores) / base
    return times


@torch.no_grad()
def keeping_all(model: Any, runs: int) -> dict[str, Any]:
    """``generate`` of one token with nothing dropped, against the untouched model."""
    inputs = prompt()
    how = {"max_new_tokens": 1, "do_sample": False}

    def compressed() -> None:
        with compress(model, visual_tokens=576, kv_cache=1.0):
            model.generate(**inputs, **how)

    stock = lambda: lambda: model.generate(**inputs, **how)  # noqa: E731
    times = interleaved({"stock": stock, "keep all": lambda: compressed}, runs)
    times["keep all"]["overhead"] = times["keep all"]["cpu"] / times["stock"]["cpu"] - 1
    return times


@torch.no_grad()
def decode(model: Any, runs: int, batch: int, steps: int = 8) -> dict[str, Any]:
    """Steps through a ragged cache against a stock cache with as many tokens, each after one untimed step."""
    from transformers import DynamicCache

    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 31000, (batch, 640), generator=draw)
    settings = KVSettings(keep=0.4, sizes="pyramid", scorer="recent")
    text = model.model.language_model
    with ragged_attention(model):
        ragged = build_cache(model, settings, 640)
        text(input_ids=ids, past_key_values=ragged)
        held = sum(n[0] for n in ragged.tokens) // len(ragged.tokens)
    stock = DynamicCache(config=model.config)
    text(input_ids=ids[:, :held], past_key_values=stock)

    def run(cache: Any, start: int) -> Callable[[], Any]:
        own = copy.deepcopy(cache)
        first = torch.full((batch, 1), start)
        model(input_ids=ids[:, :1], position_ids=first, past_key_values=own, use_cache=True)

        def action() -> None:
            for number in range(1, steps + 1):
                place = torch.full((batch, 1), start + number)
                model(input_ids=ids[:, :1], position_ids=place, past_key_values=own, use_cache=True)

        return action

    undo = ExitStack()

    def plain() -> Callable[[], Any]:
        undo.close()
        return run(stock, held)

    def switched() -> Callable[[], Any]:
        undo.callback(switch(model))
        return run(ragged, 640)

    actions: dict[str, Callable[[], Any]] = {"stock": plain, "ragged": switched}
    times = interleaved(actions, runs)
    undo.close()
    times["ragged"]["against stock"] = times["ragged"]["cpu"] / times["stock"]["cpu"]
    return {"tokens held per layer": held, "batch": batch, "steps": steps, **times}


@torch.no_grad()
def read_long(how: str, length: int) -> None:
    """Print the peak bytes above the start of reading a long prompt; for a process of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000, hidden_size=512, intermediate_size=1408, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=8192,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(5, 900, (1, length))
    settings = KVSettings(keep=0.5, sizes="uniform")
    with ExitStack() as stack:
        model(ids[:, :64], use_cache=True)
        cache = None
        if how == "scored":
            stack.enter_context(ragged_attention(model))
            cache = build_cache(model, settings, length)
        peak = stack.enter_context(peak_memory(torch.device("cpu")))
        model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        print(peak())


def scoring_memory(length: int = 4096) -> dict[str, Any]:
    """Peak memory of reading a long prompt with and without attention scores, each in a fresh process."""
    out: dict[str, Any] = {"prompt": length}
    for how in ("plain", "scored"):
        words = [sys.executable, __file__, "--child", how, "--length", str(length)]
        out[how] = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])
    return {**out, "ratio": out["scored"] / out["plain"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--long-runs", type=int, help="runs of prefill and keep all, which take longest")
    parser.add_argument("--out", type=Path, default=Path("runs/compression-speed"))
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--child", choices=("plain", "scored"))
    parser.add_argument("--length", type=int, default=4096)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        read_long(options.child, options.length)
        return
    model = llava()
    size = sum(p.numel() for p in model.parameters())
    parts: dict[str, Callable[[], Any]] = {
        "scoring memory": scoring_memory,
        "decode, batch 1": lambda: decode(model, options.runs, 1),
        "decode, batch 8": lambda: decode(model, options.runs, 8),
        "selection": lambda: selection(model, options.runs),
        "prefill": lambda: prefill(model, options.long_runs or options.runs),
        "keep all": lambda: keeping_all(model, options.long_runs or options.runs),
    }
    file = options.out / "speed.json"
    found: dict[str, Any] = {}
    for name in options.only or parts:
        found[name] = parts[name]()
        print(name, found[name], flush=True)
        facts = {"parameters": size, "vision FLOP": vision_flops(model.config), "threads": 1}
        write_json(file, {**facts, "parts": found, "environment": environment()})


if __name__ == "__main__":
    main()
