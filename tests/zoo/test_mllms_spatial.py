"""The Qwen-VL line in the spatial task, beside LLaVA: what it reads, and a fit that is saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vlm_models import save
from wildsight import compress
from wildsight.errors import ConfigError
from wildsight.spatial import SpatialGrounder, native
from wildsight.spatial.data import world
from wildsight.spatial.methods.llmi3d import LLMI3D, LLMI3DNet
from wildsight.spatial.mllm import load_mllm
from wildsight.spatial.samples import SpatialData

QWEN = ["qwen2-vl", "qwen2.5-vl", "qwen3-vl"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("zoo")
    return {family: save(family, root / family) for family in QWEN}


@pytest.fixture(scope="module")
def data() -> SpatialData:
    return world(3, 1, 96, 0, (1.0,))


def picture(side: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (side, side, 3))
    return Image.fromarray(values.astype(np.uint8))


@pytest.mark.parametrize("family", QWEN)
def test_a_question_is_read_as_the_model_itself_reads_it(family: str, folders: dict[str, Path]) -> None:
    """Tokens, positions and deepstack features against the model's forward over its processor's inputs."""
    from transformers import AutoImageProcessor

    mllm = load_mllm(folders[family], device="cpu")
    model, side, grid = mllm.model, mllm.side, mllm.grid
    assert side % native.unit(model) == 0 and grid > 1
    images = [picture(side), picture(side, 1)]
    theirs = AutoImageProcessor.from_pretrained(folders[family])(images, return_tensors="pt")
    flat, grids = native.patches_of(model, mllm.pixels(images))
    assert torch.equal(grids, theirs["image_grid_thw"])
    assert torch.allclose(flat, theirs["pixel_values"], atol=1e-5)
    net = LLMI3DNet(mllm, 4, LLMI3D(local=False))
    before, after = mllm.prompt("the red cube")
    assert len(before) and len(after), "the chat's own words stand around the picture"
    batch = {
        "tokens": mllm.see(mllm.pixels(images)), "before": torch.tensor([before] * 2),
        "after": torch.tensor([after] * 2), "after_mask": torch.ones(2, len(after)),
    }  # fmt: skip
    parts, _ = net.prefix(batch)
    with torch.no_grad():
        got = net.speaker.read(parts, cache=True)
        ids = torch.tensor([[*before, *[model.config.image_token_id] * grid**2, *after]] * 2)
        wanted = model(
            input_ids=ids, mm_token_type_ids=(ids == model.config.image_token_id).int(),
            output_hidden_states=True, **theirs,
        )  # fmt: skip
        said = net.speaker.speak(got, torch.cat([m for _, m in parts], 1), end=2, most=3)
    assert torch.allclose(got.last_hidden_state, wanted.hidden_states[-1], atol=1e-4)
    spoken = model.generate(
        input_ids=ids, mm_token_type_ids=(ids == model.config.image_token_id).int(), **theirs,
        max_new_tokens=3, do_sample=False,
    )  # fmt: skip
    assert torch.equal(said, spoken[:, ids.shape[1] :][:, : said.shape[1]])
    mllm.restore()


@pytest.mark.parametrize("family", ["qwen2.5-vl", "qwen3-vl"])
def test_a_fit_is_saved_and_loaded(
    family: str, folders: dict[str, Path], data: SpatialData, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"epochs": 1, "batch_size": 4, "progress": False}
    grounder = SpatialGrounder("llmi3d", str(folders[family]), device="cpu").fit(data, **how)
    sample = data.samples[0]
    (first,) = grounder.predict(sample.picture(), sample.expression, focal=60.0)
    grounder.save_pretrained(tmp_path / "saved")
    again = SpatialGrounder.from_pretrained(tmp_path / "saved", device="cpu")
    (second,) = again.predict(sample.picture(), sample.expression, focal=60.0)
    assert first.to_dict() == second.to_dict()
    with compress(again.mllm.model, visual_tokens=0.5), pytest.raises(ConfigError, match="all of its visual"):
        again.predict(sample.picture(), sample.expression, focal=60.0)
