"""Real driving frames: can the network hold them at all, and what do fewer visual tokens cost it?

    python benchmarks/spatial_overfit.py DATA/kitti6 --out runs/spatial-overfit

It learns all frames and is asked about the same frames: a check of the whole way from KITTI's files to
boxes in metres, not of generalisation.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from wildsight import compress
from wildsight.estimators.reporting import write_evaluation
from wildsight.results import RunFolder, write_csv
from wildsight.spatial import SpatialGrounder
from wildsight.spatial.data import read_source
from wildsight.spatial.samples import SpatialData

SHARES = (1.0, 0.75, 0.5, 0.25)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("--backbone", default="nano-llava")
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=18)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, default=Path("runs/spatial-overfit"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    read = read_source(f"kitti:{options.source}")
    samples = tuple(replace(s, split="train") for s in read.samples)
    data = SpatialData(read.name, read.root, samples, {**read.protocol, "split": "trained and asked on all"})
    hyper = {"dropout": 0.0, "w_text": 0.1, "w_d": 0.1, "pool": 3, "d": 32, "z_max": 250.0}
    grounder = SpatialGrounder("llmi3d", options.backbone, fit="stretch", hyper=hyper)
    training = {"epochs": options.epochs, "batch_size": options.batch_size, "lr": options.lr}
    grounder.fit(data, folder=options.out / "train", **training)
    grounder.save_pretrained(options.out / "checkpoint")
    evaluation = grounder.evaluate(data, split="train")
    write_evaluation(grounder, evaluation, RunFolder(options.out), read.name)
    rows = []
    for positions in ("original", "compact"):
        for share in SHARES:
            with compress(grounder.mllm.model, visual_tokens=share, positions=positions):
                row = grounder.evaluate(data, split="train").rows[-1]
            rows.append({"positions": positions, "tokens kept": share, **row})
            print(positions, share, {k: round(row[k], 3) for k in ("acc@0.25", "acc@0.5", "iou")})
    write_csv(options.out / "tokens.csv", rows)
    print(evaluation.rows[-1])


if __name__ == "__main__":
    main()
