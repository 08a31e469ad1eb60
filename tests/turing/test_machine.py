"""Turing machines from text, their errors, and the simulator."""

import pytest

from longlag.turing import Configuration, MachineError, Tape, TuringMachine

from .cases import BB5, BEAVERS

TABLE = """# adds one to a binary number, its lowest digit first
symbols: _ 0 1
start: add
halt: done
add 0 -> 1 S done
add _ -> 1 S done
add 1 -> 0 R add
"""


def test_the_beavers_halt_when_they_should():
    for text, (steps, ones) in BEAVERS.items():
        run = TuringMachine.parse(text).simulate()
        assert (run.steps, run.ones, run.halted, run.state) == (steps, ones, True, "H")
    run = TuringMachine.parse(BB5).simulate(max_steps=70_740)
    assert (run.steps, run.halted) == (70_740, False)


def test_a_tape_is_what_the_simulator_writes_by_hand():
    run = TuringMachine.parse("1RB1LB_1LA1RH").simulate(max_steps=3)
    # A0: 1, right; B0: 1, left; A1: 1, left.
    assert run.configuration == Configuration("B", (Tape((), ("0", "1", "1"), ("0",), ("0",)),))
    assert str(run.configuration) == "B: [0]11"


def test_a_table_says_the_same_as_one_line_and_comes_back():
    machine = TuringMachine.parse(TABLE)
    run = machine.simulate("1101")
    assert run.tape.cells == ("0", "0", "1", "1")
    assert run.steps == 3
    table = "A 0 -> 1 R B\nA 1 -> 1 L B\nB 0 -> 1 L A\nB 1 -> * R H\nhalt: H"
    assert TuringMachine.parse(table) == TuringMachine.parse("1RB1LB_1LA1RH")
    for text in (
        TABLE,
        BB5,
        "tapes: 2\nA * 0 -> * 1 R L A\nA 1 1 -> 0 * S S H\nA * 1 -> * * L L A\nhalt: H",
    ):
        machine = TuringMachine.parse(text)
        assert TuringMachine.parse(str(machine)) == machine
    assert TuringMachine.parse("1RB2LA1RA_2LA0RB1RZ").symbols == ("0", "1", "2")


def test_two_tapes_and_what_reads_any_symbol(tmp_path):
    # Copies the first tape to the second one backwards: it first goes to its end.
    path = tmp_path / "reverse.txt"
    path.write_text(
        "symbols: _ a b\ntapes: 2\nstart: end\nhalt: done\n"
        "end * * -> * * R S end\nend _ * -> * * L S copy\n"
        "copy a * -> * a L R copy\ncopy b * -> * b L R copy\ncopy _ * -> * * S S done\n"
    )
    run = TuringMachine.read(path).simulate("abb")
    first, second = run.configuration.tapes
    assert (first.cells, second.cells) == (("a", "b", "b"), ("b", "b", "a"))


def test_a_background_has_one_form():
    ring = Tape(("1", "0", "1"), (), ("0", "1", "0", "1"), ("0", "1"))
    assert ring.left == ()
    assert ring.left_background == ("1", "0")
    assert ring == Tape((), ("0", "1", "0"), ("1", "0"), ("1", "0"))
    assert ring.around(2) == ("0", "1", "0", "1", "0")
    # Over 1 and 0 in turn, to the right: 1 becomes 0, and what was read never comes back.
    machine = TuringMachine.parse("1RA0RA")
    tape = machine.simulate(Configuration("A", (ring,)), 5).tape
    assert tape == Tape(("1", "0", "1", "0", "1", "1"), (), ("0", "1"), ("1", "0"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n# nothing\n", "line 1, column 1: got nothing"),
        ("1RB1LB_1LA1R", "line 1, column 8: state B has 5 letters, expected 6"),
        ("1RB", "line 1, column 1: state A has 3 letters, expected three for each of 2 to 10"),
        ("1RB---_1LA1RH", "line 1, column 4: the rule of A for 1 is missing .---.; .* write H"),
        ("1RB1LB_2LA1RH", "line 1, column 8: the rule of B for 0 writes '2', expected one of 0 1"),
        ("1RB1XB_1LA1RH", "line 1, column 5: the rule of A for 1 moves 'X', expected L, R or S"),
        ("1RB1LC_1LA1RH", "column 6: the rule of A for 1 goes to the state 'C', .* never defined"),
        (TABLE.replace("-> 0", "-> x"), "line 7, column 10: unknown symbol 'x'; .* _ 0 1"),
        (TABLE.replace("S done", "S don"), "line 5, column 14: the state 'don' is never defined"),
        (TABLE.replace("add 1 -> 0 R add", ""), "line 6, column 1: .* not total: the state add "),
        (TABLE.replace("start: add", "start: ad"), "line 3, column 8: start: got 'ad'"),
        (TABLE + "add 1 -> 0 L add", "line 8, column 1: a second rule .* is in line 7"),
        (TABLE + "add 1 > 0 L add", "line 8, column 7: got 'add 1 > 0 L add', expected STATE READ"),
        (TABLE + "add 1 -> 0 L", "line 8, column 12: got 'add 1 -> 0 L', expected STATE READ ->"),
        (TABLE.replace("R add", "U add"), "line 7, column 12: the move is 'U', expected L, R or S"),
        (TABLE.replace("halt:", "holt:"), "line 4, column 1: .*; did you mean halt"),
        (TABLE.replace("halt: done", "halt: add"), "line 4, column 7: halt: the state 'add' has"),
        (TABLE.replace("_ 0 1", "_ 0 1 0"), "line 2, column 16: symbols: got '0' twice"),
        ("tapes: x\nA 0 -> 1 R A", "line 1, column 8: tapes: got 'x'"),
    ],
)  # fmt: skip
def test_what_is_no_machine_is_said_with_line_and_column(text, message):
    with pytest.raises(MachineError, match=message):
        TuringMachine.parse(text)


def test_what_does_not_fit_a_machine(tmp_path):
    machine = TuringMachine.parse(TABLE)
    with pytest.raises(MachineError, match="input, symbol 3: got 'x', expected one of _ 0 1"):
        machine.simulate("01x")
    with pytest.raises(MachineError, match="got 2 words, the machine has 1 tape"):
        machine.begin("0", "1")
    with pytest.raises(TypeError, match="max_steps: got '9'"):
        machine.simulate("", "9")
    with pytest.raises(MachineError, match=r"state A has no rule for 1"):
        TuringMachine(("0", "1"), "A", {("A", ("0",)): machine.rules["add", ("0",)]})
    path = tmp_path / "wrong.txt"
    path.write_text("1RB1LB_1LA1R")
    with pytest.raises(MachineError, match=r"wrong\.txt, line 1, column 8"):
        TuringMachine.read(path)
    path.write_bytes(b"\xff")
    with pytest.raises(MachineError, match="not UTF-8 text"):
        TuringMachine.read(path)
