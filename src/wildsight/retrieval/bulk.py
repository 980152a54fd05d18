"""Embedding large folders on Ray: the batches of the local path, on the workers of a machine or a cluster.

A worker gets a checkpoint's files and the name of the class that reads them; photos are read where it runs,
so that their paths have to hold there too. Batches, their order and the number of threads are those of the
local path, and so are the bits of the vectors on machines of one kind. Ray runs the shard of a worker that
dies again; a run that dies goes on at the next call, since finished batches are in the index.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import ConfigError, DataError, WildSightError, needs
from wildsight.estimators.tasks import resolve
from wildsight.retrieval.indexing import Engine, Outcome

SHARDS_EACH = 8


class Embedder:
    """One worker: an object made from a checkpoint's files, and what it makes of batches of photos.

    Args:
        loader: ``module:Class`` that has ``from_pretrained`` and ``embed_files``.
        files: the checkpoint, file name -> content.
        threads: number of torch's threads.
        device: where it computes.
    """

    def __init__(self, loader: str, files: dict[str, bytes], threads: int, device: str) -> None:
        import torch

        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self.embedder = resolve(loader).from_pretrained(folder, device=device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """``files`` -> their vectors as bytes, whether each could be read, and the faults as text."""
        vectors, ok, errors = self.embedder.embed_files([Path(f) for f in row["files"]])
        return {
            "number": row["number"],
            "vectors": np.ascontiguousarray(vectors, np.float32).tobytes(),
            "width": vectors.shape[1],
            "ok": [bool(x) for x in ok],
            "errors": [str(e) for e in errors],
        }


@contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """Ray, started here or joined at ``address``; one that ran before is left running.

    Raises:
        ConfigError: Ray is not installed.
        DataError: the cluster does not answer, or Ray does not start here.
    """
    with needs("ray", "scale"):
        import ray
        import ray.data
    before = ray.is_initialized()
    try:
        if not before:
            _begin(ray, address)
        yield ray
    except (ConnectionError, TimeoutError) as error:
        hint = "check --ray and that the cluster runs"
        raise DataError("the cluster does not answer", where=address or "ray", hint=hint) from error
    finally:
        if not before:
            ray.shutdown()


def _begin(ray: Any, address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address, **quiet, **({} if address else {"include_dashboard": False}))
    except (ConnectionError, TimeoutError):
        raise
    except Exception as error:  # Ray has no class of its own for this
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "try again when the machine is less busy, or use --engine local"
        raise DataError(f"Ray does not start ({reason})", where=address or "ray", hint=hint) from error


def ray_engine(
    loader: str,
    checkpoint: Callable[[], dict[str, bytes]],
    *,
    workers: int,
    address: str | None,
    device: str = "cpu",
) -> Engine:
    """An engine for the `Indexer`: batches of files in, each with its outcome out, in the same order.

    Args:
        loader: ``module:Class`` that reads the checkpoint; its backbone is loaded by name on every worker.
        checkpoint: gives the checkpoint's files, name -> content; called when there is something to do.
        workers: processes at most.
        address: of a running cluster; None starts Ray here, or joins what ``RAY_ADDRESS`` names.
        device: type of device that every worker computes on; with ``cuda`` each takes a GPU of the cluster.

    Raises:
        ConfigError: ``workers`` below 1.
    """
    if workers < 1:
        raise ConfigError(f"workers={workers}", hint="give 1 or more")

    def run(batches: Iterator[list[Path]]) -> Iterator[tuple[list[Path], Outcome]]:
        if not (planned := list(batches)):
            return
        arguments = (loader, checkpoint())
        with cluster(address) as ray:
            for row in _rows(ray, planned, arguments, workers, device):
                yield planned[row["number"]], _outcome(row)

    return run


def _rows(
    ray: Any, planned: list[list[Path]], arguments: tuple[str, dict[str, bytes]], workers: int, device: str
) -> Iterator[Any]:
    """What the workers made of the batches, in their order."""
    import torch

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    threads = torch.get_num_threads()
    items = [{"number": n, "files": [str(f) for f in batch]} for n, batch in enumerate(planned)]
    data = ray.data.from_items(items, override_num_blocks=min(len(items), SHARDS_EACH * workers))
    done = data.map(
        Embedder,
        fn_constructor_args=(*arguments, threads, device),
        concurrency=(1, workers),
        num_cpus=threads,
        **({"num_gpus": 1} if device == "cuda" else {}),
    )
    yield from done.iter_rows()


def _outcome(row: dict[str, Any]) -> Outcome:
    vectors = np.frombuffer(row["vectors"], np.float32).reshape(-1, row["width"])
    return vectors, np.array(row["ok"], bool), [WildSightError(e) for e in row["errors"]]
