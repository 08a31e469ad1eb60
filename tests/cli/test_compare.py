"""`longlag compare`: what it runs, keeps, goes on with and refuses."""

import csv
import json
from pathlib import Path

import pytest

from longlag.cli import main
from longlag.lab.compare import Case
from longlag.lab.reproduce.experiment import Outcome

SMALL = ("--tasks", "adding", "--lags", 5, "--seeds", 2, "--budget", 32, "--hidden", 4)
TWO = ("compare", "--families", "elman,echo", *SMALL)
FILES = ["figure.png", "table.csv", "table.json", "table.md"]


STOPS: set[str] = set()
"""Families at which an interrupt comes."""


@pytest.fixture
def quickly(monkeypatch):
    """Cases that are not trained; the names of those that were run."""
    ran = []

    def run(self, setup, progress):
        if self.family.name in STOPS:
            raise KeyboardInterrupt
        ran.append(f"{self.problem.name} {self.lag} {self.family.name}")
        progress(32, 1)
        notes = {"steps": 5, "batch": 16, "horizons": [3] * setup.seeds, "errors": [0.1]}
        return Outcome(7, (32, *[None] * (setup.seeds - 1)), 32, 0.5, notes=notes)

    monkeypatch.setattr(Case, "run", run)
    return ran


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def cases_in(folder):
    document = json.loads((folder / "table.json").read_text())
    return [(line["task"], line["lag"], line["family"]) for line in document["cases"]]


@pytest.mark.slow
def test_it_trains_and_writes_table_and_figure(longlag, folder):
    done = longlag(*TWO, "--folder", "table")
    assert done.status == 0, done.err
    assert "adding, lag 5: echo: " in done.err
    assert "horizon: steps back" in done.out
    assert files(folder / "table") == FILES
    document = json.loads((folder / "table" / "table.json").read_text())
    assert document["command"] == (
        "longlag compare --families elman,echo --tasks adding --lags 5 --seeds 2 --budget 32 "
        "--hidden 4"
    )
    elman, echo = document["cases"]
    assert (elman["weights"], echo["weights"]) == (4 * (2 + 4 + 1) + 5, 41)
    assert len(elman["outcome"]["notes"]["horizons"]) == 2
    head, *lines = (folder / "table" / "table.csv").read_text().splitlines()
    assert head.startswith(f"# {document['command']}, 20")
    assert [row["family"] for row in csv.DictReader(lines)] == ["elman", "echo"]
    assert f"`{document['command']}`, 20" in (folder / "table" / "table.md").read_text()
    assert (folder / "table" / "figure.png").stat().st_size > 10_000


def test_it_goes_on_after_a_kill_and_adds_what_else_is_asked_for(longlag, folder, quickly):
    assert longlag(*TWO).status == 0
    kept = folder / "comparison"
    for name in FILES:
        if name != "table.json":
            (kept / name).unlink()  # a kill leaves the table alone, and perhaps no more
    again = longlag(*TWO)
    assert again.status == 0, again.err
    assert "2 of 2 cases are there already" in again.err
    assert files(kept) == FILES
    more = longlag("compare", "--families", "gru,elman", *SMALL[:2], "--lags", "5,9", *SMALL[4:])
    assert more.status == 0, more.err
    assert "1 of 4 cases are there already" in more.err
    assert quickly == [
        "adding 5 elman", "adding 5 echo", "adding 5 gru", "adding 9 gru", "adding 9 elman",
    ]  # fmt: skip
    assert cases_in(kept) == [
        ("adding", 5, "elman"), ("adding", 5, "gru"), ("adding", 5, "echo"),
        ("adding", 9, "elman"), ("adding", 9, "gru"),
    ]  # fmt: skip


def test_two_runs_in_one_folder_keep_what_the_other_adds(longlag, quickly, monkeypatch):
    alone, folders = Case.run, []

    def run(self, setup, progress):
        if self.family.name == "elman" and not folders:  # the other begins while this one trains
            folders.append(1)
            assert main([str(word) for word in ("compare", "--families", "gru", *SMALL)]) == 0
        return alone(self, setup, progress)

    monkeypatch.setattr(Case, "run", run)
    assert longlag(*TWO).status == 0
    assert cases_in(Path("comparison")) == [
        ("adding", 5, "elman"), ("adding", 5, "gru"), ("adding", 5, "echo"),
    ]  # fmt: skip


def test_an_interrupt_keeps_what_is_done(longlag, folder, quickly):
    STOPS.add("echo")
    done = longlag(*TWO)
    STOPS.clear()
    assert done.status == 130
    assert "The cases that are done are in the folder. The same command goes on" in done.err
    assert "elman" in done.out
    assert cases_in(folder / "comparison") == [("adding", 5, "elman")]
    assert files(folder / "comparison") == FILES
    assert longlag(*TWO).status == 0
    assert quickly == ["adding 5 elman", "adding 5 echo"]


def test_another_setup_is_refused_and_the_table_stays(longlag, folder, quickly):
    assert longlag(*TWO).status == 0
    table = folder / "comparison" / "table.json"
    before = table.read_bytes()
    for words, said in (
        (("--seeds", 3), "--seeds 2 there, 3 here"),
        (("--seed", 1), "--seed 0 there, 1 here"),
        (("--hidden", 5), "--hidden 4 there, 5 here"),
        (("--budget", 33), "--budget 32 there, 33 here"),
        (("--budget", "2.5s", "--hidden", 5), "--hidden 4 there, 5 here, --budget 32 there, 2.5s"),
    ):
        done = longlag(*TWO, *words)
        assert done.status == 2
        assert said in done.err
        assert "give the same, or another folder" in done.err
        assert table.read_bytes() == before
    for damage in (b"", b"{}", b"[1]", before[:-50], b'{"format": 1, "cases": 3}', b"\xff"):
        table.write_bytes(damage)
        done = longlag(*TWO)
        assert done.status == 2
        assert "is not a table of `longlag compare`, or is damaged" in done.err
        assert table.read_bytes() == damage
    table.unlink()
    done = longlag(*TWO)
    assert done.status == 2
    assert "no table.json to go on from" in done.err
    assert len(quickly) == 2


def test_quick_asks_for_a_small_table_and_what_is_said_goes_before_it(longlag, folder, quickly):
    done = longlag(
        "compare", "--quick", "--families", "gru,gru", "--lags", "30,20", "--folder", "q"
    )
    assert done.status == 0, done.err
    assert quickly == [
        "adding 20 gru", "temporal-order 20 gru", "adding 30 gru", "temporal-order 30 gru",
    ]  # fmt: skip
    setup = json.loads((folder / "q" / "table.json").read_text())["comparison"]
    assert (setup["seeds"], setup["sequences"], setup["seconds"]) == (3, 4000, None)
    assert longlag("compare", "--quick", "--families", "gru", "--budget", "9s").status == 0
    setup = json.loads((folder / "comparison" / "table.json").read_text())["comparison"]
    assert (setup["sequences"], setup["seconds"]) == (None, 9.0)


def test_it_lists(longlag):
    done = longlag("compare", "--list")
    assert done.status == 0
    assert "    gru-chrono: gate biases for the lag\n" in done.out
    assert "its lag is 64, whatever --lags says" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--families", "gru,lstmm"), "--families: got 'lstmm', expected one or several of elman,"),
        (("--tasks", "adding,copying"), "--tasks: got 'copying'"),
        (("--lags", "10,x"), "--lags: got '10,x', expected whole numbers of steps"),
        (("--lags", "0"), "--lags: got '0'"),
        (("--lags", "3"), "--lags: got 3, but adding needs 4 or more"),
        (("--budget", "0"), "--budget: got '0', expected a number of sequences"),
        (("--budget", "nans"), "--budget: got 'nans'"),
        (("--budget", "-5s"), "--budget: got '-5s'"),
        (("--seeds", "0"), "--seeds: got 0"),
        (("--hidden", "0"), "--hidden: got 0"),
    ],
)
def test_it_refuses(longlag, folder, words, said):
    done = longlag("compare", *words)
    assert done.status == 2
    assert said in done.err
    assert not any(folder.iterdir())
