"""What teaching one task costs, in processor seconds: fine-tuning, MulKI with cached and live teachers, ZSCL.

python benchmarks/continual_speed.py [--pictures 16] [--epochs 4] [--size 48]
python benchmarks/continual_speed.py --memory    the peak of each method's memory, a process of its own each
python benchmarks/continual_speed.py --loss      MulKI's loss against LwF's, features given

The second task is timed, where both teachers differ; caches are filled within the time. ZSCL reads as many
reference pictures per step as the task's batch, and as published encodes every caption anew each step. Memory
is that of a CLIP of 54 million random weights (217 MB), beyond what the process holds before the learner is
made, counted in copies of those weights.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--captions", type=int, default=64)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        peak(given.peak)
    elif given.memory:
        memory()
    elif given.loss:
        loss()
    else:
        speed(given)


def speed(given: argparse.Namespace) -> None:
    """Processor seconds of a task."""
    import torch
    from PIL.Image import fromarray

    from wildsight.backbones import load_backbone
    from wildsight.continual import ContinualLearner, TaskData

    torch.set_num_threads(1)
    rng, base = np.random.default_rng(0), load_backbone("nano-clip")

    def task(name: str, classes: tuple[str, str]) -> TaskData:
        pixels = rng.integers(0, 255, (given.pictures, 96, 96, 3), np.uint8)
        return TaskData.of(name, [fromarray(p) for p in pixels], [i % 2 for i in range(len(pixels))], classes)

    first, second = task("one", ("red cube", "blue cone")), task("two", ("wet car", "hot tree"))
    batch = max(4, given.pictures // 2)
    variants = {
        "finetune": ("finetune", {}, {}),
        "mulki, cached teachers": ("mulki", {}, {}),
        "mulki, live teachers": ("mulki", {}, {"teacher_view": "exact"}),
        "zscl, captions once": ("zscl", {"batch": batch}, {}),
        "zscl, captions each step": ("zscl", {"batch": batch, "hoist": False}, {}),
    }
    spent: dict[str, float] = {}
    for name, (method, hyper, settings) in variants.items():
        with tempfile.TemporaryDirectory() as cache:
            os.environ["WILDSIGHT_CACHE"] = cache
            options = {"image_size": given.size, "reference_count": given.captions, **settings}
            learner = ContinualLearner(method, base, hyper=hyper, **options)
            learner.update(first, epochs=1, batch_size=batch, progress=False)
            begin = time.process_time()
            learner.update(second, epochs=given.epochs, batch_size=batch, progress=False)
            spent[name] = time.process_time() - begin
        print(
            f"{name:28} {spent[name]:6.2f} s, {spent[name] / spent['finetune']:.2f} x fine-tuning", flush=True
        )


PEAKS = {
    "finetune": ("finetune", {}),
    "mulki, cached teachers": ("mulki", {}),
    "mulki, live teachers": ("mulki", {"teacher_view": "exact"}),
    "lwf": ("lwf", {}),
    "zscl": ("zscl", {}),
}


def memory() -> None:
    """Peak of each method, in a process of its own."""
    first = 0.0
    for name in PEAKS:
        words = [sys.executable, __file__, "--peak", name]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        used, size = map(float, done.stdout.split()[-2:])
        first = first or used
        more = f"{(used - first) / size:+.2f} copies against fine-tuning"
        print(
            f"{name:28} {used:6.0f} MB beyond the start, {used / size:5.2f} copies of the weights, {more}",
            flush=True,
        )


def peak(name: str) -> None:
    """Print the peak of one method over a second task of two steps, and the size of the weights, MB."""
    import torch
    from PIL.Image import fromarray
    from transformers import CLIPConfig, CLIPModel

    from wildsight.backbones import load_backbone, nano_folder
    from wildsight.continual import ContinualLearner, TaskData

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    tower = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    text = {**tower, "num_hidden_layers": 8, "vocab_size": 185, "max_position_embeddings": 16}
    config = CLIPConfig(
        text_config={**text, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0},
        vision_config={**tower, "num_hidden_layers": 9, "image_size": 32, "patch_size": 16},
        projection_dim=256,
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WILDSIGHT_CACHE"] = folder
        CLIPModel(config).save_pretrained(Path(folder) / "clip")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (Path(folder) / "clip" / file).write_bytes((nano_folder("nano-clip") / file).read_bytes())
        base = load_backbone(Path(folder) / "clip")
        size = sum(w.numel() * w.element_size() for w in base.model.parameters()) / 1e6
        method, settings = PEAKS[name]
        before = now()
        learner = ContinualLearner(method, base, reference_count=8, **settings)
        for number, classes in enumerate((("red cube", "blue cone"), ("wet car", "hot tree"))):
            pictures = [fromarray(p) for p in rng.integers(0, 255, (8, 32, 32, 3), np.uint8)]
            task = TaskData.of(str(number), pictures, [i % 2 for i in range(8)], classes)
            learner.update(task, epochs=1, batch_size=4, progress=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before, size)


def now() -> float:
    """Memory that this process holds, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def loss() -> None:
    """Forward and backward of both losses: 64 pictures, 100 classes, 512 numbers a row."""
    import torch
    from torch.nn import functional

    from wildsight.continual.distillation_targets import DistillationTargets
    from wildsight.continual.methods.lwf import LwF, LwFObjective
    from wildsight.continual.methods.mulki import MulKI, MulKIObjective
    from wildsight.continual.objective import StudentBatch

    torch.set_num_threads(1)

    def rows(count: int, seed: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(seed)
        return functional.normalize(torch.randn(count, 512, generator=draw), dim=-1)

    labels = torch.randint(100, (64,), generator=torch.Generator().manual_seed(0))
    targets = DistillationTargets(
        labels, 100, 100.0, False, rows(64, 1), rows(100, 2), rows(64, 3), rows(100, 4)
    )
    parts = {"lwf": LwFObjective(LwF(), targets), "mulki": MulKIObjective(MulKI(), targets)}
    spent: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(100):
        for name, objective in parts.items():
            image, text = rows(64, 5).requires_grad_(), rows(100, 6).requires_grad_()
            teachers = (targets.zero_image, targets.previous_image)
            batch = StudentBatch(
                image,
                text,
                labels,
                torch.arange(64),
                *teachers,
                lambda p: p,
                lambda t: t,
                torch.nn.Identity(),
            )
            begin = time.process_time()
            objective(batch)["loss"].backward()
            spent[name].append(time.process_time() - begin)
    least = {name: min(values) for name, values in spent.items()}
    for name, values in spent.items():
        middle = statistics.median(values)
        ratio = least[name] / least["lwf"]
        print(f"{name:28} least {1e3 * least[name]:.2f} ms, median {1e3 * middle:.2f} ms, {ratio:.1f} x LwF")


if __name__ == "__main__":
    main()
