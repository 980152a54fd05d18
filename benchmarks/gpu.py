"""What a GPU changes, in one command and under ten minutes: the same answers, how fast, how much memory.

    python benchmarks/gpu.py --out benchmarks/results/gpu
    python benchmarks/gpu.py --device cpu --tiny        # the same code in a minute on any machine

It writes ``scores.json`` with a part for each question:

- ``tasks``: each estimator is fitted on the CPU, saved, and loaded twice. The backbone's features and the
  answers of ``predict`` on the device and on the CPU: largest difference of a number, whether all words and
  verdicts agree, pictures a second on both, and the limit, which is the device's rate if nothing but the
  backbone took time.
- ``training``: one step of LLMI3D's training on the device: seconds and memory.
- ``compression``: time to first token, tokens a second and peak memory of VTC-CLS, PrefixKV and both against
  the stock model, at the geometry of LLaVA-1.5-7B in bf16 with random weights.
- ``routing``: the capsule routing of PWRF on the device against the CPU, forward and backward.
- ``memory``: an answer for a batch that does not fit.

Sets, backbones and fits are the tiny ones of the tests (``tests/contract/objects.py``); ``--nano`` takes each
task's default backbone in place of them. A part that fails is reported as such, and the others go on.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from wildsight.backbones import Backbone
from wildsight.compression.config import CompressionConfig
from wildsight.compression.evaluation.timing import measure, peak_memory
from wildsight.devices import resolve_device
from wildsight.errors import UnsupportedModelError
from wildsight.files import write_json
from wildsight.fusion.routing import route
from wildsight.results import environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

TOLERANCE = 1e-3
PARTS = ("tasks", "training", "compression", "routing", "memory")
CPU = torch.device("cpu")
LLAVA_7B = {
    "vision": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": 336, "patch_size": 14,
    },
    "text": {
        "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    },
}  # fmt: skip
LLAVA_TINY = {
    "vision": LLAVA_7B["vision"] | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 5,
                                    "num_attention_heads": 4, "image_size": 84},
    "text": LLAVA_7B["text"] | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
                                "num_attention_heads": 4, "num_key_value_heads": 2},
}  # fmt: skip
IMAGE_TOKEN = 32000
TEXT_TOKENS = 64


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


# -- tasks ---------------------------------------------------------------------------------------------------


def subjects() -> dict[str, Any]:
    """The tests' description of each public object: how to make, fit and ask it."""
    from contract.objects import SUBJECTS

    return dict(SUBJECTS)


def fitted(subject: Any, folder: Path, nano: bool) -> Path:
    """A checkpoint of a task, fitted on the CPU."""
    made = subject.make(device="cpu")
    if nano:
        made = type(made)(subject.method, hyper=subject.hyper, seed=3, device="cpu", **subject.settings())
    return Path(subject.fit(made).save_pretrained(folder))


def differences(one: Any, other: Any) -> tuple[float, bool]:
    """The largest difference of a number over the larger of 1 and itself, and whether all else is equal."""
    if isinstance(one, list | tuple):
        pairs = [differences(a, b) for a, b in zip(one, other, strict=True)]
        return max((d for d, _ in pairs), default=0.0), all(same for _, same in pairs)
    if isinstance(one, str | bool | Path | np.bool_ | None):
        return 0.0, bool(one == other)
    a, b = np.asarray(one), np.asarray(other)
    if a.dtype.kind not in "fc":
        return 0.0, a.shape == b.shape and bool(np.array_equal(a, b))
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return 0.0, False
    gap = np.abs(a.astype(float) - b.astype(float)) / np.maximum(1.0, np.abs(b.astype(float)))
    return float(np.nanmax(gap, initial=0.0)), True


@contextmanager
def time_inside(module: nn.Module | None, device: torch.device) -> Iterator[list[float]]:
    """The seconds spent in calls of a module, or of its children where it is not called itself."""
    spent, begun = [0.0], []

    def before(*_: Any) -> None:
        begun.append(now(device))

    def after(*_: Any) -> None:
        start = begun.pop()
        if not begun:
            spent[0] += now(device) - start

    watched = [] if module is None else [module, *module.children()]
    hooks = [m.register_forward_pre_hook(before) for m in watched]
    hooks += [m.register_forward_hook(after) for m in watched]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def rate(subject: Any, model: Any, count: int) -> dict[str, float | None]:
    """Pictures a second of ``predict``, and what the backbone alone would allow."""
    few = subject.inputs(2)
    pictures = [few[i % len(few)] for i in range(count)]
    subject.predict(model, pictures[:2])
    device = model.device
    backbone = getattr(model.backbone, "model", None)
    begin = now(device)
    subject.predict(model, pictures)
    seconds = now(device) - begin
    with time_inside(backbone if isinstance(backbone, nn.Module) else None, device) as inside:
        subject.predict(model, pictures)
    return {"per_second": count / seconds, "limit": count / inside[0] if inside[0] else None}


def feature_gap(one: Any, other: Any, side: int = 64) -> float | None:
    """The largest difference of two backbones' features of noise; None for SAM and language models."""
    if not isinstance(one, Backbone) or not isinstance(other, Backbone):
        return None
    draw = np.random.default_rng(0)
    pictures = [Image.fromarray(draw.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(2)]
    try:
        tokens = [b.features(b.preprocess(pictures, side)).patches.cpu().numpy() for b in (one, other)]
    except UnsupportedModelError:
        return None
    return differences(*tokens)[0]


def task_row(subject: Any, device: torch.device, count: int, nano: bool, folder: Path) -> dict[str, Any]:
    """One task on the device against the CPU."""
    checkpoint = fitted(subject, folder, nano)
    here, there = (subject.cls.from_pretrained(checkpoint, device=str(d)) for d in (CPU, device))
    answers = [subject.said(subject.predict(m, subject.inputs())) for m in (here, there)]
    gap, same = differences(answers[1], answers[0])
    speed = rate(subject, there, count)
    return {
        "backbone": there.backbone.name if nano else subject.backbone,
        "largest_feature_difference": feature_gap(there.backbone, here.backbone),
        "largest_difference": gap,
        "verdicts_equal": same,
        "within": same and gap <= TOLERANCE,
        "device_per_second": speed["per_second"],
        "device_limit": speed["limit"],
        "cpu_per_second": rate(subject, here, min(count, 16))["per_second"],
    }


def tasks(device: torch.device, tiny: bool, nano: bool) -> dict[str, Any]:
    """Each task; one that fails is named with its error."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, subject in subjects().items():
            place = Path(folder) / name
            rows[name] = guarded(
                lambda s=subject, p=place: task_row(s, device, 2 if tiny else 256, nano, p)  # type: ignore[misc]
            )
    return rows


def guarded(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part measures, or why it could not."""
    begin = time.perf_counter()
    try:
        row = action()
    except Exception as error:
        row = {"failed": f"{type(error).__name__}: {error}", "trace": traceback.format_exc(limit=-4)}
    return {**row, "seconds": time.perf_counter() - begin}


# -- training ------------------------------------------------------------------------------------------------


def training(device: torch.device, tiny: bool, nano: bool) -> dict[str, Any]:
    """LLMI3D: seconds of a fit's step and its memory."""
    subject = subjects()["spatial"]
    settings = {} if nano else {"cnn": subject.settings()["cnn"]}
    backbone = {} if nano else {"backbone": subject.make(device="cpu").backbone}
    model = subject.cls(
        subject.method, hyper=subject.hyper, seed=3, device=str(device), **backbone, **settings
    )
    epochs = 1 if tiny else 5
    with peak_memory(device) as peak:
        begin = now(device)
        subject.fit(model, epochs=epochs)
        seconds = now(device) - begin
        memory = peak()
    losses = model.history.curve("loss")
    return {
        "steps": model.history.steps,
        "step_seconds": model.history.seconds / model.history.steps,
        "fit_seconds": seconds,
        "losses": losses,
        "finite": bool(np.isfinite(losses).all()),
        "peak_mib": None if memory is None else memory / 2**20,
    }


# -- compression ---------------------------------------------------------------------------------------------


def llava(shape: Mapping[str, Mapping[str, Any]], device: torch.device, dtype: torch.dtype) -> Any:
    """A LLaVA with random weights, made on the device."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**shape["vision"]),
        text_config=LlamaConfig(**shape["text"]),
        image_token_id=IMAGE_TOKEN,
    )
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(usual)
    model = model.to(device, dtype).eval().requires_grad_(False)
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, None
    return model


def question(
    shape: Mapping[str, Mapping[str, Any]], device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """Words, the picture's placeholders, words."""
    side = shape["vision"]["image_size"]
    patches = (side // shape["vision"]["patch_size"]) ** 2
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(5, 31000, (1, TEXT_TOKENS), generator=draw)
    ids = torch.cat([words[:, :8], torch.full((1, patches), IMAGE_TOKEN), words[:, 8:]], dim=1).to(device)
    pixels = torch.randn(1, 3, side, side, generator=draw).to(device, dtype)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def compression(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Stock, VTC-CLS at a ninth of the visual tokens, PrefixKV at three tenths of the cache, and both."""
    shape = LLAVA_TINY if tiny else LLAVA_7B
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    model, inputs = llava(shape, device, dtype), question(shape, device, dtype)
    chosen = {
        "stock": CompressionConfig(),
        "vtc-cls": CompressionConfig.of(1 / 9),
        "prefixkv": CompressionConfig.of(None, 0.3),
        "both": CompressionConfig.of(1 / 9, 0.3),
    }
    decoded, repeats = (4, 1) if tiny else (64, 5)
    times = dict(
        zip(
            chosen,
            measure(model, inputs, list(chosen.values()), tokens=decoded, repeats=repeats),
            strict=True,
        )
    )
    stock = times["stock"]
    rows = {
        name: {
            "prompt_tokens": t.prompt,
            "first_token_ms": t.median("first_token_ms"),
            "tokens_per_second": 1000 / t.median("token_ms"),
            "first_token_speedup": stock.median("first_token_ms") / t.median("first_token_ms"),
            "token_speedup": stock.median("token_ms") / t.median("token_ms"),
            "cache_mib": t.cache_bytes / 2**20,
            "peak_mib": None if t.peak_bytes is None else t.peak_bytes / 2**20,
        }
        for name, t in times.items()
    }
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    return {
        "geometry": "tiny" if tiny else "LLaVA-1.5-7B",
        "dtype": str(dtype).removeprefix("torch."),
        "weights_mib": weights,
        "decoded": decoded,
        "methods": rows,
        "kvpress": kvpress(),
    }


def kvpress() -> str:
    """kvpress asks for an older transformers; `compression_kvpress.py` compares across environments."""
    if importlib.util.find_spec("kvpress") is None:
        return "not installed beside this transformers; see benchmarks/compression_kvpress.py"
    return "installed; compare with benchmarks/compression_kvpress.py"


# -- routing -------------------------------------------------------------------------------------------------


def routing(device: torch.device, tiny: bool) -> dict[str, Any]:
    """PWRF's routing of n positions, 24 parts and 8 wholes: values, gradients and time on both devices."""
    n = 64 if tiny else 4096
    torch.manual_seed(0)
    operands = [
        torch.randn(n, 24, 16), torch.rand(n, 24), torch.randn(24, 8, 4, 4), torch.zeros(8), torch.zeros(8)
    ]  # fmt: skip
    results, times = [], {}
    for name, where in (("cpu", CPU), ("device", device)):
        given = [t.to(where).requires_grad_() for t in operands]
        results.append(routed(given))
        times[name] = median_seconds(lambda g=given: routed(g), where, 2 if tiny else 10)  # type: ignore[misc]
    gaps = [differences(a.numpy(), b.numpy())[0] for a, b in zip(results[1], results[0], strict=True)]
    return {
        "positions": n,
        "largest_difference": max(gaps[:2]),
        "largest_gradient_difference": max(gaps[2:]),
        "within": max(gaps[:2]) <= TOLERANCE,
        "cpu_seconds": times["cpu"],
        "device_seconds": times["device"],
    }


def routed(given: list[Tensor]) -> list[Tensor]:
    """Poses, activations and the gradients of their sum, on the CPU."""
    mean, activation = route(*given)[:2]
    grads = torch.autograd.grad(mean.square().mean() + activation.mean(), given[:3])
    return [t.detach().cpu() for t in (mean, activation, *grads)]


def median_seconds(action: Callable[[], Any], device: torch.device, runs: int) -> float:
    """Median of some runs."""
    marks = []
    for _ in range(runs):
        begin = now(device)
        action()
        marks.append(now(device) - begin)
    return statistics.median(marks)


# -- memory --------------------------------------------------------------------------------------------------


@contextmanager
def little_memory(module: nn.Module, device: torch.device) -> Iterator[str]:
    """Room for a few pictures. On CUDA the process's share is cut down; elsewhere, where nothing can be cut,
    calls of the module with more than two pictures fail as they would on CUDA."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(
            min(1.0, (torch.cuda.memory_reserved(device) + 2**26) / total), device
        )
        try:
            yield "64 MiB beside the weights"
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return

    def refuse(_: nn.Module, given: Any, named: Mapping[str, Any]) -> None:
        tensors = [v for v in (*given, *named.values()) if isinstance(v, Tensor)]
        if tensors and len(tensors[0]) > 2:
            raise torch.OutOfMemoryError("injected: more than two pictures in a call")

    hooks = [m.register_forward_pre_hook(refuse, with_kwargs=True) for m in (module, *module.children())]
    try:
        yield "injected: two pictures in a call"
    finally:
        for hook in hooks:
            hook.remove()


def memory(device: torch.device, nano: bool) -> dict[str, Any]:
    """`predict` of more pictures than fit: whether it goes on in smaller batches and says the same."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("anomaly", "composition"):
            subject = subjects()[name]
            checkpoint = fitted(subject, Path(folder) / name, nano)
            rows[name] = guarded(lambda s=subject, c=checkpoint: short_of_memory(s, c, device))  # type: ignore[misc]
    return rows


def short_of_memory(subject: Any, checkpoint: Path, device: torch.device) -> dict[str, Any]:
    """One task's answers with enough memory and with little."""
    model = subject.cls.from_pretrained(checkpoint, device=str(device))
    few = subject.inputs(2)
    pictures = few * (4 if device.type == "cpu" else 512)
    usual = subject.said(subject.predict(model, few))
    with little_memory(model.backbone.model, device) as what:
        try:
            said = subject.said(subject.predict(model, pictures, batch_size=len(pictures)))
        except (torch.OutOfMemoryError, RuntimeError) as error:
            return {"memory": what, "goes_on": False, "error": f"{type(error).__name__}: {error}"[:300]}
    gap, same = differences(said[:2], usual)
    return {"memory": what, "goes_on": True, "largest_difference": gap, "verdicts_equal": same}


# -- all -----------------------------------------------------------------------------------------------------


def facts(device: torch.device) -> dict[str, Any]:
    """What ran where."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else str(device),
        "cuda": torch.version.cuda if cuda else None,
        "tf32_in_convolutions": torch.backends.cudnn.allow_tf32 if cuda else None,
        "threads": torch.get_num_threads(),
        "tolerance": TOLERANCE,
        **environment(),
    }


def run(
    device: torch.device, parts: tuple[str, ...], tiny: bool = False, nano: bool = False
) -> dict[str, Any]:
    """All parts."""
    actions: dict[str, Callable[[], dict[str, Any]]] = {
        "tasks": lambda: tasks(device, tiny, nano),
        "training": lambda: training(device, tiny, nano),
        "compression": lambda: compression(device, tiny),
        "routing": lambda: routing(device, tiny),
        "memory": lambda: memory(device, nano),
    }
    scores: dict[str, Any] = {"facts": facts(device)}
    for name in parts:
        scores[name] = guarded(actions[name])
        print(f"{name}: {scores[name]['seconds']:.1f} s {scores[name].get('failed', '')}", flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="a few pictures, a small language model")
    parser.add_argument("--nano", action="store_true", help="each task's default backbone")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    given = parser.parse_args()
    scores = run(resolve_device(given.device), tuple(given.parts), given.tiny, given.nano)
    write_json(given.out / "scores.json", scores)
    print(f"scores: {given.out / 'scores.json'}")


if __name__ == "__main__":
    main()
