"""The documentation's pages, their code blocks and command lines."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> list[tuple[str, str]]:
    """(page, text) of every fenced block in one of the languages."""
    return [
        (page.relative_to(ROOT).as_posix(), text)
        for page in PAGES
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def lines_of(page: Path) -> list[str]:
    """The page's shell lines, in order."""
    text = page.read_text(encoding="utf-8")
    found = [body for language, body in BLOCK.findall(text) if language in ("bash", "console", "sh")]
    lines = "\n".join(found).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.strip() and not line.startswith("#")]


def commands(program: str) -> list[tuple[str, str]]:
    """(page, command line) of every shell line that starts with ``program``."""
    lines = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in lines_of(page)]
    return [(page, line) for page, line in lines if line.split(" ")[0] == program]


def exit_code(words: list[str]) -> int:
    """What the command line ends with."""
    from wildsight.cli import main

    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0
