"""The pages of the course run, each draws its figure, and they have what the lecture has."""

import re
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "lecture"
PAGES = sorted(FOLDER.glob("[0-9]*.py"))
SHOWN = {
    "01": ["layer  [-0.89"],
    "02": [r"\delta^{h}_{t-1}"],
    "03": ["p =  4: 100.0% right"],
    "04": ["(None, 16)", "(None, 64, 16)", "(None, 64, 8)", "512 + 136 = 648 parameters"],
    "05": ["ones=5"],
    "06": ["78% after 1,043,000", "33% after 32,400", "100% after 5,040", "p = 100, LSTM :   0%"],
    "07": ["surely vanishes: True; may explode: False", "may explode: True"],
    "09": ["k2 = 100: cosine 1.000"],
    "12": ["[0 0 0 1]"],
    "13": ["distance  63:  63 factors, or  6"],
    "14": ["100% in the features"],
    "15": [r"\operatorname{diag}\left(f_t\right)"],
}
"""What a page says besides, by its number."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs(page, capsys, one_thread):
    plt.switch_backend("agg")
    try:
        runpy.run_path(str(page), run_name="__main__")
        assert len(plt.get_fignums()) == 1
    finally:
        plt.close("all")
    said = capsys.readouterr().out
    for text in SHOWN.get(page.name[:2], ()):
        assert text in said


def test_every_page_has_formulas_and_ends_with_what_to_take_from_it():
    assert len(PAGES) == 15
    for page in PAGES:
        text = page.read_text()
        assert "**What to take from it.**" in text
        assert ".. math::" in text or page.name == "04_keras.py"
        for link in re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", text):
            if link.startswith("/"):
                assert (FOLDER.parents[1] / "docs" / f"{link[1:]}.md").exists(), link
            else:
                assert (FOLDER / f"{link}.py").exists(), link
