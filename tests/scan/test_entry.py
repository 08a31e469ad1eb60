import warnings

import jaxtyping
import pytest
import torch
from tests.scan import cases

import longlag as ll
from longlag.scan import BACKENDS, BackendWarning, Weights, check_backend, scan
from longlag.scan import backend as module

RECURRENCE = ll.cells.LSTM().recurrence


def given(n=2, t=5, h=3):
    drive = cases.random(n, t, 4 * h, seed=1)
    weights = Weights(cases.random(4 * h, h, seed=2), ())
    initial = (cases.random(n, h, seed=3), cases.random(n, h, seed=4))
    return drive, weights, initial


@pytest.mark.parametrize(
    ("asked", "ran"),
    [("auto", "cpu"), ("cpu", "cpu"), ("derived", "derived"), ("reference", "reference")],
)
def test_what_ran_is_recorded(asked, ran):
    assert scan(RECURRENCE, *given(), backend=asked).backend == ran
    layer = ll.LSTM(2, 3, backend=asked)
    assert layer.backend_used is None
    output, _ = layer(torch.ones(1, 4, 2))
    assert layer.backend_used == ran
    assert ("ScanNode" in str(graph_of(output))) == (ran != "reference")


def graph_of(output):
    """Names of the nodes of autograd's graph below a tensor."""
    names, nodes = set(), [output.grad_fn]
    while nodes:
        node = nodes.pop()
        names.add(type(node).__name__)
        nodes += [parent for parent, _ in node.next_functions if parent is not None]
    return names


def test_an_unknown_backend_is_refused():
    message = "backend: got 'cuda', expected one of 'auto', 'reference', 'derived', 'cpu'"
    for refused in (
        lambda: scan(RECURRENCE, *given(), backend="cuda"),
        lambda: check_backend("cuda"),
        lambda: ll.LSTM(2, 3, backend="cuda"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
    assert BACKENDS == ("auto", "reference", "derived", "cpu")


def as_type(dtype):
    drive, weights, initial = given()
    weights = Weights(weights.recurrent.to(dtype), ())
    return drive.to(dtype), weights, tuple(state.to(dtype) for state in initial)


@pytest.mark.parametrize(
    ("dtype", "ran"),
    [
        (torch.float64, "cpu"),
        (torch.float32, "cpu"),
        (torch.bfloat16, "derived"),
        (torch.float16, "derived"),
    ],
)
def test_auto_takes_kernels_where_there_are_any(dtype, ran):
    assert scan(RECURRENCE, *as_type(dtype)).backend == ran
    layer = ll.LSTM(2, 3, dtype=dtype)
    layer(torch.ones(1, 4, 2, dtype=dtype))
    assert layer.backend_used == ran


def test_auto_says_once_that_it_takes_a_slow_backend(monkeypatch):
    monkeypatch.setattr(module, "_SAID", set())
    layer = ll.LSTM(2, 3, dtype=torch.bfloat16)
    message = "'auto' takes 'derived', .*: it has float32 and float64, not torch.bfloat16"
    with pytest.warns(BackendWarning, match=message):
        layer(torch.ones(1, 4, 2, dtype=torch.bfloat16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.ones(1, 4, 2, dtype=torch.bfloat16))  # said already
        ll.LSTM(2, 3, dtype=torch.bfloat16, backend="derived")(torch.ones(1, 4, 2).bfloat16())
    layer = ll.Elman(2, 3)
    with pytest.warns(BackendWarning, match="'auto' takes 'reference'.*transform of torch.func"):
        torch.func.vmap(lambda x: layer(x)[0])(torch.ones(5, 1, 4, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kernels_for_another_dtype_are_refused(dtype):
    message = rf"'cpu' cannot run this: it has float32 and float64, not {dtype}; use .*'auto'"
    with pytest.raises(ValueError, match=message):
        scan(RECURRENCE, *as_type(dtype), backend="cpu")
    with pytest.raises(ValueError, match=message):
        ll.LSTM(2, 3, dtype=dtype, backend="cpu")(torch.ones(1, 4, 2, dtype=dtype))


def test_kernels_for_another_device_are_refused():
    layer = ll.LSTM(2, 3, device="meta", backend="cpu")
    with pytest.raises(ValueError, match="'cpu' cannot run this: the tensors are on meta"):
        layer(torch.ones(1, 4, 2, device="meta"))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_shapes(backend):
    result = scan(RECURRENCE, *given(), backend=backend)
    assert result.output.shape == (2, 5, 3)
    assert [state.shape for state in result.state] == [(2, 3), (2, 3)]
    torch.testing.assert_close(result.output[:, -1], result.state[0])


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("x", torch.zeros(2, 5)),
        ("initial", (torch.zeros(2, 3, dtype=torch.int64),) * 2),
        ("lengths", torch.ones(2)),
        ("lengths", torch.ones(3, dtype=torch.int64)),
        ("resets", torch.zeros(2, 4, dtype=torch.bool)),
        ("mask", torch.zeros(3, 3)),
        ("weights", torch.zeros(12, 3)),
    ],
)
def test_the_annotated_shapes_are_checked_in_tests(part, wrong):
    x, weights, initial = given()
    arguments = {"x": x, "weights": weights, "initial": initial, part: wrong}
    with pytest.raises(jaxtyping.TypeCheckError):
        scan(RECURRENCE, **arguments)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend"), cases.PAIRS)
@pytest.mark.parametrize("empty", ["no steps", "no length", "no step, replicas"])
def test_without_steps_the_state_stays_and_so_does_its_gradient(name, backend, empty):
    cell = cases.CELLS[name]
    hidden = cases.hidden_of(cell, 4)
    replicas = 2 if "replicas" in empty else None
    front = (3,) if replicas is None else (2, 3)
    layer = cases.layer_of(cell, 2, hidden, backend=backend, replicas=replicas)
    state = [part.requires_grad_() for part in cases.states_of(cell, front, hidden)]
    x = cases.random(*front, 5 if empty == "no length" else 0, 2)
    lengths = torch.zeros(front, dtype=torch.int64) if empty == "no length" else None
    output, final = layer(x, state, lengths=lengths)
    assert output.shape == (*front, x.shape[-2], hidden)
    assert output.count_nonzero() == 0
    weights = [cases.random(*part.shape, seed=n + 7) for n, part in enumerate(state)]
    loss = sum((part * weight).sum() for part, weight in zip(final, weights, strict=True))
    (loss + output.sum()).backward()
    for name, before, after, weight in zip(final._fields, state, final, weights, strict=True):
        assert torch.equal(before, after)
        if name in cell.recurrence.states:
            assert torch.equal(before.grad, weight)
        else:  # t has no derivative
            assert before.grad is None
    assert all(p.grad is None or p.grad.count_nonzero() == 0 for p in layer.parameters())


@pytest.mark.parametrize(("name", "backend"), cases.PAIRS)
@pytest.mark.parametrize("front", [(0,), (2, 0)])
def test_without_sequences_all_is_empty_and_gradients_are_zero(name, backend, front):
    cell = cases.CELLS[name]
    hidden = cases.hidden_of(cell, 4)
    layer = cases.layer_of(cell, 2, hidden, replicas=None if len(front) == 1 else 2)
    results = cases.run(
        layer,
        torch.zeros(*front, 5, 2, dtype=torch.float64),
        backend=backend,
        lengths=torch.zeros(front, dtype=torch.int64),
        resets=torch.zeros(*front, 5, dtype=torch.bool),
    )
    assert results["output"].shape == (*front, 5, hidden)
    for what, parameter in layer.named_parameters():
        assert results[f"gradient by {what}"].shape == parameter.shape
        assert results[f"gradient by {what}"].count_nonzero() == 0


# In half precision rounding may move a unit over the corner of its activation.
SMOOTH = {
    name: cell
    for name, cell in cases.CELLS.items()
    if "step(" not in str(cell.recurrence.linearisation)
}

ANY_FLOAT = ("reference", "derived")


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "name", "dtype", "within"),
    [
        *((backend, name, torch.float32, 2e-5) for name, backend in cases.PAIRS),
        *((backend, name, torch.bfloat16, 0.15) for name in SMOOTH for backend in ANY_FLOAT),
        *((backend, name, torch.float16, 0.02) for name in SMOOTH for backend in ANY_FLOAT),
    ],
)
def test_it_takes_any_float(name, backend, dtype, within):
    """Near the result in float64 of the same, rounded, numbers."""
    cell = cases.CELLS[name]
    hidden = cases.hidden_of(cell, 3)
    rough = cases.layer_of(cell, 2, hidden).to(dtype)
    exact = cases.layer_of(cell, 2, hidden)
    exact.load_state_dict(rough.state_dict())
    x = cases.random(2, 4, 2).to(dtype)
    schedule = {
        "lengths": torch.tensor([4, 2]),
        "resets": torch.tensor([[False, False, True, False]] * 2),
    }
    state = [part.to(dtype) for part in cases.states_of(cell, (2,), hidden, seed=5)]
    ours = cases.run(rough, x, state, backend, **schedule)
    theirs = cases.run(exact, x.double(), [s.double() for s in state], backend, **schedule)
    assert all(result.dtype == dtype for result in ours.values())
    cases.assert_same({n: r.double() for n, r in ours.items()}, theirs, within)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend"), cases.PAIRS)
def test_repeated_runs_have_the_same_bits(name, backend):
    cell = cases.CELLS[name]
    layer = cases.layer_of(cell, 3, cases.hidden_of(cell, 4))
    x, schedule = cases.random(5, 6, 3), {"lengths": torch.tensor([6, 2, 0, 5, 1])}
    first = cases.run(layer, x, backend=backend, **schedule)
    for _ in range(20):
        again = cases.run(layer, x, backend=backend, **schedule)
        assert all(torch.equal(first[what], again[what]) for what in first)


def test_a_dropout_mask_that_wants_a_gradient_is_refused():
    layer = ll.Elman(2, 3, seed=0)
    mask = torch.ones(1, 3, requires_grad=True)
    weights = Weights(layer.weight_hh, (), layer.weight_ih, layer.bias)
    with pytest.raises(ValueError, match=r"mask: requires a gradient.*mask\.detach"):
        scan(layer.recurrence, torch.zeros(1, 4, 2), weights, mask=mask)
