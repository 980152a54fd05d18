"""Real `transformers` classes of every family of backbones, with small random weights."""

from __future__ import annotations

from typing import Any

import transformers as hf

VIT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
SHARED_SPACE = {
    "text_config": {**VIT, "vocab_size": 8, "max_position_embeddings": 6, "eos_token_id": 2},
    "vision_config": {**VIT, "image_size": 32, "patch_size": 8},
}


def families() -> dict[str, Any]:
    """One model per family."""
    sizes = {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 2, 1, 1]}
    dino = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 14}
    return {
        "efficientnet": hf.EfficientNetModel(
            hf.EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.5, hidden_dim=320)
        ),
        "resnet": hf.ResNetModel(hf.ResNetConfig(embedding_size=4, layer_type="basic", **sizes)),
        "mobilenet": hf.MobileNetV2Model(hf.MobileNetV2Config(depth_multiplier=0.25)),
        "convnext": hf.ConvNextModel(hf.ConvNextConfig(**sizes)),
        "swin": hf.SwinModel(
            hf.SwinConfig(image_size=64, embed_dim=4, depths=[1] * 4, num_heads=[1] * 4, window_size=2)
        ),
        "vit": hf.ViTModel(hf.ViTConfig(image_size=64, patch_size=16, **VIT)),
        "dinov2": hf.Dinov2Model(hf.Dinov2Config(image_size=56, **dino)),
        "registers": hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(image_size=28, **dino)),
        "clip": hf.CLIPModel(hf.CLIPConfig(projection_dim=10, **SHARED_SPACE)),
        "siglip": hf.SiglipModel(hf.SiglipConfig(**SHARED_SPACE)),
    }
