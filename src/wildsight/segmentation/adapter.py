"""What a method adds to a frozen SAM, and the two passes that all methods share.

An adapter is a module that holds new parameters alone. While a picture is encoded or a mask decoded, its
hooks sit in the base; a context manager takes them out again, also when something fails, so that a base
serves several adapters in turn and stays, bit for bit, the stock model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from wildsight.segmentation.base import Embedding, SamBase

Stage = Literal["draft", "refine"]


class Hook(NamedTuple):
    """One forward hook: ``call(module, inputs, output)`` returns the output in its place.

    With ``before`` it is ``call(module, inputs, keywords)`` and returns new (inputs, keywords).
    """

    module: nn.Module
    call: Callable[..., Any]
    before: bool = False


@contextlib.contextmanager
def hooked(hooks: Sequence[Hook]) -> Iterator[None]:
    """The hooks are in place inside the block and gone after it."""
    handles: list[Any] = []
    try:
        for hook in hooks:
            if hook.before:
                handles.append(hook.module.register_forward_pre_hook(hook.call, with_kwargs=True))
            else:
                handles.append(hook.module.register_forward_hook(hook.call))
        yield
    finally:
        for handle in handles:
            handle.remove()


class Masks(NamedTuple):
    """Logits of both passes, [B, P, h, w]; ``final`` is ``draft`` for a method with one pass."""

    draft: Tensor
    final: Tensor


class Adapter(nn.Module):
    """Nothing added: stock SAM. Methods override what they change.

    Attributes:
        passes: 1, or 2 with the first mask fed back as a mask prompt.
        trains_encoder: True when the embedding depends on this adapter's parameters.
    """

    passes: int = 1
    trains_encoder: bool = False

    def encoder_hooks(self, _base: SamBase, _pixels: Tensor) -> list[Hook]:
        """Hooks while pixels [B, 3, S, S] are encoded."""
        return []

    def decoder_of(self, base: SamBase, _stage: Stage) -> Any:
        """The decoder of a pass."""
        return base.decoder

    def decoder_hooks(
        self, _base: SamBase, _decoder: Any, _stage: Stage, _relation: Tensor | None
    ) -> list[Hook]:
        """Hooks while a mask is decoded."""
        return []

    def relation(self, _embedding: Embedding, _valid: Tensor | None) -> Tensor | None:
        """What is computed once per picture for its decoders; [B, N, N] or None."""
        return None

    def link(self, draft: Tensor) -> Tensor:
        """Draft logits as the mask prompt of the second pass."""
        return draft.detach()


@dataclass(frozen=True)
class Prompts:
    """One prompt per picture, in pixels of the square; ``kind`` says which field holds it.

    Attributes:
        kind: [B] 0 box, 1 points, 2 noisy mask.
        boxes: [B, 4].
        points: [B, k, 2], all on the thing.
        masks: [B, 4h, 4w] logits-like values.
    """

    kind: Tensor
    boxes: Tensor
    points: Tensor
    masks: Tensor | None = None


class PromptedSam(nn.Module):
    """A base with an adapter. Its state is the adapter's alone, and only the adapter trains."""

    def __init__(self, base: SamBase, adapter: Adapter) -> None:
        super().__init__()
        self.sam, self.adapter, self.base = base.model, adapter, base

    def train(self, mode: bool = True) -> PromptedSam:
        """Training mode for the adapter; the base stays in evaluation mode."""
        super().train(mode)
        self.sam.eval()
        return self

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        """The adapter's tensors."""
        return self.adapter.state_dict(*args, **options)

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        """Put the adapter's tensors back."""
        return self.adapter.load_state_dict(state, strict=strict, assign=assign)

    def encode(self, pixels: Tensor) -> Embedding:
        """Normalised pixels [B, 3, S, S] to an embedding, with the adapter's hooks in place."""
        with hooked(self.adapter.encoder_hooks(self.base, pixels)):
            return self.base.encode(pixels)

    def _pass(
        self, stage: Stage, embedding: Embedding, sparse: Tensor, dense: Tensor, relation: Tensor | None
    ) -> Tensor:
        decoder = self.adapter.decoder_of(self.base, stage)
        with hooked(self.adapter.decoder_hooks(self.base, decoder, stage, relation)):
            return self.base.decode(decoder, embedding, sparse, dense)

    def decode(
        self,
        embedding: Embedding,
        sparse: Tensor,
        relation: Tensor | None = None,
        first: Tensor | None = None,
    ) -> Masks:
        """Draft and final logits of B pictures with P prompts each.

        Args:
            embedding: of B pictures.
            sparse: [B, P, n, C] prompt tokens, the same in both passes.
            relation: from ``adapter.relation``, computed once per picture.
            first: [B, C, h, w] dense prompt of the first pass; "no mask" when None.
        """
        count, prompts = sparse.shape[:2]
        dense = self.base.no_mask(count) if first is None else first
        draft = self._pass("draft", embedding, sparse, dense, relation)
        if self.adapter.passes == 1:
            return Masks(draft, draft)
        # Every prompt has its own draft, so prompts move to the batch.
        again = self.base.mask_prompt(self.adapter.link(draft).flatten(0, 1)[:, None])
        folded = sparse.flatten(0, 1)[:, None]
        final = self._pass("refine", embedding.repeat(prompts), folded, again, relation)
        return Masks(draft, final.reshape_as(draft))

    def forward(self, source: Tensor | Embedding, prompts: Prompts, valid: Tensor | None = None) -> Masks:
        """Logits [B, 1, h, w] of B pictures with one prompt each, of mixed kinds.

        Args:
            source: normalised pixels [B, 3, S, S], or their embedding.
            prompts: one per picture.
            valid: [B, N] bool, tokens that see the picture.
        """
        embedding = self.encode(source) if isinstance(source, Tensor) else source
        relation = self.adapter.relation(embedding, valid)
        rows, drafts, finals = [], [], []
        for kind in (0, 1, 2):
            here = torch.nonzero(prompts.kind == kind).flatten()
            if not len(here):
                continue
            sparse, first = self._tokens(prompts, kind, here)
            chosen = None if relation is None else relation[here]
            masks = self.decode(embedding.take(here), sparse, chosen, first)
            rows.append(here)
            drafts.append(masks.draft)
            finals.append(masks.final)
        back = torch.argsort(torch.cat(rows))
        return Masks(torch.cat(drafts)[back], torch.cat(finals)[back])

    def _tokens(self, prompts: Prompts, kind: int, here: Tensor) -> tuple[Tensor, Tensor | None]:
        """Sparse tokens [b, 1, n, C] and the first dense prompt of the pictures ``here``."""
        if kind == 0:
            return self.base.prompt(boxes=prompts.boxes[here][:, None]), None
        points = prompts.points[here][:, None]
        if kind == 1:
            return self.base.prompt(
                points=points, labels=torch.ones(points.shape[:-1], dtype=torch.long, device=points.device)
            ), None
        nothing = -torch.ones(*points.shape[:2], 1, dtype=torch.long, device=points.device)
        sparse = self.base.prompt(points=torch.zeros_like(points[:, :, :1]), labels=nothing)
        if prompts.masks is None:
            return sparse, None
        return sparse, self.base.mask_prompt(prompts.masks[here][:, None])
