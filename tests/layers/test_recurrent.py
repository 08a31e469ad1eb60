import copy

import numpy as np
import pytest
import torch
from tests.scan import cases

import longlag as ll
from longlag.recurrence import Cell, DeclarationError, Uniform, UnitParameter, tanh

FAMILIES = {
    "Elman": lambda **o: ll.Elman(2, 3, **o),
    "Leaky": lambda **o: ll.Leaky(2, 3, leak=0.3, train_leak=True, **o),
    "Leaky without W": lambda **o: ll.Leaky(2, 3, recurrent=False, **o),
    "LSTM": lambda **o: ll.LSTM(2, 3, peepholes=True, **o),
    "LSTM1997": lambda **o: ll.LSTM1997(2, 3, **o),
    "GRU": lambda **o: ll.GRU(2, 3, **o),
    "IndRNN": lambda **o: ll.IndRNN(2, 3, **o),
    "Mixed": lambda **o: ll.Recurrent(cases.Mixed(), 2, 3, **o),
}
EVERY = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)


def with_units(**units):
    class Own(Cell):
        gates = ("a",)
        unit_parameters = units

        def update(self, pre, state, unit):
            return {"h": tanh(pre.a) + sum(getattr(unit, name) for name in units)}

    return Own()


@EVERY
def test_one_seed_gives_one_network(make):
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, dict(same.named_parameters())[name])
    assert not torch.equal(one.weight_ih, other.weight_ih)
    one.reset_parameters(2)
    assert torch.equal(one.weight_ih, other.weight_ih)


def test_a_seed_leaves_the_global_generator_alone_and_no_seed_uses_it():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    ll.LSTM(2, 3, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    one = ll.LSTM(2, 3)
    torch.manual_seed(5)
    assert torch.equal(ll.LSTM(2, 3).weight_ih, one.weight_ih)


def test_a_generator_goes_on_from_layer_to_layer():
    generator = torch.Generator().manual_seed(3)
    first, second = (ll.GRU(2, 3, seed=generator) for _ in range(2))
    again = ll.GRU(2, 3, seed=torch.Generator().manual_seed(3))
    assert torch.equal(first.weight_ih, again.weight_ih)
    assert not torch.equal(first.weight_ih, second.weight_ih)


def test_one_seed_gives_other_numbers_to_layer_readout_and_directions():
    layer = ll.Elman(8, 8, seed=0)
    model = ll.SequenceModel(layer, 8, seed=0, readout_init="uniform")
    both = ll.Bidirectional(ll.Elman(8, 8, seed=0), seed=0)
    ours = layer.weight_ih.flatten()
    for other in (model.readout.weight, both.backward_layer.weight_ih):
        assert abs(torch.corrcoef(torch.stack([ours, other.flatten()]))[0, 1]) < 0.5


@pytest.mark.parametrize("seed", [np.int64(3), 3])
def test_whole_numbers_of_any_kind_are_seeds(seed):
    assert torch.equal(ll.GRU(2, 3, seed=seed).weight_ih, ll.GRU(2, 3, seed=3).weight_ih)


def test_a_seed_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"seed: got 'a' \(str\), expected a whole number"):
        ll.GRU(2, 3, seed="a")


def test_a_seed_means_the_same_in_half_precision():
    assert torch.equal(
        ll.GRU(2, 3, seed=0, dtype=torch.bfloat16).weight_ih,
        ll.GRU(2, 3, seed=0).weight_ih.bfloat16(),
    )


@EVERY
def test_the_first_replicas_are_those_of_fewer(make):
    """A seed gives replica r the same numbers, however many come after it."""
    one, two, three = make(seed=1), make(seed=1, replicas=2), make(seed=1, replicas=3)
    for name, parameter in three.named_parameters():
        assert torch.equal(parameter[0], dict(one.named_parameters())[name])
        assert torch.equal(parameter[:2], dict(two.named_parameters())[name])
    assert not torch.equal(three.weight_ih[0], three.weight_ih[1])


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_replicas_are_that_many_networks(make, backend):
    many = make(replicas=3, seed=0, dtype=torch.float64)
    with torch.no_grad():
        for number, parameter in enumerate(many.parameters()):
            parameter.copy_(0.6 * cases.random(*parameter.shape, seed=number))
    x = cases.random(3, 4, 5, 2)
    state = [cases.random(3, 4, 3, seed=n) for n in range(len(many.cell.state))]
    lengths = torch.tensor([[5, 2, 0, 1], [3, 3, 5, 4], [1, 5, 5, 2]])
    resets = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.3
    whole = results_of(many, x, state, lengths, resets, backend)
    for r in range(3):
        one = make(dtype=torch.float64)
        one.load_state_dict({name: value[r] for name, value in many.state_dict().items()})
        alone = results_of(one, x[r], [s[r] for s in state], lengths[r], resets[r], backend)
        assert whole.keys() == alone.keys()
        for name, mine in alone.items():
            torch.testing.assert_close(mine, whole[name][r], rtol=1e-12, atol=1e-12)


def results_of(layer, x, state, lengths, resets, backend):
    """Results, and gradients of a loss that weighs every replica alike."""
    layer.backend = backend
    x = x.detach().requires_grad_()
    state = [s.detach().requires_grad_() for s in state]
    output, final = layer(x, state, lengths=lengths, resets=resets)
    loss = (output.sin() + output**2).sum() + sum(part.square().sum() for part in final)
    named = {"x": x, **{f"s{n}": s for n, s in enumerate(state)}, **dict(layer.named_parameters())}
    found = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    return {
        "output": output,
        **final._asdict(),
        **dict(zip(("d" + n for n in named), found, strict=True)),
    }


def test_a_bare_tensor_will_do_for_one_state():
    layer, h = ll.GRU(2, 3), torch.randn(4, 3)
    x = torch.randn(4, 5, 2)
    assert torch.equal(layer(x, h)[0], layer(x, (h,))[0])
    assert not torch.equal(layer(x, h)[0], layer(x)[0])
    carried = layer(x, h)[1]
    assert torch.equal(layer(x, carried)[0], layer(x, carried.h)[0])


def test_lengths_may_be_any_whole_numbers():
    layer, x = ll.GRU(2, 3), torch.randn(3, 5, 2)
    expected = layer(x, lengths=torch.tensor([5, 0, 2]))[0]
    for lengths in (torch.tensor([5, 0, 2], dtype=torch.int32), [5, 0, 2]):
        assert torch.equal(layer(x, lengths=lengths)[0], expected)


@EVERY
def test_a_copy_is_a_network_of_its_own(make):
    layer, x = make(seed=0), torch.randn(2, 4, 2)
    before = layer(x)[0]
    other = copy.deepcopy(layer)
    assert torch.equal(other(x)[0], before)
    with torch.no_grad():
        other.weight_ih.add_(1.0)
    assert torch.equal(layer(x)[0], before)
    assert not torch.equal(other(x)[0], before)


@pytest.mark.slow
@EVERY
def test_state_dict_and_dtype(make):
    one, other = make(seed=0), make(seed=1)
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 4, 2)
    assert torch.equal(one(x)[0], other(x)[0])
    assert one.to(torch.float64)(x.double())[0].dtype == torch.float64
    torch.testing.assert_close(one(x.double())[0], other(x)[0].double(), rtol=1e-5, atol=1e-6)


@EVERY
def test_the_order_of_the_parameters_is_that_of_the_equation(make):
    names = [name for name, _ in make().named_parameters()]
    head = [n for n in ("weight_ih", "weight_hh", "weight_hh_diagonal", "bias") if n in names]
    assert names[: len(head)] == head


def test_training_moves_every_parameter():
    layer = ll.Recurrent(cases.Mixed(), 2, 3, seed=0)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    before = {name: p.clone() for name, p in layer.named_parameters()}
    output, state = layer(torch.randn(2, 6, 2), [torch.randn(2, 3) for _ in range(3)])
    (output.square().sum() + state.c.square().sum()).backward()
    optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in layer.named_parameters())


# Unit parameters


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (UnitParameter(0.3), [0.3] * 3),
        (UnitParameter((0.1, 0.2, 0.4)), [0.1, 0.2, 0.4]),
        (UnitParameter((0.7,)), [0.7] * 3),
        (UnitParameter(0.3, shared=True), [0.3] * 3),
        (UnitParameter(0.3, trained=False), [0.3] * 3),
        (UnitParameter(0.3, interval=(0.0, 1.0)), [0.3] * 3),
        (UnitParameter(-1.5, interval=(-2.0, 5.0)), [-1.5] * 3),
        (UnitParameter((0.1, 0.2, 0.4), interval=(0.0, 1.0)), [0.1, 0.2, 0.4]),
        (UnitParameter(2.0, trained=False, interval=(0.0, 1.0)), [2.0] * 3),
    ],
)
@pytest.mark.parametrize("replicas", [None, 2])
def test_unit_parameters_start_at_their_value(declared, expected, replicas):
    layer = ll.Recurrent(with_units(k=declared), 2, 3, replicas=replicas, dtype=torch.float64)
    value = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(layer.unit("k"), value if replicas is None else value.expand(2, 3))
    stored = "k_raw" if declared.trained and declared.interval else "k"
    assert (stored in dict(layer.named_parameters())) == declared.trained
    assert (stored in dict(layer.named_buffers())) != declared.trained
    assert getattr(layer, stored).shape[-1] == (1 if declared.shared else 3)


def test_a_unit_parameter_may_be_drawn():
    layer = ll.Recurrent(with_units(k=UnitParameter(Uniform(2.0, 3.0))), 2, 100, seed=0)
    assert 2.0 <= layer.unit("k").min() < 2.2 < 2.8 < layer.unit("k").max() <= 3.0
    again = ll.Recurrent(with_units(k=UnitParameter(Uniform(2.0, 3.0))), 2, 100, seed=0)
    assert torch.equal(layer.unit("k"), again.unit("k"))


def test_the_diagonal_is_a_unit_parameter_too():
    layer = ll.Recurrent(cases.Mixed(), 2, 3)
    k, v = layer.weight_hh_diagonal.split(3)
    assert torch.equal(layer.unit("diagonal.k"), k)
    assert torch.equal(layer.unit("diagonal.v"), v)
    with pytest.raises(KeyError, match="nothing"):
        layer.unit("nothing")


def test_a_name_that_every_layer_has_is_refused():
    for name in ("cell", "hidden_size", "training", "replicas"):
        with pytest.raises(DeclarationError, match=f"Own.unit_parameters: '{name}' is already an"):
            ll.Recurrent(with_units(**{name: UnitParameter()}), 2, 3)


# Dropout


def test_input_dropout_is_one_mask_a_sequence():
    """With U = I and an identity network without memory, the output shows the mask."""
    layer = ll.Leaky(
        50, 50, leak=1.0, recurrent=False, activation="identity", bias=False,
        input_dropout=0.4, weight_ih_init="identity",
    )  # fmt: skip
    output, _ = layer(torch.ones(40, 6, 50))
    assert (output == output[:, :1]).all()
    assert output.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert 0.35 < (output == 0).float().mean() < 0.45
    assert not torch.equal(output[0], output[1])
    assert torch.equal(layer.eval()(torch.ones(2, 6, 50))[0], torch.ones(2, 6, 50))


def test_recurrent_dropout_is_one_mask_a_sequence_on_what_w_reads():
    """h_t = m * h_{t-1} for W = I and no input: the mask to the power of t."""
    layer = ll.Elman(
        1, 50, activation="identity", bias=False, recurrent_dropout=0.4,
        weight_hh_init="identity", dtype=torch.float64,
    )  # fmt: skip
    x, h = torch.zeros(40, 3, 1).double(), torch.ones(40, 50).double()
    output, _ = layer(x, h)
    mask = output[:, 0]
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert 0.35 < (mask == 0).double().mean() < 0.45
    torch.testing.assert_close(output[:, 2], mask**3)
    assert not torch.equal(mask[0], mask[1])
    assert torch.equal(layer.eval()(x, h)[0], h.unsqueeze(1).expand(40, 3, 50))


@pytest.mark.parametrize("option", ["input_dropout", "recurrent_dropout"])
def test_dropout_keeps_the_expectation(option):
    layer = ll.Elman(
        1, 30, activation="identity", bias=False, dtype=torch.float64, seed=0, **{option: 0.3}
    )
    h = torch.ones(20_000, 30, dtype=torch.float64)
    x = torch.ones(20_000, 1, 1, dtype=torch.float64)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = layer(x, h)[0].mean((0, 1))
        expected = layer.eval()(x, h)[0].mean((0, 1))
    torch.testing.assert_close(drawn, expected, rtol=0, atol=0.03)


def test_recurrent_dropout_without_a_matrix_is_refused():
    for make in (lambda: ll.IndRNN(2, 3, recurrent_dropout=0.5),
                 lambda: ll.Leaky(2, 3, recurrent=False, recurrent_dropout=0.5)):  # fmt: skip
        with pytest.raises(
            ValueError, match=r"recurrent_dropout: got 0.5, but .* has no recurrent"
        ):
            make()


def test_backends_can_be_named_and_changed():
    layer = ll.GRU(2, 3, backend="reference")
    layer(torch.zeros(1, 2, 2))
    assert layer.backend_used == "reference"
    for backend, used in (("derived", "derived"), ("cpu", "cpu"), ("auto", "cpu")):
        layer.backend = backend
        layer(torch.zeros(1, 2, 2))
        assert layer.backend_used == used


def test_it_prints_what_it_is():
    assert repr(ll.GRU(3, 4)) == "GRU(3, 4, recurrent_bias=True, reset_after=True)"
    assert repr(ll.Recurrent(ll.cells.Elman(), 3, 4, replicas=2)) == (
        "Recurrent(Elman(activation='tanh', constraint=None), 3, 4, replicas=2)"
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("replicas", [None, 2])
def test_under_autocast_the_loop_keeps_the_precision_of_the_weights(backend, replicas):
    """Only the input product is rounded; a stack of layers runs, and so does the backward pass."""
    front = (2,) if replicas is None else (2, 2)
    options = {"backend": backend, "replicas": replicas}
    net = ll.Stack(ll.LSTM(2, 3, seed=0, **options), ll.GRU(3, 3, seed=1, **options))
    x = torch.randn(*front, 4, 2, generator=torch.Generator().manual_seed(0))
    exact = net(x)[0]
    (wanted,) = torch.autograd.grad(exact.sum(), net.layers[0].weight_hh)
    with torch.autocast("cpu", torch.bfloat16):
        output, (lower, _) = net(x)
    assert output.dtype == lower.c.dtype == torch.float32
    torch.testing.assert_close(output, exact, rtol=0, atol=0.01)
    assert not torch.equal(output, exact)
    output.sum().backward()
    gradient = net.layers[0].weight_hh.grad
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=0.02 * float(wanted.abs().max()))


@pytest.mark.parametrize("backend", ["derived", "cpu"])
def test_a_second_derivative_inside_an_autocast_region_is_not_rounded(backend):
    layer = ll.LSTM(3, 4, seed=0, backend=backend, dtype=torch.float64)
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x.requires_grad_()
    output, _ = layer(x)

    def penalty():
        (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), layer.weight_hh)[0]

    exact = penalty()
    output, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = penalty()
    assert torch.equal(exact, rounded)


class TestAConstantOfTheUnits:
    """The layer keeps a view of the buffer, and must notice when the buffer is another."""

    def layer(self) -> ll.Recurrent:
        layer = ll.Leaky(3, 4, seed=0)
        layer(torch.zeros(1, 2, 3))  # the view is kept from here on
        return layer

    def expected(self, leak: float, x: torch.Tensor) -> torch.Tensor:
        layer = ll.Leaky(3, 4, seed=0)
        layer.leak.fill_(leak)
        return layer(x)[0]

    @pytest.mark.parametrize("how", ["fill", "data", "copy", "load", "functional", "assign"])
    def test_is_read_as_it_is_now(self, how):
        layer, x, new = self.layer(), torch.randn(2, 5, 3), torch.full((4,), 0.9)
        if how == "fill":
            layer.leak.fill_(0.9)
        elif how == "data":
            layer.leak.data = new
        elif how == "copy":
            layer = copy.deepcopy(layer)
            layer.leak.fill_(0.9)
        elif how == "load":
            layer.load_state_dict({**layer.state_dict(), "leak": new}, assign=True)
        elif how == "assign":
            layer.leak = new
        output = (
            torch.func.functional_call(layer, {"leak": new}, (x,))[0]
            if how == "functional"
            else layer(x)[0]
        )
        torch.testing.assert_close(output, self.expected(0.9, x), rtol=0, atol=0)

    def test_can_have_a_gradient_and_change_its_dtype(self):
        layer, x = self.layer(), torch.randn(2, 5, 3)
        leak = torch.full((4,), 0.9, requires_grad=True)
        torch.func.functional_call(layer, {"leak": leak}, (x,))[0].sum().backward()
        assert leak.grad is not None
        assert leak.grad.abs().min() > 0
        wide = layer.double()(x.double())[0]
        torch.testing.assert_close(wide.float(), self.layer()(x)[0])
