"""Our cache against NVIDIA kvpress: same text model, prompts, rules and budgets, each in its own environment.

kvpress needs an older `transformers`, so the work is split: `export` and `ours` run where wildsight is
installed, `kvpress` where kvpress is.

    python benchmarks/compression_kvpress.py export --model nano-llava --data runs/kvpress
    python benchmarks/compression_kvpress.py ours --data runs/kvpress
    OTHER/bin/python benchmarks/compression_kvpress.py kvpress --data runs/kvpress
    python benchmarks/compression_kvpress.py table --data runs/kvpress

A prompt is a picture as the text model reads it (embeddings); what follows is a question and its answer,
token by token through the compressed cache. Only the prompt is compressed: kvpress evicts nothing later.
`bare` is our cache without its protected first and last token, which is the rule as kvpress has it.

For speed, `export --model random --count 8` draws a text model of 32 M parameters and prompts of 512 tokens.
Rules take turns prompt by prompt, and times are also given over those of the stock cache in the same
environment, since the two versions of `transformers` differ.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

SHARES = (0.5, 0.3, 0.1)
WINDOW = 8
RULES = ("keynorm", "keydiff", "snapkv", "expected", "local", "h2o-mean")


def export(model: str, data: Path, count: int) -> None:
    """The text model, the prompts' embeddings, and the tokens that follow."""
    from safetensors.torch import save_file

    text, prompts, rows = drawn(count) if model == "random" else asked(model, count)
    text.save_pretrained(data / "model")
    save_file({"prompts": prompts.contiguous()}, data / "prompts.safetensors")
    (data / "rows.json").write_text(json.dumps(rows))


def drawn(count: int) -> tuple[Any, torch.Tensor, list[dict[str, Any]]]:
    """A random text model and random prompts, for speed alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "vocab_size": 1024}
    text = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=8, num_key_value_heads=4))
    rows = [{"picture": i, "question": [5] * 8, "answer": [7] * 8} for i in range(count)]
    return text, torch.randn(count, 512, 512) * 0.02, rows


def asked(model: str, count: int) -> tuple[Any, torch.Tensor, list[dict[str, Any]]]:
    """A model's own text part, and questions about pictures of the world."""
    from transformers import LlamaForCausalLM

    from wildsight.backbones.vlm import load_model
    from wildsight.compression.evaluation.evaluate import picture_prompts, prepare
    from wildsight.compression.evaluation.layer_profiles import first_questions
    from wildsight.compression.evaluation.questions import world

    loaded = load_model(model)
    samples = first_questions(world(count * 5, size=loaded.image_size or 96), count).samples
    batch = prepare(loaded, samples, count)[0]
    number, inputs, questions = picture_prompts(loaded, batch)
    text = LlamaForCausalLM(loaded.model.config.text_config)
    text.model.load_state_dict(loaded.model.model.language_model.state_dict())
    text.lm_head.load_state_dict(loaded.model.lm_head.state_dict())
    features = torch.cat(inputs["mm_encoder_outputs"]["image"].pooler_output)
    embeds = loaded.model.get_input_embeddings()(inputs["input_ids"])
    places = inputs["input_ids"] == loaded.model.config.image_token_id
    embeds[places] = features.to(embeds.dtype)
    rows = [
        {"picture": number[i], "question": questions[i].tolist(), "answer": batch.answers[i]}
        for i in range(len(samples))
    ]
    return text, embeds, rows


def load(data: Path, attention: str = "sdpa") -> tuple[Any, torch.Tensor, list[dict[str, Any]]]:
    """What `export` wrote."""
    from safetensors.torch import load_file
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = LlamaForCausalLM.from_pretrained(data / "model", attn_implementation=attention).eval()
    prompts = load_file(data / "prompts.safetensors")["prompts"]
    return model, prompts, json.loads((data / "rows.json").read_text())


Maker = Callable[[int], tuple[Any, Any]]


@dataclass
class Case:
    """One rule at one share: its model, what gives a context to read the prompt in and an empty cache."""

    model: Any
    make: Maker
    answers: list[float] = field(default_factory=list)
    everything: list[float] = field(default_factory=list)
    prefill: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    held: int = 0

    @torch.no_grad()
    def ask(self, prompt: torch.Tensor, row: dict[str, Any]) -> None:
        """Read a prompt, then follow question and answer token by token."""
        length = prompt.shape[1]
        context, cache = self.make(length)
        begin = time.process_time()
        with context:
            place = torch.arange(length)[None]
            self.model(inputs_embeds=prompt, position_ids=place, past_key_values=cache, use_cache=True)
        self.prefill.append(time.process_time() - begin)
        self.held = sum(layer.keys.numel() for layer in cache.layers)
        tokens = [*row["question"], *row["answer"]]
        begin, losses = time.process_time(), []
        for number, token in enumerate(tokens[:-1]):
            out = self.model(
                input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True,
                position_ids=torch.tensor([[length + number]]),
            )  # fmt: skip
            logs = torch.log_softmax(out.logits[0, -1].float(), dim=-1)
            losses.append(-float(logs[tokens[number + 1]]))
        self.step.append((time.process_time() - begin) / max(1, len(tokens) - 1))
        self.everything += losses
        self.answers += losses[len(row["question"]) - 1 :]

    def result(self, stock: Case) -> dict[str, float]:
        """Perplexity of the answers and of all that follows, times, and numbers held behind the prompt."""
        prefill, step = (1000 * statistics.median(t) for t in (self.prefill, self.step))
        return {
            "answer perplexity": math.exp(sum(self.answers) / len(self.answers)),
            "perplexity": math.exp(sum(self.everything) / len(self.everything)),
            "prefill ms": prefill,
            "token ms": step,
            "prefill over stock": prefill / (1000 * statistics.median(stock.prefill)),
            "token over stock": step / (1000 * statistics.median(stock.step)),
            "cache numbers": float(self.held),
        }


def examine(cases: dict[str, Case], prompts: torch.Tensor, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All cases in turn, prompt by prompt; the first prompt is read twice, to warm up."""
    for case in cases.values():
        case.ask(prompts[rows[0]["picture"]][None], rows[0])
        case.answers, case.everything, case.prefill, case.step = [], [], [], []
    for number, row in enumerate(rows):
        for case in cases.values():
            case.ask(prompts[row["picture"]][None], row)
        if number % 20 == 19:
            print(f"{number + 1} of {len(rows)} prompts", flush=True)
    return {name: case.result(cases["stock 1"]) for name, case in cases.items()}


def ours(data: Path, shares: Sequence[float]) -> dict[str, Any]:
    """Every rule and share through the ragged cache, with its protected tokens and without."""
    from transformers import DynamicCache

    from wildsight.compression.attention import ragged_attention
    from wildsight.compression.cache import KVSettings, build_cache

    own = {"snapkv": {"window": WINDOW}, "h2o-mean": {"mean": True}}
    model, prompts, rows = load(data)
    length = prompts.shape[1]

    def case(settings: Any) -> Case:
        return Case(model, lambda n: (nullcontext(), build_cache(model, settings, n)))

    cases = {"stock 1": Case(model, lambda _: (nullcontext(), DynamicCache())), "full 1": case(KVSettings())}
    for share in shares:
        for rule in RULES:
            first = 4 if rule == "local" else 1
            method, options = rule.removesuffix("-mean"), {**own.get(rule, {}), "decoding": False}
            settings = KVSettings(int(length * share), method, start=first, **options)
            bare = KVSettings(settings.keep, method, start=4 if rule == "local" else 0, protect=0, **options)
            cases |= {f"{rule} {share:g}": case(settings), f"{rule} {share:g} bare": case(bare)}
    with ragged_attention(model):
        return examine(cases, prompts, rows)


def theirs(data: Path, shares: Sequence[float]) -> dict[str, Any]:
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
    model, prompts, rows = load(data)
    eager = load(data, "eager")[0]

    def case(rule: str, share: float) -> Case:
        own, press = eager if rule == "h2o-mean" else model, presses[rule](1.0 - share)
        return Case(own, lambda _: (press(own), DynamicCache()))

    cases = {"stock 1": Case(model, lambda _: (nullcontext(), DynamicCache()))}
    cases |= {f"{rule} {share:g}": case(rule, share) for share in shares for rule in RULES}
    return examine(cases, prompts, rows)


def table(data: Path, out: Path) -> None:
    """Both side by side, as CSV and JSON."""
    own, other = (json.loads((data / f"{n}.json").read_text()) for n in ("ours", "kvpress"))
    versions = {"ours": own.pop("versions"), "kvpress": other.pop("versions")}
    names = ("answer perplexity", "prefill ms", "token ms", "prefill over stock", "token over stock",
             "cache numbers")  # fmt: skip
    lines = [
        "rule,share,answer perplexity (ours, bare)," + ",".join(f"{n} (ours),{n} (kvpress)" for n in names)
    ]
    for key, values in other.items():
        rule, share = key.split(" ")
        bare = own.get(f"{key} bare", own[key])["answer perplexity"]
        pairs = [f"{own[key][n]:.4f},{values[n]:.4f}" for n in names]
        lines.append(",".join([rule, share, f"{bare:.4f}", *pairs]))
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.csv").write_text("\n".join(lines) + "\n")
    scores = {"versions": versions, "ours": own, "kvpress": other}
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
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
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/compression-kvpress"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.data.mkdir(parents=True, exist_ok=True)
    if options.part == "export":
        export(options.model, options.data, options.count)
    elif options.part == "table":
        table(options.data, options.out)
    else:
        found = (ours if options.part == "ours" else theirs)(options.data, options.shares)
        (options.data / f"{options.part}.json").write_text(json.dumps({**found, "versions": own_versions()}))


if __name__ == "__main__":
    main()
