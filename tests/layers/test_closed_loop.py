"""A model that reads its own output: all steps at once are the steps one after the other."""

import pytest
import torch
from tests.scan import cases
from torch import nn

import longlag as ll
from longlag.layers import ReadoutModule
from longlag.layers.closed_loop import ClosedLoop, _is_linear
from longlag.scan.connections import Entries

DOUBLE = {"dtype": torch.float64}


def stepped(model, steps, warmup, x, state=None):
    """The outputs by the model itself, one step after the other."""
    y = warmup.new_zeros((*warmup.shape[:-2], 1, model.output_size))
    h, state = model.layer(warmup, state)
    if warmup.shape[-2]:
        direct = warmup[..., -1:, :] if model.direct else None
        y = model.readout(h[..., -1:, :], direct)
    outputs = []
    for t in range(steps):
        outputs.append(y)
        read = torch.cat([x[..., t : t + 1, :], y], -1)
        h, state = model.layer(read, state)
        y = model.readout(h, read if model.direct else None)
    return torch.cat(outputs, -2), state


def given(model, steps, batch=3, warm=7):
    draw = torch.Generator().manual_seed(0)
    front = (batch,) if model.layer.replicas is None else (model.layer.replicas, batch)
    free = model.input_size - model.output_size
    warmup = torch.randn(*front, warm, model.input_size, generator=draw, **DOUBLE)
    return warmup, torch.randn(*front, steps, free, generator=draw, **DOUBLE)


def check(model, backend=None, steps=9):
    warmup, x = given(model, steps)
    expected, final = stepped(model, steps, warmup, x)
    got, state = model.generate(steps, warmup=warmup, x=x)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(tuple(state), tuple(final), rtol=1e-9, atol=1e-11)
    # In two parts it is the same.
    first, between = model.generate(4, warmup=warmup, x=x[..., :4, :])
    second, _ = model.generate(steps - 4, x=x[..., 4:, :], state=between)
    torch.testing.assert_close(torch.cat([first, second], -2), expected, rtol=1e-9, atol=1e-11)


NAMES = [
    pytest.param(name, marks=() if name in ("GRU", "Wired", "Mixed") else pytest.mark.slow)
    for name in cases.CELLS
]


@pytest.mark.every_cell
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_every_cell_in_one_call(name, backend):
    torch.manual_seed(0)
    cell = cases.CELLS[name]
    for inputs, bias in ((4, True), (2, False)):
        layer = ll.Recurrent(cell, inputs, 12, bias=bias, backend=backend, **DOUBLE)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(0.5)
        model = ll.SequenceModel(layer, 2, reduce=None)
        assert _is_linear(model.layer, model.readout)
        check(model)


@pytest.mark.parametrize("name", ["GRU", "Elman", "Mixed"])
def test_gradients_flow_through_the_loop(name):
    torch.manual_seed(0)
    layer = ll.Recurrent(cases.CELLS[name], 3, 5, **DOUBLE)
    model = ll.SequenceModel(layer, 2, reduce=None)
    warmup, x = given(model, 6)
    gradients = []
    for outputs in (stepped(model, 6, warmup, x)[0], model.generate(6, warmup=warmup, x=x)[0]):
        loss = outputs.square().sum()
        gradients.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)


class Cosine(ReadoutModule):
    def __init__(self, size, outputs):
        super().__init__()
        self.input_size, self.output_size = size, outputs
        self.inner = nn.Linear(size, outputs, **DOUBLE)

    def forward(self, h, x=None):
        return self.inner(h).cos()

    def config(self):
        return {"type": "Cosine"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: ll.SequenceModel(ll.Stack(ll.GRU(3, 5, **DOUBLE), ll.LSTM(5, 4, **DOUBLE)), 2),
        lambda: ll.SequenceModel(ll.GRU(3, 5, **DOUBLE), 2, direct=True),
        lambda: ll.SequenceModel(ll.GRU(3, 5, **DOUBLE), 2, squares=True, reduce=None),
        lambda: ll.SequenceModel(ll.GRU(3, 5, **DOUBLE), 2, output_activation="tanh"),
        lambda: ll.SequenceModel(ll.GRU(3, 5, **DOUBLE), readout=Cosine(5, 2)),
    ],
    ids=["stack", "direct", "squares", "tanh", "own readout"],
)
def test_other_models_go_step_by_step(make):
    torch.manual_seed(0)
    model = make()
    assert not _is_linear(model.layer, model.readout)
    warmup, x = given(model, 9)
    got, state = model.generate(9, warmup=warmup, x=x)
    expected, final = stepped(model, 9, warmup, x)
    torch.testing.assert_close(got, expected)
    flat = torch.utils._pytree.tree_leaves
    for one, other in zip(flat(state), flat(final), strict=True):
        torch.testing.assert_close(one, other)


def test_replicas_and_sparse_reservoirs():
    torch.manual_seed(0)
    check(ll.SequenceModel(ll.LSTM(3, 5, replicas=2, **DOUBLE), 2, reduce=None))
    reservoir = ll.EchoState(1, 30, feedback_size=2, leak=0.3, bias_scaling=0.1, **DOUBLE)
    check(ll.SequenceModel(reservoir, 2, reduce=None))


@pytest.mark.parametrize(
    "layer",
    [
        ll.EchoState(1, 37, feedback_size=2, leak=0.3, bias_scaling=0.1, seed=0, **DOUBLE),
        ll.EchoState(0, 21, feedback_size=2, replicas=2, seed=0, **DOUBLE),
        ll.GRU(3, 5, density=0.4, seed=0, **DOUBLE),
    ],
    ids=["free input", "replicas", "gates"],
)
def test_a_sparse_matrix_stays_so_where_no_gradients_are_wanted(layer, monkeypatch):
    monkeypatch.setattr(Entries, "dense", None)
    model = ll.SequenceModel(layer, 2, reduce=None, seed=1)
    front = () if layer.replicas is None else (layer.replicas,)
    warmup = torch.randn(*front, 5, 4, layer.input_size, **DOUBLE)
    x = torch.randn(*front, 5, 9, layer.input_size - 2, **DOUBLE)
    with torch.no_grad():
        got, state = model.generate(9, warmup=warmup, x=x)
        assert got.shape == (*front, 5, 9, 2)
        expected, final = stepped(model, 9, warmup, x)
        nothing, _ = model.generate(0, warmup=warmup, x=x[..., :0, :])
    torch.testing.assert_close(got, expected)
    for one, other in zip(state, final, strict=True):
        torch.testing.assert_close(one, other)
    assert nothing.shape == (*front, 5, 0, 2)


def test_a_sparse_matrix_has_gradients_through_its_own_output():
    layer = ll.EchoState(0, 12, feedback_size=1, trained=True, seed=0, **DOUBLE)
    model = ll.SequenceModel(layer, 1, reduce=None, seed=1)
    warmup, x = torch.randn(2, 3, 1, **DOUBLE), torch.zeros(2, 6, 0, **DOUBLE)
    results = []
    for run in (model.generate, lambda steps, warmup, x: stepped(model, steps, warmup, x)):
        model.zero_grad()
        outputs, _ = run(6, warmup=warmup, x=x)
        outputs.square().sum().backward()
        results.append((outputs.detach(), layer.weight_hh.grad, model.readout.weight.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_it_begins_with_the_output_of_the_state():
    model = ll.SequenceModel(ll.GRU(2, 5, seed=0, **DOUBLE), 2, seed=0)
    alone, _ = model.generate(3)
    assert alone.shape == (1, 3, 2)
    state = type(model.layer(torch.zeros(1, 1, 2, **DOUBLE))[1])(torch.zeros(4, 5, **DOUBLE))
    batch, _ = model.generate(3, state=state)
    torch.testing.assert_close(batch, alone.expand(4, 3, 2))
    torch.testing.assert_close(alone[:, 0], model.readout.bias.expand(1, 2))
    torch.testing.assert_close(alone[:, 1], model(alone[:, :1]))
    nothing, kept = model.generate(0, state=state)
    assert nothing.shape == (4, 0, 2)
    torch.testing.assert_close(kept.h, state.h)


def test_after_a_warmup_come_the_values_that_follow():
    """A model that adds one to what it reads counts on."""
    layer = ll.Elman(1, 1, activation="identity", bias=False, **DOUBLE)
    model = ll.SequenceModel(layer, 1, reduce=None)
    with torch.no_grad():
        layer.weight_ih.fill_(1.0)
        layer.weight_hh.fill_(0.0)
        model.readout.weight.fill_(1.0)
        model.readout.bias.fill_(1.0)
    counted, state = model.generate(3, warmup=torch.tensor([[[5.0], [6.0]]], **DOUBLE))
    assert counted.flatten().tolist() == [7.0, 8.0, 9.0]
    assert model.generate(2, state=state)[0].flatten().tolist() == [10.0, 11.0]


def test_dropout_draws_at_each_step():
    torch.manual_seed(0)
    layer = ll.GRU(2, 5, recurrent_dropout=0.5, **DOUBLE)
    model = ll.SequenceModel(layer, 2, reduce=None)
    assert not _is_linear(layer, model.readout)
    assert _is_linear(model.eval().layer, model.readout)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda: ll.SequenceModel(ll.GRU(1, 5), 2), {}, "model: it puts out 2 numbers and reads 1"),
        (
            lambda: ll.SequenceModel(ll.Bidirectional(ll.GRU(2, 5)), 2),
            {},
            "model: it reads in both directions",
        ),
        (lambda: ll.SequenceModel(ll.GRU(2, 5), 2, reduce="mean"), {}, "model: reduce='mean'"),
        (lambda: ll.SequenceModel(ll.GRU(3, 5), 2), {}, r"x: got None, expected \(1, 4, 1\)"),
        (
            lambda: ll.SequenceModel(ll.GRU(3, 5), 2),
            {"x": torch.zeros(1, 5, 1)},
            r"x: got \(1, 5, 1\), expected \(1, 4, 1\)",
        ),
        (
            lambda: ll.SequenceModel(ll.GRU(3, 5), 2),
            {"x": torch.zeros(1, 4, 2)},
            r"x: got .*2",
        ),
        (
            lambda: ll.SequenceModel(ll.GRU(2, 5), 2),
            {"warmup": torch.zeros(1, 4, 3)},
            r"x: got shape \(1, 4, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make().generate(4, **arguments)
    with pytest.raises(ValueError, match="warmup: got no step, and the readout sees the input"):
        ll.SequenceModel(ll.GRU(2, 5), 2, direct=True).generate(2)
    with pytest.raises(ValueError, match="steps: got -1"):
        ll.SequenceModel(ll.GRU(2, 5), 2).generate(-1)


def test_the_loop_of_a_model_is_what_it_says():
    loop = ClosedLoop(ll.GRU(3, 5), ll.SequenceModel(ll.GRU(3, 5), 2).readout)
    assert loop.free == 1
