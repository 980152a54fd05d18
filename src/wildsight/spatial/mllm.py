"""A LLaVA or Qwen-VL of `transformers` as the spatial methods use it: a frozen tower, a language model with
LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from wildsight.backbones.vlm import DEFAULT, IMAGE, TEMPLATE, load_model, prompt_template
from wildsight.errors import ConfigError, UnsupportedModelError
from wildsight.spatial import native

QUESTION = "where is {expression} ?"
TILED = "LlavaNextForConditionalGeneration"
KINDS = ("LlavaForConditionalGeneration", TILED, "VipLlavaForConditionalGeneration", *native.NATIVE)


@dataclass
class Mllm:
    """A model with its tokenizer and normalisation.

    Attributes:
        model: one of `KINDS`, frozen.
        tokenizer: of the language model.
        name: as it was asked for.
        sha: SHA-256 over configuration and weights.
        mean, std: of the tower's pixels, on the scale 0-1.
        template: of a prompt, with ``<image>`` and ``{question}``.
        words: words that the tokenizer lacks; their tokens follow the vocabulary.
        trained_by: the network that trains parts of it now.
        fixed_side: side of the picture, pixels, where the tower reads any size.
    """

    model: Any
    tokenizer: Any
    name: str
    sha: str
    mean: Sequence[float]
    std: Sequence[float]
    template: str = TEMPLATE
    words: list[str] = field(default_factory=list)
    trained_by: nn.Module | None = None
    fixed_side: int = 0
    _untrained: dict[str, Tensor] = field(default_factory=dict)

    @property
    def side(self) -> int:
        """Side of the tower's picture, pixels."""
        return self.fixed_side or int(self.model.config.vision_config.image_size)

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        if self.native:
            return self.side // native.unit(self.model)
        return self.side // int(self.model.config.vision_config.patch_size)

    @property
    def native(self) -> bool:
        """Whether the tower reads pictures of any size, see `wildsight.spatial.native`."""
        return type(self.model).__name__ in native.NATIVE

    @property
    def projector(self) -> nn.Module:
        """What makes tokens of the language model of those of the tower."""
        part: nn.Module = (
            self.model.model.visual.merger if self.native else self.model.model.multi_modal_projector
        )
        return part

    @property
    def tower_width(self) -> int:
        """Width of a visual token before the projector."""
        if self.native:
            return sum(native.widths(self.model))
        return int(self.model.config.vision_config.hidden_size) * len(self.layers)

    @property
    def layers(self) -> list[int]:
        """The tower's layers whose states are a visual token, side by side."""
        config = self.model.config
        layers = getattr(config, "vision_feature_layers", None) or config.vision_feature_layer
        return [layers] if isinstance(layers, int) else list(layers)

    @property
    def pinpoints(self) -> list[tuple[int, int]] | None:
        """Resolutions (height, width) of pictures in tiles; None: the model reads no tiles."""
        if type(self.model).__name__ != TILED:
            return None
        return [(int(h), int(w)) for h, w in self.model.config.image_grid_pinpoints]

    @property
    def width(self) -> int:
        """Width of the language model."""
        return int(self.model.config.text_config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.model.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        """Move the model; returns the same object."""
        self.model.to(device)
        return self

    def lend(self, network: nn.Module, *parts: nn.Module) -> None:
        """Let ``network`` train ``parts`` of the model in place; `restore` gives them their weights back."""
        self.trained_by = network
        ids = {id(p) for part in parts for p in part.parameters()}
        for name, weight in self.model.named_parameters():
            if id(weight) in ids:
                self._untrained.setdefault(name, weight.detach().cpu().clone())
                weight.requires_grad_(True)

    @torch.no_grad()
    def restore(self) -> None:
        """Make the model what it was before any fit: no LoRA, its own weights, no further words."""
        remove_lora(self.model.model.language_model)
        weights = dict(self.model.named_parameters())
        for name, weight in self._untrained.items():
            weights[name].copy_(weight)
        self.model.requires_grad_(False)
        self.words, self.trained_by = [], None
        self._untrained.clear()

    def pixels(self, images: Sequence[Image]) -> Tensor:
        """Square pictures of the tower's side as [B, 3, S, S], normalised."""
        stacked = torch.from_numpy(np.stack([np.asarray(i, np.float32) for i in images])).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (self.mean, self.std))
        dtype = next(self.projector.parameters()).dtype
        return ((stacked / 255.0 - mean) / std).to(self.device, dtype)

    @torch.no_grad()
    def see(self, pixels: Tensor) -> Tensor:
        """The tower's tokens [B, N, D] before the projector, class token left out."""
        if self.native:
            return native.see(self.model, pixels)
        states = self.model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        tokens = torch.cat([states[i] for i in self.layers], -1)
        extra = tokens.shape[1] - self.grid**2
        return tokens[:, extra:]

    def prompt(self, expression: str) -> tuple[list[int], list[int]]:
        """Tokens before and after the picture of the question where ``expression`` is."""
        text = self.template.format(question=QUESTION.format(expression=expression))
        before, _, after = text.partition(IMAGE)
        return self.ids(before, begin=True), self.ids(after)

    def ids(self, text: str, *, begin: bool = False) -> list[int]:
        """Tokens of a text; new words have numbers behind the vocabulary."""
        first = [self.tokenizer.bos_token_id] if begin and self.tokenizer.bos_token_id is not None else []
        if not self.words:
            return [*first, *self.tokenizer(text, add_special_tokens=False).input_ids]
        out = list(first)
        for piece in text.split():
            word = piece.lower()
            new = word in self.words
            own = self.tokenizer(piece, add_special_tokens=False).input_ids
            out += [self.vocabulary + self.words.index(word)] if new else own
        return out

    def answer(self, text: str) -> list[int]:
        """Tokens of an answer, then the end; words that the model cannot say are unknown ones."""
        unknown = self.tokenizer.unk_token_id
        ids = [unknown if i >= self.vocabulary else i for i in self.ids(text)]
        return [*ids, int(self.tokenizer.eos_token_id)]

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding table."""
        return int(self.model.get_input_embeddings().num_embeddings)

    def learn_words(self, texts: Sequence[str]) -> None:
        """Take in the words of ``texts`` that the tokenizer only knows as unknown."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return
        for word in sorted({w.lower() for t in texts for w in t.split()}):
            pieces = self.tokenizer(word, add_special_tokens=False).input_ids
            if pieces == [unknown] and word not in self.words:
                self.words.append(word)

    def unknown_words(self, text: str) -> list[str]:
        """Words of ``text`` that neither the tokenizer knows nor a fit has taken in."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return []
        return [w for w in text.split() if unknown in self.ids(w)]

    def text(self, ids: Sequence[int]) -> str:
        """Words of tokens, up to the end of the text."""
        end = self.tokenizer.eos_token_id
        kept = list(ids)[: list(ids).index(end)] if end in list(ids) else list(ids)
        known = [i for i in kept if i < self.vocabulary]
        return str(self.tokenizer.decode(known, skip_special_tokens=True)).strip()


def load_mllm(name: str | Path = DEFAULT, *, device: str | int | torch.device | None = "auto") -> Mllm:
    """A LLaVA or Qwen-VL with its tokenizer, frozen, in fp32: parts of it are trained.

    Args:
        name: ``nano-llava``, a local folder, or a hub id.
        device: where it runs; see `wildsight.devices.resolve_device`.

    Raises:
        ConfigError: nothing of that name, or no such device.
        CheckpointError: weights or tokenizer missing or damaged.
        UnsupportedModelError: a model of another family.
    """
    loaded = load_model(name, device=device, precision="fp32")
    check_family(loaded.model)
    pictures = loaded.processor.image_processor
    return Mllm(
        loaded.model, loaded.tokenizer, loaded.name, loaded.sha,
        list(pictures.image_mean), list(pictures.image_std), prompt_template(loaded.processor),
        fixed_side=native.picture_side(loaded.model, pictures)
        if type(loaded.model).__name__ in native.NATIVE else 0,
    )  # fmt: skip


def check_family(model: Any) -> None:
    """Refuse what is neither a LLaVA with a tower of fixed size nor a Qwen-VL.

    Raises:
        UnsupportedModelError: a model of another family, or a tower whose pictures have many sizes.
    """
    kind, hint = type(model).__name__, f"use one of {', '.join(KINDS)}"
    if kind not in KINDS:
        raise UnsupportedModelError(f"{kind} is not supported", hint=hint)
    if kind in native.NATIVE:
        return
    vision = model.config.vision_config
    if vision.model_type == "pixtral" or not isinstance(getattr(vision, "image_size", None), int):
        what = f"{kind} with a tower {vision.model_type} of no fixed size is not supported"
        raise UnsupportedModelError(what, hint=f"{hint} with a CLIP or SigLIP tower")


def add_lora(mllm: Mllm, rank: int, alpha: float, dropout: float, targets: Sequence[str]) -> int:
    """Put LoRA (through peft) beside the language model's projections ``targets``; returns its parameters.

    Raises:
        ConfigError: no layer of those names.
    """
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets))
    try:
        inject_adapter_in_model(settings, mllm.model.model.language_model)
    except ValueError as error:
        raise ConfigError(f"LoRA fits no layer ({error})", hint="name layers such as q_proj") from error
    weights = [p for n, p in mllm.model.model.language_model.named_parameters() if "lora_" in n]
    for weight in weights:
        weight.requires_grad_(True)
    return sum(w.numel() for w in weights)


def remove_lora(model: nn.Module) -> None:
    """Put the frozen layers back in place of those that `add_lora` wrapped."""
    from peft.tuners.lora import LoraLayer

    vars(model).pop("peft_config", None)
    wrapped = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)]
    for name, layer in wrapped:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.get_base_layer())
