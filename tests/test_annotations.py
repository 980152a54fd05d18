"""Annotation files: in and out without a loss, read by the tools' own libraries, and every damage named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from wildsight.anomaly import data as anomaly
from wildsight.anomaly.result import AnomalyResult
from wildsight.cli import main
from wildsight.datasets import formats
from wildsight.datasets.annotations import brush
from wildsight.datasets.annotations.outlines import polygons_of
from wildsight.datasets.annotations.regions import Annotated, mask_of
from wildsight.datasets.annotations.writing import WRITERS, check_formats, write_annotations
from wildsight.datasets.faults import Faults
from wildsight.errors import ConfigError, DataError
from wildsight.fusion.result import FusionResult
from wildsight.results import Mark, MarkedResult
from wildsight.segmentation import data as segmentation
from wildsight.segmentation.result import SegmentationResult
from wildsight.workflows.inspect import Project, marked
from wildsight.workflows.inspect.project import Find, Looked

cocotools = pytest.importorskip("pycocotools", reason="needs the extra [annotations]")

LABELS = ("crack", "dent", "hole", "scratch", "stain")
PICTURES = 40


def random_masks(count: int = PICTURES) -> list[dict[str, np.ndarray]]:
    """Five masks a picture: speckle and smooth, with holes, at the border, a single pixel, everything."""
    rng = np.random.default_rng(0)
    made: list[dict[str, np.ndarray]] = []
    for _ in range(count):
        shape = rng.integers(8, 32, 2)
        masks = []
        for smooth in (0.5, 0.8, 1.5, 2.5, 4.0):
            noise = ndimage.gaussian_filter(rng.normal(size=shape), smooth)
            masks.append(noise > np.quantile(noise, rng.uniform(0.3, 0.95)))
        made.append(dict(zip(LABELS, masks, strict=True)))
    made[0] = {
        "dent": np.ones((7, 9), bool),
        "crack": np.pad([[True]], ((2, 4), (1, 7))),
        "hole": np.eye(7, 9) > 0,
    }
    return made


MASKS = random_masks()


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@dataclass(frozen=True)
class Drawn(MarkedResult):
    """A result whose marks are given."""

    image: Path | None
    given: tuple[Mark, ...]

    def marks(self, size: tuple[int, int] | None = None) -> list[Mark]:
        return list(self.given)

    def figure(self) -> Any:
        raise NotImplementedError


def drawn_set(folder: Path) -> list[Drawn]:
    """The pictures of the masks, and a good one."""
    folder.mkdir()
    results = []
    for number, masks in enumerate(MASKS):
        file = folder / f"{number:03d}.png"
        height, width = next(iter(masks.values())).shape
        Image.fromarray(np.full((height, width, 3), number, np.uint8)).save(file)
        results.append(Drawn(file, tuple(Mark(label, mask) for label, mask in masks.items())))
    results.append(Drawn(file := folder / "good.png", ()))
    Image.new("RGB", (9, 9)).save(file)
    return results


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Every format in every outline."""
    folder = tmp_path_factory.mktemp("exported")
    results = drawn_set(folder / "pictures")
    found: dict[tuple[str, str], Path] = {}
    for outline, names in (("polygon", list(WRITERS)), ("rle", ["coco", "labelme", "labelstudio"])):
        places = write_annotations(results, folder / outline, names, outline=outline)
        found |= {(name, outline): place for name, place in zip(names, places, strict=True)}
    return found


CASES = [
    (name, outline)
    for name in WRITERS
    for outline in ("polygon", "rle")
    if (name, outline) != ("yolo", "rle")
]


@pytest.mark.parametrize(("name", "outline"), CASES)
def test_a_mask_comes_back_as_it_was(exported: dict[tuple[str, str], Path], name: str, outline: str) -> None:
    found = formats.read(name, exported[name, outline])
    assert isinstance(found, Annotated)
    assert found.classes == LABELS
    pictures = {p.image.name: p for p in found.pictures}
    assert len(pictures) == PICTURES + 1
    assert pictures["good.png"].regions == ()
    for number, masks in enumerate(MASKS):
        regions = pictures[f"{number:03d}.png"].regions
        assert {r.label for r in regions} == set(masks)
        for label, mask in masks.items():
            drawn = [mask_of(r.rle) for r in regions if r.label == label and r.rle is not None]
            assert iou(np.logical_or.reduce(drawn), mask) == 1.0


@pytest.mark.parametrize("outline", ["polygon", "rle"])
def test_pycocotools_reads_our_coco(exported: dict[tuple[str, str], Path], outline: str) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(exported["coco", outline]))
    names = {image["id"]: image["file_name"] for image in coco.loadImgs(coco.getImgIds())}
    labels = {kind["id"]: kind["name"] for kind in coco.loadCats(coco.getCatIds())}
    shares = []
    for note in coco.loadAnns(coco.getAnnIds()):
        mask = MASKS[int(Path(names[note["image_id"]]).stem)][labels[note["category_id"]]]
        shares.append(iou(coco.annToMask(note).astype(bool), mask))
        assert note["area"] == mask.sum()
    assert len(shares) == sum(map(len, MASKS)) >= 195
    assert min(shares) == 1.0


def test_label_studio_reads_our_brush(exported: dict[tuple[str, str], Path]) -> None:
    converter = pytest.importorskip("label_studio_converter.brush", reason="needs Label Studio's converter")
    tasks = json.loads(exported["labelstudio", "rle"].read_text(encoding="utf-8"))
    for task, masks in list(zip(tasks, MASKS, strict=False))[:4]:
        for result, mask in zip(task["annotations"][0]["result"], masks.values(), strict=True):
            values = converter.decode_rle(result["value"]["rle"]).reshape(*mask.shape, 4)
            assert (values[..., 3].astype(bool) == mask).all()


def test_label_studio_reads_our_polygons(exported: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    studio = pytest.importorskip("label_studio_converter", reason="needs Label Studio's converter")
    from pycocotools import mask as cocomask

    file = exported["labelstudio", "polygon"]
    config = (file.parent / "label_config.xml").read_text(encoding="utf-8")
    converter = studio.Converter(config, str(file.parent), download_resources=False)
    converter.convert_to_coco(str(file), str(tmp_path), output_image_dir=str(tmp_path), is_dir=False)
    made = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    names = {c["id"]: c["name"] for c in made["categories"]}
    numbers = {i["id"]: Path(i["file_name"]).stem for i in made["images"]}
    parts: dict[tuple[str, str], list[Any]] = {}
    for note in made["annotations"]:
        key = numbers[note["image_id"]], names[note["category_id"]]
        parts.setdefault(key, []).extend(note["segmentation"])
    assert len(parts) == sum(map(len, MASKS))
    for (number, label), polygons in parts.items():
        mask = MASKS[int(number)][label]
        runs = cocomask.merge(cocomask.frPyObjects(polygons, *mask.shape))
        assert iou(cocomask.decode(runs).astype(bool), mask) >= 0.98


def test_supervision_reads_what_we_write(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="needs the extra [annotations]")
    results = drawn_set(tmp_path / "pictures")[:3]
    coco, yolo, labelme = write_annotations(results, tmp_path / "out", ["coco", "yolo", "labelme"])
    kind = supervision.DetectionDataset
    sets = [
        kind.from_coco(str(coco.parent / "images"), str(coco)),
        kind.from_yolo(str(yolo / "images"), str(yolo / "labels"), str(yolo / "data.yaml")),
        kind.from_labelme(str(labelme), str(labelme)),
    ]
    for found in sets:
        assert found.classes == list(LABELS)
        assert len(found) == 3


def test_results_become_detections(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="needs the extra [annotations]")
    heat = np.zeros((8, 8), np.float32)
    heat[:4, :4] = 2.0
    file = tmp_path / "a.png"
    Image.new("RGB", (16, 24)).save(file)
    found = AnomalyResult(file, 2.0, 1.0, True, heat).to_supervision()
    assert isinstance(found, supervision.Detections)
    assert found.mask.shape == (1, 24, 16)
    assert found.mask.sum() == 8 * 12
    assert found.data["class_name"].tolist() == ["anomaly"]
    assert found.confidence.tolist() == [2.0]
    assert len(AnomalyResult(None, 0.5, 1.0, False, heat).to_supervision()) == 0
    masks = np.stack([heat > 1, heat < 0])
    outlined = SegmentationResult(file, masks, masks, np.zeros((2, 2, 2), np.float32), ({}, {}))
    assert len(outlined.to_supervision()) == 1  # an empty mask is no detection
    assert outlined.to_supervision().confidence is None
    scene = FusionResult("s", (heat > 1).astype(np.int64) * 2, heat / 2, ("background", "road", "crack"))
    assert scene.to_supervision().data["class_name"].tolist() == ["crack"]


def test_polygons_and_brush_of_single_pixels() -> None:
    assert polygons_of(np.zeros((3, 3), bool)) == []
    assert polygons_of(np.ones((1, 1), bool))[0].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    for mask in MASKS[3].values():
        values = brush.decode(brush.encode(mask), 4 * mask.size)
        assert (values.reshape(*mask.shape, 4)[..., 3] > 0).tolist() == mask.tolist()
    with pytest.raises(ValueError, match="another size"):
        brush.decode(brush.encode(mask), 4)
    with pytest.raises(ValueError, match="end early"):
        brush.decode(brush.encode(mask)[:-3], 4 * mask.size)


# -- sources ----------------------------------------------------------------------------------------

SQUARE = [2, 3, 8, 3, 8, 9, 2, 9]


def picture(file: Path, seed: int = 0, size: tuple[int, int] = (20, 12)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(file)
    return file


def coco_set(root: Path) -> Path:
    """Two dents, a crack and three good pictures."""
    for number in range(6):
        picture(root / "images" / f"{number}.png", number)
    images = [{"id": n, "file_name": f"{n}.png", "width": 20, "height": 12} for n in range(6)]
    notes = [{"id": n, "image_id": n, "category_id": 1 + n // 2, "segmentation": [SQUARE]} for n in range(3)]
    kinds = [{"id": 1, "name": "dent"}, {"id": 2, "name": "crack"}]
    return write(root / "set.json", {"images": images, "annotations": notes, "categories": kinds})


def write(file: Path, value: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return file


def yolo_set(root: Path) -> Path:
    for number, split in enumerate(("train", "train", "train", "val", "val")):
        picture(root / "images" / split / f"{number}.png", number)
        line = "" if number in (0, 3) else "1 0.1 0.25 0.4 0.25 0.4 0.75 0.1 0.75\n"
        write(root / "labels" / split / f"{number}.txt", line)
    write(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: {0: dent, 1: crack}\n")
    return root


def labelme_set(root: Path) -> Path:
    shapes = [
        {"label": "dent", "shape_type": "polygon", "points": [[2, 3], [8, 3], [8, 9], [2, 9]]},
        {"label": "crack", "shape_type": "circle", "points": [[6, 6], [9, 6]]},
    ]
    for number, own in enumerate(([], shapes[:1], shapes[1:], [])):
        picture(root / f"{number}.png", number)
        value = {"imagePath": f"{number}.png", "imageWidth": 20, "imageHeight": 12, "shapes": own}
        write(root / f"{number}.json", value)
    return root


def labelstudio_set(root: Path) -> Path:
    value: dict[str, Any] = {"points": [[10, 25], [40, 25], [40, 75], [10, 75]], "polygonlabels": ["dent"]}
    result = {"id": "r", "type": "polygonlabels", "value": value, "original_width": 20, "original_height": 12}
    tasks = []
    for number, results in enumerate(([], [result], [result], [])):
        picture(root / f"{number}.png", number)
        data = {"image": f"/data/upload/1/0a1b2c3d-{number}.png"}
        tasks.append({"id": number, "data": data, "annotations": [{"result": results}]})
    return write(root / "export.json", tasks)


SETS: dict[str, Callable[[Path], Path]] = {
    "coco": coco_set, "yolo": yolo_set, "labelme": labelme_set, "labelstudio": labelstudio_set,
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_every_format_is_a_source_of_the_tasks_of_defects(name: str, tmp_path: Path) -> None:
    source = f"{name}:{SETS[name](tmp_path)}"
    found = segmentation.read_source(source)
    assert found.name == name
    assert {s.defect for s in found.samples} <= {"dent", "crack"}
    for sample in found.samples:
        mask = segmentation.read_mask(sample)
        assert mask.shape == (12, 20)
        assert mask.sum() == 36 or sample.defect == "crack"
    assert segmentation.check_source(source) == [] or name == "yolo"
    data = anomaly.read_source(source)
    assert {s.label for s in data.samples} == {0, 1}
    assert all(anomaly.read_mask(s, (12, 20)).any() == bool(s.label) for s in data.samples)
    assert data.normal


def test_yolo_keeps_its_own_split(tmp_path: Path) -> None:
    data = anomaly.read_source(f"yolo:{yolo_set(tmp_path)}")
    assert {s.image.name: s.split for s in data.samples}["3.png"] == "test"
    assert data.protocol["split"] == "the set's own"


def edited(file: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(file.read_text(encoding="utf-8"))
    change(value)
    file.write_text(json.dumps(value), encoding="utf-8")


def set_note(**values: Any) -> Callable[[Path], None]:
    return lambda root: edited(root / "set.json", lambda v: v["annotations"][1].update(values))


def set_image(**values: Any) -> Callable[[Path], None]:
    return lambda root: edited(root / "set.json", lambda v: v["images"][1].update(values))


def set_shape(**values: Any) -> Callable[[Path], None]:
    return lambda root: edited(root / "1.json", lambda v: v["shapes"][0].update(values))


def set_result(**values: Any) -> Callable[[Path], None]:
    return lambda root: edited(
        root / "export.json", lambda v: v[1]["annotations"][0]["result"][0].update(values)
    )


def set_line(text: str) -> Callable[[Path], Path]:
    return lambda root: write(root / "labels" / "train" / "1.txt", text)


OUTSIDE = [[0, 0], [900, 0], [9, 9]]
LABELLED = {"polygonlabels": ["dent"]}
BRUSHED = {"brushlabels": ["dent"], "format": "rle", "rle": [1, 2, 3]}
DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("coco", lambda r: write(r / "set.json", '{"images": ['), "not a readable JSON file"),
    ("coco", lambda r: write(r / "set.json", "[]"), "is no COCO file: it has no 'images'"),
    ("coco", set_note(category_id=7), "annotation 1 is of the unknown category 7"),
    ("coco", set_note(image_id=99), "annotation 1 is of image 99, which is not listed"),
    ("coco", set_note(segmentation=[[0, 0, 90, 0, 90, 9]]), "1 reaches 70 pixels outside its picture of 20"),
    ("coco", set_note(segmentation=[[0, 0, 9, 9]]), "annotation 1 has a polygon of 4 numbers"),
    ("coco", set_note(segmentation=[["a"] * 6]), "annotation 1 has a polygon of what is no number"),
    ("coco", set_note(segmentation=[[2, 2, 2, 2, 2, 2]]), "annotation 1 marks no pixel"),
    ("coco", set_note(segmentation={"size": [9, 9], "counts": [81]}), "has runs for [height, width] [9, 9]"),
    ("coco", set_note(segmentation={"size": [12, 20], "counts": [9]}), "annotation 1 has damaged runs"),
    ("coco", set_note(segmentation={"size": [12, 20], "counts": "o2"}), "annotation 1 has damaged runs"),
    ("coco", set_image(file_name="lost.png"), "image 1 names the picture 'lost.png', which is not there"),
    ("coco", set_image(file_name="../../../etc/a.png"), "which is not there"),
    ("coco", set_image(width=640), "image 1 is for 640 x 12, its picture 1.png is 20 x 12"),
    ("coco", set_image(id=0), "image 0 is there twice"),
    ("yolo", set_line("1 0.1 x 0.4 0.2 0.4 0.7\n"), "line 1 holds what is no number"),
    ("yolo", set_line("\n5 0.1 0.1 0.4 0.2 0.4 0.7\n"), "line 2 is of the unknown class 5"),
    ("yolo", set_line("1 10 10 40 20 40 70\n"), "pixels outside its picture of 20 x 12"),
    ("yolo", set_line("1 0.5\n"), "line 1 has 2 numbers"),
    ("yolo", lambda r: write(r / "labels" / "train" / "77.txt", ""), "labels no picture"),
    ("yolo", lambda r: write(r / "data.yaml", "names: [a\n"), "not a readable YAML file"),
    ("yolo", lambda r: write(r / "data.yaml", "train: images/train\n"), "names no classes"),
    ("labelme", lambda r: write(r / "1.json", "{"), "not a readable JSON file"),
    ("labelme", set_shape(label=" "), "shape 1 has no label"),
    ("labelme", set_shape(shape_type="spiral"), "shape 1 is of the unknown type 'spiral'"),
    ("labelme", set_shape(shape_type="mask", mask="?"), "shape 1 holds a mask that cannot be read"),
    ("labelme", set_shape(points=[[0, 0], [0, 50], [9, 9]]), "shape 1 reaches 38 pixels outside"),
    ("labelme", lambda r: (r / "1.png").unlink(), "names the picture '1.png', which is not there"),
    ("labelme", lambda r: picture(r / "1.png", 1, (40, 24)), "for 20 x 12, its picture 1.png is 40 x 24"),
    ("labelstudio", lambda r: write(r / "export.json", "{}"), "is no list of Label Studio's tasks"),
    ("labelstudio", lambda r: write(r / "export.json", [{"image": "0.png"}]), "in Label Studio's short form"),
    ("labelstudio", set_result(value={"points": OUTSIDE, **LABELLED}), "region r reaches"),
    ("labelstudio", set_result(type="brushlabels", value=BRUSHED), "region r has runs that cannot be read"),
    ("labelstudio", set_result(value={"points": OUTSIDE}), "region r has no label"),
    ("labelstudio", set_result(original_width=640), "task 1 is for 640 x 12, its picture 1.png is 20 x 12"),
]


@pytest.mark.parametrize(("name", "damage", "what"), DAMAGE)
def test_damage_is_named_by_the_check_and_refused_by_the_fit(
    name: str, damage: Callable[[Path], object], what: str, tmp_path: Path
) -> None:
    source = f"{name}:{SETS[name](tmp_path)}"
    damage(tmp_path)
    for task in (segmentation, anomaly):
        problems = task.check_source(source)
        assert any(what in p.what for p in problems), problems
        assert all(p.file.is_relative_to(tmp_path) and p.hint for p in problems)
        with pytest.raises(DataError) as refused:
            task.read_source(source)
        assert what in refused.value.what
        assert refused.value.hint


def test_every_damaged_entry_is_named(tmp_path: Path) -> None:
    file = coco_set(tmp_path)
    set_note(category_id=7)(tmp_path)
    set_image(width=640)(tmp_path)
    edited(file, lambda v: v["annotations"][2].update(segmentation=[[0, 0, 1, 1]]))
    assert [p.what.split()[0:2] for p in segmentation.check_source(f"coco:{file}")] == [
        ["image", "1"], ["annotation", "1"], ["annotation", "2"],
    ]  # fmt: skip


def test_a_box_is_no_outline(tmp_path: Path) -> None:
    file = coco_set(tmp_path)
    set_note(segmentation=[], bbox=[1, 1, 4, 4])(tmp_path)
    found = anomaly.read_source(f"coco:{file}")
    assert [s.masks for s in found.samples if s.image.stem == "1"] == [()]
    assert any("without a mask" in p.what for p in segmentation.check_source(f"coco:{file}"))
    edited(file, lambda v: v["annotations"].append({**v["annotations"][0], "id": 9, "image_id": 1}))
    assert "annotation 1 of 1.png outlines nothing" in anomaly.check_source(f"coco:{file}")[0].what


def test_what_is_not_annotated_is_left_out_and_counted(tmp_path: Path) -> None:
    labelme_set(tmp_path)
    picture(tmp_path / "9.png", 9)
    (problem,) = segmentation.check_source(f"labelme:{tmp_path}")
    assert problem.what == "not annotated, so left out (1 such picture)"


def test_a_wrong_place_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = coco_set(tmp_path)
    for source, what in (
        (f"coco:{tmp_path}", "is a folder; name the file, as in coco:"),
        (f"coco:{tmp_path / 'none.json'}", "no such file; check the path"),
        (f"yolo:{file}", "not a folder"),
        (f"yolo:{tmp_path}", "holds no data.yaml and no classes.txt"),
        (f"labelme:{tmp_path / 'images'}", "holds no LabelMe file"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["segmentation", "check", source])
        assert left.value.code == 2
        assert what in capsys.readouterr().err


def test_formats_are_checked_before_any_work() -> None:
    with pytest.raises(ConfigError, match="no annotation format is called 'voc'; use one of coco, yolo"):
        check_formats(["voc"])
    with pytest.raises(ConfigError, match="polygons alone"):
        check_formats(["coco", "yolo"], "rle")
    with pytest.raises(ConfigError, match="no outline is called 'box'"):
        check_formats(["coco"], "box")


def test_a_result_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the picture is not known; predict for files"):
        write_annotations([Drawn(None, ())], tmp_path, ["coco"])
    file = picture(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="is 20 x 12, what is marked in it is not"):
        write_annotations([Drawn(file, (Mark("x", np.ones((3, 3), bool)),))], tmp_path, ["coco"])


def test_two_pictures_of_one_name_stay_apart(tmp_path: Path) -> None:
    files = [picture(tmp_path / folder / "a.png", seed) for seed, folder in enumerate(("one", "two"))]
    (place,) = write_annotations([Drawn(f, ()) for f in files], tmp_path / "out", ["labelme"])
    found = formats.read("labelme", place, Faults())
    assert sorted(p.image.name for p in found.pictures) == ["00001-a.png", "a.png"]
    (tmp_path / "coco").mkdir()
    picture(tmp_path / "coco" / "mine.png")
    with pytest.raises(ConfigError, match="holds something"):
        write_annotations([Drawn(files[0], ())], tmp_path, ["coco"])


def test_an_inspection_is_written_under_its_names(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    finds = tuple(Find(f"{'0' * 16}-{n}", (0, 0, 4, 4), 9, 1.5) for n in range(2))
    names = {finds[0].id: "scratch", finds[1].id: "good"}
    looked = {
        "0": Looked("0" * 64, str(file), 2.0, 1.0, finds),
        "1": Looked("1" * 64, str(file), 0.5, 1.0, ()),
    }
    project = Project(tmp_path, {}, looked, names=names)
    for find in finds:
        mask = project.mask(find.id)
        mask.parent.mkdir(exist_ok=True)
        Image.fromarray(np.pad(np.full((6, 6), 255, np.uint8), ((2, 4), (3, 11)))).save(mask)
    (place,) = write_annotations(marked(project), tmp_path / "annotations", ["coco"])
    found = formats.read("coco", place)
    assert isinstance(found, Annotated)
    assert [[r.label for r in p.regions] for p in found.pictures] == [["scratch"], []]
    rle = found.pictures[0].regions[0].rle
    assert rle is not None
    assert mask_of(rle).sum() == 36


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (
            ["anomaly", "predict", "none", "none", "--annotations", "voc"],
            "no annotation format is called 'voc'",
        ),
        (
            ["fusion", "predict", "none", "rgb=a", "--annotations", "yolo", "--outline", "rle"],
            "polygons alone",
        ),
        (["segmentation", "predict", "none", "none", "--outline", "rle"], "--outline: nothing is outlined"),
        (["inspect", "report", "none", "--annotations", "voc"], "no annotation format is called 'voc'"),
    ],
)
def test_a_wrong_format_is_refused_first(
    words: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert what in capsys.readouterr().err
