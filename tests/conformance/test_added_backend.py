"""Adding a backend touches one folder and one line of the table: a toy one passes what all pass."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from tests.properties.test_backends_agree import agrees, problems
from tests.scan import cases

import longlag as ll
from longlag.scan import backend as table
from longlag.scan import check_backend


@pytest.fixture(autouse=True)
def _added(monkeypatch):
    """The one line."""
    line = {"toy": "tests.conformance.toy:Toy"}
    monkeypatch.setattr(table, "_TABLE", {**table._TABLE, **line})
    monkeypatch.setattr(table, "BACKENDS", (*table.BACKENDS, *line))


@pytest.mark.parametrize("cell", cases.CELLS.values(), ids=cases.CELLS)
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(problem=problems())
def test_it_is_reference(cell, problem):
    agrees(cell, problem, "toy")


def test_it_is_chosen_checked_and_named_like_the_others():
    check_backend("toy")
    layer = ll.LSTM(2, 3, dtype=torch.float64)  # the last that can do the work
    layer(torch.ones(1, 4, 2, dtype=torch.float64))
    assert layer.backend_used == "toy"
    layer = ll.LSTM(2, 3)
    layer(torch.ones(1, 4, 2))
    assert layer.backend_used == "cpu"
    with pytest.raises(ValueError, match="'toy' cannot run this: it has float64 on the CPU"):
        ll.LSTM(2, 3, backend="toy")(torch.ones(1, 4, 2))
