import doctest

import pytest

from longlag.storage import archive, atomic, trees


@pytest.mark.parametrize("module", [archive, atomic, trees], ids=lambda module: module.__name__)
def test_docstring_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
