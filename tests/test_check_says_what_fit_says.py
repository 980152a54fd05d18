"""Damaged folders of every task: what stops a fit, and what it would drop, is named by ``check``."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from wildsight.errors import WildSightError
from wildsight.images import load_image
from wildsight.sources import Problem

SETS = Path(__file__).parent / "regression" / "sets"
Damage = Callable[[Path, Path, Path], None]


def missing(one: Path, _other: Path, _root: Path) -> None:
    one.unlink()


def truncated(one: Path, _other: Path, _root: Path) -> None:
    one.write_bytes(one.read_bytes()[:40])


def no_picture(one: Path, _other: Path, _root: Path) -> None:
    one.write_text("not a picture")


def emptied(one: Path, _other: Path, _root: Path) -> None:
    for file in one.parent.glob("*.png"):
        file.unlink()


def doubled(one: Path, other: Path, _root: Path) -> None:
    shutil.copy(one, other.with_name(f"again-{other.name}"))


def paged(one: Path, _other: Path, _root: Path) -> None:
    picture = Image.open(one).convert("RGB")
    picture.save(one, save_all=True, append_images=[Image.new("RGB", picture.size)])


def case_twin(one: Path, _other: Path, root: Path) -> None:
    if one.parent != root:
        shutil.copytree(one.parent, one.parent.with_name(one.parent.name.upper()), dirs_exist_ok=True)


def grey_values(one: Path, _other: Path, _root: Path) -> None:
    """A mask of many values; a picture like any other."""
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).resize(Image.open(one).size).save(one)


def other_format(one: Path, _other: Path, _root: Path) -> None:
    one.rename(one.with_suffix(".heic"))


def nothing(_one: Path, _other: Path, _root: Path) -> None:
    pass


DAMAGES: tuple[Damage, ...] = (
    missing, truncated, no_picture, emptied, doubled, paged, case_twin, grey_values, other_format, nothing,
)  # fmt: skip
TASKS = ("anomaly", "segmentation", "composition", "retrieval", "discovery", "continual", "fusion", "spatial")


def pictures_of(task: str, data: Any) -> Iterator[tuple[Path, Callable[[], Any]]]:
    """Each picture that a fit or an evaluation reads, with how it is read."""
    module = importlib.import_module(f"wildsight.{task}.data")
    if task == "continual":
        yield from ((f, lambda f=f: load_image(f)) for t in data.tasks for f, _ in (*t.train, *t.test))
    elif task == "fusion":
        for sample in data.found.samples:
            for name, file in sample.pictures.items():
                scale = data.found.scales.get(name)
                yield file, lambda f=file, n=name, s=scale: module.read_values(f, n, s)
            if sample.mask is not None:
                yield sample.mask, lambda s=sample: module.read_mask(s, data.found)
    elif task == "retrieval":
        yield from ((i.file, lambda i=i: load_image(i.file)) for i in data.items)
    else:
        for sample in data.samples:
            yield sample.image, lambda s=sample: load_image(s.image)
            if getattr(sample, "masks", ()):
                size = ((8, 8),) if task == "anomaly" else ()
                both = sample.masks[0] if not fails(lambda s=sample: load_image(s.image)) else sample.image
                yield both, lambda s=sample, z=size: module.read_mask(s, *z)


def fails(read: Callable[[], Any]) -> bool:
    try:
        read()
    except WildSightError:
        return True
    return False


def named(file: Path, problems: Iterable[Problem]) -> bool:
    return any(Path(p.file) == file or file.name in f"{p.file} {p.what}" for p in problems)


def checked(module: Any, root: Path) -> list[Problem] | None:
    """The problems found; None where check itself refuses the folder."""
    try:
        problems: list[Problem] = module.check_source(root)
    except WildSightError:
        return None
    return problems


@pytest.mark.parametrize("task", TASKS)
@settings(
    max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(data=st.data())
def test_what_fit_refuses_or_drops_is_named(task: str, data: st.DataObject) -> None:
    module = importlib.import_module(f"wildsight.{task}.data")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(SETS / task, Path(folder) / "set"))
        files = sorted(root.rglob("*.png"))
        damage = data.draw(st.sampled_from(DAMAGES))
        one, other = data.draw(st.sampled_from(files)), data.draw(st.sampled_from(files))
        damage(one, other, root)
        problems = checked(module, root)
        try:
            read = module.read_source(root)
        except WildSightError as error:
            assert problems != [], f"{damage.__name__}: check finds nothing, fit says: {error}"
            return
        dropped = [file for file, how in pictures_of(task, read) if fails(how)]
        assert problems is not None, f"{damage.__name__}: check refuses what fit reads"
        for file in dropped:
            assert named(file, problems), f"{damage.__name__}: fit drops {file}, check says {problems}"


@pytest.mark.parametrize("task", TASKS)
def test_every_damage_of_one_picture(task: str, tmp_path: Path) -> None:
    """Unreadable, truncated, of two pages: read by none, so named in every task, and nowhere before."""
    module = importlib.import_module(f"wildsight.{task}.data")
    before = checked(module, SETS / task)
    assert before is not None
    for damage in (truncated, no_picture, paged):
        root = Path(shutil.copytree(SETS / task, tmp_path / damage.__name__))
        one = sorted(root.rglob("*.png"))[0]
        damage(one, one, root)
        problems = checked(module, root)
        assert problems is None or len(problems) > len(before), f"{damage.__name__} of {one}"
