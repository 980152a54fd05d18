"""The loader of multimodal models, which stands in `wildsight.backbones.vlm`, under its old name."""

from __future__ import annotations

from wildsight.backbones.vlm import DEFAULT, TEMPLATE, LoadedModel, load_model

__all__ = ["DEFAULT", "TEMPLATE", "LoadedModel", "load_model"]
