"""Threads that share the units of the same rows: bits of one thread, and nobody waits for ever."""

import re
import threading
from dataclasses import replace

import pytest
import torch
from tests.scan import cases
from tests.scan.cpu.test_plan import MULTIPLY_ADD, PLAIN, assembly_of, host_of

import longlag as ll
from longlag.scan.cpu import call, forward, plan, shape, team, threads
from longlag.scan.cpu.target import host

WIDER = plan.lanes_of(host(), 4096, double=False) // 8 or 1
"""Wider vectors make fewer blocks of the same units: so many times as many units are taken."""


@pytest.fixture
def shared(monkeypatch):
    """Small calls are shared too, by up to four threads whatever the cores; counts such calls."""
    calls, run = [], threads.POOL.run_team

    def run_team(task, parts, let_go):
        calls.append(parts)
        run(task, parts, let_go)

    monkeypatch.setattr(shape, "SMALL", 0)
    monkeypatch.setattr(shape, "MEETING", 1)
    monkeypatch.setattr(threads, "_cores", lambda: 4)
    monkeypatch.setattr(call.POOL, "run_team", run_team)
    before = torch.get_num_threads()
    yield calls
    torch.set_num_threads(before)


def outcome(result):
    y, state = result
    return [y, *(state if isinstance(state, tuple) else [state])]


def same_on_threads(run, calls, counts=(2, 4)):
    torch.set_num_threads(1)
    expected = run()
    assert calls == []
    for count in counts:
        torch.set_num_threads(count)
        for mine, one in zip(run(), expected, strict=True):
            assert torch.equal(mine, one)
        assert calls
        calls.clear()


def series(batch, steps, width):
    return torch.randn(batch, steps, width, generator=torch.Generator().manual_seed(steps))


LAYERS = {
    "Elman": lambda: ll.Elman(3, 203 * WIDER, seed=0),
    "LSTM": lambda: ll.LSTM(3, 150 * WIDER, seed=0),
    "stages": lambda: ll.GRU(3, 130 * WIDER, reset_after=False, seed=0),
    "delays": lambda: ll.Skip(3, 150 * WIDER, delays=(1, 3), seed=0),
    "random": lambda: ll.EchoState(3, 200 * WIDER, leak=0.3, seed=0),
    "ring": lambda: ll.EchoState(3, 190 * WIDER, topology="ring", seed=0),
    "slots": lambda: ll.EchoState(3, 200 * WIDER, density=0.01, seed=0),
    "clusters": lambda: ll.EchoState(3, 192 * WIDER, topology="clusters", seed=0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_bits_are_those_of_one_thread(name, shared):
    layer = LAYERS[name]()
    x = series(1, 90, 3)
    same_on_threads(lambda: outcome(layer(x)), shared)
    resets = torch.zeros(1, 90, dtype=torch.bool)
    resets[:, [0, 40, 41]] = True
    schedule = {"lengths": torch.tensor([77]), "resets": resets}
    same_on_threads(lambda: outcome(layer(x, **schedule)), shared, (2,))


@pytest.mark.slow
@torch.no_grad()
def test_fewer_series_than_threads(shared):
    x, lengths = series(3, 60, 3), torch.tensor([60, 0, 31])
    for layer in (ll.Elman(3, 500 * WIDER, seed=0), ll.EchoState(3, 200 * WIDER, seed=0)):
        same_on_threads(lambda layer=layer: outcome(layer(x)), shared, (4,))
        same_on_threads(lambda layer=layer: outcome(layer(x, lengths=lengths)), shared, (4,))


@pytest.mark.slow
def test_training_has_the_gradients_of_one_thread(shared):
    layer, x = ll.LSTM(3, 200 * WIDER, seed=0), series(1, 50, 3)

    def gradients():
        return torch.autograd.grad(layer(x)[0].square().sum(), list(layer.parameters()))

    same_on_threads(gradients, shared, (2,))


@pytest.mark.slow
@torch.no_grad()
def test_a_model_that_reads_its_own_output(shared):
    for layer in (ll.EchoState(2, 200 * WIDER, seed=0), ll.GRU(2, 130 * WIDER, seed=0)):
        model = ll.SequenceModel(layer, 2, reduce=None, seed=0)
        same_on_threads(
            lambda model=model: [model.generate(70, warmup=series(1, 30, 2))[0]], shared
        )


def compiled_anew():
    shape.shape_of.cache_clear()
    shape._kernel.cache_clear()


@pytest.fixture
def constants(monkeypatch):
    """Sets constants of the team for kernels that are compiled meanwhile."""
    compiled_anew()
    yield lambda **values: [monkeypatch.setattr(team, *pair) for pair in values.items()]
    compiled_anew()


@pytest.mark.slow
@pytest.mark.parametrize(
    "values", [{"PERIOD": 2, "LOSS": 1 << 60}, {"PERIOD": 8, "LOSS": -1}], ids=["shares", "leaves"]
)
@torch.no_grad()
def test_new_shares_and_a_team_that_is_left_change_nothing(values, shared, constants):
    constants(**values)
    layer, x = ll.EchoState(3, 200 * WIDER, seed=0), series(1, 300, 3)
    same_on_threads(lambda: outcome(layer(x)), shared, (2, 3, 4))
    model = ll.SequenceModel(ll.EchoState(2, 200 * WIDER, seed=0), 2, reduce=None, seed=0)
    same_on_threads(lambda: [model.generate(200)[0]], shared, (3,))


@pytest.mark.slow
@torch.no_grad()
def test_several_python_threads_at_once(shared):
    layer, x, outputs = ll.EchoState(3, 100 * WIDER, seed=0), series(1, 400, 3), []
    torch.set_num_threads(1)
    expected = layer(x)[0]
    torch.set_num_threads(3)

    def run():
        with torch.no_grad():
            outputs.extend(layer(x)[0] for _ in range(10))

    some = [threading.Thread(target=run) for _ in range(3)]
    for thread in some:
        thread.start()
    for thread in some:
        thread.join()
    assert len(outputs) == 30
    assert all(torch.equal(output, expected) for output in outputs)


@torch.no_grad()
def test_small_steps_and_single_threads_are_as_before(shared, monkeypatch):
    monkeypatch.setattr(shape, "MEETING", 1 << 14)
    torch.set_num_threads(2)
    ll.EchoState(3, 100, seed=0)(series(1, 100, 3))
    ll.Elman(3, 64, seed=0)(series(1, 100, 3))
    assert shared == []


def test_parts_that_cannot_run_at_once_are_one(monkeypatch):
    pool, done = threads.Pool(), []

    def task(*part):
        done.append(part)

    monkeypatch.setattr(threads, "_cores", lambda: 1)
    pool.run_team(task, 3, lambda: None)
    monkeypatch.setattr(threads, "_cores", lambda: 2)
    with pool.team:  # another has it
        pool.run_team(task, 3, lambda: None)
    assert done == [(0, 1)] * 2
    pool.run_team(task, 3, lambda: None)
    assert sorted(done[2:]) == [(0, 2), (1, 2)]


def test_where_no_thread_can_be_started_the_caller_does_all(monkeypatch):
    pool, done, gone = threads.Pool(), [], threading.Event()
    monkeypatch.setattr(threads, "_cores", lambda: 3)
    executor = threads.ThreadPoolExecutor

    class Limited(executor):
        def submit(self, fn, /, *args, **kwargs):
            if args[0] == 2:
                raise RuntimeError("can't start new thread")
            return super().submit(fn, *args, **kwargs)

    def task(part, parts):
        done.append((part, parts))
        if parts > 1:
            assert gone.wait(30)

    monkeypatch.setattr(threads, "ThreadPoolExecutor", Limited)
    pool.run_team(task, 3, gone.set)
    assert done == [(1, 3), (0, 1)]
    assert pool.pool is None
    assert not pool.team.locked()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.run(task, 3)


def test_an_interrupt_leaves_nobody_waiting(monkeypatch):
    pool, gone = threads.Pool(), threading.Event()
    monkeypatch.setattr(threads, "_cores", lambda: 2)

    def task(part, parts):
        if part == 0:
            raise KeyboardInterrupt
        assert gone.wait(30)

    with pytest.raises(KeyboardInterrupt):
        pool.run_team(task, 2, gone.set)
    assert not pool.team.locked()
    meetings = team.Meetings(3)
    meetings.let_go()
    assert list(meetings._numbers[:: team.APART]) == [team.ALL] * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", MULTIPLY_ADD)
def test_the_kernel_for_other_processors(name, monkeypatch):
    for cell in ("LSTM", "Mixed"):
        recurrence = cases.CELLS[cell].recurrence
        chosen = plan.choose(
            host_of(name, monkeypatch), 1, 128, 1, double=False, has_input=True, **PLAIN
        )
        emitted = forward.emit(recurrence, replace(chosen, team=True), store=False)
        text = assembly_of(emitted, name, monkeypatch)
        calls = re.findall(r"^\s+(?:callq?|bl|blr)\s+(.*)$", text, re.MULTILINE)
        allowed = r"\*|x\d+$|longlag|mem(cpy|set|move)"
        assert [call for call in calls if not re.match(allowed, call)] == []
        assert re.search(r"^\s+(yield|pause|hint)", text, re.MULTILINE)
        assert re.search(MULTIPLY_ADD[name], text)
