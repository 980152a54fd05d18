"""LLMI3D, its ablations and its peers on one source: the same features, the same budget, several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from PIL.Image import Image

from wildsight.backbones import load_backbone
from wildsight.errors import ConfigError
from wildsight.estimators import resolve
from wildsight.estimators.bench import Bench
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.registry import Variant, unknown_name
from wildsight.files import atomic_path, digest_of
from wildsight.spatial.data import world
from wildsight.spatial.drawing import side_by_side
from wildsight.spatial.estimator import SpatialGrounder
from wildsight.spatial.inputs import Seen
from wildsight.spatial.mllm import Mllm
from wildsight.spatial.presets import HYPER, PRESETS

METRICS = (
    "acc@0.25", "acc@0.5", "iou", "ap_asked", "depth_error", "centre_error", "size_error", "yaw_error",
    "refusal", "within_spread", "fit_seconds",
)  # fmt: skip
WORLD = "world"
TINY = "tiny"
EXAMPLES = "examples.png"
"""The first seed's questions at 10, 50 and 90 % of the order from worst to best."""
COMPRESSED = "llmi3d"
"""The method that is also asked with fewer visual tokens."""
DRAWN = {"train": "train", "test": "test", "image_size": "size", "most": "most", "scales": "scales"}
"""Options of the bench, and what the world calls them."""


def tiny_llava(tower: str = "nano-clip", width: int = 96, layers: int = 2, seed: int = 0) -> Mllm:
    """A LLaVA that knows nothing yet: the frozen tower of a CLIP, a small fresh Llama, the world's words.

    Args:
        tower: nano-clip, by name or folder.
        width: of the Llama.
        layers: of the Llama.
        seed: of its weights.
    """
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from wildsight.world.tokens import tokenizer

    clip, words = load_backbone(tower), tokenizer(closing=False)
    text = {
        "model_type": "llama", "vocab_size": len(words), "hidden_size": width, "intermediate_size": 3 * width,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 512, "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
    }  # fmt: skip
    torch.manual_seed(seed)
    vision = clip.model.config.vision_config.to_dict()
    image = words.convert_tokens_to_ids("<image>")
    settings = LlavaConfig(vision_config=vision, text_config=text, image_token_id=image)
    model = LlavaForConditionalGeneration(settings)
    model.model.vision_tower.load_state_dict(clip.model.vision_model.state_dict())
    sha = digest_of([clip.sha, width, layers, seed])
    return Mllm(
        model.eval().requires_grad_(False), words, TINY, sha, clip.mean, clip.std, "<image> {question}"
    )


class SpatialBench(Bench):
    """All methods see the same frozen features, made once per picture.

    A group of ``world`` is a factor of the training focal lengths. `COMPRESSED` is asked again with fewer
    visual tokens, chosen by `wildsight.compress`, without being trained for that. Three of its answers are
    left in ``examples.png``.

    Args:
        source: as in the base.
        backbone: as in the base; or ``tiny``: a fresh LLaVA of two layers on nano-clip's tower for each seed,
            to train whole (``tune=full``).
        preset: a name from `PRESETS`: ``minutes`` is what minutes on a CPU can learn, and how the figures of
            this project were measured; options that are given win.
        options: as in the base; of ``world`` alone ``train`` and ``test`` (pictures; of the test for each
            factor), ``most`` (things in a picture), ``scales`` (range of their sizes), ``image_size`` and
            ``all_named`` (ask for every thing of a shape of its own); and ``tokens``, the shares of the
            visual tokens that are kept in the further questions.
    """

    estimator = SpatialGrounder
    metrics = METRICS
    own: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(DRAWN),
        "all_named": None,
        "tokens": (0.5, 0.25),
    }
    choosing = frozenset({*DRAWN, "all_named"})

    def __init__(
        self, source: Any, *, out: Path, backbone: Any = None, preset: str | None = None, **options: Any
    ) -> None:
        if preset is not None:
            if preset not in PRESETS:
                raise unknown_name("preset", preset, PRESETS)
            options = {**self._fitting(PRESETS[preset], options.get("methods")), **options}
        backbone = options.pop("backbone", None) if backbone is None else backbone
        self.store: dict[str, Seen] = {}
        self.tiny: dict[int, Mllm] = {}
        self.cnn: Any = None
        self.text = ""
        super().__init__(source, out=out, backbone=backbone, **options)
        self.cnn = self.first.eyes.cnn
        given = {name: value for name, value in self.own_options.items() if value is not None}
        self.own_options = {**given, "cnn SHA-256": self.cnn.sha}

    def _fitting(self, preset: dict[str, Any], methods: Any) -> dict[str, Any]:
        """A preset without the hyper-parameters that none of the methods has."""
        kinds = [self.variant(name).method for name in methods or tuple(self.estimator.methods)]
        known = {name for kind in kinds for name in kind.names()}
        return {name: value for name, value in preset.items() if name not in HYPER or name in known}

    def read(self, source: Any) -> Any:
        """The data; the world as the options have it."""
        own = self.own_options
        given = {to: own[name] for name, to in DRAWN.items() if own[name] is not None}
        if own["all_named"] is not None:
            given["all_named"] = own["all_named"]
        if source != WORLD or not given:
            return super().read(source)
        if "scales" in given:
            given["scales"] = _pair(given["scales"])
        return world(**given)

    def made(self, chosen: Variant[Any], seed: int, backbone: Any, device: Any) -> Any:
        """As in the base; of the fresh model another one for each seed."""
        if backbone == TINY or getattr(backbone, "name", None) == TINY:
            if seed not in self.tiny:
                self.tiny[seed] = tiny_llava(seed=seed)
            backbone = self.tiny[seed]
        return super().made(chosen, seed, backbone, device)

    def settings_of(self, chosen: Variant[Any]) -> dict[str, Any]:
        """As in the base; frozen features and the network of the fine map are shared."""
        shared = {} if self.cnn is None else {"cnn": self.cnn}
        return {**self.options.settings, **shared, "store": self.store}

    def _cell(self, estimator: Any, chosen: Variant[Any], label: str, data: Any, file: Path) -> None:
        self.text = chosen.text
        estimator.eyes.prepare(data.samples)  # outside the times
        super()._cell(estimator, chosen, label, data, file)

    def rows(self, estimator: Any, evaluation: Evaluation, data: Any) -> list[dict[str, Any]]:
        """A row per group, and again with fewer visual tokens."""
        found = super().rows(estimator, evaluation, data)
        if estimator.settings.method == COMPRESSED:
            compress = resolve("wildsight.compression:compress")
            for share in self.own_options["tokens"]:
                with compress(estimator.backbone.model, visual_tokens=share, positions="original"):
                    fewer = super().rows(estimator, self.evaluate(estimator, data), data)
                name = f"{self.text}, {share:.0%} of tokens"
                found += [{"method": name, **row} for row in fewer]
        count = sum(p.numel() for p in estimator.net.parameters() if p.requires_grad)
        return [{**row, "parameters": count} for row in found]

    def shown(self, estimator: Any, evaluation: Any, data: Any) -> list[tuple[Any, str]]:
        """Questions at ranks, worst and best; the first three are also written beside the report."""
        ranked: list[tuple[Image, str]] = evaluation.at_ranks()
        if ranked:
            with atomic_path(self.out / EXAMPLES) as temporary:
                side_by_side([picture for picture, _ in ranked], 200).save(temporary, format="PNG")
        return [*ranked, *evaluation.pictures()]

    def facts(self, data: Any) -> dict[str, Any]:
        """The oracle, and how the epoch is selected."""
        return {
            "cube-head": "ORACLE: it is given the true 2D box",
            "selection": "last epoch; nothing is selected on test data",
        }


def _pair(values: Any) -> tuple[float, float]:
    """A range of sizes.

    Raises:
        ConfigError: something else.
    """
    try:
        low, high = (float(v) for v in values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"scales={values!r} is no range", hint="write scales=[1, 1.6]") from error
    return low, high
