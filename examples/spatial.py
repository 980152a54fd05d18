"""Where is it, in metres: the source of `notebooks/spatial.ipynb`."""
# ruff: noqa: B018, E501

# %% [markdown]
# # Where is it, in metres
#
# One picture, a sentence and a focal length give a box in the camera's frame. A handful of pictures and one pass
# are far too little to learn it: this shows how the pieces fit, and the answer is wrong by metres.
# %%
from wildsight import SpatialGrounder
from wildsight.spatial.bench import tiny_llava
from wildsight.spatial.data import world

data = world(24, 2, 96)
grounder = SpatialGrounder("llmi3d", tiny_llava(), hyper={"pool": 3, "d": 32, "tune": "full"}, strides=(8,))
grounder.fit(data, epochs=1, progress=False)
sample = next(s for s in data.part("test") if s.targets)
result = grounder.predict(sample.image, sample.expression, focal=sample.camera.fx)[0]
print(result.answer)
# %% [markdown]
# The truth in green, on the picture and from above.
# %%
result.strip(sample.targets)
# %% [markdown]
# Without a focal length it is guessed, and the answer says so.
# %%
grounder.predict(sample.image, sample.expression)[0].flags
