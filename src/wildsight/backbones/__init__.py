"""One small interface over frozen networks: by hub id, by local folder, or a nano checkpoint.

backbone = load_backbone("google/efficientnet-b4")
maps = backbone.pyramid(backbone.preprocess(pictures, 224), strides=(4, 8, 16))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.backbones.backbone import Backbone, Features, load_backbone, nano_folder

__all__ = ["Backbone", "Features", "load_backbone", "nano_folder"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from wildsight.backbones import backbone

    return getattr(backbone, name)
