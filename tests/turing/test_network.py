"""Compiled networks do what their machines do, in every form, in float64 and exactly."""

import random

import pytest
import torch

import longlag as ll
from longlag.turing import FORMS, MachineError, PrecisionError, TuringMachine, TuringNetwork

from .cases import BB5, BEAVERS, random_machine, random_start


@pytest.mark.parametrize("form", FORMS)
def test_the_beavers_cell_by_cell(form):
    for text, (steps, ones) in BEAVERS.items():
        machine = TuringMachine.parse(text)
        net = ll.turing.compile(machine, form)
        for exact in (False, True):
            trace = net.trace(steps=200, exact=exact)
            assert len(trace.configurations) == steps + 1
            for step, configuration in enumerate(trace.configurations):
                assert configuration == machine.simulate(max_steps=step).configuration
            run = net.run(exact=exact)
            assert (run.steps, run.ones, run.halted) == (steps, ones, True)
            # It stays halted, and its tape can be read for ever.
            assert net.run(run.configuration, 7, exact=exact).tape == run.tape
    assert net.layer.backend_used == "cpu"


def same_as_the_simulator(seed: int, steps: int, periodic: bool = False, tapes: int = 1) -> None:
    rng = random.Random(seed)
    machine = random_machine(rng, tapes)
    start = random_start(rng, machine, periodic)
    expected = machine.simulate(start, steps)
    for form in FORMS:
        if (form != "real-time" and tapes > 1) or (
            form == "four-layer" and (periodic or len(machine.symbols) > 2)
        ):
            continue
        net = ll.turing.compile(machine, form)
        assert net.run(start, steps, exact=True) == expected
        try:
            assert net.run(start, steps) == expected
        except PrecisionError as error:  # of a background float64 may not even hold the start
            lost = error.run
        else:
            continue
        assert lost == machine.simulate(start, lost.steps)
        assert lost.steps < expected.steps
        assert periodic or lost.steps > 4


def test_random_machines():
    for seed in range(8):
        same_as_the_simulator(seed, 200)


def test_random_machines_on_periodic_backgrounds_and_two_tapes():
    for seed in range(3):
        same_as_the_simulator(1000 + seed, 100, periodic=True)
        same_as_the_simulator(2000 + seed, 100, tapes=2)


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_500_random_machines_for_1000_steps(part):
    for seed in range(50 * part, 50 * part + 50):
        same_as_the_simulator(10_000 + seed, 1000)
        same_as_the_simulator(20_000 + seed, 300, periodic=seed % 2 == 0, tapes=1 + seed % 2)


@pytest.mark.parametrize("form", ["compact", "real-time"])
def test_the_fifth_beaver_for_a_while(form):
    machine = TuringMachine.parse(BB5)
    net = ll.turing.compile(machine, form)
    assert net.run(max_steps=20_000, exact=True) == machine.simulate(max_steps=20_000)
    with pytest.raises(
        PrecisionError, match=r"after 16[89] steps the tape is too long .* exact=True"
    ) as lost:
        net.run()
    assert lost.value.run == machine.simulate(max_steps=lost.value.run.steps)


@pytest.mark.long
def test_the_fifth_beaver_for_a_million_steps():
    machine = TuringMachine.parse(BB5)
    net = ll.turing.compile(machine)
    assert net.run(max_steps=1_000_000, exact=True) == machine.simulate(max_steps=1_000_000)


def test_how_many_units_there_are():
    rng = random.Random(0)
    for _ in range(8):
        machine = random_machine(rng)
        q, k = len(machine.states), len(machine.symbols)
        halts = len(machine.halting)
        stays = any(rule.move == (0,) for rule in machine.rules.values())
        units = len(ll.turing.compile(machine).units)
        assert units == (k + 1) * q + k + 5 + halts + 2 * stays
        entries = {(rule.next, rule.move) for rule in machine.rules.values()}
        entries |= set() if any(state == machine.start for state, _ in entries) else {(0, 0)}
        units = len(ll.turing.compile(machine, "real-time").units)
        assert units == k * len(entries) + 6 + (2 + 2 * stays) * (k - 1)
    for text, bound in ((BB5, 3 * 5 + 12), ("1RB1LB_1LA1RH", 3 * 2 + 12)):
        net = ll.turing.compile(TuringMachine.parse(text))
        assert len(net.units) == bound - 4
        weights = 8 * net.layer.weight_hh
        assert torch.equal(weights, weights.round())
        assert weights.abs().max() == 32


def test_the_result_is_a_layer_like_any_other(tmp_path):
    net = ll.turing.compile(TuringMachine.parse("1RB1LB_1LA0LC_1RH1LD_1RD0RA"))
    assert type(net.layer) is ll.Elman
    assert net.layer.input_size == 0
    assert "sat" in net.layer.cell.latex()
    units = len(net.units)
    assert net.summary().parameters == units * (units + 1)
    start = net.initial_state("011")
    path = tmp_path / "beaver.longlag"
    net.save(path)
    x = torch.zeros(1, 60, 0, dtype=torch.float64)
    expected, _ = net.layer(x, start)
    for layer in (ll.load(path), ll.turing.load(path).layer):
        assert torch.equal(layer(x, layer.state_of(tuple(start)))[0], expected)
    assert repr(ll.turing.load(path)) == repr(net)
    assert ll.turing.load(path).run() == net.run()
    ll.save(net.layer, path)
    with pytest.raises(ValueError, match="it holds no machine"):
        ll.turing.load(path)
    reference = TuringNetwork(net.machine, "compact", net.layer)
    net.layer.backend = "reference"
    assert reference.run() == net.run()


def test_what_cannot_be_compiled_or_read():
    machine = TuringMachine.parse("tapes: 2\nhalt: H\nA 0 0 -> 1 1 R L H\nA * * -> * * R R A")
    for form in ("compact", "four-layer"):
        with pytest.raises(MachineError, match=r"for one tape.*'real-time'"):
            ll.turing.compile(machine, form)
    assert ll.turing.compile(machine).form == "real-time"
    with pytest.raises(
        ValueError, match="form: got 'small', expected one of 'compact', 'real-time'"
    ):
        ll.turing.compile(machine, "small")
    net = ll.turing.compile(TuringMachine.parse(BB5))
    with pytest.raises(ValueError, match="0 units of the control states are 1"):
        net.configuration(torch.zeros(len(net.units)))
    state = net.initial_state().h[0]
    state[net.units.index("L pop")] = 0.25
    with pytest.raises(ValueError, match="has the digit 1 in base 4, which is no symbol"):
        net.configuration(state)
    with pytest.raises(MachineError, match="input, symbol 2: got '2'"):
        net.run("12")
    with pytest.raises(PrecisionError, match="after 0 steps"):
        net.run("1" * 40)
    with pytest.raises(ValueError, match="layer: got 3 units, expected 23"):
        TuringNetwork(net.machine, "compact", ll.Elman(0, 3))


def test_runs_end_where_they_are_told_to():
    net = ll.turing.compile(TuringMachine.parse(BB5))
    for exact in (False, True):
        for steps in (0, 1, 100):
            told = []
            run = net.run("01", steps, exact=exact, progress=told.append)
            assert run == net.machine.simulate("01", steps)
            assert told[-1:] == ([steps] if steps else [])


def test_a_changed_weight_is_no_wrong_tape():
    """Another network than the one compiled leaves the configurations, and that is an error."""
    net = ll.turing.compile(TuringMachine.parse("1RB1LB_1LA0LC_1RH1LD_1RD0RA"))
    with torch.no_grad():
        net.layer.weight_hh[net.units.index("L push"), net.units.index("L")] = 0.375
    for exact in (False, True):
        with pytest.raises(ValueError, match=r"no symbol|control states"):
            net.trace(steps=100, exact=exact)
