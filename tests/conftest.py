"""Shape annotations are executed: beartype checks those of the scan in every test.

The rest is left out: it names no shapes, and what it says of a wrong argument is a message of
its own, which the tests read.
"""

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("longlag.scan", "beartype.beartype")

SLOW = ("faults", "mutation", "test_vowels.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(part in SLOW for part in item.path.parts):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled kernels of this session alone; the workers of one session share them."""
    folder = tmp_path_factory.getbasetemp()
    if folder.name.startswith("popen-"):
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGLAG_CACHE", str(folder / "cache"))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small matrices, and the same bits whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
