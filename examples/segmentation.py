"""Outline a defect from a box: the source of `notebooks/segmentation.ipynb`."""
# ruff: noqa: E402, E501

# %% [markdown]
# # Outline a defect from a box
#
# SAM outlines whatever a box or a click marks. `zero-shot` is SAM as it is; `spt` learns a few outlined defects.
# %%
from wildsight import AnomalySegmenter
from wildsight.segmentation.result import FINAL, paint
from wildsight.world.products import render_product

picture = render_product("tile", 3, defect="stain").image
segmenter = AnomalySegmenter("zero-shot")
result = segmenter.predict(picture, boxes=[(20, 20, 100, 100)])[0]
print(int(result.mask.sum()), "pixels")
# %% [markdown]
# The mask drawn on the picture. A click works as well: `points=[[(64, 64)]]`.
# %%
from wildsight.images import from_array

paint(from_array(picture), result.mask, FINAL)
