"""Fit every object in a process of its own: python fit_all.py FILE; the answers' digests go to FILE."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def digest(model: object) -> str:
    """SHA-256 of what an object learned."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(model.save_pretrained(Path(folder) / "model"))  # type: ignore[attr-defined]
        files = sorted(saved.glob("*.safetensors"))
        return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def main(file: str) -> None:
    import torch

    from contract.objects import NAMES, SUBJECTS

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["WILDSIGHT_CACHE"] = cache
        found = {name: digest(SUBJECTS[name].fit(SUBJECTS[name].make())) for name in NAMES}
    Path(file).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
