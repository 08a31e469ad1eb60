import doctest
import importlib
import pkgutil

import longlag.lab.bench


def test_doctests():
    attempted = 0
    for info in pkgutil.iter_modules(longlag.lab.bench.__path__, "longlag.lab.bench."):
        result = doctest.testmod(importlib.import_module(info.name))
        assert result.failed == 0, info.name
        attempted += result.attempted
    assert attempted > 5
