"""What the documentation tells people to type can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

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


def commands(program: str) -> list[tuple[str, str]]:
    """(page, command line) of every shell line that starts with ``program``."""
    lines = [
        (page, line.removeprefix("$ "))
        for page, text in blocks("bash", "console", "sh")
        for line in text.splitlines()
    ]
    return [(page, line) for page, line in lines if line.split(" ")[0] == program]


def exit_code(words: list[str]) -> int:
    """What the command line ends with."""
    from wildsight.cli import main

    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(("page", "line"), commands("wildsight"))
def test_wildsight_commands_parse(page: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Sub-command and option names are known; an unknown option fails in spite of --help."""
    words = shlex.split(line, comments=True)[1:]
    assert exit_code([*words, "--help"]) == 0, f"{page}: {line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize(("page", "line"), commands("torchrun"))
def test_commands_of_several_processes_parse(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    assert exit_code([*words[words.index("wildsight.cli") + 1 :], "--help"]) == 0, f"{page}: {line}"


@pytest.mark.parametrize(("page", "line"), commands("python"))
def test_programs_are_there(page: str, line: str) -> None:
    assert (ROOT / shlex.split(line)[1]).is_file(), f"{page}: {line}"


def test_an_unknown_option_is_noticed() -> None:
    assert exit_code(["bench", "anomaly", "--no-such-option", "--help"]) == 2
    assert exit_code(["no-such-command", "--help"]) == 2


@pytest.mark.parametrize(("page", "line"), commands("make"))
def test_make_targets_exist(page: str, line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"{page}: {line}"


@pytest.mark.slow
@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_examples_run(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the embedded world, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_local_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
