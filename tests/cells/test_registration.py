"""Adding a cell touches two places: its file, and one line of the table."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from longlag import cells

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

TOY = '''
"""A toy."""

from dataclasses import dataclass

from longlag.recurrence import Cell, tanh

__all__ = ["Toy"]


@dataclass(frozen=True)
class Toy(Cell):
    r"""A network of waves.

    .. math:: h_t = \\tanh(s (U x_t + W h_{t-1} + b))

    Args:
        steepness: s, greater than 0.

    Example:
        >>> import longlag as ll
        >>> ll.Toy(3, 4, steepness=2.0).cell == ll.cells.Toy(2.0)
        True
    """

    steepness: float = 1.0

    gates = ("candidate",)

    def update(self, pre, state, unit):
        return {"h": tanh(self.steepness * pre.candidate)}
'''
USED = """
import inspect
import doctest
from pathlib import Path

import numpy as np
import torch

import longlag as ll
from longlag.layers import built_in

assert "Toy" in ll.__all__ and "Toy" in dir(ll) and "Toy" in ll.layers.__all__
layer = ll.Toy(2, 4, steepness=0.5, seed=0)
assert isinstance(layer, ll.Recurrent) and layer.cell == ll.cells.Toy(0.5)
assert list(inspect.signature(ll.Toy).parameters)[:4] == [
    "input_size", "hidden_size", "steepness", "bias"
]
assert "steepness: s, greater than 0." in ll.Toy.__doc__ and "replicas: R" in ll.Toy.__doc__
example = doctest.DocTestParser().get_doctest(ll.Toy.__doc__, {}, "Toy", None, 0)
assert tuple(doctest.DocTestRunner().run(example))[:2] == (0, 2)
output, state = layer(torch.ones(3, 5, 2))
assert layer.backend_used == "cpu" and type(state).__name__ == "ToyState"
ll.save(layer, "toy.longlag")
assert repr(ll.load("toy.longlag")) == "Toy(2, 4, steepness=0.5)"

from tests.conformance.test_gradcheck import PAIRS
from tests.gradients.models import MODELS
from tests.mutation.test_faults import FAULTS
from tests.recurrence.test_latex import CELLS
from tests.scan.cases import CELLS as CASES

assert ("Toy", "cpu") in PAIRS and "Toy" in CASES and "Toy" in CELLS and "Toy" in MODELS
assert len(FAULTS["toy"]) >= 20

rng = np.random.default_rng(0)
x = rng.normal(size=(12, 5, 1))
y = np.where(x.mean((1, 2)) > 0, "up", "down")
np.savez("data.npz", x=x, y=y)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package and its tests, with one file more and one line more."""
    folder = tmp_path_factory.mktemp("copy")
    for part in ("src", "tests", "tools", "docs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "src/longlag/cells/toy.py").write_text(TOY.lstrip())
    table = folder / "src/longlag/cells/__init__.py"
    text, count = re.subn(r"^}$", '    "toy": "Toy",\n}', table.read_text(), flags=re.MULTILINE)
    assert count == 1
    table.write_text(text)
    return folder


def run(folder, *words):
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_file_and_a_line_are_all_that_a_cell_needs(copy):
    run(copy, "-c", USED)
    words = ("-m", "longlag", "train")
    assert "toy" in run(copy, *words, "--help").split("--cell")[1].split("--hidden")[0]
    options = ("--task", "classification", "--cell", "toy", "--hidden", "4", "--epochs", "1")
    run(copy, *words, "data.npz", *options, "--output", "trained.longlag")
    loaded = run(copy, "-c", "import longlag as ll; print(ll.load('trained.longlag').layer)")
    assert loaded.strip() == "Toy(1, 4, steepness=1.0)"


def test_type_checkers_are_told_by_the_script(copy):
    run(copy, "tools/stubs.py")
    stub = (copy / "src/longlag/layers/built_in.pyi").read_text()
    assert "class Toy(Recurrent):" in stub
    assert "        steepness: float = 1.0,\n" in stub
    assert (
        "from longlag.cells.toy import Toy as Toy\n"
        in (copy / "src/longlag/cells/__init__.pyi").read_text()
    )


def test_the_pages_name_the_tables_and_no_cell(copy):
    """What `.. built-in::` writes follows from the table; see docs/conf.py."""
    for page, package in (("cells.md", "longlag.cells"), ("layers.md", "longlag")):
        text = (copy / "docs" / page).read_text()
        assert f".. built-in:: {package}\n" in text
        for name in cells.__all__:
            assert f"autoclass:: {package}.{name}\n" not in text


def test_the_table_names_every_file():
    files = {path.stem for path in (ROOT / "src/longlag/cells").glob("*.py")} - {"__init__"}
    assert set(cells.CELLS) == files
    for file, name in cells.CELLS.items():
        assert getattr(cells, name).__module__ == f"longlag.cells.{file}"
        assert (ROOT / "tests" / "cells" / f"test_{file}.py").exists()


def test_what_is_not_in_the_table_is_an_error():
    with pytest.raises(AttributeError, match=r"module 'longlag.cells' has no attribute 'LSTN'"):
        _ = cells.LSTN
