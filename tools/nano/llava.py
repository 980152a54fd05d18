"""nano-llava: a small Llama that answers questions about what nano-clip's tower sees.

The tower is frozen. First the projector and the words learn to agree, patch by patch; then the language model
learns to answer, all questions about one picture in one sequence: each sees the picture and itself, no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROPE = 1e6  # of the Llama: most channels turn little over the length of a picture
SLOW = 6  # of each 16 pairs of channels, those from here on turn by less than a right angle over a picture


@dataclass(frozen=True)
class NanoLlavaConfig:
    """How nano-llava is built and taught.

    Attributes:
        width, feed, layers, heads, groups: of the Llama: hidden and feed-forward width, layers, query heads
            and key-value heads.
        scenes: rendered scenes.
        agree_steps, agree_batch, agree_lr: steps of the projector and the words alone.
        few_steps: steps of answering about scenes of one or two things.
        steps, batch, lr: steps of answering about all scenes, pictures a step, peak rate (of both).
        questions: questions about a picture in one step, beside its caption; ``drawn`` are kept for each.
        shown: patches shown in three of four batches, those that show a thing before others; the fourth sees
            all.
        weight_decay: of AdamW.
        seed: of weights, order and augmentation.
    """

    width: int = 192
    feed: int = 512
    layers: int = 6
    heads: int = 6
    groups: int = 2
    scenes: int = 18_000
    agree_steps: int = 150
    agree_batch: int = 64
    agree_lr: float = 3e-3
    few_steps: int = 100
    steps: int = 3_000
    batch: int = 24
    lr: float = 1e-3
    questions: int = 11
    drawn: int = 24
    shown: int = 80
    weight_decay: float = 0.05
    seed: int = 0


def new_llava(clip: nn.Module, words: Any, config: NanoLlavaConfig) -> nn.Module:
    """A `LlavaForConditionalGeneration` on the vision tower of ``clip``, with a fresh language model."""
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(config.seed)
    vision = clip.config.vision_config
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=config.width,
        intermediate_size=config.feed,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.groups,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE},
        tie_word_embeddings=True,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    settings = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration._from_config(settings, attn_implementation="eager")
    model.model.vision_tower.load_state_dict(clip.vision_model.state_dict())
    for layer in model.model.language_model.layers:
        _look_for_alike(layer.self_attn, config)
    return model


@torch.no_grad()
def _look_for_alike(attention: Any, config: NanoLlavaConfig) -> None:
    """The first head of each group starts by looking for tokens like its own and copying part of them.

    A word then finds the patches that show it, since words and patches share directions. Only channels that
    turn slowly with the distance take part, or else the likeness of far tokens would be lost.
    """
    wide = config.width // config.heads
    slow = torch.arange(wide) % (wide // 2) >= SLOW * wide // 32
    for group in range(config.groups):
        own, first = slice(group * wide, (group + 1) * wide), group * config.heads // config.groups
        head = slice(first * wide, (first + 1) * wide)
        alike, copied = (nn.init.orthogonal_(torch.empty(wide, config.width)) for _ in range(2))
        for weight, rows in ((attention.q_proj.weight, head), (attention.k_proj.weight, own)):
            weight[rows] = torch.where(slow[:, None], 1.3 * alike, weight[rows])
        attention.v_proj.weight[own] = copied
        attention.o_proj.weight[:, head] = 0.5 * copied.T


class Talker(nn.Module):
    """The model in training; its tower stays as it is; called with a function of it, it returns its losses.

    Attributes:
        llava: the ``LlavaForConditionalGeneration`` that is kept.
    """

    def __init__(self, llava: nn.Module) -> None:
        super().__init__()
        self.llava = llava
        llava.model.vision_tower.requires_grad_(False)

    def forward(self, losses: Callable[[Talker], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The logged scalars of a batch."""
        return losses(self)

    def picture(self, pixels: Tensor) -> Tensor:
        """Projected patches [B, N, W] of pictures [B, 3, S, S]."""
        with torch.no_grad():
            tower = self.llava.model.vision_tower
            hidden = tower.embeddings(pixels)
            hidden = tower.pre_layrnorm(hidden)
            for layer in tower.encoder.layers[:-1]:
                hidden = layer(hidden, None)
        return self.llava.model.multi_modal_projector(hidden[:, 1:])

    @property
    def words(self) -> nn.Embedding:
        """The table of the words, which reads the answers too."""
        return self.llava.model.language_model.embed_tokens

    def agree(self, patches: Tensor, truth: Tensor, groups: list[Tensor]) -> Tensor:
        """How far projected patches [B, N, W] are from the words of what they show.

        Args:
            truth: [B, N, 4] codes, 0 where there is no thing.
            groups: per attribute, the token numbers of "none" and of its names, [1 + names].
        """
        directions = F.normalize(patches.float(), dim=2)
        loss = torch.zeros((), device=patches.device)
        for index, ids in enumerate(groups):
            table = F.normalize(self.words(ids).float(), dim=1)
            own = truth[..., index].flatten()
            weight = torch.where(own > 0, 1.0, 0.2)
            each = F.cross_entropy(12 * (directions @ table.T).flatten(0, 1), own, reduction="none")
            loss = loss + (each * weight).sum() / weight.sum()
        return loss

    def answer(self, patches: Tensor, pack: Pack, kept: Tensor | None = None) -> Tensor:
        """Logits [M, V] at the places before the tokens to be learned (``pack.learn``).

        Args:
            patches: [B, N, W].
            pack: the texts.
            kept: [B, K] rising numbers of the patches that are shown, at their own positions; None: all.
        """
        if kept is None:
            kept = torch.arange(patches.shape[1], device=patches.device).expand(len(patches), -1)
        whole, patches = patches.shape[1], patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[2]))
        first = self.words(pack.ids[:, :1])
        rest = self.words(pack.ids[:, 1:])
        inputs = torch.cat([first, patches.to(first.dtype), rest], 1)
        mask = allowed(pack.segment, patches.shape[1])
        bias = torch.zeros(mask.shape, dtype=torch.bfloat16, device=mask.device).masked_fill(~mask, -1e9)[
            :, None
        ]
        hidden = self.llava.model.language_model(
            inputs_embeds=inputs, attention_mask=bias, position_ids=pack.places(kept, whole), use_cache=False
        ).last_hidden_state
        hidden = torch.cat([hidden[:, :1], hidden[:, 1 + patches.shape[1] :]], 1)
        return self.llava.lm_head(hidden[:, :-1][pack.learn[:, 1:]]).float()


@dataclass(frozen=True)
class Pack:
    """Several texts about one picture in a row.

    Attributes:
        ids: [B, T]: ``<bos>``, then the texts one after the other, padded.
        segment: [B, T]: 0 for ``<bos>`` (the picture follows it), 1, 2, ... for the texts, -1 for padding.
        place: [B, T]: place within its text, from 0.
        learn: bool [B, T]: tokens to be predicted.
    """

    ids: Tensor
    segment: Tensor
    place: Tensor
    learn: Tensor

    def places(self, kept: Tensor, patches: int) -> Tensor:
        """Positions [B, K + T] of ``<bos>``, the ``kept`` [B, K] of all ``patches`` and the texts.

        Every text starts right behind the picture.
        """
        return torch.cat([self.place[:, :1], 1 + kept, 1 + patches + self.place[:, 1:]], 1)

    @property
    def targets(self) -> Tensor:
        """The tokens to be predicted, [M]."""
        return self.ids[:, 1:][self.learn[:, 1:]]


def allowed(segment: Tensor, patches: int) -> Tensor:
    """[B, L, L] whether a place may look at another: earlier ones of the picture and of its own text."""
    spread = torch.cat([segment[:, :1].expand(-1, 1 + patches), segment[:, 1:]], 1)
    length = spread.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
    same = (spread[:, :, None] == spread[:, None]) | (spread[:, None] == 0)
    return causal & same


def packed(texts: list[list[tuple[list[int], int]]], begin: int, pad: int) -> Pack:
    """Texts of each picture as (tokens, how many of the last are to be learned) in one `Pack`."""
    rows = []
    for row in texts:
        ids, segment, place, learn = [begin], [0], [0], [False]
        for number, (own, last) in enumerate(row, start=1):
            ids += own
            segment += [number] * len(own)
            place += range(len(own))
            learn += [False] * (len(own) - last) + [True] * last
        rows.append((ids, segment, place, learn))
    longest = max(len(ids) for ids, *_ in rows)
    columns = []
    for column, filler in enumerate((pad, -1, 0, False)):
        columns.append(torch.tensor([[*row[column], *[filler] * (longest - len(row[0]))] for row in rows]))
    return Pack(*columns)


def chosen(truth: Tensor, count: int) -> Tensor:
    """[B, count] rising numbers of the patches to show: those that show a thing first, then others by chance.

    Args:
        truth: [B, N, 4] codes of the patches.
        count: patches to show.
    """
    order = (truth[..., 0] > 0).float() + 0.5 * torch.rand(truth.shape[:2], device=truth.device)
    return order.topk(min(count, order.shape[1]), dim=1).indices.sort(1).values
