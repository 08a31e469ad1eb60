"""Dilated layers: equal to a loop that reads h_{t-d}, and to delays; states, lengths, resets."""

import copy
import functools
import itertools
import pickle

import pytest
import torch

import longlag as ll
from longlag.layers.built_in import LAYERS
from longlag.scan import Weights, scan
from longlag.scan.cpu import backend as cpu
from longlag.scan.cpu import shape
from longlag.scan.cpu.call import in_a_row
from longlag.scan.dilated import Dilation, scan_dilated

DOUBLE = torch.float64
CASES = [(d, t) for d in (2, 5) for t in (0, 1, 7)]


def assert_same(ours, theirs):
    for one, other in itertools.zip_longest(ours, theirs):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def a_case(layer, n, steps, seed=0):
    """x, a state, lengths and resets for a layer."""
    generator = torch.Generator().manual_seed(seed)
    front = (n,) if layer.replicas is None else (layer.replicas, n)

    def normal(*shape):
        drawn = torch.randn(*front, *shape, dtype=DOUBLE, generator=generator)
        return drawn.requires_grad_()

    x = normal(steps, layer.input_size)
    state = tuple(normal(layer.hidden_size) for _ in layer.recurrence.states)
    lengths = torch.randint(0, steps + 1, front, generator=generator)
    resets = torch.rand(*front, steps, generator=generator) < 0.3
    return x, state, lengths, resets


def answers(layer, run, x, state):
    """Output, final state, and the gradients of a loss of both by x, state and parameters."""
    output, final = run(x)
    loss = sum((part * torch.linspace(1, 2, part.numel()).view(part.shape)).sum()
               for part in (output, *final))  # fmt: skip
    wanted = [x, *state, *layer.parameters()]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [output, *final, *gradients]


def paper(net, x):
    """The equations of the paper, step by step: h_t^l = tanh(U h_t^{l-1} + W h_{t-s}^l + b)."""
    below = list(x.unbind(1))
    finals = []
    for layer in net.layers:
        zero = x.new_zeros(len(x), layer.hidden_size)
        past = [zero] * layer.dilation
        for x_t in below:
            a = x_t @ layer.weight_ih.T + past[-layer.dilation] @ layer.weight_hh.T + layer.bias
            past.append(torch.tanh(a))
        below = past[layer.dilation :]
        finals.append(past[::-1][: layer.dilation])
    return torch.stack(below, 1), finals


@pytest.mark.parametrize("backend", ["auto", "derived"])  # read by address, and in phases
def test_it_is_the_loop_of_the_paper(backend):
    dilations = (1, 2, 4)
    net = ll.Dilated(ll.Elman, 2, 4, dilations=dilations, seed=0, dtype=DOUBLE, backend=backend)
    x = torch.randn(3, 15, 2, dtype=DOUBLE, requires_grad=True)
    output, states = net(x)
    theirs, finals = paper(net, x)
    assert_same([output, *itertools.chain(*states)], [theirs, *itertools.chain(*finals)])
    slope = torch.randn(output.shape, dtype=DOUBLE)
    asked = [x, *net.parameters()]
    ours = torch.autograd.grad((output * slope).sum(), asked)
    assert_same(ours, torch.autograd.grad((theirs * slope).sum(), asked))


def lstm_loop(layer, x):
    d, h, c = layer.dilation, [], []
    zero = x.new_zeros(len(x), layer.hidden_size)
    for t, x_t in enumerate(x.unbind(1)):
        h_before, c_before = (h[t - d], c[t - d]) if t >= d else (zero, zero)
        a = x_t @ layer.weight_ih.T + h_before @ layer.weight_hh.T + layer.bias
        i, f, g, o = a.chunk(4, -1)
        c.append(f.sigmoid() * c_before + i.sigmoid() * g.tanh())
        h.append(o.sigmoid() * c[-1].tanh())
    return torch.stack(h, 1)


def test_an_lstm_reads_both_states_so_far_back():
    layer = ll.LSTM(2, 4, dilation=3, seed=0, dtype=DOUBLE)
    x = torch.randn(2, 11, 2, dtype=DOUBLE, requires_grad=True)
    theirs, ours = lstm_loop(layer, x), layer(x)[0]
    assert_same([ours], [theirs])
    asked = [x, *layer.parameters()]
    assert_same(*(torch.autograd.grad((y**2).sum(), asked) for y in (ours, theirs)))


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize(("dilation", "steps"), CASES)
def test_an_elman_layer_is_one_with_the_delay(dilation, steps, replicas):
    options = {"replicas": replicas, "seed": 0, "dtype": DOUBLE}
    layer = ll.Elman(2, 4, dilation=dilation, backend="derived", **options)  # in phases
    other = ll.Skip(2, 4, delays=(dilation,), replicas=replicas, dtype=DOUBLE)
    other.load_state_dict(layer.state_dict())
    for n, use in itertools.product((0, 3), itertools.product((0, 1), repeat=3)):
        x, state, lengths, resets = a_case(layer, n, steps, seed=n)
        options = {"state": state, "lengths": lengths, "resets": resets}
        options = {key: v for (key, v), wanted in zip(options.items(), use, strict=True) if wanted}
        assert_same(
            answers(layer, lambda x: layer(x, **options), x, state),  # noqa: B023
            answers(other, lambda x: other(x, **options), x, state),  # noqa: B023
        )


def assert_it_is_the_dilated_recurrence(name, dilation, steps):
    layer = LAYERS[name](2, 4, dilation=dilation, seed=0, dtype=DOUBLE)
    base = Dilation.of(layer.cell.recurrence, dilation)
    x, state, lengths, resets = a_case(layer, 3, steps)
    mask = None if layer.weight_hh is None else 2.0 * (torch.rand(3, 4) < 0.5).to(DOUBLE)

    def answer(run):
        weights = Weights(layer.weight_hh, layer.unit_rows(), layer.weight_ih, layer.bias)
        options = (weights, state, lengths, resets, mask)
        return answers(layer, lambda x: run(x, *options)[:2], x, state)

    whole = answer(functools.partial(scan, layer.recurrence))
    for backend in ("cpu", "derived"):  # at its addresses, and in rows
        assert_same(answer(functools.partial(scan_dilated, base, backend=backend)), whole)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"Clockwork"}))
def test_it_is_the_dilated_recurrence(name):
    for dilation, steps in ((2, 1), (2, 7), (3, 9)):
        assert_it_is_the_dilated_recurrence(name, dilation, steps)


KINDS = {
    "Elman": functools.partial(ll.Elman, recurrent_dropout=0.3),
    "GRU": functools.partial(ll.GRU, density=0.5),
    "LEM": ll.LEM,
    "Leaky": functools.partial(ll.Leaky, train_leak=True),
    "LSTM": ll.LSTM,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in ("Leaky", "LEM") else ())
        for name in KINDS
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_give_what_the_reference_gives(name, threads, monkeypatch):
    """Steps as rows of one, some phases at a time, the last steps that are fewer, few residuals."""
    monkeypatch.setattr(shape, "SMALL", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    cases = (  # d, N, T, options, time first, replicas
        (64, 1, 201, 1, False, None), (4, 5, 11, 0, False, None), (8, 5, 19, 7, True, None),
        (6, 1, 4, 7, False, None), (3, 5, 8, 7, False, 2),
    )  # fmt: skip
    for d, n, steps, use, time_first, replicas in cases:
        options = {"replicas": replicas, "dilation": d, "seed": 0, "dtype": DOUBLE}
        layer = KINDS[name](2, 5, **options)
        x, *given = a_case(layer, n, steps)
        pairs = zip(("state", "lengths", "resets"), given, strict=True)
        options = {key: value for place, (key, value) in enumerate(pairs) if use & 1 << place}
        if time_first:
            x = x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()

        def run(x, layer=layer, options=options):
            torch.manual_seed(0)  # for dropout
            return layer(x, **options)

        state = options.get("state", ())
        if use & 4:  # residuals of some steps at a time, and one phase
            monkeypatch.setattr(cpu, "RESIDUALS", 1)
            monkeypatch.setattr(shape, "PHASES", 1)
        shape.shape_of.cache_clear()
        ours = answers(layer, run, x, state)
        assert layer.backend_used == "cpu"
        layer.backend = "reference"
        assert_same(ours, answers(layer, run, x, state))
    shape.shape_of.cache_clear()


def test_few_sequences_are_a_batch():
    """Steps that never meet are rows of one, but where that would need copies."""
    folds = {}
    for n, d, time_first in itertools.product((1, 3, 40), (1, 6, 37, 64), (False, True)):
        x = torch.zeros(100, n, 2) if time_first else torch.zeros(n, 100, 2).transpose(0, 1)
        folds[n, d, time_first] = shape.folded(d, n) if in_a_row(x) else 1
    assert [folds[1, d, False] for d in (1, 6, 37, 64)] == [1, 6, 37, 32]
    assert [folds[3, d, True] for d in (1, 6, 37, 64)] == [1, 6, 37, 8]
    assert {folds[3, d, False] for d in (1, 6, 37, 64)} == {1}
    assert folds[40, 64, True] == 1


def test_nothing_is_copied_that_grows_with_the_steps(monkeypatch):
    """Where T is no multiple of d, and time is not first."""
    layer = ll.GRU(4, 16, dilation=64, seed=0)
    sizes = []
    make = cpu.fresh
    monkeypatch.setattr(cpu, "fresh", lambda like, size: sizes.append(size) or make(like, size))
    output, state = layer(torch.randn(3, 1000, 4))
    assert sizes == [(1000, 3, 16), (1000, 3, 64)]  # states and residuals, without a row more
    assert output.untyped_storage().nbytes() == 1000 * 3 * 16 * 4
    assert state.h.untyped_storage().nbytes() == 64 * 3 * 16 * 4
    slope = torch.randn(output.shape)
    output.backward(slope, retain_graph=True)  # work space is there from now on
    with torch.profiler.profile(profile_memory=True) as profile:
        output.backward(slope)
    assert 0 < max(event.cpu_memory_usage for event in profile.events()) < 100 * 3 * 16 * 4


@pytest.mark.slow
def test_second_derivatives():
    layer = ll.GRU(1, 2, dilation=2, seed=0, dtype=DOUBLE)
    x = torch.randn(3, 9, 1, dtype=DOUBLE, requires_grad=True)
    options = {"lengths": torch.tensor([9, 4, 7]), "resets": torch.rand(3, 9) < 0.2}

    def penalty(x):
        output, state = layer(x, **options)
        loss = (output**2).sum() + sum((part**2).sum() for part in state)
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        return [(slope**2).sum()]

    ours = torch.autograd.grad(penalty(x), [x, *layer.parameters()])
    layer.backend = "reference"
    assert_same(ours, torch.autograd.grad(penalty(x), [x, *layer.parameters()]))


@pytest.mark.parametrize("make", [ll.Elman, functools.partial(ll.Skip, delays=(1, 3)), ll.GRU])
def test_two_calls_in_a_row_are_one(make):
    net = ll.Dilated(make, 2, 4, dilations=(1, 2, 5), seed=0, dtype=DOUBLE)
    x, resets = torch.randn(3, 14, 2, dtype=DOUBLE), torch.rand(3, 14) < 0.2
    whole, final = net(x, resets=resets)
    for cut in (0, 1, 3, 7, 14):
        first, state = net(x[:, :cut], resets=resets[:, :cut])
        second, state = net(x[:, cut:], state, resets=resets[:, cut:])
        assert_same([torch.cat([first, second], 1)], [whole])
        assert_same(itertools.chain(*state), itertools.chain(*final))


def test_a_sequence_alone_is_the_sequence_in_its_batch():
    net = ll.Dilated(ll.LSTM, 2, 4, dilations=(1, 4), seed=0, dtype=DOUBLE)
    x, lengths = torch.randn(4, 9, 2, dtype=DOUBLE), torch.tensor([9, 0, 2, 6])
    padded = x.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = torch.nan
    output, state = net(padded, lengths=lengths)
    for row, length in enumerate(lengths):
        alone, final = net(x[row : row + 1, :length])
        assert_same([output[row : row + 1, :length]], [alone])
        assert not output[row, length:].any()
        assert_same([part[row : row + 1] for part in itertools.chain(*state)],
                    itertools.chain(*final))  # fmt: skip


@pytest.mark.parametrize("backend", ["reference", "derived"])
def test_every_backend_answers_alike(backend):
    ours = ll.Dilated(ll.GRU, 2, 4, dilations=(1, 3), seed=0, dtype=DOUBLE)
    other = ll.Dilated(ll.GRU, 2, 4, dilations=(1, 3), seed=0, dtype=DOUBLE, backend=backend)
    x = torch.randn(2, 8, 2, dtype=DOUBLE)
    assert_same([ours(x)[0]], [other(x)[0]])


@pytest.mark.slow
def test_gradients_pass_gradcheck():
    layer = ll.GRU(2, 3, dilation=2, seed=0, dtype=DOUBLE)
    x = torch.randn(2, 5, 2, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], x)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], x)


def test_a_clockwork_counts_the_steps_of_the_sequence():
    layer = ll.Clockwork(1, 4, periods=(1, 3), dilation=2, seed=0, dtype=DOUBLE)
    output, state = layer(torch.randn(1, 8, 1, dtype=DOUBLE))
    slow = output[0, :, 2:]
    for t in (4, 5, 7):  # no multiples of 3, and the step two before has a value
        assert torch.equal(slow[t], slow[t - 2])
    assert state.t.item() == 8


def test_of_one_step_it_is_the_layer_itself():
    x = torch.randn(2, 6, 3)
    (layer,) = ll.Dilated(
        ll.GRU, 3, 4, dilations=(1,), seed=torch.Generator().manual_seed(5)
    ).layers
    other = ll.GRU(3, 4, seed=torch.Generator().manual_seed(5))
    assert torch.equal(layer(x)[0], other(x)[0])
    assert "dilation" not in repr(layer)


def test_it_is_saved_copied_and_shown(tmp_path):
    net = ll.Dilated(ll.LSTM, 3, 4, dilations=(1, 2, 4), dropout=0.25, seed=0)
    model = ll.SequenceModel(net, 2, seed=0).eval()
    ll.save(model, tmp_path / "model.longlag")
    x = torch.randn(2, 9, 3)
    loaded = ll.load(tmp_path / "model.longlag")
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert repr(other) == repr(model)
        assert torch.equal(other(x), model(x))
    assert [layer.dilation for layer in loaded.layer.layers] == [1, 2, 4]
    assert str(loaded.summary()) == str(model.summary())


def test_a_cell_of_ones_own_is_dilated():
    make = functools.partial(ll.Recurrent, ll.cells.Leaky(0.5))
    net = ll.Dilated(make, 2, 4, dilations=[1, 3], seed=0)
    other = ll.Dilated(ll.Leaky, 2, 4, leak=0.5, dilations=(1, 3), seed=0)
    assert_same([net(torch.ones(1, 9, 2))[0]], [other(torch.ones(1, 9, 2))[0]])


def test_reservoirs_are_stacked():
    net = ll.Dilated(ll.EchoState, 1, 20, dilations=(1, 4), leak=0.5, seed=0)
    assert [layer.dilation for layer in net.layers] == [1, 4]
    x = torch.randn(2, 9, 1)
    assert_same([net(x)[0]], [net.layers[1](net.layers[0](x)[0])[0]])


@pytest.mark.parametrize("dilations", [(), 4, (1, 0), (1, 2.0), (True, 2), "12", None])
def test_wrong_dilations_are_refused(dilations):
    with pytest.raises(
        ValueError, match=r"dilations: got .*a whole number of steps for each layer"
    ):
        ll.Dilated(ll.Elman, 2, 4, dilations=dilations)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="dilation: got 0, expected at least 1"):
        ll.GRU(2, 4, dilation=0)
    with pytest.raises(TypeError, match=r"dilation: got 2\.0"):
        ll.GRU(2, 4, dilation=2.0)
    with pytest.raises(ValueError, match="expected at most 10 steps for Skip"):
        ll.Skip(2, 4, delays=(1000,), dilation=11)
    with pytest.raises(TypeError, match="layer: got 'elman', expected what makes a layer"):
        ll.Dilated("elman", 2, 4, dilations=(1, 2))
    with pytest.raises(ValueError, match=r"to_torch: .*it has no delays"):
        ll.GRU(2, 4, dilation=2).to_torch()
    with pytest.raises(ValueError, match="state: got 1 items, expected 3 tensors"):
        ll.Elman(2, 4, dilation=3)(torch.zeros(1, 2, 2), torch.zeros(1, 4))

    class Named(ll.Cell):
        state = ("h", "h_1")
        gates = ("candidate",)

        def update(self, pre, state, unit):
            return {"h": pre.candidate, "h_1": state.h}

    with pytest.raises(ll.recurrence.DeclarationError, match="'h_1' is also the name"):
        ll.Recurrent(Named(), 2, 4, dilation=2)
