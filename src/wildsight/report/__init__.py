"""One self-contained HTML file: no server, no script, no outside asset."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.files import write_text
from wildsight.results import Table, title

STYLE = """
:root{color-scheme:light dark;--ink:#1d2329;--paper:#fff;--line:#d5dbe1;--soft:#f3f5f7;--warn:#a33}
@media(prefers-color-scheme:dark){:root{--ink:#e3e8ec;--paper:#14181c;--line:#39424b;--soft:#1d2329;--warn:#f88}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:72rem;
margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}.sub{opacity:.75;margin-top:.2rem}
.wide{overflow-x:auto;margin-bottom:1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:min(100%,28rem)}
caption{text-align:left;opacity:.75;padding:.3rem 0}nav{margin:1rem 0}
nav a{display:inline-block;margin-right:1rem}a{color:inherit}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;overflow-wrap:anywhere}
th{background:var(--soft)}img{max-width:100%;height:auto;border-radius:4px}
.gallery{display:grid;gap:1rem;
grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--tile,11rem)),1fr))}
.gallery img{width:100%}figure{margin:0 0 1rem}figcaption{font-size:.85rem;opacity:.8;overflow-wrap:anywhere}
.warning{border-left:4px solid var(--warn);padding:.4rem .8rem;background:var(--soft);white-space:pre-wrap}
"""
TILE, WIDEST = 11.0, 44.0  # least and largest width of a gallery's tile, rem
SECTIONS = 6  # a page with so many headings begins with links to them


class Report:
    """Builds the page top to bottom.

    Args:
        title: heading of the page.
        subtitle: one line under it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self.parts: list[str] = []
        self.first: list[str] = []
        self.headings: list[str] = []

    def section(self, title: str) -> None:
        """A heading."""
        self.headings.append(title)
        self.parts.append(f'<h2 id="s{len(self.headings)}">{_safe(title)}</h2>')

    def lead(self, table: Table, caption: str = "") -> None:
        """A table above everything else."""
        self.first.append(_table(table, caption))

    def text(self, paragraph: str) -> None:
        """Paragraphs, parted by an empty line; ``**bold**`` and `` `code` `` are set as such."""
        blocks = re.split(r"\n\s*\n", paragraph.strip())
        self.parts.extend(f"<p>{_marked(block)}</p>" for block in blocks)

    def warning(self, text: str) -> None:
        """A paragraph that stands out."""
        self.parts.append(f'<p class="warning">{_safe(text)}</p>')

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Names and values."""
        self.table(Table(["", ""], [[k, v] for k, v in facts.items()]))

    def table(self, table: Table, caption: str = "") -> None:
        """A table that scrolls sideways on a narrow screen."""
        self.parts.append(_table(table, caption))

    def figure(self, figure: Any, caption: str = "") -> None:
        """A matplotlib figure or a PIL picture."""
        self.parts.append(_figure(figure, caption))

    def gallery(self, pictures: Sequence[tuple[Any, str]], title: str = "") -> None:
        """Pictures or matplotlib figures with captions in a grid; the wider, the fewer in a row."""
        if title:
            self.parts.append(f"<h3>{_safe(title)}</h3>")
        shape = max((_shape(p) for p, _ in pictures), default=1.0)
        tile = f"--tile:{min(WIDEST, max(TILE, 8 * shape)):.0f}rem"
        figures = "".join(_figure(p, c) for p, c in pictures)
        self.parts.append(f'<div class="gallery" style="{tile}">{figures}</div>')

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all.

        Raises:
            DataError: it cannot be written.
        """
        head = f"<title>{_safe(self.title)}</title><style>{STYLE}</style>"
        view = '<meta name="viewport" content="width=device-width,initial-scale=1">'
        head = f'<meta charset="utf-8">{view}{head}'
        top = f'<h1>{_safe(self.title)}</h1><p class="sub">{_safe(self.subtitle)}</p>'
        body = "\n".join([top, *self._links(), *self.first, *self.parts])
        write_text(path, f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>')
        return Path(path)

    def _links(self) -> list[str]:
        if len(self.headings) < SECTIONS:
            return []
        links = (f'<a href="#s{n}">{_safe(t.split(":")[0])}</a>' for n, t in enumerate(self.headings, 1))
        return [f'<nav aria-label="Sections">{"".join(links)}</nav>']


def _table(table: Table, caption: str) -> str:
    names = [title(str(c)) if n == 0 else c for n, c in enumerate(table.columns)]
    head = "".join(f"<th>{_safe(c)}</th>" for c in names)
    head = f"<thead><tr>{head}</tr></thead>" if any(table.columns) else ""
    body = "".join("<tr>" + "".join(f"<td>{_safe(c)}</td>" for c in r) + "</tr>" for r in table.rows)
    above = f"<caption>{_safe(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{above}{head}<tbody>{body}</tbody></table></div>'


def _shape(picture: Any) -> float:
    """Width over height of a PIL picture or a matplotlib figure."""
    if hasattr(picture, "get_size_inches"):
        width, height = picture.get_size_inches()
        return float(width / height)
    return float(picture.width / picture.height)


def _safe(value: Any) -> str:
    return html.escape(str(value))


def _marked(text: str) -> str:
    """Escaped text with bold and code; nothing inside code is bold."""
    pieces = re.split(r"`([^`]+)`", text)
    bold = (re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", _safe(p), flags=re.DOTALL) for p in pieces[::2])
    code = [f"<code>{_safe(p)}</code>" for p in pieces[1::2]]
    return "".join(plain + coded for plain, coded in zip(bold, [*code, ""], strict=True))


def _figure(figure: Any, caption: str) -> str:
    kind, data = _encoded(figure)
    text = base64.b64encode(data).decode()
    below = f"<figcaption>{_safe(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{_safe(caption)}" src="data:image/{kind};base64,{text}">{below}</figure>'


def _encoded(figure: Any) -> tuple[str, bytes]:
    stream = io.BytesIO()
    if isinstance(figure, Image):
        figure.save(stream, format="WEBP", quality=88)
        return "webp", stream.getvalue()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
    return "png", stream.getvalue()
