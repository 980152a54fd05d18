"""Recognise a pair that training never showed: the source of `notebooks/composition.ipynb`."""

# %% [markdown]
# # Recognise a pair that training never showed
#
# Training shows some materials on some solids. The test asks for pairs that it left out.
# %%
from wildsight import CompositionRecognizer
from wildsight.composition.data import read_source, world_folder

data = read_source(world_folder(per_pair=2, size=48))
recognizer = CompositionRecognizer("hdaoe", "nano-clip", image_size=48).fit(data, epochs=2, progress=False)
# %% [markdown]
# The best three of all pairs; `seen` says whether training had the pair.
# %%
sample = data.part("test")[0]
for pair in recognizer.predict(sample.image, top=3)[0].pairs:
    print(pair.text, f"{pair.probability:.0%}", "seen" if pair.seen else "unseen")
# %% [markdown]
# In the closed world only the pairs of the data are candidates; AUC weighs seen against unseen ones.
# %%
recognizer.evaluate(data).rows[0]
