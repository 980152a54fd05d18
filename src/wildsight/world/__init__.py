"""The embedded world: procedural pictures with exact labels, equal bits for the same seed on one machine.

One description renders to everything: `scene` says what stands where, `render` draws it, `labels` says what
is where, `sensors` sees it in other ways, `language` talks about it, `drawing` sketches it. `products`
draws product-like objects with defects. `sets` builds a data set for every task, `export` writes it to
folders, `sheets` shows it all.
"""

from wildsight.world.products import CATEGORIES, DEFECTS, Product, export_products, render_product

WORLD_VERSION = 2
"""Which pictures a seed gives; part of the name of every cached data set. 2: noise from a hash, no BLAS."""

__all__ = ["CATEGORIES", "DEFECTS", "WORLD_VERSION", "Product", "export_products", "render_product"]
