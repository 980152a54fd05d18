"""Time and memory of one answer, part by part: runs of all configurations interleaved, medians given."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wildsight.compression.cache import cache_bytes
from wildsight.compression.config import CompressionConfig
from wildsight.compression.decoding import Decoder
from wildsight.compression.families import family_of
from wildsight.compression.reader import reading

PARTS = ("vision_ms", "selection_ms", "prefill_ms", "first_token_ms", "token_ms")


@dataclass
class Timing:
    """Measurements of one configuration.

    Attributes:
        runs: milliseconds of each part, run by run.
        cache_bytes: bytes of the cache right after the prompt.
        peak_bytes: the process's highest memory above where the run began; None where it cannot be read.
        prompt: tokens of the prompt as the language model reads it.
    """

    runs: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PARTS})
    cache_bytes: int = 0
    peak_bytes: int | None = None
    prompt: int = 0

    def median(self, part: str) -> float:
        """Median of a part."""
        return statistics.median(self.runs[part])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int | None]]:
    """Yields a function that says how many bytes more than at the start were held at most since then.

    On the CPU this is the resident set as Linux counts it; elsewhere None.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        begin = torch.cuda.memory_allocated(device)
        yield lambda: int(torch.cuda.max_memory_allocated(device)) - begin
        return
    start = _reset_peak()
    yield lambda: None if start is None else max(0, (_status("VmHWM") or start) - start)


def _reset_peak() -> int | None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(name))
    kib = next(found, None)
    return None if kib is None else int(kib) * 1024


@torch.no_grad()
def run_once(
    model: Any, inputs: Mapping[str, Any], config: CompressionConfig, tokens: int, timing: Timing
) -> None:
    """One answer of ``tokens`` tokens, greedy, with every part timed."""
    device = model.device
    with peak_memory(device) as peak, reading(model, config) as reader:
        begin = _now(device)
        pictures = family_of(model).encode(model, inputs, config.visual.saliency_layers)
        seen = _now(device)
        call, cache = reader.prompt(inputs, pictures)
        chosen = _now(device)
        out = model(**call, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(dim=-1)
        first = _now(device)
        timing.cache_bytes = cache_bytes(out.past_key_values)
        timing.prompt = int(call["input_ids"].shape[1])
        decoder = Decoder(out.past_key_values, call["position_ids"][..., -1:], call["attention_mask"])
        for _ in range(tokens):
            token = decoder.step(model, token).argmax(dim=-1)
        last = _now(device)
        timing.peak_bytes = peak()
    marks = (seen - begin, chosen - seen, first - chosen, first - begin, (last - first) / max(tokens, 1))
    for name, seconds in zip(PARTS, marks, strict=True):
        timing.runs[name].append(1000 * seconds)


def measure(
    model: Any,
    inputs: Mapping[str, Any],
    configs: Sequence[CompressionConfig],
    *,
    tokens: int = 16,
    repeats: int = 5,
    advance: Callable[[int], Any] | None = None,
) -> list[Timing]:
    """Time all configurations, one run of each in turn, after one warm-up of each.

    Args:
        model: of a family that can be pruned.
        inputs: of a batch of prompts with pictures.
        configs: what to compare; the first is usually the full model.
        tokens: to decode.
        repeats: runs of each.
        advance: called with 1 after each run.
    """
    timings = [Timing() for _ in configs]
    for run in range(repeats + 1):
        for config, timing in zip(configs, timings, strict=True):
            run_once(model, inputs, config, tokens, Timing() if run == 0 else timing)
            if advance is not None:
                advance(1)
    return timings
