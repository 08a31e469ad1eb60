"""What the README and the examples show is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import longlag as ll

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(code: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *code],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_runs_in_order(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    shown = run(["-c", "\n".join(blocks)], tmp_path)
    assert "512" not in shown  # that is Elman's; this is an LSTM with 4 gates
    assert "2,048 + 136 = 2,184 parameters" in shown
    assert r"\begin{align*}" in shown
    assert (tmp_path / "model.longlag").exists()


@pytest.mark.slow
def test_the_cell_of_ones_own_learns(tmp_path):
    example = ROOT / "examples" / "own_cell.py"
    assert len(example.read_text().splitlines()) < 40
    shown = run([str(example)], tmp_path)
    assert "backend: cpu" in shown  # as fast as a built-in cell
    assert "leaks after training" in shown


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gradients.md", "chunker.md", "memory.md", "vanishing.md"])
def test_the_code_of_a_page_runs(tmp_path, name):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL)
    assert blocks
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    assert run([str(script)], tmp_path)


def test_the_derivation_is_what_the_cells_print():
    page = (ROOT / "docs" / "vanishing.md").read_text()
    for part in ("update", "bptt", "jacobian"):
        assert ll.cells.Elman().latex(part) in page
    of_memory = ll.cells.LSTM().latex("jacobian").splitlines()[-2]
    assert "c_{t-1}" in of_memory
    assert of_memory in page


@pytest.mark.slow
def test_the_advice_experiment_runs(tmp_path):
    shown = run([str(ROOT / "experiments" / "advice" / "run.py"), "--quick"], tmp_path)
    assert shown.count("then 5 of 5 solved") == 2
    assert shown.count(": 0 of 5 solved") == 2


@pytest.mark.slow
def test_the_chunker_experiment_runs(tmp_path):
    shown = run([str(ROOT / "experiments" / "chunker" / "run.py"), "--quick"], tmp_path)
    assert "chunker      weights (288, 144): 4 of 4 trials" in shown
    assert "conventional weights (288, 144): 0 of 4 trials" in shown


def test_documents_name_files_that_are_there():
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name} names {link}"
