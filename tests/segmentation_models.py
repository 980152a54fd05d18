"""Tiny real models of the SAM family with random weights, for the tests of the segmentation task."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wildsight.backbones import Backbone
from wildsight.files import digest_of
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.importer import DECODERS
from wildsight.segmentation.lora import decoder_sites, encoder_sites
from wildsight.segmentation.methods.spt import SPTAdapter

KINDS = ("SamModel", "Sam2Model", "SamHQModel", "Sam3TrackerModel")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DECODER = {"hidden_size": 32, "mlp_dim": 48, "num_attention_heads": 2, "iou_head_hidden_dim": 32}


def sam(hq: bool = False, size: int = 64) -> Any:
    """`SamModel` or `SamHQModel`: 64 pixels, 8 x 8 tokens, 32 channels, 2 blocks."""
    import transformers as t

    prefix = "SamHQ" if hq else "Sam"
    more = {"vit_dim": 24} if hq else {}
    vision = getattr(t, f"{prefix}VisionConfig")(
        hidden_size=24,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=size,
        patch_size=8,
        window_size=4,
        global_attn_indexes=[1],
        mlp_dim=48,
        num_pos_feats=16,
        initializer_range=0.1,
    )
    prompts = getattr(t, f"{prefix}PromptEncoderConfig")(
        hidden_size=32, image_size=size, patch_size=8, mask_input_channels=8
    )
    decoder = getattr(t, f"{prefix}MaskDecoderConfig")(**DECODER, **more)
    config = getattr(t, f"{prefix}Config")(
        vision_config=vision,
        prompt_encoder_config=prompts,
        mask_decoder_config=decoder,
        initializer_range=0.1,
    )
    return getattr(t, f"{prefix}Model")(config)


def sam2() -> Any:
    """`Sam2Model`: 64 pixels, grids of 16, 8 and 4."""
    import transformers as t

    hiera = t.Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 2, 4],
        window_size_per_stage=[4, 4, 4, 2],
        global_attention_blocks=[3],
        initializer_range=0.1,
    )
    vision = t.Sam2VisionConfig(
        backbone_config=hiera,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
        initializer_range=0.1,
    )
    prompts = t.Sam2PromptEncoderConfig(hidden_size=32, image_size=64, patch_size=16, mask_input_channels=8)
    decoder = t.Sam2MaskDecoderConfig(**DECODER)
    config = t.Sam2Config(
        vision_config=vision,
        prompt_encoder_config=prompts,
        mask_decoder_config=decoder,
        initializer_range=0.1,
    )
    return t.Sam2Model(config)


def sam3() -> Any:
    """`Sam3TrackerModel`: 56 pixels, patches of 14, grids of 16, 8 and 4."""
    import transformers as t

    backbone = t.Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        pretrain_image_size=56,
        patch_size=14,
        window_size=2,
        global_attn_indexes=[1],
    )
    vision = t.Sam3VisionConfig(
        backbone_config=backbone,
        fpn_hidden_size=32,
        scale_factors=[4.0, 2.0, 1.0],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )
    prompts = t.Sam3TrackerPromptEncoderConfig(
        hidden_size=32, image_size=56, patch_size=14, mask_input_channels=8
    )
    decoder = t.Sam3TrackerMaskDecoderConfig(**DECODER)
    config = t.Sam3TrackerConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    return t.Sam3TrackerModel(config)


def base_of(kind: str, seed: int = 0) -> SamBase:
    """A tiny base of a class, reproducible, its decoder without the multi-mask switch of SAM 2."""
    torch.manual_seed(seed)
    build = {"SamModel": sam, "Sam2Model": sam2, "SamHQModel": lambda: sam(hq=True), "Sam3TrackerModel": sam3}
    model = build[kind]()
    return SamBase(Backbone(model, f"tiny-{kind}", digest_of([kind, seed]), MEAN, STD))


def official(base: SamBase, spt: SPTAdapter, *, merged: bool) -> dict[str, Tensor]:
    """A state dict with the authors' names, as their layers save it in training or in evaluation mode."""
    state: dict[str, Tensor] = {}
    ours = spt.state_dict()
    blocks: dict[str, Tensor] = {}
    for site in encoder_sites(base, ("q", "v")):
        stem = f"image_encoder.blocks.{site.path[0]}.attn.qkv"
        pair = [ours[f"encoder.{'.'.join(site.path)}.lora_{x}"] for x in "AB"]
        weight = blocks.setdefault(f"{stem}.weight", site.linear.weight.detach().clone())
        if merged:
            weight[site.rows] += spt.config.alpha / spt.config.rank * pair[1] @ pair[0]
        for name, value in zip(("lora_A", "lora_B"), pair, strict=True):
            state.setdefault(f"{stem}.{name}", torch.empty(0, value.shape[1]))
            state[f"{stem}.{name}"] = torch.cat([state[f"{stem}.{name}"], value])
    names = {"self": "self_attn", "t2i": "cross_attn_token_to_image", "i2t": "cross_attn_image_to_token"}
    for stage, name in DECODERS.items():
        for site in decoder_sites(base.decoder, ("q", "v")):
            block, attention, target = site.path
            inner = "final_attn_token_to_image" if block == "final" else f"layers.{block}.{names[attention]}"
            stem = f"{name}.transformer.{inner}.{target}_proj"
            a, b = (ours[f"decoder.{stage}.{'.'.join(site.path)}.lora_{x}"] for x in "AB")
            weight = site.linear.weight.detach().clone()
            state |= {f"{stem}.lora_A": a, f"{stem}.lora_B": b}
            state[f"{stem}.weight"] = (
                weight + spt.config.alpha / spt.config.rank * b @ a if merged else weight
            )
        for number in range(2):
            scale = ours[f"decoder.{stage}.{number}.relation_scale"]
            state[f"{name}.transformer.layers.{number}.lora_sim_scale"] = scale
    return state | blocks


def sam2_video() -> Any:
    """The published SAM 2 and 2.1 name the class for videos."""
    import transformers as t

    parts = sam2().config
    config = t.Sam2VideoConfig(
        vision_config=parts.vision_config.to_dict(),
        prompt_encoder_config=parts.prompt_encoder_config.to_dict(),
        mask_decoder_config=parts.mask_decoder_config.to_dict(),
        image_size=64,
    )
    return t.Sam2VideoModel(config)
