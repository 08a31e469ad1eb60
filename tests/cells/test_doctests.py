import doctest
import importlib

import pytest

from longlag.cells import CELLS


@pytest.mark.parametrize("name", CELLS)
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"longlag.cells.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
