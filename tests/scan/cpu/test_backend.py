"""The compiled kernels against reference: any size, any memory around them, any threads."""

import contextlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.test_own_cells import Clipped
from tests.scan import cases

import longlag as ll
from longlag.recurrence import Cell, Dense, tanh
from longlag.recurrence.lowered import lower
from longlag.scan import Schedule, Weights, derived, node, scan
from longlag.scan.cpu import backend as cpu
from longlag.scan.cpu import call, scratch, shape
from longlag.scan.cpu import threads as thread_pool
from longlag.scan.cpu.target import host
from longlag.scan.inputs import ScanInputs
from longlag.scan.reference import Reference
from longlag.scan.step import TorchStep

NAMES = (
    "Elman", "Leaky shared", "Leaky without W", "LSTM with peepholes", "LSTM1997", "GRU", "IndRNN",
    "Mixed", "Lone",
)  # fmt: skip
EVERY = pytest.mark.parametrize("cell", [cases.CELLS[name] for name in NAMES], ids=NAMES)
"""Every kind of kernel there is: the others differ from these in their functions alone."""

SIZED = cases.CELLS | {"Clipped": Clipped()}
# (R, N, H): below, at and above the width of a vector and of a tile.
SIZES = [
    (None, 0, 3), (None, 1, 1), (None, 1, 8), (None, 1, 33), (None, 3, 16), (None, 8, 16),
    (None, 5, 7), (None, 8, 17), (None, 11, 32), (None, 20, 70), (2, 3, 5), (3, 1, 24), (1, 4, 64),
]  # fmt: skip
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


@contextlib.contextmanager
def threads(count):
    """That many threads, however small the work."""
    before = torch.get_num_threads(), shape.SMALL
    torch.set_num_threads(count)
    shape.SMALL = 0
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        shape.SMALL = before[1]


def layer_of(cell, inputs, hidden, replicas=None, **options):
    """As in the cases, with W scaled by its width, so that no error is blown up over time."""
    layer = cases.layer_of(cell, inputs, hidden, replicas=replicas, **options)
    weight = layer.weight_hh_raw if layer.recurrence.constrained else layer.weight_hh
    if weight is not None:
        with torch.no_grad():
            weight /= hidden**0.5
    return layer


def schedule_of(front, steps, seed=8):
    generator = torch.Generator().manual_seed(seed)
    return {
        "lengths": torch.randint(0, steps + 1, front, generator=generator),
        "resets": torch.rand(*front, steps, generator=generator) < 0.2,
    }


def problem_of(cell, front=(5,), steps=6, hidden=7, **options):
    """A layer with dropout where it can have it, x, states and a schedule."""
    dropout = {"recurrent_dropout": 0.4} if cell.recurrence.dense_gates else {}
    replicas = front[0] if len(front) == 2 else None
    layer = layer_of(cell, 2, hidden, replicas, **dropout, **options)
    x = cases.random(*front, steps, 2, seed=3)
    state = cases.states_of(cell, front, hidden, seed=5)
    return layer, x, state, schedule_of(front, steps)


def run(problem, backend="cpu"):
    layer, x, state, schedule = problem
    return cases.run(layer, x, state, backend, **schedule)


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, mine in ours.items():
        assert torch.equal(mine, theirs[name]), name


# Any size


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("cell", SIZED.values(), ids=SIZED)
@settings(
    max_examples=7,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    size=st.sampled_from(SIZES),
    steps=st.integers(0, 6),
    inputs=st.integers(1, 3),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    scheduled=st.booleans(),
    carried=st.booleans(),
    count=st.integers(1, 3),
)
def test_it_is_reference_at_any_size(cell, size, steps, inputs, dtype, scheduled, carried, count):
    replicas, batch, hidden = size
    hidden = cases.hidden_of(cell, hidden)
    front = (batch,) if replicas is None else (replicas, batch)
    dropout = {"recurrent_dropout": 0.4} if scheduled and cell.recurrence.dense_gates else {}
    layer = layer_of(cell, inputs, hidden, replicas, **dropout).to(dtype)
    exact = layer_of(cell, inputs, hidden, replicas, **dropout)
    exact.load_state_dict(layer.state_dict())
    x = cases.random(*front, steps, inputs, seed=3).to(dtype)
    state = [part.to(dtype) for part in cases.states_of(cell, front, hidden, seed=5)]
    schedule = schedule_of(front, steps) if scheduled else {}
    state = state if carried else None
    with threads(count):
        ours = cases.run(layer, x, state, "cpu", **schedule)
    in_double = None if state is None else [part.double() for part in state]
    theirs = cases.run(exact, x.double(), in_double, "reference", **schedule)
    assert all(result.dtype == dtype for result in ours.values())
    ours = {name: result.double() for name, result in ours.items()}
    cases.assert_same(ours, theirs, TOLERANCE[dtype])


@pytest.mark.parametrize("cell", ["Elman", "LSTM with peepholes", "GRU", "Mixed"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_small_networks_in_whole_tiles(cell, dtype):
    """Of units that are known when the kernel is compiled, with all tiles full; and so many rows
    that their products take some at a time."""
    shapes = []
    for hidden in (16, 32):
        layer = layer_of(cases.CELLS[cell], 9, hidden).to(dtype)
        x = cases.random(16, 12, 9, seed=3).to(dtype)
        ours, theirs = (cases.run(layer, x, None, name) for name in ("cpu", "reference"))
        cases.assert_same(ours, theirs, TOLERANCE[dtype])
        weights = Weights(layer.weight_hh, layer.unit_rows(), layer.weight_ih, layer.bias)
        found = call.find_shape(layer.recurrence, x.transpose(0, 1), weights, None, Schedule())
        shapes.append(found.plan)
    assert {plan.even for plan in shapes} == {True}
    assert any(plan.hidden for plan in shapes) or host().vector_bytes < 32


@pytest.mark.slow
def test_a_long_sequence(monkeypatch):
    layer = layer_of(ll.cells.Elman(), 2, 8)
    x = cases.random(1, 20_000, 2)
    ours = cases.run(layer, x, backend="cpu")
    cases.assert_same(ours, cases.run(layer, x, backend="derived"))
    layer = layer_of(ll.cells.LSTM(), 2, 8)  # whose activations are kept, or computed again
    whole = cases.run(layer, x, backend="cpu")
    assert all(torch.isfinite(result).all() for result in whole.values())
    monkeypatch.setattr(cpu, "RESIDUALS", 999 * 4 * 8 * 8 * cpu.PIECES)
    with kinds_of_kernels() as kinds:
        cases.assert_same(cases.run(layer, x, backend="cpu"), whole)
    assert kinds == ["forward", *["recompute", "backward"] * 21]


@contextlib.contextmanager
def kinds_of_kernels():
    """The kernels that run meanwhile."""
    kinds, start = [], call.Call.run

    def counted(self, kind, parameters, *meetings):
        kinds.append(kind)
        start(self, kind, parameters, *meetings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(call.Call, "run", counted)
        yield kinds


@pytest.mark.every_cell
@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("front", [(3,), (2, 3)])
def test_what_is_kept_or_computed_again_is_the_same(cell, front, scheduled, monkeypatch):
    problem = problem_of(cell, front, steps=11, hidden=4)
    if not scheduled:
        problem = (*problem[:3], {})
    kept = len(lower(cell.recurrence).residuals.values)
    by_step = kept * problem[1][..., 0, 0].numel() * 4 * 8
    with kinds_of_kernels() as kinds:
        whole = run(problem)
    assert kinds == ["store" if kept else "forward", "backward"]
    monkeypatch.setattr(cpu, "PIECES", 1)
    for steps, blocks in ((1, 11), (3, 4), (10, 2)):
        monkeypatch.setattr(cpu, "RESIDUALS", steps * by_step)
        with kinds_of_kernels() as kinds:
            cases.assert_same(run(problem), whole)
        again = ["recompute", "backward"] * blocks if kept else ["backward"]
        assert kinds == ["forward", *again]


@pytest.mark.every_cell
@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("front", [(1,), (3,), (2, 3)])
def test_how_many_steps_are_collected_makes_no_difference(cell, front, scheduled, monkeypatch):
    problem = problem_of(cell, front, steps=11, hidden=4)
    if not scheduled:
        problem = (*problem[:3], {})
    whole = run(problem)
    monkeypatch.setattr(shape, "LEAST_ROWS", 1)
    monkeypatch.setattr(shape, "STRETCH", 1)
    for numbers in (1, 200, 500):
        monkeypatch.setattr(shape, "COLLECTED", numbers)
        cases.assert_same(run(problem), whole)


@pytest.mark.slow
def test_a_thousand_rows_are_more_than_one_product_takes():
    problem = problem_of(ll.cells.GRU(), (300,), steps=5, hidden=9)
    cases.assert_same(run(problem), run(problem, "reference"))


# What runs


@pytest.mark.slow
@EVERY
def test_no_other_backend_runs_in_its_place(cell, monkeypatch):
    """auto: one forward and one backward kernel, and not a step of another backend."""
    problem = problem_of(cell)
    expected = run(problem, "reference")

    def never(*arguments):
        raise AssertionError("another backend ran")

    monkeypatch.setattr(TorchStep, "run", never)
    monkeypatch.setattr(derived, "_Backward", never)
    for kind in (Reference, derived.Derived):
        for name in ("forward", "backward"):
            monkeypatch.setattr(kind, name, never)
    with kinds_of_kernels() as kinds:
        cases.assert_same(run(problem, "auto"), expected)
    assert kinds == ["store" if lower(cell.recurrence).residuals.values else "forward", "backward"]
    assert problem[0].backend_used == "cpu"


# Memory


@contextlib.contextmanager
def fenced(value):
    """Fresh memory is full of a value, and so is what lies before and after it."""
    margin, walls = 96, []

    def checked(shape, dtype):
        size = int(torch.Size(shape).numel())
        wall = torch.full((size + 2 * margin,), value, dtype=dtype)
        walls.append((wall, size))
        return wall[margin : margin + size].view(shape)

    def new_empty(self, *shape, **options):
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return checked(shape, options.get("dtype", self.dtype))

    def empty(*shape, **options):
        return new_empty(torch.zeros(()), *shape, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "new_empty", new_empty)
        patch.setattr(torch.Tensor, "new_zeros", lambda *a, **o: new_empty(*a, **o).zero_())
        patch.setattr(torch, "empty", empty)
        patch.setattr(torch, "empty_like", lambda x, **_: checked(x.shape, x.dtype))
        scratch.clear()
        patch.setattr(
            torch.Tensor, "clone", lambda self, **_: checked(self.shape, self.dtype).copy_(self)
        )
        try:
            yield
        finally:
            scratch.clear()
    assert walls
    for wall, size in walls:
        around = torch.cat([wall[:margin], wall[margin + size :]])
        same = around.isnan() if value != value else around == value
        assert same.all()


@pytest.mark.every_cell
@pytest.mark.slow
@EVERY
@pytest.mark.parametrize(("front", "hidden"), [((5,), 7), ((2, 3), 17), ((9,), 32)])
def test_nothing_is_read_before_it_is_written_nor_written_beside_it(cell, front, hidden):
    problem = problem_of(cell, front, hidden=hidden)
    plain = run(problem)
    for value in (float("nan"), 1e300):
        with fenced(value):
            found = run(problem)
        assert_equal(found, plain)


GUARDED = """
import ctypes, mmap, os
import pytest
import torch
from tests.scan import cases
from longlag.scan.cpu import backend as cpu
from longlag.scan.cpu import call, scratch, shape

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
kept = []


def at_the_edge(shape, dtype):
    # Its last number is the last before a page that may be neither read nor written.
    size = torch.Size(shape).numel() * dtype.itemsize
    if size == 0:
        return torch.zeros(shape, dtype=dtype)
    pages = -(-size // PAGE)
    memory = mmap.mmap(-1, (pages + 1) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(address + pages * PAGE, PAGE, 0) == 0
    kept.append(memory)
    count = torch.Size(shape).numel()
    flat = torch.frombuffer(memory, dtype=dtype, count=count, offset=pages * PAGE - size)
    return flat.view(shape)


def moved(tensor):
    return tensor if tensor is None else at_the_edge(tensor.shape, tensor.dtype).copy_(tensor)


def new_empty(self, shape):
    return at_the_edge(shape, self.dtype)


child = os.fork()
if child == 0:  # proves that the page is guarded
    ctypes.memset(at_the_edge((3,), torch.float32).data_ptr() + 12, 0, 1)
    os._exit(0)
assert os.WTERMSIG(os.waitpid(child, 0)[1]) > 0


def order_moved(self, active):
    return call._Rows(*map(moved, order(self, active)))


def place_moved(self, tensor):
    tensor = moved(tensor)
    kept.append(tensor)
    return place(self, tensor)


def tables_moved(self):
    return {name: moved(table) for name, table in tables(self).items()}


last, order, place = call.last_contiguous, call.Call._order, call.Call.place
tables = shape.Shape._tables
results = []
CELLS = ("Elman", "Leaky without W", "LSTM with peepholes", "GRU", "IndRNN", "Mixed")
for name in CELLS:
    cell = cases.CELLS[name]
    for replicas, n, h in ((None, 6, 17), (2, 1, 5)):
        front = (n,) if replicas is None else (replicas, n)
        dropout = {"recurrent_dropout": 0.4} if cell.recurrence.dense_gates else {}
        for dtype in (torch.float64, torch.float32):
            layer = cases.layer_of(cell, 2, h, replicas=replicas, dtype=dtype, **dropout)
            x = cases.random(*front, 4, 2).to(dtype)
            lengths = torch.full(front, 3)
            resets = torch.zeros(*front, 4, dtype=torch.bool)
            resets[..., 2] = True
            schedule = {"lengths": lengths, "resets": resets}
            plain = cases.run(layer, x, None, "cpu", **schedule)
            shape.shape_of.cache_clear()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(call.Call, "_order", order_moved)
                patch.setattr(call.Call, "place", place_moved)
                patch.setattr(shape.Shape, "_tables", tables_moved)
                for module in (call, cpu):
                    patch.setattr(module, "last_contiguous", lambda tensor: moved(last(tensor)))
                patch.setattr(
                    scratch, "take", lambda name, like, *shape: at_the_edge(shape, like.dtype)
                )
                patch.setattr(torch.Tensor, "new_empty", new_empty)
                patch.setattr(
                    torch.Tensor, "new_zeros", lambda self, shape: new_empty(self, shape).zero_()
                )
                patch.setattr(torch, "empty_like", moved)
                patch.setattr(torch, "zeros_like", lambda x: moved(x).zero_())
                found = cases.run(layer, x, None, "cpu", **schedule)
            shape.shape_of.cache_clear()
            for key, value in found.items():
                assert torch.equal(value, plain[key]), (name, key)
print("no page beyond was touched", len(kept) > 300)
"""


def script(text):
    """Run a program of its own, from where it finds the tests."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect")
def test_no_kernel_reads_or_writes_beyond_its_memory():
    """Every tensor ends where a page begins that may not be touched."""
    done = script(GUARDED)
    assert done.stdout.strip() == "no page beyond was touched True", done.stderr[-2000:]


@pytest.mark.slow
@EVERY
def test_an_error_in_the_padding_is_not_sent_back(cell):
    """The output is zero there whatever the weights are, so NaN for an error changes nothing."""
    layer, x, state, schedule = problem_of(cell)
    layer.eval()
    padding = (torch.arange(6) >= schedule["lengths"].unsqueeze(-1)).unsqueeze(-1)
    found = []
    for value in (0.0, float("nan")):
        layer.backend = "cpu"
        x = x.detach().requires_grad_()
        output, _ = layer(x, state, **schedule)
        error = cases.random(*output.shape).masked_fill(padding, value)
        found.append(
            torch.autograd.grad(output, [x, *layer.parameters()], error, materialize_grads=True)
        )
    for mine, theirs in zip(*found, strict=True):
        assert torch.equal(mine, theirs)


class Negated(torch.autograd.Function):
    """The identity, with an error that is negated twice: once in its numbers, once by a bit."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, error):
        lazily = torch._neg_view(-error)
        assert lazily.is_neg()
        return lazily


def test_a_negation_that_is_only_noted_is_seen():
    gradients = []
    for backend in cases.BACKENDS:
        layer = layer_of(ll.cells.LSTM(), 2, 5, backend=backend)
        output, state = layer(cases.random(3, 4, 2))
        results = [output, *state]
        loss = sum(Negated.apply(r).square().sum() + Negated.apply(r).sum() for r in results)
        gradients.append(torch.autograd.grad(loss, list(layer.parameters())))
    for mine, theirs in zip(gradients[2], gradients[0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    drive, w, h = cases.random(4, 2, 3), cases.random(3, 3), cases.random(2, 3)
    results = [
        scan(
            ll.cells.Elman().recurrence,
            torch._neg_view(drive.movedim(0, 1)),
            Weights(torch._neg_view(w), ()),
            (torch._neg_view(h),),
            mask=torch._neg_view(h + 1),
            backend=backend,
        ).output
        for backend in ("reference", "cpu")
    ]
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-13)


def given_to_lstm():
    recurrence = ll.cells.LSTM(peepholes=True).recurrence
    drive = cases.random(4, 2, 12)  # there is no input matrix
    state = (cases.random(2, 3), cases.random(2, 3))
    units = tuple(cases.random(1, 3, seed=n) for n in range(3))
    weights = Weights(cases.random(12, 3), units)
    return {"recurrence": recurrence, "x": drive, "weights": weights, "initial": state,
            "schedule": Schedule()}  # fmt: skip


WRONG = {
    "state of another dtype": (
        {"initial": (torch.zeros(2, 3),) * 2}, r"state h: got \(2, 3\) of torch.float32"
    ),
    "state of one row": (
        {"initial": (torch.zeros(1, 3).double(),) * 2}, r"state h: got \(1, 3\).*expected \(2, 3\)"
    ),
    "matrix of another dtype": (
        {"weights": Weights(torch.zeros(12, 3), (torch.zeros(1, 3).double(),) * 3)},
        r"matrix: got \(12, 3\) of torch.float32, expected \(12, 3\) of torch.float64",
    ),
    "matrix of fewer gates": (
        {"weights": Weights(torch.zeros(9, 3).double(), (torch.zeros(1, 3).double(),) * 3)},
        r"recurrent matrix: got \(9, 3\)",
    ),
    "input matrix of another dtype": (
        {"weights": Weights(torch.zeros(12, 3).double(), (torch.zeros(1, 3).double(),) * 3,
                            torch.zeros(12, 12))},
        r"input matrix: got \(12, 12\) of torch.float32",
    ),
    "bias of another dtype": (
        {"weights": Weights(torch.zeros(12, 3).double(), (torch.zeros(1, 3).double(),) * 3,
                            torch.zeros(12, 12).double(), torch.zeros(12))},
        r"bias: got \(12,\) of torch.float32",
    ),
    "no matrix": (
        {"weights": Weights(None, (torch.zeros(1, 3).double(),) * 3)}, "recurrent matrix: got None"
    ),
    "a unit parameter of another dtype": (
        {"weights": Weights(torch.zeros(12, 3).double(), (torch.zeros(1, 3),) * 3)},
        r"peephole_input: got \(1, 3\) of torch.float32",
    ),
    "too few unit parameters": (
        {"weights": Weights(torch.zeros(12, 3).double(), (torch.zeros(1, 3).double(),) * 2)},
        "unit parameters: got 2, expected 3",
    ),
    "one state": ({"initial": (torch.zeros(2, 3).double(),)}, "initial: got 1 states, expected 2"),
    "mask of one row": (
        {"schedule": Schedule(mask=torch.ones(1, 3).double())}, r"mask: got \(1, 3\)"
    ),
    "lengths of one row": (
        {"schedule": Schedule(active=torch.ones(4, 1, 1, dtype=torch.bool))},
        r"lengths: got \(4, 1, 1\)",
    ),
    "resets of fewer steps": (
        {"schedule": Schedule(keep=torch.ones(3, 2, 1, dtype=torch.bool))},
        r"resets: got \(3, 2, 1\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_memory_that_is_not_what_a_kernel_takes_it_for_is_refused(name):
    change, message = WRONG[name]
    node.run(cpu.Cpu(), ScanInputs(**given_to_lstm()))
    with pytest.raises(ValueError, match=message):
        node.run(cpu.Cpu(), ScanInputs(**{**given_to_lstm(), **change}))


@pytest.mark.every_cell
@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("front", [(1,), (4,), (2, 3)])
@pytest.mark.parametrize("steps", [1, 5])
def test_an_error_of_the_final_states_alone(cell, front, steps):
    layer, x, state, _ = problem_of(cell, front, steps)
    found = []
    for backend in ("cpu", "reference"):
        layer.eval()
        layer.backend = backend
        given = [part.detach().requires_grad_() for part in state]
        _, final = layer(x, given)
        loss = sum(part.sin().sum() for part in final)
        found.append(
            torch.autograd.grad(loss, [*given, *layer.parameters()], materialize_grads=True)
        )
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


# Threads


@pytest.mark.every_cell
@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("front", [(20,), (3, 4)])
def test_any_number_of_threads_gives_the_same(cell, front, monkeypatch):
    problem = problem_of(cell, front, hidden=5)
    expected, used, start = run(problem, "reference"), [], thread_pool.POOL.run_kernel

    def counted(kernel, parameters, parts):
        used.append(parts)
        start(kernel, parameters, parts)

    monkeypatch.setattr(thread_pool.POOL, "run_kernel", counted)
    for count in (1, 2, 3):
        with threads(count):
            used.clear()
            cases.assert_same(run(problem), expected)
            assert used == [count, count]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "cell", [ll.cells.LSTM(peepholes=True), cases.Mixed()], ids=["LSTM", "Mixed"]
)
def test_a_number_of_threads_gives_the_same_bits_a_hundred_times(cell, count):
    problem = problem_of(cell, (20,), hidden=5)
    with threads(count):
        first = run(problem)
        for _ in range(100):
            assert_equal(run(problem), first)


@pytest.mark.slow
def test_a_thread_that_is_ahead_leaves_the_errors_of_the_others_alone():
    """Where delays look back beyond the first step, in as many steps as a thread is ahead."""
    layer, x, state, _ = problem_of(cases.Wired(), (11,), steps=3, hidden=36)
    alone = cases.run(layer, x, state, "cpu")
    with threads(2):
        for _ in range(200):
            cases.assert_same(cases.run(layer, x, state, "cpu"), alone, 1e-12)


class OfThisTest(Cell):
    """No other test has compiled it."""

    gates = ("a", "b")
    wiring = {"b": Dense("h")}

    def update(self, pre, state, unit):
        return {"h": 0.4375 * state.h + tanh(pre.a) * tanh(pre.b)}


@pytest.mark.slow
def test_sixteen_threads_of_the_caller():
    """Each with its own numbers, all at once; for one cell, all have to compile."""
    made = [OfThisTest(), ll.cells.GRU(), ll.cells.Elman(), cases.Mixed()]
    problems = []
    for number in range(16):
        layer = layer_of(made[number % 4 if number % 2 else 0], 2, 5, backend="reference")
        x = cases.random(8, 9, 2, seed=number)
        problems.append((layer, x))

    def gradients(problem):
        layer, x = problem
        output, state = layer(x)
        loss = output.sin().sum() + sum(part.sum() for part in state)
        return [
            output.detach(),
            *torch.autograd.grad(loss, list(layer.parameters()), materialize_grads=True),
        ]

    expected = [gradients(problem) for problem in problems]
    for layer, _ in problems:
        layer.backend = "cpu"
    with threads(2), ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            for ours, theirs in zip(pool.map(gradients, problems), expected, strict=True):
                for mine, other in zip(ours, theirs, strict=True):
                    torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_an_interrupt_waits_for_the_threads_that_still_write():
    ready, done = Event(), []

    def task(part, parts):
        if part == 0:
            assert ready.wait(10)
            raise KeyboardInterrupt
        ready.set()
        time.sleep(0.2)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        thread_pool.Pool().run(task, 2)
    assert done == [True]


def test_an_error_in_a_thread_is_not_lost():
    def task(part, parts):
        if part == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        thread_pool.Pool().run(task, 2)


FORKED = """
import os, signal, threading, time
import torch
import longlag as ll
from longlag.scan.cpu import shape, target, threads

torch.set_num_threads(1)  # PyTorch's own threads are of no use in a forked process
torch.get_num_threads = lambda: 2
shape.SMALL = 0
layer = ll.LSTM(2, 5, seed=0, dtype=torch.float64, backend="cpu")
x = torch.linspace(-1, 1, 20 * 6 * 2, dtype=torch.float64).view(20, 6, 2)

def gradients(layer):
    output, state = layer(x)
    return torch.autograd.grad(output.sin().sum() + state.h.sum(), list(layer.parameters()))

expected = gradients(layer)
shape.MEETING, threads._cores = 1, lambda: 2
team = ll.Elman(2, 40, seed=0, backend="cpu")
series = torch.randn(1, 50, 2)
shared = team(series)[0]
threads.POOL.run(lambda part, parts: None, 2)
assert threads.POOL.pool is not None

def hold():
    with target._LOCK:
        held.set()
        time.sleep(0.3)

def child():
    signal.alarm(30)
    assert threads.POOL.pool is None
    for mine, theirs in zip(gradients(layer), expected, strict=True):
        assert torch.equal(mine, theirs)
    assert threads.POOL.pool is not None
    assert torch.equal(team(series)[0], shared)
    gradients(ll.GRU(2, 5, dtype=torch.float64, backend="cpu"))  # this one compiles

statuses = []
for locked in (False, True):
    if locked:
        held = threading.Event()
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
assert all(map(torch.equal, gradients(layer), expected))
print(statuses)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="uses fork")
def test_a_forked_process_can_run_and_compile():
    """After its parent used threads, and while another thread of the parent compiled."""
    done = script(FORKED)
    assert done.stdout.strip() == "[0, 0]", done.stderr[-2000:]
