"""One mask from several sensors: the source of `notebooks/fusion.ipynb`."""

# %% [markdown]
# # One mask from several sensors
#
# It learns from pictures and heat; afterwards a sensor may be missing.
# %%
from wildsight import FusionSegmenter
from wildsight.fusion.data import world

data = world(scale=0.1)
segmenter = FusionSegmenter("pwrf").fit(data, modalities=["rgb", "thermal"], epochs=1, progress=False)
scene = data.part("test")[0]
both = segmenter.predict({"rgb": scene.pictures["rgb"], "thermal": scene.pictures["thermal"]})[0]
print({name: round(share, 2) for name, share in both.share.items()})
# %% [markdown]
# At night, with the camera off, heat has to do.
# %%
alone = segmenter.predict({"thermal": scene.pictures["thermal"]})[0]
print(alone.missing, (alone.labels == both.labels).mean())
