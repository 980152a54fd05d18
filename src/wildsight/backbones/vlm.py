"""A multimodal LLM with its processor, by nano name, local folder or hub id; and what prunes its pictures.

Pictures need no video processor: where one wants a package that is not installed, the processor is put
together without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol

import torch
from PIL.Image import Image

from wildsight.backbones.hub import checkpoint_folder, quiet, reason, refuse_code, weight_files
from wildsight.devices import precision_for, resolve_device
from wildsight.errors import CheckpointError, ConfigError, UnsupportedModelError
from wildsight.files import digest_of, read_json, sha256

DEFAULT = "nano-llava"
IMAGE = "<image>"
TEMPLATE = "USER: <image>\n{question} ASSISTANT:"
"""A prompt about one picture, for processors without a chat template."""
_NAMES_PROCESSOR = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be asked.

    Attributes:
        model: in evaluation mode, without gradient.
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
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def image_size(self) -> int | None:
        """Side of the tower's input, where it is fixed."""
        size = getattr(self.model.config.vision_config, "image_size", None)
        return size if isinstance(size, int) else None

    def prompt(self, question: str) -> str:
        """The text that asks ``question`` about one picture."""
        prompt = chat_prompt(self.processor, question)
        return self.template.format(question=question) if prompt is None else prompt

    def inputs(self, images: Sequence[Image], questions: Sequence[str]) -> dict[str, Any]:
        """Keyword arguments of ``generate``: one picture and one question a row, padded on the left."""
        texts = [self.prompt(q) for q in questions]
        batch = self.processor(images=[[i] for i in images], text=texts, padding=True, return_tensors="pt")
        known = inspect.signature(self.model.forward).parameters
        dropped = {"labels"} if "token_type_ids" in known else {"labels", "token_type_ids"}
        return {k: _placed(v, self.model) for k, v in batch.items() if k not in dropped}

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


def load_model(
    name: str | Path = DEFAULT,
    *,
    device: str | int | torch.device | None = "auto",
    precision: str = "auto",
    revision: str | None = None,
    subfolder: str = "",
) -> LoadedModel:
    """A multimodal model of `transformers` with its processor.

    Args:
        name: ``nano-llava``, a local folder, or a hub id.
        device: where it runs; see `wildsight.devices.resolve_device`.
        precision: of its weights, ``fp32``, ``bf16``, ``fp16`` or ``auto``; see
            `wildsight.devices.precision_for`.
        revision: branch, tag or commit of a repository.
        subfolder: where in the folder or repository it is.

    Raises:
        CheckpointError: weights missing or damaged, or no processor beside them.
        ConfigError: nothing of that name, an unknown precision or device, or a package that this model needs.
        UnsupportedModelError: a checkpoint of another kind, or one that needs code of its own.
    """
    place = resolve_device(device)
    dtype = precision_for(place, precision)
    hint = f"name a local folder, or {DEFAULT}"
    folder = checkpoint_folder(str(name), revision=revision, subfolder=subfolder, hint=hint)
    refuse_code(folder)
    model = _read_model(folder, dtype)
    processor = read_processor(folder)
    if not hasattr(processor, "image_processor") or getattr(processor, "tokenizer", None) is None:
        raise CheckpointError(
            "has no processor of pictures and texts", where=folder, hint="restore its files"
        )
    processor.tokenizer.padding_side = "left"
    model = model.eval().requires_grad_(False).to(place)
    return LoadedModel(model, processor, str(name), _sha(folder))


def _read_model(folder: Path, dtype: torch.dtype) -> Any:
    """The model, refused if any weight would be random."""
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            _refuse_kind(config, config.__class__ in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, folder)
            model, report = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, trust_remote_code=False, weights_only=True, output_loading_info=True
            )
    except UnsupportedModelError:
        raise
    except ImportError as error:
        raise _missing_package(error, folder) from error
    except Exception as error:  # a damaged file has an error of its own in every library
        raise CheckpointError(
            f"cannot be loaded ({reason(error)})", where=folder, hint="name a multimodal checkpoint"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        what = f"{len(missing)} weights are missing, {missing[0]} among them"
        raise CheckpointError(what, where=folder, hint="restore the files")
    return model


def _refuse_kind(config: Any, known: bool, folder: Path) -> None:
    """Refuse what answers no questions about pictures, and encoder-decoders."""
    kind = (getattr(config, "architectures", None) or [config.model_type])[0]
    if getattr(config, "is_encoder_decoder", False):
        what = f"is a {kind}, an encoder-decoder, and these are not supported"
        raise UnsupportedModelError(what, where=folder, hint="name a decoder-only multimodal model")
    if not known:
        what = f"is a {kind}, which answers no questions about pictures"
        raise UnsupportedModelError(what, where=folder, hint=f"name a multimodal LLM, such as {DEFAULT}")


def _missing_package(error: ImportError, folder: Path) -> ConfigError:
    named = re.search(r"(torchvision)|[Pp]ackage `([\w-]+)`", str(error).replace("Torch", "torch"))
    if named:
        name = named[1] or named[2]
        return ConfigError(f"needs {name}", where=folder, hint=f"pip install {name}")
    what = f"needs a package that is not installed ({reason(error)})"
    return ConfigError(what, where=folder, hint="install it with pip")


def _sha(folder: Path) -> str:
    return digest_of({f.name: sha256(f) for f in sorted([*weight_files(folder), folder / "config.json"])})


# -- processors ----------------------------------------------------------------------------------------------


def read_processor(folder: Path) -> Any:
    """The processor of a checkpoint folder, without its part for videos where that cannot be had here.

    Raises:
        CheckpointError: it is missing or damaged.
        ConfigError: a package that pictures or texts need is not installed.
    """
    from transformers import AutoProcessor

    try:
        with quiet():
            try:
                return AutoProcessor.from_pretrained(folder, trust_remote_code=False)
            except (ImportError, ValueError) as error:
                if "torchvision" not in str(error).lower():
                    raise
                kind = _for_pictures(_processor_class(folder))
                return kind.from_pretrained(folder, trust_remote_code=False)
    except ImportError as error:
        raise _missing_package(error, folder) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"its processor cannot be read ({reason(error)})", where=folder, hint="restore its files"
        ) from error


def _processor_class(folder: Path) -> Any:
    """The class that a folder's files name, or that its model's configuration goes with."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import model_type_to_module_name
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    files = [read_json(folder / f) for f in _NAMES_PROCESSOR if (folder / f).is_file()]
    name = next((str(f["processor_class"]) for f in files if f.get("processor_class")), None)
    if name is None:
        name = PROCESSOR_MAPPING_NAMES.get(
            AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
        )
    for family in (f for f, known in PROCESSOR_MAPPING_NAMES.items() if known == name):
        module = f"transformers.models.{(part := model_type_to_module_name(family))}.processing_{part}"
        if importlib.util.find_spec(module) is not None:  # transformers.NAME refuses without torchvision
            return getattr(importlib.import_module(module), str(name))
    raise ValueError(f"{name} is no processor of this transformers")


def _for_pictures(kind: Any) -> Any:
    """A processor class like ``kind`` that has no part for videos."""
    parts = [part for part in kind.get_attributes() if "video" not in part]
    begin = kind.__init__
    code, defaults = begin.__code__, begin.__defaults__ or ()
    names = code.co_varnames[1 : code.co_argcount]
    if "video_processor" in names:  # the signature itself is read by transformers, so it must stay
        lacking = len(names) - names.index("video_processor") - len(defaults)
        defaults = (None,) * lacking + defaults
    begin = FunctionType(code, begin.__globals__, begin.__name__, defaults, begin.__closure__)
    body = {
        "get_attributes": classmethod(lambda _: list(parts)), "__module__": kind.__module__, "__init__": begin
    }  # fmt: skip
    return type(kind.__name__, (kind,), body)


def chat_prompt(processor: Any, question: str) -> str | None:
    """The text that asks about one picture by the processor's chat template; None without one."""
    if not getattr(processor, "chat_template", None):
        return None
    content = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    from transformers import ProcessorMixin

    # What a class adds to the template of all is about videos, and asks for a video processor.
    kind = type(processor) if hasattr(processor, "video_processor") else ProcessorMixin
    return str(kind.apply_chat_template(processor, messages, add_generation_prompt=True, tokenize=False))


def prompt_template(processor: Any) -> str:
    """The processor's own form of a prompt about one picture, with ``<image>`` and ``{question}``."""
    prompt = chat_prompt(processor, "QUESTION")
    if prompt is None:
        return TEMPLATE
    text = prompt.replace(getattr(processor, "image_token", None) or IMAGE, IMAGE)
    text = text.replace("{", "{{").replace("}", "}}").replace("QUESTION", "{question}")
    return text if IMAGE in text and "{question}" in text else TEMPLATE


# -- pruning -------------------------------------------------------------------------------------------------


class VisualPruner(Protocol):
    """What shortens the pictures of a model for as long as it is active."""

    @property
    def positions(self) -> str:
        """``compact`` or ``original`` positions of the tokens that stay."""

    def prune(self, inputs: Mapping[str, Any]) -> Any:
        """A processor's inputs with fewer visual tokens.

        Returns:
            An object whose ``columns`` [B, T'] are the columns that the tokens had before, -1 for padding.
        """


_PRUNER = "_wildsight_pruner"


def active_pruner(model: Any) -> VisualPruner | None:
    """What prunes the pictures of ``model`` now, or None."""
    found: VisualPruner | None = vars(model).get(_PRUNER)
    return found


def activate_pruner(model: Any, pruner: VisualPruner) -> None:
    """Name what prunes the pictures of ``model`` from now on.

    Raises:
        ConfigError: another one does.
    """
    if active_pruner(model) not in (None, pruner):
        raise ConfigError(f"{type(model).__name__} is pruned already", hint="remove that first")
    vars(model)[_PRUNER] = pruner


def release_pruner(model: Any, pruner: VisualPruner) -> None:
    """Forget ``pruner``, where it is the one of ``model``."""
    if active_pruner(model) is pruner:
        del vars(model)[_PRUNER]
