"""Find a photo from a sketch: the source of `notebooks/retrieval.ipynb`."""
# ruff: noqa: E402, E501

# %% [markdown]
# # Find a photo from a sketch
#
# The retriever learns to match drawings and photos of some solids; the test asks for solids that it never saw.
# %%
from wildsight import SketchRetriever
from wildsight.retrieval.data import read_source

data = read_source("world")
retriever = SketchRetriever("quadruplet", "nano-conv", image_size=96).fit(data, epochs=1, progress=False)
# %% [markdown]
# Photos go into an index once. It is one file here, and the same collection on a cluster by its address.
# %%
import tempfile
from pathlib import Path

from wildsight.retrieval.data import PHOTO, SKETCH

index = Path(tempfile.mkdtemp()) / "photos.db"
retriever.index([item.file for item in data.part("test", PHOTO)][:40], index)
sketch = data.part("test", SKETCH)[0].file
for hit in retriever.search(sketch, index, k=3)[0].hits:
    print(hit.path.name, round(hit.distance, 3))
# %%
retriever.evaluate(data).row["map_all"]
