"""The report is one file that needs nothing else; pictures show what they claim."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.errors import DataError
from wildsight.report import Report
from wildsight.report.plots import bars, curve, outline_mask, overlay_heatmap, side_by_side
from wildsight.results import Table

EVIL = '<script>alert("x")</script><img src=//evil>'
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def picture(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (24, 16), (90, 120, 150)).convert(mode)


def full_report() -> Report:
    report = Report(f"Title {EVIL}", f"sub {EVIL}")
    report.section(EVIL)
    report.text(f"**bold** and `a**b**<i>` {EVIL}\n\nsecond")
    report.warning(f"ORACLE {EVIL}")
    report.facts({EVIL: EVIL})
    report.table(Table([EVIL, "n"], [[EVIL, 1]]), EVIL)
    report.figure(curve({"loss": [3.0, 2.0, 1.0]}, "loss"), EVIL)
    report.figure(bars({"ras": (0.9, 0.1), "uniad": (0.8, 0.0)}, "AUROC"))
    report.figure(side_by_side([(picture(), "a"), (picture(), "b")]), 'quote " in alt')
    report.gallery([(picture(m), f"{m} {EVIL}") for m in ("RGB", "L", "RGBA", "P")], EVIL)
    return report


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return full_report().save(tmp_path_factory.mktemp("report") / "report.html").read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_outside_itself(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base", "a"}
    for tag, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:image/"[: len(attributes.get("src", "data:"))])
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "srcset")], tag
    assert not re.search(r"https?://|@import|url\(", text)


def test_everything_is_escaped(text: str) -> None:
    assert "<script" not in text
    assert "<img src=//evil" not in text
    assert text.count("&lt;script&gt;") >= 10


def test_pictures_are_whole(text: str) -> None:
    found = re.findall(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)", text)
    assert [kind for kind, _ in found] == ["png"] * 3 + ["webp"] * 4
    for kind, data in found:
        with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
            shown.load()
            assert shown.format == kind.upper()


def test_bold_and_code_and_paragraphs(text: str) -> None:
    assert "<p><strong>bold</strong> and <code>a**b**&lt;i&gt;</code>" in text
    assert "<p>second</p>" in text


def test_light_dark_phone_and_warning(text: str) -> None:
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text
    assert '<p class="warning">ORACLE' in text


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError):
        Report("t").save(tmp_path / "file" / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def colour(level: float) -> tuple[int, int, int]:
    shown = overlay_heatmap(Image.new("RGB", (4, 4), (128, 128, 128)), np.full((2, 2), level))
    red, green, blue = np.asarray(shown)[1, 1]
    return int(red), int(green), int(blue)


@pytest.mark.parametrize("level", [1.0, 1.3, 2.0, 50.0])
def test_at_or_above_the_threshold_is_red(level: float) -> None:
    red, green, blue = colour(level)
    assert red > 2 * max(green, blue)


@pytest.mark.parametrize("level", [0.0, 0.2, 0.5, 0.8, 0.9])
def test_below_the_threshold_is_not_red(level: float) -> None:
    red, green, blue = colour(level)
    assert red <= 2 * max(green, blue)
    assert level > 0 or (red, green, blue) == (128, 128, 128)


def test_the_outline_is_the_inner_border_stretched() -> None:
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    edge = mask.copy()
    edge[2, 2] = False
    assert np.array_equal(outline_mask(mask, (5, 5)), edge)
    assert outline_mask(mask, (20, 10)).shape == (10, 20)
    shown = np.asarray(overlay_heatmap(picture().resize((5, 5)), np.zeros((5, 5)), mask))
    assert np.array_equal((shown == 255).all(axis=2), edge)


def test_a_heat_map_is_the_blend_it_stands_for() -> None:
    """8-bit arithmetic differs from the formula by the steps of its levels alone."""
    from wildsight.report.plots import COLOURS, LEVELS

    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    heat = np.linspace(0, 2.2, 40 * 60).reshape(40, 60)
    level = np.clip(heat, 0, 2)
    colours = np.stack([np.interp(level, LEVELS, c) for c in zip(*COLOURS, strict=True)], axis=2)
    weight = np.clip(0.6 * level, 0, 0.75)[..., None]
    wanted = base * (1 - weight) + 255 * colours * weight
    shown = np.asarray(overlay_heatmap(Image.fromarray(base), heat), float)
    assert np.abs(shown - wanted).max() < 5 and np.abs(shown - wanted).mean() < 1
