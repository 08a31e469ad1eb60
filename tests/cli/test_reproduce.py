"""`longlag reproduce`: what it runs, prints, writes and refuses."""

import builtins
import json

import pytest

QUICK = ("reproduce", "long-lag-2c", "--rows", "LSTM, q = 50,", "--trials", 2, "--budget", 100)
TWO = "LSTM, q = 50,;LSTM, q = 100,"


def test_it_runs_prints_and_writes(longlag, folder):
    done = longlag(*QUICK, "--seed", 3, "--folder", "found")
    assert done.status == 0, done.err
    assert "LSTM, q = 50, p = 50" in done.out
    assert "30,000" in done.out
    assert "100, stopped by it" in done.out
    assert "Adam, rate 0.01, in place of gradient descent" in done.out
    assert "0 of 2 solved" in done.err
    run = json.loads((folder / "found" / "results.json").read_text())
    assert run["command"] == (
        "longlag reproduce long-lag-2c --rows 'LSTM, q = 50,' --trials 2 --budget 100 --seed 3"
    )
    (row,) = run["rows"]
    assert (row["weights"], row["sequences"], row["budget"]) == (340, [None, None], 100)
    assert "| LSTM, q = 50, p = 50 | 340 |" in (folder / "found" / "table.md").read_text()
    assert (folder / "found" / "figure.png").stat().st_size > 10_000


@pytest.mark.slow
def test_it_goes_on_where_it_stopped_and_replaces_nothing_unasked(longlag, folder):
    assert longlag(*QUICK, "--folder", "found").status == 0
    before = (folder / "found" / "results.json").read_text()
    refused = longlag(*QUICK, "--folder", "found")
    assert refused.status == 2
    assert "--overwrite" in refused.err
    assert "--resume" in refused.err
    assert (folder / "found" / "results.json").read_text() == before
    again = longlag(
        "reproduce", "long-lag-2c", "--rows", TWO, "--trials", 2, "--budget", 100,
        "--folder", "found", "--resume",
    )  # fmt: skip
    assert again.status == 0, again.err
    assert "q = 50," not in again.err  # it has been run before
    rows = json.loads((folder / "found" / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["LSTM, q = 50, p = 50", "LSTM, q = 100, p = 100"]
    assert rows[0] == json.loads(before)["rows"][0]
    other = longlag(*QUICK, "--seed", 1, "--folder", "found", "--resume")
    assert other.status == 2
    assert "seed 0" in other.err
    (folder / "found" / "results.json").write_text("{}")
    assert "not a result" in longlag(*QUICK, "--folder", "found", "--resume").err


def test_an_interrupt_keeps_the_rows_that_are_done(longlag, folder, monkeypatch):
    from longlag.lab.reproduce import EXPERIMENTS

    second = EXPERIMENTS["long-lag-2c"].rows[1]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(second.__dict__, "run", interrupted)
    done = longlag(
        "reproduce", "long-lag-2c", "--rows", TWO, "--trials", 1, "--budget", 50,
        "--folder", "found",
    )  # fmt: skip
    assert done.status == 130
    assert "with --resume the others follow" in done.err
    assert "LSTM, q = 50, p = 50" in done.out
    rows = json.loads((folder / "found" / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["LSTM, q = 50, p = 50"]


@pytest.mark.long
def test_the_loops_of_one_unit(longlag):
    pytest.importorskip("numba")
    done = longlag(
        "reproduce", "long-lag-table", "--rows", "p = 4, rate 40", "--trials", 2,
        "--budget", 20000,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "RTRL, p = 4, rate 40" in done.out


def test_it_lists(longlag):
    done = longlag("reproduce", "--list")
    assert done.status == 0
    assert "    RTRL, p = 4, rate 1\n" in done.out
    assert "temporal-order: Temporal order" in done.out
    assert longlag("reproduce", "adding", "--list").out.startswith("adding: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "EXPERIMENT: missing; expected one of long-lag-table"),
        (("long-lag-tabel",), "did you mean long-lag-table"),
        (("adding", "--rows", "T = 7"), "no row of adding has such a name"),
        (("adding", "--rows", "T = 500", "--quick"), "in the full run only"),
        (("adding", "--trials", "0"), "--trials"),
        (("adding", "--resume"), "give --folder"),
    ],
)
def test_it_refuses(longlag, words, said):
    done = longlag("reproduce", *words)
    assert done.status == 2
    assert said in done.err


def test_without_numba_it_says_what_to_install(longlag, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name == "numba":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    done = longlag("reproduce", "long-lag-table", "--rows", "RTRL")
    assert done.status == 2
    assert "pip install 'longlag[reproduce]'" in done.err
