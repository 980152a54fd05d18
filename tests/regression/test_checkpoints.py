"""Checkpoints of the first release are read, say what they said and score what they scored.

They are on disk as that release wrote them: their settings name a "room" where later ones name a "task".

Tolerance: measured with the kernels of torch, oneDNN and MKL held to SSE, AVX2 and AVX-512, predictions move
by 1e-6 at most, and no verdict moves; 1e-5 relative and 5e-6 absolute allow for another processor.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from regression.comparing import Close, check_same
from regression.make import plain
from regression.witness import HERE, WITNESSES, at_home, rows_of, source

SAME = Close(1e-5, 5e-6)
SCORED = Close(1e-4, 1e-6)


@pytest.mark.parametrize("task", WITNESSES)
def test_an_old_checkpoint_says_what_it_said(task: str) -> None:
    with at_home():
        found = WITNESSES[task].predict(WITNESSES[task].load(HERE / "checkpoints" / task))
    kept = dict(np.load(HERE / "stored" / f"{task}.npz"))
    check_same({n: v.tolist() for n, v in kept.items()}, {n: v.tolist() for n, v in found.items()}, SAME)


@pytest.mark.parametrize("task", WITNESSES)
def test_an_old_checkpoint_scores_what_it_scored(task: str) -> None:
    with at_home():
        found = rows_of(WITNESSES[task].load(HERE / "checkpoints" / task).evaluate(source(task)))
    check_same(json.loads((HERE / "stored" / f"{task}-rows.json").read_text()), plain(found), SCORED)


def test_they_are_as_the_first_release_wrote_them() -> None:
    for task in WITNESSES:
        configs = [json.loads(f.read_text()) for f in (HERE / "checkpoints" / task).glob("*config.json")]
        assert [c["room"] for c in configs] == [task]
