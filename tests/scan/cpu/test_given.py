"""What the kernels are given: wrong memory is refused, and no more is done than asked for."""

import time
from threading import Event

import pytest
import torch
from tests.scan import cases
from tests.scan.cpu.test_backend import kinds_of_kernels

import longlag as ll
from longlag.scan import Weights, node, scan
from longlag.scan.cpu import backend, shape
from longlag.scan.cpu import threads as thread_pool
from longlag.scan.inputs import ScanInputs

ELMAN, LSTM = ll.cells.Elman().recurrence, ll.cells.LSTM().recurrence


def weights_of(gates=1, hidden=3, width=2, rows=None):
    rows = gates * hidden if rows is None else rows
    return Weights(torch.zeros(gates * hidden, hidden), (), torch.zeros(rows, width))


@pytest.mark.parametrize(
    ("recurrence", "x", "weights", "message"),
    [
        (ELMAN, torch.zeros(5, 2), weights_of(), r"x: got \(.*expected \(T, N, C\) or"),
        (ELMAN, torch.zeros(2, 2, 2, 5, 2), weights_of(), r"x: got \(.*expected \(T, N, C\) or"),
        (ELMAN, torch.zeros(2, 5, 2, device="meta"), weights_of(), "x: got .* elsewhere"),
        (ELMAN, torch.zeros(2, 5, 2).double(), weights_of(), "x: got 2 features of torch.float64"),
        (ELMAN, torch.zeros(2, 5, 4), weights_of(), "x: got 4 features"),
        (LSTM, torch.zeros(2, 5, 2), weights_of(4, rows=13), "input matrix: got 13 numbers"),
        (LSTM, torch.zeros(2, 5, 13), Weights(torch.zeros(12, 3), ()), "x: got 13 numbers"),
    ],
    ids=["2-D", "5-D", "device", "dtype", "width", "rows of U", "width of the drive"],
)
def test_an_x_that_the_kernels_cannot_take_is_refused(recurrence, x, weights, message):
    with pytest.raises(ValueError, match=message):
        node.run(backend.Cpu(), ScanInputs(recurrence, x, weights), time_first=False)


def test_another_default_device_changes_nothing():
    layer, x = ll.LSTM(2, 5, seed=0, backend="cpu"), torch.ones(3, 4, 2)
    lengths = torch.tensor([4, 0, 2])
    expected = layer(x, lengths=lengths)[0]
    shape.shape_of.cache_clear()
    with torch.device("meta"):
        found = layer(x)[0]
    torch.testing.assert_close(found[0], expected[0])
    shape.shape_of.cache_clear()


def test_weights_that_became_others_before_the_backward_pass_are_refused():
    layer = ll.Elman(2, 5, seed=0, backend="cpu")
    output, _ = layer(torch.ones(3, 4, 2))
    with torch.no_grad():
        layer.weight_hh.data = torch.empty(0)
    with pytest.raises((ValueError, RuntimeError)):
        output.sum().backward()


def test_saved_states_of_another_kind_are_refused_and_another_layout_is_read():
    layer, x = ll.LSTM(2, 5, seed=0, dtype=torch.float64, backend="cpu"), cases.random(3, 4, 2)
    parameters = list(layer.parameters())

    def gradients(unpack):
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
            output, _ = layer(x)
        return torch.autograd.grad(output.sum(), parameters)

    expected = gradients(lambda tensor: tensor)
    turned = gradients(lambda tensor: tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor)
    for mine, theirs in zip(turned, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    with pytest.raises((ValueError, RuntimeError)):
        gradients(lambda tensor: tensor.float())


def test_without_gradients_no_activation_is_kept():
    layer, x = ll.LSTM(2, 5, seed=0, backend="cpu"), torch.ones(3, 4, 2)
    with kinds_of_kernels() as kinds:
        with torch.no_grad():
            layer(x)
        layer(x)
    assert kinds == ["forward", "store"]


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_padding_does_not_reach_a_gradient_of_which_another_may_be_taken(backend):
    layer = cases.layer_of(ll.cells.LSTM(), 2, 5, backend=backend)
    lengths = torch.tensor([4, 0, 2])
    padding = (torch.arange(4) >= lengths.unsqueeze(-1)).unsqueeze(-1)
    found = []
    for value in (0.0, float("nan")):
        x = cases.random(3, 4, 2).masked_fill(padding, value).requires_grad_()
        output, _ = layer(x, lengths=lengths)
        loss = output.sin().sum()
        found.append(torch.autograd.grad(loss, [x, *layer.parameters()], create_graph=True))
    for mine, theirs in zip(*found, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("backend", ["cpu", "derived"])
def test_a_transform_of_torch_func_is_refused(backend):
    layer = ll.Elman(2, 3, backend=backend)
    with pytest.raises(
        ValueError, match=r"cannot run this: it is inside a transform of torch\.func"
    ):
        torch.func.vmap(lambda x: layer(x)[0])(torch.ones(5, 1, 4, 2))


def test_a_thread_that_cannot_be_had_waits_for_those_that_were(monkeypatch):
    pool, begun, done = thread_pool.Pool(), Event(), []

    def task(part, parts):
        begun.set()
        time.sleep(0.2)
        done.append(part)

    pool.run(lambda part, parts: None, 3)
    executor, _ = pool.pool
    submit = executor.submit

    def failing(function, part, parts):
        if part == 2:
            assert begun.wait(10)
            raise RuntimeError("can't start new thread")
        return submit(function, part, parts)

    monkeypatch.setattr(executor, "submit", failing)
    with pytest.raises(RuntimeError, match="new thread"):
        pool.run(task, 3)
    assert done == [1]


def test_the_scan_itself_refuses_them_too():
    with pytest.raises(Exception, match=r"x"):
        scan(ELMAN, torch.zeros(5, 2), weights_of(), backend="cpu")
