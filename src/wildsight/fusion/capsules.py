"""Part capsules of one axis, their routing, and the coefficients that the routing gives.

Paper: PWRF (see `methods.pwrf`). Axis ``h`` has one capsule set per row (columns are collapsed), ``v`` one
per column. Shapes: ``B`` pictures, ``M`` modalities, ``A`` channels, ``L`` positions along the axis, ``T``
part capsules per modality, ``C`` whole capsules, poses of 16.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wildsight.fusion.routing import Routed, route

POSE = 16
A_MIN = 1e-6
ALONE = 1e-4  # agreement of a whole whose parts come from one modality


class Parts(NamedTuple):
    """Part capsules: ``pose`` [B, L, M, T, 16] and activation ``a`` [B, L, M, T] in [0, 1]."""

    pose: Tensor
    a: Tensor

    def block(self, modality: int) -> Tensor:
        """One modality's capsules as channels [B, 17T, L]: the poses capsule by capsule, then activations."""
        pose, a = self.pose[:, :, modality], self.a[:, :, modality]
        return torch.cat([pose.flatten(2), a], dim=2).transpose(1, 2)


class Whole(NamedTuple):
    """Whole capsules as channels ``g`` [B, 17C, L], how they were routed, and from which modalities.

    Without routing ``g`` is all part capsules, [B, 17TM, L], and ``routed`` None.
    """

    g: Tensor
    routed: Routed | None
    present: Tensor


def stretched(k: Tensor, length: int) -> Tensor:
    """A collapse vector [..., L0] at another length, its sum kept; the identity at L0."""
    reference = k.shape[-1]
    if length == reference:
        return k
    longer = F.interpolate(k.flatten(0, -2)[None], size=length, mode="linear", align_corners=False)[0]
    return longer.view(*k.shape[:-1], length) * (reference / length)


def omega(routed: Routed, modalities: int, eps: float = 1e-8, agreement: bool = False) -> Tensor:
    """How much each modality's parts make up the wholes.

    ``q[i, c] = Q[i, c] / sum_i Q``; ``u_c = a_out / sum_c a_out``; ``s = sum_c u_c q``; normalised over the
    modalities for every part type.

    Args:
        routed: what the routing gave.
        modalities: M.
        eps: keeps divisions finite.
        agreement: weigh a whole also by how far its parts come from several modalities,
            ``1 - sum_m (sum_t q)^2``: one that noise has to itself says nothing of the others.

    Returns:
        [n, M, T], >= 0, sums to 1 over M wherever any modality is present.
    """
    q = (routed.Q / (routed.Q.sum(1, keepdim=True) + eps)).unflatten(1, (modalities, -1))
    u = routed.a_out
    if agreement:
        u = u * ((1.0 - q.sum(2).square().sum(1)).clamp_min(0.0) + ALONE)
    u = u / (u.sum(1, keepdim=True) + eps)
    s = torch.einsum("nc,nmtc->nmt", u, q)
    return s / (s.sum(1, keepdim=True) + eps)


def released_ratio(routed: Routed, present: Tensor) -> Tensor:
    """The published coefficient: softmax over the modalities that are there of ``mean_c R``, plus 1e-8.

    Always one over their number; 0 for a missing one. ``present`` [n, M] of 0 and 1; returns [n, M, T].
    """
    mean = routed.R.mean(2).unflatten(1, (present.shape[1], -1))
    there = present[..., None] > 0
    return mean.masked_fill(~there, -torch.inf).softmax(1) + 1e-8 * there


def weighted(parts: Parts, modality: int, weight: Tensor, tile: bool) -> Tensor:
    """One modality's capsules as channels [B, 17T, L], each capsule times its weight [B, L, T].

    ``tile`` repeats the weights 17 times over the channels as published, which puts them on other capsules.
    """
    block = parts.block(modality)
    spread = weight.repeat(1, 1, 17) if tile else torch.cat([weight.repeat_interleave(POSE, 2), weight], 2)
    return block * spread.transpose(1, 2)


class AxisCapsules(nn.Module):
    """Parts and wholes along one axis.

    Args:
        modalities: M.
        channels: A, of the reduced features.
        T: part capsules per modality and position.
        C: whole capsules per position.
        iters, lam, eps: of the routing, see `route`.
        mix: what happens to part capsules before routing: ``none``, ``per_modality`` or ``released``.
        weigh_parts: whether activations weigh votes.
        coefficient: ``omega``, ``agreement`` or ``constant``.
        collapse: how the other axis is collapsed: ``linear`` or ``attn``.
        ref_len: length at which the learned vector of ``linear`` is stored.
        routed: False leaves the parts as they are.
        fused: False holds the whole votes tensor.
    """

    def __init__(
        self,
        modalities: int,
        channels: int,
        T: int,
        C: int,
        *,
        iters: int = 3,
        lam: float = 1e-3,
        eps: float = 1e-8,
        mix: str = "none",
        weigh_parts: bool = True,
        coefficient: str = "omega",
        collapse: str = "linear",
        ref_len: int = 12,
        routed: bool = True,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.modalities, self.T = modalities, T
        self.iters, self.lam, self.eps, self.fused = iters, lam, eps, fused
        self.mix, self.weigh_parts, self.coefficient = mix, weigh_parts, coefficient
        self.collapse, self.routed = collapse, routed
        m, t, c, a = modalities, T, C, channels
        self.weight = nn.Parameter(torch.empty(m, 17 * t, a).uniform_(-(a**-0.5), a**-0.5))
        self.bias = nn.Parameter(torch.empty(m, 17 * t).uniform_(-(a**-0.5), a**-0.5))
        if routed:
            self.vote = nn.Parameter(torch.randn(m, t, c, 4, 4))
            self.beta_u, self.beta_a = nn.Parameter(torch.zeros(c)), nn.Parameter(torch.zeros(c))
        if collapse == "linear":
            self.k = nn.Parameter(torch.full((m, ref_len), 1.0 / ref_len))
            self.k_bias = nn.Parameter(torch.zeros(m))
        else:
            self.score = nn.Parameter(torch.zeros(m, a))
        if mix == "per_modality":
            self.mixer: nn.Module = nn.LayerNorm(17 * t)
        elif mix == "released":
            both = 17 * t * m
            self.mixer = nn.Sequential(nn.Conv1d(both, both, 3, padding=1), nn.BatchNorm1d(both), nn.ReLU())

    def collapsed(self, z: Tensor) -> Tensor:
        """Reduced features [B, M, A, L, S] to capsule channels [B, M, 17T, L] before the sigmoid.

        The collapse over S and the 1 x 1 convolution commute, so the short one is done last.
        """
        if self.collapse == "attn":
            s = torch.einsum("bmals,ma->bmls", z, self.score).softmax(-1)
            short = torch.einsum("bmals,bmls->bmal", z, s)
            return torch.einsum("bmal,mca->bmcl", short, self.weight) + self.bias[None, :, :, None]
        k = stretched(self.k, z.shape[-1])
        short = torch.einsum("bmals,ms->bmal", z, k)
        bias = self.bias * k.sum(-1, keepdim=True) + self.k_bias[:, None]
        return torch.einsum("bmal,mca->bmcl", short, self.weight) + bias[None, :, :, None]

    def parts(self, z: Tensor) -> Parts:
        """Part capsules of [B, M, A, L, S]."""
        raw = self.collapsed(z).permute(0, 3, 1, 2)
        t = self.T
        return Parts(raw[..., : POSE * t].unflatten(-1, (t, POSE)), raw[..., POSE * t :].sigmoid())

    def wholes(self, parts: Parts, present: Tensor) -> Whole:
        """Route the parts of the modalities that are there (``present`` [B, M])."""
        here = present[:, None, :, None]
        pose, a = self._mixed(Parts(parts.pose * here[..., None], parts.a * here))
        published = self.mix == "released" and not self.weigh_parts
        a = (a if published else a.clamp_min(A_MIN)) * here
        batch, length = pose.shape[:2]
        if not self.routed:
            kept = torch.cat([(pose * here[..., None]).flatten(2), a.flatten(2)], dim=2)
            return Whole(kept.transpose(1, 2), None, present)
        routed = route(
            pose.flatten(2, 3).flatten(0, 1),
            a.flatten(2).flatten(0, 1),
            self.vote.flatten(0, 1),
            self.beta_u,
            self.beta_a,
            iters=self.iters,
            lam=self.lam,
            eps=self.eps,
            compat=not self.weigh_parts,
            fused=self.fused,
        )
        g = torch.cat([routed.mu.flatten(1), routed.a_out], dim=1)
        return Whole(g.unflatten(0, (batch, length)).transpose(1, 2), routed, present)

    def _mixed(self, parts: Parts) -> tuple[Tensor, Tensor]:
        m, t = self.modalities, self.T
        if self.mix == "none":
            return parts.pose, parts.a
        if self.mix == "per_modality":
            both = self.mixer(torch.cat([parts.pose.flatten(3), parts.a], dim=3))
            return both[..., : POSE * t].unflatten(-1, (t, POSE)), both[..., POSE * t :].sigmoid()
        mixed = self.mixer(torch.cat([parts.block(i) for i in range(m)], dim=1)).transpose(1, 2)
        pose, a = mixed[..., : POSE * t * m], mixed[..., POSE * t * m :]
        return pose.unflatten(-1, (m, t, POSE)), a.unflatten(-1, (m, t))

    def coefficients(self, whole: Whole) -> Tensor:
        """[B, L, M, T]: the weight of each part capsule, summing to 1 over M."""
        m, (batch, _, length) = self.modalities, whole.g.shape
        here = whole.present[:, None].expand(batch, length, m)
        if whole.routed is None:
            return (here / here.sum(-1, keepdim=True))[..., None].expand(batch, length, m, self.T)
        if self.coefficient == "constant":
            return released_ratio(whole.routed, here.flatten(0, 1)).unflatten(0, (batch, length))
        agreement = self.coefficient == "agreement"
        return omega(whole.routed, m, self.eps, agreement).unflatten(0, (batch, length))
