from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import longlag.data

MODULES = [f"longlag.data.{module.name}" for module in pkgutil.iter_modules(longlag.data.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_class_and_function_has_an_example():
    public = [getattr(longlag.data, name) for name in longlag.data.__all__]
    documented = [item for item in public if inspect.isclass(item) or inspect.isfunction(item)]
    assert len(documented) >= 9
    for item in documented:
        assert ">>> " in (item.__doc__ or ""), item
