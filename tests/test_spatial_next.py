"""LLaVA-NeXT in the spatial task: tiles as the model itself makes them, and everything that LLaVA can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spatial_models import next_pictures, tiny_folder, tiny_mllm
from wildsight import compress
from wildsight.errors import ConfigError, UnsupportedModelError
from wildsight.images import from_array
from wildsight.spatial import SpatialGrounder
from wildsight.spatial.data import world
from wildsight.spatial.inputs import Rows, asked
from wildsight.spatial.methods import METHODS
from wildsight.spatial.methods.llmi3d import LLMI3D, LLMI3DNet
from wildsight.spatial.mllm import KINDS, check_family
from wildsight.spatial.samples import SpatialData, SpatialSample
from wildsight.spatial.token_pooling import NEWLINE, behind, blocks_kept, homes, places_of, tiles_of

FAST = {"epochs": 1, "batch_size": 8, "progress": False}
SHAPES = ((48, 48), (96, 40), (30, 80), (100, 37), (90, 90))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed + width).integers(0, 255, (height, width, 3))
    return from_array(values.astype(np.uint8))


def cropped(sample: SpatialSample, left: int, top: int, width: int, height: int) -> SpatialSample:
    pixels = np.asarray(sample.picture())[top : top + height, left : left + width]
    camera = sample.camera.cropped(left, top, width, height)
    return replace(sample, image=np.ascontiguousarray(pixels), camera=camera)


@pytest.fixture(scope="module")
def data() -> SpatialData:
    """Wide, high and square pictures: 2, 2 and 4 tiles."""
    whole = world(12, 4, 96, 0, (1.0, 2.5))
    cuts = ((0, 24, 96, 48), (20, 0, 56, 96), (0, 0, 96, 96))
    keys = {key: i for i, key in enumerate(dict.fromkeys(s.key for s in whole.samples))}
    samples = tuple(cropped(s, *cuts[keys[s.key] % 3]) for s in whole.samples)
    return replace(whole, samples=samples)


@pytest.fixture(scope="module")
def fitted(data: SpatialData) -> SpatialGrounder:
    mllm = tiny_mllm(kind="LlavaNext")
    return SpatialGrounder("llmi3d", mllm, hyper={"threshold": 0.0}).fit(data, **FAST)


# -- tiles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_are_those_of_the_models_own_preparation(shape: tuple[int, int]) -> None:
    mllm, image = tiny_mllm(kind="LlavaNext"), picture(*shape)
    theirs = torch.as_tensor(np.asarray(next_pictures(mllm)(image)["pixel_values"][0]))
    mine = mllm.pixels(tiles_of(image, mllm.pinpoints, 48))
    assert mine.shape == theirs[1:].shape
    assert torch.allclose(mine, theirs[1:].float(), atol=1.01 / 255 / 0.25)


def test_the_language_model_reads_what_the_model_itself_packs() -> None:
    from wildsight.spatial.token_pooling import pixels_of

    mllm = tiny_mllm(kind="LlavaNext")
    grounder = SpatialGrounder("no-local", mllm)
    net = LLMI3DNet(mllm, grounder.eyes.channels, LLMI3D(local=False))
    images = [picture(*shape) for shape in SHAPES]
    squares = [i.resize((48, 48), Image.Resampling.BILINEAR) for i in images]
    sizes = torch.tensor([(i.height, i.width) for i in images])
    given = pixels_of(mllm, squares, images)
    assert torch.equal(given["image_sizes"], sizes)
    theirs = mllm.model.model.get_image_features(**given, return_dict=True).pooler_output
    grounder.eyes.fit = "stretch"
    batch = _batch(grounder, images)
    parts, _ = net.prefix(batch)
    visual, mask = parts[1]
    for own, here, wanted in zip(visual, mask, theirs, strict=True):
        assert torch.allclose(own[here > 0], wanted, atol=1e-5)
    assert len({len(t) for t in theirs}) > 2


def _batch(grounder: SpatialGrounder, images: list[Image.Image]) -> dict[str, Any]:
    from wildsight.spatial.camera import camera_for

    seen = grounder.eyes.look([(i, camera_for(i.size, focal=60.0)) for i in images])
    words = ["the red cube", "the car left of the tree", "a tree", "the cube", "the ball"]
    return asked(grounder.eyes, seen, words[: len(images)])


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_pooled_places_against_a_loop(pool: int) -> None:
    """Blocks of the map of tiles, each where its first token stands, a newline behind each row of them."""
    mllm = tiny_mllm(kind="LlavaNext")
    for image, places in zip(images := [picture(*s) for s in SHAPES], places_of(mllm, images), strict=True):
        tiles = torch.randn(len(tiles_of(image, mllm.pinpoints, 48)), 36, 4)
        found, kinds = behind(tiles, places, 6, pool)
        names: list[tuple[Any, ...]] = []
        for place in places[36:].tolist():
            tile, inside = divmod(place, 36)
            name = (tile - 1, inside // 6 // pool, inside % 6 // pool)
            names.append(name if place >= 0 else ("row", *names[-1]) if names[-1][0] != "row" else names[-1])
        order = list(dict.fromkeys(names))
        assert len(order) == len(found)
        for name, row, kind in zip(order, found, kinds, strict=True):
            assert (kind == NEWLINE) == (name[0] == "row")
            if name[0] != "row":
                block = tiles[name[0]].view(6, 6, 4)[name[1] * pool :, name[2] * pool :][:pool, :pool]
                assert torch.allclose(row, block.mean((0, 1)), atol=1e-6)
        home, sources = homes(places, 6, pool)
        every = blocks_kept(torch.arange(len(places)), places, 6, pool)
        assert bool(every.all()) and len(every) == len(sources) == int(home.max()) + 1


# -- the task ------------------------------------------------------------------------------------------------


FIRST = ("llmi3d", "text-virtual")
LATER = [pytest.param(m, marks=pytest.mark.slow) for m in METHODS if m not in FIRST]


@pytest.mark.parametrize("method", [*FIRST, *LATER])
def test_every_method_fits_and_is_evaluated(method: str, data: SpatialData) -> None:
    hyper = {"pool": 2} if "pool" in METHODS[method].names() else {}
    grounder = SpatialGrounder(method, tiny_mllm(kind="LlavaNext"), hyper=hyper).fit(data, **FAST)
    evaluation = grounder.evaluate(data)
    assert [r["group"] for r in evaluation.rows] == ["x1", "x2.5", "all"]
    assert all(np.isfinite(v) for row in evaluation.rows for v in row.values() if isinstance(v, float))


def test_a_picture_is_answered_alone_as_among_others(fitted: SpatialGrounder) -> None:
    images = [picture(*shape) for shape in SHAPES]
    batch = _batch(fitted, images)
    assert len({int((k > 0).sum()) for k in batch["behind_kind"]}) > 2
    together = fitted.net.eval().boxes(batch)
    for i, image in enumerate(images):
        own = {**_batch(fitted, [image]), **{k: batch[k][i : i + 1] for k in ("after", "after_mask")}}
        for one, many in zip(fitted.net.boxes(own), together, strict=True):
            assert torch.allclose(one[0], many[i], atol=1e-4)


def test_prediction_and_evaluation_agree(fitted: SpatialGrounder, data: SpatialData) -> None:
    evaluation = fitted.evaluate(data)
    for sample, boxes in list(zip(data.part("test"), evaluation.found, strict=True))[:6]:
        asked_alone = fitted.predict(sample.picture(), sample.expression, intrinsics=sample.camera.matrix)[0]
        assert np.allclose(asked_alone.boxes[0].centre, boxes[0].centre, atol=2e-2)


def test_tiles_are_read_and_learning_reaches_every_part(data: SpatialData) -> None:
    mllm = tiny_mllm(kind="LlavaNext")
    grounder = SpatialGrounder("llmi3d", mllm)
    rows = Rows(data.part("train")[:4], grounder.eyes, 1)
    batch = torch.utils.data.default_collate([rows[i] for i in range(4)])
    net = LLMI3DNet(mllm, grounder.eyes.channels, LLMI3D(dropout=0.0))
    torch.nn.init.normal_(net.enhancer.out[-1].weight, std=0.1)
    first = net(batch)
    first["loss"].backward()
    grads = {n: p.grad for n, p in net.named_parameters()}
    for part in ("queries", "enhancer.key", "enhancer.depth", "heads.parts.depth", "multi_modal_projector"):
        assert any(part in n and v is not None and v.abs().sum() > 0 for n, v in grads.items()), part
    assert any("lora_B" in n and v.abs().sum() > 0 for n, v in grads.items() if v is not None)
    assert all(grads[n] is None for n, p in net.named_parameters() if not p.requires_grad)
    other = net({**batch, "behind": batch["behind"].roll(1, 1)})
    assert not torch.equal(first["z"], other["z"])
    filled = {
        "behind": torch.nn.functional.pad(batch["behind"], (0, 0, 0, 7), value=3.0),
        "behind_kind": torch.nn.functional.pad(batch["behind_kind"], (0, 7)),
    }
    for name in ("xy", "z", "size", "text"):
        assert torch.allclose(net({**batch, **filled})[name], first[name], atol=1e-5)


def test_nothing_that_the_network_sees_changes_with_the_lens(fitted: SpatialGrounder) -> None:
    batch = _batch(fitted, [picture(96, 40)])
    longer = {**batch, "camera": batch["camera"] * torch.tensor((2.0, 2.0, 1.0, 1.0))}
    one, two = fitted.net.boxes(batch), fitted.net.boxes(longer)
    assert torch.allclose(one.size, two.size, atol=1e-6)
    assert torch.equal(2 * one.centre[..., 2], two.centre[..., 2])


@pytest.mark.slow
@pytest.mark.parametrize("augment", [False, True])
def test_a_fit_lowers_the_loss_and_is_the_same_twice(data: SpatialData, augment: bool) -> None:
    long = {**FAST, "epochs": 3, "lr": 3e-3, "augment": augment}
    one, two = (
        SpatialGrounder("llmi3d", tiny_mllm(kind="LlavaNext"), hyper={"pool": 2}).fit(data, **long)
        for _ in range(2)
    )
    losses = one.history.curve("loss")
    assert losses[-1] < losses[0]
    for name, tensor in one.net.state_dict().items():
        assert torch.equal(tensor, two.net.state_dict()[name]), name


@pytest.mark.slow
def test_pictures_in_tiles_are_learned_by_heart(data: SpatialData) -> None:
    few = list(dict.fromkeys(s.key for s in data.part("train")))[:3]
    part = replace(data, samples=tuple(s for s in data.part("train") if s.key in few))
    hyper = {"tune": "full", "w_text": 0.1, "w_d": 0.1, "dropout": 0.0, "pool": 2}
    grounder = SpatialGrounder("llmi3d", tiny_mllm(kind="LlavaNext"), hyper=hyper)
    grounder.fit(part, epochs=200, batch_size=6, lr=5e-3, progress=False)
    scores = grounder.evaluate(part, split="train").rows[-1]
    assert scores["acc@0.5"] >= 0.8, scores


def test_saved_and_loaded_it_answers_the_same(data: SpatialData, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "llava", "LlavaNext")
    grounder = SpatialGrounder("llmi3d", str(folder), hyper={"threshold": 0.0, "pool": 2}).fit(data, **FAST)
    grounder.save_pretrained(tmp_path / "saved")
    again = SpatialGrounder.from_pretrained(tmp_path / "saved")
    for shape in SHAPES[:3]:
        results = [
            g.predict(picture(*shape), "the red cube", focal=50.0, words=True)[0] for g in (grounder, again)
        ]
        one, two = (r.boxes[0] for r in results)
        assert np.array_equal(one.centre, two.centre) and np.array_equal(one.rotation, two.rotation)
        assert results[0].answer == results[1].answer
    assert not any("vision_tower" in n or "image_newline" in n for n in grounder.net.state_dict())


@pytest.mark.parametrize("pool", [1, 2])
def test_it_works_inside_compress(data: SpatialData, pool: int) -> None:
    mllm = tiny_mllm(kind="LlavaNext")
    grounder = SpatialGrounder("llmi3d", mllm, hyper={"threshold": 0.0, "pool": pool}).fit(data, **FAST)

    def found() -> np.ndarray:
        return np.stack([boxes[0].centre for boxes in grounder.evaluate(data).found])

    whole = found()
    for positions in ("original", "compact"):
        with compress(mllm.model, visual_tokens=1.0, positions=positions):
            assert np.allclose(found(), whole, atol=1e-4)
        with compress(mllm.model, visual_tokens=0.3, positions=positions):
            few = found()
        assert np.isfinite(few).all() and not np.allclose(few, whole, atol=1e-4)
    assert np.array_equal(found(), whole)


def test_vip_llava_reads_several_layers(data: SpatialData) -> None:
    mllm = tiny_mllm(kind="VipLlava")
    assert mllm.tower_width == 48 and mllm.pinpoints is None
    images = [picture(48, 48), picture(48, 48, 1)]
    theirs = mllm.model.model.get_image_features(mllm.pixels(images), return_dict=True).pooler_output
    grounder = SpatialGrounder("llmi3d", mllm, hyper={"threshold": 0.0})
    net = LLMI3DNet(mllm, grounder.eyes.channels, LLMI3D(local=False))
    assert torch.allclose(net.prefix(_batch(grounder, images))[0][1][0], theirs, atol=1e-5)
    again = SpatialGrounder("llmi3d", tiny_mllm(kind="VipLlava"), hyper={"threshold": 0.0}).fit(data, **FAST)
    assert again.predict(images[0], "the cube", focal=50.0)[0].boxes


def test_other_models_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        check_family(torch.nn.Linear(1, 1))
    assert all(kind in str(caught.value) for kind in ("Linear", *KINDS))
    model = tiny_mllm().model
    model.config.vision_config.model_type = "pixtral"
    with pytest.raises(UnsupportedModelError, match="pixtral"):
        check_family(model)
    rows = torch.zeros(1, 36, 4), torch.arange(36)
    with pytest.raises(ConfigError, match="does not divide"):
        behind(*rows, 6, 4)
