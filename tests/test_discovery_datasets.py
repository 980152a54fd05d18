"""Readers of every layout on tiny trees, the published splits' fixtures, and pickles that are only read."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.datasets import categories as layouts
from wildsight.datasets.plain_pickle import read_plain_pickle
from wildsight.discovery.data import check, export, gcd_split, labelled_half, read, read_pair, read_source
from wildsight.errors import ConfigError, DataError
from wildsight.images import load_image

Publish = Callable[[Path, str, list[int], list[int], int], Path]


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_the_labelled_half_is_the_published_one() -> None:
    np.random.seed(0)  # noqa: NPY002
    legacy = np.sort(np.random.choice(range(37), int(0.5 * 37), replace=False))  # noqa: NPY002
    assert (labelled_half(37) == legacy).all()


def test_a_split_is_disjoint_exhaustive_and_stable() -> None:
    rows = [(Path(f"{c}/{i}.png"), c) for c in "abcd" for i in range(10)]
    one, two = (gcd_split(rows, "ac", "bd", name="x", root=Path(), split="s") for _ in range(2))
    assert len(one.labelled) == 10 and len(one.unlabelled) == 30
    assert {s.image for s in one.samples} == {p for p, _ in rows}
    assert {s.label for s in one.labelled} == {"a", "c"}
    assert one.protocol == two.protocol and one.protocol["hash"][:12] == "0473f6b76fcf"
    assert one.labels().max() == 1 and one.truths().max() == 3
    small = one.limited(classes=2, per_class=4)
    assert len(small.samples) == 8 and small.known == ("a",) and small.new == ("b",)
    with pytest.raises(ConfigError):
        one.limited(per_class=1)


def test_imagenet_100_is_the_published_draw() -> None:
    ranks = layouts.imagenet100()
    assert ranks[:10] == [1, 14, 27, 31, 45, 55, 77, 103, 108, 141] and ranks[-3:] == [987, 993, 996]
    assert sum(ranks) == 50211
    digest = hashlib.sha256(",".join(map(str, ranks)).encode()).hexdigest()
    assert digest.startswith("14e275aeee0a92af")


def test_imagenet_100_reader(tmp_path: Path) -> None:
    ranks = layouts.imagenet100()
    for i in range(1000):
        folder = tmp_path / "train" / f"n{i:04d}"
        folder.mkdir(parents=True)
        for j in range(1 + 2 * (i in (1, 14, 996)) if i in ranks else 0):
            save(folder / f"{j}.png", i + j)
    data = read("imagenet-100", tmp_path)
    assert len(data.known) == len(data.new) == 50 and data.known[0] == "n0001" and data.new[-1] == "n0996"
    assert len(data.samples) == 106 and len(data.labelled) == 27
    (tmp_path / "train" / "n0001" / "0.png").unlink()
    assert len(read("imagenet-100", tmp_path).samples) == 105
    for file in (tmp_path / "train" / "n0014").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="no picture of class n0014"):
        read("imagenet-100", tmp_path)


def test_the_labelled_half_counts_files_as_text(tmp_path: Path) -> None:
    """The rule of the published code: ImageFolder's order, then RandomState(0).choice over it."""
    names = ["9.png", "10.png", "100.png", "2.png", "img_20.png", "img_3.png"]
    for i in range(100):
        for j, name in enumerate(names if i == 0 else ["0.png"]):
            save(tmp_path / "train" / f"n{i:04d}" / name, i + j)
    data = read("imagenet-100", tmp_path)
    order = [tmp_path / "train" / "n0000" / name for name in sorted(names)]
    order += [tmp_path / "train" / f"n{i:04d}" / "0.png" for i in range(1, 50)]
    half = np.random.RandomState(0).choice(55, 27, replace=False)
    assert {s.image for s in data.labelled} == {order[i] for i in half}


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Writes a small split file of the SSB form, or of Herbarium's, and lets it be the published one."""

    def write(root: Path, name: str, known: list[int], new: list[int], pictures: int) -> Path:
        table: dict[str, object] = {
            "known_classes": known,
            "unknown_classes": {"Hard": new[:1], "Medium": new[1:], "Easy": []},
        }
        if name == "herbarium-19":
            table = {"Old": [np.int64(i) for i in known], "New": [np.int64(i) for i in new]}
        file = root / layouts.SPLITS[name].file
        file.write_bytes(pickle.dumps(table, protocol=4))
        sha = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        small = layouts.Published(file.name, sha, len(known), sum(known), len(known) + len(new), pictures)
        monkeypatch.setitem(layouts.SPLITS, name, small)
        return file

    return write


def test_the_published_figures() -> None:
    figures = {n: (s.known, s.classes, s.pictures) for n, s in layouts.SPLITS.items()}
    assert figures == {
        "cub": (100, 200, 5994),
        "stanford-cars": (98, 196, 8144),
        "fgvc-aircraft": (50, 100, 6667),
        "herbarium-19": (341, 683, 34225),
    }


def test_cub(tmp_path: Path, publish: Publish) -> None:
    base = tmp_path / "CUB_200_2011"
    for i in range(9):
        save(base / "images" / f"c{i // 3}" / f"{i}.png", i)
    lines = [f"{i + 1} c{i // 3}/{i}.png" for i in range(9)]
    (base / "images.txt").write_text("\n".join(lines))
    (base / "image_class_labels.txt").write_text("\n".join(f"{i + 1} {i // 3 + 1}" for i in range(9)))
    train = [f"{i + 1} {int(i != 8)}" for i in range(9)]
    (base / "train_test_split.txt").write_text("\n".join(train))
    with pytest.raises(DataError, match="cub_osr_splits"):
        read("cub", tmp_path)
    publish(tmp_path, "cub", [2, 0], [1], 8)
    data = read("cub", tmp_path)
    assert len(data.samples) == 8 and len(data.known) == 2 and len(data.new) == 1
    assert data.known[0].startswith("2") or data.known[0].startswith("002")
    assert len(data.labelled) == 2 and "table" in data.protocol["split"]


def test_stanford_cars(tmp_path: Path, publish: Publish) -> None:
    from scipy.io import savemat

    kind = [(n, object) for n in ("x1", "x2", "y1", "y2", "class", "fname")]
    rows = np.zeros(6, dtype=kind)
    for i in range(6):
        save(tmp_path / "cars_train" / f"{i}.png", i)
        rows[i] = (1, 1, 2, 2, i // 2 + 1, f"{i}.png")
    (tmp_path / "devkit").mkdir()
    savemat(tmp_path / "devkit" / "cars_train_annos.mat", {"annotations": rows})
    publish(tmp_path, "stanford-cars", [0, 2], [1], 6)
    data = read("stanford-cars", tmp_path)
    assert len(data.samples) == 6 and len(data.labelled) == 2 and data.new


def test_fgvc_aircraft_survives_a_missing_last_newline(tmp_path: Path, publish: Publish) -> None:
    for i in range(6):
        save(tmp_path / "data" / "images" / f"{i}.jpg", i)
    text = "".join(f"{i} F/A-{i % 3}\r\n" for i in range(6)).rstrip()
    (tmp_path / "data" / "images_variant_trainval.txt").write_text(text)
    publish(tmp_path, "fgvc-aircraft", [0, 1], [2], 6)
    data = read("fgvc-aircraft", tmp_path)
    assert len(data.samples) == 6 and len({s.truth for s in data.samples}) == 3


def test_herbarium_counts_folders_as_text(tmp_path: Path, publish: Publish) -> None:
    for folder in ("10", "2", "1"):
        for i in range(2):
            save(tmp_path / "small-train" / folder / f"{i}.png", i)
    publish(tmp_path, "herbarium-19", [0, 1], [2], 6)
    data = read("herbarium-19", tmp_path)
    assert [k.split("-")[1] for k in (*data.known, *data.new)] == ["1", "10", "2"]


def herbarium(root: Path) -> Path:
    for folder in "abc":
        for i in range(2):
            save(root / "small-train" / folder / f"{i}.png", i)
    return root


def test_a_changed_split_is_refused(tmp_path: Path, publish: Publish) -> None:
    (tmp_path / "images.txt").write_text("")
    table = {"known_classes": [1, 2], "unknown_classes": {"Hard": [], "Medium": [], "Easy": [3]}}
    file = tmp_path / "cub_osr_splits.pkl"
    file.write_bytes(pickle.dumps(table))
    with pytest.raises(DataError, match="has 2 known classes"):
        layouts.split_table("cub", tmp_path)
    publish(tmp_path, "cub", [0, 2], [2], 8)
    with pytest.raises(DataError, match="each class from 0 to 2 once"):
        layouts.split_table("cub", tmp_path)
    publish(tmp_path, "cub", [0, 2], [1], 8)
    assert layouts.split_table("cub", tmp_path) == ([0, 2], [1])
    file.write_bytes(pickle.dumps(read_plain_pickle(file), protocol=2))
    with pytest.raises(DataError, match="is not the published file"):
        layouts.split_table("cub", tmp_path)


def test_a_set_with_pictures_or_a_class_missing_is_refused(tmp_path: Path, publish: Publish) -> None:
    root = herbarium(tmp_path)
    publish(root, "herbarium-19", [0, 1], [2], 7)
    with pytest.raises(DataError, match="has 6 training pictures, not 7"):
        read("herbarium-19", root)
    publish(root, "herbarium-19", [0, 1], [2, 3], 6)
    with pytest.raises(DataError, match="no picture of class 3"):
        read("herbarium-19", root)


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar(tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 255, (5, 4, 3072), dtype=np.uint8)
    for i in range(5):
        table = {b"data": pixels[i], b"labels": [0, 4, 5, 9], b"filenames": [b"a", b"b", b"c", b"d"]}
        (folder / f"data_batch_{i + 1}").write_bytes(pickle.dumps(table, protocol=protocol))
    data = read("cifar-10", tmp_path)
    assert len(data.samples) == 20 and data.known == ("0", "4") and data.new == ("5", "9")
    assert np.array_equal(
        np.asarray(Image.open(data.samples[4].image)).transpose(2, 0, 1).reshape(-1), pixels[1, 0]
    )


def test_pickles_are_read_and_never_run(tmp_path: Path) -> None:
    file = tmp_path / "x.pkl"
    value = {"a": [1, 2.5, None, True, "text", (1, 2)], "n": np.arange(6.0).reshape(2, 3), "s": np.int64(7)}
    for protocol in (0, 1, 2, 3, 4, 5):
        file.write_bytes(pickle.dumps(value, protocol=protocol))
        found = read_plain_pickle(file)
        assert found["a"] == value["a"] and found["s"] == 7 and np.array_equal(found["n"], value["n"])

    class Bad:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    for protocol in (0, 2, 4):
        file.write_bytes(pickle.dumps({"x": Bad()}, protocol=protocol))
        with pytest.raises(DataError, match="not plain data"):
            read_plain_pickle(file)
    assert not (tmp_path / "made").exists()
    file.write_bytes(pickle.dumps(np.array([Bad()], dtype=object)))
    with pytest.raises(DataError):
        read_plain_pickle(file)
    file.write_bytes(b"not a pickle")
    with pytest.raises(DataError, match="damaged"):
        read_plain_pickle(file)
    with pytest.raises(DataError, match="no such file"):
        read_plain_pickle(tmp_path / "absent")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["a", "longer"]),
        np.array([b"a", b"longer"]),
        np.array([True, False]),
        np.zeros((0, 3), np.uint8),
    ],
    ids=["big-endian", "fortran", "text", "bytes", "bool", "empty"],
)
def test_arrays_of_plain_types_come_out_equal(tmp_path: Path, array: np.ndarray) -> None:
    file = tmp_path / "x.pkl"
    for protocol in range(6):
        file.write_bytes(pickle.dumps([array], protocol=protocol))
        read = read_plain_pickle(file)[0]
        assert np.array_equal(read, array) and read.dtype == array.dtype


class _Calls:
    """Pickled as a call of ``function``."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> object:
        return self.call


HOSTILE = {
    "eval": pickle.dumps(_Calls(eval, "1 + 1")),
    "getattr": pickle.dumps(_Calls(getattr, "text", "upper")),
    "import": pickle.dumps(_Calls(__import__, "os")),
    "numpy function": pickle.dumps(_Calls(np.load, "file")),
    "function itself": pickle.dumps(os.system),
    "class": pickle.dumps(Path),
    "instance": pickle.dumps(Path("x")),
    "object array": pickle.dumps(np.array([1, "a"], dtype=object)),
    "structured array": pickle.dumps(np.zeros(2, dtype=[("a", "O")])),
    "object scalar": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(VO8\ntRC\x08AAAAAAAAtR.",
    "array called": b"cnumpy\nndarray\n(I3\ntR.",
    "state of a list": b"](\x8c\x01aK\x01db.",
    "state of a name": b"c_codecs\nencode\n}(\x8c\x08__code__K\x01ub.",
    "name left": b"c_codecs\nencode\n.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent id": b"Pname\n.",
    "itself": b"]q\x00h\x00a.",
    "memo bomb": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "length bomb": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "shape bomb": b"cnumpy.core.multiarray\n_reconstruct\n(NtR(K\x01(L1000000000000L\nt"
    b"cnumpy\ndtype\n(Vi8\ntR\x89C\x00tb.",
    "deep": b"]" * 100_000 + b"a" * 99_999 + b".",
    "cut off": pickle.dumps({"a": np.arange(5)})[:-20],
    "empty file": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    file = tmp_path / "x.pkl"
    file.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"not plain data|damaged") as caught:
        read_plain_pickle(file)
    assert "\n" not in str(caught.value)


def test_a_refused_pickle_leaves_the_reader_as_it_was(tmp_path: Path) -> None:
    """State set on an allowed name changes nothing for the next file."""
    file = tmp_path / "x.pkl"
    file.write_bytes(HOSTILE["state of a name"])
    with pytest.raises(DataError):
        read_plain_pickle(file)
    file.write_bytes(pickle.dumps(np.arange(3), protocol=2))
    assert read_plain_pickle(file).tolist() == [0, 1, 2]


def test_plain_folder_table_and_class_folders(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "f" / "labelled" / "cat 2" / f"{i}.png", i)
        save(tmp_path / "f" / "labelled" / "cat 10" / "deep" / f"{i}.png", 10 + i)
        save(tmp_path / "f" / "unlabelled" / "x" / f"{i}.png", 20 + i)
    data = read_source(tmp_path / "f")
    assert data.known == ("cat 2", "cat 10") and len(data.unlabelled) == 4 and data.new == ()
    assert data.protocol["new classes"] == "unknown"
    (tmp_path / "f" / "truth.csv").write_text("path,label\nunlabelled/x/0.png,dog\nunlabelled/x/9.png,dog\n")
    data = read_source(tmp_path / "f")
    assert data.new == ("dog",) and (data.truths()[-4:] >= 0).sum() == 1
    assert [p.what for p in check(data)] == ["names unlabelled/x/9.png, which is not there"]
    rows = ["path,label", "labelled/cat 2/0.png,cat", "unlabelled/x/0.png,", "unlabelled/x/1.png,"]
    table = tmp_path / "f" / "labels.csv"
    (tmp_path / "t").mkdir()
    table.rename(tmp_path / "t" / "labels.csv") if table.exists() else None
    (tmp_path / "t" / "labels.csv").write_text("\n".join(rows))
    for name in ("labelled/cat 2/0.png", "unlabelled/x/0.png", "unlabelled/x/1.png"):
        save(tmp_path / "t" / name)
    moved = (tmp_path / "t" / "labelled").rename(tmp_path / "t" / "named")
    text = (tmp_path / "t" / "labels.csv").read_text().replace("labelled/cat 2", f"{moved.name}/cat 2", 1)
    (tmp_path / "t" / "labels.csv").write_text(text)
    data = read_source(tmp_path / "t")
    assert data.known == ("cat",) and len(data.unlabelled) == 2
    data = read_source(f"classes:{tmp_path / 'f' / 'labelled'}")
    assert data.known == ("cat 2",) and data.new == ("cat 10",) and len(data.labelled) == 2


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "labelled").mkdir()
    save(tmp_path / "unlabelled" / "a.png")
    with pytest.raises(DataError, match="no labelled class"):
        read_source(tmp_path)
    save(tmp_path / "labelled" / "a" / "1.png")
    assert any("single labelled" in p.what for p in check(read_source(tmp_path)))
    with pytest.raises(DataError, match="overlaps"):
        read_pair(tmp_path, tmp_path / "unlabelled")
    (tmp_path / "unlabelled" / "a.png").unlink()
    with pytest.raises(DataError, match="no unlabelled picture"):
        read_source(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither a folder"):
        read_source(tmp_path / "empty")
    with pytest.raises(DataError, match="fewer than two"):
        read("classes", tmp_path / "empty")
    (tmp_path / "empty" / "labels.csv").write_text("file,class\na,b\n")
    with pytest.raises(DataError, match="no columns"):
        read_source(tmp_path / "empty")
    (tmp_path / "empty" / "labels.csv").write_text("path,label\na,b\na,b\n")
    with pytest.raises(DataError, match="twice"):
        read_source(tmp_path / "empty")


def test_a_class_without_a_picture_is_named(tmp_path: Path) -> None:
    for number, name in enumerate(
        ("labelled/a/1.png", "labelled/a/2.png", "labelled/c/1.png", "labelled/c/2.png")
    ):
        save(tmp_path / name, number)
    save(tmp_path / "unlabelled" / "1.png", 9)
    (tmp_path / "labelled" / "b").mkdir()
    for data in (read_source(tmp_path), read("classes", tmp_path / "labelled")):
        assert data.known[0] == "a" and "b" not in (*data.known, *data.new)
        assert check(data)[0].what == "class b has no picture"


def test_turned_and_truncated_pictures_in_every_plain_layout(tmp_path: Path) -> None:
    turned = Image.new("RGB", (16, 8), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    for i, name in enumerate(
        ("labelled/a/1.jpg", "labelled/a/2.jpg", "labelled/b/1.jpg", "unlabelled/1.jpg")
    ):
        save(tmp_path / name, i)
    turned.save(tmp_path / "labelled" / "b" / "turned.jpg", exif=exif)
    whole = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(whole).save(tmp_path / "unlabelled" / "cut.jpg")
    file = tmp_path / "unlabelled" / "cut.jpg"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    data = read_source(tmp_path)
    (fault,) = check(data)
    assert fault.file == file
    (found,) = (s.image for s in data.labelled if s.image.name == "turned.jpg")
    assert load_image(found).size == (8, 16)
    (tmp_path / "labels.csv").write_text("path,label\nnamed/b/turned.jpg,b\nunlabelled/cut.jpg,\n")
    (tmp_path / "labelled").rename(tmp_path / "named")
    table = read_source(tmp_path)
    assert [p.what for p in check(table) if p.file == file] == [fault.what]


def test_two_labels_for_one_picture_are_found(tmp_path: Path) -> None:
    for name in ("labelled/a/1.png", "labelled/b/1.png", "unlabelled/c.png"):
        save(tmp_path / name)
    found = [p.what for p in check(read_source(tmp_path))]
    assert any("which is labelled a" in w for w in found) and len(found) == 4


def test_export_is_a_plain_folder(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3), dtype=np.uint8)
    labels, seen = ("a", "a", "b", "b", "c", "c"), np.array([1, 0, 1, 0, 0, 0], bool)
    data = read_source(export(tmp_path / "w", pixels, labels, seen))
    assert data.known == ("a", "b") and data.new == ("c",) and len(data.unlabelled) == 4
