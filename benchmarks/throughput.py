"""`wildsight anomaly predict FOLDER` against backbone and head alone; its peak memory as the folder grows.

    OMP_NUM_THREADS=1 python benchmarks/throughput.py --out benchmarks/results/throughput.json
    OMP_NUM_THREADS=1 python benchmarks/throughput.py --pictures 48 --before /path/to/older/src

Each figure comes from a process of its own, in which the packages are loaded before the clock starts: first
backbone and head on tensors that are ready, in batches of 16, then the whole command (checkpoint, decoding,
overlays, table, report). ``--before`` measures another version of the package in the same run, in turns. CPU
seconds count all threads, so that other work on the machine counts less than in wall time; both are given,
with the load. Memory is the process's largest resident set.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anomaly_speed import _plain, efficientnet, pictures

BATCH = 16
MEMORY = (50, 400)
"""Pictures of the two folders whose peaks are compared."""


def seconds(call: Callable[[], Any]) -> dict[str, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def parts(model: str, files: list[Path]) -> dict[str, float]:
    """Backbone and head alone."""
    import torch
    from PIL import Image

    from wildsight.anomaly import AnomalyDetector
    from wildsight.anomaly.features import assemble

    detector = AnomalyDetector.from_pretrained(model, device="cpu")
    network, neck, head = detector.backbone, detector.settings.neck, detector.inference_head()
    opened = [Image.open(f).convert("RGB") for f in files]
    ready = [network.preprocess(opened[i : i + BATCH], neck.image_size) for i in range(0, len(opened), BATCH)]

    @torch.no_grad()
    def run() -> None:
        for pixels in ready:
            head(assemble(network.pyramid(pixels, neck.strides), neck))

    network.pyramid(ready[0], neck.strides)
    return seconds(run)


def command(model: str, folder: Path, out: Path) -> dict[str, float]:
    """The whole command, what it prints thrown away."""
    from wildsight.cli import main

    def run() -> None:
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            main(["anomaly", "predict", model, str(folder), "--device", "cpu", "--out", str(out)])

    return seconds(run)


def peak() -> float:
    """Largest resident set since this program began, MiB; ``ru_maxrss`` would count the parent's too."""
    line = next(t for t in Path("/proc/self/status").read_text().splitlines() if t.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def child(model: str, folder: Path, out: Path, compare: bool) -> dict[str, Any]:
    """Figures of this process."""
    found: dict[str, Any] = {}
    if compare:
        found["parts"] = parts(model, sorted(folder.glob("*.png")))
    found["command"] = command(model, folder, out)
    found["peak_mib"] = peak()
    found["rows"] = len((out / "results.csv").read_text().splitlines()) - 1
    return found


def measured(source: Path | None, *arguments: str) -> dict[str, Any]:
    """`child` in a process of its own, with the package from ``source``."""
    given = {**os.environ, **({} if source is None else {"PYTHONPATH": str(source)})}
    words = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(words, env=given, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def fitted(folder: Path, files: list[Path], backbone: str) -> str:
    """A detector's checkpoint, fitted on a few pictures."""
    from wildsight.anomaly import AnomalyDetector

    detector = AnomalyDetector("ras", backbone, device="cpu")
    detector.fit(_plain(folder, files[:BATCH]), epochs=1, progress=False)
    return str(detector.save_pretrained(folder / "model"))


def throughput(versions: dict[str, Path | None], work: Path, count: int, rounds: int, name: str) -> list[Any]:
    """Per version the ratio of the command to backbone and head, medians over rounds in turns."""
    place = work / "many"
    place.mkdir()
    files = pictures(place, count, 256)
    model = fitted(work, files, name or str(efficientnet(work / "b4")))
    runs: dict[str, list[Any]] = {v: [] for v in versions}
    for number in range(rounds):
        for version, source in versions.items():
            out = work / f"out-{version}-{number}"
            runs[version].append(measured(source, model, str(place), str(out), "--compare"))
    rows = []
    for version, done in runs.items():
        ratios = {k: [r["command"][k] / r["parts"][k] for r in done] for k in ("cpu", "wall")}
        each = {
            f"command, {k} ms a picture": 1e3 * _median(r["command"][k] for r in done) / count for k in ratios
        }
        each |= {
            f"parts, {k} ms a picture": 1e3 * _median(r["parts"][k] for r in done) / count for k in ratios
        }
        medians = {f"ratio of {k} seconds": _median(v) for k, v in ratios.items()}
        rows.append({"version": version, "pictures": count, **medians, "ratios": ratios, **each})
    return rows


def memory(versions: dict[str, Path | None], work: Path, side: int) -> list[Any]:
    """Per version the peak of a small and a larger folder, with a small backbone."""
    place = work / "memory"
    place.mkdir()
    files = pictures(place, max(MEMORY), side)
    few = work / "few"
    few.mkdir()
    for file in files[: min(MEMORY)]:
        (few / file.name).symlink_to(file)
    model = fitted(work / "small", files, "nano-conv")
    rows = []
    for version, source in versions.items():
        peaks = {}
        for folder, count in ((few, min(MEMORY)), (place, max(MEMORY))):
            done = measured(source, model, str(folder), str(work / f"memory-{version}-{count}"))
            peaks[f"peak MiB, {done['rows']} pictures"] = done["peak_mib"]
        first, last = peaks.values()
        rows.append({"version": version, "side": side, **peaks, "growth MiB": last - first})
    return rows


def _median(values: Any) -> float:
    return statistics.median(values)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=3, metavar=("MODEL", "FOLDER", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--compare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--part", action="append", choices=["throughput", "memory"], help="all by default")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=256, help="of the pictures whose memory is measured")
    parser.add_argument("--backbone", default="", help="EfficientNet-B4 with random weights by default")
    parser.add_argument("--before", type=Path, help="src folder of another version, measured in turns")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.child:
        import wildsight.anomaly  # noqa: F401  loaded before the clock starts

        model, folder, out = given.child
        print(json.dumps(child(model, Path(folder), Path(out), given.compare)))
        return
    versions = {"this": None, **({"before": given.before} if given.before else {})}
    found: dict[str, Any] = {"threads": os.environ.get("OMP_NUM_THREADS", "all"), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "small").mkdir()
        calls = {
            "throughput": lambda: throughput(versions, work, given.pictures, given.rounds, given.backbone),
            "memory": lambda: memory(versions, work, given.side),
        }
        for part in given.part or calls:
            load = os.getloadavg()
            found[part] = {"rows": calls[part](), "load": {"before": load, "after": os.getloadavg()}}
            print(json.dumps({part: found[part]}, indent=2), flush=True)
            if given.out:
                given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
