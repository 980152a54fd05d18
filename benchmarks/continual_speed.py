"""What teaching one task costs, in processor seconds: fine-tuning, MulKI with cached and live teachers, ZSCL.

python benchmarks/continual_speed.py [--pictures 16] [--epochs 4] [--size 48]

The second task is timed, where both teachers differ; caches are filled within the time. ZSCL reads as many
reference pictures per step as the task's batch, and as published encodes every caption anew each step.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--captions", type=int, default=64)
    given = parser.parse_args()
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


if __name__ == "__main__":
    main()
