"""state_errors against autograd through plain loops, and what the passes refuse."""

import pytest
import torch
from tests.gradients.models import MODELS, make, problem
from tests.scan.cases import CELLS, hidden_of, layer_of, random, states_of
from torch import nn

import longlag as ll
from longlag.gradients.errors_of_states import state_errors

mse = nn.functional.mse_loss


def layers_of(model):
    recurrent = model.layer if isinstance(model, ll.SequenceModel) else model
    return list(recurrent.layers) if isinstance(recurrent, ll.Stack) else [recurrent]


def by_loop(model, x, target, loss, lengths, resets, state=None):
    """Every state (N, H) of every layer by step, in a graph, their errors retained.

    All runs a step at a time with the reference backend; padding keeps the state.
    """
    layers = layers_of(model)
    for layer in layers:
        layer.backend = "reference"
    steps, visited = x.shape[-2], [[] for _ in layers]
    given = [None] * len(layers) if state is None else state
    states = []
    for layer, begin in zip(layers, given, strict=True):
        size = (*x.shape[:-2], layer.hidden_size)
        if begin is None:
            begin = [x.new_zeros(size) for _ in layer.recurrence.states]
            begin += [x.new_zeros((*size[:-1], 1))] if layer.recurrence.timed else []
        states.append(tuple(part.detach().clone().requires_grad_() for part in begin))
    for path, begin in zip(visited, states, strict=True):
        path.append(begin)
    tops = []
    for t in range(steps):
        below = x[..., t : t + 1, :]
        some = {} if lengths is None else {"lengths": (lengths - t).clamp(0, 1)}
        cut = {} if resets is None else {"resets": resets[..., t : t + 1]}
        for number, layer in enumerate(layers):
            _, new = layer(below, states[number], **some, **cut)
            # The error of each state with the others of the step held.
            new = tuple(part.clone() for part in new)
            for part in new:
                part.requires_grad_().retain_grad()
            states[number] = new
            visited[number].append(new)
            output = new[layer.recurrence.states.index(layer.recurrence.output)]
            if lengths is not None:
                output = output * (t < lengths).unsqueeze(-1)
            below = output.unsqueeze(-2)
        tops.append(below)
    h = torch.cat(tops, -2)
    if isinstance(model, ll.SequenceModel):
        seen = x if model.direct else None
        if seen is not None and lengths is not None:
            there = (torch.arange(steps) < lengths.unsqueeze(-1)).unsqueeze(-1)
            seen = seen * there
        if model.reduce is not None:
            h = model._reduce(h, lengths, model.layer.last)
            seen = None if seen is None else model._reduce(seen, lengths, model.layer.last)
        h = model.readout(h, seen)
    value = loss(h, target)
    value.backward()
    model.zero_grad()
    return visited, value.detach(), h.detach()


def assert_errors(found, visited, steps, lengths):
    """States and errors of all layers are those of the loop; in the padding they are zero."""
    for layer, path in zip(found.layers, visited, strict=True):
        for number, name in enumerate(layer.errors):
            for t in range(steps + 1):
                state, error = path[t][number].detach(), path[t][number].grad
                error = torch.zeros_like(state) if error is None else error
                if t and lengths is not None:
                    # The loop keeps the state in the padding; its error is that of the last step.
                    there = (t <= lengths).unsqueeze(-1)
                    state, error = state * there, error * there
                mine = layer.initial[name] if t == 0 else layer.errors[name][..., t - 1, :]
                torch.testing.assert_close(layer.states[name][..., t, :], state)
                if t == 0 or lengths is None:
                    torch.testing.assert_close(mine, error, rtol=0, atol=1e-12)
                    continue
                # At its end, a sequence's error is also that of the copies of the state after it.
                whole = there & (t < lengths).unsqueeze(-1)
                torch.testing.assert_close(mine * whole, error * whole, rtol=0, atol=1e-12)
                assert (mine * ~there == 0).all()


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "derived"])
@pytest.mark.parametrize("name", CELLS)
def test_the_joint_errors_of_any_cell(name, backend):
    cell = CELLS[name]
    layer = layer_of(cell, 3, hidden_of(cell, 4), backend=backend)
    x, target = random(2, 5, 3), random(2, 5, layer.hidden_size, seed=1)
    state = tuple(states_of(cell, (2,), layer.hidden_size, seed=5))
    found = state_errors(layer, x, target, mse, state=state, joint=True)
    visited, value, output = by_loop(layer, x, target, mse, None, None, (state,))
    assert_errors(found, visited, 5, None)
    torch.testing.assert_close(found.loss, value)
    torch.testing.assert_close(found.output, output)
    assert found.layers[0].layer == ""


@pytest.mark.parametrize("backend", ["auto", "derived"])
def test_padding_and_resets_after_a_given_state(backend):
    model = make("stack")
    x, target, lengths, resets = problem(model, 6)
    resets[:, 0] = torch.tensor([False, True, False])
    state = ((random(3, 4, seed=5), random(3, 4, seed=6)), (random(3, 3, seed=7),))
    for layer in layers_of(model):
        layer.backend = backend
    given = {"lengths": lengths, "resets": resets, "state": state}
    found = state_errors(model, x, target, mse, joint=True, **given)
    visited, value, _ = by_loop(model, x, target, mse, **given)
    assert_errors(found, visited, 6, lengths)
    torch.testing.assert_close(found.loss, value)
    assert torch.equal(found.layers[0].states["c"][:, 0], state[0][1])


@pytest.mark.slow
@pytest.mark.parametrize("reduce", [None, "last", "mean"])
@pytest.mark.parametrize("kind", MODELS)
def test_whole_models_with_padding_and_resets(kind, reduce):
    model = make(kind, reduce=reduce, direct=True)
    x, target, lengths, resets = problem(model, 6)
    given = {"lengths": lengths, "resets": resets}
    found = state_errors(model, x, target, mse, joint=True, **given)
    visited, value, output = by_loop(model, x, target, mse, lengths, resets)
    assert_errors(found, visited, 6, lengths)
    torch.testing.assert_close(found.loss, value)
    if reduce is not None:
        torch.testing.assert_close(found.output, output)


def test_the_error_at_a_sequence_s_own_end():
    """What `assert_errors` cannot see: a row of a ragged batch is the sequence alone."""
    model = make("stack", reduce="last")
    x, target, lengths, _ = problem(model, 6)
    found = state_errors(model, x, target, nn.MSELoss(reduction="sum"), lengths=lengths)
    for n, length in enumerate(lengths):
        alone = state_errors(
            model, x[n : n + 1, :length], target[n : n + 1], nn.MSELoss(reduction="sum")
        )
        for ours, theirs in zip(found.layers, alone.layers, strict=True):
            for name, error in theirs.errors.items():
                torch.testing.assert_close(ours.errors[name][n, :length], error[0])
                torch.testing.assert_close(
                    ours.states[name][n, : length + 1], theirs.states[name][0]
                )
                torch.testing.assert_close(ours.initial[name][n], theirs.initial[name][0])


def test_the_error_of_a_memory_counts_the_output_of_its_own_step():
    """LSTM: joint or not differ by delta_h o (1 - tanh^2 c); the errors of h are the same."""
    layer = layer_of(CELLS["LSTM"], 3, 4, backend="auto")
    x, target = random(2, 5, 3), random(2, 5, 4, seed=1)
    (joint,) = state_errors(layer, x, target, mse, joint=True).layers
    (whole,) = state_errors(layer, x, target, mse).layers
    c, h = whole.states["c"][:, 1:], whole.states["h"][:, 1:]
    o = h / c.tanh()
    through = whole.errors["h"] * o * (1 - c.tanh() ** 2)
    torch.testing.assert_close(whole.errors["h"], joint.errors["h"])
    torch.testing.assert_close(whole.errors["c"], joint.errors["c"] + through)
    torch.testing.assert_close(whole.initial["c"], joint.initial["c"])
    assert (joint.errors["c"][:, -1] == 0).all()
    assert (whole.errors["c"][:, -1] != 0).all()


def test_shapes_with_replicas_and_names_in_a_stack():
    model = make("replicas")
    x, target, _, _ = problem(model, 5)
    (layer,) = state_errors(model, x, target, mse).layers
    assert layer.layer == "layer"
    assert layer.states["h"].shape == (2, 3, 6, 4)
    assert layer.errors["h"].shape == (2, 3, 5, 4)
    assert layer.initial["h"].shape == (2, 3, 4)
    model = make("stack")
    x, target, _, _ = problem(model, 5)
    found = state_errors(model, x, target, mse)
    assert [each.layer for each in found.layers] == ["layer.layers.0", "layer.layers.1"]
    assert [list(each.errors) for each in found.layers] == [["h", "c"], ["h"]]
    modules = dict(model.named_modules())
    assert all(isinstance(modules[each.layer], ll.Recurrent) for each in found.layers)


def test_stacks_in_stacks():
    parts = [ll.Elman(3, 3, seed=seed, dtype=torch.float64) for seed in range(3)]
    flat, nested = ll.Stack(*parts), ll.Stack(ll.Stack(parts[0], parts[1]), parts[2])
    x, target = random(2, 5, 3), random(2, 5, 3, seed=1)
    state = [(random(2, 3, seed=seed),) for seed in range(3)]
    ours = state_errors(nested, x, target, mse, state=((state[0], state[1]), state[2]))
    theirs = state_errors(flat, x, target, mse, state=tuple(state))
    names = [each.layer for each in ours.layers]
    assert names == ["layers.0.layers.0", "layers.0.layers.1", "layers.1"]
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        assert torch.equal(mine.errors["h"], other.errors["h"])


def test_padding_may_hold_anything():
    model = make("GRU")
    x, target, lengths, resets = problem(model, 6)
    padding = (torch.arange(6) >= lengths.unsqueeze(-1)).unsqueeze(-1)
    given = {"lengths": lengths, "resets": resets}
    clean = state_errors(model, x, target, mse, **given)
    found = state_errors(model, x.masked_fill(padding, float("nan")), target, mse, **given)
    assert torch.equal(found.layers[0].errors["h"], clean.layers[0].errors["h"])
    assert torch.equal(found.layers[0].states["h"], clean.layers[0].states["h"])


def test_float32_and_half_precision():
    for dtype, within in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        model = make("LSTM")
        x, target, _, _ = problem(model, 5)
        exact = state_errors(model, x, target, mse).layers[0].errors["c"]
        found = state_errors(model.to(dtype), x.to(dtype), target.to(dtype), mse)
        found = found.layers[0].errors["c"]
        assert found.dtype == dtype
        scale = float(exact.abs().max())
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=within * scale)


def test_nothing_has_a_graph_and_grad_stays():
    model = make("stack")
    x, target, _, _ = problem(model, 4)
    found = state_errors(model, x.requires_grad_(), target, mse)
    tensors = [found.loss, found.output]
    for layer in found.layers:
        for group in (layer.states, layer.errors, layer.initial):
            tensors += group.values()
    assert not any(tensor.requires_grad for tensor in tensors)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("batch", "steps"), [(0, 4), (3, 0)])
@pytest.mark.parametrize("backend", ["cpu", "derived"])
def test_nothing_to_read(batch, steps, backend):
    layer = layer_of(CELLS["LSTM"], 2, 3, backend=backend)
    x = torch.ones(batch, steps, 2, dtype=torch.float64)
    (found,) = state_errors(layer, x, x, lambda output, _: output.sum()).layers
    assert found.errors["c"].shape == (batch, steps, 3)
    assert found.states["c"].shape == (batch, steps + 1, 3)
    assert found.initial["c"].count_nonzero() == 0


def test_a_loss_that_depends_on_nothing():
    model = make("GRU")
    x, target, _, _ = problem(model, 4)
    found = state_errors(model, x, target, lambda output, target: target.sum())
    assert found.layers[0].errors["h"].count_nonzero() == 0


X = torch.ones(2, 4, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x: got shape \(4, 3\), expected \(N, T, 3\)"),
        ({"x": X[..., :2]}, ValueError, r"x: got shape \(2, 4, 2\), expected \(N, T, 3\)"),
        ({"x": X.float()}, TypeError, r"x: got torch.float32, expected torch.float64"),
        ({"x": X.numpy()}, TypeError, r"x: got ndarray, expected a torch.Tensor"),
        ({"lengths": torch.tensor([4])}, ValueError, r"lengths: got shape \(1,\), expected \(2,\)"),
        ({"lengths": torch.tensor([4, 5])}, ValueError, r"lengths: got values from 4 to 5"),
        ({"lengths": torch.tensor([4.0, 4.0])}, TypeError, r"lengths: got torch.float32"),
        ({"resets": torch.zeros(2, 4)}, TypeError, r"resets: got torch.float32"),
        ({"resets": torch.zeros(2, 3).bool()}, ValueError, r"resets: got shape \(2, 3\)"),
        ({"state": (X[:, 0],)}, ValueError, r"state: got 1 parts, expected a tuple of 2"),
        ({"state": (None, (X[:, 0], X[:, 0]))}, ValueError,
         r"state of layer.layers.1: got 2 items, expected 1 tensors: \(h\)"),
        ({"state": ((X[:, 0], X[:, 0]), None)}, ValueError,
         r"state of layer.layers.0.h: got shape \(2, 3\), expected \(2, 4\)"),
    ],
)  # fmt: skip
def test_bad_arguments(options, error, message):
    model = make("stack")
    target = torch.zeros(2, 4, 2, dtype=torch.float64)
    with pytest.raises(error, match=message):
        state_errors(model, **{"x": X, "target": target, "loss": mse, **options})


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (nn.Linear(3, 2), TypeError, "does not know how to with a Linear"),
        (nn.GRU(3, 2, batch_first=True), TypeError, "not into that of a GRU; ll.from_torch"),
        (ll.Bidirectional(ll.Elman(3, 2)), ValueError, "cannot be had for a bidirectional"),
        (ll.Elman(3, 2, input_dropout=0.5), ValueError, "drops out units in training"),
        (ll.Elman(3, 2, dtype=torch.bfloat16, backend="cpu"), ValueError, "'cpu' cannot run"),
    ],
)
def test_models_that_cannot_be_seen_into(model, error, message):
    like = next(model.parameters())
    x = torch.ones(2, 4, 3, dtype=like.dtype)
    with pytest.raises(error, match=message):
        state_errors(model, x, torch.zeros(2, 4, 2, dtype=like.dtype), mse)


def test_a_loss_that_is_no_scalar_is_refused():
    model = make("GRU")
    x, target, _, _ = problem(model, 6)
    with pytest.raises(ValueError, match=r"loss\(output, target\) has shape"):
        state_errors(model, x, target, lambda output, target: output - target)
