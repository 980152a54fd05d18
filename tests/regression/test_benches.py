"""Each task's quick bench has the rows of the first release: methods, seeds, groups and metrics.

Tolerance, as measured: another kernel (see `test_checkpoints`) moves a metric by 5e-5 of itself at most,
those of fusion by 8e-3, as its four epochs amplify the last bits. A learning rate that is a tenth higher
moves some metric of every bench that trains by 1e-2 of itself and more, and one of each method of fusion by
4e-2.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regression.comparing import Close, check_same
from regression.make import plain
from regression.witness import BENCHES, HERE, at_home, bench_rows

CLOSE = {"fusion": Close(0.0, 2e-2)}
USUAL = Close(2e-4, 2e-5)
SLOW = ("anomaly", "continual", "fusion")
CASES = [pytest.param(t, marks=pytest.mark.slow) if t in SLOW else t for t in BENCHES]


@pytest.mark.parametrize("task", CASES)
def test_a_bench_has_the_rows_it_had(task: str, tmp_path: Path) -> None:
    with at_home():
        found = plain(bench_rows(task, tmp_path))
    check_same(
        json.loads((HERE / "stored" / f"{task}-bench.json").read_text()), found, CLOSE.get(task, USUAL)
    )
