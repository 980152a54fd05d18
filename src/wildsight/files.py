"""Files that are whole or absent: atomic writes, hashes, checkpoints with a manifest, the cache folder.

Nothing here imports torch unless tensors are saved or loaded. There is no pickle anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildsight.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
CONFIG = "config.json"
MARK = ".wildsight"
"""The empty file that tells a folder of ours, which may be replaced, from anyone else's."""
RUN = "run.json"
"""What a run leaves in its folder when it begins: command, task, method and what it reads."""
NAME_BYTES = 150
"""Longest name that is written as it is: file systems allow 255 bytes, and endings and marks are added."""
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
REFUSED = (*_FULL, *_FORBIDDEN)
"""Numbers of the refusals that are the disk's, not a fault of ours."""


def refusal(error: OSError, path: Path) -> DataError:
    """The user's sentence for an operating-system refusal at ``path``."""
    if error.errno in _FULL:
        return DataError("the disk is full", where=path, hint="free some space and run it again")
    if error.errno in _FORBIDDEN:
        return DataError("cannot write here", where=path, hint="choose a folder that you may write to")
    return DataError(f"cannot write: {error.strerror or error}", where=path, hint="check the path")


@contextlib.contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn an ``OSError`` raised inside into a `DataError` that names ``path`` and the hint."""
    try:
        yield
    except OSError as error:
        raise refusal(error, Path(path)) from error


def is_run(folder: Path) -> bool:
    """Whether a run wrote a folder: it is no input of another."""
    left = (folder / name for name in ("scores.json", "report.html"))
    return (folder / RUN).is_file() or all(file.is_file() for file in left)


def check_apart(out: Path, sources: Iterable[object]) -> None:
    """Refuse to write into what is read: the next run would read it as pictures.

    Args:
        out: the folder of a run.
        sources: what it reads: files, folders, ``NAME:PATH``; anything that is no place is passed over.

    Raises:
        ConfigError: ``out`` is one of the folders, or lies inside one.
    """
    target = out.resolve()
    for source in sources:
        places = (source, str(source).partition(":")[2]) if isinstance(source, str | Path) else ()
        for folder in (Path(p).resolve() for p in places if str(p) and os.path.isdir(p)):  # noqa: PTH112
            if target.is_relative_to(folder):
                what = f"lies inside {folder}, whose pictures are read"
                raise ConfigError(what, where=out, hint="name a folder outside it with --out")


def short_name(name: str) -> str:
    """A file's name without its ending; of one that is too long the beginning and a digest of the whole.

    >>> short_name("00001-a"), len(short_name("字" * 80).encode())
    ('00001-a', 150)
    """
    data = os.fsencode(name)
    if len(data) <= NAME_BYTES:
        return name
    kept = data[: NAME_BYTES - 9].decode("utf-8", "ignore")
    return f"{kept}-{hashlib.sha256(data).hexdigest()[:8]}"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary sibling of ``path`` that replaces it on success and disappears on failure.

    Raises:
        DataError: disk full, or the folder cannot be written.
    """
    final = Path(path)
    with explained(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{short_name(final.name)}."
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=prefix, suffix=final.suffix)
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o644)
        try:
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: str | Path, wait: float = 60.0) -> Iterator[None]:
    """One writer at a time: hold the operating system's lock on the file ``path``, which stays and is empty.

    A process that dies gives the lock back at once.

    Args:
        path: the file of the lock, made where it is absent; everyone who writes names the same.
        wait: seconds to wait for another writer.

    Raises:
        DataError: another writer kept it for longer, or the file cannot be made or locked.
    """
    from filelock import FileLock, Timeout

    file = Path(path)
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=wait)
        try:
            lock.acquire()
        except Timeout as error:
            what = f"another process has been writing here for {wait:g} seconds"
            raise DataError(
                what, where=file.parent, hint="wait until it is done, then run it again"
            ) from error
        except NotImplementedError as error:
            hint = "use a folder on another disk"
            raise DataError("this file system has no locks", where=file.parent, hint=hint) from error
    try:
        yield
    finally:
        lock.release()


def check_writable(path: str | Path) -> None:
    """Find out now, not at the end of long work, whether ``path`` can be written.

    Raises:
        DataError: its folder cannot be made or written, or the disk is full.
    """
    final = Path(path)
    with explained(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=final.parent, prefix=f".{short_name(final.name)}."):
            pass


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all; file names that are not UTF-8 keep their bytes."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, as_json(value) + "\n")


def as_json(value: object, indent: int | None = 2) -> str:
    """``value`` as JSON, with paths, arrays and sets in plain forms; NaN and infinity are refused."""
    return json.dumps(value, indent=indent, allow_nan=False, default=_plain)


def _plain(value: object) -> object:
    """JSON form of paths, numpy scalars and arrays, and sets."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError("no such file", where=path, hint="check the path") from error
    except (OSError, ValueError) as error:
        raise DataError(f"not a readable JSON file ({error})", where=path, hint="restore it") from error


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(value: object) -> str:
    """SHA-256 of a JSON-able value in canonical form: the key of caches and protocols."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def atomic_folder(path: str | Path, mark: str = MARK) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path`` on success.

    An existing folder at ``path`` is moved aside first and put back if the swap fails, so that a
    crash leaves either the old folder or the new one.

    Args:
        path: the folder; one that holds anything else than an earlier one of ours is refused.
        mark: the file that tells one of ours; made where the caller did not make it.

    Raises:
        DataError: disk full, or the folder cannot be written.
        ConfigError: as `check_replaceable`.
    """
    final = _absolute(path)
    check_replaceable(final, mark)
    with explained(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{short_name(final.name)}."))
        temporary.chmod(0o755)
        try:
            yield temporary
            (temporary / mark).touch()
            check_replaceable(final, mark)
            _swap(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(path: str | Path, mark: str = MARK) -> None:
    """Find out now, not at the end of long work, whether `atomic_folder` may take the place of ``path``.

    Raises:
        ConfigError: a file stands there, or a folder that holds something and no file ``mark``, or the
        folder that the command was started in.
    """
    final = _absolute(path)
    with explained(final):
        if final.exists() and not final.is_dir():
            raise ConfigError("is a file, not a folder", where=final, hint="name a folder")
        if final.is_dir() and not (final / mark).is_file() and any(final.iterdir()):
            what = f"holds something that would be lost (it has no {mark})"
            raise ConfigError(what, where=final, hint="name a new or empty folder")
        if final.is_dir() and Path.cwd().is_relative_to(final.resolve()):
            raise ConfigError("is the folder you work in", where=final, hint="name a folder inside it")


def _absolute(path: str | Path) -> Path:
    """The folder's whole path, which always ends in a name."""
    if not str(path):
        raise ConfigError("no folder is named", hint="name the folder")
    final = Path(path).absolute()
    return final if final.name not in ("", "..") else final.resolve()


def _swap(temporary: Path, final: Path) -> None:
    if not final.exists():
        temporary.replace(final)
        return
    aside = final.with_name(f".{final.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    final.replace(aside)
    try:
        temporary.replace(final)
    except OSError:
        aside.replace(final)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def recover_folder(path: str | Path) -> Path:
    """Finish an `atomic_folder` swap that a power cut interrupted; returns ``path``.

    Raises:
        ConfigError: ``path`` is empty.
    """
    final = _absolute(path)
    aside = final.parent / f".{final.name}.old"
    if aside.exists() and not final.exists():
        aside.replace(final)
    return Path(path)


def write_manifest(folder: str | Path) -> dict[str, str]:
    """Write ``manifest.json`` with the SHA-256 of every file below ``folder``; returns it."""
    root = Path(folder)
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != MANIFEST)
    entries = {p.relative_to(root).as_posix(): sha256(p) for p in files}
    write_json(root / MANIFEST, {"format": 1, "sha256": entries})
    return entries


def verify_manifest(folder: str | Path, reads: Iterable[str] = ()) -> None:
    """Check every file that the manifest of ``folder`` names.

    Args:
        folder: the checkpoint.
        reads: names of the files that will be read; the manifest must list them.

    Raises:
        CheckpointError: no folder, no manifest, one of another format, a missing file, a path that leads out
            of the folder, a file that is not listed or a hash that differs.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CheckpointError("no such checkpoint folder", where=root, hint="check the path")
    if not (root / MANIFEST).is_file():
        raise CheckpointError(f"no {MANIFEST}", where=root, hint="name a folder saved by wildsight")
    entries = _manifest_entries(root)
    for name in reads:
        if name not in entries and (root / name).exists():
            raise CheckpointError(f"not listed in {MANIFEST}", where=root / name, hint="save it again")
    for name, expected in entries.items():
        file = _inside(root, name)
        if not file.is_file():
            raise CheckpointError("missing from the checkpoint", where=file, hint="save it again")
        if sha256(file) != expected:
            raise CheckpointError("damaged: its SHA-256 differs", where=file, hint="restore or save again")


def _inside(root: Path, name: str) -> Path:
    """A listed file; CheckpointError where its path leads out of the folder (but for a hub cache's blobs)."""
    within = not {"..", ""} & set(name.split("/")) and not set("\\:\0") & set(name)
    if within:
        real, home = (root / name).resolve(), root.resolve()
        within = real.is_relative_to(home) or real.parent == home.parent.parent / "blobs"
    if not within:
        what = f"lists {name!r}, which is no path inside the folder"
        raise CheckpointError(what, where=root / MANIFEST, hint="save the checkpoint again")
    return root / name


def _manifest_entries(root: Path) -> dict[str, str]:
    try:
        value = read_json(root / MANIFEST)
        entries = {str(k): str(v) for k, v in value["sha256"].items()}
        known = value["format"]
    except (DataError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError("damaged manifest", where=root / MANIFEST, hint="save it again") from error
    if known != 1 or isinstance(known, bool):
        raise CheckpointError(f"has format {known}", where=root / MANIFEST, hint="this version reads 1")
    return entries


def save_checkpoint(
    folder: str | Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, object],
    *,
    name: str = "head",
    config_name: str = CONFIG,
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Write ``config.json`` and ``<name>.safetensors`` with a manifest, whole or not at all.

    Args:
        folder: target folder; an earlier checkpoint there is replaced, anything else refused.
        tensors: name -> tensor, any device; stored contiguous on the CPU.
        config: JSON-able settings.
        name: stem of the tensor file.
        config_name: name of the settings' file.
        texts: further files by name, such as a card.
    """
    from safetensors.torch import save

    with atomic_folder(folder, MANIFEST) as temporary:
        stored = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        (temporary / f"{name}.safetensors").write_bytes(save(stored))
        write_json(temporary / config_name, dict(config))
        for file, text in (texts or {}).items():
            write_text(temporary / file, text)
        write_manifest(temporary)
    return Path(folder)


def load_checkpoint(
    folder: str | Path, *, name: str = "head", config_name: str = CONFIG
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote, after checking its manifest.

    Returns:
        (name -> CPU tensor, settings).

    Raises:
        CheckpointError: anything missing, damaged or not a checkpoint.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    root = recover_folder(folder)
    verify_manifest(root, (f"{name}.safetensors", config_name))
    file = root / f"{name}.safetensors"
    if not file.is_file():
        raise CheckpointError(f"holds no {file.name}", where=root, hint="name a checkpoint of this kind")
    try:
        config = read_json(root / config_name)
        as_json(config)
        if not isinstance(config, dict):
            raise TypeError(f"{config_name} holds no object")
        return load_file(str(file)), config
    except (SafetensorError, DataError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"cannot be read ({error})", where=file, hint="save it again") from error


def cache_folder(*parts: str) -> Path:
    """A folder below the user's cache (``$WILDSIGHT_CACHE`` or ``~/.cache/wildsight``), created.

    Raises:
        ConfigError: the folder cannot be made.
    """
    root = Path(os.environ.get("WILDSIGHT_CACHE") or Path.home() / ".cache" / "wildsight")
    folder = root.joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the cache folder cannot be made ({error.strerror})",
            where=folder,
            hint="set WILDSIGHT_CACHE to a folder that you may write to",
        ) from error
    return folder
