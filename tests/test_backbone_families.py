"""Backbones on real `transformers` classes with small random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file

from backbone_models import families
from wildsight.backbones import Backbone, load_backbone
from wildsight.backbones.backbone import IMAGENET
from wildsight.errors import CheckpointError, ConfigError, UnsupportedModelError


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint folder per family."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("zoo")
    for name, model in families().items():
        model.save_pretrained(root / name)
    return root


def _noise(height: int, width: int | None = None, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, height, width or height, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("family", "strides"),
    [
        ("efficientnet", (2, 4, 8, 16, 32)),
        ("resnet", (2, 4, 8, 16, 32)),
        ("mobilenet", (2, 4, 8, 16, 32)),
        ("convnext", (4, 8, 16, 32)),
        ("swin", (4, 8, 16, 32)),
        ("vit", (16,)),
        ("dinov2", (14,)),
        ("registers", (14,)),
        ("clip", (8,)),
        ("siglip", (8,)),
    ],
)
def test_each_family_gives_its_strides_and_names_them(
    zoo: Path, family: str, strides: tuple[int, ...]
) -> None:
    backbone = load_backbone(zoo / family)
    assert backbone.strides == strides
    side = 112 if strides == (14,) else 96
    maps = backbone.pyramid(_noise(side, batch=2), strides)
    assert {s: (m.shape[0], *m.shape[2:]) for s, m in maps.items()} == {
        s: (2, side // s, side // s) for s in strides
    }
    with pytest.raises(ConfigError, match=f"stride 64; choose strides from {', '.join(map(str, strides))}"):
        backbone.pyramid(_noise(side), (64,))
    grid = backbone.features(_noise(side, batch=2))
    assert grid.patches.shape[:2] == (2, grid.grid[0] * grid.grid[1]) == (2, (side // strides[-1]) ** 2)
    assert grid.cls is not None and grid.cls.shape == (2, grid.patches.shape[2])


def test_efficientnet_b4_taps_are_those_of_the_spec() -> None:
    torch.manual_seed(0)
    config = hf.EfficientNetConfig(width_coefficient=1.4, depth_coefficient=1.8, hidden_dim=1792)
    backbone = Backbone(hf.EfficientNetModel(config), "b4", "", *IMAGENET)
    pixels, calls = _noise(224), []
    for block in backbone.model.encoder.blocks:
        block.register_forward_hook(lambda *_: calls.append(1))
    assert backbone.strides == (2, 4, 8, 16, 32)
    calls.clear()
    taps = backbone.pyramid(pixels)
    assert len(calls) == 22, "no deeper than the last tap"
    shapes = [tuple(t.shape[1:]) for t in taps.values()]
    assert shapes == [(24, 112, 112), (32, 56, 56), (56, 28, 28), (160, 14, 14)]
    with torch.no_grad():
        hidden = backbone.model(pixels, output_hidden_states=True).hidden_states
    assert all(torch.equal(t, hidden[i]) for t, i in zip(taps.values(), (2, 6, 10, 22), strict=True))


def test_mobilenet_taps_are_the_last_block_before_each_downsampling(zoo: Path) -> None:
    backbone = load_backbone(zoo / "mobilenet")
    pixels = _noise(64)
    with torch.no_grad():
        hidden = backbone.model(pixels, output_hidden_states=True).hidden_states
    last = {64 // h.shape[-1]: h for h in hidden}
    taps = backbone.pyramid(pixels)
    assert all(torch.equal(taps[s], last[s]) for s in (4, 8, 16))
    with torch.no_grad():
        assert torch.equal(taps[2], backbone.model.conv_stem(pixels))


@pytest.mark.parametrize("family", ["mobilenet", "resnet"])
def test_taps_do_not_move_with_an_odd_picture(zoo: Path, family: str) -> None:
    backbone = load_backbone(zoo / family)
    even, odd = backbone.pyramid(_noise(64)), backbone.pyramid(_noise(49, 33))
    assert [m.shape[1] for m in even.values()] == [m.shape[1] for m in odd.values()]
    assert tuple(odd[16].shape[2:]) == (4, 3)


@pytest.mark.parametrize("family", ["mobilenet", "dinov2", "clip"])
def test_batch_and_order_change_nothing(zoo: Path, family: str) -> None:
    backbone = load_backbone(zoo / family)
    pixels, stride = _noise(56, batch=3), backbone.strides[-1]
    together = backbone.pyramid(pixels, (stride,))[stride]
    alone = torch.cat([backbone.pyramid(p[None], (stride,))[stride] for p in pixels.flip(0)]).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_tokens_lie_where_the_picture_does(zoo: Path) -> None:
    backbone = load_backbone(zoo / "dinov2")
    pixels = _noise(28, 56)
    grid = backbone.features(pixels)
    assert grid.grid == (2, 4)
    changed = backbone.model.embeddings.patch_embeddings
    other = pixels.clone()
    other[..., 14:, 42:] += 1.0
    moved = (changed(pixels) - changed(other)).abs().sum(-1)[0] > 0
    assert moved.unflatten(0, grid.grid).nonzero().tolist() == [[1, 3]]


def test_registers_are_no_patches_even_on_a_tiny_grid(zoo: Path) -> None:
    backbone = load_backbone(zoo / "registers")
    with torch.no_grad():
        hidden = backbone.model(_noise(28)).last_hidden_state
    features = backbone.features(_noise(28))
    assert features.grid == (2, 2)
    assert torch.equal(features.patches, hidden[:, 5:])


def test_chosen_layers_are_concatenated(zoo: Path) -> None:
    backbone = load_backbone(zoo / "vit")
    pixels = _noise(64)
    with torch.no_grad():
        hidden = backbone.model(pixels, output_hidden_states=True).hidden_states
    maps = backbone.pyramid(pixels, (16,), layers=(1, 3))[16]
    expected = torch.cat([hidden[1][:, 1:], hidden[3][:, 1:]], 2).transpose(1, 2).unflatten(2, (4, 4))
    assert torch.equal(maps, expected)
    for wrong in ((4,), ()):
        with pytest.raises(ConfigError, match="no layer"):
            backbone.pyramid(pixels, (16,), layers=wrong)
    with pytest.raises(ConfigError, match="several strides"):
        load_backbone(zoo / "resnet").pyramid(pixels, (16,), layers=(1,))


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"[UNK]": 0, "a": 1, "[END]": 2, "cat": 3, "dog": 4}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    hf.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[END]", eos_token="[END]"
    ).save_pretrained(folder)


@pytest.mark.parametrize(("family", "width"), [("clip", 10), ("siglip", 16)])
def test_pictures_and_texts_share_a_space(zoo: Path, family: str, width: int) -> None:
    with pytest.raises(UnsupportedModelError, match="tokenizer"):
        load_backbone(zoo / family).embed_texts(["a cat"])
    _tokenizer(zoo / family)
    backbone = load_backbone(zoo / family)
    assert backbone.embed_images(_noise(32, batch=2)).shape == (2, width)
    texts = backbone.embed_texts(["a cat", "a dog", "a cat"])
    assert texts.shape == (3, width)
    assert torch.equal(texts[0], texts[2]) and not torch.equal(texts[0], texts[1])
    with pytest.raises(UnsupportedModelError, match="CLIP"):
        load_backbone(zoo / "vit").embed_images(_noise(64))


def test_preprocessing_belongs_to_the_weights(zoo: Path, tmp_path: Path) -> None:
    backbone = load_backbone(zoo / "resnet")
    assert ((backbone.mean, backbone.std), backbone.normalised_by) == (IMAGENET, "ImageNet default")
    white = backbone.preprocess([Image.new("RGB", (9, 5), "white")] * 2, (8, 6))
    assert white.shape == (2, 3, 8, 6)
    torch.testing.assert_close(white[0, :, 0, 0], (1 - torch.tensor(IMAGENET[0])) / torch.tensor(IMAGENET[1]))
    for settings, mean, std in (
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, 0.5, 0.25),
        ({"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}, 0.0, 1.0),
    ):
        copy = _copy(zoo / "resnet", tmp_path / str(mean))
        (copy / "preprocessor_config.json").write_text(json.dumps(settings))
        own = load_backbone(copy)
        assert (own.mean, own.std) == ((mean,) * 3, (std,) * 3)
        assert own.normalised_by == "preprocessor_config.json"
        assert own.sha == backbone.sha


def _copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_a_backbone_is_frozen_and_its_hash_is_its_weights(zoo: Path, tmp_path: Path) -> None:
    backbone = load_backbone(zoo / "resnet")
    assert not backbone.model.training and not any(p.requires_grad for p in backbone.model.parameters())
    assert backbone.sha == load_backbone(_copy(zoo / "resnet", tmp_path / "same")).sha
    other = _copy(zoo / "resnet", tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    next(iter(weights.values())).add_(1)
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert load_backbone(other).sha != backbone.sha


def test_missing_weights_are_refused_not_drawn_at_random(zoo: Path, tmp_path: Path) -> None:
    half = _copy(zoo / "resnet", tmp_path / "half")
    weights = load_file(half / "model.safetensors")
    gone = next(k for k in weights if "encoder" in k and k.endswith("weight"))
    del weights[gone]
    save_file(weights, half / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 weights are missing"):
        load_backbone(half)


def test_wrong_names_are_one_sentence(zoo: Path, tmp_path: Path) -> None:
    for name, words in (
        ("nano-nothing", "no nano checkpoint"),
        ("nobody/nothing", "could not be fetched"),
        (str(tmp_path / "missing"), "could not be fetched"),
        (str(tmp_path), "config.json"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            load_backbone(name)
        assert "\n" not in str(caught.value) and not str(caught.value).rstrip().endswith("of")
    with pytest.raises(ConfigError, match="device"):
        load_backbone(zoo / "resnet", device="toaster")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_backbone(tmp_path)


def test_timm_is_named_when_absent() -> None:
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"wildsight\[timm\]"):
            load_backbone("timm:resnet18")
    else:
        pytest.skip("timm is installed")


def test_real_weights(shared: Path) -> None:
    backbone = load_backbone(shared / "data/weights/mobilenet_v2_imagenet")
    assert (backbone.mean, backbone.normalised_by) == ((0.5,) * 3, "preprocessor_config.json")
    maps = backbone.pyramid(_noise(224))
    shapes = [tuple(m.shape[1:]) for m in maps.values()]
    assert shapes == [(16, 112, 112), (24, 56, 56), (32, 28, 28), (96, 14, 14)]
