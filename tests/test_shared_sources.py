"""Sources that tasks share: a CSV with labels and masks, a set of the hub, annotations of pairs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wildsight.anomaly import data as anomaly
from wildsight.composition import data as composition
from wildsight.continual import data as continual
from wildsight.discovery import data as discovery
from wildsight.errors import DataError
from wildsight.fusion import data as fusion
from wildsight.retrieval import data as retrieval
from wildsight.segmentation import data as segmentation
from wildsight.spatial import data as spatial

SIZE = (20, 12)


def picture(file: Path, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(file)
    return file


def mask(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    values[2:6, 3:8] = 255
    Image.fromarray(values).save(file)
    return file


def table(root: Path, text: str) -> Path:
    """A CSV whose pictures are drawn: every cell that ends in .png."""
    cells = [cell.strip() for line in text.splitlines() for cell in line.replace("|", ",").split(",")]
    for seed, name in enumerate(dict.fromkeys(c for c in cells if c.endswith(".png"))):
        (mask if "mask" in name else lambda f, s=seed: picture(f, s))(root / name)
    root.mkdir(exist_ok=True)
    file = root / "set.csv"
    file.write_text(text, encoding="utf-8")
    return file


DEFECTS = """image,label,mask,split
a/0.png,good,,train
a/1.png,good,,train
a/2.png,ok,,test
b/3.png,crack,b/3_mask.png,test
b/4.png,,m/4_mask.png|m/5_mask.png,train
"""
PAIRS = "image,attribute,object\n" + "".join(
    f"p/{a}{o}{n}.png,{a},{o}\n" for a in ("wet", "dry") for o in ("cat", "dog") for n in range(3)
)
CLASSES = "image,label,truth\n" + "".join(
    f"p/{c}{n}.png,{'' if n == 2 else c},{c}\n" for c in ("ant", "bee") for n in range(3)
)
TASKS = "image,label,split,task\n" + "".join(
    f"p/{t}{c}{s}.png,{t} {c},{s},{t}\n"
    for t in ("one", "two")
    for c in ("x", "y")
    for s in ("train", "test")
)
SKETCHES = "image,label,modality\n" + "".join(
    f"p/{c}{m}.png,{c},{m}\n" for c in ("ant", "bee", "cow", "dog", "elk") for m in ("sketch", "Photo")
)
SCENES = """rgb,thermal,mask,split
p/0.png,t/0.png,m/0_mask.png,train
p/1.png,,m/1_mask.png,test
"""


def test_defects(tmp_path: Path) -> None:
    source = f"csv:{table(tmp_path, DEFECTS)}"
    data = anomaly.read_source(source)
    assert [(s.defect, s.split, len(s.masks)) for s in data.samples] == [
        ("good", "train", 0), ("good", "train", 0), ("good", "test", 0),
        ("crack", "test", 1), ("defect", "train", 2),
    ]  # fmt: skip
    assert anomaly.check_source(source) == []
    found = segmentation.read_source(source)
    assert [(s.defect, s.split) for s in found.samples] == [("crack", "test"), ("defect", "train")]
    assert segmentation.read_mask(found.samples[1]).sum() == 20
    assert segmentation.check_source(source) == []


def test_pairs(tmp_path: Path) -> None:
    source = f"csv:{table(tmp_path, PAIRS)}"
    data = composition.read_source(source)
    assert (data.attributes, data.objects, len(data.samples)) == (("dry", "wet"), ("cat", "dog"), 12)
    (tmp_path / "unseen_pairs.txt").write_text("wet cat\n")
    assert set(composition.read_source(source).pairs["test"]) - set(composition.read_source(source).seen) == {
        ("wet", "cat")
    }


def test_classes(tmp_path: Path) -> None:
    source = f"csv:{table(tmp_path, CLASSES)}"
    data = discovery.read_source(source)
    assert (len(data.labelled), len(data.unlabelled), data.known, data.new) == (4, 2, ("ant", "bee"), ())
    assert discovery.check_source(source) == []


def test_tasks(tmp_path: Path) -> None:
    source = f"csv:{table(tmp_path, TASKS)}"
    data = continual.read_source(source)
    assert [(t.name, t.classes, len(t.train), len(t.test)) for t in data.tasks] == [
        ("one", ("one x", "one y"), 2, 2), ("two", ("two x", "two y"), 2, 2),
    ]  # fmt: skip
    assert continual.check_source(source) == []


def test_sketches(tmp_path: Path) -> None:
    source = f"csv:{table(tmp_path, SKETCHES)}"
    data = retrieval.read_source(source)
    assert len(data.classes("test")) == 1
    assert len(data.items) == 10
    assert retrieval.check_source(source) == []


def test_scenes(tmp_path: Path) -> None:
    source = f"csv:{table(tmp_path, SCENES)}"
    data = fusion.read_source(source)
    assert data.modalities == ("rgb", "thermal")
    assert [sorted(s.pictures) for s in data.found.samples] == [["rgb", "thermal"], ["rgb"]]
    assert fusion.read_mask(data.found.samples[0], data.found).sum() == 20
    assert [p.what for p in fusion.check_source(source)] == ["scene p/1 has no thermal"]


def test_boxes_in_space(tmp_path: Path) -> None:
    rows = "image,expression,name,x,y,z,length,height,width,yaw,split\n"
    rows += "p/0.png,the car,car,0,0,5,1,1,1,0,train\np/1.png,the car,car,0,0,6,1,1,1,0,test\n"
    file = table(tmp_path, rows)
    for name in ("0", "1"):
        calibration = tmp_path / "calib" / f"{name}.txt"
        calibration.parent.mkdir(exist_ok=True)
        calibration.write_text("P2: 20 0 10 0 0 20 6 0 0 0 1 0\n")
    data = spatial.read_source(f"csv:{file}")
    assert [(s.expression, s.split, s.targets[0].centre.tolist()) for s in data.samples] == [
        ("the car", "train", [0, 0, 5]), ("the car", "test", [0, 0, 6]),
    ]  # fmt: skip
    assert spatial.check_source(f"csv:{file}") == []
    file.write_text(rows.replace(",6,1", ",far,1"))
    assert spatial.check_source(f"csv:{file}")[0].what == "line 3 holds what is no number"


def test_coco_with_boxes_in_space(tmp_path: Path) -> None:
    note = {
        "category_name": "car", "center_cam": [0, 0, 5], "dimensions": [1, 1, 1], "R_cam": np.eye(3).tolist(),
        "bbox2D_proj": [6, 2, 14, 10], "valid3D": True,
    }  # fmt: skip
    image = {"width": 20, "height": 12, "K": [[20, 0, 10], [0, 20, 6], [0, 0, 1]]}
    for number in range(2):
        picture(tmp_path / f"{number}.png", number)
    images = [{**image, "id": n, "file_name": f"{n}.png"} for n in range(2)]
    notes = [{**note, "id": n, "image_id": n} for n in range(2)]
    for split in ("train", "test"):
        file = tmp_path / f"mine_{split}.json"
        file.write_text(json.dumps({"images": images, "annotations": notes}))
        data = spatial.read_source(f"coco:{file}")
        assert {s.split for s in data.samples} == {split}
        assert {s.targets[0].name for s in data.samples} == {"car"}


TASK_OF: dict[str, tuple[Any, str]] = {
    "anomaly": (anomaly, DEFECTS),
    "composition": (composition, PAIRS),
    "continual": (continual, TASKS),
    "discovery": (discovery, CLASSES),
    "fusion": (fusion, SCENES),
    "retrieval": (retrieval, SKETCHES),
    "segmentation": (segmentation, DEFECTS),
}


@pytest.mark.parametrize("name", TASK_OF)
def test_a_row_that_does_not_fit_is_named_in_every_task(name: str, tmp_path: Path) -> None:
    task, text = TASK_OF[name]
    file = table(tmp_path, text)
    first = text.splitlines()[1]
    shown = first.split(",")[0]
    (tmp_path / shown).unlink()
    with pytest.raises(DataError, match=f"line 2 names {shown}, which is not there; correct the path"):
        task.read_source(f"csv:{file}")
    assert [p.what for p in task.check_source(f"csv:{file}")] == [f"line 2 names {shown}, which is not there"]
    file.write_text("colour\nred\n")
    with pytest.raises(DataError, match="has no column"):
        task.read_source(f"csv:{file}")


def test_a_table_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    for text, what in (
        ("image,label\n", "holds no row"),
        ("image,label,split\na.png,good,exam\n", "line 2 has the unknown split 'exam'"),
        ("image,label\na.png,good\na.png,bad\n", "line 3 names a.png again, after line 2"),
        ("image,label\n../b.png,good\n", "which is not below its folder"),
    ):
        file = table(tmp_path / "in", text)
        assert what in anomaly.check_source(f"csv:{file}")[0].what


# -- annotations of pairs ----------------------------------------------------------------------------


def labelme_pair(root: Path, number: int, *labels: str) -> None:
    points = [[2, 3], [8, 3], [8, 9], [2, 9]]
    picture(root / f"{number}.png", number)
    shapes = [{"label": label, "shape_type": "polygon", "points": points} for label in labels]
    (root / f"{number}.json").write_text(json.dumps({"imagePath": f"{number}.png", "shapes": shapes}))


def test_annotated_pairs(tmp_path: Path) -> None:
    for number, pair in enumerate(["wet_cat", "dry dog", "wet dog", "dry_cat"] * 4):
        labelme_pair(tmp_path, number, pair, pair)
    data = composition.read_source(f"labelme:{tmp_path}")
    assert (data.attributes, data.objects, len(data.samples)) == (("dry", "wet"), ("cat", "dog"), 16)
    labelme_pair(tmp_path, 0, "wet cat", "dry cat")
    labelme_pair(tmp_path, 1, "cat")
    labelme_pair(tmp_path, 2)
    assert [p.what for p in composition.check_source(f"labelme:{tmp_path}")] == [
        "0.png shows several pairs", "1.png shows 'cat', which is no pair", "2.png shows no pair",
    ]  # fmt: skip


def test_choices_are_pairs(tmp_path: Path) -> None:
    tasks = []
    for number, (attribute, name) in enumerate([("wet", "cat"), ("dry", "dog")] * 4):
        picture(tmp_path / f"{number}.png", number)
        said = {"attribute": attribute, "object": name}
        results = [{"type": "choices", "from_name": q, "value": {"choices": [w]}} for q, w in said.items()]
        data = {"image": f"/data/local-files/?d=set/{number}.png"}
        tasks.append({"id": number, "data": data, "annotations": [{"result": results}]})
    file = tmp_path / "export.json"
    file.write_text(json.dumps(tasks))
    assert composition.read_source(f"labelstudio:{file}").pairs["train"] == (("dry", "dog"), ("wet", "cat"))


# -- the hub ----------------------------------------------------------------------------


def encoded(draw: Callable[[Path], Path], file: Path) -> dict[str, Any]:
    return {"bytes": draw(file).read_bytes(), "path": None}


@pytest.mark.slow
def test_a_set_of_the_hub_is_read_from_a_local_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra [hub]")
    kinds = datasets.ClassLabel(names=["good", "crack"])
    features = datasets.Features({"photo": datasets.Image(), "mask": datasets.Image(), "kind": kinds})
    folder = tmp_path / "set"
    folder.mkdir()
    for split, labels in (("train", [0, 0, 1]), ("test", [0, 1])):
        rows = [
            {
                "photo": encoded(partial(picture, seed=number + 10 * len(labels)), tmp_path / "a.png"),
                "mask": encoded(mask, tmp_path / "m.png") if label else None,
                "kind": label,
            }
            for number, label in enumerate(labels)
        ]
        made = datasets.Dataset.from_list(rows, features=features)
        made.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    data = anomaly.read_source(f"hf:{folder}")
    assert [(s.defect, s.split, len(s.masks)) for s in data.samples if s.label] == [
        ("crack", "train", 1), ("crack", "test", 1),
    ]  # fmt: skip
    assert len(data.samples) == 5
    assert Image.open(io.BytesIO(data.samples[0].image.read_bytes())).size == SIZE
    assert len(segmentation.read_source(f"hf:{folder}").samples) == 2


def test_what_is_no_set_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        anomaly.read_source(f"hf:{tmp_path / 'none'}")
    with pytest.raises(DataError, match="holds no parquet file"):
        anomaly.read_source(f"hf:{tmp_path}")
