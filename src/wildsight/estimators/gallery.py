"""Pictures of a bench's cell, kept on disk beside its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wildsight.files import atomic_folder, read_json, write_json
from wildsight.images import load_image

CAPTIONS = "captions.json"


def keep_pictures(pictures: list[tuple[Any, str]], folder: Path) -> None:
    """Write the pictures of a bench's cell, for the report of a bench that goes on later."""
    if not pictures:
        return
    with atomic_folder(folder, CAPTIONS) as temporary:
        for number, (picture, _) in enumerate(pictures):
            picture.save(temporary / f"{number:02d}.png")
        write_json(temporary / CAPTIONS, [caption for _, caption in pictures])


def pictures_of(folder: Path) -> list[tuple[Any, str]]:
    """What `keep_pictures` kept; nothing where it kept nothing."""
    if not folder.is_dir():
        return []
    captions = read_json(folder / CAPTIONS)
    return [(load_image(folder / f"{n:02d}.png"), caption) for n, caption in enumerate(captions)]
