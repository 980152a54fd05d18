"""Boxes as a glTF 2.0 file that any viewer opens: one node a box, named, in metres; no library needed.

glTF has y up and looks along -z, a camera here y down and looks along +z: the scene is turned by half a turn
about x.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.files import write_text
from wildsight.spatial.boxes import SIGNS, Box
from wildsight.spatial.drawing import colour_of

_FACES = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (3, 7, 6, 2), (0, 4, 7, 3), (1, 2, 6, 5))
_FLOAT, _SHORT, _TRIANGLES = 5126, 5123, 4
_TURN = (1.0, 0.0, 0.0, 0.0)  # quaternion of half a turn about x


def gltf_of(boxes: Sequence[Box]) -> dict[str, Any]:
    """The JSON document; the unit cube is stored once and scaled."""
    points, triangles = _cube()
    data = points.tobytes() + triangles.tobytes()
    return {
        "asset": {"version": "2.0", "generator": "wildsight"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"name": "camera frame", "rotation": list(_TURN), "children": list(range(1, len(boxes) + 1))}
            if boxes else {"name": "camera frame", "rotation": list(_TURN)},
            *(_node(b, i) for i, b in enumerate(boxes)),
        ],
        **({"meshes": [_mesh(i) for i in range(len(boxes))], "materials": [_material(i) for i in
        range(len(boxes))]}
           if boxes else {}),
        "accessors": [
            {"bufferView": 0, "componentType": _FLOAT, "count": len(points), "type": "VEC3",
             "min": [-0.5] * 3, "max": [0.5] * 3},
            {"bufferView": 1, "componentType": _SHORT, "count": triangles.size, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": points.nbytes},
            {"buffer": 0, "byteOffset": points.nbytes, "byteLength": triangles.nbytes},
        ],
        "buffers": [{"byteLength": len(data),
                     "uri": "data:application/octet-stream;base64," + base64.b64encode(data).decode()}],
    }  # fmt: skip


def write_gltf(path: str | Path, boxes: Sequence[Box]) -> Path:
    """Write boxes to ``path``, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    write_text(path, json.dumps(gltf_of(boxes)))
    return Path(path)


def _cube() -> tuple[np.ndarray, np.ndarray]:
    points = np.ascontiguousarray(SIGNS / 2, dtype="<f4")
    triangles = [(f[0], f[i], f[i + 1]) for f in _FACES for i in (1, 2)]
    return points, np.array(triangles, dtype="<u2")


def _node(box: Box, index: int) -> dict[str, Any]:
    return {
        "name": box.name or f"box {index}",
        "mesh": index,
        "translation": [float(v) for v in box.centre],
        "rotation": _quaternion(box.rotation),
        "scale": [float(v) for v in box.size],
        "extras": {"score": float(box.score), "spread_m": float(box.spread)},
    }


def _quaternion(rotation: np.ndarray) -> list[float]:
    """(x, y, z, w) of a rotation."""
    from scipy.spatial.transform import Rotation

    return [float(v) for v in Rotation.from_matrix(rotation).as_quat()]


def _mesh(index: int) -> dict[str, Any]:
    primitive = {"attributes": {"POSITION": 0}, "indices": 1, "material": index, "mode": _TRIANGLES}
    return {"primitives": [primitive]}


def _material(index: int) -> dict[str, Any]:
    rgb = [round(c / 255, 4) for c in colour_of(index)]
    return {"pbrMetallicRoughness": {"baseColorFactor": [*rgb, 0.6], "metallicFactor": 0.0},
            "alphaMode": "BLEND", "doubleSided": True}  # fmt: skip
