"""What minutes on a CPU can teach: the rooms and the recipe of the bench, the tour and the page; no torch."""

from __future__ import annotations

from typing import Any

MOST, SCALES = 2, (1.5, 2.2)  # things in a picture, and their sizes in multiples of a shape's own
POOL, WIDTH = 2, 32  # blocks of visual tokens; width of the attention to local features
EPOCHS, BATCH, LR = 10, 32, 1e-3
STRIDES = (8,)  # of the fine map

ROOMS: dict[str, Any] = {"most": MOST, "scales": SCALES, "all_named": True}
HYPER: dict[str, Any] = {"pool": POOL, "d": WIDTH, "tune": "full"}
RECIPE: dict[str, Any] = {"batch_size": BATCH, "lr": LR}
