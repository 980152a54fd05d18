"""Readers on small fake trees in each layout, the check, and every refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from composition_models import natural, picture, shapes_folder
from wildsight.composition.data import PairData, check, check_source, read, read_source, require_files
from wildsight.composition.prompts import as_words
from wildsight.datasets.compositions import NATURAL, by_hash
from wildsight.errors import DataError


@pytest.mark.parametrize(
    ("name", "plus", "nested"),
    [("mit-states", False, True), ("vaw-czsl", True, False), ("cgqa", False, False)],
)
def test_the_standard_layout_round_trips(tmp_path: Path, name: str, plus: bool, nested: bool) -> None:
    data = read(name, natural(tmp_path, plus, nested))
    assert (data.attributes, data.objects) == (("dry", "wet"), ("cat", "dog", "owl"))
    assert data.seen == (
        ("wet", "cat"),
        ("dry", "dog"),
        ("wet", "owl"),
    )  # file order, as published losses have it
    assert data.protocol["pictures"] == {"train": 6, "val": 4, "test": 6}
    assert data.protocol["unseen pairs"] == {"val": 1, "test": 2}
    assert ("dry", "cat") not in data.candidates("test") and ("dry", "cat") in data.candidates("val")
    require_files(data)
    problems = [p.what for p in check(data)]
    assert all("standard version" in p for p in problems)
    assert bool(problems) == (name in ("mit-states", "cgqa"))


def test_the_pickled_metadata_is_read_without_running_it(tmp_path: Path) -> None:
    import torch

    root = natural(tmp_path)
    rows = json.loads((root / f"metadata_{NATURAL}.json").read_text())
    (root / f"metadata_{NATURAL}.json").unlink()
    torch.save(rows, root / f"metadata_{NATURAL}.t7")
    assert len(read("mit-states", root).samples) == 16


def test_a_split_that_leaks_is_refused(tmp_path: Path) -> None:
    root = natural(tmp_path)
    file = root / f"metadata_{NATURAL}.json"
    rows = json.loads(file.read_text())
    rows[-1]["set"] = "train"
    file.write_text(json.dumps(rows))
    with pytest.raises(DataError, match="the split leaks"):
        read("mit-states", root)


def test_pictures_that_a_list_names_must_be_there(tmp_path: Path) -> None:
    root = natural(tmp_path)
    (root / "images" / "wet_cat" / "train0wetcat.png").unlink()
    data = read("mit-states", root)
    with pytest.raises(DataError, match=r"not there \(1 such pictures\)"):
        require_files(data)
    assert any("no such file" in p.what for p in check(data))


def test_plain_folders_in_both_forms_and_by_hash(tmp_path: Path) -> None:
    data = read("folder", shapes_folder(tmp_path / "flat", per_pair=10))
    unseen = {("red", "square"), ("blue", "disc")}
    assert {s.pair for s in data.part("test")} >= unseen
    assert not unseen & {s.pair for s in (*data.part("train"), *data.part("val"))}
    assert len(data.part("train")) > len(data.part("test")) - 20 > 0
    for a, o in (("art_painting", "dog"), ("photo", "dog")):
        picture(tmp_path / "nested" / a / o / "1.png", len(a))
    assert read("folder", tmp_path / "nested").attributes == ("art_painting", "photo")


def test_splits_as_folders_and_as_a_list(tmp_path: Path) -> None:
    for n, (split, pair) in enumerate([("train", "wet_cat"), ("train", "dry_dog"), ("test", "dry_cat")]):
        picture(tmp_path / "a" / split / pair / "1.png", n)
    assert read("folder", tmp_path / "a").protocol["unseen pairs"] == {"val": 0, "test": 1}
    picture(tmp_path / "b" / "1.png", 9)
    rows = "image,attribute,object,split\n1.png,wet,cat,train\n2.png,dry,cat,test\n"
    (tmp_path / "b" / "pairs.csv").write_text(rows)
    data = read("folder", tmp_path / "b")
    assert [s.pair for s in data.samples] == [("wet", "cat"), ("dry", "cat")]
    with pytest.raises(DataError, match="named by the pair list, but not there"):
        require_files(data)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "wetcat" / "1.png")
    with pytest.raises(DataError, match="no separator"):
        read("folder", tmp_path / "one")
    picture(tmp_path / "two" / "very_wet_cat" / "1.png")
    with pytest.raises(DataError, match="several underscores"):
        read("folder", tmp_path / "two")
    (tmp_path / "three" / "wet_cat").mkdir(parents=True)
    with pytest.raises(DataError, match="a pair without pictures"):
        read("folder", tmp_path / "three")
    (tmp_path / "four").mkdir()
    with pytest.raises(DataError, match="holds no pairs"):
        read("folder", tmp_path / "four")
    for split in ("train", "test"):
        picture(tmp_path / "five" / split / "wet_cat" / "1.png")
    (tmp_path / "five" / "unseen_pairs.txt").write_text("wet cat\n")
    with pytest.raises(DataError, match="'wet cat' has training pictures"):
        read("folder", tmp_path / "five")
    (tmp_path / "five" / "unseen_pairs.txt").write_text("wet\n")
    with pytest.raises(DataError, match="line 1 is no pair"):
        read("folder", tmp_path / "five")
    with pytest.raises(DataError, match="has no picture"):
        by_hash(tmp_path, [], {("wet", "cat")})


def test_the_check_finds_leaks_doubles_and_untrained_words(tmp_path: Path) -> None:
    for split, pair, seed in [("train", "wet_cat", 1), ("train", "dry_dog", 1), ("test", "wet_cat", 1)]:
        picture(tmp_path / split / pair / "1.png", seed)
    picture(tmp_path / "test" / "icy_cat" / "1.png", 5)
    (tmp_path / "test" / "icy_cat" / "2.png").write_bytes(b"no picture")
    found = " | ".join(p.what for p in check_source(tmp_path))
    for part in ("in train: the test leaks", "of another pair", "'icy' is never trained", "not a picture"):
        assert part in found, found


def test_labels_become_words() -> None:
    assert as_words("Boots.Mid-Calf") == "boots mid calf"


@pytest.mark.parametrize(
    ("source", "seen", "unseen"),
    [
        ("fruit-state", 6, 3),
        ("fruit-state-b", 6, 3),
        ("fruit-state-c", 6, 3),
        ("pacs", 20, 8),
        ("grocery81", 12, 2),
    ],
)
def test_real_sets(shared: Path, source: str, seen: int, unseen: int) -> None:
    folder = {"pacs": "pacs", "grocery81": "grocery81"}.get(source, "fruit_state")
    data: PairData = read_source(f"{source}:{shared / 'data' / folder}")
    assert (data.protocol["seen pairs"], data.protocol["unseen pairs"]["test"]) == (seen, unseen)
    words = {p[0] for p in data.seen}, {p[1] for p in data.seen}
    assert words == (set(data.attributes), set(data.objects))


def test_the_check_loads_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    root = shapes_folder(tmp_path / "shapes", per_pair=3)
    code = (
        "import sys\nfrom wildsight.composition.data import check_source\n"
        f"check_source({str(root)!r})\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
