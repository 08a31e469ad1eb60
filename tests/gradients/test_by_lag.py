"""gradient_by_lag against BPTT, and against terms that a plain loop cuts out one by one."""

import pytest
import torch
from tests.gradients.models import MODELS, make, problem
from tests.scan.cases import CELLS, hidden_of, layer_of, random
from torch import nn

import longlag as ll
from longlag.gradients import BPTT, by_lag
from longlag.gradients.by_lag import ByLag, gradient_by_lag

mse = nn.functional.mse_loss


def assert_total(found, expected, within=1e-10):
    """Equal to the gradients of the recurrent layers, in name and in number."""
    total = found.total()
    assert total.keys() == {name for name in expected if not name.startswith("readout")}
    for name, value in total.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=within, msg=name)


def masked(loss, steps):
    """The loss, of which only the error at some steps (N,) is left."""

    def left(output, target):
        at = torch.arange(output.shape[-2])
        here = (at == steps.unsqueeze(-1)).unsqueeze(-1)
        return loss(torch.where(here, output, output.detach()), target)

    return left


def stepwise(layer, x, seen):
    """The output of a layer in plain steps, of which `seen(s)` says whether step s sees weights.

    A step that does not see them has the same value and the same derivative by the state before.
    """
    state = None
    frozen = {name: p.detach() for name, p in layer.named_parameters()}
    outputs = []
    for s in range(x.shape[-2]):
        given = (x[..., s : s + 1, :], state)
        if seen(s):
            # Of the weights alone: the state before is held, which is the immediate derivative.
            held = None if state is None else tuple(part.detach() for part in state)
            _, new = layer(given[0], held)
            _, path = torch.func.functional_call(layer, frozen, given)
            state = type(new)(*(a + b - b.detach() for a, b in zip(new, path, strict=True)))
        else:
            _, state = torch.func.functional_call(layer, frozen, given)
        outputs.append(getattr(state, layer.recurrence.output))
    return torch.stack(outputs, -2)


FREE = [name for name, cell in CELLS.items() if not cell.recurrence.constrained]
"""The cells whose W is a parameter; tests/layers/test_constraints has the others."""
COMPILED = ("Elman", "Leaky shared", "LSTM with peepholes", "GRU", "Mixed", "Wired")


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"),
    [*((name, "derived") for name in FREE), *((name, "cpu") for name in COMPILED)],
)
def test_the_sum_over_lags_is_bptt(name, backend):
    cell = CELLS[name]
    layer = layer_of(cell, 3, hidden_of(cell, 4), backend=backend)
    x, target = random(3, 6, 3), random(3, 6, layer.hidden_size, seed=1)
    ends = torch.tensor([5, 5, 5])
    found = gradient_by_lag(layer, x, target, mse)
    assert_total(found, BPTT().gradients(layer, x, target, masked(mse, ends)))
    found = gradient_by_lag(layer, x, target, mse, step="all", max_lag=9)
    assert_total(found, BPTT().gradients(layer, x, target, mse))
    assert all(rest.count_nonzero() == 0 for rest in found.rest.values())


@pytest.mark.parametrize("name", ["Elman", "LSTM with peepholes", "GRU", "Mixed", "Wired"])
def test_each_term_is_that_of_its_lag(name):
    """Against a loop in which the weights are seen in one step only."""
    layer = layer_of(CELLS[name], 2, hidden_of(CELLS[name], 4), backend="reference")
    x, target = random(2, 5, 2), random(2, 5, layer.hidden_size, seed=1)
    named = dict(layer.named_parameters())
    found = gradient_by_lag(layer, x, target, mse, step=3)
    whole = gradient_by_lag(layer, x, target, mse, step="all")
    loss = masked(mse, torch.tensor([3, 3]))
    for lag in range(5):
        for result, kept, given in ((found, loss, [3]), (whole, mse, range(5))):
            expected = {n: torch.zeros_like(p) for n, p in named.items()}
            for t in given:
                if t < lag:
                    continue
                output = stepwise(layer, x, lambda s, at=t - lag: s == at)
                value = masked(kept, torch.tensor([t, t]))(output, target)
                for n, by in zip(
                    named, torch.autograd.grad(value, named.values(), materialize_grads=True),
                    strict=True,
                ):  # fmt: skip
                    expected[n] += by
            for n, terms in result.terms.items():
                torch.testing.assert_close(terms[lag], expected[n], rtol=0, atol=1e-12, msg=n)


@pytest.mark.slow
@pytest.mark.parametrize("reduce", [None, "last", "mean"])
@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind not in CELLS or kind in FREE])
def test_whole_models_with_padding_and_resets(kind, reduce):
    model = make(kind, reduce=reduce, direct=True)
    x, target, lengths, resets = problem(model, 7)
    options = {"lengths": lengths, "resets": resets}
    exact = BPTT().gradients(model, x, target, mse, **options)
    found = gradient_by_lag(model, x, target, mse, step="all", **options)
    assert_total(found, exact)
    default = gradient_by_lag(model, x, target, mse, **options)
    if reduce is None:
        exact = BPTT().gradients(model, x, target, masked(mse, lengths - 1), **options)
    assert_total(default, exact)
    for step in (2, -2) if reduce is None else ():
        ends = lengths - 2 if step < 0 else torch.where(lengths > 2, 2, -1)
        exact = BPTT().gradients(model, x, target, masked(mse, ends), **options)
        assert_total(gradient_by_lag(model, x, target, mse, step=step, **options), exact)


@pytest.mark.slow
@pytest.mark.parametrize("step", [None, 4, "all"])
@pytest.mark.parametrize("kind", ["LSTM", "stack", "replicas"])
def test_the_rest_is_the_sum_of_the_further_terms(kind, step):
    model = make(kind)
    x, target, lengths, resets = problem(model, 9)
    options = {"lengths": lengths, "resets": resets, "step": step}
    every = gradient_by_lag(model, x, target, mse, **options)
    for max_lag in (0, 2, 7, 8, 20):
        found = gradient_by_lag(model, x, target, mse, max_lag=max_lag, **options)
        for name, terms in found.terms.items():
            kept = min(9, max_lag + 1)
            assert len(terms) == kept
            torch.testing.assert_close(terms, every.terms[name][:kept], rtol=0, atol=1e-14)
            further = every.terms[name][kept:].sum(0)
            torch.testing.assert_close(found.rest[name], further, rtol=0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "stack", "replicas"])
def test_how_many_steps_are_taken_at_once_changes_nothing(kind, monkeypatch):
    model = make(kind)
    x, target, lengths, resets = problem(model, 8)
    options = {"lengths": lengths, "resets": resets, "step": "all", "max_lag": 4}
    at_once = gradient_by_lag(model, x, target, mse, **options)
    calls = []
    add = by_lag._Sums.add

    def counted(self, at, window):
        calls.append((at.shape[-2], window))
        add(self, at, window)

    monkeypatch.setattr(by_lag._Sums, "add", counted)
    monkeypatch.setattr(by_lag, "AT_ONCE", 1)
    one_by_one = gradient_by_lag(model, x, target, mse, **options)
    assert calls == [(1, min(t + 1, 5)) for t in range(8)]
    for name, terms in at_once.terms.items():
        torch.testing.assert_close(one_by_one.terms[name], terms, rtol=0, atol=1e-14)


@pytest.mark.slow
def test_a_state_to_start_from():
    model = make("stack")
    x, target, lengths, _ = problem(model, 6)
    state = (
        (random(3, 4, seed=5), random(3, 4, seed=6)),
        (random(3, 3, seed=7),),
    )
    options = {"lengths": lengths, "state": state}
    found = gradient_by_lag(model, x, target, mse, step="all", max_lag=2, **options)
    assert_total(found, BPTT().gradients(model, x, target, mse, **options))


def test_no_error_crosses_a_reset():
    model = make("GRU")
    x, target, _, _ = problem(model, 8)
    resets = torch.zeros(3, 8, dtype=torch.bool)
    resets[:, 5] = True
    found = gradient_by_lag(model, x, target, mse, resets=resets)
    norms = found.norms()["layer.weight_ih"]
    assert (norms[:3] > 0).all()
    assert (norms[3:] == 0).all()


def test_padding_changes_nothing_whatever_it_holds():
    model = make("LSTM")
    x, target, lengths, _ = problem(model, 6)
    padding = torch.arange(6) >= lengths.unsqueeze(-1)
    wrong = x.masked_fill(padding.unsqueeze(-1), float("nan"))
    for step in (None, "all"):
        clean = gradient_by_lag(model, x, target, mse, step=step, lengths=lengths)
        found = gradient_by_lag(model, wrong, target, mse, step=step, lengths=lengths)
        for name, terms in clean.terms.items():
            assert torch.equal(found.terms[name], terms)


def test_a_linear_unit_forgets_by_its_weight():
    """h_t = w h_{t-1} + u x_t: the term of U at lag l is (dE/dh_t) w^l x_{t-l}, in closed form."""
    layer = ll.Elman(1, 1, activation="identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh.fill_(0.5)
        layer.weight_ih.fill_(2.0)
    x = torch.ones(1, 6, 1, dtype=torch.float64)
    found = gradient_by_lag(layer, x, x, lambda output, target: 3 * output[:, -1].sum())
    expected = 3 * 0.5 ** torch.arange(6, dtype=torch.float64)
    torch.testing.assert_close(found.terms["weight_ih"].flatten(), expected)
    torch.testing.assert_close(found.norms()["weight_ih"], expected)


def test_a_lower_layer_counts_in_its_own_time():
    """Upper h2_t = h1_t + h2_{t-1}, lower h1_t = x_t: its terms all count, at lag t - s."""
    lower = ll.Leaky(1, 1, leak=1.0, recurrent=False, activation="identity", bias=False)
    upper = ll.Elman(1, 1, activation="identity", bias=False)
    with torch.no_grad():
        lower.weight_ih.fill_(1.0)
        upper.weight_ih.fill_(1.0)
        upper.weight_hh.fill_(1.0)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1)
    found = gradient_by_lag(ll.Stack(lower, upper), x, x, lambda output, _: output[:, -1].sum())
    assert found.terms["layers.0.weight_ih"].flatten().tolist() == [4.0, 3.0, 2.0, 1.0]


def test_frozen_parameters_have_no_terms_and_grad_stays():
    model = make("stack")
    x, target, _, _ = problem(model, 4)
    model.layer.layers[0].weight_hh.requires_grad_(False)
    model.layer.layers[1].requires_grad_(False)
    found = gradient_by_lag(model, x, target, mse)
    assert set(found.terms) == {"layer.layers.0.weight_ih", "layer.layers.0.bias"}
    assert all(p.grad is None for p in model.parameters())


def test_a_layer_that_is_there_twice_has_the_sum():
    layer = ll.Elman(3, 3, seed=0, dtype=torch.float64)
    model = ll.SequenceModel(ll.Stack(layer, layer), 2, reduce="last", seed=1)
    x, target = random(2, 5, 3), random(2, 2, seed=1)
    found = gradient_by_lag(model, x, target, mse)
    assert_total(found, BPTT().gradients(model, x, target, mse))


@pytest.mark.parametrize(("batch", "steps"), [(0, 4), (3, 0), (3, 1)])
@pytest.mark.parametrize("step", [None, "all"])
def test_little_or_nothing_to_read(batch, steps, step):
    model = make("LSTM")
    x = torch.ones(batch, steps, 3, dtype=torch.float64)
    target = torch.zeros(batch, steps, 2, dtype=torch.float64)

    def loss(output, target):
        return (output - target).square().sum()

    found = gradient_by_lag(model, x, target, loss, step=step)
    assert found.terms["layer.weight_hh"].shape == (steps, 16, 4)
    assert_total(found, BPTT().gradients(model, x, target, loss))


def test_a_loss_that_depends_on_nothing():
    model = make("GRU")
    x, target, _, _ = problem(model, 4)
    found = gradient_by_lag(model, x, target, lambda output, target: target.sum(), step="all")
    assert all(value.count_nonzero() == 0 for value in found.total().values())


@pytest.mark.parametrize(
    ("reduce", "options", "error", "message"),
    [
        (None, {"step": 6}, ValueError, r"step: got 6, expected one of the 6 steps of x: -6 to 5"),
        (None, {"step": -7}, ValueError, r"step: got -7, expected one of the 6 steps"),
        (None, {"step": 1.0}, TypeError, r"step: got 1.0 \(float\), expected .*'all', or"),
        (None, {"step": True}, TypeError, r"step: got True"),
        (None, {"max_lag": -1}, ValueError, r"max_lag: got -1, expected at least 0"),
        (None, {"max_lag": "3"}, TypeError, r"max_lag: got '3' \(str\), expected a whole"),
        ("last", {"step": 3}, ValueError, r"step: got 3, but the model has one output a sequence"),
    ],
)
def test_bad_arguments(reduce, options, error, message):
    model = make("GRU", reduce=reduce)
    x, target, _, _ = problem(model, 6)
    with pytest.raises(error, match=message):
        gradient_by_lag(model, x, target, mse, **options)


def test_a_loss_that_is_no_scalar_is_refused():
    model = make("GRU")
    x, target, _, _ = problem(model, 6)
    with pytest.raises(ValueError, match=r"loss\(output, target\) has shape"):
        gradient_by_lag(model, x, target, lambda output, target: output - target)


def test_the_result_is_data():
    found = ByLag({"w": torch.tensor([[3.0, 4.0], [0.0, 1.0]])}, {"w": torch.tensor([1.0, 1.0])})
    assert found.total()["w"].tolist() == [4.0, 6.0]
    assert found.norms()["w"].tolist() == [5.0, 1.0]
