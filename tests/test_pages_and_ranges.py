"""Pages of one file, the range of deep pictures, and what folders leave out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.datasets.folders import left_out, left_out_line, pictures, subfolders
from wildsight.datasets.ranges import range_problems, refuse_range
from wildsight.errors import CheckpointError, ConfigError, DataError, ImageError
from wildsight.estimators.rows import RowWriter
from wildsight.estimators.scaling import scale_verbs
from wildsight.estimators.streaming import FileAnswer, Ready, Stream
from wildsight.files import atomic_path, check_apart, short_name
from wildsight.images import (
    as_picture,
    declared_scale,
    exif_of,
    expand,
    image_size,
    list_images,
    load_image,
    load_values,
    scaled,
)
from wildsight.results import RunFolder

COLOURS = ("red", "lime", "blue")


def paged(file: Path) -> Path:
    wider = file.suffix == ".tif"
    first, *rest = (Image.new("RGB", (6 + i * wider, 4), c) for i, c in enumerate(COLOURS))
    first.save(file, save_all=True, append_images=rest)
    return file


def test_a_page_is_a_picture_of_its_own(tmp_path: Path) -> None:
    file = paged(tmp_path / "scan.tif")
    pages = expand(file)
    assert [p.name for p in pages] == ["scan.tif#1", "scan.tif#2", "scan.tif#3"]
    assert [load_image(p).size for p in pages] == [image_size(p) for p in pages] == [(6, 4), (7, 4), (8, 4)]
    assert load_image(f"{file}#2").getpixel((0, 0)) == (0, 255, 0)
    assert load_values(pages[2])[0, 0].tolist() == [0, 0, 1]
    with pytest.raises(ImageError, match="no page 4 of 3"):
        load_image(f"{file}#4")
    file.rename(tmp_path / "b#2.tif")
    assert [p.name for p in expand(tmp_path)] == ["b#2.tif#1", "b#2.tif#2", "b#2.tif#3"]


@pytest.mark.parametrize("name", ["scan.tif", "moving.gif", "moving.webp", "moving.png"])
def test_several_pages_of_which_none_is_named_are_refused_in_every_form(name: str, tmp_path: Path) -> None:
    file = paged(tmp_path / name)
    for form in (str(file), file, file.read_bytes(), Image.open(file)):
        with pytest.raises(ImageError, match="3 pages, each a picture of its own"):
            as_picture(form)
    assert len(expand(tmp_path)) == 3


def test_a_thumbnail_behind_a_picture_is_no_page(tmp_path: Path) -> None:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    small = Image.new("RGB", (2, 2))
    tags = ImageFileDirectory_v2()
    tags[254] = 1
    small.encoderinfo = {"tiffinfo": tags}
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.tif", save_all=True, append_images=[small])
    assert [p.name for p in expand(tmp_path)] == ["a.tif"]
    assert load_image(tmp_path / "a.tif").size == (8, 8)


def deep(folder: Path, top: float, dtype: type, count: int = 3) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, top, 48).reshape(6, 8).astype(dtype)
    files = [folder / f"{i}.tif" for i in range(count)]
    for file in files:
        Image.fromarray(ramp).save(file)
    return files


@pytest.mark.parametrize(
    ("top", "dtype", "words", "white"),
    [
        (4095, np.uint16, "4095 of 65535, less than an eighth", 4095),
        (255, np.int32, "255 of 65535", 255),
        (255, np.float32, "lie above 1,", 255),
        (0.1, np.float32, "0.1 of 1", 0.1),
    ],
)
def test_a_set_of_another_range_is_named_and_declared(
    top: float, dtype: type, words: str, white: float, tmp_path: Path
) -> None:
    files = deep(tmp_path, top, dtype)
    (problem,) = range_problems(files)
    assert words in problem.what and f"--full-scale {white:g}" in problem.hint
    with pytest.raises(DataError, match=words.split()[0]):
        refuse_range(files)
    with scaled(white):
        assert range_problems(files) == []
        assert load_image(files[0]).getpixel((7, 5)) == (255, 255, 255)
        picture = Image.open(files[0])
        for form in (picture, files[0].read_bytes(), np.asarray(picture)):
            assert np.array_equal(as_picture(form), load_image(files[0]))
    assert declared_scale() is None


def test_a_set_that_uses_its_range_is_not_named(tmp_path: Path) -> None:
    assert range_problems(deep(tmp_path / "a", 65535, np.uint16)) == []
    assert range_problems(deep(tmp_path / "b", 1.0, np.float32)) == []
    Image.new("L", (4, 4), 3).save(tmp_path / "dark.png")
    assert range_problems([tmp_path / "dark.png", tmp_path / "absent.png"]) == []


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf")])
def test_white_is_above_zero(wrong: float) -> None:
    with pytest.raises(ConfigError, match="full_scale"), scaled(wrong):
        pass


def test_exif_of_every_form(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x920A] = 6, 35.0
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    file = tmp_path / "a.jpg"
    for form in (file, file.read_bytes(), Image.open(file)):
        assert exif_of(form)[0x0112] == 6
        assert as_picture(form).size == (4, 8)
    assert exif_of(np.zeros((2, 2))) == {}


def test_nothing_in_a_folder_is_lost_or_hangs(tmp_path: Path) -> None:
    root, other = tmp_path / "set", tmp_path / "elsewhere"
    (root / "b").mkdir(parents=True)
    other.mkdir()
    Image.new("L", (2, 2)).save(root / "A.PNG")
    Image.new("L", (2, 2)).save(other / "linked.png")
    (root / "c").symlink_to(other)
    (root / "b" / "back").symlink_to(root)
    (root / "one.png").symlink_to(other / "linked.png")
    (root / "gone.png").symlink_to(other / "absent.png")
    os.mkfifo(root / "pipe.png")
    (root / ".DS_Store").touch()
    (root / "x.heic").touch()
    names = [p.relative_to(root).as_posix() for p in list_images(root, recursive=True)]
    assert names == ["A.PNG", "c/linked.png", "gone.png", "one.png"]
    assert left_out(root) == {"hidden": 1, "other": 1, "special": 1}
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        load_image(root / "gone.png")
    with pytest.raises(ImageError, match="not a regular file"):
        load_image(root / "pipe.png")


def test_what_a_run_wrote_is_left_out(tmp_path: Path) -> None:
    for place in ("good/1.png", "runs/overlays/2.png", "old/3.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / place)
    (tmp_path / "runs" / "run.json").touch()
    (tmp_path / "old" / "scores.json").touch()
    (tmp_path / "old" / "report.html").touch()
    assert [p.name for p in list_images(tmp_path, recursive=True)] == ["1.png"]
    assert [p.name for p in subfolders(tmp_path)] == ["good"]
    assert left_out_line(tmp_path) == f"left out of {tmp_path}: 2 folders that runs wrote"
    assert [p.name for p in pictures(tmp_path / "old")] == ["3.png"]  # what a user names counts


def test_a_run_does_not_write_into_what_it_reads(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for source in (tmp_path / "set", f"mvtec-ad:{tmp_path / 'set'}"):
        with pytest.raises(ConfigError, match="lies inside"):
            check_apart(tmp_path / "set" / "runs" / "x", [source])
    check_apart(tmp_path / "runs", [tmp_path / "set", "world", None])


def test_a_finished_run_of_something_else_is_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    fit = {"command": "fit", "task": "anomaly", "method": "ras", "pictures": "1"}
    assert run.check(fit) == {}
    run.mark(fit)
    other = {**fit, "method": "padim"}
    assert run.check(other) == {}  # nothing is finished yet
    run.report.touch()
    assert run.check(fit) == fit
    for changed, words in (
        (other, "method=ras, not padim"),
        ({**fit, "pictures": "2"}, "other pictures"),
        ({"command": "predict", "task": "anomaly"}, "command=fit"),
    ):
        with pytest.raises(CheckpointError, match=words):
            run.check(changed)
    assert run.check({**fit, "pictures": "2"}, replaces=("pictures",)) == fit


def test_an_unread_picture_has_a_row(tmp_path: Path) -> None:
    """Rows keep the order of the files, and the reason stays in the last column."""
    table, name = tmp_path / "results.csv", os.fsdecode(b"caf\xe9.png")
    writer = RowWriter(table)
    writer.add_unread(ImageError("not a picture", where=name))
    writer.add({"picture": "a.png", "score": 1.5})
    writer.add_unread(ImageError("no such file", where="b.png"))
    writer.add({"picture": "c.png", "score": 2.5, "limit": 1})
    writer.close()
    assert table.read_bytes().splitlines() == [
        b"picture,score,limit,not_read",
        b"caf\xe9.png,,,not a picture",
        b"a.png,1.5,,",
        b"b.png,,,no such file",
        b"c.png,2.5,1,",
    ]
    writer = RowWriter(table)
    writer.add_unread(ImageError("no such file", where="b.png"))
    writer.close()
    assert table.read_text().splitlines() == ["image,not_read", "b.png,no such file"]


def test_threads_of_a_stream_read_by_the_scale_of_their_estimator(tmp_path: Path) -> None:
    """And between two answers nothing is declared."""
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(tmp_path / "deep.png")

    class Brightest:
        full_scale = 4095.0

        def iter_files(self, files: list[Path], workers: int) -> Iterator[FileAnswer[int]]:
            def read(file: Path) -> Ready[int]:
                return Ready(int(np.asarray(load_image(file)).max()))

            return Stream(read, lambda batch: ([n] for n in batch), 1, workers).run(files)

    scale_verbs(Brightest)
    for workers in (0, 2):
        for answer in Brightest().iter_files([tmp_path / "deep.png"] * 3, workers):
            assert answer.result == 255 and declared_scale() is None


def test_long_names_are_shortened_and_told_apart(tmp_path: Path) -> None:
    one, two = "字" * 83 + "a", "字" * 83 + "b"
    assert len({short_name(one), short_name(two)}) == 2
    assert len(os.fsencode(short_name(one))) <= 150
    for name in (f"{'字' * 83}.png", "x" * 255):
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_text("whole")
        assert (tmp_path / name).read_text() == "whole"
