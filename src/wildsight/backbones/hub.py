"""Checkpoints by name: nano ones of this package, local folders, and repositories of the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wildsight.errors import ConfigError, UnsupportedModelError
from wildsight.files import read_json, verify_manifest

NANO = Path(__file__).parent / "nano"
FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What is fetched of a repository; without safetensors in it, `BIN`, too."""
BIN = "pytorch_model*.bin"


def nano_names() -> list[str]:
    """Names of the nano checkpoints in this package."""
    return sorted(p.name for p in NANO.glob("nano-*") if p.is_dir()) if NANO.is_dir() else []


def nano_folder(name: str) -> Path:
    """The folder of a nano checkpoint in this package, every file of it checked by its hash.

    It opens with `transformers` like any other: ``CLIPModel.from_pretrained(nano_folder("nano-clip"))``.

    Raises:
        ConfigError: nothing of that name.
        CheckpointError: a file that is missing or damaged.
    """
    if name not in nano_names():
        raise ConfigError(f"no nano checkpoint is called {name!r}", hint=choices())
    verify_manifest(NANO / name)
    return NANO / name


def choices() -> str:
    """A hint: what can be named."""
    return " or ".join(["name a local folder", *nano_names()])


def checkpoint_folder(name: str, *, revision: str | None = None, subfolder: str = "", hint: str = "") -> Path:
    """The local folder of a checkpoint, fetched from the hub where it is not here.

    Args:
        name: ``nano-*``, a local folder, or a hub id.
        revision: branch, tag or commit of a repository.
        subfolder: where in the folder or repository it is.
        hint: what to name instead; default every nano checkpoint.

    Raises:
        ConfigError: nothing of that name, or it cannot be fetched.
        CheckpointError: a nano checkpoint that is damaged.
    """
    if name.startswith("nano-"):
        return nano_folder(name)
    folder = Path(name)
    if not folder.is_dir():
        folder = _fetched(name, revision, subfolder, hint or choices())
    if subfolder and not (folder / subfolder).is_dir():
        raise ConfigError(f"has no subfolder {subfolder!r}", where=name, hint="check subfolder=")
    return folder / subfolder


def weight_files(folder: Path) -> list[Path]:
    """The weights of a checkpoint, in order: safetensors, or else ``pytorch_model*.bin``."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob(BIN))


def _fetched(name: str, revision: str | None, subfolder: str, hint: str) -> Path:
    from huggingface_hub import snapshot_download

    place = f"{subfolder.strip('/')}/" if subfolder else ""
    options: dict[str, Any] = {"revision": revision, "ignore_patterns": None if place else ["*/*"]}
    try:
        folder = Path(snapshot_download(name, allow_patterns=[place + p for p in FILES], **options))
        if not list((folder / place).glob("*.safetensors")):
            snapshot_download(name, allow_patterns=[place + BIN], **options)
    except Exception as error:
        raise ConfigError(_fetch_fault(name, revision, error), hint=_fetch_hint(error) or hint) from error
    return folder


def _fetch_fault(name: str, revision: str | None, error: Exception) -> str:
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return f"{name!r} is gated, and this account has no access to it"
    if kind == "RevisionNotFoundError":
        return f"{name!r} has no revision {revision!r}"
    return f"no model is called {name!r} here, and it could not be fetched ({kind})"


def _fetch_hint(error: Exception) -> str:
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return "accept its terms on its page on the hub, then set HF_TOKEN or run `hf auth login`"
    return "check revision=" if kind == "RevisionNotFoundError" else ""


def refuse_code(folder: Path) -> None:
    """Refuse a checkpoint that cannot be built without code of its own repository, which is never run.

    Raises:
        UnsupportedModelError: it is one.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if config.get("auto_map") and config.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise UnsupportedModelError(
            "needs code of its own repository, which is never run",
            where=folder,
            hint="use a model that the installed transformers has itself",
        )


def reason(error: Exception) -> str:
    """The first line of an error, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the loading report and progress bars of `transformers`, then restores them."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
