"""The universal machine runs other machines step by step, and so does its network."""

import random

import pytest

import longlag as ll
from longlag.turing import Configuration, MachineError, TuringMachine
from longlag.turing.universal import carried, given, program, universal

from .cases import BEAVERS, random_machine


def carried_steps(machine: TuringMachine, start: Configuration, most: int) -> list[Configuration]:
    """What the universal machine says of another one, between its steps."""
    steps = []
    configuration, host = start, universal()
    for _ in range(most):
        inner = carried(machine, configuration)
        if inner is not None:
            steps.append(inner)
            if inner.halted:
                break
        configuration = host.simulate(configuration, 1).configuration
    return steps


def test_it_runs_machines_step_by_step():
    rng = random.Random(0)
    machines = [(TuringMachine.parse(text), "") for text in BEAVERS]
    while len(machines) < 8:
        machine = random_machine(rng)
        if len(machine.symbols) == 2 and all(rule.move[0] for rule in machine.rules.values()):
            machines.append((machine, "".join(rng.choice("01") for _ in range(6))))
    halted = 0
    for machine, word in machines:
        steps = carried_steps(machine, given(machine, word), 4000)
        assert steps[-1].halted or len(steps) > 20
        for number, inner in enumerate(steps):
            own = machine.simulate(word, number).configuration
            assert inner.tapes == own.tapes
            assert inner.halted == own.halted
            assert inner.halted or inner.state == own.state
        halted += steps[-1].halted
    assert halted >= 4


@pytest.mark.parametrize("number", [0, 2, pytest.param(3, marks=pytest.mark.long)])
def test_its_network_runs_the_beavers(number):
    host = ll.turing.compile(universal())
    assert (host.form, len(host.units)) == ("real-time", 501)
    for text, (_, ones) in [list(BEAVERS.items())[number]]:
        machine = TuringMachine.parse(text)
        run = host.run(given(machine), exact=True)
        assert run.halted
        assert run.ones == ones
        assert run.tape == machine.simulate().tape
        assert run == host.machine.simulate(given(machine))


def test_what_it_cannot_run_is_refused():
    assert program(TuringMachine.parse("1RB1LB_1LA1RH")) == "1111010110" + "1010" + "110"
    for text in (
        "1RA1RH1RA",
        "1SA1RH",
        "symbols: _ x\nA * -> x R A",
        "tapes: 2\nA * * -> 0 1 R R A",
    ):
        with pytest.raises(MachineError, match="expected one tape, the symbols 0 and 1"):
            given(TuringMachine.parse(text))
