"""What the documentation tells people to type can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from docs_pages import PAGES, ROOT, blocks, commands, exit_code


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
    words = shlex.split(line, comments=True)
    if words[1:3] == ["-m", "tools.nano"]:
        assert exit_code(["pretrain", *words[3:], "--help"]) == 0, f"{page}: {line}"
    else:
        assert (ROOT / words[1]).is_file(), f"{page}: {line}"


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
