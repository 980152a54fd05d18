"""Contact sheets have one cell for each thing they show."""

from wildsight.world.products import CATEGORIES, DEFECTS
from wildsight.world.sheets import products_sheet, scenes_sheet


def test_sheets_have_a_cell_for_each_picture():
    assert products_sheet(size=32).size == (32 * (1 + len(DEFECTS)), 64 * len(CATEGORIES))
    assert scenes_sheet(rows=2, columns=3, size=32).size == (96, 64)
