"""The open world: which pairs are feasible, and the best pairs of a picture without scoring all at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from wildsight.composition.modules import Factors, pair_scores

BLOCK = 8192
Prototypes = Callable[[slice], Tensor | None]
"""A block of candidates -> their prototypes [n, d], or None."""


def feasibility(attributes: Tensor, objects: Tensor, seen: Tensor) -> Tensor:
    """How plausible each pair is, from its neighbours among the seen ones (the rule of CompCos).

    ``f(a, o) = 1/2 [max over o' != o with (a, o') seen of cos(e_o, e_o') + the same for attributes]``; an
    empty maximum is -1. Seen pairs get +inf: they are always feasible.

    Args:
        attributes: [nA, W] word vectors. objects: [nO, W]. seen: [S, 2] ids.

    Returns:
        [nA, nO].
    """
    known = torch.zeros(len(attributes), len(objects), dtype=torch.bool, device=seen.device)
    known[seen[:, 0], seen[:, 1]] = True
    by_object = _nearest(objects, known)
    by_attribute = _nearest(attributes, known.T).T
    return (0.5 * (by_object + by_attribute)).masked_fill(known, torch.inf)


def _nearest(words: Tensor, known: Tensor) -> Tensor:
    """[m, n]: for row r and word w, the largest cosine of w with another word that row r knows."""
    unit = F.normalize(words, dim=-1)
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    rows = [
        cosine[:, row].amax(1) if bool(row.any()) else cosine.new_full((len(words),), -1.0) for row in known
    ]
    return torch.stack(rows).clamp_min(-1.0)


def stream_top(
    factors: Factors,
    pairs: Tensor,
    seen: Tensor,
    prototypes: Prototypes,
    *,
    allowed: Tensor | None = None,
    depth: int = 3,
    block: int = BLOCK,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best seen and unseen candidates of B pictures, block by block: never [B, P], nor [B, P, d].

    Args:
        factors: of B pictures.
        pairs: [P, 2] ids of the candidates. seen: [P] bool.
        prototypes: gives those of one block.
        allowed: [P] bool; None allows all.
        depth: candidates kept of each kind.
        block: candidates scored at once.

    Returns:
        (seen scores, seen ids, unseen scores, unseen ids), each [B, depth], best first; -inf and -1 where
        there are fewer.
    """
    rows = next(f for f in (factors.code, factors.attribute) if f is not None)
    empty = (
        rows.new_full((len(rows), depth), -torch.inf),
        seen.new_full((len(rows), depth), -1, dtype=torch.long),
    )
    best = {True: empty, False: empty}
    for start in range(0, len(pairs), block):
        part = slice(start, min(start + block, len(pairs)))
        score = pair_scores(factors, pairs[part], prototypes(part))
        fits = torch.ones_like(seen[part]) if allowed is None else allowed[part]
        for kind in (True, False):
            chosen = fits & (seen[part] == kind)
            if bool(chosen.any()):
                best[kind] = _merge(*best[kind], score, chosen, start, depth)
    return *best[True], *best[False]


def _merge(
    values: Tensor, ids: Tensor, score: Tensor, chosen: Tensor, start: int, depth: int
) -> tuple[Tensor, Tensor]:
    """The best of what is known and of the ``chosen`` columns of a block that begins at ``start``."""
    count = int(chosen.sum())
    if 4 * count < len(chosen):
        columns = chosen.nonzero()[:, 0]
        top, at = score[:, columns].topk(min(depth, count), dim=1)
        at = columns[at]
    else:
        masked = score.masked_fill(~chosen, -torch.inf) if count < len(chosen) else score
        top, at = masked.topk(min(depth, count), dim=1)
    values, ids = torch.cat([values, top], 1), torch.cat([ids, at + start], 1)
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values[:, :depth], ids.gather(1, order)[:, :depth]
