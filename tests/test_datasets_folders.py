"""Which files of a folder are pictures, which are skipped and counted, and what a class is called."""

from __future__ import annotations

import importlib
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from wildsight.datasets.folders import (
    by_stem,
    class_folders,
    class_name,
    left_out,
    one_spelling,
    pictures,
    same_class,
    subfolders,
    unread_formats,
)
from wildsight.errors import DataError
from wildsight.images import FORMATS, SUFFIXES, list_images


def fill(root: Path, *places: str) -> None:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()


def test_every_ending_of_the_formats_that_are_read_counts() -> None:
    Image.init()
    endings = {e for e, kind in Image.registered_extensions().items() if kind in FORMATS}
    assert endings == SUFFIXES


def test_pictures_in_natural_order_without_what_is_hidden(tmp_path: Path) -> None:
    fill(tmp_path, "10.PNG", "9.JPeG", "a.jfif", ".b.png", "._9.JPeG", "Thumbs.db", "notes.txt", "c.heic")
    assert [p.name for p in pictures(tmp_path)] == ["a.jfif", "9.JPeG", "10.PNG"]
    assert pictures(tmp_path / "absent") == subfolders(tmp_path / "absent") == []


def test_hidden_and_system_folders_hold_nothing(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "a/1.png",
        ".cache/2.png",
        "__MACOSX/a/._1.png",
        "__MACOSX/3.png",
        "@eaDir/4.png",
        "b/5.heic",
    )
    assert [p.name for p in list_images(tmp_path, recursive=True)] == ["1.png"]
    assert [p.name for p in subfolders(tmp_path)] == ["a", "b"]
    assert left_out(tmp_path) == {"hidden": 4, "other": 1}
    inside = tmp_path / ".cache"  # a folder that the user names counts, hidden or not
    assert [p.name for p in list_images(inside, recursive=True)] == ["2.png"]


def test_formats_that_are_not_read_are_said_once_with_their_count(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.HEIC", "a/2.heic", "b/3.psd", "b/4.png", ".c/5.psd")
    (problem,) = unread_formats(tmp_path)
    assert problem.what == "3 pictures in a format that is not read (.heic, .psd)"
    assert unread_formats(tmp_path / "absent") == []


def test_one_stem_one_picture(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png")
    assert sorted(by_stem(tmp_path)) == ["a", "b"]
    fill(tmp_path, "a.jpg")
    with pytest.raises(DataError, match="shares its stem"):
        by_stem(tmp_path)


def test_class_names() -> None:
    apart = unicodedata.normalize("NFD", "Äpfel")
    assert class_name(f"  {apart}\u00a0 grün ") == "Äpfel grün"
    assert same_class(apart) == same_class("äpfel ") == same_class("ÄPFEL")
    assert same_class("straße") == same_class("STRASSE")
    one_spelling((name, "list.csv") for name in "aba")
    with pytest.raises(DataError, match=r"list\.csv.*'Banana ' and 'banana' differ only in case or blanks"):
        one_spelling((name, "list.csv") for name in ("Banana ", "apple", "banana"))


def test_class_folders(tmp_path: Path) -> None:
    fill(tmp_path, "Banana /1.png", "apple/2.png", ".x/3.png")
    assert [(n, p.name) for n, p in class_folders(tmp_path)] == [("Banana", "Banana "), ("apple", "apple")]
    fill(tmp_path, "Apple/1.png")
    if len(subfolders(tmp_path)) < 3:
        pytest.skip("this file system knows no case")
    with pytest.raises(DataError, match="differ only in case"):
        class_folders(tmp_path)


@pytest.mark.parametrize("task", ["composition", "discovery", "retrieval", "continual"])
def test_case_twins_are_named_by_check_as_by_reading(task: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"wildsight.{task}.data")
    twins = {
        "composition": ("train/fresh apple/a b/{}.png", "train/Fresh Apple/a b/{}.png"),
        "discovery": ("labelled/fresh apple/{}.png", "labelled/Fresh Apple/{}.png", "unlabelled/{}.png"),
        "retrieval": ("photos/bee/{}.png", "photos/Bee/{}.png", "sketches/bee/{}.png"),
        "continual": ("t/train/bee/{}.png", "t/train/Bee /{}.png", "t/test/bee/{}.png"),
    }[task]
    for place in twins:
        for number in range(2):
            file = tmp_path / place.format(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (len(place), number, 0)).save(file)
    with pytest.raises(DataError, match="differ only in case or blanks") as fault:
        module.read_source(tmp_path)
    assert [p.what for p in module.check_source(tmp_path)] == [fault.value.what]


@pytest.mark.parametrize("task", ["composition", "discovery", "retrieval", "continual"])
def test_blanks_around_a_class_are_not_part_of_its_name(task: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"wildsight.{task}.data")
    places = {
        "composition": ("train/fresh/Banana /{}.png", "test/ripe/Banana/{}.png"),
        "discovery": ("labelled/Banana /{}.png", "unlabelled/{}.png"),
        "retrieval": (
            *("photos/Banana /{}.png", "sketches/Banana/{}.png", "photos/ant/{}.png", "sketches/ant/{}.png"),
        ),
        "continual": ("t/train/Banana /{}.png", "t/test/Banana/{}.png"),
    }[task]
    for place in places:
        for number in range(2):
            file = tmp_path / place.format(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (len(place), number, 0)).save(file)
    data = module.read_source(tmp_path)
    words = {
        "composition": lambda: data.objects,
        "discovery": lambda: data.known,
        "retrieval": lambda: sorted({i.label for i in data.items}),
        "continual": lambda: data.tasks[0].classes,
    }[task]()
    assert "Banana" in words and "Banana " not in words
