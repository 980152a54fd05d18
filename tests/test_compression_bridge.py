"""The contract with a serving engine: what it makes of the request is what our own model reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from compression_models import nano_folder
from wildsight.backbones.vlm import LoadedModel, load_model
from wildsight.compression import prune_visual_tokens
from wildsight.compression.bridge import vllm_prompt
from wildsight.compression.prune import encoded
from wildsight.errors import ConfigError
from wildsight.images import from_array


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(nano_folder(tmp_path_factory.mktemp("nano") / "model"))


def picture(seed: int = 0) -> Any:
    return from_array(np.random.default_rng(seed).integers(0, 255, (48, 48, 3), dtype=np.uint8))


def engine(loaded: LoadedModel, request: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """As vLLM's processor for LLaVA: each placeholder becomes as many as its embedding has rows."""
    images = request["multi_modal_data"]["image"]
    assert all(isinstance(i, torch.Tensor) and i.ndim == 2 for i in images)
    token = loaded.model.config.image_token_id
    ids: list[int] = []
    sizes = iter(i.shape[0] for i in images)
    for one in loaded.tokenizer(request["prompt"]).input_ids:
        ids += [token] * next(sizes) if one == token else [one]
    return torch.tensor([ids]), images


@pytest.mark.parametrize("method", ["hybrid", "visionzip"])
def test_the_engine_reads_what_we_read(loaded: LoadedModel, method: str) -> None:
    inputs = loaded.inputs([picture()], ["is there a cube ?"])
    pruned = prune_visual_tokens(loaded.model, inputs, 9, method)
    ids, images = engine(loaded, vllm_prompt(pruned, loaded.prompt("is there a cube ?")))
    assert torch.equal(ids, pruned.ids)
    width = loaded.model.config.text_config.hidden_size
    assert [tuple(i.shape) for i in images] == [(9, width)]
    with torch.no_grad():
        ours = loaded.model(**pruned.inputs()).logits
        theirs = loaded.model(input_ids=ids, mm_encoder_outputs={"image": encoded(images)}).logits
    assert torch.equal(ours, theirs)


def test_what_an_engine_cannot_be_told(loaded: LoadedModel) -> None:
    inputs = loaded.inputs([picture(), picture(1)], ["what colour ?", "is there a cube ?"])
    with pytest.raises(ConfigError, match="2 prompts"):
        vllm_prompt(prune_visual_tokens(loaded.model, inputs, 9), "<image>")
    one = loaded.inputs([picture()], ["is there a cube ?"])
    pruned = prune_visual_tokens(loaded.model, one, 9, positions="original")
    with pytest.raises(ConfigError, match="compact"):
        vllm_prompt(pruned, "<image>", positions="original")
    with pytest.raises(ConfigError, match="0 <image>"):
        vllm_prompt(pruned, "no picture")
