"""Experiment trackers, through `accelerate`: a run's curves in TensorBoard, Weights & Biases, MLflow, ..."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildsight.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "wildsight"
EVENTS = "events"
PACKAGES: dict[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
    "aim": ("aim",),
    "comet_ml": ("comet_ml",),
    "clearml": ("clearml",),
    "dvclive": ("dvclive",),
    "swanlab": ("swanlab",),
}
"""The trackers that `accelerate` knows, and the packages of which one is needed."""


def check_tracker(name: str) -> None:
    """Refuse a tracker that is unknown, or whose package is absent; loads neither.

    Raises:
        ConfigError: names what can be used, or what to install.
    """
    if name not in PACKAGES:
        raise ConfigError(f"no tracker is called {name!r}", hint=f"use one of {', '.join(PACKAGES)}")
    if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):
        raise ConfigError(
            f"the tracker {name!r} is not installed", hint=f"install it with: pip install {PACKAGES[name][0]}"
        )


def tracking_options(name: str | None, folder: Path | None) -> dict[str, Any]:
    """What `accelerate.Accelerator` takes for a tracker; one that writes files does so in ``folder``."""
    if name is None:
        return {}
    from accelerate.utils import ProjectConfiguration

    place = str((folder or Path("runs")) / EVENTS)
    return {"log_with": name, "project_config": ProjectConfiguration(logging_dir=place)}


@contextlib.contextmanager
def tracked(
    accelerator: Accelerator, name: str | None, facts: Mapping[str, Any], rows: Sequence[Mapping[str, float]]
) -> Iterator[None]:
    """A tracker for as long as a run lasts; nothing where ``name`` is None.

    Args:
        accelerator: made with `tracking_options`.
        name: of the tracker.
        facts: the run's settings.
        rows: epochs that an earlier process did; the tracker shows them too.

    Raises:
        ConfigError: the tracker does not start.
    """
    if name is None:
        yield
        return
    if not accelerator.log_with:
        raise ConfigError(
            f"accelerate cannot use the tracker {name!r} as it is installed here", hint="install it again"
        )
    try:
        accelerator.init_trackers(PROJECT, config={key: _plain(value) for key, value in facts.items()})
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"the tracker {name!r} does not start ({reason})",
            hint="see its documentation, or leave the tracker out",
        ) from error
    try:
        for row in rows:
            log_epoch(accelerator, row)
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def log_epoch(accelerator: Accelerator, row: Mapping[str, float]) -> None:
    """Give one epoch's row to the run's trackers, if there are any."""
    accelerator.log({key: value for key, value in row.items() if key != "epoch"}, step=int(row["epoch"]))


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
