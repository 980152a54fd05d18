"""What the methods on a multimodal LLM share: LoRA in it, visual tokens with local features, the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wildsight.estimators.registry import ABOVE_ZERO, SHARE, Range, at_least, check_ranges
from wildsight.spatial import losses as L
from wildsight.spatial.enhancer import SpatialEnhancer
from wildsight.spatial.methods import SpatialMethod, one_of
from wildsight.spatial.mllm import Mllm, add_lora
from wildsight.spatial.speaker import Trained, speaker_of
from wildsight.spatial.token_pooling import NEWLINE, NOTHING, TOKEN, Kept, pooled, thinned

TUNES = ("lora", "full")
RAYS = ("virtual", "camera")
COUNT: Range = at_least(1)


@dataclass(frozen=True, kw_only=True)
class LanguageMethod(SpatialMethod):
    """A method whose answer comes out of the language model.

    Attributes:
        r, alpha, dropout: LoRA's rank, scale and dropout.
        targets: the projections that LoRA goes beside.
        tune: ``lora``, or ``full``: the whole language model trains, for one that knows nothing yet.
        local: whether visual tokens look at fine features.
        placed: whether the values of that attention carry depth and viewing direction, as its keys do.
        rays: the code's viewing directions: ``virtual`` (of the virtual camera) or ``camera``.
        d: width of that attention.
        K_d, z_min, z_max: bins of the depth predictor and their range, metres in the virtual camera.
        pool: visual tokens are averaged over blocks of pool x pool.
        w_d: weight of the depth predictor's loss.
    """

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    tune: str = "lora"
    local: bool = True
    placed: bool = True
    rays: str = "virtual"
    d: int = 64
    K_d: int = 64
    z_min: float = 0.5
    z_max: float = 80.0
    pool: int = 1
    w_d: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, r=COUNT, pool=COUNT, K_d=COUNT, d=COUNT, dropout=SHARE, z_min=ABOVE_ZERO)
        beyond: Range = (lambda v: v > self.z_min, f"give more than z_min={self.z_min:g}")
        check_ranges(self, z_max=beyond, tune=one_of(TUNES), rays=one_of(RAYS))


def virtual_camera(camera: Tensor, side: int) -> Tensor:
    """Intrinsics rows [B, 4] of the same pixels, for a focal length fy of one picture side.

    >>> virtual_camera(torch.tensor([[200.0, 100.0, 48.0, 48.0]]), 96).tolist()
    [[192.0, 96.0, 48.0, 48.0]]
    """
    return torch.cat((camera[:, :2] * side / camera[:, 1:2], camera[:, 2:]), 1)


class LanguageNet(Trained):
    """What all methods on an MLLM share: visual tokens, fine features, the prompt.

    Args:
        mllm: frozen; LoRA goes into it.
        channels: of the fine map.
        config: hyper-parameters.
    """

    def __init__(self, mllm: Mllm, channels: int, config: LanguageMethod) -> None:
        super().__init__()
        self.config, self.side, self.grid = config, mllm.side, mllm.grid
        llava = mllm.model
        if config.tune == "full":
            mllm.lend(self, mllm.projector, llava.model.language_model, llava.lm_head)
        else:
            mllm.lend(self, mllm.projector)
            add_lora(mllm, config.r, config.alpha, config.dropout, config.targets)
        self.speaker = speaker_of(mllm, config.pool)
        self.enhancer: SpatialEnhancer | None = None
        if config.local:
            self.enhancer = SpatialEnhancer(
                mllm.tower_width,
                channels,
                mllm.grid // config.pool,
                config.d,
                config.K_d,
                config.z_min,
                config.z_max,
                placed=config.placed,
            )

    def prefix(self, batch: Mapping[str, Any], keep: Kept | None = None) -> tuple[list[Any], Tensor]:
        """The embedded question about the picture, and the loss of the depth map.

        Args:
            batch: see `wildsight.spatial.inputs`.
            keep: the visual tokens that stay; None: all.
        """
        tokens = pooled(batch["tokens"], self.grid, self.config.pool)
        loss = tokens.new_zeros(())
        if self.enhancer is not None:
            camera = batch["camera"]
            if self.config.rays == "virtual":
                camera = virtual_camera(camera, self.side)
            seen = self.enhancer(tokens, batch["fine"], camera, batch["inside"], self.side)
            tokens, truth = seen.tokens, self._map(batch, seen.depth.shape[-1])
            loss = L.depth_map_loss(seen.depth_logits, seen.depth, truth, self.enhancer.depth.edges)
        kinds = torch.full(tokens.shape[:2], TOKEN, device=tokens.device)
        if "behind" in batch:
            tokens = torch.cat((tokens, batch["behind"]), 1)
            kinds = torch.cat((kinds, batch["behind_kind"]), 1)
        here, steps = (kinds != NOTHING).float(), batch["after_mask"].float()
        if keep is not None:
            order, here, steps = thinned(keep, kinds != NOTHING, steps)
            tokens = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1]))
            kinds = kinds.gather(1, order)
        picture = self.speaker.project(tokens, kinds == NEWLINE if "behind" in batch else None)
        before, after = self.speaker.embed(batch["before"]), self.speaker.embed(batch["after"])
        first = torch.ones(before.shape[:2], device=before.device)
        return [(before, first), (picture.to(before.dtype), here), (after, steps)], loss

    def _map(self, batch: Mapping[str, Any], side: int) -> Tensor:
        """True depths [B, side, side] in the camera that the network sees, 0 where unknown."""
        truth: Tensor = batch["depth_map"]
        if truth.shape[-1] != side:
            truth = F.interpolate(truth[:, None], size=(side, side))[:, 0]
        if not self.config.virtual:
            truth = truth * (batch["camera"][:, 1] / self.config.f_v)[:, None, None]
        return truth

    def answer_parts(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and mask of answers [B, A], -1 where nothing stands."""
        return self.speaker.embed(ids.clamp_min(0)), (ids >= 0).float()

    def answer_loss(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Cross-entropy of answers [B, A] from the hidden states [B, A, D] before each of their tokens."""
        return F.cross_entropy(
            self.speaker.logits(hidden).float().flatten(0, 1), ids.flatten(), ignore_index=-1
        )
