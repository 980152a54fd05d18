"""nano-sam: a `SamModel` that outlines the thing in a box, under a point, or roughly drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.nano.clip import normalised
from tools.nano.init import PLACE, begin, places


@dataclass(frozen=True)
class NanoSamConfig:
    """How nano-sam is built and taught.

    Attributes:
        size, patch: side of a picture and of a patch, pixels; masks come at a quarter of a patch.
        width, layers, window: of the image encoder: hidden width (a head is 32 wide), layers, side in patches
            of the windows of every other layer.
        channels: width of the prompt encoder and of the mask decoder.
        scenes, products: rendered scenes and products with a defect.
        still_steps, still_lr: steps with the encoder's layers as they are, peak rate.
        steps, batch, lr: steps with all in motion, pictures a step (of both), peak rate.
        prompts: things asked for in a picture.
        weight_decay: of AdamW.
        seed: of weights, order and augmentation.
    """

    size: int = 128
    patch: int = 8
    width: int = 192
    layers: int = 4
    window: int = 8
    channels: int = 96
    scenes: int = 5000
    products: int = 700
    still_steps: int = 310
    still_lr: float = 1.5e-3
    steps: int = 1200
    batch: int = 16
    lr: float = 8e-4
    prompts: int = 8
    weight_decay: float = 0.05
    seed: int = 0

    @property
    def side(self) -> int:
        """Patches along an edge."""
        return self.size // self.patch

    @property
    def coarse(self) -> int:
        """Side of the masks that the decoder gives."""
        return 4 * self.side


def new_sam(config: NanoSamConfig) -> nn.Module:
    """A `SamModel` at its start; `begin_as` gives it eyes that have seen."""
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    torch.manual_seed(config.seed)
    vision = SamVisionConfig(
        hidden_size=config.width,
        output_channels=config.channels,
        num_hidden_layers=config.layers,
        num_attention_heads=max(1, config.width // 32),
        image_size=config.size,
        patch_size=config.patch,
        window_size=config.window,
        global_attn_indexes=list(range(1, config.layers, 2)),
        num_pos_feats=config.channels // 2,
        mlp_dim=config.width * 4,
        hidden_act="quick_gelu",  # as CLIP's
        layer_norm_eps=1e-5,
        initializer_range=0.02,
    )
    prompt = SamPromptEncoderConfig(
        hidden_size=config.channels,
        image_size=config.size,
        patch_size=config.patch,
        image_embedding_size=config.side,
        mask_input_channels=16,
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=config.channels,
        mlp_dim=config.channels * 2,
        num_attention_heads=4,
        iou_head_hidden_dim=config.channels,
    )
    model = SamModel._from_config(
        SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder),
        attn_implementation="eager",
    )
    _begin(model, config)
    return model


@torch.no_grad()
def _begin(model: Any, config: NanoSamConfig) -> None:
    """The neighbourly start of the encoder, and place codes that change slowly, as in the published model."""
    encoder, layers = model.vision_encoder, []
    for layer in encoder.layers:
        query, key, value = layer.attn.qkv.weight.data.chunk(3)
        layers.append(
            (query, key, value, layer.attn.proj.weight, layer.mlp.lin1.weight, layer.mlp.lin2.weight)
        )
    codes = torch.zeros(config.side**2, config.width)
    begin(encoder.patch_embed.projection, codes, layers, config.side)
    encoder.pos_embed.copy_(codes.view(1, config.side, config.side, -1))
    codes_of = model.shared_image_embedding.positional_embedding
    codes_of.copy_(torch.randn_like(codes_of) * torch.linspace(0.3, 1.0, codes_of.shape[1]))
    model.prompt_encoder.shared_embedding.positional_embedding = codes_of.requires_grad_(False)
    for block in model.mask_decoder.transformer.layers:
        _pass_on(block.self_attn)
        _look_at_places(block.cross_attn_token_to_image)
        _look_at_places(block.cross_attn_image_to_token)
    _look_at_places(model.mask_decoder.transformer.final_attn_token_to_image)


def _pass_on(attention: Any) -> None:
    """Tokens begin by taking over what the others are: the mask's learns of the prompt's place."""
    for part in (attention.v_proj, attention.out_proj):
        nn.init.eye_(part.weight)


def _look_at_places(attention: Any) -> None:
    """Queries begin by looking at keys with a place like theirs, and copy part of them.

    The mean code of two corners is about that of the middle, since the codes change slowly: so a box begins
    as a look at its middle.
    """
    alike = 2.0 * nn.init.orthogonal_(torch.empty_like(attention.q_proj.weight))
    for part in (attention.q_proj, attention.k_proj):
        part.weight.copy_(alike)
    nn.init.orthogonal_(attention.v_proj.weight)
    attention.out_proj.weight.copy_(attention.v_proj.weight.T)


def stand_still(model: Any, still: bool) -> None:
    """Whether the encoder's filters, places and layers are left as they are in training."""
    encoder = model.vision_encoder
    for part in (encoder.patch_embed, encoder.layers):
        part.requires_grad_(not still)
    encoder.pos_embed.requires_grad_(not still)


@torch.no_grad()
def begin_as(model: Any, clip: Any, pictures: Tensor) -> None:
    """Give the encoder the filters, places and first layers of a CLIP tower of equal width and patch.

    CLIP normalises what enters its first layer and SAM does not: the filters and places are scaled by what
    that does to ``pictures`` on average. Places beyond CLIP's grid get the codes that its own began with.

    Args:
        model: the `SamModel`, changed in place.
        clip: the `CLIPModel`.
        pictures: float 0-255 [B, S, S, 3] that are like those to come.
    """
    tower, encoder = clip.vision_model, model.vision_encoder
    filters, norm = tower.embeddings.patch_embedding, tower.pre_layrnorm
    side = round((len(tower.embeddings.position_embedding.weight) - 1) ** 0.5)
    codes = _stretched(tower.embeddings.position_embedding.weight[1:], side, encoder.pos_embed.shape[1])
    seen = filters(normalised(pictures)).permute(0, 2, 3, 1) + codes
    spread, centre = seen.std(3, unbiased=False).mean(), seen.mean()
    encoder.patch_embed.projection.weight.copy_(filters.weight * (norm.weight / spread)[:, None, None, None])
    encoder.patch_embed.projection.bias.copy_(norm.bias - centre * norm.weight / spread)
    encoder.pos_embed.copy_(codes[None] * norm.weight / spread)
    for own, old in zip(encoder.layers, tower.encoder.layers, strict=False):
        own.layer_norm1.load_state_dict(old.layer_norm1.state_dict())
        own.layer_norm2.load_state_dict(old.layer_norm2.state_dict())
        eyes = (old.self_attn.q_proj, old.self_attn.k_proj, old.self_attn.v_proj)
        own.attn.qkv.weight.copy_(torch.cat([part.weight for part in eyes]))
        own.attn.qkv.bias.copy_(torch.cat([part.bias for part in eyes]))
        own.attn.proj.load_state_dict(old.self_attn.out_proj.state_dict())
        own.mlp.lin1.load_state_dict(old.mlp.fc1.state_dict())
        own.mlp.lin2.load_state_dict(old.mlp.fc2.state_dict())


def _stretched(codes: Tensor, side: int, wanted: int) -> Tensor:
    """Place codes [side * side, D] for a larger grid, [wanted, wanted, D].

    The sines and cosines go on; what was learned beside them is interpolated.
    """
    start = torch.zeros_like(codes)
    start[:, :PLACE] = places(side, side)
    learned = (codes - start).view(1, side, side, -1).permute(0, 3, 1, 2)
    wider = F.interpolate(learned, size=(wanted, wanted), mode="bilinear", align_corners=False)[0].permute(
        1, 2, 0
    )
    further = torch.zeros(wanted, wanted, codes.shape[1])
    further[..., :PLACE] = places(wanted, wanted, side).view(wanted, wanted, PLACE)
    return wider + further


@dataclass(frozen=True)
class Prompts:
    """Things asked for, P a picture.

    Attributes:
        masks: float [B, P, c, c] the outlines at the decoder's side, in [0, 1].
        boxes: [B, P, 4] left, top, right, bottom in pixels, or None.
        points: [B, P, 1, 2] x, y in pixels, or None.
        drafts: [B, 1, c, c] rough outlines as logits (then P is 1), or None.
    """

    masks: Tensor
    boxes: Tensor | None
    points: Tensor | None
    drafts: Tensor | None


def outline_loss(model: Any, pixels: Tensor, prompts: Prompts, *, several: bool) -> dict[str, Tensor]:
    """Loss of one batch.

    Args:
        model: the `SamModel`.
        pixels: [B, 3, S, S], normalised.
        prompts: what is asked for.
        several: three masks, of which the best one counts (and all of them a little), instead of one.

    Returns:
        ``loss``; ``iou``: mean IoU of the (best) mask.
    """
    labels = (
        None
        if prompts.points is None
        else torch.ones(prompts.points.shape[:3], dtype=torch.long).to(pixels.device)
    )
    output = model(
        pixel_values=pixels,
        input_points=prompts.points,
        input_labels=labels,
        input_boxes=prompts.boxes,
        input_masks=prompts.drafts,
        multimask_output=several,
    )
    logits, truth = output.pred_masks.float(), prompts.masks[:, :, None]
    each = mask_loss(logits, truth)
    own = overlap(logits.detach() > 0, truth > 0.5)
    best = each.min(2).values.mean()
    judged = F.mse_loss(output.iou_scores.float(), own)
    loss = best + (0.1 * each.mean() if several else 0.0) + judged
    return {"loss": loss, "iou": own.max(2).values.mean(), "judged": judged}


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy (times 4) and Dice loss of masks, [...] for logits and truth [..., c, c].

    >>> sure = torch.full((1, 4, 4), 20.0)
    >>> mask_loss(sure, torch.ones(1, 4, 4)).round(decimals=4).tolist()
    [0.0]
    """
    truth = truth.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((-2, -1))
    share = logits.sigmoid()
    dice = 1 - (2 * (share * truth).sum((-2, -1)) + 1) / ((share + truth).sum((-2, -1)) + 1)
    return 4 * entropy + dice


def overlap(one: Tensor, two: Tensor) -> Tensor:
    """IoU over the last two axes of two boolean arrays; 1 where both are empty.

    >>> overlap(torch.tensor([[True, True]]), torch.tensor([[True, False]])).item()
    0.5
    """
    both, either = (one & two).sum((-2, -1)).float(), (one | two).sum((-2, -1)).float()
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)
