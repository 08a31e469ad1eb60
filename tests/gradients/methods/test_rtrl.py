"""RTRL against backpropagation through time, and online against the textbook's recursion."""

import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.test_own_cells import Clipped
from tests.gradients.models import MODELS, make, problem
from tests.scan import cases
from tests.training.helpers import quiet, same_tree, saved, weights
from torch import nn

import longlag as ll
from longlag.gradients import GradientMethod, WindowedMethod
from longlag.gradients.influence import law
from longlag.gradients.methods.rtrl import RTRL

mse = nn.functional.mse_loss
CELLS = {**cases.CELLS, "Clipped": Clipped()}
WITHIN_UNITS = ["Leaky without W", "LSTM1997", "IndRNN", "Lone"]


def entangled(output, target):
    """A loss in which every output changes the error of every other."""
    return (output - target).square().mean() + (output.sum() / (1 + output.numel())).tanh() ** 2


def exact(model, x, target, loss, **options):
    """The gradient by the definition of correct: autograd through a plain loop."""
    used = [part for part in model.modules() if hasattr(part, "backend")]
    before = [part.backend for part in used]
    for part in used:
        part.backend = "reference"
    found = ll.BPTT().gradients(model, x, target, loss, **options)
    for part, backend in zip(used, before, strict=True):
        part.backend = backend
    return found


def assert_same(found, wanted, within=1e-10):
    """Equal by name, relative to the largest entry of each."""
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        scale = float(gradient.abs().max()) if gradient.numel() else 0.0
        torch.testing.assert_close(
            found[name],
            gradient,
            rtol=0,
            atol=within * scale,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def model_of(cell, inputs=2, least=3, reduce=None, direct=False, seed=0, **options):
    layer = cases.layer_of(cell, inputs, cases.hidden_of(cell, least), seed, **options)
    return ll.SequenceModel(layer, 2, reduce=reduce, direct=direct, seed=seed + 1)


def states_for(layer, batch):
    front = (batch,) if layer.replicas is None else (layer.replicas, batch)
    return cases.states_of(layer.cell, front, layer.hidden_size, seed=20)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("replicas", [None, 2])
def test_it_is_bptt_for_every_cell(name, replicas):
    model = model_of(CELLS[name], replicas=replicas, direct=True)
    x, target, lengths, resets = problem(model, steps=9)
    options = {"lengths": lengths, "resets": resets, "state": states_for(model.layer, 3)}
    wanted = exact(model, x, target, entangled, **options)
    for block in (1, 4, None):
        assert_same(RTRL(block=block).gradients(model, x, target, entangled, **options), wanted)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("reduce", "direct"), [(None, False), ("last", True), ("last", False), ("mean", True)]
)
def test_it_is_bptt_for_one_output_a_step_and_one_a_sequence(kind, reduce, direct):
    model = make(kind, reduce=reduce, direct=direct)
    x, target, lengths, resets = problem(model, steps=8)
    for block, options in ((3, {}), (1, {"lengths": lengths, "resets": resets})):
        wanted = exact(model, x, target, mse, **options)
        assert_same(RTRL(block=block).gradients(model, x, target, mse, **options), wanted)


@st.composite
def problems(draw):
    sizes = {
        "N": draw(st.integers(0, 4)),
        "T": draw(st.integers(0, 9)),
        "H": draw(st.integers(1, 5)),
        "C": draw(st.integers(1, 3)),
        "R": draw(st.none() | st.integers(1, 3)),
    }
    front = (sizes["N"],) if sizes["R"] is None else (sizes["R"], sizes["N"])
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    lengths = torch.randint(0, sizes["T"] + 1, front, generator=generator)
    resets = torch.rand(*front, sizes["T"], generator=generator) < 0.2
    return {
        **sizes,
        "front": front,
        "generator": generator,
        "lengths": draw(st.sampled_from([None, lengths])),
        "resets": draw(st.sampled_from([None, resets])),
        "state": draw(st.booleans()),
        "reduce": draw(st.sampled_from([None, "last", "mean"])),
        "direct": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "frozen": draw(st.integers(0, 7)),
        "block": draw(st.none() | st.integers(1, 5)),
        "seed": draw(st.integers(0, 99)),
    }


QUIET = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def drawn(model, given):
    """x and target, and what else the model is given; some parameters are frozen."""
    front, steps, generator = given["front"], given["T"], given["generator"]
    x = torch.randn(*front, steps, given["C"], generator=generator, dtype=torch.float64)
    shape = (*front, 2) if given["reduce"] else (*front, steps, 2)
    target = torch.randn(*shape, generator=generator, dtype=torch.float64)
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 8 != given["frozen"])
    return x, target, {"lengths": given["lengths"], "resets": given["resets"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
@QUIET
@given(given=problems())
def test_it_is_bptt_whatever_the_shapes(name, given):
    """On the backend that compiles nothing, so that shapes cost little."""
    model = model_of(
        CELLS[name], given["C"], given["H"], given["reduce"], given["direct"], given["seed"],
        replicas=given["R"], bias=given["bias"], backend="derived",
    )  # fmt: skip
    x, target, options = drawn(model, given)
    if given["state"]:
        options["state"] = states_for(model.layer, given["N"])
    wanted = exact(model, x, target, entangled, **options)
    found = RTRL(block=given["block"]).gradients(model, x, target, entangled, **options)
    assert_same(found, wanted)


@settings(QUIET, max_examples=25)
@given(given=problems(), names=st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=3))
def test_it_is_bptt_for_stacks(given, names):
    layers, inputs = [], given["C"]
    for number, name in enumerate(names):
        hidden = cases.hidden_of(CELLS[name], 1 + (given["H"] + number) % 3)
        options = {"replicas": given["R"], "backend": "derived"}
        layers.append(
            cases.layer_of(CELLS[name], inputs, hidden, given["seed"] + number, **options)
        )
        inputs = hidden
    stack = ll.Stack(layers[0], ll.Stack(*layers[1:])) if len(layers) > 1 else ll.Stack(*layers)
    model = ll.SequenceModel(stack, 2, reduce=given["reduce"], direct=given["direct"], seed=0)
    x, target, options = drawn(model, given)
    if given["state"]:  # of the layer that reads x; those above begin with zeros
        above = (None,) if len(layers) > 1 else ()
        options["state"] = (states_for(layers[0], given["N"]), *above)
    wanted = exact(model, x, target, entangled, **options)
    found = RTRL(block=given["block"]).gradients(model, x, target, entangled, **options)
    assert_same(found, wanted)


@pytest.mark.slow
def test_a_layer_or_a_stack_alone():
    for model in (make("GRU").layer, make("stack").layer):
        x = cases.random(3, 7, 3)
        target = cases.random(3, 7, model.output_size, seed=1)
        found = RTRL(block=2).gradients(model, x, target, entangled)
        assert_same(found, exact(model, x, target, entangled))


def test_a_layer_that_is_used_twice_gets_both_gradients():
    layer = cases.layer_of(CELLS["GRU"], 3, 3)
    model = ll.SequenceModel(ll.Stack(layer, layer), 2, reduce=None, seed=0)
    x, target = cases.random(2, 7, 3), cases.random(2, 7, 2, seed=1)
    found = RTRL(block=3).gradients(model, x, target, mse)
    assert_same(found, exact(model, x, target, mse))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_every_backend(backend):
    model = model_of(CELLS["LSTM"], backend=backend)
    x, target, lengths, resets = problem(model, steps=6)
    options = {"lengths": lengths, "resets": resets}
    found = RTRL(block=2).gradients(model, x, target, mse, **options)
    assert_same(found, exact(model, x, target, mse, **options))


@pytest.mark.parametrize("kind", ["stack", "GRU", "replicas"])
def test_rows_a_few_at_a_time_are_the_same(kind, monkeypatch):
    """The scratch memory is bounded: rows of the influence are had in turns."""
    model = make(kind)
    x, target, lengths, resets = problem(model, steps=7)
    options = {"lengths": lengths, "resets": resets}
    wanted = exact(model, x, target, mse, **options)
    counts = []
    plain = law.Joint._advance_rows

    def counted(self, pieces, influence, first, stop, after):
        counts.append(stop - first)
        plain(self, pieces, influence, first, stop, after)

    monkeypatch.setattr(law.Joint, "_advance_rows", counted)
    for numbers, size in ((1, 1), (3 * 3 * 60, None)):
        monkeypatch.setattr(law, "AT_ONCE", numbers)
        counts.clear()
        assert_same(RTRL(block=3).gradients(model, x, target, mse, **options), wanted)
        assert size is None or set(counts) == {size}
    assert max(counts) < law.Joint(_layers(model)).ends[0]


def _layers(model):
    return [part for part in model.modules() if hasattr(part, "recurrence")]


@pytest.mark.slow
def test_padding_changes_nothing():
    for kind in ("LSTM", "stack", "IndRNN"):
        model = make(kind, reduce="mean")
        x, target, lengths, _ = problem(model, steps=8)
        wanted = RTRL(block=3).gradients(model, x, target, mse, lengths=lengths)
        beyond = torch.arange(8) >= lengths[:, None]
        filled = x.masked_fill(beyond[..., None], float("nan"))
        found = RTRL(block=3).gradients(model, filled, target, mse, lengths=lengths)
        for name, gradient in wanted.items():
            assert torch.equal(found[name], gradient), name


def test_where_nothing_in_the_recurrence_is_trained_the_readout_is():
    model = make("LSTM")
    for parameter in model.layer.parameters():
        parameter.requires_grad_(False)
    x, target, lengths, _ = problem(model, steps=8)
    for online in (False, True):
        method = RTRL(online, block=3)
        found = method.gradients(model, x, target, mse, lengths=lengths)
        assert set(found) == {"readout.weight", "readout.bias"}
        assert_same(found, exact(model, x, target, mse, lengths=lengths))
    done = method.accumulate_window(model, x, target, mse, torch.Tensor.backward, lengths=lengths)
    assert done.carry["influence"] == [{}]


def test_a_loss_that_depends_on_nothing():
    model = make("Elman")
    x, target, _, _ = problem(model, steps=5)
    found = RTRL().gradients(model, x, target, lambda y, t: t.mean())
    assert found.keys() == dict(model.named_parameters()).keys()
    assert all(gradient.count_nonzero() == 0 for gradient in found.values())


def test_accumulate_adds_to_grad_and_hands_back_loss_and_output():
    model = make("GRU")
    x, target, lengths, _ = problem(model, steps=9)
    for _ in range(2):
        done = RTRL(block=4).accumulate(model, x, target, mse, torch.Tensor.backward,
                                        lengths=lengths)  # fmt: skip
    output = model(x, lengths=lengths)
    torch.testing.assert_close(done.output, output.detach())
    torch.testing.assert_close(done.loss, mse(output, target).detach())
    assert not done.output.requires_grad
    assert not done.loss.requires_grad
    wanted = exact(model, x, target, mse, lengths=lengths)
    assert_same(
        {n: p.grad for n, p in model.named_parameters()}, {n: 2 * g for n, g in wanted.items()}
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("size", [1, 3, 5])
def test_windows_one_by_one_are_the_gradient_of_the_whole(kind, size):
    """With weights that stay, and a loss that is a sum over steps: no error is cut off."""

    def loss(output, target):
        return (output - target).square().sum()

    steps, model = 11, make(kind)
    x, target, lengths, resets = problem(model, steps)
    method, carry, value, outputs = RTRL(online=True, block=2), None, 0.0, []
    for first in range(0, steps, size):
        stop = min(first + size, steps)
        found = method.accumulate_window(
            model, x[..., first:stop, :], target[..., first:stop, :], loss, torch.Tensor.backward,
            lengths=(lengths - first).clamp(0, stop - first), resets=resets[..., first:stop],
            carry=carry,
        )  # fmt: skip
        carry, value = found.carry, value + found.loss
        outputs.append(found.output)
        assert_plain(carry)
    options = {"lengths": lengths, "resets": resets}
    assert_same(
        {n: p.grad for n, p in model.named_parameters()}, exact(model, x, target, loss, **options)
    )
    output = model(x, **options)
    torch.testing.assert_close(torch.cat(outputs, -2), output.detach())
    torch.testing.assert_close(value, loss(output, target).detach())


def assert_plain(tree):
    """Nested lists and dictionaries of tensors without a graph."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if type(tree) is list:
        for part in tree:
            assert_plain(part)
        return
    assert type(tree) is torch.Tensor
    assert not tree.requires_grad


@pytest.mark.parametrize("kind", ["Elman", "stack", "IndRNN"])
def test_a_window_without_steps_or_sequences_hands_on_what_came(kind):
    model = make(kind)
    x, target, _, _ = problem(model, steps=3)
    before = None
    for batch in (slice(None), slice(0, 0)):
        for steps in (slice(0), slice(2), slice(0)):
            found = RTRL(True).accumulate_window(
                model, x[batch, steps], target[batch, steps], lambda y, t: y.sum(),
                torch.Tensor.backward, carry=before,
            )  # fmt: skip
            assert steps.stop or found.carry is before
            before = found.carry
        before = None


def textbook(layer, readout, x, target, rate):
    """Williams and Zipser (1989), an update after each step; of the weights as they are then."""
    hidden = layer.hidden_size
    u, w, b = (p.detach().clone() for p in (layer.weight_ih, layer.weight_hh, layer.bias))
    v, c = readout.weight.detach().clone(), readout.bias.detach().clone()
    h = x.new_zeros(len(x), hidden)
    influence = x.new_zeros(len(x), hidden, hidden, u.shape[1] + hidden + 1)
    for t in range(x.shape[1]):
        read = torch.cat([x[:, t], h, h.new_ones(len(x), 1)], 1)
        h = torch.tanh(read @ torch.cat([u, w, b[:, None]], 1).T)
        influence = torch.einsum("kl,nliz->nkiz", w, influence)
        for unit in range(hidden):
            influence[:, unit, unit] += read
        influence = influence * (1 - h**2)[..., None, None]
        error = 2 * (h @ v.T + c - target[:, t]) / target[:, t].numel()
        by = torch.einsum("nk,nkiz->iz", error @ v, influence)
        v, c = v - rate * error.T @ h, c - rate * error.sum(0)
        u, w, b = (
            part - rate * step
            for part, step in zip(
                (u, w, b), (by[:, : u.shape[1]], by[:, u.shape[1] : -1], by[:, -1]), strict=True
            )
        )
    return u, w, b, v, c


def test_online_is_the_textbooks_recursion_with_weights_that_change():
    model = make("Elman")
    x, target, _, _ = problem(model, steps=20)
    wanted = textbook(model.layer, model.readout, x, target, 0.3)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    method, carry = RTRL(online=True), None
    for t in range(20):
        optimizer.zero_grad()
        carry = method.accumulate_window(
            model, x[:, t : t + 1], target[:, t : t + 1], mse, torch.Tensor.backward, carry=carry
        ).carry
        optimizer.step()
    found = (*model.layer.parameters(), *model.readout.parameters())
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.detach(), theirs, rtol=1e-10, atol=1e-12)


def recordings(steps=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, steps, 2, generator=generator)
    return x, x.cumsum(1)[..., :1].tanh()


def net(kind=ll.GRU, seed=0, reduce=None):
    return ll.SequenceModel(kind(2, 4, seed=seed), 1, reduce=reduce, seed=seed + 1)


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.3)


def test_fit_updates_after_every_step():
    x, target = recordings()
    model, plain = net(ll.Elman), net(ll.Elman)
    history = quiet(
        model, (x, target), method=RTRL(online=True), epochs=1, batch_size=4, shuffle=False,
        optimizer=sgd,
    )  # fmt: skip
    assert len(history) == 6
    wanted = textbook(plain.layer, plain.readout, x, target, 0.3)
    found = (*model.layer.parameters(), *model.readout.parameters())
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.detach(), theirs, rtol=1e-4, atol=1e-5)


def test_fit_updates_once_a_batch_where_it_is_not_online_or_has_one_output():
    x, target = recordings()
    assert len(quiet(net(), (x, target), method=RTRL(), epochs=1, batch_size=2)) == 2
    model, target = net(reduce="last"), target[:, 0]
    assert len(quiet(model, (x, target), method=RTRL(online=True), epochs=1, batch_size=2)) == 2


def test_a_run_that_stops_inside_a_batch_goes_on_bit_for_bit(tmp_path):
    data, every = recordings(), {"every_steps": 1, "every_seconds": None}
    options = {"method": RTRL(online=True), "batch_size": 2, "seed": 3}
    whole, parts, again = net(), net(), net(seed=5)
    quiet(whole, data, steps=8, checkpoint=ll.Checkpoint(tmp_path / "a", **every), **options)
    checkpoint = ll.Checkpoint(tmp_path / "b", **every)
    quiet(parts, data, steps=4, checkpoint=checkpoint, **options)
    quiet(again, data, steps=8, checkpoint=checkpoint, **options)
    assert same_tree(weights(whole), weights(again))
    assert same_tree(saved(tmp_path / "a")["carry"], saved(tmp_path / "b")["carry"])


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHIN_UNITS)
def test_units_that_do_not_meet_have_an_influence_of_their_own_alone(name):
    """N S P numbers: each parameter once for each state of its unit."""
    hidden, batch = 5, 3
    model = model_of(CELLS[name], least=hidden)
    x, target, _, _ = problem(model, steps=4)
    (influence,) = (
        RTRL().accumulate_window(model, x, target, mse, torch.Tensor.backward).carry["influence"]
    )
    parameters = {n: p.numel() for n, p in model.layer.named_parameters()}
    states = len(model.layer.recurrence.states)
    assert {n: m.numel() for n, m in influence.items()} == {
        n: batch * states * count for n, count in parameters.items()
    }


def test_units_that_meet_have_an_influence_on_each_other():
    model = make("stack")
    x, target, _, _ = problem(model, steps=4)
    lower, upper = (
        RTRL().accumulate_window(model, x, target, mse, torch.Tensor.backward).carry["influence"]
    )
    below, above = model.layer.layers
    states = {id(below): 2 * 4 + 3, id(above): 3}
    for layer, found in ((below, lower), (above, upper)):
        for name, parameter in layer.named_parameters():
            assert found[name].numel() == 3 * states[id(layer)] * parameter.numel()


@pytest.mark.slow
def test_time_grows_with_the_parameters_where_units_do_not_meet():
    def seconds(hidden):
        model = ll.SequenceModel(ll.IndRNN(2, hidden, seed=0), 1, reduce=None, seed=1)
        x, target = torch.ones(4, 128, 2), torch.zeros(4, 128, 1)
        times = []
        for _ in range(6):
            started = time.perf_counter()
            RTRL(block=16).gradients(model, x, target, mse)
            times.append(time.perf_counter() - started)
        return min(times)

    # 16 times the units: a dense influence would have 16^2 times the numbers, and 16^3 of work.
    assert seconds(2048) < 40 * seconds(128)


def test_it_is_a_method_for_windows():
    assert isinstance(RTRL(), GradientMethod)
    assert isinstance(RTRL(), WindowedMethod)
    assert RTRL().window is None
    assert RTRL(online=True).window == 1
    assert RTRL(True, 3) == RTRL(online=True, block=3)


@pytest.mark.parametrize("value", [0, -1])
def test_a_block_out_of_range(value):
    with pytest.raises(ValueError, match=f"block: got {value}, expected at least 1"):
        RTRL(block=value)


def test_arguments_of_the_wrong_kind():
    for value in (1.5, True, "4"):
        with pytest.raises(TypeError, match=r"block: got .*expected a whole number"):
            RTRL(block=value)
    with pytest.raises(TypeError, match="online: got 1, expected True or False"):
        RTRL(1)


def refusals():
    twice = ll.Bidirectional(ll.Elman(2, 3, seed=0))
    yield ll.SequenceModel(twice, 1, reduce=None), ValueError, "RTRL.*bidirectional.*use BPTT"
    yield nn.LSTM(2, 3, batch_first=True), TypeError, "RTRL sees.*LSTM; ll.from_torch"
    yield nn.Sequential(nn.Linear(2, 1)), TypeError, "RTRL.*does not know how to with a Sequential"
    dropped = ll.Elman(2, 3, input_dropout=0.5, seed=0)
    yield ll.SequenceModel(dropped, 1, reduce=None), ValueError, "drops out.*RTRL"
    dropped = ll.Stack(ll.Elman(2, 3, seed=0), ll.Elman(3, 3, seed=0), dropout=0.5)
    yield ll.SequenceModel(dropped, 1, reduce=None), ValueError, "drops out.*RTRL"


@pytest.mark.parametrize(("model", "error", "text"), list(refusals()))
def test_models_that_it_is_not_for(model, error, text):
    x, target = torch.zeros(2, 4, 2), torch.zeros(2, 4, 1)
    with pytest.raises(error, match=text):
        RTRL().gradients(model, x, target, mse)
    with pytest.raises(error, match=text):
        RTRL(True).accumulate_window(model, x, target, mse, torch.Tensor.backward)


def test_dropout_that_is_at_rest_is_no_hindrance():
    layer = ll.Elman(2, 3, input_dropout=0.5, seed=0, dtype=torch.float64)
    model = ll.SequenceModel(layer, 1, reduce=None).eval()
    x, target = cases.random(2, 6, 2), cases.random(2, 6, 1, seed=1)
    assert_same(RTRL(block=2).gradients(model, x, target, mse), exact(model, x, target, mse))


def test_inputs_that_do_not_fit():
    model = make("Elman")
    x, target, lengths, resets = problem(model, steps=5)
    for options, text in (
        ({"lengths": lengths[:2]}, r"lengths: got shape \(2,\), expected \(3,\)"),
        ({"lengths": lengths + 5}, "lengths: got values from .* expected 0 to 5"),
        ({"lengths": lengths - 9}, "lengths: got values from .* expected 0 to 5"),
        ({"resets": resets[:, :3]}, r"resets: got shape \(3, 3\), expected \(3, 5\)"),
        ({"state": [torch.zeros(2, 4).double()]}, "state"),
    ):
        with pytest.raises(ValueError, match=text):
            RTRL().gradients(model, x, target, mse, **options)
    with pytest.raises(ValueError, match="expected a scalar"):
        RTRL().gradients(model, x, target, lambda y, t: y - t)
    last = make("Elman", reduce="last")
    with pytest.raises(ValueError, match=r"one output a sequence \(reduce='last'\)"):
        RTRL(True).accumulate_window(last, x, target, mse, torch.Tensor.backward)
