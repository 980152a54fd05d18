"""Which parts of HDA-OE help, and why the contrastive term does not: latent pairs, many paired seeds.

Attributes and objects are latent vectors in families; a picture is a fixed non-linear mix of both, of their
interaction and of noise; training counts fall off. Each variant trains on the same data with the same seed.
Beside the AUC on unseen pairs it prints a **leak**: how well a ridge probe reads the *object* from the
*attribute* code of test pictures, and how far attribute codes of one attribute lie apart between objects.

    python benchmarks/composition_toy.py --seeds 10 --first 300 --out runs/composition-toy
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wildsight.composition.fitting import TrainingSet, fit_head
from wildsight.composition.methods import METHODS
from wildsight.composition.methods.hdaoe import HDAOEHead
from wildsight.composition.metrics import exact_scores
from wildsight.composition.modules import Space
from wildsight.composition.scoring import Candidates, top
from wildsight.files import read_json, write_json
from wildsight.results import Table, write_csv
from wildsight.training import TrainConfig

OFF: dict[str, Any] = {"adds": False, "sdde": None}
LIGHT: dict[str, Any] = {"adds": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": OFF,
    "+ADDS": {"sdde": None},
    "+SDDE light": LIGHT,
    "both": {},
    "light + contrast (published)": {**LIGHT, "omega": 1.0},
    "light + contrast, anchor detached": {**LIGHT, "omega": 1.0, "contrast": "detach-anchor"},
    "light + contrast, pair code detached": {**LIGHT, "omega": 1.0, "contrast": "detach-pair"},
    "light + contrast, class positives": {**LIGHT, "omega": 1.0, "contrast": "class"},
    "SDDE in full": {"adds": False, "sdde": "scd"},
}
ATTRIBUTES, OBJECTS, LATENT, WIDTH = 24, 20, 16, 128
TRAIN = TrainConfig(epochs=40, batch_size=256, lr=1e-3, weight_decay=5e-5, clip_norm=5.0)


def world(seed: int) -> dict[str, Any]:
    """One data set: pairs, features and labels of train and test, word vectors."""
    rng = np.random.default_rng(seed)
    attributes, objects = (_families(rng, n, 6) for n in (ATTRIBUTES, OBJECTS))
    grid = np.array([(a, o) for a in range(ATTRIBUTES) for o in range(OBJECTS)])
    grid = grid[rng.permutation(len(grid))[: int(0.6 * len(grid))]]
    seen, unseen = grid[:150], grid[200:250]
    mixers = [rng.normal(size=(LATENT, LATENT)) / LATENT**0.5 for _ in range(2)]
    both = rng.normal(size=(LATENT, LATENT, LATENT)) / LATENT
    out = rng.normal(size=(WIDTH, LATENT)) / LATENT**0.5

    def features(pairs: np.ndarray) -> Tensor:
        a, o = attributes[pairs[:, 0]], objects[pairs[:, 1]]
        joint = np.einsum("ijk,nj,nk->ni", both, a, o)
        latent = o @ mixers[0].T + a @ mixers[1].T + 1.5 * joint + 1.0 * rng.normal(size=a.shape)
        picture = np.tanh(latent @ out.T) + 0.1 * rng.normal(size=(len(a), WIDTH))
        return torch.tensor(picture, dtype=torch.float32)

    counts = np.maximum(3, (60 / np.arange(1, 151) ** 0.6).astype(int))
    labels = np.repeat(np.arange(150), counts)
    test = np.repeat(np.concatenate([seen[rng.permutation(150)[:50]], unseen]), 12, axis=0)
    words = [
        x @ rng.normal(size=(LATENT, 32)) / LATENT**0.5 + 0.25 * rng.normal(size=(len(x), 32))
        for x in (attributes, objects)
    ]
    return {
        "seen": torch.tensor(seen),
        "labels": torch.tensor(labels),
        "train": features(seen[labels]),
        "test": features(test),
        "truth": test,
        "candidates": np.concatenate([seen, unseen]),
        "words": [torch.tensor(w, dtype=torch.float32) for w in words],
    }


def _families(rng: np.random.Generator, count: int, families: int) -> np.ndarray:
    centres = rng.normal(size=(families, LATENT))
    return centres[np.arange(count) % families] + 0.7 * rng.normal(size=(count, LATENT))


def measure(variant: dict[str, Any], seed: int) -> dict[str, float]:
    """AUC, and the object leak of the attribute codes, of one variant on one data set."""
    data = world(seed)
    names = tuple(str(i) for i in range(ATTRIBUTES)), tuple(str(i) for i in range(OBJECTS))
    space = Space(WIDTH, *data["words"], data["seen"], None, 20.0, len(data["labels"]), names)
    method = METHODS.create("hdaoe", {"d": 64, **variant})
    training_set = TrainingSet(data["train"], data["labels"], [], data["train"][:0], [])
    training = TrainConfig(**{**vars(TRAIN), "seed": seed})
    head, _ = fit_head(method, space, training_set, training, None, False, seed)
    head = head.cpu()
    if not isinstance(head, HDAOEHead):
        raise TypeError("not HDA-OE")
    pairs = [(str(a), str(o)) for a, o in data["candidates"].tolist()]
    ids = torch.tensor(data["candidates"])
    seen = torch.arange(len(ids)) < 150
    chosen = Candidates(tuple(pairs), ids, seen, None).prepared(head)
    truth = chosen.where([(str(a), str(o)) for a, o in data["truth"].tolist()])
    found = top(head, data["test"], chosen, truth, truth < 150)
    return exact_scores(found) | leaks(head, data)


@torch.no_grad()
def leaks(head: HDAOEHead, data: dict[str, Any]) -> dict[str, float]:
    """Ridge probes on test pictures: object from attribute code, attribute from object code; and spread."""
    train = [F.normalize(z, dim=-1) for z in head.encode(head.prepare(data["train"]))[:2]]
    test = [F.normalize(z, dim=-1) for z in head.encode(head.prepare(data["test"]))[:2]]
    own = data["seen"][data["labels"]], torch.tensor(data["truth"])
    object_leak = _probe(train[0], own[0][:, 1], test[0], own[1][:, 1])
    w_a = F.normalize(head.words()[0], dim=-1)
    right = (test[0] @ w_a.T).argmax(1) == own[1][:, 0]
    unseen = torch.arange(len(right)) >= len(right) // 2
    cosine = (test[0] * w_a[own[1][:, 0]]).sum(1)
    return {
        "object read from attribute code": object_leak,
        "attribute accuracy on unseen pairs": float(right[unseen].float().mean()),
        "cosine to own attribute, unseen pairs": float(cosine[unseen].mean()),
    }


def _probe(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> float:
    target = F.one_hot(y, OBJECTS).float()
    weights = torch.linalg.solve(x.T @ x + 1.0 * torch.eye(x.shape[1]), x.T @ target)
    return float(((x_test @ weights).argmax(1) == y_test).float().mean())


def main() -> None:
    """Run every variant and seed that is not there yet, then print the paired table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs/composition-toy"))
    given = parser.parse_args()
    rows = []
    for seed in range(given.first, given.first + given.seeds):
        for name, variant in VARIANTS.items():
            file = given.out / "cells" / f"{seed}-{list(VARIANTS).index(name):02d}.json"
            if not file.is_file():
                write_json(file, {"variant": name, "seed": seed, **measure(variant, seed)})
            rows.append(read_json(file))
    write_csv(given.out / "results.csv", rows)
    print(paired(rows).markdown())


def paired(rows: list[dict[str, Any]]) -> Table:
    """Means over seeds, and the paired gain in AUC over the base and over light SDDE, with their errors."""
    metrics = [k for k in rows[0] if k not in ("variant", "seed", "best_seen", "best_unseen")]
    by = {name: [r for r in rows if r["variant"] == name] for name in VARIANTS}
    body = []
    for name, own in by.items():
        means = [f"{np.mean([r[m] for r in own]):.3f}" for m in metrics]
        gains = [_gain(own, by[against]) for against in ("base", "+SDDE light")]
        body.append([name, *means, *gains])
    return Table(["variant", *metrics, "AUC points over base", "over light"], body)


def _gain(own: list[dict[str, Any]], base: list[dict[str, Any]]) -> str:
    """Mean ± standard error of the paired difference in AUC points, and how many seeds went up."""
    gap = np.array([100 * (a["auc"] - b["auc"]) for a, b in zip(own, base, strict=True)])
    error = gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else 0.0
    return f"{gap.mean():+.2f} ± {error:.2f} ({int((gap > 0).sum())}/{len(gap)})"


if __name__ == "__main__":
    main()
