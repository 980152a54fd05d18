"""Sort an unlabelled folder: the source of `notebooks/discovery.ipynb`."""
# ruff: noqa: E501

# %% [markdown]
# # Sort an unlabelled folder
#
# Some classes are known by labelled pictures; the others hide among the unlabelled ones.
# %%
from wildsight import CategoryDiscoverer
from wildsight.discovery.features import ViewConfig

discoverer = CategoryDiscoverer("sskmeans", "nano-conv", k=12, views=ViewConfig(96, 2)).fit(
    "world", progress=False
)
for result in discoverer.results()[:5]:
    print(result.image.name, "->", result.name, result.kind, round(result.confidence, 2))
# %% [markdown]
# The world knows the truth, so the grouping can be scored: all pictures, those of known classes, those of new ones.
# `nngcd` is the paper's method; it learns the space in which it groups.
# %%
discoverer.evaluate("world").rows[0]
