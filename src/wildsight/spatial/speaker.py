"""The language model over embedded parts: question, picture, more; and modules that are what they learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wildsight.spatial import native
from wildsight.spatial.mllm import Mllm


class Speaker(nn.Module):
    """The language model over [before, picture, after, more embeddings].

    Attributes:
        llava: the model.
        new_words: embeddings [W, D] of words that the tokenizer lacks.
    """

    def __init__(self, mllm: Mllm) -> None:
        super().__init__()
        self.llava = mllm.model
        rows = self.table.weight.detach()
        drawn = torch.randn(len(mllm.words), mllm.width) * rows.float().std().cpu()
        self.new_words = nn.Parameter(drawn.to(rows), requires_grad=bool(mllm.words))

    @property
    def table(self) -> nn.Module:
        """The embeddings of the vocabulary."""
        return self.llava.get_input_embeddings()

    def embed(self, ids: Tensor) -> Tensor:
        """[B, T, D] of tokens [B, T], new words among them."""
        count = self.table.num_embeddings
        known = self.table(ids.clamp_max(count - 1))
        if not len(self.new_words):
            return known
        new = self.new_words[(ids - count).clamp_min(0)]
        return torch.where((ids >= count)[..., None], new.to(known.dtype), known)

    def project(self, tokens: Tensor, newlines: Tensor | None = None) -> Tensor:
        """Visual tokens [B, N, D_v] as the language model reads them, [B, N, D]; the model's newline where
        ``newlines`` [B, N] is True."""
        read = self.llava.model.multi_modal_projector(tokens)
        if newlines is None:
            return read
        return torch.where(newlines[..., None], self.llava.model.image_newline.to(read.dtype), read)

    def read(self, parts: Sequence[tuple[Tensor, Tensor]], *, cache: bool = False) -> Any:
        """The language model's output over embedded parts in a row.

        Args:
            parts: pairs of embeddings [B, L, D] and masks [B, L]: how many places a token moves on, 0 where
                nothing stands.
            cache: keep keys and values, to go on from there.

        Returns:
            The output of `transformers`; ``last_hidden_state`` is [B, sum of L, D].
        """
        mask = torch.cat([m for _, m in parts], 1)
        places = (mask.long().cumsum(1) - 1).clamp_min(0)
        return self.llava.model.language_model(
            attention_mask=(mask > 0).long(), use_cache=cache, **self.inputs(parts, places)
        )

    def inputs(self, parts: Sequence[tuple[Tensor, Tensor]], places: Tensor) -> dict[str, Any]:
        """Embeddings and positions of parts whose running positions are ``places`` [B, T]."""
        return {"inputs_embeds": torch.cat([e for e, _ in parts], 1), "position_ids": places}

    def next_place(self, mask: Tensor) -> Tensor:
        """Position [B, 1] of the last token of what ``mask`` [B, L] covers."""
        return mask.long().sum(1, keepdim=True) - 1

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., V] of hidden states [..., D]."""
        return self.llava.lm_head(hidden)

    @torch.no_grad()
    def speak(self, output: Any, mask: Tensor, end: int, most: int) -> Tensor:
        """Greedy tokens [B, <= most] that go on after ``output``, whose mask is [B, L]; filled up with
        ``end``."""
        spoken: list[Tensor] = []
        done = torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
        hidden, past = output.last_hidden_state[:, -1], output.past_key_values
        for _ in range(most):
            token = self.logits(hidden).argmax(-1).masked_fill(done, end)
            spoken.append(token)
            done |= token == end
            if bool(done.all()):
                break
            mask = torch.cat((mask, torch.ones_like(mask[:, :1])), 1)
            output = self.llava.model.language_model(
                inputs_embeds=self.embed(token[:, None]),
                attention_mask=(mask > 0).long(),
                position_ids=self.next_place(mask),
                past_key_values=past,
                use_cache=True,
            )
            hidden, past = output.last_hidden_state[:, -1], output.past_key_values
        return torch.stack(spoken, 1)


class NativeSpeaker(Speaker):
    """The same for the Qwen-VL line: positions in the picture's plane, features that later layers add.

    Args:
        mllm: one of `native.NATIVE`.
        grid: tokens along a side of the picture, as they are read.
    """

    def __init__(self, mllm: Mllm, grid: int) -> None:
        super().__init__(mllm)
        self.grid, self.wide = grid, mllm.width

    def project(self, tokens: Tensor, newlines: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Visual tokens [B, N, W] as they are read, [B, N, D], the later layers' features behind."""
        return native.project(self.llava, tokens)

    def inputs(self, parts: Sequence[tuple[Tensor, Tensor]], places: Tensor) -> dict[str, Any]:
        """Embeddings, positions on four axes, and what later layers add at the picture's tokens."""
        before = parts[0][0].shape[1]
        picture = parts[1][0]
        out: dict[str, Any] = {
            "inputs_embeds": torch.cat([e[..., : self.wide] for e, _ in parts], 1),
            "position_ids": native.positions(places, before, self.grid),
        }
        deep = picture[..., self.wide :].split(self.wide, dim=-1) if picture.shape[-1] > self.wide else ()
        if deep:
            here = torch.zeros_like(places, dtype=torch.bool)
            here[:, before : before + picture.shape[1]] = True
            out["visual_pos_masks"] = here
            out["deepstack_visual_embeds"] = [d.flatten(0, 1) for d in deep]
        return out

    def next_place(self, mask: Tensor) -> Tensor:
        """On all axes but the first, which counts tokens."""
        last = super().next_place(mask)
        return torch.stack([last, *[last + native.shift(self.grid)] * 3])


def speaker_of(mllm: Mllm, pool: int) -> Speaker:
    """What reads embedded parts with ``mllm``, where tokens are averaged over blocks of pool x pool."""
    return NativeSpeaker(mllm, mllm.grid // pool) if mllm.native else Speaker(mllm)


class Trained(nn.Module):
    """A module whose state is what it learned: weights that train, and its own buffers.

    The frozen weights of a base model are not in its state; they come from the base's checkpoint.
    """

    def _own(self) -> dict[str, Tensor]:
        own = {n: p for n, p in self.named_parameters() if p.requires_grad}
        buffers = {n: b for n, b in self.named_buffers() if ".llava." not in f".{n}"}
        return own | buffers

    def state_dict(self, *_args: Any, **_options: Any) -> dict[str, Tensor]:
        """Name -> tensor, detached, sharing memory."""
        return {n: t.detach() for n, t in self._own().items()}

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:  # noqa: ARG002
        """Copy a state in.

        Raises:
            RuntimeError: names or shapes that do not fit.
        """
        own = self._own()
        if strict and set(own) != set(state):
            lost = sorted(set(own) ^ set(state))
            raise RuntimeError(f"{len(lost)} tensors do not fit, {lost[0]} among them")
        with torch.no_grad():
            for name, tensor in own.items():
                if tensor.shape != state[name].shape:
                    raise RuntimeError(
                        f"{name} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
                    )
                tensor.copy_(state[name])
        return None
