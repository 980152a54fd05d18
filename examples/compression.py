"""The same answer from a quarter of the visual tokens: the source of `notebooks/compression.ipynb`."""

# %% [markdown]
# # The same answer from a quarter of the visual tokens
#
# `compress` is a context manager: the model is left as it was found.
# %%
import tempfile
from pathlib import Path

from wildsight.backbones.vlm import load_model
from wildsight.compression.result import answer
from wildsight.images import from_array
from wildsight.world.sets import questions

asked = questions(seed=977, count=2)
model = load_model("nano-llava")
picture = Path(tempfile.mkdtemp()) / "scene.png"
from_array(asked.images[0]).save(picture)
result = answer(model, picture, asked.questions[0], visual_tokens=0.25, kv_cache=0.5, max_new_tokens=8)
print(asked.questions[0], "->", result.answer, "| full model:", result.full_answer)
# %% [markdown]
# What it cost, and which patches were kept.
# %%
print(result.visual_tokens, {name: round(value, 1) for name, value in result.cost.items()})
result.figure()
