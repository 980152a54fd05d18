"""MulKI and its peers in one loop: the same pictures, recipe and matrix, several seeds and orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wildsight.backbones import Backbone, load_backbone
from wildsight.continual.data import read_source, reordered, thinned
from wildsight.continual.learner import ContinualLearner
from wildsight.continual.methods import ABLATIONS, METHODS, named
from wildsight.continual.reports import matrix_figure
from wildsight.continual.runs import fit_sequence, scores
from wildsight.continual.tasks import TaskSequence
from wildsight.files import digest_of, read_json, write_json

METRICS = (
    "transfer",
    "avg",
    "last",
    "forgetting",
    "backward_transfer",
    "train_seconds",
    "prepare_seconds",
)
WITH_ABLATIONS = "ablations"


def bench(
    source: str | TaskSequence,
    *,
    out: Path,
    backbone: str | Backbone = "nano-clip",
    methods: Sequence[str] = tuple(METHODS),
    seeds: int = 3,
    orders: int = 1,
    epochs: int | None = None,
    image_size: int = 0,
    precision: str = "fp32",
    per_class: int | None = None,
    per_class_test: int | None = None,
    hyper: dict[str, Any] | None = None,
    lr: float | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Learn the sequence with every method, seed and order.

    Finished cells are kept under ``out/cells``, so that an interrupted bench goes on where it stopped.

    Args:
        source: ``world``, a folder, ``NAME:PATH``, or a sequence already read.
        out: the bench's folder.
        backbone: the first model.
        methods: names from `METHODS` and `ABLATIONS`; ``ablations`` stands for all of the latter.
        seeds: number of seeds, counted from 0: order of pictures, crops, and which pictures are drawn.
        orders: number of orders of the tasks, the source's own first.
        epochs, lr, precision: of every trained method; None takes the task's recipe.
        image_size: side of the input, pixels; 0 takes the backbone's own.
        per_class, per_class_test: pictures drawn of each class, all where it holds fewer (the facts tell);
            None takes all.
        hyper: hyper-parameters given to MulKI and its ablations on top of their own.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures, cost.

    Raises:
        ConfigError: unknown method or backbone. DataError: the source does not fit its layout.
    """
    names = list(dict.fromkeys(n for m in methods for n in (ABLATIONS if m == WITH_ABLATIONS else [m])))
    for name in names:
        named(name)
    sequence = source if isinstance(source, TaskSequence) else read_source(source)
    network = load_backbone(backbone) if isinstance(backbone, str) else backbone
    training: dict[str, Any] = {"precision": precision}
    training |= {k: v for k, v in (("epochs", epochs), ("lr", lr)) if v is not None}
    plan = _Plan(
        sequence, network, image_size, training, per_class, per_class_test, hyper or {}, out, progress
    )
    cells = [
        _cell(plan, name, seed, order)
        for seed in range(seeds)
        for order in range(1, orders + 1)
        for name in names
    ]
    facts = {
        "source": sequence.name,
        "backbone": network.name,
        "backbone SHA-256": network.sha,
        "training (the recipe's where not named)": training,
        "image size": image_size or "the backbone's own",
        "pictures per class": thinned(sequence, per_class, per_class_test).protocol["pictures per class"],
        "hyper-parameters of MulKI on top": hyper or "none",
        "seeds": seeds,
        "selection": "the last step of every task; nothing on test pictures",
        "mulki": "reconstructed from the paper's abstract and outline",
        **{f"protocol: {k}": v for k, v in sequence.protocol.items()},
    }
    pictures = [(matrix_figure(c["matrix"]), f"{c['row']['method']}, {c['row']['group']}") for c in cells]
    rows = [c["row"] for c in cells]
    return {
        "rows": rows,
        "metrics": METRICS,
        "facts": facts,
        "pictures": pictures[: len(names)],
        "cost": "train_seconds",
    }


@dataclass(frozen=True)
class _Plan:
    """What all cells of a bench share; the meanings are those of `bench`."""

    sequence: TaskSequence
    network: Backbone
    image_size: int
    training: dict[str, Any]
    per_class: int | None
    per_class_test: int | None
    hyper: dict[str, Any]
    out: Path
    progress: bool

    def file(self, name: str, seed: int, order: int, hyper: dict[str, Any]) -> Path:
        """Where a finished cell is kept: known by the values of all hyper-parameters, defaults included."""
        method, preset = named(name)
        config = asdict(method.configure({**preset, **hyper}))
        own = [self.network.sha, self.image_size, self.training, config, self.per_class, self.per_class_test]
        key = digest_of([*own, [t.digest() for t in self.sequence.tasks]])
        return self.out / "cells" / f"{name}-seed{seed}-order{order}-{key[:12]}.json"


def _cell(plan: _Plan, name: str, seed: int, order: int) -> dict[str, Any]:
    """One method, seed and order, from the folder of finished cells where it is there."""
    hyper = plan.hyper if named(name)[0] is METHODS["mulki"] else {}
    file = plan.file(name, seed, order, hyper)
    if file.is_file():
        found: dict[str, Any] = read_json(file)
        return found
    sequence = thinned(reordered(plan.sequence, order), plan.per_class, plan.per_class_test, seed)
    learner = ContinualLearner(name, plan.network, hyper=hyper, image_size=plan.image_size, seed=seed)
    updates = fit_sequence(learner, sequence, None, None, plan.progress, plan.training, repeat=True)
    spent = {f"{k}_seconds": sum(u.seconds.get(k, 0.0) for u in updates) for k in ("train", "prepare")}
    row = {"method": name, "seed": seed, "group": f"order {order}", **scores(learner, sequence.scenario)}
    cell = {"row": row | spent, "matrix": learner.matrix}
    write_json(file, cell)
    return cell
