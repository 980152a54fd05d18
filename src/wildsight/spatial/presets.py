"""What minutes on a CPU can learn: pictures and recipe of the figures, the tour and the page; no torch."""

from __future__ import annotations

from typing import Any

SCENES: dict[str, Any] = {"most": 2, "scales": (1.5, 2.2), "all_named": True}
"""Of the world: things in a picture, their sizes in multiples of a shape's own, and who is asked for."""
HYPER: dict[str, Any] = {"pool": 2, "d": 32, "tune": "full"}
"""Blocks of visual tokens, width of the attention to local features; the whole language model trains."""
EPOCHS = 10
RECIPE: dict[str, Any] = {"batch_size": 32, "lr": 1e-3}
STRIDES = (8,)
"""Of the fine map."""
PRESETS: dict[str, dict[str, Any]] = {
    "minutes": {
        "backbone": "tiny",
        "train": 2000,
        "epochs": EPOCHS,
        "strides": STRIDES,
        **SCENES,
        **HYPER,
        **RECIPE,
    }
}
"""Options of the bench by name."""
