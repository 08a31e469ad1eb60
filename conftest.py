"""What holds for every test, and for the examples in the docstrings of src/longlag.

Shape annotations are executed: beartype checks those of the scan, which all layers and methods go
through. The rest is left out: it names no shapes, or says what is wrong with an argument in a
message of its own, which the tests read; and a kernel is written by calls in the hundred thousands.
"""

import gc
import importlib.util
import os
import re
import signal
from collections.abc import Generator, Iterator

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook(["longlag.scan.entry", "longlag.scan.inputs"], "beartype.beartype")

os.environ["KERAS_BACKEND"] = "torch"  # for the examples of longlag.keras

OF_AN_EXTRA = {"jax": "src/longlag/lab/bench/peers/jax_scan.py"}
"""Files that cannot be imported without a package which the tests can do without."""

collect_ignore = [
    path for package, path in OF_AN_EXTRA.items() if importlib.util.find_spec(package) is None
]

SLOW = (
    "cli", "faults", "lab", "mutation", "test_document.py", "test_page.py", "test_registration.py",
)  # fmt: skip

LONG = ("one_unit.py",)
"""An example that compiles for a quarter of a minute what tests/lab compiles too."""

FEW = ("Elman", "LSTM", "GRU", "Wired", "Leaky trained", "own")
"""Cells of all kinds: one and several states and gates, unit parameters, every connection."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Python's collector leaves alone what stands after the collection of the tests.

    That are a million objects, and it would look through all of them again and again: a tenth of
    the time of all tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whole folders and files as slow or long; and what costly tests do for cells not in FEW.

    ``every_cell`` marks such a test, which has the name of its cell in its case: `make test` takes
    a few cells, `make test-long` the others. ``every_cell("slow")``: `make check` takes a few, and
    `make test` all, as of the agreement of every backend with the reference, on which all builds.
    """
    from tests.scan import cases

    others = [re.escape(name) for name in cases.CELLS if name not in FEW]
    of_others = re.compile(rf"(^|-)({'|'.join(others)})($|-)")
    for item in items:
        if any(part in SLOW for part in item.path.parts):
            item.add_marker(pytest.mark.slow)
        if any(part in LONG for part in item.path.parts):
            item.add_marker(pytest.mark.long)
        case = getattr(item, "callspec", None)
        costly = item.get_closest_marker("every_cell")
        if costly is not None and case and of_others.search(case.id):
            item.add_marker("".join(costly.args) or "long")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled kernels of this session alone; the workers of one session share them."""
    folder = tmp_path_factory.getbasetemp()
    if folder.name.startswith("popen-"):
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGLAG_CACHE", str(folder / "cache"))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--hurried``: machine code is made in a fraction of the time, and not for speed.

    `make check` hurries all, `make test` all but the tests of the kernels themselves.
    """
    parser.addoption("--hurried", action="store_true", help="compile kernels without optimization")


@pytest.fixture(scope="session", autouse=True)
def _hurried_kernels(pytestconfig: pytest.Config) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if pytestconfig.getoption("hurried"):
            patch.setattr("longlag.scan.cpu.target.SPEED", 0)
            patch.setattr("longlag.scan.cpu.target._PASSES", ("sroa", "simplify_cfg"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals_arrive() -> Iterator[None]:
    """Ctrl-C and SIGTERM reach the tests, and the processes that they start, as in a terminal.

    A process that nohup or a script's ``&`` started ignores them, and so would its children.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ignored = [number for number in usual if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small matrices, and the same bits whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
