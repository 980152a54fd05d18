"""Lists as people save them: each encoding, separator and line ending that is read, and the others."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wildsight.datasets.lists import decode, read_json, read_json_lines, read_names, read_table, read_text
from wildsight.errors import DataError

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")
TABLE = "path{0}label{0}note\n a.png {0} früh {0}\n\nb.png{0}spät{0}x\n"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_table_as_any_program_saves_it(encoding: str, delimiter: str, ending: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(TABLE.format(delimiter).replace("\n", ending).encode(encoding))
    rows = read_table(file, ("path", "label"))
    assert [(r.number, r["path"], r["label"]) for r in rows] == [(2, "a.png", "früh"), (4, "b.png", "spät")]


def test_what_excel_adds(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(b'\xef\xbb\xbfsep=;\r\npath;label;;\r\n"a;b.png";"x ""y""";;\r\n;;;\r\n')
    rows = read_table(file, ("path", "label"))
    assert [(r.number, r["path"], r["label"]) for r in rows] == [(3, "a;b.png", 'x "y"')]


def test_a_short_row_has_empty_values(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1\n")
    assert read_table(tmp_path / "t.csv", ("a",))[0].values == {"a": "1", "b": "", "c": ""}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"name,label\n", "has no columns `path` and `label`"),
        (b"", "has no columns"),
        (b'path,label\n"a,b\n', "is no table"),
        ("path,label\n犬.png,犬\n".encode("shift_jis"), "is not UTF-8 text"),
        ("path,label\nкот,кошка\n".encode("cp866"), "is not UTF-8 text"),
    ],
)
def test_what_is_named(data: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=rf"t\.csv.*{what}"):
        read_table(tmp_path / "t.csv", ("path", "label"))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for reader in (read_text, read_names, read_json, read_json_lines):
        with pytest.raises(DataError, match="no such file"):
            reader(tmp_path / "absent")
        with pytest.raises(DataError, match="cannot be read"):
            reader(tmp_path)


def test_json(tmp_path: Path) -> None:
    file = tmp_path / "v.json"
    for encoding in ENCODINGS:
        file.write_bytes('{"é": 1}\r\n'.encode(encoding))
        assert read_json(file) == {"é": 1}
        file.write_bytes('\r\n{"é": 1}\r\n\r\n[2]'.encode(encoding))
        assert read_json_lines(file) == [(2, {"é": 1}), (4, [2])]
    file.write_text("{}\n{oops}")
    with pytest.raises(DataError, match=r"v\.json:2.*not JSON"):
        read_json_lines(file)
    with pytest.raises(DataError, match=r"not a readable JSON file \(.*line 2"):
        read_json(file)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00\ufeff"), max_size=40))
def test_text_survives_every_encoding_that_marks_itself(text: str) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert decode(text.encode(encoding)) == text


@given(st.binary(max_size=60))
def test_any_bytes_are_text_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(decode(data), str)


def test_lists_that_were_refused(shared: Path) -> None:
    folder = shared / "cases/07_excel_lists"
    columns = ("image", "attribute", "object", "split")
    rows = [read_table(folder / f"pairs_{kind}.csv", columns) for kind in ("bom", "semi", "utf16")]
    assert rows[0] and rows[0] == rows[1] == rows[2]
    groups = [read_table(folder / f"groups_{kind}.csv", ("group", "name")) for kind in ("cp1252", "semi")]
    assert [r["group"] for r in groups[0]] == [r["group"] for r in groups[1]]
    assert read_json(folder / "classes.json")["test"] == ["bee"]
    assert read_names(folder / "unseen_pairs.txt") == ["rotten orange"]
