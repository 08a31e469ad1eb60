import doctest

from longlag.scan import programs


def test_docstring_examples_run():
    result = doctest.testmod(programs)
    assert result.attempted > 0
    assert result.failed == 0
