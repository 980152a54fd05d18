"""The loader of multimodal LLMs on real classes, and the protocol of what prunes their pictures."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compression_models import nano_folder
from vlm_models import save
from wildsight import compress
from wildsight.backbones.vlm import (
    DEFAULT,
    TEMPLATE,
    activate_pruner,
    active_pruner,
    load_model,
    prompt_template,
    release_pruner,
)
from wildsight.compression.result import answer
from wildsight.errors import CheckpointError, ConfigError, UnsupportedModelError, WildSightError
from wildsight.spatial.mllm import load_mllm


def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 255, (60, 80, 3), dtype=np.uint8)) for _ in range(2)]


@pytest.mark.parametrize("family", ["qwen2.5-vl", "llava-onevision", "internvl"])
def test_a_family_with_videos_loads_in_a_default_install(family: str, tmp_path: Path) -> None:
    """Pictures need no video processor, and a video processor needs torchvision."""
    loaded = load_model(save(family, tmp_path), device="cpu")
    assert loaded.model.dtype == torch.float32 and loaded.device == torch.device("cpu")
    assert not any(p.requires_grad for p in loaded.model.parameters())
    inputs = loaded.inputs(pictures(), ["is it red ?", "what is this thing ?"])
    first = inputs["attention_mask"][0]
    assert not first[0] and first[-1], "padded on the left"
    out = loaded.model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert out.shape == (2, inputs["input_ids"].shape[1] + 2)
    again = load_model(tmp_path, device="cpu", precision="bf16")
    assert again.sha == loaded.sha and again.model.dtype == torch.bfloat16
    assert type(again.processor).__name__ == type(loaded.processor).__name__


def test_qwen_is_pruned_as_its_loader_gives_it(tmp_path: Path) -> None:
    loaded = load_model(save("qwen2.5-vl", tmp_path), device="cpu")
    inputs = loaded.inputs(pictures()[:1], ["is it red ?"])
    with compress(loaded.model, visual_tokens=0.5) as handle:
        loaded.model.generate(**inputs, max_new_tokens=2, do_sample=False)
        assert handle.pruned is not None
        assert handle.pruned.columns.shape[1] < inputs["input_ids"].shape[1]


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_package_that_is_truly_needed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs torchvision; pip install torchvision") as raised:
        load_model(save("pixtral", tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(find_spec("num2words") is not None, reason="num2words is installed")
def test_a_processor_that_spells_numbers_names_its_package(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs num2words; pip install num2words"):
        load_model(save("smolvlm", tmp_path), device="cpu")


def test_token_types_reach_a_model_that_reads_them(tmp_path: Path) -> None:
    """The mask both ways over a picture is made of them."""
    loaded = load_model(save("gemma3", tmp_path), device="cpu")
    inputs = loaded.inputs(pictures(), ["is it red ?", "what is this thing ?"])
    image = inputs["input_ids"] == loaded.model.config.image_token_id
    assert torch.equal(inputs["token_type_ids"] == 1, image)


def test_an_answer_counts_all_tiles(tmp_path: Path) -> None:
    loaded = load_model(save("idefics3", tmp_path / "m"), device="cpu")
    pictures()[0].save(tmp_path / "picture.png")
    how = {"repeats": 0, "max_new_tokens": 2, "visual_tokens": 0.25, "visual": "grid"}
    result = answer(loaded, tmp_path / "picture.png", "is it red ?", **how)
    kept, before = result.visual_tokens
    assert before % 16 == 0 and kept == before // 4 and result.grid is None


def test_our_own_model_is_the_default() -> None:
    loaded = load_model(device="cpu")
    assert loaded.name == DEFAULT and loaded.image_size
    assert load_mllm(device="cpu").sha == loaded.sha
    inputs = loaded.inputs(pictures(), ["is there a cube ?"] * 2)
    assert len(loaded.model.generate(**inputs, max_new_tokens=2)) == 2


def test_a_prompt_is_the_template_or_the_chat(tmp_path: Path) -> None:
    loaded = load_model(nano_folder(tmp_path / "plain"), device="cpu")
    assert loaded.prompt("what ?") == TEMPLATE.format(question="what ?")
    assert prompt_template(loaded.processor) == TEMPLATE
    chat = load_model(save("llava-onevision", tmp_path / "chat"), device="cpu")
    assert chat.prompt("what ?") == "USER: <image>\nwhat ? ASSISTANT:"
    assert prompt_template(chat.processor) == "USER: <image>\n{question} ASSISTANT:"


def refused(folder: Path) -> WildSightError:
    with pytest.raises(WildSightError) as raised:
        load_model(folder)
    assert raised.value.hint and "\n" not in str(raised.value) and str(folder) in str(raised.value)
    return raised.value


def test_faults_are_sentences(tmp_path: Path) -> None:
    import transformers as t

    for name, fault in (("no processor", "its processor cannot be read"), ("cut", "cannot be loaded")):
        nano_folder(tmp_path / name)
        for file in (tmp_path / name).glob("*processor*" if name == "no processor" else "*.safetensors"):
            file.unlink() if name == "no processor" else file.write_bytes(file.read_bytes()[:1000])
        assert fault in str(refused(tmp_path / name))
    t.CLIPVisionModel(
        t.CLIPVisionConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path / "clip")
    error = refused(tmp_path / "clip")
    assert isinstance(error, UnsupportedModelError) and "answers no questions about pictures" in str(error)
    t.Florence2Config().save_pretrained(tmp_path / "florence")
    error = refused(tmp_path / "florence")
    assert isinstance(error, UnsupportedModelError) and "encoder-decoder" in str(error)
    (tmp_path / "own").mkdir()
    own = {"model_type": "nobodys", "auto_map": {"AutoModel": "modeling_nobodys.Nobodys"}}
    (tmp_path / "own" / "config.json").write_text(json.dumps(own))
    error = refused(tmp_path / "own")
    assert isinstance(error, UnsupportedModelError) and "code of its own repository" in str(error)
    with pytest.raises(ConfigError, match="did you mean 'cuda'"):
        load_model("nano-nothing", device="cuad")


def test_weights_that_are_missing_are_not_drawn(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (file,) = nano_folder(tmp_path / "m").glob("*.safetensors")
    weights = load_file(file)
    del weights[next(k for k in weights if "v_proj" in k)]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 weights are missing"):
        load_model(tmp_path / "m")


def test_what_prunes_a_model_is_known_while_it_does(tmp_path: Path) -> None:
    model = load_model(nano_folder(tmp_path / "m"), device="cpu").model
    before = dict(vars(model))
    assert active_pruner(model) is None
    handle = compress(model, visual_tokens=9)
    assert active_pruner(model) is handle
    with pytest.raises(ConfigError, match="pruned already"):
        activate_pruner(model, compress(load_model(tmp_path / "m", device="cpu").model, visual_tokens=4))
    handle.remove()
    handle.remove()
    assert active_pruner(model) is None and vars(model).keys() == before.keys()
    with compress(model, kv_cache=0.5):
        assert active_pruner(model) is None, "a smaller cache leaves the pictures as they are"
    with compress(model, visual_tokens=9) as handle:
        release_pruner(model, compress(load_model(tmp_path / "m", device="cpu").model, visual_tokens=4))
        assert active_pruner(model) is handle, "only its own handle releases it"
    assert active_pruner(model) is None
