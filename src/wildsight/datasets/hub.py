"""Data sets of the Hugging Face hub, through the ``datasets`` library: written once, then read as a CSV.

``hf:USER/SET`` or a local folder of parquet files, ``hf:PATH``. Every column of pictures becomes files, class
numbers become names, and each part (train, validation, test) a value of ``split``; the first column of
pictures is ``image`` unless one is called so. What a task then reads is `wildsight.datasets.tables`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wildsight.datasets.tables import SPLITS
from wildsight.errors import DataError, needs
from wildsight.files import atomic_folder, cache_folder, digest_of, write_text
from wildsight.results import Table

TABLE = "pictures.csv"
ENDINGS = {
    b"\x89PNG": "png",
    b"\xff\xd8": "jpg",
    b"RIFF": "webp",
    b"BM": "bmp",
    b"GIF8": "gif",
    b"II*": "tif",
    b"MM": "tif",
}
MASKS = ("mask", "masks", "annotation", "segmentation")


def table_of(name: Path) -> Path:
    """The CSV of a set, beside its pictures in the cache; made on first use.

    Raises:
        ConfigError: the library is not installed.
        DataError: no such set, or one without pictures.
    """
    parts = _loaded(str(name))
    prints = {split: part._fingerprint for split, part in parts.items()}
    key = digest_of([str(name), prints if not name.is_dir() else _files(name)])[:16]
    folder = cache_folder("hub") / f"{name.name}-{key}"
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            _write(parts, temporary, str(name))
    return folder / TABLE


def _files(folder: Path) -> list[Any]:
    """What tells the content of a local set: names, sizes and times."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]


def _loaded(name: str) -> Mapping[str, Any]:
    """The parts of a set by name; pictures stay encoded."""
    local = Path(name)
    if local.is_dir() and not any(local.rglob("*.parquet")):
        raise DataError("holds no parquet file", where=local, hint="name a set of the hub, or such a folder")
    with needs("datasets", "hub"):
        import datasets
    try:
        found = datasets.load_dataset(name, cache_dir=str(cache_folder("hub", "arrow")))
    except Exception as error:  # the library raises what its readers raise
        reason = str(error).strip().split("\n")[0]
        hint = "check the name and the connection, or name a folder of parquet files"
        raise DataError(f"cannot be loaded ({reason})", where=f"hf:{name}", hint=hint) from error
    return {split: part.cast(_encoded(part.features, datasets)) for split, part in found.items()}


def _encoded(features: Any, datasets: Any) -> Any:
    kept = {
        n: datasets.Image(decode=False) if isinstance(f, datasets.Image) else f for n, f in features.items()
    }
    return datasets.Features(kept)


def _write(parts: Mapping[str, Any], folder: Path, name: str) -> None:
    features = next(iter(parts.values())).features
    pictures = [n for n, f in features.items() if type(f).__name__ == "Image"]
    if not pictures:
        raise DataError("has no column of pictures", where=f"hf:{name}", hint="choose another set")
    called = _called(features, pictures)
    lines = [line for split, part in parts.items() for line in _lines(split, part, pictures, called, folder)]
    write_text(folder / TABLE, Table([*called.values(), "split"], lines).csv())


def _called(features: Any, pictures: list[str]) -> dict[str, str]:
    """Column of the set -> column of the CSV; nested ones are left out."""
    plain = {n: n for n, f in features.items() if n in pictures or hasattr(f, "dtype")}
    plain.pop("split", None)
    if "image" not in plain:
        plain[pictures[0]] = "image"
    masks = [n for n in pictures if n in MASKS]
    if masks:
        plain[masks[0]] = "mask"
    classes = [n for n, f in features.items() if type(f).__name__ == "ClassLabel"]
    if "label" not in plain and len(classes) == 1:
        plain[classes[0]] = "label"
    return plain


def _lines(
    split: str, part: Any, pictures: list[str], called: Mapping[str, str], folder: Path
) -> Iterator[list[str]]:
    word = next((SPLITS[w] for w in SPLITS if split.lower().startswith(w)), "train")
    for number, row in enumerate(part):
        cells = []
        for column in called:
            value, feature = row[column], part.features[column]
            if column in pictures:
                cells.append(_picture(value, f"{split}/{called[column]}/{number:06d}", folder))
            elif type(feature).__name__ == "ClassLabel":
                cells.append("" if value is None or value < 0 else feature.int2str(value))
            else:
                cells.append("" if value is None else str(value))
        yield [*cells, word]


def _picture(value: Any, place: str, folder: Path) -> str:
    """Write an encoded picture as it is; returns its path below ``folder``, or nothing."""
    if value is None:
        return ""
    data = value["bytes"]
    if data is None:
        with contextlib.suppress(OSError):
            data = Path(value["path"]).read_bytes()
    ending = next((e for start, e in ENDINGS.items() if data is not None and data.startswith(start)), None)
    if data is None or ending is None:
        raise DataError(f"picture {place} is in no format that is read", where="hf", hint="convert it to PNG")
    file = folder / f"{place}.{ending}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return f"{place}.{ending}"
