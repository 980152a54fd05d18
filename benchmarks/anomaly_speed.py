"""Speed and memory of the anomaly task, as ratios measured side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/anomaly_speed.py --out benchmarks/results/anomaly-speed.json
    OMP_NUM_THREADS=1 python benchmarks/anomaly_speed.py --part heads --part aupro

Times are CPU seconds of one thread (so that other work on the machine does not count), medians over rounds in
which the two sides take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Row = dict[str, Any]


def median_times(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each side; they take turns, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, call in sides.items():
            begin = time.process_time()
            call()
            if number:
                times[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def row(what: str, value: float, limit: str, **details: Any) -> Row:
    """One figure, what it should be, and how it came about."""
    sign, bound = limit.split()
    met = value <= float(bound) if sign == "<=" else value >= float(bound)
    return {"what": what, "value": value, "wanted": limit, "met": met, **details}


def heads() -> list[Row]:
    """RAS's head against UniAD's: the same tokens, 272 channels on a 14 x 14 grid, fp32 inference."""
    import torch

    from wildsight.anomaly.methods.ras import RAS, RASHead
    from wildsight.anomaly.methods.uniad import UniAD, UniADHead

    torch.manual_seed(0)
    ras, uniad = RASHead(RAS(channels=272)).eval(), UniADHead(UniAD(channels=272)).eval()
    folded = ras.fold()
    count = {h: sum(p.numel() for p in m.parameters()) for h, m in (("ras", ras), ("uniad", uniad))}
    rows = [row("parameters, RAS / UniAD", count["ras"] / count["uniad"], "<= 0.80", **count)]
    for batch in (1, 16):
        f = torch.randn(batch, 272, 14, 14)
        with torch.no_grad():
            gap = float((folded(f) - ras(f)).abs().max())
            t = median_times(
                {"ras": lambda f=f: folded(f), "unfolded": lambda f=f: ras(f), "uniad": lambda f=f: uniad(f)},
                15,
            )
        rows.append(row(f"head time, RAS / UniAD, batch {batch}", t["ras"] / t["uniad"], "<= 0.85", **t))
        rows.append(row(f"folded - unfolded, batch {batch}", gap, "<= 1e-5"))
    return rows


def sdpa(q: Any, k: Any, v: Any, heads: int, mask: Any = None, drop: float = 0.0) -> Any:
    """`attend` by torch's scaled_dot_product_attention."""
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    bias = None if mask is None else mask.to(q.dtype)
    mixed = scaled_dot_product_attention(q.expand(len(k), -1, -1, -1), k, v, attn_mask=bias, dropout_p=drop)
    return mixed.transpose(1, 2).flatten(2)


def own_parts() -> list[Row]:
    """A training step with our dropout and attention against torch's, of both heads, batch 16, in turns."""
    from unittest import mock

    import torch
    from torch.nn.functional import dropout

    from wildsight.anomaly import attention

    sides = {
        "ours": {},
        "torch's dropout": {"dropout": lambda x, p: dropout(x, p)},
        "SDPA": {"attend": sdpa},
        "both torch's": {"dropout": lambda x, p: dropout(x, p), "attend": sdpa},
    }
    rows = []
    for name in ("ras", "uniad"):
        for precision in ("bf16", "fp32"):
            once = training_step(name, precision == "bf16")

            def run(changes: Any, once: Callable[[], None] = once) -> None:
                with mock.patch.multiple(attention, **changes) if changes else contextlib.nullcontext():
                    once()

            torch.manual_seed(0)
            t = median_times({side: partial(run, changes) for side, changes in sides.items()}, 5)
            each = {f"{side}, ms a picture": 1e3 * v / 16 for side, v in t.items()}
            for side in list(sides)[1:]:
                what = f"training step, {name}, {precision}: {side} / ours"
                rows.append(row(what, t[side] / t["ours"], ">= 1.05", **each))
    return rows


def training_step(name: str, mixed: bool) -> Callable[[], None]:
    """One optimiser step of a head on 16 random maps of 272 channels, 14 x 14."""
    import torch

    from wildsight.anomaly.features import NeckConfig
    from wildsight.anomaly.methods import METHODS
    from wildsight.training import Batch

    torch.manual_seed(0)
    features = torch.randn(16, 272, *NeckConfig().grid)
    head = METHODS[name].build(272, NeckConfig().grid, 0, {}).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=7e-4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            METHODS[name].step(head, Batch(features, torch.arange(16), 0, 0))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def pictures(folder: Path, count: int, side: int) -> list[Path]:
    """PNG files of smooth colours with some noise, as photographs are."""
    files = []
    for i in range(count):
        draw = np.random.default_rng(i)
        small = Image.fromarray(draw.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(float)
        noisy = np.clip(smooth + draw.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        files.append(folder / f"{i}.png")
        Image.fromarray(noisy).save(files[-1])
    return files


def efficientnet(folder: Path) -> Path:
    """EfficientNet-B4 with random weights, which cost what pretrained ones do."""
    import torch
    from transformers import EfficientNetConfig, EfficientNetModel

    torch.manual_seed(0)
    config = EfficientNetConfig(width_coefficient=1.4, depth_coefficient=1.8, image_size=380)
    EfficientNetModel(config).save_pretrained(folder)
    return folder


def end_to_end(backbone: str | None) -> list[Row]:
    """File to result, against the backbone and the head alone on tensors that are ready."""
    import torch

    from wildsight.anomaly import AnomalyDetector
    from wildsight.anomaly.features import assemble

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = pictures(folder, 16, 256)
        detector = AnomalyDetector("ras", backbone or str(efficientnet(folder / "b4")))
        detector.fit(_plain(folder, files), epochs=1, progress=False)
        network, neck, head = detector.backbone, detector.settings.neck, detector.inference_head()
        pixels = network.preprocess([Image.open(f).convert("RGB") for f in files], neck.image_size)
        tokens = assemble(network.pyramid(pixels, neck.strides), neck)
        with torch.no_grad():
            t = median_times(
                {
                    "all": lambda: detector.predict(files),
                    "backbone": lambda: network.pyramid(pixels, neck.strides),
                    "head": lambda: head(tokens),
                },
                7,
            )
    overhead = t["all"] / (t["backbone"] + t["head"]) - 1
    each = {f"{k} ms a picture": 1e3 * v / len(files) for k, v in t.items()}
    what = f"overhead beyond backbone and head, 256 px PNG, {backbone or 'EfficientNet-B4'}"
    return [row(what, overhead, "<= 0.10", **each)]


def _plain(folder: Path, files: list[Path]) -> str:
    """A data set of ``files`` in the MVTec layout."""
    good = folder / "data" / "part" / "train" / "good"
    good.mkdir(parents=True, exist_ok=True)
    for file in files:
        (good / file.name).write_bytes(file.read_bytes())
    return f"mvtec-ad:{folder / 'data'}"


def cache(backbone: str | None, side: int) -> list[Row]:
    """A RAS training step on cached features, against one that decodes and runs the backbone first."""
    import torch

    from wildsight.anomaly.features import NeckConfig, features_of_images
    from wildsight.anomaly.methods.ras import RAS
    from wildsight.backbones import load_backbone
    from wildsight.images import load_image
    from wildsight.training import Batch

    with tempfile.TemporaryDirectory() as name:
        files = pictures(Path(name), 16, side)
        network, neck = load_backbone(backbone or efficientnet(Path(name) / "b4")), NeckConfig()
        stored = features_of_images(network, [load_image(f) for f in files], neck)
        head = RAS().on(stored.shape[1], neck.grid, 0).head().train()
        optimizer = torch.optim.AdamW(head.parameters(), lr=7e-4)

        def step(features: torch.Tensor) -> None:
            with torch.autocast("cpu", torch.bfloat16):
                RAS.step(head, Batch(features, torch.arange(16), 0, 0))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()

        t = median_times(
            {
                "cached": lambda: step(stored),
                "decoded": lambda: step(features_of_images(network, [load_image(f) for f in files], neck)),
            },
            5,
        )
    each = {f"{k} ms a picture": 1e3 * v / 16 for k, v in t.items()}
    what = f"epochs an hour, cached / decoded, {side} px PNG, {backbone or 'EfficientNet-B4'}"
    return [row(what, t["decoded"] / t["cached"], ">= 5", **each)]


def maps_and_masks(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps [N, S, S] float32 with a raised square in every second one, and its mask."""
    draw = np.random.default_rng(0)
    maps = draw.standard_normal((count, side, side), dtype=np.float32)
    masks = np.zeros(maps.shape, bool)
    for i in range(0, count, 2):
        y, x = draw.integers(0, side * 3 // 4, 2)
        masks[i, y : y + side // 8, x : x + side // 8] = True
        masks[i, : side // 20, : side // 20] = True
    maps[masks] += 1.5
    return maps, masks


def swept_aupro(maps: np.ndarray, masks: np.ndarray, thresholds: int, limit: float = 0.3) -> float:
    """AUPRO by sweeping equal steps between the least and the greatest score, each binarised in turn."""
    from scipy import ndimage

    regions = []
    for i, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [maps[i][labels == r] for r in range(1, count + 1)]
    good = maps[~masks]
    points = [(0.0, 0.0)]
    for t in np.linspace(maps.max(), maps.min(), thresholds):
        points.append((float((good >= t).mean()), float(np.mean([(r >= t).mean() for r in regions]))))
    x, y = np.array(points).T
    edge = np.interp(limit, x, y)
    inside = x <= limit
    return float(np.trapezoid(np.append(y[inside], edge), np.append(x[inside], limit)) / limit)


def aupro() -> list[Row]:
    """The exact AUPRO against a sweep of 200 thresholds on the same maps."""
    from wildsight.anomaly.metrics import aupro as exact_aupro
    from wildsight.anomaly.metrics import pixel_steps

    maps, masks = maps_and_masks(100, 256)
    t = median_times(
        {
            "exact": lambda: exact_aupro(pixel_steps(maps, masks)),
            "sweep": lambda: swept_aupro(maps, masks, 200),
        },
        5,
    )
    exact, swept = exact_aupro(pixel_steps(maps, masks)), swept_aupro(maps, masks, 200)
    fine = swept_aupro(maps, masks, 4000)
    gaps = {"exact": exact, "sweep of 200": swept, "sweep of 4000": fine}
    return [
        row("AUPRO, 200-threshold sweep / exact, time", t["sweep"] / t["exact"], ">= 10", **t),
        row("AUPRO, sweep of 200 - exact", abs(swept - exact), "<= 0.01", **gaps),
        row("AUPRO, sweep of 4000 - exact", abs(fine - exact), "<= 0.0005", **gaps),
    ]


def memory() -> list[Row]:
    """Peak resident memory of a process that scores 2,000 maps of 256 x 256, every metric."""
    rows = []
    for mode in ("exact", "histogram"):
        done = subprocess.run(
            [sys.executable, __file__, "--memory-of", mode], capture_output=True, text=True, check=True
        )
        peak, before, seconds = json.loads(done.stdout)
        rows.append(row(f"peak GiB, {mode}", peak, "<= 2", before_scoring=before, cpu_seconds=seconds))
    return rows


def memory_of(mode: str) -> None:
    """Print [peak GiB, GiB with the maps alone, CPU seconds] of scoring."""
    from wildsight.anomaly.metrics import score_category

    maps, masks = maps_and_masks(2000, 256)
    before, begin = _peak(), time.process_time()
    exact = maps.size if mode == "exact" else 1000
    score_category(maps.max(axis=(1, 2)), masks.any(axis=(1, 2)), maps, masks, exact_pixels=exact)
    print(json.dumps([_peak(), before, time.process_time() - begin]))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def start() -> list[Row]:
    """CPU seconds of fresh processes, best of five, less the interpreter's own start; none imports torch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = _plain(folder, pictures(folder, 4, 64))
        command = "from wildsight.cli import main; main({!r})"
        calls = {
            "import wildsight": ("import wildsight", 0.3),
            "wildsight --help": (command.format(["--help"]), 0.5),
            "wildsight anomaly --help": (command.format(["anomaly", "--help"]), 0.5),
            "wildsight check anomaly": (command.format(["check", "anomaly", source]), 1.0),
        }
        nothing = _fresh("pass")
        return [row(what, _fresh(code) - nothing, f"<= {limit}") for what, (code, limit) in calls.items()]


def _fresh(code: str) -> float:
    def once() -> float:
        begin = _spent()
        probe = f"import contextlib, sys\nwith contextlib.suppress(SystemExit):\n    {code}\n"
        check = "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
        environment = {**os.environ, "NO_COLOR": "1"}
        arguments = [sys.executable, "-c", probe + check]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, env=environment)
        return _spent() - begin

    return min(once() for _ in range(5))


def _spent() -> float:
    """CPU seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the parts asked for, print them, write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", help="a pretrained backbone's folder; EfficientNet-B4's size without")
    parser.add_argument(
        "--part", action="append", help="heads, own-parts, end-to-end, cache, aupro, memory, start"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        memory_of(given.memory_of)
        return
    parts: dict[str, Callable[[], list[Row]]] = {
        "heads": heads,
        "own-parts": own_parts,
        "end-to-end": lambda: end_to_end(given.backbone),
        "cache": lambda: cache(given.backbone, 1024) + cache(given.backbone, 256),
        "aupro": aupro,
        "memory": memory,
        "start": start,
    }
    rows: list[Row] = []
    for name in given.part or parts:
        for found in parts[name]():
            print(
                f"{'met  ' if found['met'] else 'MISSED'} {found['what']}: {found['value']:.4g}", flush=True
            )
            print(f"       wanted {found['wanted']}  {_details(found)}", flush=True)
            rows.append({"part": name, **found})
    if given.out:
        from wildsight.results import environment

        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps({"rows": rows, "environment": environment()}, indent=2) + "\n")


def _details(found: Row) -> str:
    own = {k: v for k, v in found.items() if k not in ("what", "value", "wanted", "met")}
    return ", ".join(f"{k} {v:.4g}" for k, v in own.items())


if __name__ == "__main__":
    main()
