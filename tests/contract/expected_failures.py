"""What is known to fail: check -> object (or ``all``) -> why. Fix it, and take its line out.

A check with parameters is named with them, ``test_known_devices[auto]``, or without for all of them. Reasons
that begin with "meant" are no faults and stay.
"""

from __future__ import annotations

AS_CLIP = "meant: before its first task a learner is CLIP itself, which answers, scores and is saved"

EXPECTED: dict[str, dict[str, str]] = {
    "test_without_a_fit_evaluate_is_refused": {"continual": AS_CLIP},
    "test_what_is_not_fitted_is_not_saved": {"continual": AS_CLIP},
    "test_a_second_fit_is_as_the_first": {
        "continual": "meant: a learner goes on from what it learned, and a task is refused twice",
    },
}

COMPRESS: dict[str, str] = {}
"""Likewise for `compress`."""
