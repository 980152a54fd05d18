"""What the peers share: the library whose losses they are."""

from __future__ import annotations

from types import SimpleNamespace

from wildsight.errors import needs


def metric_learning() -> SimpleNamespace:
    """``losses`` and ``distances`` of pytorch-metric-learning.

    Raises:
        ConfigError: it is not installed.
    """
    with needs("pytorch-metric-learning", "peers"):
        from pytorch_metric_learning import distances, losses
    return SimpleNamespace(losses=losses, distances=distances)
