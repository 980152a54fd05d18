"""Accuracy of training on cached tokens against two live passes with fresh crops at every step.

    python benchmarks/discovery_live.py classes:DATA/grocery81/train --out benchmarks/results/discovery-live

Both train NN-GCD's last block and heads from the same start for the same steps. Cached: the tokens of a few
crops, encoded once. Live: every picture of every step gets two crops of its own, encoded there and then.
Seeds that are done are kept under ``--out`` and not run again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from wildsight.backbones import load_backbone
from wildsight.discovery import CategoryDiscoverer
from wildsight.discovery.bench import SHORT
from wildsight.discovery.data import CategoryData, read_source
from wildsight.discovery.features import ViewConfig
from wildsight.discovery.fitting import Tokens
from wildsight.discovery.partial_finetune import Trunk
from wildsight.files import read_json, write_json
from wildsight.images import load_image
from wildsight.results import environment, write_csv

METRICS = ("all", "old", "new", "seconds")


@dataclass(frozen=True)
class LiveTokens(Tokens):
    """Tokens whose random views are cropped and encoded when they are asked for.

    Attributes:
        trunk: the frozen backbone.
        pixels: [N, 3, S, S] whole pictures.
        crop: side of a crop, as a share of the picture's.
        draw: of the crops' places and mirrors.
    """

    trunk: Trunk
    pixels: Tensor
    crop: float
    draw: torch.Generator

    def take(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> Tensor:
        """[B, T, D]; view 0 is the whole picture, every other a crop made now."""
        if not views.any():
            return super().take(rows, views)
        return self.trunk.tokens(torch.stack([self._crop(self.pixels[i]) for i in self.rows[rows]]))

    def _crop(self, picture: Tensor) -> Tensor:
        side = picture.shape[-1]
        inner = round(self.crop * side)
        limits = (side - inner + 1, side - inner + 1, 2)
        top, left, mirror = (int(torch.randint(n, (), generator=self.draw)) for n in limits)
        part = picture[None, :, top : top + inner, left : left + inner]
        part = interpolate(part, size=(side, side), mode="bilinear", align_corners=False)[0]
        return part.flip(-1) if mirror else part


class LiveDiscoverer(CategoryDiscoverer):
    """Trains with live passes."""

    def tokens(self, data: CategoryData, whole: bool = False) -> Tokens:
        """The cached tokens; while a head is trained, with live crops."""
        cached = super().tokens(data, whole)
        if whole or self.head is not None:
            return cached
        config, size = self.settings.views, self.settings.views.image_size
        pictures = [self.backbone.preprocess([load_image(s.image)], size)[0] for s in data.samples]
        draw = torch.Generator().manual_seed(self.settings.seed)
        own = (cached.array, cached.rows, cached.labels)
        return LiveTokens(*own, Trunk(self.backbone), torch.stack(pictures), config.crop, draw)


def measured(kind: type[CategoryDiscoverer], given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One fit, scored on the pictures it sorted."""
    views = ViewConfig(given.image_size, given.views)
    data = read_source(given.source).limited(given.classes, given.per_class)
    backbone, k = load_backbone(given.backbone), len(data.known) + len(data.new)
    discoverer = kind("nngcd", backbone, k=k, hyper={**SHORT, "epochs": given.epochs}, views=views, seed=seed)
    begin = time.perf_counter()
    discoverer.fit(data, progress=False)
    seconds = time.perf_counter() - begin
    row = {**discoverer.evaluate(data).rows[0], "seconds": seconds}
    return {metric: row[metric] for metric in METRICS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--out", type=Path, default=Path("runs/discovery-live"))
    parser.add_argument("--backbone", default="nano-clip")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    rows = []
    for seed in range(given.seeds):
        for name, kind in (("cached tokens", CategoryDiscoverer), ("two live passes", LiveDiscoverer)):
            file = given.out / "cells" / f"{name.replace(' ', '-')}-seed{seed}.json"
            if not file.is_file():
                write_json(file, measured(kind, given, seed))
            found = read_json(file)
            rows.append({"training": name, "seed": seed, **{m: found[m] for m in METRICS}})
            print(rows[-1], flush=True)
    write_csv(given.out / "results.csv", rows)
    for name in dict.fromkeys(row["training"] for row in rows):
        own = [row["all"] for row in rows if row["training"] == name]
        print(f"{name}: All {statistics.mean(own):.3f} +- {statistics.stdev(own):.3f}")
    facts = {k: str(v) for k, v in vars(given).items() if k not in ("out", "source")}
    write_json(given.out / "facts.json", {**facts, "environment": environment()})


if __name__ == "__main__":
    main()
