"""Fixtures: the shared real data where it is there, one thread, a cache that is thrown away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WILDSIGHT_DEVICE", "cpu")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # its handlers of forks crash now and then


@pytest.fixture(scope="session", autouse=True)
def _quiet_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["WILDSIGHT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository; skips where it is absent."""
    named = os.environ.get("WILDSIGHT_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the shared real data is not on this machine")
    return folder
