"""The embedded world: procedural pictures with exact labels, deterministic from a seed.

`products` draws product-like objects with defects and their pixel masks, for anomaly detection; `scene`
describes objects under a camera, `render` draws them, `labels` says where they are, `sheets` shows it all.
"""

from wildsight.world.products import CATEGORIES, DEFECTS, Product, export_products, render_product

__all__ = ["CATEGORIES", "DEFECTS", "Product", "export_products", "render_product"]
