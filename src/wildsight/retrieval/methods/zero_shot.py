"""The tower untouched: its own features, normalised. Nothing is trained, so that it answers without a fit."""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.retrieval.methods import METHODS, RetrievalMethod


@METHODS.register("zero-shot")
@dataclass(frozen=True, kw_only=True)
class ZeroShot(RetrievalMethod):
    """The features as they are; it has no hyper-parameters."""

    title = "the tower untouched"
