"""The nano checkpoints in the package: whole, small enough, and what their cards say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from wildsight.backbones import hub, load_backbone, nano_folder
from wildsight.backbones.hub import NANO, nano_names
from wildsight.errors import CheckpointError, ConfigError
from wildsight.files import read_json
from wildsight.world import WORLD_VERSION

SHIPPED = [name for name in ("nano-clip", "nano-conv", "nano-llava", "nano-sam") if name in nano_names()]


def test_together_they_take_at_most_25_megabytes() -> None:
    assert SHIPPED
    assert sum(f.stat().st_size for f in NANO.rglob("*") if f.is_file()) <= 25e6


@pytest.mark.parametrize("name", SHIPPED)
def test_each_is_whole_in_half_precision_with_a_card(name: str) -> None:
    from safetensors import safe_open

    folder = nano_folder(name)
    facts = read_json(folder / "training.json")
    with safe_open(folder / "model.safetensors", "pt") as weights:
        kinds = {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118
    assert kinds <= {"F16", "I64"}
    card = " ".join((folder / "README.md").read_text().split())
    assert f"{facts['parameters']:,}" in card and "Again: `wildsight pretrain" in card
    assert sum(p.numel() for p in load_backbone(name).model.parameters()) <= facts["parameters"]


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "nano-conv"])
def test_a_card_holds_scores_on_the_pictures_of_today(name: str) -> None:
    from tools.nano.rescore import CARDS

    facts = read_json(nano_folder(name) / "training.json")
    assert facts["world"]["scores"] == WORLD_VERSION
    assert CARDS[name](facts) == (nano_folder(name) / "README.md").read_text(encoding="utf-8")


def test_what_has_no_scores_on_the_world_is_not_scored_again() -> None:
    from tools.nano.rescore import rescore

    with pytest.raises(ConfigError, match="nano-conv"):
        rescore("nano-conv")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_damaged_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(nano_folder(name), tmp_path / name)
    monkeypatch.setattr(hub, "NANO", tmp_path)
    config = tmp_path / name / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(CheckpointError, match="SHA-256"):
        nano_folder(name)
    with pytest.raises(ConfigError, match="no nano checkpoint"):
        nano_folder("nano-none")


@pytest.mark.skipif("nano-clip" not in SHIPPED, reason="nano-clip is not in this package")
def test_nano_clip_gives_its_golden_values_and_knows_things() -> None:
    from transformers import AutoTokenizer, CLIPModel

    from tools.nano.clip_eval import singles, zero_shot
    from tools.nano.clip_pipeline import golden

    folder = nano_folder("nano-clip")
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    vision = model.config.vision_config
    assert (vision.image_size // vision.patch_size) ** 2 >= 144
    facts = read_json(folder / "training.json")
    assert golden(model, vision.image_size) == pytest.approx(facts["golden"], abs=2e-3)
    words = AutoTokenizer.from_pretrained(folder)
    seen = zero_shot(model, words, *singles(24, vision.image_size, held=False))
    assert seen["pair"] > 0.5 and seen["shape"] > 0.7


@pytest.mark.skipif("nano-llava" not in SHIPPED, reason="nano-llava is not in this package")
def test_nano_llava_has_what_budgets_per_layer_need() -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = nano_folder("nano-llava")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    text = model.config.text_config
    assert text.num_hidden_layers >= 6 and text.num_key_value_heads < text.num_attention_heads
    assert model.config.image_seq_length >= 144
    assert (
        AutoProcessor.from_pretrained(folder).tokenizer.eos_token_id == model.generation_config.eos_token_id
    )


@pytest.mark.skipif("nano-sam" not in SHIPPED, reason="nano-sam is not in this package")
def test_nano_sam_outlines_the_thing_in_a_box() -> None:
    from transformers import SamModel

    from tools.nano.sam import NanoSamConfig
    from tools.nano.sam_pipeline import sam_scores

    folder = nano_folder("nano-sam")
    model = SamModel.from_pretrained(folder, dtype=torch.float32).eval()
    assert model.vision_encoder.config.image_size == 128
    facts = read_json(folder / "training.json")
    own = sam_scores(model, NanoSamConfig(), 6)
    assert own["box"] > facts["scores"]["box"] - 0.2
