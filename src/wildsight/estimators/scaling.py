"""Every verb of an estimator reads pictures by the white that the estimator was made with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from wildsight.images import scaled

SCALED = frozenset({"fit", "predict", "predict_files", "evaluate", "index", "search", "embed_files"})
"""Verbs that read pictures: they do so within the estimator's own ``full_scale``."""
P = ParamSpec("P")
T = TypeVar("T")


def scale_verbs(kind: type) -> None:
    """Wrap the verbs that a class defines itself."""
    own = vars(kind)
    for name in SCALED & own.keys():
        setattr(kind, name, scaled_verb(own[name]))
    if "iter_files" in own:
        kind.iter_files = _scaled_stream(own["iter_files"])  # type: ignore[attr-defined]


def scaled_verb(verb: Callable[P, T]) -> Callable[P, T]:
    """A verb that reads pictures by its estimator's ``full_scale``."""

    @functools.wraps(verb)
    def within(*given: P.args, **named: P.kwargs) -> T:
        with scaled(getattr(given[0], "full_scale", None)):
            return verb(*given, **named)

    return within


def _scaled_stream(verb: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """`scaled_verb` for a verb whose answers come one by one: between them nothing is declared."""

    @functools.wraps(verb)
    def within(*given: P.args, **named: P.kwargs) -> Iterator[T]:
        scale = getattr(given[0], "full_scale", None)
        with scaled(scale):
            answers = verb(*given, **named)
        return _each_scaled(answers, scale)

    return within


def _each_scaled(answers: Iterator[T], scale: float | None) -> Iterator[T]:
    while True:
        with scaled(scale):
            try:
                answer = next(answers)
            except StopIteration:
                return
        yield answer
