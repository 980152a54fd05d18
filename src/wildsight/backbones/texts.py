"""Texts as the text towers of CLIP and SigLIP were trained to read them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wildsight.backbones.hub import quiet, reason
from wildsight.errors import UnsupportedModelError

_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
_PACKAGES = ("sentencepiece", "protobuf", "tiktoken")


def has_tokenizer(folder: Path | None) -> bool:
    """A tokenizer's files are there; `transformers` would make up an empty one where there are none."""
    return folder is not None and any((folder / name).is_file() for name in _FILES)


def read_tokenizer(folder: Path | None, name: str) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        UnsupportedModelError: it has none, it is damaged, or it needs a package that is not installed.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if folder is None or not has_tokenizer(folder):
        raise UnsupportedModelError("has no tokenizer", where=folder or name, hint="add its tokenizer.json")
    try:
        with quiet():
            try:
                return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            except ImportError:
                if not (folder / "tokenizer.json").is_file():
                    raise
                return PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        package = next((p for p in _PACKAGES if p in str(error).lower()), None)
        hint = f"pip install {package}, or add its tokenizer.json" if package else "restore tokenizer.json"
        what = f"its tokenizer cannot be read ({reason(error)})"
        raise UnsupportedModelError(what, where=folder, hint=hint) from error


def text_inputs(model: nn.Module, tokenizer: Any, texts: Sequence[str]) -> dict[str, Tensor]:
    """Keyword arguments of ``get_text_features``.

    Texts are padded to the tower's length. SigLIP's (the models with a ``logit_bias``) are in lower case and
    go without a mask, as in their training.
    """
    config: Any = model.config
    sigmoid = hasattr(model, "logit_bias")
    tokens = tokenizer(
        [t.lower() for t in texts] if sigmoid else list(texts),
        padding="max_length",
        truncation=True,
        max_length=config.text_config.max_position_embeddings,
        return_tensors="pt",
    )
    features: Any = model.get_text_features
    names = set(inspect.signature(features).parameters) - ({"attention_mask"} if sigmoid else set())
    return {k: v for k, v in tokens.items() if k in names}
