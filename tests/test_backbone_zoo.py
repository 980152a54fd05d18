"""Backbones of real classes with the real geometry of their published checkpoints; few, narrow layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from segmentation_models import sam2_video, sam3
from vlm_models import tokenizer
from wildsight.backbones import Backbone, load_backbone
from wildsight.backbones.taps import all_maps, first_maps
from wildsight.errors import CheckpointError, ConfigError, UnsupportedModelError
from wildsight.segmentation import AnomalySegmenter

VIT = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
STAGES: dict[str, Any] = {"embed_dim": 16, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 4, 8]}
NARROW: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
PATCH16 = (16,)
FOUR = (4, 8, 16, 32)

MODELS: dict[str, tuple[Any, int, tuple[int, ...]]] = {
    "swin window 7": (lambda: hf.SwinModel(hf.SwinConfig(**STAGES)), 224, FOUR),
    "swin window 12": (
        lambda: hf.SwinModel(hf.SwinConfig(image_size=384, window_size=12, **STAGES)), 384, FOUR,
    ),
    "swinv2": (lambda: hf.Swinv2Model(hf.Swinv2Config(image_size=256, window_size=8, **STAGES)), 256, FOUR),
    "hiera": (lambda: hf.HieraModel(hf.HieraConfig(**STAGES)), 224, FOUR),
    "aimv2": (lambda: hf.Aimv2VisionModel(hf.Aimv2VisionConfig(**VIT)), 224, (14,)),
    "vit-mae": (lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**VIT)), 224, PATCH16),
    "beit": (lambda: hf.BeitModel(hf.BeitConfig(use_relative_position_bias=True, **VIT)), 224, PATCH16),
    "ijepa": (lambda: hf.IJepaModel(hf.IJepaConfig(**VIT)), 224, PATCH16),
    "dinov3": (lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(num_register_tokens=4, **VIT)), 224, PATCH16),
    "dinov3 convnext": (lambda: hf.DINOv3ConvNextModel(hf.DINOv3ConvNextConfig(**NARROW)), 224, FOUR),
    "convnextv2": (lambda: hf.ConvNextV2Model(hf.ConvNextV2Config(**NARROW)), 224, FOUR),
    "pvtv2": (
        lambda: hf.PvtV2Model(hf.PvtV2Config(hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 3, 4])),
        224, FOUR,
    ),
    "segformer": (
        lambda: hf.SegformerModel(
            hf.SegformerConfig(hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 3, 4])
        ),
        224, FOUR,
    ),
}  # fmt: skip


def noise(side: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def made(name: str) -> Backbone:
    torch.manual_seed(0)
    return Backbone(MODELS[name][0](), name, "", (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("name", MODELS)
def test_real_geometry_gives_strides_and_stays_as_it_is(name: str) -> None:
    backbone, (_, side, strides) = made(name), MODELS[name]
    pixels = noise(side, batch=2)
    before = backbone.features(pixels)
    assert backbone.strides == strides
    maps = backbone.pyramid(pixels, strides)
    assert {s: tuple(m.shape[2:]) for s, m in maps.items()} == {s: (side // s, side // s) for s in strides}
    again = backbone.features(pixels)
    assert torch.equal(before.patches, again.patches), "probing the strides changed it, or it is random"
    assert before.grid == (side // strides[-1],) * 2
    alone = backbone.features(pixels[:1])
    torch.testing.assert_close(alone.patches, before.patches[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("swin window 12", "ijepa")])
def test_a_pass_ends_at_the_last_map_asked_for_and_changes_no_bit(name: str) -> None:
    """Hiera's maps are not what its blocks take: it runs to its end."""
    backbone, side = made(name), MODELS[name][1]
    assert (backbone.strides and backbone._blocks is None) == (name == "hiera")
    pixels = noise(side, batch=2)
    with torch.no_grad():
        whole = all_maps(backbone._tower, pixels, backbone._patch)
        for count in range(1, len(whole) if backbone._blocks else 0):
            first = first_maps(backbone._tower, pixels, backbone._patch, backbone._blocks, count)
            assert len(first) == count
            for one, other in zip(first, whole, strict=False):
                assert torch.equal(one, other) and one.stride() == other.stride()
    assert not any(m._forward_pre_hooks for m in backbone.model.modules()), "left as it was"


def test_resnet_runs_its_stem_once_and_no_stage_too_many() -> None:
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 24], depths=[1] * 4)
    backbone, calls = Backbone(hf.ResNetModel(config), "resnet", "", (0.5,) * 3, (0.5,) * 3), []
    assert backbone.strides == (2, *FOUR)
    parts = [backbone.model.embedder.embedder, *backbone.model.encoder.stages]
    for index, part in enumerate(parts):
        part.register_forward_hook(lambda *_, index=index: calls.append(index))
    backbone.pyramid(noise(64), (2, 4, 8))
    assert calls == [0, 1, 2]
    calls.clear()
    backbone.pyramid(noise(64), (2,))
    assert calls == [0]


def test_swin_is_as_before_after_a_picture_that_is_too_small() -> None:
    backbone, pixels = made("swin window 7"), noise(224)
    before = backbone.features(pixels).patches
    with pytest.raises(UnsupportedModelError, match=r"takes no pictures of 64 x 64 pixels .*; use 224 x 224"):
        backbone.features(noise(64))
    assert torch.equal(backbone.features(pixels).patches, before)


def test_hiera_maps_have_their_channels_in_front() -> None:
    backbone, pixels = made("hiera"), noise(224)
    maps = backbone.pyramid(pixels, FOUR)
    assert [m.shape[1] for m in maps.values()] == [16, 32, 64, 128]
    with torch.no_grad():
        last = backbone.model(pixels, output_hidden_states=True).reshaped_hidden_states[-1]
    assert torch.equal(maps[32], last.permute(0, 3, 1, 2))


def test_a_masked_autoencoder_sees_every_patch_in_raster_order() -> None:
    backbone, pixels = made("vit-mae"), noise(224)
    features = backbone.features(pixels)
    assert features.grid == (14, 14) and features.patches.shape[1] == 196
    assert backbone.model.config.mask_ratio == 0.75, "left as it was"
    changed = pixels.clone()
    changed[..., 16:32, 32:48] += 3.0  # the patch in row 1, column 2
    moved = (backbone.pyramid(changed, PATCH16)[16] - backbone.pyramid(pixels, PATCH16)[16]).abs().sum(1)[0]
    assert moved.argmax().item() == 14 + 2


def test_naflex_is_refused_by_name(tmp_path: Path) -> None:
    config = hf.Siglip2Config(text_config={**VIT, "vocab_size": 9}, vision_config=VIT)
    hf.Siglip2Model(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match="NaFlex"):
        load_backbone(tmp_path)


def clip(folder: Path) -> Path:
    torch.manual_seed(0)
    vision = {**VIT, "patch_size": 32, "image_size": 224}
    text = {**VIT, "vocab_size": 99, "eos_token_id": 2}
    hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    return folder


def test_pytorch_weights_load_as_safetensors_do(tmp_path: Path) -> None:
    """The main branch of ``openai/clip-vit-base-patch32`` holds ``pytorch_model.bin`` alone."""
    expected = load_backbone(clip(tmp_path / "safe")).embed_images(noise(224))
    clip(tmp_path / "bin")
    weights = load_file(tmp_path / "bin" / "model.safetensors")
    (tmp_path / "bin" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "bin" / "pytorch_model.bin")
    assert torch.equal(load_backbone(tmp_path / "bin").embed_images(noise(224)), expected)
    parts = list(weights.items())
    names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    torch.save(dict(parts[:9]), tmp_path / "bin" / names[0])
    torch.save(dict(parts[9:]), tmp_path / "bin" / names[1])
    (tmp_path / "bin" / "pytorch_model.bin").unlink()
    index = {"metadata": {}, "weight_map": {k: names[i >= 9] for i, (k, _) in enumerate(parts)}}
    (tmp_path / "bin" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert torch.equal(load_backbone(tmp_path / "bin").embed_images(noise(224)), expected)


class Payload:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('code in the weights was run')",)


def test_code_in_pytorch_weights_is_not_run(tmp_path: Path) -> None:
    (clip(tmp_path) / "model.safetensors").unlink()
    torch.save({"weight": Payload()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot be loaded") as raised:
        load_backbone(tmp_path)
    assert "\n" not in str(raised.value)


def siglip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {**VIT, "vocab_size": 512, "max_position_embeddings": 16}
    config = hf.SiglipConfig(text_config=text, vision_config={**VIT, "image_size": 32, "patch_size": 16})
    hf.SiglipModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_siglip_texts_go_without_a_mask_and_in_lower_case(tmp_path: Path) -> None:
    backbone = load_backbone(siglip(tmp_path))
    found = backbone.embed_texts(["A Red cube"])
    tokens = backbone._tokenizer(["a red cube"], padding="max_length", max_length=16, return_tensors="pt")
    assert not tokens["attention_mask"].all(), "there is padding"
    with torch.no_grad():
        expected = backbone.model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
        masked = backbone.model.get_text_features(**{k: tokens[k] for k in ("input_ids", "attention_mask")})
    assert torch.equal(found, expected)
    assert not torch.allclose(found, masked.pooler_output, atol=1e-3), "a mask would be seen"


def test_whether_a_backbone_reads_texts(tmp_path: Path) -> None:
    assert load_backbone(siglip(tmp_path / "siglip")).has_text
    bare = load_backbone(clip(tmp_path / "clip"))
    assert bare.shared_space and not bare.has_text, "its tokenizer is missing"
    for name in ("nano-conv", "nano-sam"):
        assert not load_backbone(name).shared_space and not load_backbone(name).has_text
    assert load_backbone("nano-clip").has_text


def test_a_tokenizer_that_needs_a_package_names_it(tmp_path: Path) -> None:
    siglip(tmp_path)
    for file in tmp_path.glob("*token*"):
        file.unlink()
    (tmp_path / "spiece.model").write_bytes(b"")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "SiglipTokenizer"}')
    with pytest.raises(UnsupportedModelError, match="tokenizer") as raised:
        load_backbone(tmp_path).embed_texts(["a cube"])
    assert "tokenizer.json" in str(raised.value.hint) and "\n" not in str(raised.value)


def test_sam2_comes_as_the_class_for_pictures(tmp_path: Path) -> None:
    """``facebook/sam2.1-hiera-*`` name the class for videos in their configuration."""
    torch.manual_seed(0)
    sam2_video().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "sam2_video"
    backbone = load_backbone(tmp_path)
    assert type(backbone.model).__name__ == "Sam2Model"
    segmenter = AnomalySegmenter("zero-shot", backbone)
    (result,) = segmenter.predict(np.zeros((64, 64, 3), np.uint8), boxes=[(8, 8, 40, 40)])
    assert result.masks.shape == (1, 64, 64)


def test_sam3_comes_as_the_class_for_pictures(tmp_path: Path) -> None:
    """``facebook/sam3`` holds a detector and a tracker; the tracker takes boxes and points."""
    parts = sam3().config
    text = {**VIT, "vocab_size": 64, "projection_dim": 24}
    layer = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vision = parts.vision_config.to_dict()
    detector = hf.Sam3Config(
        vision_config=vision, text_config=text, geometry_encoder_config=layer, detr_encoder_config=layer,
        detr_decoder_config={**layer, "num_queries": 5}, mask_decoder_config={"hidden_size": 32},
    )  # fmt: skip
    tracker = hf.Sam3TrackerVideoConfig(
        vision_config=vision, prompt_encoder_config=parts.prompt_encoder_config.to_dict(),
        mask_decoder_config=parts.mask_decoder_config.to_dict(), image_size=56, memory_attention_num_layers=1,
    )  # fmt: skip
    config = hf.Sam3VideoConfig(detector_config=detector.to_dict(), tracker_config=tracker.to_dict())
    torch.manual_seed(0)
    model = hf.Sam3VideoModel(config)
    config.save_pretrained(tmp_path)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    backbone = load_backbone(tmp_path)
    assert type(backbone.model).__name__ == "Sam3TrackerModel"
    found, expected = backbone.model.mask_decoder.state_dict(), model.tracker_model.mask_decoder.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    segmenter = AnomalySegmenter("zero-shot", backbone)
    (result,) = segmenter.predict(np.zeros((56, 56, 3), np.uint8), boxes=[(8, 8, 40, 40)])
    assert result.masks.shape == (1, 56, 56)


def test_a_timm_folder_has_its_own_normalisation(tmp_path: Path) -> None:
    clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"] = {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = load_backbone(tmp_path)
    assert (backbone.mean, backbone.std) == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    assert backbone.normalised_by == "config.json"


def test_a_subfolder(tmp_path: Path) -> None:
    clip(tmp_path / "deep" / "inside")
    loaded = load_backbone(tmp_path, subfolder="deep/inside")
    assert loaded.sha == load_backbone(tmp_path / "deep" / "inside").sha
    with pytest.raises(ConfigError, match="no subfolder 'nowhere'"):
        load_backbone(tmp_path, subfolder="nowhere")


def _snapshot(cache: Path, revision: str, commit: str) -> Path:
    """A repository as `huggingface_hub` keeps it."""
    root = cache / "models--someone--model"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / revision).write_text(commit)
    return root / "snapshots" / commit


def test_revisions_of_a_repository_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    clip(_snapshot(tmp_path, "main", "1" * 40))
    older = _snapshot(tmp_path, "v1", "2" * 40)
    file = clip(older) / "model.safetensors"
    torch.save({k: v + 1 for k, v in load_file(file).items()}, older / "pytorch_model.bin")
    file.unlink()
    main, first = load_backbone("someone/model"), load_backbone("someone/model", revision="v1")
    assert main.sha != first.sha and (main.name, first.name) == ("someone/model", "someone/model@v1")
    assert load_backbone(first.name).sha == first.sha
    assert main.folder is not None and main.folder.name == "1" * 40
    with pytest.raises(ConfigError, match=r"someone/model.*could not be fetched"):
        load_backbone("someone/model", revision="v9")


def test_code_of_a_repository_is_never_run(tmp_path: Path) -> None:
    clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "nobodys", "auto_map": {"AutoModel": "modeling.Nobodys"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modeling.py").write_text("raise SystemExit('run')")
    with pytest.raises(UnsupportedModelError, match="needs code of its own repository, which is never run"):
        load_backbone(tmp_path)


def test_weights_of_another_architecture_or_none(tmp_path: Path) -> None:
    file = clip(tmp_path) / "model.safetensors"
    save_file({"a": torch.zeros(2)}, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="weights are missing"):
        load_backbone(tmp_path)
    file.unlink()
    with pytest.raises(ConfigError, match=r"holds no config.json with weights"):
        load_backbone(tmp_path)
