"""Results as JSON, as tables and as a figure."""

import datetime
import io
import json
import math
import platform
from importlib.metadata import version

import pytest
from matplotlib.colors import to_hex
from rich.console import Console
from tests.lab.bench.samples import peaks, results

from longlag.lab.bench.document import (
    FIRST,
    LAST,
    as_json,
    document,
    markdown,
    resumed,
    write_tables,
)
from longlag.lab.bench.figure import draw, write_figure
from longlag.lab.bench.results import Result
from longlag.lab.bench.table import table


@pytest.fixture(scope="module")
def run():
    return document(list(results((1, 2))), peaks((1, 2)), "longlag bench", quick=False)


def test_a_result_is_the_same_after_json():
    for each in results():
        again = Result.from_dict(json.loads(json.dumps(each.to_dict(), allow_nan=False)))
        assert (again.row, again.timings) == (each.row, each.timings)
        for name, difference in each.differs.items():
            found = again.differs[name]
            assert found.tensor == difference.tensor
            same = found.value == difference.value
            assert same or (math.isnan(found.value) and math.isnan(difference.value))
        assert again.of_limit == each.of_limit


def test_the_document_is_strict_json_with_all_that_a_reader_needs(run):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    read = json.loads(as_json(run), parse_constant=refuse)
    assert set(read) == {
        "format", "command", "date", "quick", "machine", "versions", "tolerance",
        "step_latency_seconds", "peaks", "results",
    }  # fmt: skip
    assert read["format"] == 1
    assert read["versions"]["torch"]
    assert [each["threads"] for each in read["peaks"]] == [1, 2]
    first = read["results"][0]
    assert first["row"]["name"] == "elman-32x784x1x128"
    assert first["timings"]["jax"]["ratio"] == pytest.approx(
        {"median": 6.2, "low": 5.58, "high": 7.44}
    )
    assert first["of_limit"] == pytest.approx(0.6)


def printed(pass_name):
    file = io.StringIO()
    chosen = [each for each in results() if each.pass_name == pass_name]
    Console(width=100, file=file, force_terminal=True).print(table(chosen))
    return file.getvalue()


def test_the_table_fits_and_names_what_differs_in_red():
    for pass_name in ("forward", "forward+backward"):
        shown = printed(pass_name)
        plain = io.StringIO()
        Console(file=plain, width=100).print(
            table([each for each in results() if each.pass_name == pass_name])
        )
        assert max(map(len, plain.getvalue().splitlines())) <= 100
        assert "\x1b[1;31mdiffers" in shown
        text = " ".join(plain.getvalue().split())
        assert "jax │ differs │ by 3e-01 │ in output" in text
        assert "longlag │ differs │ by nan │ in weight_hh" in text
        assert "6.20x" in text
        assert "5.58 - 7.44" in text
        assert "60 %" in text
        assert ("81 %" in text) == (pass_name == "forward")
        assert ("90" in text) == (pass_name == "forward+backward")
        lines = plain.getvalue().splitlines()
        first = next(number for number, line in enumerate(lines) if "elman" in line)
        assert "torch.nn" in lines[first]  # the fastest peer first
        assert "jax" in lines[first + 1]


def test_the_markdown_has_a_table_for_each_pass_and_number_of_threads(run):
    text = markdown(run)
    assert text.count("### ") == 4
    assert "### forward+backward, float32, 2 threads" in text
    assert "| elman | 32, 784, 1, 128 | 20.0 | 60 % | 81 % | 90 |" in text
    assert "124, 6.20x (5.58 - 7.44)" in text
    assert "differs by 3.0e-01" in text
    assert "| gru | 2, 3, 4, 5 | differs by nan |" in text
    assert "peak 146.0 GFLOP/s" in text
    for line in text.splitlines():
        if line.startswith("| elman"):
            assert line.count("|") == 6 + 4 + 1  # six columns, four peers


def test_tables_go_between_the_marked_lines(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Before\n{FIRST}\nold\n{LAST}\nafter\n")
    for tables in ("new\n", "newer\n"):
        write_tables(path, tables)
        assert path.read_text() == f"# Before\n{FIRST}\n{tables}{LAST}\nafter\n"
    other = tmp_path / "other.md"
    for tables in ("new\n", "newer\n"):
        write_tables(other, tables)
        assert other.read_text() == tables


def test_what_an_experiment_kept_goes_on_with_the_versions_of_today(tmp_path):
    path = tmp_path / "results.json"
    assert resumed(path)["sets"] == {}
    path.write_text(json.dumps({"sets": {"walks": [0.5]}, "local": 1, "date": "2020-01-01"}))
    kept = resumed(path)
    assert (kept["sets"], kept["local"]) == ({"walks": [0.5]}, 1)
    assert kept["date"] == datetime.date.today().isoformat()
    assert kept["torch"] == version("torch")
    assert kept["python"] == platform.python_version()


def test_the_figure_has_a_bar_for_each_row_with_the_fastest_peer(tmp_path):
    figure = draw(list(results((1, 2))))
    assert len(figure.axes) == 4
    for panel in figure.axes:
        assert panel.get_xscale() == "log"
        assert panel.get_xlabel()
        labels = [label.get_text() for label in panel.get_yticklabels()]
        assert labels == ["elman  32, 784, 1, 128", "own  1, 1000, 16, 16"]
        widths = [1 + bar.get_width() for bar in panel.patches]  # pyright: ignore
        assert widths == pytest.approx([3.0, 240.0])  # not longlag's own Elman layer
        assert to_hex(panel.patches[0].get_facecolor()) == "#d55e00"
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["torch.nn", "loop"]
    write_figure(tmp_path / "ratios.png", list(results()))
    assert (tmp_path / "ratios.png").read_bytes()[:4] == b"\x89PNG"
