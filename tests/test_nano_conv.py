"""nano-conv: how it is made (on a tiny teacher and rendered pictures), and the one that is shipped."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nano_models import tiny_teacher
from tools.nano.conv_eval import linear_probe, share_of_the_way
from tools.nano.conv_pipeline import golden, pretrain_conv
from tools.nano.conv_train import ConvConfig, embedding_loss, look, new_student, to_pixels
from tools.nano.pictures import training_files, world_pictures
from wildsight.backbones import hub
from wildsight.backbones.backbone import IMAGENET, Backbone, load_backbone
from wildsight.backbones.hub import nano_names
from wildsight.errors import CheckpointError, ConfigError, DataError
from wildsight.files import read_json, verify_manifest

TINY = ConvConfig(widths=(8, 8, 16), depths=(1, 1, 1), size=32, steps=4, batch_size=4, world=8)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def made(teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("nano") / "nano-conv"
    return pretrain_conv(out, teacher=teacher, config=TINY, progress=False)


@pytest.fixture(scope="module")
def shipped() -> Backbone:
    if "nano-conv" not in nano_names():
        pytest.skip("nano-conv has not been trained into this package")
    return load_backbone("nano-conv")


def test_the_command_writes_a_whole_checkpoint(made: Path) -> None:
    verify_manifest(made)
    names = {p.name for p in made.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"} <= names
    facts = read_json(made / "training.json")
    assert facts["golden"] == golden(load_backbone(made))
    assert "Not measured" in (made / "README.md").read_text()


def test_training_moves_the_weights_and_a_second_call_reproduces_them(
    made: Path, teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    again = pretrain_conv(tmp_path / "again", teacher=teacher, config=TINY, progress=False)
    first, second = load_backbone(made).model.state_dict(), load_backbone(again).model.state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    fresh = new_student(TINY).state_dict()
    assert any(not torch.allclose(first[k], fresh[k], atol=1e-3) for k in first if k.endswith("weight"))


def test_a_damaged_file_is_refused_by_its_hash(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "nano-conv")
    monkeypatch.setattr(hub, "NANO", tmp_path)
    load_backbone("nano-conv")
    weights = tmp_path / "nano-conv" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_backbone("nano-conv")


def test_the_design_has_strides_2_to_16_and_its_size() -> None:
    network = new_student(ConvConfig())
    assert 0.5e6 <= sum(p.numel() for p in network.parameters()) <= 1.5e6
    maps = Backbone(network, "fresh", "", *IMAGENET).pyramid(torch.zeros(1, 3, 64, 96))
    assert {s: tuple(m.shape[1:]) for s, m in maps.items()} == {
        2: (32, 32, 48), 4: (32, 16, 24), 8: (64, 8, 12), 16: (160, 4, 6)
    }  # fmt: skip


def test_pixels_are_normalised_like_the_backbone_does() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    from PIL import Image

    frozen = Backbone(new_student(TINY), "fresh", "", *IMAGENET)
    expected = frozen.preprocess([Image.fromarray(picture)], 32)
    assert torch.allclose(to_pixels(torch.from_numpy(picture[None]), *IMAGENET), expected, atol=1e-6)


def test_look_agrees_with_the_backbones_own_reading(teacher: str) -> None:
    frozen = load_backbone(teacher)
    pictures = torch.from_numpy(world_pictures(2, 32))
    maps, embedding = look(frozen, pictures)
    pixels = to_pixels(pictures, frozen.mean, frozen.std)
    for stride, own in frozen.pyramid(pixels, (4, 8, 16)).items():
        assert torch.allclose(maps[stride], own, atol=1e-5)
    cls = frozen.features(pixels).cls
    assert cls is not None and torch.allclose(embedding, cls, atol=1e-5)


def test_embedding_loss_ignores_length_and_ends_at_two() -> None:
    a = torch.randn(5, 7)
    assert embedding_loss(a, 3 * a).item() == pytest.approx(0.0, abs=1e-6)
    assert embedding_loss(a, -a).item() == pytest.approx(2.0, abs=1e-6)


def test_linear_probe_separates_what_is_separable() -> None:
    rng = np.random.default_rng(0)
    labels = ["a", "b"] * 20
    features = rng.normal(0, 0.1, (40, 3)) + np.array([[1.0, 0, 0], [-1.0, 0, 0]] * 20)
    assert linear_probe(features, labels, features, labels) == 1.0
    assert share_of_the_way(0.2, 0.2, 0.6) == 0.0 and share_of_the_way(0.2, 0.6, 0.6) == 1.0


def test_mistakes_are_named(tmp_path: Path, teacher: str) -> None:
    with pytest.raises(DataError, match="none of the known sets"):
        training_files(tmp_path)
    with pytest.raises(ConfigError, match="steps=0"):
        pretrain_conv(tmp_path / "x", teacher=teacher, config=ConvConfig(steps=0))


def test_only_training_parts_are_learned_from(shared: Path) -> None:
    files = [f for group in training_files(shared / "data").values() for f in group]
    parts = {part for f in files for part in f.parts}
    assert len(files) > 10_000 and not parts & {"test", "val", "ground_truth"}


def test_the_shipped_one_reproduces_its_golden_values(shipped: Backbone) -> None:
    facts = read_json(hub.NANO / "nano-conv" / "training.json")
    assert golden(shipped) == pytest.approx(facts["golden"], abs=2e-3)
    assert sorted(shipped.pyramid(torch.zeros(1, 3, 64, 64))) == [2, 4, 8, 16]
