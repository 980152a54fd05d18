"""nano-clip: a `CLIPModel` that learns the world's words, from windows about one thing, then whole scenes.

Its losses: captions and phrases against pictures (contrastive, with every text that is true of a picture
counted as a match), what the penultimate layer's patches show (thing by thing, place by place), and
attributes read from the class token of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.nano.init import begin
from tools.nano.scene_cache import NAMES

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipConfig:
    """How nano-clip is built and taught.

    Attributes:
        size, patch: side of a picture and of a patch, pixels.
        width, layers: of the vision transformer; a head is 32 wide, the feed-forward four times the width.
        text_width, text_layers: of the text transformer; a head is 32 wide.
        length: longest text, tokens.
        shared: width of the shared space.
        scenes: rendered scenes.
        window_steps, window_batch, window_lr: steps on windows about one thing, windows a step, peak rate.
        scene_steps, scene_batch, scene_lr: the same for whole scenes.
        painted_steps, painted_lr: steps on scenes of which some have their things painted over, peak rate.
        painted: share of such pictures among them.
        photos: real photographs added to a batch of scenes, where there are any, out of ``album`` of them.
        weight_decay: of AdamW.
        seed: of weights, order and augmentation.
    """

    size: int = 96
    patch: int = 8
    width: int = 192
    layers: int = 6
    text_width: int = 128
    text_layers: int = 3
    length: int = 64
    shared: int = 128
    scenes: int = 16_000
    window_steps: int = 1700
    window_batch: int = 128
    window_lr: float = 1e-3
    scene_steps: int = 900
    scene_batch: int = 56
    scene_lr: float = 7e-4
    painted_steps: int = 280
    painted_lr: float = 4e-4
    painted: float = 0.4
    photos: int = 8
    album: int = 6000
    weight_decay: float = 0.05
    seed: int = 0

    @property
    def side(self) -> int:
        """Patches along an edge."""
        return self.size // self.patch


def new_clip(config: ClipConfig, words: Any) -> nn.Module:
    """A `CLIPModel` at its start, for the vocabulary of the tokenizer ``words``."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    torch.manual_seed(config.seed)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=config.text_width,
        intermediate_size=config.text_width * 4,
        num_hidden_layers=config.text_layers,
        num_attention_heads=max(1, config.text_width // 32),
        max_position_embeddings=config.length,
        projection_dim=config.shared,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=config.width,
        intermediate_size=config.width * 4,
        num_hidden_layers=config.layers,
        num_attention_heads=max(1, config.width // 32),
        image_size=config.size,
        patch_size=config.patch,
        projection_dim=config.shared,
    )
    settings = CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.shared)
    model = CLIPModel._from_config(settings, attn_implementation="eager")  # the fastest on a CPU in bf16
    tower = model.vision_model
    begin(
        tower.embeddings.patch_embedding,
        tower.embeddings.position_embedding.weight.data[1:],
        [weights_of(layer) for layer in tower.encoder.layers],
        config.side,
    )
    tower.embeddings.position_embedding.weight.data[0] = 0
    return model


def weights_of(layer: nn.Module) -> tuple[Tensor, ...]:
    """The matrices of a CLIP layer in the order that `begin` wants."""
    a, m = layer.self_attn, layer.mlp
    return tuple(p.weight for p in (a.q_proj, a.k_proj, a.v_proj, a.out_proj, m.fc1, m.fc2))


class Heads(nn.Module):
    """Linear readers of shape, colour, material and size (0: none), thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.readers = nn.ModuleList([nn.Linear(width, 1 + len(names)) for names in NAMES])

    def forward(self, hidden: Tensor) -> list[Tensor]:
        """[..., width] -> four [..., 1 + names]."""
        return [reader(hidden).float() for reader in self.readers]


class Student(nn.Module):
    """The CLIP with its throw-away readers; called with a function of it, it returns its losses.

    Attributes:
        clip: the ``CLIPModel`` that is kept.
        patch_heads: what a patch shows; ``class_heads``: what the window's thing is.
        place: where the box of a patch's thing lies from it, and how far away the thing is.
        photo_fine, photo_coarse, photo_class: the ImageNet network's maps at strides 8 and 16 and its pooled
            feature, for real photographs.
    """

    def __init__(self, clip: nn.Module, config: ClipConfig, photo_widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.clip, self.config = clip, config
        self.patch_heads, self.class_heads = Heads(config.width), Heads(config.width)
        self.place = nn.Linear(config.width, 5)
        self.photo_fine = nn.Linear(config.width, photo_widths[0])
        self.photo_coarse = nn.Linear(config.width, photo_widths[1])
        self.photo_class = nn.Linear(config.width, photo_widths[2])

    def forward(self, losses: Callable[[Student], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The logged scalars of a batch."""
        return losses(self)

    def see(self, pixels: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(patches of the penultimate layer [B, N, D], class token of the last [B, D]).

        Args:
            pixels: [B, 3, h, w], normalised: whole pictures or windows of them.
            where: [B, N] number of the patch in the picture; None for whole pictures.
        """
        tower = self.clip.vision_model
        patches = tower.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        codes = tower.embeddings.position_embedding.weight
        own = codes[1:] if where is None else codes[1 + where]
        token = (tower.embeddings.class_embedding + codes[0]).expand(len(pixels), 1, -1)
        hidden = tower.pre_layrnorm(torch.cat([token, patches + own], 1))
        for layer in tower.encoder.layers[:-1]:
            hidden = layer(hidden, None)
        last = tower.encoder.layers[-1](hidden, None)
        return hidden[:, 1:], tower.post_layernorm(last[:, 0])

    def read(self, ids: Tensor) -> Tensor:
        """Texts [T, L] in the shared space [T, S], unit length."""
        ids = ids[:, : int((ids != self.clip.config.text_config.pad_token_id).sum(1).max())]
        pooled = self.clip.text_model(input_ids=ids).pooler_output
        return F.normalize(self.clip.text_projection(pooled).float(), dim=1)

    def match(self, token: Tensor, ids: Tensor, true: Tensor) -> Tensor:
        """Contrastive loss of class tokens [B, D] against texts [T, L], ``true`` [B, T] where a text fits."""
        pictures = F.normalize(self.clip.visual_projection(token).float(), dim=1)
        scores = pictures @ self.read(ids).T * self.clip.logit_scale.clamp(max=4.6).exp()
        return 0.5 * (several(scores, true) + several(scores.T, true.T))


def several(scores: Tensor, true: Tensor) -> Tensor:
    """Mean cross-entropy of rows [B, T] against all that is ``true`` of them in equal shares; rows with
    nothing true do not count.

    >>> several(torch.zeros(1, 4), torch.tensor([[True, True, False, False]])).exp().round().item()
    4.0
    """
    share = true.float() / true.sum(1, keepdim=True).clamp_min(1)
    loss = -(share * scores.log_softmax(1)).sum(1)
    counts = true.any(1).float()
    return (loss * counts).sum() / counts.sum().clamp_min(1)


def shown(answers: list[Tensor], truth: Tensor, *, ground: float) -> Tensor:
    """Sum over attributes of the mean cross-entropy of patches; one without a thing weighs ``ground``.

    Args:
        answers: per attribute [B, N, 1 + names].
        truth: [B, N, attributes], 0 where there is no thing, negative where nothing is told; fewer attributes
            than answers may be given.
        ground: in [0, 1].
    """
    loss = torch.zeros((), device=truth.device)
    for index in range(truth.shape[-1]):
        own = truth[..., index].flatten()
        weight = torch.where(own > 0, 1.0, ground) * (own >= 0)
        each = F.cross_entropy(answers[index].flatten(0, -2), own.clamp_min(0), reduction="none")
        loss = loss + (each * weight).sum() / weight.sum().clamp_min(1)
    return loss


def normalised(pictures: Tensor) -> Tensor:
    """uint8 or float 0-255 [B, H, W, 3] -> [B, 3, H, W] in CLIP's normalisation."""
    mean, std = (torch.tensor(v, device=pictures.device) for v in (MEAN, STD))
    return ((pictures / 255.0 - mean) / std).permute(0, 3, 1, 2)
