"""Our cache against NVIDIA kvpress: same text model, prompts, rules and budgets, each in its own environment.

kvpress needs an older `transformers`, so the work is split: `export` and `ours` run where wildsight is
installed, `kvpress` where kvpress is.

    python benchmarks/compression_kvpress.py export --model nano-llava --data runs/kvpress
    python benchmarks/compression_kvpress.py ours --data runs/kvpress
    OTHER/bin/python benchmarks/compression_kvpress.py kvpress --data runs/kvpress
    python benchmarks/compression_kvpress.py table --data runs/kvpress

A prompt is a picture as the text model reads it (embeddings); what follows is a question and its answer,
token by token through the compressed cache. Only the prompt is compressed: kvpress evicts nothing later.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

SHARES = (0.5, 0.3, 0.1)
WINDOW = 8
RULES = ("keynorm", "keydiff", "snapkv", "expected", "local", "h2o-mean")


def export(model: str, data: Path, count: int) -> None:
    """The text model, the pictures' embeddings, and the tokens that follow."""
    from safetensors.torch import save_file
    from transformers import LlamaForCausalLM

    from wildsight.compression.exam import picture_prompts, prepare
    from wildsight.compression.find import first_questions
    from wildsight.compression.loading import load_model
    from wildsight.compression.questions import world

    loaded = load_model(model)
    samples = first_questions(world(count * 5, size=loaded.image_size or 96), count).samples
    batch = prepare(loaded, samples, count)[0]
    number, inputs, asked = picture_prompts(loaded, batch)
    text = LlamaForCausalLM(loaded.model.config.text_config)
    text.model.load_state_dict(loaded.model.model.language_model.state_dict())
    text.lm_head.load_state_dict(loaded.model.lm_head.state_dict())
    text.save_pretrained(data / "model")
    features = torch.cat(inputs["mm_encoder_outputs"]["image"].pooler_output)
    embeds = loaded.model.get_input_embeddings()(inputs["input_ids"])
    places = inputs["input_ids"] == loaded.model.config.image_token_id
    embeds[places] = features.to(embeds.dtype)
    save_file({"prompts": embeds.contiguous()}, data / "prompts.safetensors")
    rows = [
        {"picture": number[i], "question": asked[i].tolist(), "answer": batch.answers[i]}
        for i in range(len(samples))
    ]
    (data / "rows.json").write_text(json.dumps(rows))


def load(data: Path, attention: str = "sdpa") -> tuple[Any, torch.Tensor, list[dict[str, Any]]]:
    """What `export` wrote."""
    from safetensors.torch import load_file
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = LlamaForCausalLM.from_pretrained(data / "model", attn_implementation=attention).eval()
    prompts = load_file(data / "prompts.safetensors")["prompts"]
    return model, prompts, json.loads((data / "rows.json").read_text())


Maker = Callable[[Any, int], tuple[Any, Any]]


@torch.no_grad()
def examine(model: Any, prompts: torch.Tensor, rows: list[dict[str, Any]], make: Maker) -> dict[str, float]:
    """Perplexity of the answers and of all that follows, and time, through the caches that ``make`` gives.

    ``make(model, length)`` gives a context to read the prompt in, and an empty cache.
    """
    answers, everything, prefill, step, held = [], [], [], [], 0
    for row in rows:
        prompt = prompts[row["picture"]][None]
        length = prompt.shape[1]
        context, cache = make(model, length)
        begin = time.process_time()
        with context:
            place = torch.arange(length)[None]
            model(inputs_embeds=prompt, position_ids=place, past_key_values=cache, use_cache=True)
        prefill.append(time.process_time() - begin)
        held = sum(layer.keys.numel() for layer in cache.layers)
        tokens = [*row["question"], *row["answer"]]
        begin, losses = time.process_time(), []
        for number, token in enumerate(tokens[:-1]):
            out = model(
                input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True,
                position_ids=torch.tensor([[length + number]]),
            )  # fmt: skip
            logs = torch.log_softmax(out.logits[0, -1].float(), dim=-1)
            losses.append(-float(logs[tokens[number + 1]]))
        step.append((time.process_time() - begin) / max(1, len(tokens) - 1))
        everything += losses
        answers += losses[len(row["question"]) - 1 :]
    return {
        "answer perplexity": math.exp(sum(answers) / len(answers)),
        "perplexity": math.exp(sum(everything) / len(everything)),
        "prefill ms": 1000 * statistics.median(prefill),
        "token ms": 1000 * statistics.median(step),
        "cache numbers": float(held),
    }


def ours(data: Path) -> dict[str, Any]:
    """Every rule and share through the ragged cache."""
    from wildsight.compression.attention import ragged_attention
    from wildsight.compression.cache import KVSettings
    from wildsight.compression.methods import build_cache

    scorers = {"keynorm": "key-norm", "keydiff": "key-diff", "snapkv": "window", "expected": "expected",
               "local": "recent", "h2o-mean": "attention-mean"}  # fmt: skip
    model, prompts, rows = load(data)
    found: dict[str, Any] = {}
    with ragged_attention(model):
        for share in (1.0, *SHARES):
            for rule in RULES if share < 1.0 else ("full",):
                settings = KVSettings(
                    keep=share, sizes="uniform", scorer=scorers.get(rule, "recent"), window=WINDOW,
                    decoding=False, start=4 if rule in ("local", "expected") else 1,
                )  # fmt: skip

                def make(own: Any, length: int, settings: Any = settings) -> tuple[Any, Any]:
                    return ExitStack(), build_cache(own, settings, length)

                found[f"{rule} {share:g}"] = examine(model, prompts, rows, make)
                print("ours", rule, share, found[f"{rule} {share:g}"], flush=True)
    return found


def theirs(data: Path) -> dict[str, Any]:
    """The same rules by kvpress."""
    import kvpress
    from transformers import DynamicCache

    presses: dict[str, Callable[[float], Any]] = {
        "keynorm": lambda r: kvpress.KnormPress(r),
        "keydiff": lambda r: kvpress.KeyDiffPress(r),
        "snapkv": lambda r: kvpress.SnapKVPress(r, window_size=WINDOW, kernel_size=5),
        "expected": lambda r: kvpress.ExpectedAttentionPress(r, n_future_positions=512, n_sink=4),
        "local": lambda r: kvpress.StreamingLLMPress(r, n_sink=4),
        "h2o-mean": lambda r: kvpress.ObservedAttentionPress(r),
    }
    found: dict[str, Any] = {}
    for share in (1.0, *SHARES):
        for rule in RULES if share < 1.0 else ("full",):
            model, prompts, rows = load(data, "eager" if rule == "h2o-mean" else "sdpa")

            def make(own: Any, _length: int, rule: str = rule, share: float = share) -> tuple[Any, Any]:
                context = ExitStack() if rule == "full" else presses[rule](1.0 - share)(own)
                return context, DynamicCache()

            try:
                found[f"{rule} {share:g}"] = examine(model, prompts, rows, make)
            except Exception as error:
                found[f"{rule} {share:g}"] = {"failed": f"{type(error).__name__}: {error}"[:200]}
            print("kvpress", rule, share, found[f"{rule} {share:g}"], flush=True)
    return found


def table(data: Path, out: Path) -> None:
    """Both side by side as CSV."""
    own, other = (json.loads((data / f"{n}.json").read_text()) for n in ("ours", "kvpress"))
    names = ("answer perplexity", "perplexity", "prefill ms", "token ms", "cache numbers")
    lines = ["rule,share," + ",".join(f"{n} (ours),{n} (kvpress)" for n in names)]
    own.pop("versions")
    for key, values in own.items():
        rule, share = key.rsplit(" ", 1)
        pairs = [
            f"{values[n]:.4f},{other[key][n]:.4f}" if n in other[key] else f"{values[n]:.4f}," for n in names
        ]
        lines.append(",".join([rule, share, *pairs]))
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.csv").write_text("\n".join(lines) + "\n")
    (out / "versions.json").write_text(
        json.dumps({"ours": own_versions(), "kvpress": other["versions"]}) + "\n"
    )
    print("\n".join(lines))


def own_versions() -> dict[str, str]:
    import importlib.metadata as known

    names = ("torch", "transformers", "kvpress", "wildsight")
    return {n: known.version(n) for n in names if any(d.name == n for d in known.distributions())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("export", "ours", "kvpress", "table"))
    parser.add_argument("--data", type=Path, default=Path("runs/kvpress"))
    parser.add_argument("--model", default="nano-llava")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/compression-kvpress"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.data.mkdir(parents=True, exist_ok=True)
    if options.part == "export":
        export(options.model, options.data, options.count)
    elif options.part == "table":
        table(options.data, options.out)
    else:
        found = ours(options.data) if options.part == "ours" else theirs(options.data)
        (options.data / f"{options.part}.json").write_text(json.dumps({**found, "versions": own_versions()}))


if __name__ == "__main__":
    main()
