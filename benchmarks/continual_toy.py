"""The methods of the continual task on two small towers over drawn vectors: seconds, no picture, no file.

    python benchmarks/continual_toy.py --out benchmarks/results/continual-toy [--seeds 3]

A concept is a vector; a "text" reads it through one fixed map, an "image" through a map of its domain. Two
towers of three layers learn to match them on random concepts in 12 domains; then come 5 tasks of 10 unseen
concepts, each in a new domain, 120 steps each, scale 20, label smoothing 0.1, snapshots every 20 steps. The
losses, running mean and merge are the task's own; teachers' rows are computed once.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wildsight.continual.distillation_targets import DistillationTargets, Reference
from wildsight.continual.methods import METHODS
from wildsight.continual.metrics import summary
from wildsight.continual.objective import Objective, RunningMean, StudentBatch
from wildsight.files import write_json
from wildsight.results import environment, spread, write_csv

LATENT, IMAGE, TEXT, ROWS, HIDDEN = 16, 40, 24, 32, 128
DOMAINS, TASKS, CLASSES, PICTURES, HELD = 12, 5, 10, 40, 20
PRETRAINED, STEPS, BATCH, SCALE, CORPUS = 1500, 120, 64, 20.0, 4000
METRICS = ("transfer", "avg", "last")
OWN: dict[str, Any] = {"smoothing": 0.1}
MULKI: dict[str, Any] = {**OWN, "a": 5.0, "b": 0.25, "c": 0.25, "d": 0.0, "avg_freq": 20}
RELATIONS: dict[str, Any] = {"b": 1.0, "c": 1.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fine-tuning": ("finetune", OWN),
    "WiSE-FT": ("wise-ft", OWN),
    "LwF": ("lwf", OWN),
    "ZSCL, 4000 outside points": ("zscl", {**OWN, "avg_freq": 20}),
    "MulKI": ("mulki", MULKI),
    "relation weights 1": ("mulki", {**MULKI, **RELATIONS}),
    "no relations": ("mulki", {**MULKI, "b": 0.0, "c": 0.0}),
    "no relations, a = 1": ("mulki", {**MULKI, "a": 1.0, "b": 0.0, "c": 0.0}),
    "a = 1": ("mulki", {**MULKI, "a": 1.0}),
    "no CSA": ("mulki", {**MULKI, "l1": 0.0}),
    "no features": ("mulki", {**MULKI, "a": 0.0}),
    "no features, half the relations": ("mulki", {**MULKI, "a": 0.0, "b": 0.125, "c": 0.125}),
    "nothing kept": ("mulki", {**MULKI, "a": 0.0, "b": 0.0, "c": 0.0}),
    "no stage 4": ("mulki", {**MULKI, "avg_freq": 0, "alpha": 1.0}),
    "kappa 0.1": ("mulki", {**MULKI, "kappa": 0.1}),
    "uniform weights": ("mulki", {**MULKI, "weights": "uniform"}),
    "zs_only": ("mulki", {**MULKI, "weights": "zs_only"}),
    "prev_only": ("mulki", {**MULKI, "weights": "prev_only"}),
}


def tower(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, ROWS)
    )


class Towers(nn.Module):
    """Unit rows of "images" [B, 40] and "texts" [K, 24]."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = tower(IMAGE), tower(TEXT)

    def encode_images(self, given: Tensor) -> Tensor:
        return functional.normalize(self.image(given), dim=-1)

    def encode_tokens(self, given: Tensor) -> Tensor:
        return functional.normalize(self.text(given), dim=-1)


class Drawn:
    """The drawn world of one seed: maps of the domains, pictures and texts of concepts."""

    def __init__(self, seed: int) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        self.reads = self._normal(LATENT, TEXT) / LATENT**0.5
        shared = self._normal(LATENT, IMAGE) / LATENT**0.5
        own = self._normal(DOMAINS + TASKS, LATENT, IMAGE) / LATENT**0.5
        self.maps, self.shifts = shared + own, 0.5 * self._normal(DOMAINS + TASKS, IMAGE)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.draw)

    def concepts(self, count: int) -> Tensor:
        return self._normal(count, LATENT)

    def texts(self, concepts: Tensor) -> Tensor:
        return concepts @ self.reads

    def images(self, concepts: Tensor, domain: Tensor) -> Tensor:
        """Noisy views: of the concept itself, and of the sensor."""
        varied = concepts + 0.6 * self._normal(*concepts.shape)
        shown = torch.einsum("bl,bli->bi", varied, self.maps[domain]) + self.shifts[domain]
        return torch.tanh(shown) + 0.2 * self._normal(len(concepts), IMAGE)

    def corpus(self, count: int) -> tuple[Tensor, Tensor]:
        """Images of random concepts in the domains of the first training, with their texts."""
        concepts = self.concepts(count)
        domain = torch.randint(DOMAINS, (count,), generator=self.draw)
        return self.images(concepts, domain), self.texts(concepts)


@dataclass(frozen=True)
class Task:
    """``texts`` [K, 24]; pictures and labels to learn and to test."""

    texts: Tensor
    images: Tensor
    labels: Tensor
    held: Tensor
    answers: Tensor


def tasks(drawn: Drawn) -> list[Task]:
    made = []
    for number in range(TASKS):
        concepts = drawn.concepts(CLASSES)
        domain = torch.tensor([DOMAINS + number])
        parts = []
        for count in (PICTURES, HELD):
            labels = torch.arange(CLASSES).repeat_interleave(count)
            parts += [drawn.images(concepts[labels], domain.expand(len(labels))), labels]
        made.append(Task(drawn.texts(concepts), parts[0], parts[1], parts[2], parts[3]))
    return made


def pretrained(drawn: Drawn, seed: int) -> Towers:
    """Towers that match random concepts in the 12 domains, by the symmetric contrastive loss."""
    torch.manual_seed(seed)
    towers = Towers()
    optimiser = torch.optim.AdamW(towers.parameters(), lr=1e-3, weight_decay=0.0)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, PRETRAINED)
    target = torch.arange(256)
    for _ in range(PRETRAINED):
        images, texts = drawn.corpus(256)
        logits = SCALE * towers.encode_images(images) @ towers.encode_tokens(texts).T
        loss = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
    return towers.eval().requires_grad_(False)


@torch.no_grad()
def tested(towers: Towers, task: Task) -> float:
    """Accuracy, percent."""
    found = (towers.encode_images(task.held) @ towers.encode_tokens(task.texts).T).argmax(1)
    return 100 * float((found == task.answers).float().mean())


@torch.no_grad()
def targets_of(
    zero: Towers, previous: Towers, task: Task, first: bool, corpus: tuple[Tensor, Tensor]
) -> DistillationTargets:
    images, texts = corpus
    rows = zero.encode_images(images), zero.encode_tokens(texts)
    before = previous.encode_images(images), previous.encode_tokens(texts)
    return DistillationTargets(
        labels=task.labels,
        classes=CLASSES,
        scale=SCALE,
        first=first,
        zero_image=zero.encode_images(task.images),
        zero_text=zero.encode_tokens(task.texts),
        previous_image=previous.encode_images(task.images),
        previous_text=previous.encode_tokens(task.texts),
        steps=STEPS,
        reference=Reference(images, texts, *rows, *before),
    )


def learned(previous: Towers, objective: Objective, task: Task, lr: float, seed: int) -> Towers:
    """The towers after one task: its steps, the running mean, the merge."""
    towers = copy.deepcopy(previous).requires_grad_(True)
    objective.begin(towers)
    weights = dict(towers.named_parameters())
    mean, every = RunningMean(weights), objective.average_every
    optimiser = torch.optim.AdamW(towers.parameters(), lr=lr, weight_decay=0.0)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    draw, targets = torch.Generator().manual_seed(seed), objective.targets
    for step in range(1, STEPS + 1):
        index = torch.randint(len(task.images), (BATCH,), generator=draw)
        batch = StudentBatch(
            image=towers.encode_images(task.images[index]),
            text=towers.encode_tokens(task.texts),
            labels=task.labels[index],
            index=index,
            zero_image=targets.zero_image[index],
            previous_image=targets.previous_image[index],
            encode_images=towers.encode_images,
            encode_tokens=towers.encode_tokens,
            student=towers,
            draw=draw,
        )
        optimiser.zero_grad()
        objective(batch)["loss"].backward()
        optimiser.step()
        plan.step()
        if every and step % every == 0:
            mean.add(weights)
    after = {n: w.detach().clone() for n, w in weights.items()}
    after = mean.restored(weights) if every else after
    before = {n: w.detach() for n, w in previous.named_parameters()}
    towers.load_state_dict(objective.merged(before, after))
    return towers.eval().requires_grad_(False)


def matrix(zero: Towers, sequence: list[Task], corpus: Any, name: str, lr: float, seed: int) -> np.ndarray:
    """A[t, j] of one variant."""
    method, hyper = VARIANTS[name]
    config = METHODS.create(method, hyper)
    rows, served = [], zero
    for number, task in enumerate(sequence):
        targets = targets_of(zero, served, task, number == 0, corpus)
        served = learned(served, config.objective_for(targets), task, lr, 100 * seed + number)
        rows.append([tested(served, t) for t in sequence])
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/continual-toy"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        drawn = Drawn(seed)
        zero = pretrained(drawn, seed)
        sequence, corpus = tasks(drawn), drawn.corpus(CORPUS)
        chance = float(np.mean([tested(zero, t) for t in sequence]))
        rows.append({"variant": "zero-shot", "seed": seed, "transfer": chance, "avg": chance, "last": chance})
        for variant in VARIANTS:
            found = summary(matrix(zero, sequence, corpus, variant, given.lr, seed))
            rows.append({"variant": variant, "seed": seed, **found})
        print(f"seed {seed} is done", flush=True)
    table = []
    for name in dict.fromkeys(str(r["variant"]) for r in rows):
        own = [r for r in rows if r["variant"] == name]
        scores = {metric: spread([float(r[metric]) for r in own]) for metric in METRICS}
        table.append({"variant": name, **scores})
        print(f"{name:32}", *(f"{m} {mean:5.1f} ± {std:4.1f}" for m, (mean, std) in scores.items()))
    write_csv(given.out / "results.csv", rows)
    facts = {"seeds": given.seeds, "lr": given.lr, "steps": STEPS, "scale": SCALE}
    write_json(given.out / "scores.json", {"facts": facts, "table": table, "environment": environment()})


if __name__ == "__main__":
    main()
