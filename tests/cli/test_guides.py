"""The pages of docs/guides run, command by command, and end with the figure that they show."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from tests.cli.test_docs import run_page

DOCS = Path(__file__).parents[2] / "docs"
TASKS = ("classify", "tag", "regress", "forecast", "remaining-life")


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_page_of_a_task_runs(name, longlag, folder):
    pytest.importorskip("aeon", reason="real files need the extra ts")
    page = DOCS / "guides" / f"{name}.md"
    ran, failed = run_page(page, longlag, folder)
    assert ran >= 2
    assert failed == 0
    shown = re.findall(r"\(\.\./figures/([\w-]+\.png)\)", page.read_text())
    assert shown == [f"{name}.png"]
    here, kept = (
        plt.imread(path).shape for path in (folder / shown[0], DOCS / "figures" / shown[0])
    )
    assert here == kept


@pytest.mark.slow
@pytest.mark.parametrize("name", ["start", "es/primeros-pasos"])
def test_the_first_five_minutes_run(name, longlag, folder):
    ran, failed = run_page(DOCS / f"{name}.md", longlag, folder)
    assert (ran, failed) == (3, 0)
    assert (folder / "report.html").exists()
    assert (folder / "walks.longlag").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["index", "guides/neuroscience", "guides/teaching", "guides/when-not"]
)
def test_a_page_in_python_runs(name, longlag, folder):
    pytest.importorskip("aeon", reason="real files need the extra ts")
    (folder / "experiments").symlink_to(DOCS.parent / "experiments")
    assert run_page(DOCS / f"{name}.md", longlag, folder) == (0, 0)
    for figure in folder.glob("*.png"):
        assert plt.imread(figure).shape == plt.imread(DOCS / "figures" / figure.name).shape
