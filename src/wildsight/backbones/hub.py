"""Checkpoints by name: nano ones of this package, local folders, and repositories of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wildsight.errors import CheckpointError, ConfigError, UnsupportedModelError
from wildsight.files import read_json, verify_manifest

NANO = Path(__file__).parent / "nano"
FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What is fetched of a repository; without safetensors in it, `BIN`, too."""
BIN = "pytorch_model*.bin"
_SPELLED = re.compile(r"((?:\w[\w.-]*/)?\w[\w.-]*)(?:@(refs/pr/\d+|[^/@]+))?(?:/([^@]+))?")
_LFS = b"version https://git-lfs"


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


def split_name(name: str) -> tuple[str, str | None, str]:
    """Repository, revision and subfolder that a name spells, as the hub's own paths do.

    >>> split_name("user/name@v1/towers/small")
    ('user/name', 'v1', 'towers/small')
    >>> split_name("user/name")
    ('user/name', None, '')
    """
    spelled = None if Path(name).exists() else _SPELLED.fullmatch(name)
    return (spelled[1], spelled[2], spelled[3] or "") if spelled else (name, None, "")


def full_name(name: str, revision: str | None, subfolder: str) -> str:
    """A name that says it all: ``user/name@revision/subfolder``, or a folder's path.

    Raises:
        ConfigError: a revision of what has none, or two that differ.
    """
    repo, named, place = split_name(name)
    if revision is not None and (Path(name).exists() or name.startswith("nano-")):
        raise ConfigError("a folder has no revisions", where=name, hint="leave out revision=")
    if None not in (revision, named) and revision != named:
        raise ConfigError(f"revision={revision!r}", where=name, hint="name one revision")
    chosen = revision or named
    places = [repo if chosen is None else f"{repo}@{chosen}", place, subfolder.strip("/")]
    return "/".join(filter(None, places))


def checkpoint_folder(name: str, *, revision: str | None = None, subfolder: str = "", hint: str = "") -> Path:
    """The local folder of a checkpoint, fetched from the hub where it is not here.

    Args:
        name: ``nano-*``, a local folder, or a hub id, also ``user/name@revision/subfolder``.
        revision: branch, tag or commit of a repository.
        subfolder: where in the folder or repository it is.
        hint: what to name instead; default every nano checkpoint.

    Raises:
        ConfigError: nothing of that name, or it cannot be fetched.
        CheckpointError: a nano checkpoint that is damaged, or weights that were not fetched whole.
    """
    full = full_name(name, revision, subfolder)
    if name.startswith("nano-") and not subfolder:
        return nano_folder(name)
    repo, chosen, place = split_name(full)
    if Path(name).is_dir():
        repo, place = name, subfolder
    folder = Path(repo) if Path(repo).is_dir() else _fetched(repo, chosen, place, hint or choices(), full)
    if place and not (folder / place).is_dir():
        raise ConfigError(f"has no subfolder {place!r}", where=repo, hint="check its name (subfolder=)")
    check_whole(folder / place)
    return folder / place


def check_whole(folder: Path) -> None:
    """Refuse weights of which a part is not here.

    Raises:
        CheckpointError: a file that an index names is missing, or git-lfs left its pointer in its place.
    """
    for index in sorted(folder.glob("*.index.json")):
        named = sorted(set(dict(read_json(index).get("weight_map") or {}).values()))
        gone = [file for file in named if not (folder / file).is_file()]
        if gone and not (folder / index.name.removesuffix(".index.json")).is_file():
            what = f"{len(gone)} of {len(named)} weight files were not fetched, {gone[0]} among them"
            raise CheckpointError(what, where=folder, hint="fetch it again")
    for file in weight_files(folder):
        with file.open("rb") as opened:
            if opened.read(len(_LFS)) == _LFS:
                what = "is git-lfs's pointer to the weights, not the weights"
                raise CheckpointError(what, where=file, hint="run `git lfs pull` in its folder")


def weight_files(folder: Path) -> list[Path]:
    """The weights of a checkpoint, in order: safetensors, or else ``pytorch_model*.bin``."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob(BIN))


def _fetched(repo: str, revision: str | None, subfolder: str, hint: str, name: str) -> Path:
    from huggingface_hub import snapshot_download

    place = f"{subfolder.strip('/')}/" if subfolder else ""
    options: dict[str, Any] = {"revision": revision, "ignore_patterns": None if place else ["*/*"]}
    try:
        folder = Path(snapshot_download(repo, allow_patterns=[place + p for p in FILES], **options))
        if not list((folder / place).glob("*.safetensors")):
            snapshot_download(repo, allow_patterns=[place + BIN], **options)
    except Exception as error:
        what, how = _fetch_fault(error, revision)
        raise ConfigError(f"{name!r} {what}", hint=how or hint) from error
    return folder


def _fetch_fault(error: Exception, revision: str | None) -> tuple[str, str]:
    """What went wrong, and what helps; an empty hint where only another name does."""
    kind = type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if kind == "GatedRepoError":
        hint = "accept its terms on its page on the hub, then set HF_TOKEN or run `hf auth login`"
        return "is gated, and this account has no access to it", hint
    if kind == "RevisionNotFoundError":
        return f"has no revision {revision!r}", "check the revision"
    if kind == "RepositoryNotFoundError":
        hint = "check its spelling; if it is private, set HF_TOKEN or run `hf auth login`"
        return "is no repository that this account can see", hint
    if status in (401, 403):
        return "could not be fetched: the token is refused", "set HF_TOKEN to a valid token, or to none"
    return f"is no model here, and it could not be fetched ({kind})", ""


def refuse_code(folder: Path) -> None:
    """Refuse a checkpoint that cannot be built without code of its own repository, which is never run.

    Raises:
        UnsupportedModelError: it is one.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if config.get("auto_map") and str(config.get("model_type")) not in CONFIG_MAPPING_NAMES:
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
