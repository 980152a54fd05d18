"""Every command of the documentation is run: page by page, in the page's order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import docs_world
import nano_models
from docs_pages import PAGES, ROOT, exit_code, lines_of
from wildsight.app.server import serve

NOT_RUN = {
    r"^make ": "makes the environment or calls the tests themselves; its targets are checked in test_docs",
    r"--nnodes 2": "needs a second machine",
    r"http://": "needs a Milvus server; the same call runs on a file",
    r"--ray ": "needs a running Ray cluster; the same call runs with processes of this machine",
}
"""Lines that cannot run here, and why. They are parsed all the same, in `test_docs`."""

INSTEAD = {
    "--nproc-per-node 4": ("--nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint localhost:0", "two cores"),
    "device=cuda": ("device=cpu", "no GPU on every machine"),
    "--data /data": ("--data data", "a folder that is not ours to make"),
}
"""Pieces of a line that are given as something else, and why."""

SHORTER = {
    r"anomaly fit": "--epochs 1 --image-size 128",
    r"anomaly fit (mvtec-ad|good_parts --out)": "--method padim",  # the export of RAS takes half a minute
    r"inspect start line3": "--false-alarm-rate 0.2",  # a group has several finds
    r"inspect describe": "--model product",
    r"segmentation fit": "--epochs 1 --masks 4",
    r"composition fit": "--epochs 1",
    r"retrieval fit": "--epochs 1 --image-size 32",
    r"retrieval index .*--workers": "--workers 2",
    r"discovery (sort|fit|estimate-k)": "--image-size 32",
    r"discovery fit": "--epochs 1",
    r"continual update": "--epochs 1",
    r"fusion fit": "--epochs 1 --image-size 32",
    r"spatial fit": "--epochs 1",
    r"compression profile nano-llava": "--samples 2",
    r"compression plan": "--measure memory --target 1.2x --max-drop 100% --count 4 --answer-tokens 2",
    r"bench anomaly": "--epochs 1 --seeds 1 --image-size 128",
    r"bench segmentation": "--epochs 1 --seeds 1 --set masks=2 --set points=16",
    r"bench composition": "--epochs 1 --seeds 1",
    r"bench retrieval": "--epochs 1 --seeds 1 --image-size 32",
    r"bench discovery": "--epochs 1 --seeds 1 --image-size 32",
    r"bench fusion": "--epochs 1 --seeds 1 --image-size 32",
    r"bench spatial": "--epochs 1 --seeds 1 --set train=8 --set test=2",
    r"bench compression": "--method vtc-cls --method prefixkv --method snapkv "
    "--seeds 1 --set count=8 --set repeats=0",
    r"tools.nano": "--steps 1",
    r"world export": "--count 8 --size 32",
}
"""Options that are put behind a line so that it takes seconds; the last one of a name counts."""

VERDICTS = (r"anomaly predict", r"inspect look")
"""Commands whose exit code 1 is an answer: a picture is anomalous."""

PROMISED = ("--out", "--to", "--figure", "--index")
SAYS = re.compile(r"^(?:report|checkpoint|profile|adapter): (.+)$", re.MULTILINE)


SERVE = serve
LINES = {page.relative_to(ROOT).as_posix(): lines for page in PAGES if (lines := lines_of(page))}
RUN = {
    page: chosen
    for page, lines in LINES.items()
    if (chosen := [line for line in lines if not any(re.search(p, line) for p in NOT_RUN)])
}


def words_of(line: str) -> list[str]:
    """The words of a line as they are given here."""
    for piece, (other, _) in INSTEAD.items():
        line = line.replace(piece, other)
    extra = [more for pattern, more in SHORTER.items() if re.search(pattern, line)]
    return [*shlex.split(line, comments=True), *shlex.split(" ".join(extra))]


@pytest.fixture(scope="module", autouse=True)
def _small_world() -> Any:
    """The embedded world with fewer pictures, and trainings of two steps."""
    from tools.nano import clip_pipeline, llava_pipeline, sam_pipeline
    from wildsight.fusion import data as fusion
    from wildsight.fusion import demo as _fusion  # noqa: F401  what keeps the whole world under its own name
    from wildsight.spatial import bench as _spatial  # noqa: F401
    from wildsight.spatial import data as spatial
    from wildsight.workflows import inspect
    from wildsight.workflows.inspect import describing

    patch = pytest.MonkeyPatch()
    sam = replace(nano_models.SAM, width=192)  # as wide as nano-clip, which it begins as
    patch.setattr(fusion, "world", partial(fusion.world, 32, 0.05))
    patch.setitem(describing.TRAINING_SET, "per_pair", 1)
    patch.setattr(inspect, "learn", partial(inspect.learn, epochs=1))
    patch.setattr(spatial, "world", partial(spatial.world, 8, 2))
    nano_models.few_scores(patch)
    pipelines = ((clip_pipeline, nano_models.CLIP), (llava_pipeline, nano_models.LLAVA), (sam_pipeline, sam))
    for pipeline, tiny in pipelines:
        name = f"pretrain_{pipeline.__name__.rpartition('.')[2].removesuffix('_pipeline')}"
        patch.setattr(pipeline, name, partial(_trained, getattr(pipeline, name), tiny))
    yield
    patch.undo()


def _trained(make: Any, tiny: Any, out: Path, *, config: Any, **given: Any) -> Path:
    """A training of as many steps as the command says, of a tiny model."""
    steps = {name: getattr(config, name) for name in ("steps", "scene_steps") if hasattr(config, name)}
    return make(out, config=replace(tiny, seed=config.seed, **steps), **given)


def run(line: str) -> int:
    """Exit code of a line as it is given here."""
    program, *words = words_of(line)
    if program == "wildsight":
        return exit_code(words)
    if words[:2] == ["-m", "tools.nano"]:  # the same function, in this process, where the models are tiny
        return exit_code(["pretrain", *words[2:]])
    launcher = {"python": [], "torchrun": ["-m", "torch.distributed.run"]}[program]
    command = [sys.executable, *launcher, *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    print(done.stdout)
    print(done.stderr, file=sys.stderr)
    return done.returncode


def environment() -> dict[str, str]:
    """This process's, with the library's sources and without what another launcher left."""
    paths = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    others = ("MASTER_", "RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "TORCHELASTIC_", "PET_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return kept | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", RUN)
def test_every_command_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its exit code is 0, and what it was told to write, or says that it wrote, is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # those of Ray yield to every other process
    monkeypatch.setattr("wildsight.app.server.serve", opened_once)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for line in RUN[page]:
        for need in prepare(line):
            assert run(need) == 0, f"{page}: for {line}: {need}\n{capsys.readouterr().err}"
        code = run(line)
        said, errors = capsys.readouterr()
        allowed = (0, 1) if any(re.search(p, line) for p in VERDICTS) else (0,)
        assert code in allowed, f"{page}: {line}\nended with {code}\n{said[-2000:]}\n{errors[-4000:]}"
        words = words_of(line)
        promised = [words[i + 1] for i, word in enumerate(words) if word in PROMISED]
        for file in [*promised, *SAYS.findall(said)]:
            assert Path(file).exists(), f"{page}: {line}\nleft no {file}"


def prepare(line: str) -> list[str]:
    """Make what a line names; returns the commands of other pages that have to run first."""
    first = []
    for path, maker in docs_world.missing(words_of(line)):
        if isinstance(maker, str):
            prepare(maker)
            first.append(maker)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            maker(path)
    return first


def opened_once(host: str, port: int, *, upload_mb: int) -> None:
    """Serve the page on a port that is free, look at it, and end."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        free = probe.getsockname()[1]
    blocks, url = SERVE(host, free, upload_mb=upload_mb, block=False)
    try:
        with urllib.request.urlopen(url) as page:
            assert page.status == 200 and b"WildSight" in page.read()
    finally:
        blocks.close()


def test_no_entry_of_the_tables_is_idle() -> None:
    lines = [line for page in LINES.values() for line in page]
    for pattern in (*NOT_RUN, *SHORTER, *VERDICTS):
        assert any(re.search(pattern, line) for line in lines), pattern
    for piece in INSTEAD:
        assert any(piece in line for line in lines), piece
    words = {word for line in lines for word in words_of(line)}
    for table in (docs_world.MODELS, docs_world.RUNS, *docs_world.THINGS.values()):
        assert not set(table) - words
