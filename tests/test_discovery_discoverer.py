"""The discoverer end to end on small real networks: fit, predict, evaluate, save, load, resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from test_discovery_cli import make_folder
from wildsight.discovery import CategoryDiscoverer
from wildsight.discovery.data import CategoryData, read_source
from wildsight.discovery.features import ViewConfig, crops, tokens_of_files
from wildsight.discovery.fitting import Tokens, draw_weights, drawn, embed, fit_head
from wildsight.discovery.methods.nngcd import NNGCD, GCDHead
from wildsight.discovery.partial_finetune import BlockTail, ResidualTail, Trunk
from wildsight.errors import CheckpointError, ConfigError, DataError
from wildsight.training import Batch, TrainConfig

VIEWS = ViewConfig(image_size=32, views=2)
SMALL = {"hidden": 16, "out": 8, "epochs": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny real networks with random weights: a ResNet, a CLIP, a DINOv2 and a ViT."""
    from transformers import (
        CLIPConfig,
        CLIPModel,
        Dinov2Config,
        Dinov2Model,
        ResNetConfig,
        ResNetModel,
        ViTConfig,
        ViTModel,
    )

    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    eyes = {**tower, "image_size": 32, "patch_size": 8}
    models = {
        "resnet": ResNetModel(
            ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        ),
        "clip": CLIPModel(CLIPConfig(text_config=tower, vision_config=eyes, projection_dim=8)),
        "dinov2": Dinov2Model(Dinov2Config(**eyes)),
        "vit": ViTModel(ViTConfig(**eyes)),
    }
    root = tmp_path_factory.mktemp("networks")
    for name, model in models.items():
        model.save_pretrained(root / name)
    return {name: root / name for name in models}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> CategoryData:
    return read_source(make_folder(tmp_path_factory.mktemp("colours"), 5))


def discoverer(method: str, network: Path, **options: object) -> CategoryDiscoverer:
    hyper = SMALL if method in ("nngcd", "simgcd", "legogcd") else None
    return CategoryDiscoverer(method, str(network), **{"k": 4, "views": VIEWS, "hyper": hyper, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["sskmeans", "nngcd", "simgcd", "legogcd", "cms", "kmeans"])
def test_fit_evaluate_predict_save_load(
    method: str, networks: dict[str, Path], colours: CategoryData, tmp_path: Path
) -> None:
    made = discoverer(method, networks["clip"]).fit(colours, progress=False)
    results = made.results()
    assert len(results) == 20 and all(0 <= r.confidence <= 1 for r in results)
    assert made.names == ["green", "red", "new_000", "new_001"]
    sizes = [sum(r.name == f"new_00{i}" for r in results) for i in range(2)]
    assert sizes[0] >= sizes[1]
    row = made.evaluate(colours).rows[0]
    assert row["transductive"] and row["k_from"] == "given" and row["all"] >= row["fixed_all"] >= 0
    made.save_pretrained(tmp_path / "c")
    again = CategoryDiscoverer.from_pretrained(tmp_path / "c")
    assert again.evaluate(colours).rows == made.evaluate(colours).rows
    file = colours.samples[0].image
    one, other = made.predict(file)[0], again.predict([Image.open(file)])[0]
    assert one.confidence == other.confidence and one.name == other.name
    assert one.to_dict()["kind"] in ("known", "new") and one.figure() is not None


def test_a_preset_may_be_given_whole(
    networks: dict[str, Path], colours: CategoryData, tmp_path: Path
) -> None:
    config = replace(NNGCD.released("cub"), **SMALL, sigma=float("inf"), act="relu")  # type: ignore[arg-type]
    made = discoverer("nngcd", networks["resnet"], hyper=config).fit(colours, progress=False)
    made.save_pretrained(tmp_path / "c")
    again = CategoryDiscoverer.from_pretrained(tmp_path / "c")
    assert made.method == again.method == config
    assert again.evaluate(colours).rows == made.evaluate(colours).rows
    fitted = made.need_fit()
    assert fitted.projected.shape == (len(colours.samples), 8) and fitted.projected.min() >= 0
    assert made.head is not None and np.allclose(fitted.projected, embed(made.head, made.tokens(colours))[1])


def test_colours_are_found(colours: CategoryData) -> None:
    row = CategoryDiscoverer(k=4, views=ViewConfig(48)).fit(colours).evaluate(colours).rows[0]
    assert row["fixed_all"] > 0.9
    row = CategoryDiscoverer(k=(2, 6), views=ViewConfig(48)).fit(colours).evaluate(colours).rows[0]
    assert row["k_from"] == "estimated" and 2 <= row["k"] <= 6


@pytest.mark.parametrize("name", ["clip", "dinov2", "vit", "resnet"])
def test_the_tail_on_cached_tokens_is_the_whole_network(name: str, networks: dict[str, Path]) -> None:
    from wildsight.backbones import load_backbone

    trunk = Trunk(load_backbone(str(networks[name])))
    pixels = torch.randn(3, 3, 32, 32)
    tokens = trunk.tokens(pixels)
    width = tokens.shape[-1]
    tail = trunk.tail(torch.zeros(width), torch.eye(width))
    assert isinstance(tail, ResidualTail if name == "resnet" else BlockTail)
    whole = trunk.vector(pixels)
    if name == "resnet":
        whole = torch.nn.functional.normalize(whole, dim=1) * width**0.5
    assert torch.allclose(tail(tokens), whole, atol=1e-5)
    if name != "resnet":
        trained = {n.split(".")[0] for n, p in tail.named_parameters() if p.requires_grad}
        assert trained == {"block"}


def test_views_are_the_whole_picture_then_crops() -> None:
    pixels = torch.arange(3 * 16 * 16.0).reshape(1, 3, 16, 16)
    views = crops(pixels, ViewConfig(image_size=16, views=3))
    again = crops(pixels, ViewConfig(image_size=16, views=3))
    assert len(views) == 4 and torch.equal(views[0], pixels)
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    assert all(not torch.equal(v, pixels) and v.shape == pixels.shape for v in views[1:])
    assert torch.equal(crops(pixels, ViewConfig(16, 1, crop=1.0))[1], pixels)


def test_half_of_the_draws_are_labelled_and_come_from_the_seed_alone() -> None:
    labels = np.array([0, 1] + [-1] * 18)
    weights = draw_weights(labels)
    assert weights[labels >= 0].sum() == pytest.approx(0.5)
    batch = Batch(None, torch.arange(400), 3, 7)
    rows, first, second = drawn(batch, np.cumsum(weights), 4)
    again = drawn(Batch(None, torch.arange(400).flip(0), 3, 7), np.cumsum(weights), 4)
    assert (rows == again[0][::-1]).all() and (first == again[1][::-1]).all()
    assert 0.4 < (labels[rows] >= 0).mean() < 0.6
    assert set(first.tolist()) == {1, 2, 3, 4} and (first != second).any()
    assert draw_weights(np.full(4, -1)).tolist() == [0.25] * 4


def small_tokens() -> Tokens:
    draw = np.random.default_rng(0)
    array = draw.normal(size=(24, 3, 1, 6)).astype(np.float16)
    return Tokens(array, np.arange(24), np.where(np.arange(24) < 6, np.arange(24) % 2, -1))


def small_head() -> GCDHead:
    torch.manual_seed(0)
    return GCDHead(ResidualTail(torch.zeros(6), torch.eye(6), 4), 6, 4, NNGCD(**SMALL))  # type: ignore[arg-type]


def recipe(seed: int, **changes: object) -> TrainConfig:
    return replace(NNGCD(**SMALL).recipe(), seed=seed, **changes)  # type: ignore[arg-type]


def test_a_killed_fit_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    whole = small_head()
    fit_head(whole, small_tokens(), recipe(1), progress=False)
    first, calls = small_head(), 0

    def stop(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt

    hook = first.tail.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        fit_head(first, small_tokens(), recipe(1, checkpoint_seconds=0.0), folder=tmp_path, progress=False)
    hook.remove()
    second = small_head()
    fit_head(second, small_tokens(), recipe(1, checkpoint_seconds=0.0), folder=tmp_path, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    assert torch.equal(whole.teacher, second.teacher)


def test_the_state_of_another_fit_is_refused(
    networks: dict[str, Path], colours: CategoryData, tmp_path: Path
) -> None:
    net, state = networks["resnet"], tmp_path / "train"
    made = discoverer("nngcd", net).fit(colours, folder=state, progress=False)
    again = discoverer("nngcd", net).fit(colours, folder=state, progress=False)
    assert again.history is not None and again.history.resumed_from == again.history.steps > 0
    assert made.evaluate(colours).rows == again.evaluate(colours).rows
    other = make_folder(tmp_path / "other", 5)
    (other / "labelled" / "red").rename(other / "labelled" / "rouge")
    for changed, data, name in [
        (discoverer("simgcd", net), colours, "method=nngcd|act=gelu"),
        (discoverer("nngcd", net, hyper={**SMALL, "t": 0.25}), colours, "t=0.5, not 0.25"),
        (discoverer("nngcd", net, views=ViewConfig(32, 2, crop=0.5)), colours, "views.crop="),
        (discoverer("nngcd", net), other, "pictures and labels="),
        (discoverer("nngcd", networks["vit"]), colours, "holds a run with"),
    ]:
        with pytest.raises(CheckpointError, match=name):
            changed.fit(data, folder=state, progress=False)


def test_training_lowers_the_loss_and_a_wild_rate_is_named() -> None:
    head = small_head()
    history = fit_head(head, small_tokens(), recipe(0, epochs=40), progress=False)
    losses = history.curve("loss")
    assert losses[-1] < losses[0] and {"cluster", "entropy", "cls", "nce", "supcon", "hsr"} <= set(
        history.epochs[0]
    )
    tokens = small_tokens()
    tokens.array[0, :, 0, 0] = np.nan
    with pytest.raises(ConfigError, match="not finite on the pictures"):
        fit_head(small_head(), tokens, recipe(0), progress=False)


def test_cached_tokens_train_as_computed_ones(networks: dict[str, Path], colours: CategoryData) -> None:
    from wildsight.backbones import load_backbone

    network = load_backbone(str(networks["clip"]))
    cached = tokens_of_files(network, [s.image for s in colours.samples], VIEWS)
    assert cached.array.shape[:2] == (len(colours.samples), 3)
    trunk = Trunk(network)
    live = trunk.tokens(network.preprocess([Image.open(colours.samples[4].image)], 32))
    assert np.allclose(cached.array[4, 0], live[0].numpy(), atol=2e-2)


def test_bad_input_is_one_sentence(networks: dict[str, Path], colours: CategoryData, tmp_path: Path) -> None:
    net = networks["resnet"]
    with pytest.raises(ConfigError, match="trains nothing"):
        discoverer("sskmeans", net).fit(colours, epochs=3)
    with pytest.raises(ConfigError, match="below the 2 known"):
        discoverer("nngcd", net, k=1).fit(colours, progress=False)
    with pytest.raises(ConfigError, match="unknown hyper-parameter 'speed'"):
        CategoryDiscoverer("nngcd", str(net), hyper={"speed": 1})
    with pytest.raises(ConfigError, match="unknown training setting 'speed'"):
        discoverer("nngcd", net).fit(colours, speed=9)
    with pytest.raises(ConfigError, match="did you mean 'doubt'"):
        CategoryDiscoverer("sskmeans", str(net), dout=0.5)
    with pytest.raises(ConfigError, match="split='val' is unknown"):
        discoverer("sskmeans", net).fit(colours).evaluate(colours, split="val")
    with pytest.raises(ConfigError, match="not fitted"):
        discoverer("sskmeans", net).predict(np.zeros((8, 8)))
    same = make_folder(tmp_path / "same", 2)
    for file in same.rglob("*.png"):
        Image.new("RGB", (16, 16)).save(file)
    with pytest.raises(DataError, match="look the same"):
        discoverer("sskmeans", net).fit(same)
    broken = make_folder(tmp_path / "broken", 2)
    (broken / "unlabelled" / "a" / "00.png").write_text("no picture")
    made = discoverer("sskmeans", net).fit(broken)
    assert len(made.results()) == 7 and "00.png" in str(made.need_fit().errors[0])
    for file in (broken / "labelled" / "red").glob("*.png"):
        file.write_text("no picture")
    with pytest.raises(DataError, match="no readable picture of red"):
        discoverer("sskmeans", net).fit(broken)


def test_another_backbone_or_other_classes_are_refused(
    networks: dict[str, Path], colours: CategoryData, tmp_path: Path
) -> None:
    made = discoverer("sskmeans", networks["resnet"]).fit(colours)
    made.save_pretrained(tmp_path / "c")
    with pytest.raises(CheckpointError, match="other weights"):
        CategoryDiscoverer.from_pretrained(tmp_path / "c", backbone=str(networks["vit"]))
    other = make_folder(tmp_path / "other", 2)
    (other / "labelled" / "red").rename(other / "labelled" / "rouge")
    with pytest.raises(DataError, match="known classes"):
        made.evaluate(other)


def test_pictures_damaged_or_mended_since_the_fit_are_left_out_of_its_scores(
    networks: dict[str, Path], tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "mine", 3)
    files = sorted((folder / "unlabelled").rglob("*.png"))
    whole = files[0].read_bytes()
    files[0].write_text("no picture")
    made = discoverer("sskmeans", networks["resnet"]).fit(folder)
    groups = {r.image: r.group for r in made.results()}
    made.save_pretrained(tmp_path / "c")
    files[0].write_bytes(whole)
    files[5].write_text("no picture")
    found = CategoryDiscoverer.from_pretrained(tmp_path / "c").evaluate(folder)
    left = [s.image for s in read_source(folder).unlabelled if s.image not in (files[0], files[5])]
    assert found.rows[0]["transductive"] and found.pred.tolist() == [groups[f] for f in left]
    assert len(found.errors) == 2 and "when the groups were made" in found.errors[1]


@pytest.mark.parametrize("method", ["sskmeans", "nngcd"])
def test_other_pictures_of_the_same_classes_are_predicted(
    method: str, networks: dict[str, Path], colours: CategoryData, tmp_path: Path
) -> None:
    made = discoverer(method, networks["resnet"]).fit(colours, progress=False)
    other = make_folder(tmp_path / "other", 3)
    row = made.evaluate(other).rows[0]
    assert not row["transductive"] and row["pictures"] == 12
    predicted = made.predict([s.image for s in read_source(other).unlabelled])
    assert len(predicted) == 12


def test_a_fit_into_a_folder_leaves_a_run_that_is_not_written_over_once_edited(
    networks: dict[str, Path], colours: CategoryData, tmp_path: Path
) -> None:
    out, net = tmp_path / "run", networks["resnet"]
    discoverer("nngcd", net).fit(colours, out, progress=False)
    assert {p.name for p in out.iterdir()} >= {
        "checkpoint",
        "groups.csv",
        "report.html",
        "results.csv",
        "sheets",
    }
    assert (out / "train" / "log.csv").is_file() and not (out / "train" / "state").exists()
    (out / "groups.csv").write_text((out / "groups.csv").read_text().replace("new_000", "sky"))
    with pytest.raises(ConfigError, match="edited in groups"):
        discoverer("nngcd", net).fit(colours, out, progress=False)
    discoverer("sskmeans", net).fit(colours, out, again=True, progress=False)
    assert "sky" not in (out / "groups.csv").read_text()


def test_every_form_of_a_picture_is_predicted_alike(
    networks: dict[str, Path], colours: CategoryData, tmp_path: Path
) -> None:
    made, file = (
        discoverer("sskmeans", networks["resnet"]).fit(colours, progress=False),
        colours.samples[0].image,
    )
    forms = [
        file,
        str(file),
        file.read_bytes(),
        Image.open(file),
        np.asarray(Image.open(file).convert("RGB")),
    ]
    results = made.predict(forms, batch_size=1)  # a row is rounded by its place in a batch
    assert len({(r.name, r.confidence) for r in results}) == 1 and made.predict([]) == []
    assert made.predict(images=file)[0].to_dict() == results[0].to_dict()
    (tmp_path / "bad.png").write_text("no picture")
    done: list[int] = []
    found, errors = made.predict_files([file, tmp_path / "bad.png"], progress=done.append)
    assert len(found) == 1 and "bad.png" in str(errors[0]) and sum(done) == 2
    assert made.to("cpu").predict(file)[0].confidence == results[0].confidence
    again = type(made)(**made.get_params())
    assert again.settings == made.settings and again.method == made.method


def test_the_old_settings_and_the_new_ones_make_the_same_object(networks: dict[str, Path]) -> None:
    net = str(networks["resnet"])
    old = CategoryDiscoverer("nngcd", net, views=ViewConfig(32, 2, crop=0.5), hyper={"sigma": "inf"})
    new = CategoryDiscoverer(NNGCD(sigma=float("inf")), net, views=2, image_size=32, crop=0.5)
    assert old.settings == new.settings and old.method == new.method and new.hyper == {"sigma": "inf"}
    preset = CategoryDiscoverer("nngcd-released:cub", net, hyper={"t": 1.0})
    assert preset.method == replace(NNGCD.released("cub"), t=1.0) and preset.settings.method == "nngcd"
