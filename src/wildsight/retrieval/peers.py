"""What the peers share: the library whose losses they are."""

from __future__ import annotations

from types import SimpleNamespace

from wildsight.errors import ConfigError


def metric_learning() -> SimpleNamespace:
    """``losses`` and ``distances`` of pytorch-metric-learning.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from pytorch_metric_learning import distances, losses
    except ImportError as error:
        raise ConfigError(
            "pytorch-metric-learning is not installed", hint="pip install 'wildsight[peers]'"
        ) from error
    return SimpleNamespace(losses=losses, distances=distances)
