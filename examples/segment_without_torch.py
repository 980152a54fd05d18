"""Outline defects with onnxruntime, numpy and Pillow alone: no torch, no WildSight.

    python segment_without_torch.py runs/segmentation-export/segmenter.onnx part.png 40,52,90,80 OUT

Every box (x1,y1,x2,y2, pixels) gives one mask, written to OUT as PNG of 0 and 255.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def main(graph: Path, picture: Path, boxes: list[str], out: Path) -> None:
    """Run the graph on one picture and write the masks."""
    threshold = json.loads(graph.with_suffix(".json").read_text(encoding="utf-8"))["threshold"]
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    pixels = np.asarray(Image.open(picture).convert("RGB"))[None]
    corners = np.array([[float(v) for v in box.split(",")] for box in boxes], np.float32)
    (logits,) = session.run(["final"], {"pixels": pixels, "boxes": corners})
    out.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(logits):
        file = out / f"{picture.stem}-{number}.png"
        Image.fromarray((one > threshold).astype(np.uint8) * 255).save(file)
        print(f"{file}: {int((one > threshold).sum())} pixels")
    if "torch" in sys.modules:
        print("torch was imported")


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:-1], Path(sys.argv[-1]))
