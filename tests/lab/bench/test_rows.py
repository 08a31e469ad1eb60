import pytest

from longlag.lab.bench.rows import CELLS, ROWS, quick, select


def test_the_rows_of_the_design_are_there():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    sizes = (
        "1x1000x16x16", "32x64x15x16", "32x100x64x64", "32x784x1x128", "64x256x128x256",
        "32x100x101x512",
    )  # fmt: skip
    for cell in CELLS:
        assert {f"{cell}-{size}" for size in sizes} <= set(names)
    assert "elman-1x100000x1x64" in names
    assert "elman-1x100x2x12-replicas64" in names
    assert sum(row.ragged for row in ROWS) == 3


def test_rows_are_chosen_by_cell_and_by_part_of_the_name():
    assert select(ROWS) == ROWS
    assert select(ROWS, names=["ragged"]) == tuple(row for row in ROWS if row.ragged)
    assert {row.cell for row in select(ROWS, cells=["own", "gru"])} == {"own", "gru"}
    assert select(ROWS, cells=["own"], names=["ragged"]) == ()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_quick_row_is_the_same_network_on_little_data(row):
    little = quick(row)
    assert (little.cell, little.ragged) == (row.cell, row.ragged)
    assert (little.replicas is None) == (row.replicas is None)
    assert little.batch * little.steps * little.hidden <= 4 * 12 * 24
