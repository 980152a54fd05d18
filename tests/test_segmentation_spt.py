"""SPT: identity at the start, the relation, gradients, prompts, merging, export."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from segmentation_models import KINDS, base_of
from wildsight.errors import ConfigError
from wildsight.segmentation.adapter import PromptedSam, Prompts
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.lora import decoder_sites, encoder_sites, low_rank_update
from wildsight.segmentation.loss import dice_loss, draw_points, mask_loss, sample_at
from wildsight.segmentation.methods.spt import (
    SPT,
    MergedSPT,
    SPTAdapter,
    linked,
    relate,
    relation_matrix,
    row_entropy,
)

BOXES = torch.tensor([[[4.0, 6, 30, 28], [10, 12, 50, 44]], [[8.0, 4, 40, 30], [2, 2, 20, 50]]])


def pixels(base: SamBase, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, base.image_size, base.image_size, generator=generator)


def spt(base: SamBase, *, stirred: bool = False, **config: object) -> PromptedSam:
    network = PromptedSam(base, SPTAdapter(SPT(rank=4, **config), base)).eval()  # type: ignore[arg-type]
    if stirred:
        generator = torch.Generator().manual_seed(5)
        for weight in network.adapter.parameters():
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
    return network


@torch.no_grad()
def run(network: PromptedSam, images: Tensor, boxes: Tensor = BOXES) -> tuple[Tensor, Tensor]:
    embedding = network.encode(images)
    relation = network.adapter.relation(embedding, None)
    return network.decode(embedding, network.base.prompt(boxes=boxes), relation)


@torch.no_grad()
def stock(base: SamBase, images: Tensor, boxes: Tensor = BOXES) -> tuple[Tensor, Tensor]:
    """Stock `transformers` inference: one pass, then one fed with its own logits, a prompt per batch row."""
    model, prompts = base.model, boxes.shape[1]
    if hasattr(model.mask_decoder, "dynamic_multimask_via_stability"):
        model.mask_decoder.dynamic_multimask_via_stability = False
    first = model(pixel_values=images, input_boxes=boxes, multimask_output=False).pred_masks[:, :, 0]
    found = model.get_image_embeddings(images)
    repeat = lambda x: x.repeat_interleave(prompts, 0)  # noqa: E731
    if base.kind == "SamHQModel":
        given = {
            "image_embeddings": repeat(found[0]),
            "intermediate_embeddings": [repeat(e) for e in found[1]],
        }
    elif isinstance(found, list):
        given = {"image_embeddings": [repeat(e) for e in found]}
    else:
        given = {"image_embeddings": repeat(found)}
    again = model(
        **given,
        input_boxes=boxes.flatten(0, 1)[:, None],
        input_masks=first.flatten(0, 1)[:, None],
        multimask_output=False,
    )
    return first, again.pred_masks[:, 0, 0].reshape_as(first)


@pytest.mark.parametrize("kind", KINDS)
def test_starts_as_stock_sam_bit_for_bit(kind: str) -> None:
    base = base_of(kind)
    draft, final = run(spt(base), pixels(base))
    first, again = stock(base, pixels(base))
    assert torch.equal(draft, first)
    assert torch.equal(final, again)
    assert not torch.equal(draft, final)


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_the_base_as_it_was(kind: str) -> None:
    base = base_of(kind)
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    first, _ = stock(base, pixels(base))
    network = spt(base, stirred=True)
    assert not torch.equal(run(network, pixels(base))[0], first)
    assert torch.equal(stock(base, pixels(base))[0], first)
    assert all(torch.equal(v, before[k]) for k, v in base.model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in base.model.modules())


def test_hooks_go_when_a_pass_fails() -> None:
    base = base_of("SamModel")
    network = spt(base)
    with pytest.raises(RuntimeError):
        network.decode(network.encode(pixels(base)), torch.zeros(2, 1, 2, 7), None)
    assert not any(m._forward_hooks for m in base.model.modules())


def test_low_rank_update_is_scaled_b_a_x() -> None:
    generator = torch.Generator().manual_seed(0)
    x, a, b = (torch.randn(*s, generator=generator) for s in ((3, 5), (2, 5), (4, 2)))
    slow = [[0.5 * sum(b[o, r] * a[r] @ x[n] for r in range(2)) for o in range(4)] for n in range(3)]
    assert torch.allclose(low_rank_update(x, a, b, 0.5), torch.tensor(slow), atol=1e-6)


def test_adapted_output_is_that_of_the_folded_weight() -> None:
    base = base_of("SamModel")
    network = spt(base, stirred=True)
    embedding = network.encode(pixels(base)).image
    folded = base_of("SamModel")
    for site in encoder_sites(folded, ("q", "v")):
        pair = network.adapter.encoder[site.path[0]][site.path[1]]  # type: ignore[index, operator]
        site.linear.weight.data[site.rows] += pair.scale * pair.lora_B @ pair.lora_A
    assert torch.allclose(folded.encode(pixels(base)).image, embedding, atol=1e-5)


def slow_relation(tokens: Tensor, temperature: float) -> Tensor:
    """[N, C] to [N, N], from the equation."""
    count = len(tokens)
    unit = [t / max(float(t.norm()), 1e-16) for t in tokens]
    weights = torch.zeros(count, count)
    for i in range(count):
        row = [math.exp(float(unit[i] @ unit[j]) / temperature) if i != j else 0.0 for j in range(count)]
        weights[i] = torch.tensor(row) / sum(row)
    return weights


def test_relation_equals_its_equation() -> None:
    embedding = torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(1))
    found = relation_matrix(embedding, temperature=0.7)
    for b in range(2):
        assert torch.allclose(found[b], slow_relation(embedding[b].flatten(1).T, 0.7), atol=1e-6)


def test_relation_golden_value() -> None:
    embedding = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 1.0]]).reshape(1, 2, 1, 3)
    row = relation_matrix(embedding)[0, 0]
    assert row.tolist() == pytest.approx([0.0, 0.3302, 0.6698], abs=1e-4)


def test_relation_invariants() -> None:
    embedding = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(2))
    weights = relation_matrix(embedding)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 12), atol=1e-6)
    assert weights.diagonal(dim1=1, dim2=2).abs().max() == 0
    assert torch.allclose(relation_matrix(embedding * 7.5), weights, atol=1e-6)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    mixed = relation_matrix(embedding.flatten(2)[:, :, order].reshape(2, 6, 3, 4))
    assert torch.allclose(mixed, weights[:, order][:, :, order], atol=1e-6)
    assert relation_matrix(embedding.half()).isfinite().all()
    assert relation_matrix(torch.zeros(1, 3, 2, 2))[0, 0].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])


def test_relation_product_equals_attention() -> None:
    generator = torch.Generator().manual_seed(3)
    embedding, keys = (
        torch.randn(1, 8, 4, 4, generator=generator),
        torch.randn(1, 1, 16, 8, generator=generator),
    )
    unit = torch.nn.functional.normalize(embedding.flatten(2).transpose(1, 2), dim=-1)[:, None]
    mask = torch.zeros(16, 16).fill_diagonal_(float("-inf"))
    reference = scaled_dot_product_attention(unit, unit, keys, attn_mask=mask, scale=1.0)
    found = relate(keys, relation_matrix(embedding), torch.ones(8)) - keys
    assert torch.allclose(found, reference, atol=1e-5)


def test_relation_leaves_out_padding_and_the_weak() -> None:
    embedding = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(4))
    valid = torch.tensor([[True, True, False, True, True, False]])
    weights = relation_matrix(embedding, valid=valid)
    assert weights[0][:, [2, 5]].abs().max() == 0
    sparse = relation_matrix(embedding, sparsify=1.0)[0]
    dense = relation_matrix(embedding)[0]
    assert torch.equal(sparse > 0, dense > 1 / 6)
    assert torch.allclose(sparse.sum(-1), torch.ones(6), atol=1e-6)


def test_relation_of_random_tokens_is_nearly_a_mean_filter() -> None:
    embedding = torch.randn(1, 64, 16, 16, generator=torch.Generator().manual_seed(5))
    assert row_entropy(relation_matrix(embedding)) > 0.99


def test_relate_keeps_prompts_apart() -> None:
    generator = torch.Generator().manual_seed(6)
    keys = torch.randn(6, 1, 4, 5, generator=generator)
    weights = relation_matrix(torch.randn(2, 3, 2, 2, generator=generator))
    gamma = torch.randn(5, generator=generator)
    found = relate(keys, weights, gamma)
    for row in range(6):
        slow = keys[row, 0] + (weights[row // 3] @ keys[row, 0]) * gamma
        assert torch.allclose(found[row, 0], slow, atol=1e-6)


@pytest.mark.parametrize("link", ["logits", "sigmoid", "threshold"])
def test_link(link: str) -> None:
    draft = torch.tensor([-1.0, 0.5], requires_grad=True)
    expected = {"logits": [-1.0, 0.5], "sigmoid": [0.2689, 0.6225], "threshold": [0.0, 1.0]}[link]
    assert linked(draft, link, True).tolist() == pytest.approx(expected, abs=1e-4)
    assert not linked(draft, link, True).requires_grad
    assert linked(draft, link, False).requires_grad == (link != "threshold")


def lesson_prompts(kinds: list[int], base: SamBase) -> Prompts:
    count = len(kinds)
    masks = torch.randn(count, *base.mask_size, generator=torch.Generator().manual_seed(1))
    points = torch.randint(5, 50, (count, 3, 2), generator=torch.Generator().manual_seed(2)).float()
    return Prompts(torch.tensor(kinds), BOXES.flatten(0, 1)[:count], points, masks)


@pytest.mark.parametrize("kind", KINDS)
def test_every_adapter_tensor_learns_and_nothing_else(kind: str) -> None:
    base = base_of(kind)
    network = spt(base, stirred=True).train()
    draft, final = network(pixels(base), lesson_prompts([0, 1], base))
    (draft.square().mean() + final.square().mean()).backward()
    dead = [k for k, p in network.adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The HQ decoder of transformers upscales the untouched embedding: what its second block does to the
    # image tokens reaches the mask through the last attention alone, which is enough for a gradient.
    assert dead == []
    assert all(p.grad is None for p in base.model.parameters())


def test_detached_draft_stops_the_final_loss() -> None:
    base = base_of("SamModel")
    for detach in (True, False):
        network = spt(base, stirred=True, draft_detach=detach)
        _, final = network(pixels(base), lesson_prompts([0, 0], base))
        final.square().mean().backward()
        grads = [p.grad for p in network.adapter.decoder["draft"].parameters()]  # type: ignore[index, union-attr]
        assert all(g is None or g.abs().sum() == 0 for g in grads) == detach


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_at_once_equal_prompts_alone(kind: str) -> None:
    base = base_of(kind)
    network, images = spt(base, stirred=True), pixels(base)
    together = run(network, images)
    for p in range(2):
        alone = run(network, images, BOXES[:, p : p + 1])
        for a, b in zip(together, alone, strict=True):
            assert torch.allclose(a[:, p], b[:, 0], atol=1e-5)
    turned = run(network, images, BOXES.flip(1))
    for a, b in zip(together, turned, strict=True):
        assert torch.allclose(a.flip(1), b, atol=1e-6)


def test_mixed_prompts_in_a_batch_equal_each_alone() -> None:
    base = base_of("SamModel")
    network = spt(base, stirred=True)
    images, prompts = pixels(base, 3), lesson_prompts([2, 0, 1], base)
    together = network(images, prompts)
    for i in range(3):
        own = Prompts(*(x[i : i + 1] for x in (prompts.kind, prompts.boxes, prompts.points, prompts.masks)))
        alone = network(images[i : i + 1], own)
        for a, b in zip(together, alone, strict=True):
            assert torch.allclose(a[i], b[0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_adapted_and_comes_apart(kind: str) -> None:
    base = base_of(kind)
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    network, images = spt(base, stirred=True), pixels(base)
    expected = run(network, images)
    merged = MergedSPT(network.adapter, base)  # type: ignore[arg-type]
    found = run(PromptedSam(base, merged).eval(), images)
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert merged.unmerge() is network.adapter
    assert all(torch.equal(v, before[k]) for k, v in base.model.state_dict().items())


def test_published_number_of_parameters() -> None:
    """ViT-B: 294,912 in the encoder, 94,208 in the decoders, 1,024 scales."""
    from transformers import SamConfig, SamModel

    from wildsight.backbones import Backbone

    with torch.device("meta"):
        model = SamModel(SamConfig())
    base = SamBase(Backbone(model, "vit-b", "0" * 64, (0.5,) * 3, (0.5,) * 3))
    adapter = SPTAdapter(SPT(), base)
    sizes = {k: p.numel() for k, p in adapter.named_parameters()}
    assert sum(v for k, v in sizes.items() if k.startswith("encoder")) == 294_912
    assert sum(v for k, v in sizes.items() if k.endswith("relation_scale")) == 1_024
    assert sum(sizes.values()) == 390_144


@pytest.mark.parametrize(
    ("config", "count"),
    [({"relation": False}, 0), ({"relation_blocks": "0"}, 2), ({"relation_stages": ("refine",)}, 2), ({}, 4)],
)
def test_relation_can_be_placed(config: dict[str, object], count: int) -> None:
    adapter = SPTAdapter(SPT(**config), base_of("SamModel"))  # type: ignore[arg-type]
    assert sum(k.endswith("relation_scale") for k in adapter.state_dict()) == count


def test_switches_change_what_they_say() -> None:
    base = base_of("SamModel")
    assert not SPTAdapter(SPT(encoder_targets=()), base).trains_encoder
    assert SPTAdapter(SPT(rank=0), base).decoder["draft"].keys() == {"0", "1"}  # type: ignore[operator]
    assert sorted(SPTAdapter(SPT(draft=False), base).decoder) == ["draft"]
    one, other = (SPTAdapter(SPT(seed=s), base).state_dict() for s in (0, 1))
    assert not torch.equal(one["encoder.0.q.lora_A"], other["encoder.0.q.lora_A"])


@pytest.mark.parametrize(
    "config",
    [
        {"rank": -1},
        {"temperature": 0.0},
        {"draft_link": "soft"},
        {"encoder_targets": ("x",)},
        {"relation_stages": ("last",)},
    ],
)
def test_bad_hyper_parameters(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SPT(**config)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="names no block"):
        SPTAdapter(SPT(relation_blocks="9"), base_of("SamModel"))


class TestLoss:
    def generators(self, count: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(i) for i in range(count)]

    def test_equal_logits_give_plain_cross_entropy(self) -> None:
        truth = torch.zeros(2, 16, 16)
        truth[:, 4:9, 3:12] = 1
        logits = torch.full((2, 8, 8), 0.7)
        points = draw_points(logits, 200, self.generators(2))
        wanted = sample_at(truth, points)
        guess = torch.full_like(wanted, 0.7)
        slow = -(wanted * guess.sigmoid().log() + (1 - wanted) * (1 - guess.sigmoid()).log()).mean()
        found = mask_loss(logits, truth, self.generators(2), 200)
        dice = dice_loss(guess, wanted)
        assert torch.allclose(found, slow + dice, atol=1e-5)

    def test_dice_from_its_equation(self) -> None:
        logits, truth = torch.tensor([[2.0, -1.0, 0.3]]), torch.tensor([[1.0, 0.0, 1.0]])
        p = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0, 0.3)]
        slow = 1 - (2 * (p[0] + p[2]) + 1) / (sum(p) + 2 + 1)
        assert float(dice_loss(logits, truth)) == pytest.approx(slow, abs=1e-6)

    def test_lowest_at_the_truth_and_gradient_through_logits(self) -> None:
        truth = torch.zeros(1, 32, 32)
        truth[:, 8:20, 8:20] = 1
        good = (truth * 2 - 1) * 12
        losses = [float(mask_loss(x, truth, self.generators(1), 400)) for x in (good, good * 0.1, -good)]
        assert losses == sorted(losses)
        assert losses[0] < 0.5 * losses[1]  # edge samples are fractions, so it is not zero
        logits = torch.zeros(1, 32, 32, requires_grad=True)
        mask_loss(logits, truth, self.generators(1), 400).backward()
        assert logits.grad is not None and logits.grad.abs().sum() > 0

    def test_points_crowd_where_the_mask_is_unsure(self) -> None:
        logits = torch.full((1, 32, 32), 9.0)
        logits[:, 12:20] = 0.0
        points = draw_points(logits, 400, self.generators(1))
        inside = (points[..., 1] > 11 / 32) & (points[..., 1] < 21 / 32)
        assert float(inside.float().mean()) > 0.7

    def test_sampling_is_bilinear_between_pixel_centres(self) -> None:
        maps = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
        points = torch.tensor([[[0.25, 0.25], [0.5, 0.5], [0.75, 0.25]]])
        assert sample_at(maps, points)[0].tolist() == pytest.approx([0.0, 1.5, 1.0])


@pytest.mark.slow
def test_overfits_four_pictures() -> None:
    """Spec's floor: after 200 steps the final mask is at least the draft, and the draft at least 0.9."""
    base = base_of("SamModel")
    network = PromptedSam(base, SPTAdapter(SPT(rank=8, alpha=8.0), base))
    rng = np.random.default_rng(0)
    images, masks = torch.zeros(4, 3, 64, 64), torch.zeros(4, 64, 64)
    for i in range(4):
        y, x = 4 * rng.integers(1, 7, 2)
        masks[i, y : y + 28, x : x + 32] = 1
        images[i] = masks[i] * 2 - 1
    boxes = torch.tensor([[float(c) for c in box(m)] for m in masks])
    prompts = Prompts(torch.zeros(4, dtype=torch.long), boxes, torch.zeros(4, 1, 2))
    optimizer = torch.optim.Adam(network.adapter.parameters(), lr=2e-2)
    generators = [torch.Generator().manual_seed(i) for i in range(4)]
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 2e-2 * (1 - step / 200)
        draft, final = network(images, prompts)
        loss = mask_loss(final[:, 0], masks, generators, 256) + mask_loss(draft[:, 0], masks, generators, 256)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = network(images, prompts)
    scores = []
    for logits in found:
        full = (
            torch.nn.functional.interpolate(logits, (64, 64), mode="bilinear", align_corners=False)[:, 0] > 0
        )
        true = masks > 0
        scores.append(float(((full & true).sum((1, 2)) / (full | true).sum((1, 2))).mean()))
    assert scores[1] >= scores[0] - 0.01
    assert scores[0] >= 0.9


def box(mask: Tensor) -> list[int]:
    rows, columns = torch.nonzero(mask.any(1)), torch.nonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


class TwoPasses(torch.nn.Module):
    """The whole model on pixels and boxes, for tracing."""

    def __init__(self, network: PromptedSam) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.network.encode(images)
        relation = self.network.adapter.relation(embedding, None)
        return self.network.decode(embedding, self.network.base.prompt(boxes=boxes), relation)


@pytest.mark.slow
def test_traces_and_compiles() -> None:
    base = base_of("SamModel")
    network = spt(base, stirred=True)
    merged = PromptedSam(base, MergedSPT(copy.deepcopy(network.adapter), base)).eval()  # type: ignore[arg-type]
    module, images = TwoPasses(merged).eval(), pixels(base)
    with torch.no_grad():
        expected = module(images, BOXES)
        exported = torch.export.export(module, (images, BOXES), strict=False).module()(images, BOXES)
        compiled = torch.compile(module, backend="eager")(images, BOXES)
    for a, b, c in zip(expected, exported, compiled, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
        assert torch.equal(a, c)


def test_decoder_has_seven_attentions() -> None:
    sites = decoder_sites(base_of("Sam2Model").decoder, ("q", "v"))
    assert len(sites) == 14
    assert sites[-1].path == ("final", "t2i", "v")
