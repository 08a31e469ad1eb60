"""`longlag bench`: what it prints, writes and refuses."""

import json

import pytest
from tests.lab.bench.samples import peaks, results

from longlag.lab.bench import processes
from longlag.lab.bench.rows import ROWS


@pytest.mark.slow
def test_one_quick_row_with_all_its_files(longlag, folder):
    done = longlag(
        "bench", "--quick", "--rows", "elman-32x64", "--peers", "torch.nn",
        "--json", "run.json", "--markdown", "run.md", "--figure", "run.png",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "torch.nn" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    run = json.loads((folder / "run.json").read_text())
    assert run["command"] == "longlag bench --rows elman-32x64 --peers torch.nn --quick"
    assert run["quick"] is True
    assert [each["pass_name"] for each in run["results"]] == ["forward", "forward+backward"]
    for each in run["results"]:
        assert set(each["timings"]) == {"longlag", "torch.nn"}
        assert each["backend"] == "cpu"
        assert each["differs"] == {}
    (found,) = run["peaks"]
    assert found["threads"] == 1
    assert found["flops"] > 1e9
    assert len(found["bandwidth"]) == 4
    assert "times mean nothing" in (folder / "run.md").read_text()
    assert (folder / "run.png").stat().st_size > 10_000


@pytest.fixture
def given(monkeypatch):
    """Results that are there already; records the work that was asked for."""
    asked = []

    def measured(work):
        asked.append(work)
        chosen = [each for each in results((work.threads,)) if each.pass_name in work.passes]
        yield from chosen
        yield from peaks((work.threads,))

    monkeypatch.setattr(processes, "measured", measured)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return asked


def test_a_result_that_differs_makes_the_status_1(longlag, given, folder):
    three = "elman-1x1000,own-1x1000,gru-1x1000"
    done = longlag("bench", "--rows", three, "--json", "run.json")
    assert done.status == 1
    assert "differs from the reference: own-1x1000x16x16 (jax)" in done.out
    assert "gru-2x3x4x5 (longlag)" in done.out
    assert "compile: left out beyond T = 200" in done.out
    run = json.loads((folder / "run.json").read_text())  # written all the same
    assert run["results"][2]["timings"] == {}


def test_by_default_all_is_measured_on_one_and_on_two_threads(longlag, given):
    longlag("bench", "--rows", "x1000x")
    assert [work.threads for work in given] == [1, 2]
    assert [row.cell for row in given[0].rows] == ["elman", "lstm", "gru", "leaky", "own"]
    assert given[0].passes == ("forward", "forward+backward")
    assert set(given[0].peers) > {"torch.nn", "jax", "packed", "loop", "compile"}


def test_counts_without_cores_are_left_out(longlag, given):
    longlag("bench", "--rows", "x1000x", "--threads", "1,64", "--peers", "none")
    assert [work.threads for work in given] == [1]
    assert given[0].peers == ()


def test_the_names_of_the_rows(longlag):
    done = longlag("bench", "--list")
    assert done.status == 0
    assert done.out.split() == [row.name for row in ROWS]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cells", "lstn"], "--cells: got 'lstn'"),
        (["--peers", "jaxx"], "did you mean jax?"),
        (["--passes", "backward"], "expected one or several of forward, forward+backward"),
        (["--rows", "no-such-row"], "--rows no-such-row: no row has such a name"),
        (["--threads", "0"], "--threads: got '0', expected whole numbers, 1 or more"),
        (["--threads", "64"], "this machine has 2 core(s)"),
        (["--seconds", "0"], "--seconds: got 0.0, expected a number, more than 0"),
        (["--json", "run.txt"], "--json run.txt: the suffix '.txt' is not known"),
        (["--figure", "no/run.png"], "there is no folder no"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_measured(longlag, given, words, said):
    done = longlag("bench", *words)
    assert done.status == 2
    assert said in done.err
    assert given == []


def test_a_file_that_is_there_is_kept(longlag, given, folder):
    (folder / "run.json").write_text("mine")
    done = longlag("bench", "--json", "run.json")
    assert done.status == 2
    assert "--overwrite" in done.err
    assert (folder / "run.json").read_text() == "mine"
    assert given == []
