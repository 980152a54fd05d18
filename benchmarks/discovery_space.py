"""Two choices of the discovery task on your sets: the space of the features, and the score that estimates K.

    python benchmarks/discovery_space.py BACKBONE classes:PATH [classes:PATH ...] --classes 40 --per-class 20

Each line is a set: semi-supervised k-means (All, K given) per space, then the estimated K per score.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from wildsight.backbones import load_backbone
from wildsight.discovery.data import read_source
from wildsight.discovery.estimate_k import EstimateConfig, estimate_k
from wildsight.discovery.features import unit, vectors_of_files
from wildsight.discovery.methods.sskmeans import SSKMeans, ss_kmeans
from wildsight.discovery.metrics import score
from wildsight.discovery.whitening import SpaceConfig, fit_space

SPACES = {
    "as published": SpaceConfig(0),
    "64, no whitening": SpaceConfig(64, 0.0),
    "64, half": SpaceConfig(64, 0.5),
    "64, full": SpaceConfig(64, 1.0),
    "128, half": SpaceConfig(128, 0.5),
}
SCORES = {
    "rand": EstimateConfig(),
    "accuracy": EstimateConfig("accuracy", 1.0, 0.0),
    "accuracy, a fifth hidden": EstimateConfig("accuracy", 0.2, 0.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("backbone")
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--classes", type=int)
    parser.add_argument("--per-class", type=int)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    network = load_backbone(given.backbone)
    config = SSKMeans(n_init=3, max_iter=50)
    for source in given.sources:
        data = read_source(source).limited(given.classes, given.per_class)
        rows = unit(vectors_of_files(network, [s.image for s in data.samples], given.image_size).array)
        labels, true = data.labels(), data.truths()
        free, known, k = labels < 0, len(data.known), len(data.known) + len(data.new)
        line: dict[str, object] = {"source": source, "K": k, "known": known}
        for name, space in SPACES.items():
            placed = fit_space(rows, space)(rows)
            found = [ss_kmeans(placed, labels, k, config, seed=s).groups[free] for s in range(given.seeds)]
            line[name] = round(float(np.mean([score(g, true[free], known)["all"] for g in found])), 3)
        placed = fit_space(rows, SpaceConfig())(rows)
        line["estimates"] = {n: estimate_k(placed, labels, config=c).k for n, c in SCORES.items()}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
