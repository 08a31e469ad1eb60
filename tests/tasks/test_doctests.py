"""The examples in the docstrings run and give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import longlag.tasks

MODULES = [module.name for module in pkgutil.iter_modules(longlag.tasks.__path__)]
WITHOUT_EXAMPLES = {"arrays", "criteria"}


@pytest.mark.parametrize("name", sorted(set(MODULES) - WITHOUT_EXAMPLES))
def test_examples_of_module(name):
    result = doctest.testmod(importlib.import_module(f"longlag.tasks.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_task_has_an_example():
    finder = doctest.DocTestFinder(recurse=False)
    for name in longlag.tasks.__all__:
        public = getattr(longlag.tasks, name)
        is_task = isinstance(public, type) and issubclass(public, longlag.tasks.Task)
        if is_task and public is not longlag.tasks.Task:
            assert any(test.examples for test in finder.find(public, name)), name
