"""A model that reads its own output: all steps at once are the steps one after the other."""

import itertools

import numpy as np
import pytest
import torch
from tests.scan import cases
from torch import nn

import longlag as ll
from longlag.layers import ReadoutModule
from longlag.layers.closed_loop import ClosedLoop, _is_linear
from longlag.layers.state_noise import StateNoise
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


def leaky(**options):
    layer = ll.EchoState(
        1, 12, feedback_size=2, leak=0.4, bias_scaling=0.2, seed=0, **options, **DOUBLE
    )
    return ll.SequenceModel(layer, 2, reduce=None, seed=1)


def plain(model, steps, x, teacher, noise):
    """A sparse reservoir in NumPy, which reads the teacher's values where there are some."""
    layer, readout = model.layer, model.readout
    matrix, inputs = layer.recurrent_matrix(), layer.weight_ih
    parts = (matrix, inputs, layer.bias, layer.unit("leak"), readout.weight, readout.bias)
    matrix, inputs, bias, leak, weight, offset = (part.detach().numpy() for part in parts)
    h, outputs = np.zeros((len(x), 12)), []
    for t in range(steps):
        y = h @ weight.T + offset
        outputs.append(y)
        read = y if t >= teacher.shape[1] else np.where(np.isnan(teacher[:, t]), y, teacher[:, t])
        a = np.concatenate([x[:, t], read], -1) @ inputs.T + h @ matrix.T + bias + noise[t]
        h = (1 - leak) * h + leak * np.tanh(a)
    return np.stack(outputs, 1), h


def taught(steps=5):
    return torch.randn(3, steps, 2, generator=torch.Generator().manual_seed(3), **DOUBLE)


RAGGED = taught()
RAGGED[1, 3:] = torch.nan  # one sequence has less
RAGGED[2, 1, 0] = torch.nan  # one output of one step is not known


@pytest.mark.parametrize("teacher", [taught(), taught(9), RAGGED, taught(0)],
                         ids=["some steps", "all steps", "ragged", "none"])  # fmt: skip
@pytest.mark.parametrize("density", [0.3, 1.0])
@pytest.mark.parametrize("grad", [True, False])
def test_the_teacher_is_read_where_it_has_values(teacher, density, grad):
    model = leaky(density=density)
    _, x = given(model, 9)
    expected, h = plain(model, 9, x.numpy(), teacher.numpy(), np.zeros((9, 3, 12)))
    with torch.set_grad_enabled(grad):
        got, state = model.generate(9, x=x, teacher=teacher)
    np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-11)
    np.testing.assert_allclose(state.h.detach().numpy(), h, atol=1e-11)


@pytest.mark.parametrize("teacher", [taught(), RAGGED], ids=["some steps", "ragged"])
def test_noise_is_within_the_squashing(teacher):
    model = leaky(density=0.3)
    _, x = given(model, 9)
    noise = 0.1 * torch.randn(9, 3, 12, generator=torch.Generator().manual_seed(5), **DOUBLE)
    expected, h = plain(model, 9, x.numpy(), teacher.numpy(), noise.numpy())
    given_out = itertools.count()

    def draw(self, like):
        """The next steps of it."""
        return torch.stack([noise[next(given_out)] for _ in range(len(like))])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StateNoise, "draw", draw)
        got, state = model.generate(9, x=x, teacher=teacher, state_noise=0.1)
    np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-11)
    np.testing.assert_allclose(state.h.detach().numpy(), h, atol=1e-11)
    assert next(given_out) == 9


@pytest.mark.parametrize(
    "make",
    [
        lambda: ll.GRU(3, 8, **DOUBLE),
        lambda: ll.LSTM(3, 8, bias=False, **DOUBLE),
        lambda: ll.GRU(3, 8, replicas=2, **DOUBLE),
        lambda: ll.EchoState(1, 8, feedback_size=2, proximity=0.3, **DOUBLE),
        lambda: ll.Skip(3, 8, delays=(1, 3), **DOUBLE),
        lambda: ll.Elman(3, 8, dilation=2, **DOUBLE),
    ],
    ids=["GRU", "LSTM", "replicas", "turned", "delays", "dilation"],
)
def test_noise_in_one_call_is_that_of_the_steps(make, monkeypatch):
    """Also where what is fed back needs gates of its own."""
    torch.manual_seed(0)
    model = ll.SequenceModel(make(), 2, reduce=None)
    warmup, x = given(model, 9)
    noise = torch.randn(9, 2, 3, 8 * 4, generator=torch.Generator().manual_seed(5), **DOUBLE)
    results = []
    for linear in (True, False):
        given_out = itertools.count()

        def draw(self, like, given_out=given_out):
            some = torch.stack([noise[next(given_out)] for _ in range(len(like))])
            some = some if like.dim() == 4 else some[:, 0]
            return 0.1 * some[..., : like.shape[-1]]

        monkeypatch.setattr(StateNoise, "draw", draw)
        monkeypatch.setattr("longlag.layers.closed_loop._is_linear", lambda *_, now=linear: now)
        results.append(model.generate(9, warmup=warmup, x=x, state_noise=0.1))
    (one, state), (other, final) = results
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(tuple(state), tuple(final), rtol=1e-10, atol=1e-11)
    assert not torch.allclose(one, model.generate(9, warmup=warmup, x=x)[0])


def test_a_seed_is_a_course():
    model = leaky(density=0.3)
    warmup, x = given(model, 9)

    def course(size, seed=None):
        return model.generate(9, warmup=warmup, x=x, state_noise=size, seed=seed)[0]

    before = torch.get_rng_state()
    assert torch.equal(course(0.1, 0), course(0.1, 0))
    assert not torch.equal(course(0.1, 0), course(0.1, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(course(0.1), course(0.1))  # the global generator goes on
    assert torch.equal(course(0.1, 0)[:, 0], course(0.0)[:, 0])  # none in the warm-up
    torch.testing.assert_close(course(1e-13, 0), course(0.0), rtol=0, atol=1e-11)
    assert model.layer.drive_noise is None


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("make", [
    lambda: ll.GRU(3, 5, **DOUBLE),
    lambda: ll.Stack(ll.GRU(3, 5, **DOUBLE), ll.LSTM(5, 4, **DOUBLE)),
])  # fmt: skip
def test_to_be_taught_is_to_be_warmed_up(make, direct):
    torch.manual_seed(0)
    model = ll.SequenceModel(make(), 2, reduce=None, direct=direct)
    warmup, x = given(model, 9, warm=1)
    teacher = taught()
    got, state = model.generate(9, warmup=warmup, x=x, teacher=teacher)
    seen = torch.cat([warmup, torch.cat([x[:, :5], teacher], -1)], 1)
    torch.testing.assert_close(got[:, :6], model(seen))
    later, final = model.generate(4, warmup=seen, x=x[:, 5:])
    torch.testing.assert_close(got[:, 5:], later)
    flat = torch.utils._pytree.tree_leaves
    for one, other in zip(flat(state), flat(final), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("direct", [False, True])
def test_each_sequence_has_a_warm_up_of_its_own_length(direct):
    torch.manual_seed(0)
    model = ll.SequenceModel(ll.GRU(3, 5, **DOUBLE), 2, reduce=None, direct=direct)
    warmup, x = given(model, 9)
    lengths = [7, 2, 4]
    alone = [
        model.generate(9, warmup=warmup[n : n + 1, :length], x=x[n : n + 1])[0]
        for n, length in enumerate(lengths)
    ]
    for n, length in enumerate(lengths):
        warmup[n, length:] = torch.nan
    got, _ = model.generate(9, warmup=warmup, lengths=lengths, x=x)
    torch.testing.assert_close(got, torch.cat(alone))
    if direct:
        with pytest.raises(ValueError, match="warmup: got no step"):
            model.generate(9, warmup=warmup, lengths=[7, 0, 4], x=x)
    else:
        start = model.layer(torch.randn(3, 2, 3, **DOUBLE))[1]
        got, _ = model.generate(9, warmup=warmup, lengths=[7, 0, 4], x=x, state=start)
        rest, _ = model.generate(9, x=x[1:2], state=type(start)(start.h[1:2]))
        torch.testing.assert_close(got[1:2], rest)


def test_gradients_flow_through_what_is_taught():
    model = leaky(density=0.3, trained=True)
    _, x = given(model, 9)
    gradients = []
    for loop in ("longlag.layers.closed_loop._is_linear", None):
        with pytest.MonkeyPatch.context() as patched:
            if loop:
                patched.setattr(loop, lambda *_: False)
            outputs, _ = model.generate(9, x=x, teacher=RAGGED)
        wanted = [*model.readout.parameters(), model.layer.weight_hh, model.layer.weight_ih]
        gradients.append(torch.autograd.grad(outputs.square().sum(), wanted))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
        assert bool(one.isfinite().all())


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"teacher": torch.zeros(3, 10, 2, **DOUBLE)}, ValueError,
         r"teacher: got \(3, 10, 2\), expected \(3, 9, 2\), or fewer of these 9 steps"),
        ({"teacher": torch.zeros(3, 5, 1, **DOUBLE)}, ValueError, r"teacher: got \(3, 5, 1\)"),
        ({"teacher": torch.zeros(2, 5, 2, **DOUBLE)}, ValueError, r"teacher: got \(2, 5, 2\)"),
        ({"teacher": torch.zeros(5, 2, **DOUBLE)}, ValueError, r"teacher: got \(5, 2\)"),
        ({"teacher": torch.zeros(3, 5, 2)}, TypeError, r"teacher: got torch.float32 on cpu"),
        ({"teacher": [1.0]}, TypeError, "teacher: got list, expected a torch.Tensor"),
        ({"lengths": [1, 2, 3]}, ValueError, "lengths: got some without a warmup"),
        ({"state_noise": -1.0}, ValueError, "state_noise: got -1.0"),
        ({"state_noise": 1.0, "seed": 0.5}, TypeError, "seed: got 0.5"),
    ],
)  # fmt: skip
def test_what_the_teacher_cannot_say_is_named(arguments, kind, message):
    with pytest.raises(kind, match=message):
        leaky().generate(9, x=torch.zeros(3, 9, 1, **DOUBLE), **arguments)
