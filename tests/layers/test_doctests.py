import doctest
import importlib

import pytest

MODULES = (
    "base", "bidirectional", "from_torch_nn", "to_torch_nn", "built_in", "init", "readout",
    "recurrent", "saving", "sequence_model", "stack",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"longlag.layers.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
