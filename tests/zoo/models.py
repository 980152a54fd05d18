"""Real `transformers` classes with the real geometry of published checkpoints; few, narrow layers."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from segmentation_models import sam, sam2_video, sam3
from vlm_models import tokenizer
from wildsight.backbones import Backbone, load_backbone

VIT: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
TEXT = {**VIT, "vocab_size": 512, "max_position_embeddings": 16}
STAGES: dict[str, Any] = {"embed_dim": 8, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 2, 4]}
NARROW: dict[str, Any] = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1]}
HEADS: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 3, 4]}


@dataclass(frozen=True)
class Family:
    """One family of the zoo.

    Attributes:
        example: a published checkpoint with this geometry.
        make: the model.
        side: of the smallest square picture that it is tried with, pixels.
        words: it has a text tower, and its tokenizer is saved beside it.
        needs: a package without which it cannot be built.
    """

    example: str
    make: Callable[[], Any]
    side: int = 64
    words: bool = False
    needs: str | None = None


def _pair(config: type[Any], model: type[Any], vision: dict[str, Any], **more: Any) -> Any:
    return model(config(text_config={**TEXT, **more}, vision_config={**VIT, **vision}))


def _clip(config: type[Any], model: type[Any], patch: int) -> Any:
    vision = {"patch_size": patch, "image_size": 224}
    return _pair(config, model, vision, eos_token_id=2, bos_token_id=0, pad_token_id=1)


def _dino(config: type[Any], model: type[Any], **more: Any) -> Any:
    return model(config(image_size=518, patch_size=14, **VIT, **more))


def _timm() -> Any:
    settings = {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3}
    config = hf.TimmWrapperConfig(architecture="resnet18", pretrained_cfg=settings)
    return hf.TimmWrapperModel(config)


def _efficientnet() -> Any:
    """With wider weights and a batch's statistics: as initialised, all pictures are alike to it."""
    config = hf.EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.5, hidden_dim=320)
    model = hf.EfficientNetModel(config).train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.mul_(10.0)
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(1.0)
        model(torch.randn(8, 3, 64, 64))
    return model.eval()


def _edgetam() -> Any:
    """The configuration's own default does not name the network inside."""
    taps = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    inside = hf.TimmWrapperConfig(architecture="repvit_m1", model_args=taps)
    return hf.EdgeTamModel(hf.EdgeTamConfig(vision_config=hf.EdgeTamVisionConfig(backbone_config=inside)))


FAMILIES: dict[str, Family] = {
    "CLIP": Family(
        "openai/clip-vit-base-patch32", lambda: _clip(hf.CLIPConfig, hf.CLIPModel, 32), 128, True
    ),
    "MetaCLIP 2": Family(
        "facebook/metaclip-2-worldwide-b32", lambda: _clip(hf.MetaClip2Config, hf.MetaClip2Model, 32),
        128,
        words=True,
    ),
    "SigLIP": Family(
        "google/siglip-base-patch16-224",
        lambda: _pair(hf.SiglipConfig, hf.SiglipModel, {"patch_size": 16, "image_size": 224}), words=True,
    ),
    "SigLIP 2": Family(
        "google/siglip2-base-patch16-256",
        lambda: _pair(hf.SiglipConfig, hf.SiglipModel, {"patch_size": 16, "image_size": 256}), words=True,
    ),
    "SigLIP 2 NaFlex": Family(
        "google/siglip2-base-patch16-naflex",
        lambda: _pair(hf.Siglip2Config, hf.Siglip2Model, {"patch_size": 16}), words=True,
    ),
    "DINOv2": Family("facebook/dinov2-small", lambda: _dino(hf.Dinov2Config, hf.Dinov2Model), 56),
    "DINOv2 with registers": Family(
        "facebook/dinov2-with-registers-small",
        lambda: _dino(hf.Dinov2WithRegistersConfig, hf.Dinov2WithRegistersModel), 56,
    ),
    "DINOv3 ViT": Family(
        "facebook/dinov3-vits16-pretrain-lvd1689m",
        lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(num_register_tokens=4, **VIT)),
    ),
    "DINOv3 ConvNeXt": Family(
        "facebook/dinov3-convnext-tiny-pretrain-lvd1689m",
        lambda: hf.DINOv3ConvNextModel(hf.DINOv3ConvNextConfig(**NARROW)),
    ),
    "ViT": Family("google/vit-base-patch16-224", lambda: hf.ViTModel(hf.ViTConfig(**VIT))),
    "ViT-MAE": Family("facebook/vit-mae-base", lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**VIT))),
    "BEiT": Family(
        "microsoft/beit-base-patch16-224",
        lambda: hf.BeitModel(hf.BeitConfig(use_relative_position_bias=True, **VIT)),
    ),
    "AIMv2": Family(
        "apple/aimv2-large-patch14-224", lambda: hf.Aimv2VisionModel(hf.Aimv2VisionConfig(**VIT)), 224
    ),
    "ResNet": Family(
        "microsoft/resnet-50", lambda: hf.ResNetModel(hf.ResNetConfig(embedding_size=8, **NARROW))
    ),
    "RegNet": Family(
        "facebook/regnet-y-040",
        lambda: hf.RegNetModel(hf.RegNetConfig(embedding_size=8, groups_width=4, **NARROW)),
    ),
    "EfficientNet": Family("google/efficientnet-b4", _efficientnet),
    "ConvNeXt": Family(
        "facebook/convnext-tiny-224", lambda: hf.ConvNextModel(hf.ConvNextConfig(**NARROW))
    ),
    "ConvNeXt V2": Family(
        "facebook/convnextv2-tiny-1k-224", lambda: hf.ConvNextV2Model(hf.ConvNextV2Config(**NARROW))
    ),
    "Swin": Family(
        "microsoft/swin-tiny-patch4-window7-224", lambda: hf.SwinModel(hf.SwinConfig(**STAGES)), 224
    ),
    "Swin V2": Family(
        "microsoft/swinv2-tiny-patch4-window8-256",
        lambda: hf.Swinv2Model(hf.Swinv2Config(image_size=256, window_size=8, **STAGES)), 256,
    ),
    "SegFormer": Family("nvidia/mit-b0", lambda: hf.SegformerModel(hf.SegformerConfig(**HEADS))),
    "PVT v2": Family("OpenGVLab/pvt_v2_b0", lambda: hf.PvtV2Model(hf.PvtV2Config(**HEADS))),
    "Hiera": Family(
        "facebook/hiera-tiny-224-hf", lambda: hf.HieraModel(hf.HieraConfig(**STAGES)), 224
    ),
    "timm, by transformers": Family("timm/resnet18.a1_in1k", _timm, needs="timm"),
    "SAM": Family("facebook/sam-vit-base", sam),
    "SAM-HQ": Family("syscv-community/sam-hq-vit-base", lambda: sam(hq=True)),
    "SAM 2, SAM 2.1": Family("facebook/sam2.1-hiera-tiny", sam2_video),
    "SAM 3 tracker": Family("facebook/sam3", sam3, 56),
    "EdgeTAM": Family("yonigozlan/EdgeTAM-hf", _edgetam, needs="timm"),
}  # fmt: skip


def absent(name: str) -> str | None:
    """Why a family cannot be tried here, if it cannot."""
    package = FAMILIES[name].needs
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed"


@functools.cache
def folder(name: str) -> Path:
    """A family's checkpoint, made once."""
    torch.manual_seed(0)
    place = Path(tempfile.mkdtemp(prefix="zoo-"))
    FAMILIES[name].make().save_pretrained(place)
    if FAMILIES[name].words:
        tokenizer().save_pretrained(place)
    return place


@functools.cache
def loaded(name: str) -> Backbone:
    """A family's backbone, loaded once."""
    return load_backbone(folder(name))
