"""A key-value cache whose layers hold different numbers of tokens, and really free what they drop.

Every layer reports its logical length, as if nothing had been evicted, so that positions, masks, several
turns, beams and prompts read in chunks need no change in `transformers`. ``slots`` maps stored columns to
logical positions; `wildsight.compression.attention` gathers the mask by it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from wildsight.compression.eviction import kept_columns, must_evict, tail_rank
from wildsight.compression.handoff import hand_over
from wildsight.compression.methods.cache.base import CacheMethod
from wildsight.compression.methods.cache.scorer import Chunk, Scorer, Stored
from wildsight.errors import UnsupportedModelError


class CacheOwner(Protocol):
    """The cache that a layer belongs to, as far as the layer needs it."""

    lengths: list[int]

    @property
    def method(self) -> CacheMethod:
        """What may never be evicted, and whether heads choose alike."""

    def is_decoding(self, layer: RaggedLayer, queries: int) -> bool:
        """Whether a call that brings ``queries`` tokens to ``layer`` comes after the prompt."""

    def prompt_read(self, layer: RaggedLayer) -> None:
        """``layer`` has read a piece of the prompt."""

    def finalise(self) -> None:
        """Compress every layer whose prompt has been read."""


def _no_limit(_seen: int) -> float:
    return math.inf


class Row:
    """What a layer stores of one row, as far as it is the same for every head.

    Stored columns stand in the order of their positions when the prompt is compressed; those from ``first``
    on leave in the order in which they came. The next to go is thus known without looking at the device.

    Args:
        stored: columns stored.
        seen: own tokens seen.
        target: how many may be stored once so many have been seen.
        first: first column that may be evicted.
    """

    __slots__ = ("queue", "seen", "stored", "target")

    def __init__(self, stored: int, seen: int, target: Callable[[int], float], first: int) -> None:
        self.stored, self.seen, self.target = stored, seen, target
        self.queue = deque(range(first, stored))

    def __deepcopy__(self, _memo: dict[int, Any]) -> Row:
        twin = Row(self.stored, self.seen, self.target, self.stored)
        twin.queue = self.queue.copy()
        return twin

    def place(self, new: int, *, evict: bool) -> int:
        """First of the ``new`` columns to write: one that a victim leaves, or the next behind the last."""
        evict = evict and must_evict(self.stored, self.target(self.seen)) and bool(self.queue)
        self.seen += new
        if evict:
            self.queue.rotate(-1)
            return self.queue[-1]
        first = self.stored
        self.queue.extend(range(first, first + new))
        self.stored += new
        return first


class RaggedLayer(CacheLayerMixin):
    """One layer's cache.

    Attributes:
        keys, values: ``[B, H_kv, capacity, d]``; the stored columns of a row come first.
        slots: ``[B, G, capacity]`` logical position of each column, -1 where it is free; G is 1 where all
            heads keep the same columns, else their number.
        seen: logical length, padding included.
        rows: how much each row stores and has seen, and what goes next; rows that are alike share one object.
        done: the prompt has been read and compressed.
        preset: ``[B, n]`` logical columns of a prompt that reaches this layer shortened, -1 for padding.
        gaps: some stored columns are padding.
        padded: the prompt came with a mask, so that some of its columns may be padding.
        whole: this layer forgets nothing, and runs the plain path.
    """

    is_sliding = False
    supports_early_init = False

    def __init__(self, owner: CacheOwner, index: int, scorer: Scorer, *, whole: bool) -> None:
        super().__init__()
        self.owner, self.index, self.scorer, self.whole = owner, index, scorer, whole
        self._clear()

    def _clear(self) -> None:
        self.seen, self.done, self.fresh, self.is_initialized = 0, False, False, False
        self.rows: list[Row] = []
        self.slots = self.valid = torch.empty(0)
        self.keys: Any = None
        self.values: Any = None
        self.preset: Tensor | None = None
        self.gaps = self.padded = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Empty storage of the states' kind."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store new tokens; what comes back is what attention sees."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.preset is not None:
            return self._take_over(key_states, value_states, self.preset)
        if not self.whole and not self.done and self.owner.is_decoding(self, key_states.shape[2]):
            self.owner.finalise()
        if self.done:
            self._write(key_states, value_states)
        else:
            self.keys = torch.cat([self.keys, key_states], dim=2)
            self.values = torch.cat([self.values, value_states], dim=2)
        self.seen += key_states.shape[2]
        keys, values = self.stored()
        if not self.whole:
            hand_over(self, keys)
        return keys, values

    def stored(self) -> tuple[Tensor, Tensor]:
        """Keys and values without the spare columns."""
        width = self.width if self.done else self.keys.shape[2]
        if width == self.keys.shape[2]:
            return self.keys, self.values
        return self.keys.narrow(2, 0, width), self.values.narrow(2, 0, width)

    @property
    def counts(self) -> list[int]:
        """Columns stored of each row."""
        return [row.stored for row in self.rows]

    @property
    def width(self) -> int:
        """Columns stored of the row that stores most."""
        first = self.rows[0]
        return first.stored if self.alike else max(row.stored for row in self.rows)

    @property
    def even(self) -> bool:
        """Whether every row stores as many columns, so that none is free."""
        return not self.gaps and (self.alike or len(set(self.counts)) == 1)

    def _take_over(self, keys: Tensor, values: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Store a prompt that was shortened before this layer; nothing is evicted later."""
        self.keys, self.values, self.slots, self.preset = keys, values, columns[:, None], None
        self.seen = int(columns.max()) + 1
        self._set_rows([Row(columns.shape[1], self.seen, _no_limit, columns.shape[1])] * columns.shape[0])
        self.gaps = bool((columns < 0).any())
        self.whole, self.done = False, True
        return keys, values

    # -- the prompt ------------------------------------------------------------------------------------------

    def observe(self, query: Tensor, key: Tensor, allowed: Tensor | None, about: dict[str, Any]) -> None:
        """Let the scorer see a piece of the prompt; compress once all of it has been read."""
        batch, queries = query.shape[0], query.shape[2]
        self.padded = allowed is not None
        if allowed is None:
            real = torch.ones(batch, queries, dtype=torch.bool, device=key.device)
            self.valid = torch.ones(batch, key.shape[2], dtype=torch.bool, device=key.device)
        else:
            allowed = allowed.expand(batch, -1, -1, -1)
            real = allowed[:, 0].diagonal(key.shape[2] - queries, dim1=1, dim2=2)
            self.valid = allowed[:, 0, -1]
        positions = about.get("position_ids")
        positions = None if positions is None else positions.expand(batch, -1)
        scaling = about.get("scaling") or query.shape[-1] ** -0.5
        self.scorer.observe(Chunk(query, key, allowed, real, positions, scaling))
        self.owner.prompt_read(self)

    def scores(self) -> Tensor:
        """``[B, G, n]`` score of every column of the prompt."""
        scores = self.scorer.scores(Stored(self.keys, self.values, self.valid))
        return scores.mean(dim=1, keepdim=True) if self.owner.method.heads == "shared" else scores

    def mass(self) -> Tensor:
        """``[B, n]`` importance that layer sizes are found from."""
        return self.scorer.mass(Stored(self.keys, self.values, self.valid))

    def compress(
        self, scores: Tensor, counts: Sequence[int], targets: Sequence[Callable[[int], float]]
    ) -> None:
        """Keep the best ``counts[b]`` columns of each row, and free the rest.

        Args:
            scores: ``[B, G, n]``.
            counts: columns kept, per row.
            targets: per row, tokens that the layer may hold once it has seen so many.
        """
        method = self.owner.method
        valid = self.valid if self.padded else None
        columns = kept_columns(scores, valid, counts, method.start, method.protect)
        self.slots = columns
        made: dict[tuple[int, int], Row] = {}
        for count, seen, target in zip(counts, self.owner.lengths, targets, strict=True):
            made.setdefault((count, seen), Row(count, seen, target, tail_rank(count, method.tail)))
        self._set_rows([made[pair] for pair in zip(counts, self.owner.lengths, strict=True)])
        if columns.shape[2] < self.keys.shape[2]:
            index = columns.clamp_min(0)[..., None]
            self.keys, self.values = (
                t.gather(2, index.expand(-1, t.shape[1], -1, t.shape[3])) for t in (self.keys, self.values)
            )
        self.scorer.reset()
        self.valid = torch.empty(0)
        self.done = self.fresh = True

    # -- decoding --------------------------------------------------------------------------------------------

    def _set_rows(self, rows: list[Row]) -> None:
        self.rows = rows
        self.alike = all(row is rows[0] for row in rows)

    def _write(self, keys: Tensor, values: Tensor) -> None:
        """Put new tokens into columns; the first of them may take the place of a victim."""
        evict, self.fresh = not self.fresh, False
        if keys.shape[2] == 1:
            self._write_part(keys, values, self.seen, evict=evict)
            return
        self._write_part(keys[:, :, :1], values[:, :, :1], self.seen, evict=evict)
        self._write_part(keys[:, :, 1:], values[:, :, 1:], self.seen + 1, evict=False)

    def _write_part(self, keys: Tensor, values: Tensor, place: int, *, evict: bool) -> None:
        new = keys.shape[2]
        if self.alike:
            starts = [self.rows[0].place(new, evict=evict)]
        else:
            once = {id(row): row.place(new, evict=evict) for row in dict.fromkeys(self.rows)}
            starts = [once[id(row)] for row in self.rows]
        self._reserve(self.width)
        if min(starts) == max(starts):
            self._put_slice(keys, values, starts[0], place)
        else:
            self._put(keys, values, starts, place)

    def _reserve(self, width: int) -> None:
        """Capacity for ``width`` columns, an eighth more when it has to grow."""
        capacity = self.keys.shape[2]
        if width <= capacity:
            return
        extra = max(width - capacity, 8, capacity // 8)
        self.keys, self.values = (
            torch.cat([t, t.new_zeros(*t.shape[:2], extra, t.shape[3])], dim=2)
            for t in (self.keys, self.values)
        )
        self.slots = torch.nn.functional.pad(self.slots, (0, extra), value=-1)

    def _put(self, keys: Tensor, values: Tensor, starts: list[int], place: int) -> None:
        offset = torch.arange(keys.shape[2], device=self.slots.device)
        columns = torch.tensor(starts, device=self.slots.device)[:, None, None] + offset
        index = columns[..., None]
        self.keys.scatter_(2, index.expand_as(keys), keys)
        self.values.scatter_(2, index.expand_as(values), values)
        columns = columns.expand(-1, self.slots.shape[1], -1)
        self.slots.scatter_(2, columns, (offset + place).expand_as(columns))

    def _put_slice(self, keys: Tensor, values: Tensor, first: int, place: int) -> None:
        new = keys.shape[2]
        self.keys.narrow(2, first, new).copy_(keys)
        self.values.narrow(2, first, new).copy_(values)
        slots = self.slots.narrow(2, first, new)
        if new == 1:
            slots.fill_(place)
        else:
            slots.copy_(torch.arange(place, place + new, device=keys.device))

    # -- what `transformers` asks ----------------------------------------------------------------------------

    def get_seq_length(self) -> int:
        """Logical length."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Logical length with the new queries, and no offset."""
        return self.seen + query_length, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def crop(self, *_args: Any) -> None:
        """Refused: what was evicted cannot come back.

        Raises:
            UnsupportedModelError: always.
        """
        raise UnsupportedModelError(
            "a compressed cache cannot be rolled back", hint="use greedy search, sampling or beams"
        )

    def reset(self) -> None:
        """Forget everything, keep the settings."""
        self.scorer.reset()
        self._clear()

    def change_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        """Apply a selection or repetition of the batch to all that is kept per row."""
        if not self.is_initialized:
            return
        self.keys, self.values = change(self.keys), change(self.values)
        self.scorer.rows(change)
        if self.valid.numel():
            self.valid = change(self.valid)
        if self.done:
            self.slots = change(self.slots)
            if self.alike:
                self._set_rows(self.rows[:1] * self.slots.shape[0])
            else:
                rows = change(torch.arange(len(self.rows), device=self.device)).tolist()
                self._set_rows([self.rows[i] for i in rows])

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow the beams."""
        self.change_rows(lambda t: t.index_select(0, beam_idx.to(t.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self.change_rows(lambda t: t.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self.change_rows(lambda t: t[indices.to(t.device), ...])

    def offload(self) -> None:
        """Refused.

        Raises:
            UnsupportedModelError: always.
        """
        raise UnsupportedModelError("a compressed cache is not offloaded", hint="keep it on the device")
