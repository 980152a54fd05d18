"""What the builders of data sets share: ranges, and many pictures at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wildsight.world.ranges import whole
from wildsight.world.render import check_size, render
from wildsight.world.scene import Scene

Pictures: TypeAlias = npt.NDArray[np.uint8]
Names: TypeAlias = tuple[str, ...]


def check(size: int, seed: int, **counts: int) -> None:
    """Raise a `ConfigError` unless the size is 32 to 1024, the seed 0 to 10**7 and every count 1 to 10**7."""
    check_size(size, 32)
    whole(seed, "seed", 0, 10**7)
    for name, value in counts.items():
        whole(value, name, 1, 10**7)


def pictures(scenes: Sequence[Scene], size: int) -> Pictures:
    """RGB pictures [N, size, size, 3] of scenes."""
    return np.stack([render(scene, size).rgb for scene in scenes])
