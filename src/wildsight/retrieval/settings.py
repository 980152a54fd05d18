"""The retriever's settings, apart from those of its method."""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.estimators.registry import SHARE, at_least, check_ranges
from wildsight.retrieval.features import SIZE


@dataclass(frozen=True)
class RetrieverSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: a name from `METHODS`.
        backbone: hub id, local folder or ``nano-*``.
        image_size: side of the square that pictures are resized to, pixels.
        width: width of the embedding.
        dropout: of the adapter, in [0, 1).
        bits: length of binary codes, a multiple of 8; 0 for real-valued embeddings.
        seed: of initialisation, batches and codes.
    """

    method: str = "quadruplet"
    backbone: str = "nano-clip"
    image_size: int = SIZE
    width: int = 128
    dropout: float = 0.2
    bits: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        multiple = (lambda v: v >= 0 and v % 8 == 0, "give a multiple of 8, or 0 for none")
        check_ranges(self, image_size=at_least(1), width=at_least(1), dropout=SHARE, bits=multiple)
