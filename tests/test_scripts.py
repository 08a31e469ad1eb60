"""The scripts beside the package find in it what they import, also those that take hours."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path for name in ("benchmarks", "examples", "experiments", "tools")
    for path in (ROOT / name).rglob("*.py")
)  # fmt: skip


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The names that a script takes from modules of longlag."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("longlag"):
            assert node.module is not None
            yield from ((node.module, each.name) for each in node.names)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_script_imports_is_there(path):
    for module, name in imports(path):
        if name == "keras" or module.startswith("longlag.keras"):
            pytest.importorskip("keras", reason="of the extra keras")
        home = importlib.import_module(module)
        if not hasattr(home, name):
            importlib.import_module(f"{module}.{name}")
