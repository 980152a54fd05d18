"""The world's pictures do not hang on the last bits of a coordinate: no BLAS, no amplified rounding.

Processors round differently, by a relative 1e-7 in single precision. Here every sum over coordinates
(`world.sums`, through which each point and direction passes) is disturbed by ten times as much, at random.
No more than a thousandth of the pixels may change by more than two of 256 levels.
"""

import ast
from pathlib import Path

import numpy as np
import pytest

import wildsight.world
from wildsight.world import (
    drawing,
    labels,
    lighting,
    materials,
    outlines3d,
    products,
    shapes2d,
    shapes3d,
    sums,
)
from wildsight.world import render as rendering
from wildsight.world import scene as scenes
from wildsight.world.drawing import sketch
from wildsight.world.materials import LOOKS, Spot, floor_colour, hue_of, surface
from wildsight.world.portraits import portrait
from wildsight.world.products import CATEGORIES, DEFECTS, render_product
from wildsight.world.render import render
from wildsight.world.scene import FLOORS, random_scene
from wildsight.world.sensors import FAILURES, SENSORS, sense
from wildsight.world.shapes3d import SOLIDS
from wildsight.world.sheets import SHEETS, sheet

DISTURBED = 1e-6
LEVELS = 2
SHARE = 1e-3
MODULES = (drawing, labels, lighting, materials, outlines3d, products, rendering, scenes, shapes2d, shapes3d)
BANNED = {"dot", "vdot", "vecdot", "inner", "outer", "matmul", "matvec", "vecmat", "tensordot", "einsum"}
BANNED |= {"linalg", "cov", "corrcoef", "polyfit", "convolve", "correlate"}
SHAPES = tuple(SOLIDS)


def disturbed(values, rng):
    """The values, each by another factor of 1 - 1e-6 to 1 + 1e-6."""
    return (values * (1 + DISTURBED * rng.uniform(-1, 1, np.shape(values)))).astype(values.dtype)


@pytest.fixture
def disturb(monkeypatch):
    """From its call on, what the world's sums return is disturbed, in every module that uses them."""

    def begin():
        rng = np.random.default_rng(0)
        for name in ("turned", "dotted", "lengths"):
            exact = getattr(sums, name)

            def rough(*operands, exact=exact):
                return disturbed(np.asarray(exact(*operands)), rng)

            for module in MODULES:
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, rough)

    return begin


def changed(before, after):
    """The share of pixels that change by more than two levels, over lists of pictures [S, S, C]."""
    gaps = [np.abs(a.astype(np.int16) - b).max(-1) for a, b in zip(before, after, strict=True)]
    return np.mean(np.concatenate([gap.ravel() for gap in gaps]) > LEVELS)


def sensed(seed, failure):
    readings = sense(random_scene(seed, count=None), 48, failure=failure).inputs.values()
    return np.concatenate([(v * 255 + 0.5).astype(np.uint8) for v in readings], -1)


KINDS = {
    "scenes": lambda: [render(random_scene(s, count=None, shapes=SHAPES), 96).rgb for s in range(40)],
    "portraits": lambda: [render(portrait(s, shape=SHAPES[s % 20]), 96).rgb for s in range(40)],
    "products": lambda: [
        render_product(CATEGORIES[s % 7], s, defect=DEFECTS[s // 7], size=96).image for s in range(49)
    ],
    "sensors": lambda: [
        sensed(s, f) for s in range(12) for f in (None, *FAILURES, f"dead:{list(SENSORS)[s % 5]}")
    ],
    "sketches": lambda: [sketch(portrait(s, shape=SHAPES[s % 20]), 96) for s in range(60)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_disturbed_coordinates_change_next_to_no_pixel(kind, disturb):
    before = KINDS[kind]()
    disturb()
    after = KINDS[kind]()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))  # the disturbance arrives
    assert changed(before, after) <= SHARE


@pytest.mark.parametrize("name", ["scenes", "sensors"])
def test_disturbed_coordinates_change_next_to_nothing_in_sheets(name, disturb):
    before = np.asarray(sheet(name))
    disturb()
    assert changed([before], [np.asarray(sheet(name))]) <= SHARE


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SHEETS if name not in ("scenes", "sensors")])
def test_disturbed_coordinates_change_next_to_nothing_in_the_other_sheets(name, disturb):
    before = np.asarray(sheet(name))
    disturb()
    assert changed([before], [np.asarray(sheet(name))]) <= SHARE


def spot(rng, count=20_000):
    """Points on a ball, as a thing's surface asks for its colour."""
    normal = rng.normal(size=(3, count)).astype(np.float32)
    normal /= np.sqrt((normal * normal).sum(0))
    facing = rng.uniform(0.02, 1, count).astype(np.float32)
    foot = np.full(count, 0.01, np.float32)
    return Spot(normal / 2, normal, facing, foot, hue_of("red"), "red")


def levels(colours):
    return np.clip(np.asarray(colours) * 255 + 0.5, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("material", LOOKS)
def test_a_material_is_the_same_at_a_disturbed_point(material):
    rng = np.random.default_rng(4)
    exact = spot(rng)
    moved = Spot(
        disturbed(exact.at, rng), disturbed(exact.normal, rng), exact.facing, exact.foot, exact.hue, "red"
    )
    one, two = (surface(material, where, 7, 0) for where in (exact, moved))
    for name in ("albedo", "mirror", "tint", "glow", "bump"):
        before, after = getattr(one, name), getattr(two, name)
        if before is not None:
            assert changed([levels(before).T], [levels(after).T]) <= SHARE, name


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_is_the_same_at_a_disturbed_place(floor):
    rng = np.random.default_rng(5)
    at = rng.uniform(-8, 8, (2, 20_000)).astype(np.float32)
    foot = np.full(20_000, 0.01, np.float32)
    one, two = (floor_colour(floor, where, foot, 3) for where in (at, disturbed(at, rng)))
    assert changed([levels(one).T], [levels(two).T]) <= SHARE


def products_of_matrices(source):
    """Where a module's source multiplies matrices, or calls what may do so by a BLAS."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.MatMult):
            yield f"{node.lineno}: @"
        if isinstance(node, ast.Attribute) and node.attr in BANNED:
            yield f"{node.lineno}: .{node.attr}"
        if isinstance(node, ast.ImportFrom) and BANNED & {*(node.module or "").split("."), *names(node)}:
            yield f"{node.lineno}: import"


def names(node):
    return (alias.name for alias in node.names)


def test_the_world_calls_no_matrix_product():
    folder = Path(wildsight.world.__file__).parent
    found = {p.name: list(products_of_matrices(p.read_text(encoding="utf-8"))) for p in folder.glob("*.py")}
    assert len(found) > 20
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize(
    "source",
    ["c = a @ b", "a @= b", "np.dot(a, b)", "a.dot(b)", "np.linalg.norm(a)", "from numpy import einsum"],
)
def test_the_search_for_matrix_products_finds_them(source):
    assert list(products_of_matrices(source))
