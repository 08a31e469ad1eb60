"""The examples in the docstrings are run by pytest itself; here, that they are there."""

import inspect

import pytest

import longlag as ll
from longlag import data, tasks

WITHOUT = {
    "MemoryReport": "memory_report makes it",
    "load": "the example of save loads",
    **dict.fromkeys(("Criterion", "Errors", "Rule", "TaskBatch"), "each task's example has them"),
    **dict.fromkeys(("Driven", "Series", "Task"), "abstract"),
    **dict.fromkeys(("FreeRuns", "InputTarget"), "the examples of the series have them"),
}
NAMES = {
    name: getattr(module, name) for module in (ll, data, tasks) for name in dir(module)
    if name in module.__all__
}  # fmt: skip
PUBLIC = {
    name: public for name, public in NAMES.items()
    if inspect.isclass(public) or inspect.isfunction(public)
}  # fmt: skip


def test_pytest_collects_the_examples_of_the_whole_library(pytestconfig):
    assert pytestconfig.getoption("doctestmodules")
    assert "src/longlag" in pytestconfig.getini("testpaths")


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - WITHOUT.keys()))
def test_what_is_public_has_an_example(name):
    assert ">>> " in (PUBLIC[name].__doc__ or "")
