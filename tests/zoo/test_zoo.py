"""Every family through every task that claims it, and refused in a sentence by the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.zoo_table import PAGE, page
from wildsight.errors import WildSightError
from zoo import cycle
from zoo.declared import EXAMPLES, TASKS, WORKS, said
from zoo.models import FAMILIES, absent, loaded

CASES = [(family, task) for family in FAMILIES for task in TASKS]


@pytest.mark.parametrize(("family", "task"), CASES, ids=[f"{f}-{t}" for f, t in CASES])
def test_the_table_says_what_happens(family: str, task: str, tmp_path: Path) -> None:
    why = absent(family)
    if why is not None:
        pytest.skip(why)
    told = said(family, task)
    if told == WORKS:
        cycle.run(task, loaded(family), FAMILIES[family].side, tmp_path)
        return
    with pytest.raises(WildSightError, match=told) as refused:
        cycle.made(task, loaded(family), FAMILIES[family].side)
    assert "\n" not in str(refused.value)


def test_the_page_is_what_the_tests_declare() -> None:
    """Write it again with ``python -m tools.zoo_table``."""
    assert list(EXAMPLES) == list(FAMILIES)
    assert {name: family.example for name, family in FAMILIES.items()} == EXAMPLES
    assert PAGE.read_text(encoding="utf-8") == page(PAGE.read_text(encoding="utf-8"))
