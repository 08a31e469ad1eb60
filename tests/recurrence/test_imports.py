import ast
from pathlib import Path

import longlag.recurrence

FILES = sorted(Path(longlag.recurrence.__file__).parent.glob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module


def test_a_recurrence_is_mathematics_and_needs_sympy_and_numpy_alone():
    modules = {name.split(".")[0] for path in FILES for name in imported(path)}
    standard = {"abc", "collections", "dataclasses", "difflib", "functools", "hashlib", "keyword"}
    standard |= {"fractions", "math", "typing"}
    assert "sympy" in modules
    assert modules <= standard | {"sympy", "numpy", "longlag"}


def test_it_knows_no_part_of_longlag_but_checks_and_words():
    ours = {name for path in FILES for name in imported(path) if name.startswith("longlag")}
    others = {name for name in ours if not name.startswith("longlag.recurrence")}
    assert others <= {"longlag.arguments", "longlag.messages"}
