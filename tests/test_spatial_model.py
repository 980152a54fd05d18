"""The paper's network: enhancer, heads, losses, query tokens, LoRA, on a tiny random LLaVA."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_models import tiny_mllm
from spatial_reference import rotation_6d, yaw_rotation
from wildsight.errors import ConfigError
from wildsight.spatial import geometry as g
from wildsight.spatial import losses as L
from wildsight.spatial.box_text import parsed, written
from wildsight.spatial.boxes import Box
from wildsight.spatial.enhancer import (
    SpatialEnhancer,
    lid_bin,
    lid_edges,
    ray_map,
    window_attention,
    windows,
)
from wildsight.spatial.heads import Boxes3D, BoxHeads, Readout, decode
from wildsight.spatial.methods.cube_head import cut_out
from wildsight.spatial.methods.llmi3d import LLMI3D, LLMI3DNet, assignment
from wildsight.spatial.methods.text import Text, TextNet
from wildsight.spatial.token_pooling import pooled

CHANNELS = 8


def batch_of(mllm: Any, queries: int = 1, rows: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    prompts = [mllm.prompt(e) for e in ("the red cube", "the car left of the tree", "a tree")][:rows]
    longest = max(len(a) for _, a in prompts)
    after = torch.tensor([[*a, *[0] * (longest - len(a))] for _, a in prompts])
    mask = torch.tensor([[1.0] * len(a) + [0.0] * (longest - len(a)) for _, a in prompts])
    answer = [[*mllm.ids("yes : a cube on the left"), mllm.tokenizer.eos_token_id]] * rows
    valid = torch.ones(rows, queries)
    valid[-1] = 0
    return {
        "tokens": torch.randn(rows, 36, 24), "fine": torch.randn(rows, CHANNELS, 12, 12),
        "inside": torch.ones(rows, 12, 12, dtype=torch.bool),
        "camera": torch.tensor([[50.0, 55.0, 24.0, 24.0]]).repeat(rows, 1),
        "before": torch.tensor([b for b, _ in prompts]), "after": after, "after_mask": mask,
        "answer": torch.tensor(answer), "numbers": torch.tensor(answer),
        "centre": torch.tensor((0.2, 0.5, 5.0)).repeat(rows, queries, 1),
        "size": torch.tensor((2.0, 1.0, 1.5)).repeat(rows, queries, 1),
        "rotation": torch.eye(3).repeat(rows, queries, 1, 1),
        "box2d": torch.tensor((0.5, 0.6, 0.3, 0.3)).repeat(rows, queries, 1),
        "valid": valid, "depth_map": torch.full((rows, 24, 24), 20.0),
    }  # fmt: skip


# -- enhancer ------------------------------------------------------------------------------------------------


def test_windows_against_a_loop() -> None:
    fine = torch.randn(2, 3, 6, 6)
    cut = windows(fine, 2)
    for i in range(2):
        for j in range(2):
            own = fine[:, :, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].flatten(2).transpose(1, 2)
            assert torch.equal(cut[:, 2 * i + j], own)


def test_window_attention_against_the_equation() -> None:
    q, k, v = torch.randn(1, 2, 4), torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 5)
    inside = torch.tensor([[[True, True, False], [False, False, False]]])
    out = window_attention(q, k, v, inside)
    weights = torch.softmax((k[0, 0, :2] @ q[0, 0]) / 2.0, 0)
    assert torch.allclose(out[0, 0], weights @ v[0, 0, :2], atol=1e-6)
    assert not out[0, 1].any()


def test_enhancer_keeps_the_count_starts_as_identity_and_leaves_padding_alone() -> None:
    enhancer = SpatialEnhancer(24, CHANNELS, 6, 16, 8, 0.5, 80.0)
    tokens, fine = torch.randn(2, 36, 24), torch.randn(2, CHANNELS, 13, 13)
    camera, inside = torch.tensor([[50.0, 50.0, 24.0, 24.0]] * 2), torch.ones(2, 13, 13, dtype=torch.bool)
    assert torch.equal(enhancer(tokens, fine, camera, inside, 48).tokens, tokens)
    torch.nn.init.normal_(enhancer.out[-1].weight)
    torch.nn.init.normal_(enhancer.out[-1].bias)
    inside[:, 7:] = False
    out = enhancer(tokens, fine, camera, inside, 48).tokens
    assert out.shape == tokens.shape
    assert torch.equal(out[:, 24:], tokens[:, 24:])
    assert not torch.equal(out[:, :6], tokens[:, :6])


def test_depth_bins() -> None:
    edges = lid_edges(64, 0.5, 80.0)
    assert edges[0] == 0.5
    assert edges[-1] == pytest.approx(80.0)
    widths = edges.diff()
    assert torch.allclose(widths.diff(), widths.diff()[:1].expand(63), atol=1e-4)
    assert lid_bin(torch.tensor([0.1, 0.51, 0.6, 79.9, 200.0]), edges).tolist() == [0, 0, 1, 63, 63]


def test_ray_map_of_the_middle_looks_ahead() -> None:
    rays = ray_map(torch.tensor([[50.0, 50.0, 24.0, 24.0]]), 3, 48)
    assert torch.allclose(rays[0, 1, 1], torch.zeros(2))
    assert rays[0, 0, 2, 0] > 0 > rays[0, 0, 2, 1]


# -- heads and geometry --------------------------------------------------------------------------------------


def oracle(centre: torch.Tensor, size: torch.Tensor, camera: torch.Tensor, side: int, virtual: float | None):
    row = camera[:, None]
    uv = g.project(centre, row) / side
    seen = centre[..., 2] if virtual is None else g.virtual_depth(centre[..., 2], camera[:, 1:2], virtual)
    six = rotation_6d(g.to_allocentric(torch.eye(3, dtype=centre.dtype).expand(1, 1, 3, 3),
                                         g.rays(uv * side, row)))  # fmt: skip
    height = camera[:, 1:2] * size[..., 1] / centre[..., 2] / side
    box = torch.stack((uv[..., 0], uv[..., 1], height, height), -1)
    zero = torch.zeros(1, 1, dtype=centre.dtype)
    return Readout(uv, box, seen.log(), zero, size.log(), six, zero + 5)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.3])
def test_virtual_depth_does_not_move_with_the_focal_length(scale: float) -> None:
    """Picture and camera scaled together: the same readout decodes to the same metres, and only so."""
    centre = torch.tensor([[[0.4, 0.6, 7.0]]], dtype=torch.float64)
    size = torch.tensor([[[2.0, 1.5, 1.8]]], dtype=torch.float64)
    camera = torch.tensor([[100.0, 110.0, 48.0, 46.0]], dtype=torch.float64)
    readout = oracle(centre, size, camera, 96, g.F_VIRTUAL)
    scaled = decode(
        readout._replace(depth=readout.depth - torch.tensor(scale).log()), camera * scale, round(96 * scale)
    )
    if round(96 * scale) == 96 * scale:
        assert torch.allclose(scaled.centre, centre, atol=1e-6)
    assert torch.allclose(scaled.centre[..., 2], centre[..., 2], atol=1e-6)
    longer = camera * torch.tensor((scale, scale, 1.0, 1.0), dtype=torch.float64)
    deeper = decode(readout, longer, 96).centre[..., 2]
    assert torch.allclose(deeper, centre[..., 2] * scale, atol=1e-6)
    plain = oracle(centre, size, camera, 96, None)
    assert torch.allclose(decode(plain, longer, 96, None).centre[..., 2], centre[..., 2], atol=1e-6)


def test_decode_turns_oracle_readouts_into_the_boxes() -> None:
    centre = torch.tensor([[[0.4, 0.6, 7.0]]], dtype=torch.float64)
    size = torch.tensor([[[2.0, 1.5, 1.8]]], dtype=torch.float64)
    camera = torch.tensor([[100.0, 120.0, 48.0, 46.0]], dtype=torch.float64)
    readout = oracle(centre, size, camera, 96, g.F_VIRTUAL)
    for how in ("virtual", "proj", "fused"):
        found = decode(readout, camera, 96, how=how)
        assert torch.allclose(found.centre, centre, atol=1e-6), how
        assert torch.allclose(found.rotation, torch.eye(3, dtype=torch.float64), atol=1e-6)
        assert torch.allclose(found.size, size)
    wrong = readout._replace(depth=readout.depth + 1.0)
    assert abs(float(decode(wrong, camera, 96, how="fused").centre[0, 0, 2]) - 7) < abs(
        float(decode(wrong, camera, 96).centre[0, 0, 2]) - 7
    )
    cut = wrong._replace(box2d=torch.tensor([[[0.0, 0.5, 0.5, 0.5]]], dtype=torch.float64))
    assert torch.equal(decode(cut, camera, 96, how="proj").centre, decode(cut, camera, 96).centre)
    with pytest.raises(ConfigError, match="geometry"):
        decode(readout, camera, 96, how="guess")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(1, 300))
def test_heads_never_give_nan(seed: int, loud: float) -> None:
    heads = BoxHeads(16, 8)
    hidden = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(seed)) * loud
    for head in heads.parts.values():
        torch.nn.init.normal_(head[-1].weight, std=loud)
    found = decode(heads(hidden), torch.tensor([[100.0, 90.0, 48.0, 48.0]] * 2), 96, how="fused")
    for values in found:
        assert torch.isfinite(values).all()


# -- losses --------------------------------------------------------------------------------------------------


def test_losses_vanish_at_the_truth_and_see_one_part_at_a_time() -> None:
    centre = torch.tensor([[[0.4, 0.6, 7.0]]], dtype=torch.float64)
    size, rotation = torch.tensor([[[2.0, 1.5, 1.8]]], dtype=torch.float64), yaw_rotation(
        torch.tensor([[0.4]], dtype=torch.float64)
    )  # fmt: skip
    camera = torch.tensor([[100.0, 100.0, 48.0, 46.0]], dtype=torch.float64)

    truth = Boxes3D(centre, size, rotation, torch.zeros(1, 1), torch.ones(1, 1))
    assert all(float(v) < 1e-12 for v in L.disentangled(truth, centre, size, rotation, camera).values())
    deeper = truth._replace(centre=centre * 1.5)
    parts = L.disentangled(deeper, centre, size, rotation, camera)
    assert parts["z"] > 0.1
    assert max(parts["xy"], parts["size"], parts["rotation"]) < 1e-12
    turned = truth._replace(rotation=yaw_rotation(torch.tensor([[0.4 + torch.pi]], dtype=torch.float64)))
    assert float(L.disentangled(turned, centre, size, rotation, camera)["rotation"]) < 1e-12
    by_hand = (g.corners(centre * 1.5, size, rotation) - g.corners(centre, size, rotation)).abs().mean()
    assert float(parts["z"]) == pytest.approx(float(by_hand))


@pytest.mark.parametrize("focal", [100.0, 1000.0])
def test_spread_is_learned_as_the_standard_deviation_of_the_depth(focal: float) -> None:
    """In metres, wherever the thing stands in the picture and whatever the lens: Laplace errors of 2 m."""
    torch.manual_seed(0)
    noise = torch.distributions.Laplace(0.0, 2**0.5).sample((4000,)).double()[:, None]
    centre = torch.tensor([[[8.0, 1.0, 20.0]]], dtype=torch.float64).expand(4000, 1, 3)
    size, eye = torch.ones(4000, 1, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    camera = torch.tensor([[focal, focal, 48.0, 48.0]], dtype=torch.float64).expand(4000, 4)
    rotation, valid = eye.expand(4000, 1, 3, 3), torch.ones(4000, 1, dtype=torch.float64)
    seen = g.virtual_depth((centre[..., 2] + noise).clamp_min(0.1), camera[:, 1:2], g.F_VIRTUAL)
    zero = torch.zeros(4000, 1, dtype=torch.float64)
    box2d = torch.full((4000, 1, 4), 0.5, dtype=torch.float64)
    uv, six = g.project(centre, camera[:, None]) / 96, rotation_6d(rotation)
    spread = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([spread], max_iter=50)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        readout = Readout(uv, box2d, seen.log(), zero + spread, size.log(), six, zero)
        found = decode(readout, camera, 96)
        total = L.box_losses(readout, found, centre, size, rotation, box2d, valid, camera)["z"]
        total.backward()
        return total

    optimizer.step(loss)
    readout = Readout(uv[:1], box2d[:1], seen[:1].log(), zero[:1] + spread.detach(), size[:1].log(), six[:1],
                      zero[:1])  # fmt: skip
    assert float(decode(readout, camera[:1], 96).spread) == pytest.approx(2.0, rel=0.05)


def test_spread_follows_the_lens_as_the_depth_does() -> None:
    heads = BoxHeads(16, 8)
    heads.start_from(torch.tensor([30.0, 50.0]).log(), torch.zeros(2, 3))
    hidden = torch.randn(1, 1, 16)
    short, long = (decode(heads(hidden), torch.tensor([[f, f, 48.0, 48.0]]), 96) for f in (50.0, 500.0))
    assert torch.allclose(long.spread, 10 * short.spread)
    assert torch.allclose(long.centre[..., 2], 10 * short.centre[..., 2])
    assert short.spread.item() == pytest.approx(10.0 * 50 / 512, rel=0.2)
    plain = [decode(heads(hidden), torch.tensor([[f, f, 48.0, 48.0]]), 96, None) for f in (50.0, 500.0)]
    assert torch.equal(plain[0].spread, plain[1].spread)


def test_corner_loss_gradients() -> None:
    size = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    six = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    truth = torch.randn(2, 8, 3, dtype=torch.float64)
    zero = torch.zeros(2, 3, dtype=torch.float64)

    def loss(s: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return L.corner_l1(g.corners(zero, s, g.rotation_from_6d(r)), truth)

    assert torch.autograd.gradcheck(loss, (size, six))


def test_box_2d_loss_by_hand() -> None:
    one, two = torch.tensor((0.5, 0.5, 0.2, 0.2)), torch.tensor((0.6, 0.5, 0.2, 0.2))
    assert float(L.box_2d_loss(one, one)) == pytest.approx(0.0, abs=1e-5)
    iou, hull = (0.1 * 0.2) / (0.08 - 0.02), 0.3 * 0.2
    giou = iou - (hull - 0.06) / hull
    assert float(L.box_2d_loss(one, two)) == pytest.approx(5 * 0.025 + 2 * (1 - giou), abs=1e-5)


# -- the network ---------------------------------------------------------------------------------------------


def test_lora_changes_nothing_at_first_and_merges() -> None:
    mllm = tiny_mllm()
    before = copy.deepcopy(mllm.model.model.language_model)
    net = LLMI3DNet(mllm, CHANNELS, LLMI3D(dropout=0.0)).eval()
    x = torch.randn(2, 5, 32)
    run = lambda m: m(inputs_embeds=x).last_hidden_state  # noqa: E731
    after = net.speaker.llava.model.language_model
    assert torch.equal(run(before), run(after))
    for name, weight in after.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    loose = run(after)
    for module in after.modules():
        if hasattr(module, "lora_A"):
            module.merge()
    assert not torch.allclose(loose, run(before))
    assert torch.allclose(loose, run(after), atol=1e-5)


def test_query_tokens_read_the_prompt_not_the_answer_and_gradients_go_where_they_should() -> None:
    mllm = tiny_mllm()
    net = LLMI3DNet(mllm, CHANNELS, LLMI3D(dropout=0.0))
    torch.nn.init.normal_(net.enhancer.out[-1].weight, std=0.1)
    batch = batch_of(mllm)
    first = net(batch)
    other = net({**batch, "answer": batch["answer"].flip(1)})
    for name in ("xy", "z", "size", "rotation", "box2d"):
        assert torch.equal(first[name], other[name])
    moved = net({**batch, "after": batch["after"].roll(1, 0), "after_mask": batch["after_mask"].roll(1, 0)})
    assert not torch.equal(first["z"], moved["z"])
    first["loss"].backward()
    grads = {n: p.grad for n, p in net.named_parameters()}
    for part in ("queries", "enhancer.key", "enhancer.depth", "heads.parts.depth", "multi_modal_projector"):
        assert any(part in n and v is not None and v.abs().sum() > 0 for n, v in grads.items()), part
    assert any("lora_B" in n and v.abs().sum() > 0 for n, v in grads.items() if v is not None)
    frozen = [n for n, p in net.named_parameters() if not p.requires_grad]
    assert frozen and all(grads[n] is None for n in frozen)
    assert not any("vision_tower" in n for n in net.state_dict())


def test_nothing_that_the_network_sees_changes_with_the_lens() -> None:
    for rays, same in (("virtual", True), ("camera", False)):
        torch.manual_seed(0)
        mllm = tiny_mllm()
        net = LLMI3DNet(mllm, CHANNELS, LLMI3D(pool=1, K_d=8, hidden=16, rays=rays)).eval()
        torch.nn.init.normal_(net.enhancer.out[-1].weight)
        batch = batch_of(mllm)
        other = {**batch, "camera": batch["camera"] * torch.tensor((2.0, 2.0, 1.0, 1.0))}
        one, two = net.boxes(batch), net.boxes(other)
        assert torch.allclose(one.size, two.size, atol=1e-6) is same
        assert torch.equal(2 * one.centre[..., 2], two.centre[..., 2]) is same


def test_padding_between_question_and_query_changes_nothing() -> None:
    mllm = tiny_mllm()
    net = LLMI3DNet(mllm, CHANNELS, LLMI3D()).eval()
    batch = batch_of(mllm)
    wide = {**batch, "after": torch.nn.functional.pad(batch["after"], (0, 5))}
    wide["after_mask"] = torch.nn.functional.pad(batch["after_mask"], (0, 5))
    for a, b in zip(net.boxes(batch), net.boxes(wide), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    alone = {k: v[:1] for k, v in batch.items()}
    assert torch.allclose(net.boxes(alone).centre, net.boxes(batch).centre[:1], atol=1e-5)


def test_several_queries_are_matched_by_least_cost() -> None:
    cost = torch.tensor([[[9.0, 1.0, 9.0], [2.0, 9.0, 9.0], [9.0, 9.0, 9.0]]])
    assert assignment(cost, torch.tensor([[1.0, 1.0, 0.0]])).tolist() == [[1, 0, 2]]
    assert assignment(cost, torch.zeros(1, 3)).tolist() == [[0, 1, 2]]
    mllm = tiny_mllm()
    net = LLMI3DNet(mllm, CHANNELS, LLMI3D(Q=3))
    out = net(batch_of(mllm, 3))
    assert torch.isfinite(out["loss"])
    assert net.boxes(batch_of(mllm, 3)).centre.shape == (3, 3, 3)


def test_pooling_averages_blocks() -> None:
    tokens = torch.randn(1, 36, 4)
    small = pooled(tokens, 6, 2)
    assert torch.allclose(small[0, 0], tokens[0, [0, 1, 6, 7]].mean(0))
    with pytest.raises(ConfigError, match="divide"):
        pooled(tokens, 6, 4)
    with pytest.raises(ConfigError, match="Q=0"):
        LLMI3D(Q=0)


def test_speaking_with_a_cache_is_speaking_without() -> None:
    mllm = tiny_mllm()
    net = LLMI3DNet(mllm, CHANNELS, LLMI3D()).eval()
    batch = batch_of(mllm)
    end = mllm.tokenizer.eos_token_id
    told = net.say(batch, end, 4)
    parts, _ = net._asked(batch)
    ids = torch.zeros(3, 0, dtype=torch.long)
    for _ in range(told.shape[1]):
        extra = [net.answer_parts(ids)] if ids.shape[1] else []
        hidden = net.speaker.read([*parts, *extra]).last_hidden_state[:, -1]
        ids = torch.cat((ids, net.speaker.logits(hidden).argmax(-1, keepdim=True)), 1)
    live = (told != end).cumprod(1).bool()
    assert torch.equal(told[live], ids[live])


# -- peers ---------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.floats(-80, 80), st.floats(-5, 5), st.floats(0.1, 100)),
    st.tuples(*[st.floats(0.02, 20)] * 3),
    st.floats(-3.1, 3.1),
    st.floats(0.2, 5),
)
def test_written_boxes_are_read_back_within_rounding(
    centre: Any, size: Any, yaw: float, factor: float
) -> None:
    box = Box.upright(centre, size, yaw)
    back = parsed(written(box, factor), factor)
    assert back is not None
    assert abs(back.centre - box.centre).max() <= 0.00501 * max(1, 1 / factor)
    assert abs(back.size - box.size).max() <= 0.00501


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert parsed(text) is None or parsed(text).fault() is None


def test_text_is_learned_by_cross_entropy() -> None:
    mllm = tiny_mllm()
    net = TextNet(mllm, CHANNELS, Text())
    batch = batch_of(mllm)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 0.01)
    first = float(net(batch)["text"])
    for _ in range(15):
        optimizer.zero_grad()
        net(batch)["loss"].backward()
        optimizer.step()
    assert float(net(batch)["text"]) < first
    assert len(net.eval().texts(batch)) == 3


def test_box_features_are_taken_inside_the_box() -> None:
    fine = torch.zeros(1, 1, 8, 8)
    fine[..., 4:, 4:] = 1.0
    assert float(cut_out(fine, torch.tensor([[0.75, 0.75, 0.2, 0.2]])).min()) == pytest.approx(1.0)
    assert float(cut_out(fine, torch.tensor([[0.2, 0.2, 0.2, 0.2]])).max()) == pytest.approx(0.0)


def test_a_whole_language_model_trains_where_it_is_asked_to() -> None:
    mllm = tiny_mllm()
    net = LLMI3DNet(mllm, CHANNELS, LLMI3D(tune="full"))
    net(batch_of(mllm))["loss"].backward()
    names = [n for n, p in net.named_parameters() if p.grad is not None]
    assert any("language_model.layers.0.mlp" in n for n in names)
    assert not any("lora" in n or "vision_tower" in n for n in names)
    again = LLMI3DNet(tiny_mllm(1), CHANNELS, LLMI3D(tune="full"))
    again.load_state_dict(net.state_dict())
    batch = batch_of(mllm)
    assert torch.equal(again.eval().boxes(batch).size, net.eval().boxes(batch).size)
    with pytest.raises(ConfigError, match="tune"):
        LLMI3D(tune="some")
