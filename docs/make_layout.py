"""Layout of the schematics: rows of boxes, arrows, frames, a legend, as SVG text.

A sheet is as wide as a phone shows without shrinking its words. What would run out of its box, cover another
box or be crossed by an arrow is an error, so that no picture that is written can have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from itertools import combinations, pairwise

WIDTH, MARGIN, GAP, RISE = 420.0, 12.0, 14.0, 24.0
TITLE, WORDS, NOTE = 13.0, 12.0, 11.0
LEGEND = {
    "data": "what goes in, what comes out",
    "frozen": "frozen weights",
    "trained": "trained weights",
    "formula": "a formula, no weights",
    "loss": "in training alone",
}
LIGHT = {
    "data": ("#ffffff", "#37474f"),
    "frozen": ("#d7e8f7", "#22628f"),
    "trained": ("#ffe2b8", "#b85c00"),
    "formula": ("#eef1f1", "#6a7a78"),
    "loss": ("#fbe4ea", "#a52a4a"),
    "kept": ("#26a69a", "#00695c"),
}
DARK = {
    "data": ("#1a2327", "#cfd8dc"),
    "frozen": ("#17405f", "#86bbe6"),
    "trained": ("#5c3a0d", "#f3aa54"),
    "formula": ("#2b3638", "#93a3a1"),
    "loss": ("#521f2e", "#f095aa"),
    "kept": ("#2aa79b", "#8fe0d6"),
}
INK = {"light": ("#ffffff", "#16211f", "#4c5a58"), "dark": ("#161d20", "#eef4f3", "#a9b8b5")}
MARK = re.compile(r"([_^])(\{[^}]*\}|.)")
SMALL = 0.75
FONT = "system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
Cell = tuple[float, float, float, float, str]


class Overflow(ValueError):
    """Something does not fit, or lies on something else."""


def wide(char: str) -> float:
    """Width of a character in ems, of a wide sans-serif font."""
    if char in "iljI.,;:'|!":
        return 0.33
    if char in "ft()[]r/- ":
        return 0.41
    if char in "mwMW%@":
        return 0.96
    if char in "=+<>−~·×→←≥≤∈Σ…":
        return 0.84
    return 0.0 if char == "\u0302" else 0.70 if char.isupper() else 0.635


def length(text: str, size: float, bold: bool = False) -> float:
    """Estimated width of a line with its marks, never below the real one."""
    total = sum(wide(c) for c in MARK.sub("", text))
    total += SMALL * sum(wide(c) for m in MARK.finditer(text) for c in m[2].strip("{}"))
    return total * size * (1.1 if bold else 1.0)


def broken(text: str, size: float, room: float, bold: bool = False) -> list[str]:
    """Lines no wider than ``room``; a marked part stays whole."""
    lines: list[str] = []
    for part in text.split("\n"):
        line = ""
        for word in part.split(" "):
            longer = f"{line} {word}".strip()
            if line and length(longer, size, bold) > room:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    for line in lines:
        if length(line, size, bold) > room:
            raise Overflow(f"{line!r} is wider than its box")
    return lines


def spans(text: str) -> str:
    """SVG text of a line: ``_x`` and ``_{xy}`` below, ``^x`` above."""
    made, at, back = "", 0, 0.0
    for m in MARK.finditer(text):
        plain = text[at : m.start()]
        if plain and back:
            made += f'<tspan dy="{-back:g}">{escape(plain)}</tspan>'
            back = 0.0
        else:
            made += escape(plain)
        down = 3.0 if m[1] == "_" else -4.0
        made += f'<tspan class="s" dy="{down - back:g}">{escape(m[2].strip("{}"))}</tspan>'
        at, back = m.end(), down
    rest = escape(text[at:])
    return made + (f'<tspan dy="{-back:g}">{rest}</tspan>' if back and rest else rest)


@dataclass
class Box:
    """A box: a title, text below it (a line break stays one), and small cells to be drawn under them.

    Attributes:
        name: for arrows.
        kind: of `LEGEND`.
        title, text: its words; either may be empty.
        share: of the row's width.
        cells: (x, y, width, height, kind) in shares of the drawn part; ``art`` is its height.
    """

    name: str
    kind: str
    title: str = ""
    text: str = ""
    share: float = 1.0
    cells: Sequence[Cell] = ()
    art: float = 0.0
    x: float = 0.0
    y: float = 0.0
    w: float = 0.0
    h: float = 0.0
    lines: list[tuple[str, bool]] = field(default_factory=list)

    def fit(self, width: float) -> float:
        """Break the words for a width; returns the height."""
        self.w, room = width, width - 12
        self.lines = [(t, True) for t in broken(self.title, TITLE, room, True)] if self.title else []
        self.lines += [(t, False) for t in broken(self.text, WORDS, room)] if self.text else []
        return 12 + sum(17 if bold else 16 for _, bold in self.lines) + (self.art + 6 if self.art else 0)

    def draw(self) -> Iterator[str]:
        """SVG elements."""
        corner = 12 if self.kind == "data" else 4
        yield (
            f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.w:g}" height="{self.h:g}" rx="{corner}" '
            f'class="{self.kind}"/>'
        )
        tall = sum(17 if bold else 16 for _, bold in self.lines) + (self.art + 6 if self.art else 0)
        y = self.y + (self.h - tall) / 2
        for line, bold in self.lines:
            y += 17 if bold else 16
            style = "h" if bold else "w"
            yield f'<text x="{self.x + self.w / 2:g}" y="{y - 4:g}" class="{style}">{spans(line)}</text>'
        for cx, cy, cw, ch, kind in self.cells:
            x, room = self.x + 10, self.w - 20
            yield (
                f'<rect x="{x + cx * room:.2f}" y="{y + 4 + cy * self.art:.2f}" width="{cw * room:.2f}" '
                f'height="{ch * self.art:.2f}" class="{kind}"/>'
            )


@dataclass
class Sheet:
    """One picture.

    Attributes:
        title: for readers that cannot see it.
    """

    title: str
    y: float = MARGIN - 4
    inset: float = MARGIN
    off: float = MARGIN
    fresh: bool = True
    gable: str = ""
    boxes: dict[str, Box] = field(default_factory=dict)
    frames: list[tuple[float, float, float, float]] = field(default_factory=list)
    paths: list[tuple[str, list[tuple[float, float]]]] = field(default_factory=list)
    notes: list[tuple[float, float, str, str]] = field(default_factory=list)

    def row(self, *boxes: Box, left: float = 0, right: float = 0, rise: float = RISE) -> None:
        """Boxes side by side below what is there; ``left`` and ``right`` leave lanes free for arrows."""
        self.y += 4 if self.fresh else rise
        self.fresh = False
        room = WIDTH - self.inset - self.off - left - right - GAP * (len(boxes) - 1)
        total, x = sum(b.share for b in boxes), self.inset + left
        tall = max(box.fit(room * box.share / total) for box in boxes)
        for box in boxes:
            box.x, box.y, box.h = x, self.y, tall
            x += box.w + GAP
            self.boxes[box.name] = box
        self.y += tall

    @contextmanager
    def frame(self, words: str, rise: float = RISE, right: float = 0) -> Iterator[None]:
        """A frame around the rows inside, with a few words at its top, left of the arrows that enter."""
        top, off = self.y + rise, self.off
        self.off += right
        self.notes.append((self.inset + 8, top + 15, words, "b"))
        if length(words, NOTE, True) > WIDTH - self.inset - self.off - 16:
            raise Overflow(f"{words!r} is wider than its frame")
        self.y, self.inset, self.off, self.fresh = top + 20, self.inset + 10, self.off + 10, True
        yield
        self.inset, self.off = self.inset - 10, self.off - 10
        self.y += 10
        self.frames.append((self.inset, top, WIDTH - self.inset - self.off, self.y - top))
        self.off = off

    def arrow(
        self, start: str, end: str, words: str = "", *, lane: float | None = None, x: float | None = None,
        into: float | None = None, loss: bool = False, at: float = 0.5,
    ) -> None:  # fmt: skip
        """An arrow from a box to another.

        Args:
            start, end: names.
            words: beside it.
            lane: x of a way around, from side to side of the boxes.
            x: where it leaves, ``into``: where it arrives; else the middle of what they share.
            loss: dashed, in the colour of what is there in training alone.
            at: height at which a way around leaves and arrives, as a share of the boxes.
        """
        a, b = self.boxes[start], self.boxes[end]
        if lane is not None:
            side = 0.0 if lane < a.x else a.w
            other = 0.0 if lane < b.x else b.w
            ya, yb = a.y + a.h * at, b.y + b.h * at
            points = [(a.x + side, ya), (lane, ya), (lane, yb), (b.x + other, yb)]
        elif a.y == b.y:
            y = a.y + a.h * at
            points = [(a.x + a.w, y), (b.x, y)] if a.x < b.x else [(a.x, y), (b.x + b.w, y)]
        else:
            points = self._down(a, b, x, into)
        self.paths.append(("l" if loss else "a", points))
        if words:
            self._beside(points, words)

    def _down(self, a: Box, b: Box, x: float | None, into: float | None) -> list[tuple[float, float]]:
        low, high = max(a.x, b.x), min(a.x + a.w, b.x + b.w)
        middle = (low + high) / 2 if low < high else None
        xa = x if x is not None else into if into is not None and low < into < high else middle
        xa = a.x + a.w / 2 if xa is None else xa
        xb = into if into is not None else xa if b.x < xa < b.x + b.w else b.x + b.w / 2
        ya, yb = (a.y + a.h, b.y) if a.y < b.y else (a.y, b.y + b.h)
        if xa == xb:
            return [(xa, ya), (xb, yb)]
        turn = (ya + yb) / 2 if abs(yb - ya) < 2 * RISE else yb - RISE / 2
        return [(xa, ya), (xa, turn), (xb, turn), (xb, yb)]

    def _beside(self, points: list[tuple[float, float]], words: str) -> None:
        (x1, y1), (x2, y2) = max(pairwise(points), key=lambda s: abs(s[0][1] - s[1][1]))
        x, y = max(x1, x2) + 6, (y1 + y2) / 2 + 4
        if x + length(words, NOTE) > WIDTH - 4:
            raise Overflow(f"{words!r} runs out of the picture")
        self.notes.append((x, y, words, "n"))

    def note(self, words: str, rise: float = 16) -> None:
        """Lines of small text across the sheet."""
        for line in broken(words, NOTE, WIDTH - self.inset - self.off):
            self.y += rise
            self.notes.append((self.inset, self.y, line, "n"))
            rise = 14

    def roof(self, words: str) -> None:
        """A gable at the top, with words under it."""
        self.notes.append((WIDTH / 2, 44, words, "w"))
        self.gable = f'<path d="M{WIDTH / 2:g} 8 L{WIDTH - 8:g} 56 H8 Z" class="formula"/>'
        self.y, self.fresh = 56, False

    def svg(self, legend: bool = True) -> str:
        """The picture; ``legend`` explains the colours below it."""
        self._checked()
        y, keys = self.y + 14, []
        used = {b.kind for b in self.boxes.values()} | (
            {"loss"} if any(kind == "l" for kind, _ in self.paths) else set()
        )
        for number, kind in enumerate(k for k in LEGEND if k in used):
            x, y = MARGIN + 204 * (number % 2), y + (20 if number and number % 2 == 0 else 0)
            keys.append(f'<rect x="{x:g}" y="{y:g}" width="20" height="13" rx="3" class="{kind}"/>')
            keys.append(f'<text x="{x + 26:g}" y="{y + 11:g}" class="n">{LEGEND[kind]}</text>')
        high = y + 13 + MARGIN if legend else self.y + MARGIN
        keys = keys if legend else []
        body = [
            f'<rect width="{WIDTH:g}" height="{high:g}" rx="8" class="bg"/>',
            self.gable,
            *(f'<rect x="{x:g}" y="{t:g}" width="{w:g}" height="{h:g}" rx="6" class="f"/>'
              for x, t, w, h in self.frames),
            *(_path(kind, points) for kind, points in self.paths),
            *(line for box in self.boxes.values() for line in box.draw()),
            *(f'<text x="{x:g}" y="{t:g}" class="{k}">{spans(w)}</text>' for x, t, w, k in self.notes),
            *keys,
        ]  # fmt: skip
        return wrapped(self.title, WIDTH, high, body)

    def _checked(self) -> None:
        for a, b in combinations(self.boxes.values(), 2):
            if a.x < b.x + b.w and b.x < a.x + a.w and a.y < b.y + b.h and b.y < a.y + a.h:
                raise Overflow(f"{a.name} lies on {b.name}")
        areas = [(b.x, b.y, b.x + b.w, b.y + b.h, b.name) for b in self.boxes.values()]
        for _, points in self.paths:
            for (x1, y1), (x2, y2) in pairwise(points):
                line = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
                for area in areas:
                    if _touches(line, area[:4]):
                        raise Overflow(f"an arrow crosses {area[4]}: {points}")
        for x, y, words, kind in self.notes:
            note = (x, y - 9, x + length(words, NOTE, kind == "b"), y + 2)
            for area in areas:
                if _touches(note, area[:4]):
                    raise Overflow(f"{words!r} lies on {area[4]}")
            for _, points in self.paths:
                for (x1, y1), (x2, y2) in pairwise(points):
                    if _touches((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), note):
                        raise Overflow(f"an arrow crosses {words!r}")


def _touches(one: Sequence[float], two: Sequence[float]) -> bool:
    """Whether two areas (left, top, right, bottom) share more than an edge."""
    across = one[0] < two[2] - 0.5 and two[0] + 0.5 < one[2]
    return across and one[1] < two[3] - 0.5 and two[1] + 0.5 < one[3]


def _path(kind: str, points: list[tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = points[-2:]
    way = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
    back = {True: (-1 if y2 > y1 else 1), False: (-1 if x2 > x1 else 1)}[x1 == x2]
    if x1 == x2:
        tip = (x2 - 4, y2 + 7 * back, x2 + 4, y2 + 7 * back)
    else:
        tip = (x2 + 7 * back, y2 - 4, x2 + 7 * back, y2 + 4)
    head = f'<path d="M{x2:g} {y2:g} L{tip[0]:g} {tip[1]:g} L{tip[2]:g} {tip[3]:g} Z" class="{kind}h"/>'
    return f'<path d="{way}" class="{kind}"/>{head}'


def wrapped(title: str, width: float, height: float, body: Sequence[str]) -> str:
    """A whole file: the palette of both themes around the elements."""
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}" role="img">'
    dark = f"@media (prefers-color-scheme:dark){{{palette(DARK, INK['dark'])}}}"
    fixed = (
        f".h{{font-size:{TITLE:g}px;font-weight:600;text-anchor:middle}}.w{{font-size:{WORDS:g}px;text-anchor:middle}}"
        f".n,.b{{font-size:{NOTE:g}px}}.b{{font-weight:600}}.s{{font-size:75%}}.a,.l,.f{{fill:none}}"
        ".trained{stroke-width:2}.loss,.l{stroke-dasharray:4 3}.f{stroke-dasharray:1 3}"
    )
    style = f"<style>{fixed}{palette(LIGHT, INK['light'])}{dark}</style>"
    return "\n".join([head, f"<title>{escape(title)}</title>", style, *body, "</svg>", ""])


def palette(colours: dict[str, tuple[str, str]], ink: tuple[str, str, str]) -> str:
    """CSS of one theme."""
    rules = [f".{kind}{{fill:{fill};stroke:{line}}}" for kind, (fill, line) in colours.items()]
    ground, text, soft = ink
    red = colours["loss"][1]
    return "".join(rules) + (
        f".bg{{fill:{ground}}}.h,.w,.b{{fill:{text}}}.n{{fill:{soft}}}.a,.f{{stroke:{soft}}}.ah{{fill:{soft}}}"
        f".l{{stroke:{red}}}.lh{{fill:{red}}}"
    )
