import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["elman", "gru", "indrnn", "leaky", "lstm", "lstm1997"])
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"longlag.cells.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
