"""The bench: finished cells are read again, and codes stand beside the real values."""

from __future__ import annotations

from pathlib import Path

import pytest

from wildsight.retrieval.bench import RetrievalBench


@pytest.mark.slow
def test_codes_stand_beside_the_real_values_and_cells_are_kept(tmp_path: Path) -> None:
    options = {"out": tmp_path, "backbone": "nano-conv", "methods": ("zero-shot",), "seeds": 1}
    result = RetrievalBench("world", image_size=32, bits=16, progress=False, **options).run()
    assert [row["group"] for row in result.rows] == ["unseen", "unseen, 16 bits"]
    real, coded = (row["map_all"] for row in result.rows)
    assert 0 < coded != real
    assert len(list((tmp_path / "cells").iterdir())) == 1
    again = RetrievalBench("world", image_size=32, bits=16, progress=False, **options).run()
    assert again.rows == result.rows
