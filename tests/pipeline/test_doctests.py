"""The examples in docstrings run."""

import doctest
import importlib
import pkgutil

import longlag.messages
import longlag.pipeline


def test_doctests():
    modules = [longlag.messages]
    for info in pkgutil.iter_modules(longlag.pipeline.__path__):
        modules.append(importlib.import_module(f"longlag.pipeline.{info.name}"))
    attempted = 0
    for module in modules:
        result = doctest.testmod(module)
        assert result.failed == 0, module.__name__
        attempted += result.attempted
    assert attempted >= 6
