"""`longlag turing`: what it prints, draws, saves and refuses; interrupted, and gone on with."""

import json
import signal
from contextlib import nullcontext

import pytest

import longlag as ll
from longlag.cli import turing
from longlag.turing import network

BB4 = "1RB1LB_1LA0LC_1RH1LD_1RD0RA"
BB5 = "1RB1LC_1RC1RB_1RD0LE_1LA1LD_1RH0LA"


def test_a_beaver_runs_to_its_halt(longlag, folder):
    for more in ((), ("--exact",), ("--form", "real-time")):
        done = longlag("turing", BB4, *more)
        assert done.status == 0, done.err
        assert "halted after 107 steps in state H, 13 ones\ntape 1[0]111111111111\n" in done.out
    assert "24 units, 1 update a step" in done.out
    done = longlag("turing", BB4, "--picture", "a.png", "--output", "a.longlag", "--trace", 2)
    assert "0  A: [0]\n1  B: 1[0]\n2  A: [1]1\n" in done.out
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")
    assert ll.turing.load(folder / "a.longlag").run().ones == 13


def test_a_table_and_its_input(longlag, folder):
    (folder / "increment.txt").write_text(
        "symbols: _ 0 1\nhalt: done\nadd 0 -> 1 S done\nadd _ -> 1 S done\nadd 1 -> 0 R add\n"
    )
    done = longlag("turing", "increment.txt", "--input", "1101")
    assert "halted after 3 steps in state done, 4 ones\ntape 00[1]1\n" in done.out
    done = longlag("turing", "increment.txt", "--input", "1101", "--max_steps", 1)
    assert "not halted after 1 step in state add, 4 ones\ntape 0[1]01\n" in done.out
    (folder / "increment.txt").write_text("A 0 -> 1 R B\nA 1 -> 1 R A")
    refused = longlag("turing", "increment.txt")
    assert refused.status == 2
    assert "increment.txt, line 1, column 12: the state 'B' is never defined" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "MACHINE is missing"),
        (("1RB1LB_1LA1RX",), "line 1, column 13: the rule of B for 1 goes to the state 'X'"),
        (("there/is/none.txt",), "MACHINE there/is/none.txt: there is no such file"),
        ((BB4, "--input", "012"), "input, symbol 3: got '2', expected one of 0 1"),
        ((BB4, "--max_steps", "-1"), "--max_steps: got -1, expected a whole number, 0 or more"),
        ((BB4, "--checkpoint", "a.json"), "--checkpoint: float64 runs take a moment; give --exact"),
        ((BB4, "--exact", "--checkpoint", "a/b.json"), "there is no folder a"),
        ((BB4, "--picture", "a.txt"), "the suffix '.txt' is not known"),
        ((BB4, "--form", "small"), "expected one of auto, compact, real-time, four-layer"),
        ((BB5,), "too long for float64 (about 26 cells on one side of the head for two symbols); "
         "give --exact, which has no limit"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(longlag, words, message):
    refused = longlag("turing", *words)
    assert refused.status == 2
    assert message in refused.err
    if words == (BB5,):  # what float64 could do is shown
        assert "not halted after 168 steps" in refused.out


def test_a_checkpoint_goes_on_and_is_checked(longlag, folder):
    words = ["turing", BB5, "--exact", "--checkpoint", "run.json", "--max_steps"]
    assert longlag(*words, 1000).status == 0
    done = longlag(*words, 2500)
    assert "goes on after 1,000 steps" in done.err
    parted = done.out
    assert longlag("turing", BB5, "--exact", "--max_steps", 2500).out == parted
    kept = json.loads((folder / "run.json").read_text())
    for wrong, message in (
        ({"machine": "other"}, "it is of another machine"),
        ({"input": "1"}, "it is of another input"),
        ({"form": "real-time"}, "it is of another form"),
        ({"updates": -1}, "updates is -1"),
        ({"state": {"L": ["5", "4"]}}, "outside [0, 1]"),
        ({"state": {"M": ["1", "4"]}}, "no checkpoint of a run"),
        ({"state": {"L": ["1", "4"]}}, "no checkpoint of a run"),
        ({"more": 1}, "it has not the entries of one"),
    ):
        (folder / "run.json").write_text(json.dumps({**kept, **wrong}))
        refused = longlag(*words, 3000)
        assert refused.status == 2, message
        assert message in refused.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_goes_on(longlag, folder, monkeypatch, number, status):
    def interrupted(steps):
        if steps >= 3000:
            signal.raise_signal(number)

    words = ["turing", BB5, "--exact", "--checkpoint", "run.json"]
    with monkeypatch.context() as patch:
        patch.setattr(network, "_EXACT_PIECE", 1000)
        patch.setattr(turing, "_progress", lambda: nullcontext(interrupted))
        done = longlag(*words)
    assert done.status == status
    assert "What the checkpoint holds stays. The same command goes on from there" in done.err
    assert json.loads((folder / "run.json").read_text())["updates"] == 6000
    done = longlag(*words, "--max_steps", 4000)
    assert "goes on after 3,000 steps" in done.err
    expected = ll.turing.TuringMachine.parse(BB5).simulate(max_steps=4000)
    assert (
        f"not halted after 4,000 steps in state {expected.state}, {expected.ones} ones" in done.out
    )
