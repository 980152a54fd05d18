"""Which files of a folder are pictures, which are skipped and counted, and what a class is called."""

from __future__ import annotations

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
    one_spelling(["a", "b", "a"], "list.csv")
    with pytest.raises(DataError, match=r"list\.csv.*'Banana ' and 'banana' differ only in case or blanks"):
        one_spelling(["Banana ", "apple", "banana"], "list.csv")


def test_class_folders(tmp_path: Path) -> None:
    fill(tmp_path, "Banana /1.png", "apple/2.png", ".x/3.png")
    assert [(n, p.name) for n, p in class_folders(tmp_path)] == [("Banana", "Banana "), ("apple", "apple")]
    fill(tmp_path, "Apple/1.png")
    if len(subfolders(tmp_path)) < 3:
        pytest.skip("this file system knows no case")
    with pytest.raises(DataError, match="differ only in case"):
        class_folders(tmp_path)
