"""HDA-OE and its peers on one source: the same cached features, the same budget, several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from wildsight.composition.data import PairData, read_source
from wildsight.composition.estimator import CompositionRecognizer
from wildsight.composition.features import Templates, TextSide
from wildsight.composition.methods import ABLATIONS
from wildsight.errors import UnsupportedModelError
from wildsight.estimators.bench import Bench
from wildsight.estimators.registry import Variant

WITH_ABLATIONS = "ablations"


class CompositionBench(Bench):
    """Methods that need a text tower are left out, and named as such, where the backbone has none.

    ``ablations`` among the methods stands for all of `ABLATIONS`.
    """

    estimator = CompositionRecognizer
    table = ("hdaoe", "troika", "csp", "compcos", "product", "zeroshot")
    metrics: ClassVar[tuple[str, ...]] = (
        "auc",
        "hm",
        "best_seen",
        "best_unseen",
        "hm_calibrated",
        "top1",
        "attribute",
        "object",
        "field_auc",
    )

    def __init__(
        self,
        source: Any,
        *,
        out: Path,
        backbone: Any = None,
        methods: Sequence[str] | None = None,
        device: str | int | None = "auto",
        **options: Any,
    ) -> None:
        named = [n for m in methods or self.table for n in (ABLATIONS if m == WITH_ABLATIONS else [m])]
        names = list(dict.fromkeys(named))
        needs_text = {name: self.variant(name).method.needs_text for name in names}
        network = CompositionRecognizer(backbone=backbone, device=device).backbone
        self.data: PairData = source if isinstance(source, PairData) else read_source(source)
        self.knows_words = network.has_text and TextSide(network, Templates()).tells_apart(
            self.data.attributes, self.data.objects
        )
        self.absent = [name for name in names if needs_text[name] and not self.knows_words]
        left = [name for name in names if name not in self.absent]
        if not left:
            what = f"{', '.join(names)} need a text tower that knows the words of {self.data.name}"
            raise UnsupportedModelError(what, where=network.name, hint="use CLIP, or method hdaoe")
        super().__init__(source, out=out, backbone=network, methods=left, device=device, **options)

    def read(self, source: Any) -> Any:
        """The data, which were read to see whether the text tower knows their words."""
        return self.data

    def made(self, chosen: Variant[Any], seed: int, backbone: Any, device: Any) -> Any:
        """The estimator of one cell, with the recipe for these words."""
        return super().made(chosen, seed, backbone, device).adapt(self.data)

    def facts(self, data: Any) -> dict[str, Any]:
        """What the text tower knows, and how epoch and bias are chosen."""
        return {
            "text tower that knows the words": self.knows_words,
            "left out, for want of a text tower that knows the words": ", ".join(self.absent) or "none",
            "selection": "last epoch; the bias from validation or held-out pairs; nothing on test pictures",
            "score scale": "sums of cosines (hdaoe, compcos, csp, zeroshot), log-probabilities (product)",
        }
