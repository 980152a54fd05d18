"""Pictures of an attribute and an object: how benchmarks and plain folders name pictures and splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wildsight.datasets.annotations.regions import Annotated, AnnotatedPicture
from wildsight.datasets.annotations.regions import Split as Part
from wildsight.datasets.faults import Faults
from wildsight.datasets.folders import class_name, one_spelling, subfolders
from wildsight.datasets.lists import read_json, read_lines, read_table
from wildsight.datasets.tables import PictureTable
from wildsight.errors import DataError
from wildsight.images import list_images

Split = Literal["train", "val", "test"]
Pair = tuple[str, str]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
TRAIN_SHARE, VAL_SHARE = 0.7, 0.1
UNSEEN_FILE = "unseen_pairs.txt"
NATURAL = "compositional-split-natural"


@dataclass(frozen=True)
class PairSample:
    """One picture.

    Attributes:
        image: its file.
        attribute, object: its pair, in the words of the set.
        split: ``train``, ``val`` or ``test``.
    """

    image: Path
    attribute: str
    object: str
    split: Split

    @property
    def pair(self) -> Pair:
        """(attribute, object)."""
        return self.attribute, self.object


@dataclass(frozen=True)
class Listing:
    """What a layout found.

    Attributes:
        samples: in the layout's order.
        pairs: the declared pairs of each split; where a set declares none, those of its samples.
        rule: how the split was made.
    """

    samples: tuple[PairSample, ...]
    pairs: dict[Split, tuple[Pair, ...]]
    rule: str


def listing(samples: Iterable[PairSample], rule: str) -> Listing:
    """A listing whose pairs are those of its samples, sorted."""
    many = tuple(samples)
    pairs = {split: tuple(sorted({s.pair for s in many if s.split == split})) for split in SPLITS}
    return Listing(many, pairs, rule)


def plain(root: Path) -> Listing:
    """``attribute_object/*`` or ``attribute/object/*``, below train, val, test or alone; or ``pairs.csv``."""
    if (root / "pairs.csv").is_file():
        rows = list(_csv_rows(root))
        _spelled((row.pair, root / "pairs.csv") for row in rows)
        return listing(rows, "pairs.csv")
    if (root / "train").is_dir():
        found = [
            PairSample(file, *pair, split)
            for split in SPLITS
            if (root / split).is_dir()
            for pair, file in _tree(root / split)
        ]
        _spelled((sample.pair, sample.image.parent) for sample in found)
        _no_leak(root, found)
        return listing(found, "train, val and test folders")
    unseen = set(_pair_lines(root / UNSEEN_FILE)) if (root / UNSEEN_FILE).is_file() else set()
    files = list(_tree(root))
    _spelled((pair, file.parent) for pair, file in files)
    return by_hash(root, files, unseen)


def _spelled(pairs: Iterable[tuple[Pair, Path]]) -> None:
    """Refuse words that differ only in case or blanks."""
    every = list(dict.fromkeys(pairs))
    for place in (0, 1):
        one_spelling((pair[place], where) for pair, where in every)


def by_hash(root: Path, files: list[tuple[Pair, Path]], unseen: set[Pair]) -> Listing:
    """Unseen pairs go to the test; of the others 70 % train, 10 % validate, 20 % test, by hash of path."""
    unknown = sorted(unseen - {pair for pair, _ in files})
    if unknown:
        raise DataError(
            f"the held-out pair {' '.join(unknown[0])!r} has no picture",
            where=root / UNSEEN_FILE,
            hint="correct it",
        )
    samples = [
        PairSample(file, *pair, "test" if pair in unseen else _split_of(file.relative_to(root)))
        for pair, file in files
    ]
    held = f"{len(unseen)} pairs held out" if unseen else "no pair held out"
    return listing(samples, f"{held}; pictures of seen pairs 70/10/20 by hash of their paths")


def _split_of(relative: Path) -> Split:
    digest = hashlib.sha256(os.fsencode(relative.as_posix())).digest()
    share = int.from_bytes(digest[:6], "big") / 2**48
    if share < TRAIN_SHARE:
        return "train"
    return "val" if share < TRAIN_SHARE + VAL_SHARE else "test"


def _tree(root: Path) -> Iterator[tuple[Pair, Path]]:
    """(pair, file) below a folder of ``attribute_object`` or ``attribute/object`` folders."""
    for folder in subfolders(root):
        inner = subfolders(folder)
        if inner:
            for below in inner:
                yield from _pictures((class_name(folder.name), class_name(below.name)), below)
        else:
            yield from _pictures(_pair_of_name(folder), folder)


def _pictures(pair: Pair, folder: Path) -> Iterator[tuple[Pair, Path]]:
    files = list_images(folder)
    if not files:
        raise DataError("a pair without pictures", where=folder, hint="add some, or remove the folder")
    yield from ((pair, file) for file in files)


def _pair_of_name(folder: Path) -> Pair:
    parts = folder.name.split("_")
    if len(parts) == 2 and all(part.strip() for part in parts):
        return class_name(parts[0]), class_name(parts[1])
    if len(parts) < 2:
        what, hint = "its name has no separator between attribute and object", "call it attribute_object"
    else:
        what, hint = "its name has several underscores", "use folders attribute/object, or hyphens in words"
    raise DataError(what, where=folder, hint=hint)


def _pair_lines(file: Path, separator: str | None = None) -> list[Pair]:
    """Pairs of a text file, one a line: two words, or two parts around ``separator``."""
    pairs = []
    for number, line in read_lines(file):
        parts = [class_name(part) for part in line.split(separator)]
        if len(parts) != 2:
            raise DataError(f"line {number} is no pair: {line!r}", where=file, hint="write `wet cat`")
        pairs.append((parts[0], parts[1]))
    return pairs


def _csv_rows(root: Path) -> Iterator[PairSample]:
    """``image,attribute,object,split`` per row."""
    file, columns = root / "pairs.csv", ("image", "attribute", "object", "split")
    for row in read_table(file, columns):
        if not all(row[name] for name in columns) or row["split"] not in SPLITS:
            hint = "give image, attribute, object, and a split of train, val or test"
            raise DataError(f"line {row.number} is incomplete", where=file, hint=hint)
        words = class_name(row["attribute"]), class_name(row["object"])
        yield PairSample(root / row["image"], *words, _as_split(row["split"]))


def _as_split(word: str) -> Split:
    return "train" if word == "train" else "val" if word == "val" else "test"


def _no_leak(root: Path, samples: Iterable[PairSample]) -> None:
    """Pairs that `UNSEEN_FILE` declares unseen may not be trained on."""
    file = root / UNSEEN_FILE
    if not file.is_file():
        return
    leaked = sorted(set(_pair_lines(file)) & {s.pair for s in samples if s.split == "train"})
    if leaked:
        what = f"the held-out pair {' '.join(leaked[0])!r} has training pictures"
        raise DataError(what, where=file, hint="take them out of train, or the pair out of the list")


def of_source(found: Annotated | PictureTable, faults: Faults) -> Listing:
    """A CSV of ``image``, ``attribute``, ``object``, perhaps ``split``; or pictures annotated with a pair.

    A pair is what Label Studio's choices ``attribute`` and ``object`` say, else the one label of all regions:
    ``wet cat`` or ``wet_cat``.

    Raises:
        DataError: a picture without a pair or with several, unless ``faults`` notes it.
    """
    rows: list[tuple[Pair, Path, Part | None]] = []
    if isinstance(found, PictureTable):
        for row in found.need("image", "attribute", "object").rows:
            pair = class_name(row.values["attribute"]), class_name(row.values["object"])
            rows.append((pair, row.image, row.split))
        place = found.file
    else:
        place = found.place
        for picture in found.pictures:
            with faults.each(place):
                rows.append((_annotated_pair(picture, place), picture.image, picture.split))
    _spelled((pair, place) for pair, _, _ in rows)
    if rows and all(split for _, _, split in rows):
        named = {"train": "train", "validation": "val", "test": "test"}
        samples = [PairSample(file, *pair, _as_split(named[str(split)])) for pair, file, split in rows]
        _no_leak(found.root, samples)
        return listing(samples, "the source's own")
    listed = found.root / UNSEEN_FILE
    unseen = set(_pair_lines(listed)) if listed.is_file() else set()
    return by_hash(found.root, [(pair, file) for pair, file, _ in rows], unseen)


def _annotated_pair(picture: AnnotatedPicture, place: Path) -> Pair:
    said = {question.lower(): words for question, words in picture.answers.items()}
    chosen = [class_name(word) for part in ("attribute", "object") for word in said.get(part, ())]
    labels = {tuple(region.label.replace("_", " ").split()) for region in picture.regions}
    pairs = [tuple(chosen)] if len(chosen) == 2 else sorted(labels)
    if len(pairs) != 1 or len(pairs[0]) != 2:
        shown = f"{' '.join(pairs[0])!r}, which is no pair" if len(pairs) == 1 else "several pairs"
        what = f"{picture.image.name} shows {shown if pairs else 'no pair'}"
        raise DataError(what, where=place, hint="label it attribute_object, once")
    return pairs[0][0], pairs[0][1]


def natural(root: Path) -> Listing:
    """``compositional-split-natural/*_pairs.txt`` with ``metadata_compositional-split-natural.{t7,json}``."""
    folder = root / NATURAL
    files = {split: folder / f"{split}_pairs.txt" for split in SPLITS}
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        raise DataError("no such split file", where=missing[0], hint="download the standard split")
    plus = any("+" in line for _, line in read_lines(files["train"])[:1])
    pairs = {split: tuple(_pair_lines(file, "+" if plus else None)) for split, file in files.items()}
    declared = {pair for many in pairs.values() for pair in many}
    samples = tuple(_records(root, declared))
    strays = [s for s in samples if s.pair not in set(pairs[s.split])]
    if strays:
        what = f"{strays[0].pair} is in {strays[0].split}, whose pair file lacks it: the split leaks"
        raise DataError(what, where=strays[0].image, hint="use pair files and metadata of one version")
    return Listing(samples, pairs, f"the standard split, {NATURAL}")


def _records(root: Path, declared: set[Pair]) -> Iterator[PairSample]:
    """Samples of the metadata; rows marked NA, or of a pair in none of the lists, are skipped."""
    for row in metadata(root):
        pair = (class_name(str(row["attr"])), class_name(str(row["obj"])))
        if row["set"] in SPLITS and pair[0] != "NA" and pair in declared:
            yield PairSample(_picture_path(root, str(row["image"])), *pair, _as_split(str(row["set"])))


def _picture_path(root: Path, name: str) -> Path:
    """The file of a record; MIT-States has spaces in its names where its folders may have underscores."""
    path = root / "images" / name
    if path.is_file() or " " not in name:
        return path
    folder, _, file = name.rpartition("/")
    return root / "images" / folder.replace(" ", "_") / file


def metadata(root: Path) -> list[dict[str, Any]]:
    """The records, from JSON where it is there, else from the ``.t7`` file (plain containers alone).

    Raises:
        DataError: neither is there, or it cannot be read.
    """
    stem = root / f"metadata_{NATURAL}"
    if stem.with_suffix(".json").is_file():
        return list(read_json(stem.with_suffix(".json")))
    file = stem.with_suffix(".t7")
    if not file.is_file():
        raise DataError("no such metadata file", where=file, hint="download the standard split")
    import torch

    try:
        return list(torch.load(file, weights_only=True))
    except Exception as error:
        raise DataError(f"cannot be read ({error})", where=file, hint="convert it to JSON") from error


def stated(root: Path) -> Listing:
    """``attribute_object/*`` or ``attribute/object/*`` with ``czsl_unseen_pairs`` in ``splits.json``."""
    return rotated(root, 0)


def rotated(root: Path, choice: int) -> Listing:
    """The same, holding out another choice of pairs: the stated ones with their attributes rotated.

    Args:
        root: the folder.
        choice: by how many places the attributes are rotated; 0 is the stated choice.
    """
    splits = read_json(root / "splits.json")
    attributes = list(splits["attributes"])
    turned = dict(zip(attributes, attributes[choice:] + attributes[:choice], strict=True))
    unseen = {tuple(text.split(" ", 1)) for text in splits["czsl_unseen_pairs"]}
    return by_hash(root, list(_tree(root)), {(turned[a], o) for a, o in unseen})


def grocery(root: Path) -> Listing:
    """``train val test`` of ``NN_name`` folders, with ``packages_brand_product.json``: brand x product."""
    rows = read_json(root / "packages_brand_product.json")
    pair_of = {int(row["id"]): (str(row["brand"]), str(row["product"])) for row in rows}
    found: list[PairSample] = []
    for split in SPLITS:
        for folder in subfolders(root / split):
            number = int(folder.name.partition("_")[0])
            if number in pair_of:
                found += [PairSample(f, *pair_of[number], split) for f in list_images(folder)]
    unseen = hold_out(sorted(set(pair_of.values())))
    kept = [s for s in found if s.pair not in unseen]
    kept += [PairSample(s.image, *s.pair, "test") for s in found if s.pair in unseen]
    return listing(kept, f"the set's own, and {len(unseen)} pairs held out for the test")


def hold_out(pairs: list[Pair]) -> set[Pair]:
    """Every pair, in the order given, whose attribute and object both stay seen without it.

    >>> sorted(hold_out([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "z")]))
    [('a', 'x'), ('b', 'y')]
    """
    held: set[Pair] = set()
    for pair in pairs:
        rest = [p for p in pairs if p not in held and p != pair]
        if any(p[0] == pair[0] for p in rest) and any(p[1] == pair[1] for p in rest):
            held.add(pair)
    return held
