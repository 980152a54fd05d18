"""A multimodal model with its processor, by nano name, local folder or hub id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from wildsight.backbones.backbone import NANO
from wildsight.errors import CheckpointError, ConfigError
from wildsight.files import digest_of, sha256, verify_manifest

DEFAULT = "nano-llava"
TEMPLATE = "USER: <image>\n{question} ASSISTANT:"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be asked.

    Attributes:
        model: in evaluation mode.
        processor: of `transformers`; pads on the left.
        name: as it was asked for.
        sha: SHA-256 over configuration and weights.
        template: text of a prompt where the processor has no chat template.
    """

    model: Any
    processor: Any
    name: str
    sha: str
    template: str = TEMPLATE

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def image_size(self) -> int | None:
        """Side of the tower's input, where it is fixed."""
        size = getattr(self.model.config.vision_config, "image_size", None)
        return size if isinstance(size, int) else None

    def prompt(self, question: str) -> str:
        """The text that asks ``question`` about one picture."""
        if not getattr(self.processor, "chat_template", None):
            return self.template.format(question=question)
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return str(
            self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        )

    def inputs(self, images: Sequence[Image], questions: Sequence[str]) -> dict[str, Any]:
        """Keyword arguments of ``generate``: one picture and one question a row, padded on the left."""
        texts = [self.prompt(q) for q in questions]
        batch = self.processor(images=list(images), text=texts, padding=True, return_tensors="pt")
        names = ("token_type_ids",)
        return {k: _placed(v, self.model) for k, v in batch.items() if k not in names}

    def answer_ids(self, answer: str) -> list[int]:
        """Tokens of an answer, then the end of the text."""
        ids = self.tokenizer(answer, add_special_tokens=False).input_ids
        return [*ids, self.end]

    @property
    def end(self) -> int:
        """Id that ends an answer."""
        end = self.model.generation_config.eos_token_id
        end = end[0] if isinstance(end, list) else end
        return int(self.tokenizer.eos_token_id if end is None else end)

    def text(self, ids: Any) -> str:
        """An answer's text without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _placed(value: Any, model: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)


def load_model(name: str | Path = DEFAULT, *, device: str = "cpu", precision: str = "fp32") -> LoadedModel:
    """A multimodal model of `transformers` with its processor.

    Args:
        name: ``nano-llava``, a local folder, or a hub id.
        device: where it runs, as torch names it.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        CheckpointError: weights missing or damaged, or no processor beside them.
        ConfigError: nothing of that name, or an unknown precision or device.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if precision not in DTYPES:
        raise ConfigError(f"precision={precision!r} is unknown", hint=f"use one of {', '.join(DTYPES)}")
    folder = _folder(str(name))
    try:
        with _quiet():
            model = AutoModelForImageTextToText.from_pretrained(folder, dtype=DTYPES[precision])
            processor = AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"cannot be loaded ({_short(error)})", where=folder, hint="name a multimodal checkpoint"
        ) from error
    processor.tokenizer.padding_side = "left"
    try:
        model = model.eval().requires_grad_(False).to(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {device!r} cannot be used", hint="use cpu, or see doctor") from error
    return LoadedModel(model, processor, str(name), _sha(folder))


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar of the loader inside the block: standard error is for the user's mistakes."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__


def _folder(name: str) -> Path:
    if name.startswith("nano-"):
        if not (NANO / name).is_dir():
            raise ConfigError(f"no nano checkpoint is called {name!r}", hint=f"use {DEFAULT} or a folder")
        verify_manifest(NANO / name)
        return NANO / name
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja"]))
    except Exception as error:
        raise ConfigError(
            f"no model is called {name!r} here, and it could not be fetched ({type(error).__name__})",
            hint=f"name a local folder, or {DEFAULT}",
        ) from error


def _sha(folder: Path) -> str:
    files = sorted([*folder.glob("*.safetensors"), folder / "config.json"])
    return digest_of({f.name: sha256(f) for f in files if f.is_file()})
