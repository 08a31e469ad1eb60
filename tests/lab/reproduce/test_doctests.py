import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["outcome", "record", "trials"])
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"longlag.lab.reproduce.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
