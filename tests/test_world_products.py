"""The products: deterministic, masks that say exactly what changed, the benchmark's folder layout."""

import numpy as np
import pytest

from wildsight.datasets.masks import read_mask as load_mask
from wildsight.errors import ConfigError
from wildsight.images import load_image
from wildsight.world.products import CATEGORIES, DEFECTS, export_products, render_product


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("defect", DEFECTS)
def test_mask_is_where_the_defect_is(category, defect):
    for seed in (1, 2):
        good = render_product(category, seed, size=64)
        bad = render_product(category, seed, defect=defect, size=64)
        assert not good.mask.any()
        assert 0.0005 < bad.mask.mean() < 0.25
        change = np.abs(bad.image.astype(int) - good.image).max(-1)
        assert change[~bad.mask].max() <= 7  # both share the sensor noise: 6 levels and rounding
        assert change[bad.mask].min() >= 1


def test_same_seed_same_picture_other_seed_other_picture():
    first, again, other = (render_product("pcb", s, defect="stain", size=64) for s in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image)


def test_export_writes_the_benchmark_layout(tmp_path):
    root = export_products(tmp_path / "products", good=1, test_good=1, test_bad=len(DEFECTS) + 1, size=32)
    assert sorted(p.name for p in root.iterdir() if p.is_dir()) == sorted(CATEGORIES)
    for category in CATEGORIES:
        assert (root / category / "train/good/000.png").is_file()
        assert (root / category / "test/good/000.png").is_file()
        assert (root / category / "test" / DEFECTS[0] / "001.png").is_file()
        for defect in DEFECTS:
            mask = load_mask(root / category / "ground_truth" / defect / "000_mask.png")
            assert mask.shape == (32, 32)
            assert load_image(root / category / "test" / defect / "000.png").size == (32, 32)


@pytest.mark.parametrize(
    ("category", "options"), [("spoon", {}), ("bolt", {"defect": "rust"}), ("bolt", {"size": 8})]
)
def test_impossible_settings_name_the_choice(category, options):
    with pytest.raises(ConfigError, match=r"choose one of|32 to 1024"):
        render_product(category, 0, **options)


def test_export_refuses_no_training_picture(tmp_path):
    with pytest.raises(ConfigError, match="good: is 0"):
        export_products(tmp_path / "x", good=0)
