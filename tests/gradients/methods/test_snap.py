"""SnAp-1 against its definition in a plain loop, and against RTRL where both are one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conformance.test_own_cells import Clipped
from tests.gradients.methods.test_rtrl import (
    CELLS,
    QUIET,
    WITHIN_UNITS,
    assert_plain,
    assert_same,
    drawn,
    entangled,
    exact,
    model_of,
    net,
    problems,
    recordings,
    refusals,
    sgd,
    states_for,
)
from tests.gradients.models import MODELS, make, problem
from tests.scan import cases
from tests.training.helpers import quiet
from torch import nn
from torch.func import functional_call, jacrev

import longlag as ll
from longlag.gradients import GradientMethod, WindowedMethod
from longlag.gradients.methods.rtrl import RTRL
from longlag.gradients.methods.snap import SnAp1
from longlag.recurrence.lowered import lower

mse = nn.functional.mse_loss

ONE_STAGE = [name for name, cell in CELLS.items() if not lower(cell.recurrence).inner]
"""Of the others, a matrix that reads a new value lets influence go to other units in the step."""


def elman_step(p, x, h):
    return torch.tanh(p["weight_ih"] @ x + p["weight_hh"] @ h + p["bias"])


def gru_step(p, x, h):
    r_in, z_in, n_in = (p["weight_ih"] @ x + p["bias"]).chunk(3)
    r_rec, z_rec, n_rec = (p["weight_hh"] @ h).chunk(3)
    r, z = torch.sigmoid(r_in + r_rec), torch.sigmoid(z_in + z_rec)
    n = torch.tanh(n_in + r * (n_rec + p["bias_hn"]))
    return (1 - z) * n + z * h


def lstm_step(p, x, state):
    h, c = state.chunk(2)
    i, f, g, o = (p["weight_ih"] @ x + p["weight_hh"] @ h + p["bias"]).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])


def clipped_step(p, x, state):
    m, y = state.chunk(2)
    net = p["weight_ih"] @ x + p["weight_hh"] @ m + p["bias"]
    first, second = net.chunk(2)
    m = first.clamp(0, 1) - 0.5 * torch.relu(second) ** 2 + m.abs() / 3
    soft = torch.log(1 + torch.exp(torch.tanh(m)))
    return torch.cat([m, soft * torch.cos(p["k"] * y) - p["k"] / (1 + m**2) ** 1.5])


def delayed_step(p, x, state):
    h, h_1, h_2 = state.chunk(3)
    near, far = p["weight_hh"].chunk(2)
    return torch.cat([torch.tanh(p["weight_ih"] @ x + near @ h + far @ h_2 + p["bias"]), h, h_1])


STEPS = {
    "Elman": (ll.cells.Elman(), elman_step, 0),
    "GRU": (ll.cells.GRU(), gru_step, 0),
    "LSTM": (ll.cells.LSTM(), lstm_step, 0),
    "two states": (Clipped(), clipped_step, 1),
    "delays": (cases.Delayed(), delayed_step, 0),
}


def one_step(step, parameters, x, state, influence, hidden):
    """The new state of one sequence, and M_t = D_t M_{t-1} + immediate term."""
    jacobian = jacrev(step, argnums=2)(parameters, x, state)
    immediate = jacrev(step, argnums=0)(parameters, x, state)
    unit = torch.arange(len(state)) % hidden  # of each state number
    same_unit = unit[:, None] == unit
    after = {}
    for name, parameter in parameters.items():
        of_state = (jacobian * same_unit) @ influence[name].flatten(1)
        # Row i of each (H, .) block belongs to unit i.
        owner = (torch.arange(len(parameter)) % hidden).view(-1, *[1] * (parameter.dim() - 1))
        kept = unit.view(-1, *[1] * parameter.dim()) == owner
        after[name] = of_state.view(len(state), *parameter.shape) + immediate[name] * kept
    return step(parameters, x, state), after


def nothing(parameters, size):
    return {name: p.new_zeros(size, *p.shape) for name, p in parameters.items()}


def plain(of_layer):
    return {name: p.detach() for name, p in of_layer.named_parameters()}


def by_hand(model, step, output, x, target, loss, lengths, resets, parameters=None):
    """SnAp-1 of one layer by its definition, one sequence and one step after the other.

    Of a layer that reads t, ``step`` is given it as one more number of x.
    """
    layer, total = model.layer, {}
    parameters = plain(layer) if parameters is None else parameters
    hidden = layer.hidden_size
    size = hidden * len(layer.recurrence.states)
    h = layer(x, lengths=lengths, resets=resets)[0].detach().requires_grad_()
    (error,) = torch.autograd.grad(loss(model.readout(h), target), h)
    for n in range(len(x)):
        state, influence, start = x.new_zeros(size), nothing(parameters, size), 0
        for t in range(int(lengths[n])):
            if resets[n, t]:
                state, influence, start = x.new_zeros(size), nothing(parameters, size), t
            clock = x.new_full((int(layer.recurrence.timed),), t - start)
            read = torch.cat([x[n, t], clock])
            state, influence = one_step(step, parameters, read, state, influence, hidden)
            rows = slice(output * hidden, (output + 1) * hidden)
            torch.testing.assert_close(state[rows], h[n, t].detach())
            for name, of in influence.items():
                by = torch.tensordot(error[n, t], of[rows], dims=1)
                total[f"layer.{name}"] = total.get(f"layer.{name}", 0) + by
    return total


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("block", [1, 3])
def test_it_is_its_definition(name, block):
    cell, step, output = STEPS[name]
    model = model_of(cell, 3, 4)
    x, target, lengths, resets = problem(model, steps=8)
    wanted = by_hand(model, step, output, x, target, entangled, lengths, resets)
    options = {"lengths": lengths, "resets": resets}
    found = SnAp1(block=block).gradients(model, x, target, entangled, **options)
    readout = exact(model, x, target, entangled, **options)
    for part in ("readout.weight", "readout.bias"):
        wanted[part] = readout[part]
    assert_same(found, {key: wanted[key] for key in found})
    assert not torch.allclose(found["layer.weight_hh"], readout["layer.weight_hh"])


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in ONE_STAGE if not CELLS[name].recurrence.constrained]
)
def test_it_is_its_definition_for_every_cell(name):
    """With truncated products, and weights where a pattern has no block."""
    model = model_of(CELLS[name])
    layer = model.layer
    names = layer.recurrence.states

    def step(parameters, x, state):
        x, clock = x[: layer.input_size], x[layer.input_size :]
        begin = (*state.view(len(names), 1, -1).unbind(0), *clock.view(-1, 1, 1))
        _, after = functional_call(layer, parameters, (x.view(1, 1, -1), begin))
        return torch.cat(after[: len(names)], -1).squeeze(0)

    x, target, lengths, resets = problem(model, steps=6)
    output = names.index(layer.recurrence.output)
    parameters = plain(layer)
    for stored, parameter in layer.named_parameters():  # a shared one is to each unit its own
        if parameter.shape == (1,):
            with torch.no_grad():
                parameters[stored] = parameter.expand(layer.hidden_size).clone()
    wanted = by_hand(model, step, output, x, target, mse, lengths, resets, parameters)
    options = {"lengths": lengths, "resets": resets}
    found = SnAp1(block=2).gradients(model, x, target, mse, **options)
    of_layer = {key: by for key, by in found.items() if key in wanted}
    assert len(of_layer) == len(parameters)
    shared = {
        key: wanted[key].sum(0, keepdim=True) for key, by in found.items() if by.shape == (1,)
    }
    assert_same(of_layer, {**wanted, **shared})


def test_in_a_stack_error_goes_down_at_the_step_at_which_it_arises():
    lower, upper = (
        cases.layer_of(ll.cells.GRU(), 2, 3, 1),
        cases.layer_of(ll.cells.Elman(), 3, 2, 2),
    )
    model = ll.SequenceModel(ll.Stack(lower, upper), 2, reduce=None, seed=0)
    x, target = cases.random(2, 7, 2), cases.random(2, 7, 2, seed=1)
    h = model.layer(x)[0].detach().requires_grad_()
    (error,) = torch.autograd.grad(mse(model.readout(h), target), h)
    wanted = {}
    steps, layers = (gru_step, elman_step), (plain(lower), plain(upper))
    for n in range(2):
        states = [x.new_zeros(3), x.new_zeros(2)]
        influence = [nothing(of, len(s)) for of, s in zip(layers, states, strict=True)]
        for t in range(7):
            h, influence[0] = one_step(steps[0], layers[0], x[n, t], states[0], influence[0], 3)
            down = jacrev(steps[1], argnums=1)(layers[1], h, states[1])
            states[1], influence[1] = one_step(steps[1], layers[1], h, states[1], influence[1], 2)
            states[0] = h
            errors = (error[n, t] @ down, error[n, t])
            for number in range(2):
                for name, of in influence[number].items():
                    by = torch.tensordot(errors[number], of, dims=1)
                    key = f"layer.layers.{number}.{name}"
                    wanted[key] = wanted.get(key, 0) + by
    for block in (1, 2, None):
        found = SnAp1(block=block).gradients(model, x, target, mse)
        assert_same({key: found[key] for key in wanted}, wanted)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
@QUIET
@given(given=problems())
def test_blocks_change_nothing_whatever_the_shapes(name, given):
    model = model_of(
        CELLS[name], given["C"], given["H"], given["reduce"], given["direct"], given["seed"],
        replicas=given["R"], bias=given["bias"], backend="derived",
    )  # fmt: skip
    x, target, options = drawn(model, given)
    if given["state"]:
        options["state"] = states_for(model.layer, given["N"])
    one = SnAp1(block=1).gradients(model, x, target, entangled, **options)
    found = SnAp1(block=given["block"]).gradients(model, x, target, entangled, **options)
    assert_same(found, one)
    right = exact(model, x, target, entangled, **options)
    assert found.keys() == right.keys()
    if all(wire.truncated for wire in CELLS[name].recurrence.wires):
        assert_same(found, right)


@pytest.mark.every_cell("slow")
@pytest.mark.parametrize("name", ONE_STAGE)
@pytest.mark.parametrize("replicas", [None, 2])
def test_for_one_step_it_is_exact(name, replicas):
    model = model_of(CELLS[name], replicas=replicas)
    x, target, lengths, resets = problem(model, steps=1)
    options = {"lengths": lengths, "resets": resets, "state": states_for(model.layer, 3)}
    found = SnAp1().gradients(model, x, target, entangled, **options)
    assert_same(found, exact(model, x, target, entangled, **options))


@pytest.mark.parametrize("name", [name for name in CELLS if name not in ONE_STAGE])
def test_a_second_stage_is_exact_where_errors_stay_in_their_unit(name):
    model = model_of(CELLS[name])
    with torch.no_grad():
        for block in model.layer.weight_hh.split(model.layer.hidden_size):
            block.copy_(block.diag().diag())
    x, target, lengths, resets = problem(model, steps=5)
    options = {"lengths": lengths, "resets": resets}
    found = SnAp1().gradients(model, x, target, mse, **options)
    assert_same(found, exact(model, x, target, mse, **options))


@settings(QUIET, max_examples=10)
@given(given=problems(), steps=st.just(1))
def test_for_one_step_a_stack_is_exact(given, steps):
    given["T"], given["lengths"], given["resets"] = steps, None, None
    options = {"replicas": given["R"], "backend": "derived"}
    below = cases.layer_of(CELLS["LSTM"], given["C"], 2, given["seed"], **options)
    above = cases.layer_of(CELLS["GRU"], 2, given["H"], given["seed"] + 1, **options)
    model = ll.SequenceModel(ll.Stack(below, above), 2, reduce=given["reduce"], seed=0)
    x, target, options = drawn(model, given)
    found = SnAp1().gradients(model, x, target, entangled, **options)
    assert_same(found, exact(model, x, target, entangled, **options))


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHIN_UNITS)
def test_it_is_rtrl_where_units_do_not_meet(name):
    model = model_of(CELLS[name])
    x, target, lengths, resets = problem(model, steps=9)
    options = {"lengths": lengths, "resets": resets}
    found = SnAp1(block=2).gradients(model, x, target, mse, **options)
    wanted = RTRL(block=2).gradients(model, x, target, mse, **options)
    for key, gradient in wanted.items():
        assert torch.equal(found[key], gradient), key


def test_it_is_exact_where_the_matrix_happens_to_be_diagonal():
    """Then no error goes to another unit, whatever the wiring allows."""
    model = model_of(ll.cells.Elman())
    with torch.no_grad():
        weight = model.layer.weight_hh
        weight.copy_(weight.diagonal().diag())
    x, target, lengths, resets = problem(model, steps=9)
    options = {"lengths": lengths, "resets": resets}
    found = SnAp1(block=4).gradients(model, x, target, mse, **options)
    assert_same(found, exact(model, x, target, mse, **options))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_every_backend(backend):
    model, like = model_of(CELLS["Wired"], backend=backend), model_of(CELLS["Wired"])
    x, target, lengths, resets = problem(model, steps=6)
    options = {"lengths": lengths, "resets": resets}
    found = SnAp1(block=2).gradients(model, x, target, mse, **options)
    assert_same(found, SnAp1().gradients(like, x, target, mse, **options))


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("size", [1, 4])
def test_windows_one_by_one_are_the_gradient_of_the_whole(kind, size):
    def loss(output, target):
        return (output - target).square().sum()

    steps, model, carry = 9, make(kind), None
    x, target, lengths, resets = problem(model, steps)
    for first in range(0, steps, size):
        stop = min(first + size, steps)
        carry = SnAp1(online=True).accumulate_window(
            model, x[..., first:stop, :], target[..., first:stop, :], loss, torch.Tensor.backward,
            lengths=(lengths - first).clamp(0, stop - first), resets=resets[..., first:stop],
            carry=carry,
        ).carry  # fmt: skip
        assert_plain(carry)
    wanted = SnAp1().gradients(model, x, target, loss, lengths=lengths, resets=resets)
    assert_same({name: p.grad for name, p in model.named_parameters()}, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "stack", "own"])
def test_the_influence_is_that_of_each_unit_on_itself(kind):
    model = make(kind)
    x, target, _, _ = problem(model, steps=4)
    carry = SnAp1().accumulate_window(model, x, target, mse, torch.Tensor.backward).carry
    layers = [part for part in model.modules() if hasattr(part, "recurrence")]
    for layer, found in zip(layers, carry["influence"], strict=True):
        for name, parameter in layer.named_parameters():
            assert found[name].numel() == 3 * len(layer.recurrence.states) * parameter.numel()


@pytest.mark.slow
def test_fit_learns_step_by_step():
    x, target = recordings(steps=12)
    model = net(ll.GRU)
    options = {"batch_size": 4, "shuffle": False, "optimizer": sgd}
    history = quiet(model, (x, target), method=SnAp1(online=True), epochs=20, **options)
    assert len(history) == 20 * 12
    assert sum(history.losses[-12:]) < 0.5 * sum(history.losses[:12])


def test_it_is_a_method_for_windows():
    assert isinstance(SnAp1(), GradientMethod)
    assert isinstance(SnAp1(), WindowedMethod)
    assert (SnAp1().window, SnAp1(online=True).window) == (None, 1)


def test_arguments_of_the_wrong_kind_or_out_of_range():
    with pytest.raises(TypeError, match="online: got 'yes', expected True or False"):
        SnAp1("yes")
    with pytest.raises(TypeError, match=r"block: got 1\.5 \(float\), expected a whole number"):
        SnAp1(block=1.5)
    with pytest.raises(ValueError, match="block: got 0, expected at least 1"):
        SnAp1(block=0)


@pytest.mark.parametrize(("model", "error", "text"), list(refusals()))
def test_models_that_it_is_not_for(model, error, text):
    x, target = torch.zeros(2, 4, 2), torch.zeros(2, 4, 1)
    with pytest.raises(error, match=text.replace("RTRL", "SnAp1")):
        SnAp1().gradients(model, x, target, mse)
