"""Pages: the pictures of one file. Page 2 of ``scan.tif`` is written ``scan.tif#2``, counted from 1.

The frames of an animation are pages too. A TIFF's smaller copies and transparency masks are none, and
neither is what a phone keeps behind a JPEG.
"""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""What is read at all."""
PAGED = frozenset({".tif", ".tiff", ".gif", ".webp", ".png", ".apng"})
"""Endings of files that may hold several pages."""
_FORMATS = frozenset({"TIFF", "GIF", "WEBP", "PNG"})
_SUBFILE = 254
_NO_PAGE = 0b101
"""Bits of a TIFF's subfile type: a smaller copy, a transparency mask."""


def split_page(path: Path) -> tuple[Path, int | None]:
    """A file and the page that the path names; a file that is really called so has no page.

    >>> split_page(Path("scan.tif#2"))
    (PosixPath('scan.tif'), 2)
    >>> split_page(Path("a#2.png"))
    (PosixPath('a#2.png'), None)
    """
    name, mark, number = path.name.rpartition("#")
    named = mark and number.isdecimal() and number.isascii() and Path(name).suffix.lower() in PAGED
    if not named or os.path.lexists(path):
        return path, None
    return path.with_name(name), int(number)


def page_path(file: Path, page: int) -> Path:
    """What a page of a file is called.

    >>> page_path(Path("scan.tif"), 2).name
    'scan.tif#2'
    """
    return file.with_name(f"{file.name}#{page}")


def frames_of(picture: Image.Image) -> list[int]:
    """The frames of an opened picture that are pages; the picture stands at its first frame afterwards.

    Raises:
        OSError, ValueError, SyntaxError, EOFError, TypeError: a damaged file.
    """
    count = getattr(picture, "n_frames", 1) if picture.format in _FORMATS else 1
    if count < 2 or picture.format != "TIFF":
        return list(range(count))
    pages = []
    for frame in range(count):
        picture.seek(frame)
        if not int(picture.tag_v2.get(_SUBFILE, 0)) & _NO_PAGE:  # type: ignore[attr-defined]
            pages.append(frame)
    picture.seek(0)
    return pages or [0]
