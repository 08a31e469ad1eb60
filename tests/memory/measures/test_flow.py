"""error_flow against state_errors, gradient_by_lag and autograd."""

import pytest
import torch
from tests.gradients.models import MODELS, make, problem
from tests.memory.brute import made
from tests.scan.cases import CELLS, hidden_of, layer_of, random
from torch import nn

import longlag as ll
from longlag.memory import error_flow, horizons, jacobian_norms, state_jacobians
from longlag.memory.measures import linear

mse = nn.functional.mse_loss


def joint(errors):
    """(N, T + 1, S H): the errors of all states side by side, from s = 0."""
    return torch.cat(
        [
            torch.cat([errors.initial[name].unsqueeze(-2), errors.errors[name]], -2)
            for name in errors.errors
        ],
        -1,
    )


@pytest.mark.slow
@pytest.mark.parametrize("reduce", [None, "last", "mean"])
@pytest.mark.parametrize("kind", MODELS)
def test_all_errors_of_whole_models(kind, reduce):
    model = make(kind, reduce=reduce, direct=True)
    x, target, lengths, resets = problem(model, 6)
    given = {"lengths": lengths, "resets": resets}
    found = error_flow(model, x, target, mse, step="all", weights=False, **given)
    expected = ll.state_errors(model, x, target, mse, joint=True, **given)
    torch.testing.assert_close(found.loss, expected.loss)
    for mine, theirs in zip(found.layers, expected.layers, strict=True):
        assert mine.layer == theirs.layer
        norms = torch.linalg.vector_norm(joint(theirs), dim=-1)
        torch.testing.assert_close(mine.by_step, norms)
        assert mine.by_lag is mine.by_unit is None
        with pytest.raises(ValueError, match="step: got 'all'"):
            mine.horizon()


@pytest.mark.slow
@pytest.mark.parametrize("step", [-1, 4])
@pytest.mark.parametrize("kind", MODELS)
def test_the_error_of_one_step(kind, step):
    """Of the step's own part of the loss; lags count back from it, in each sequence."""
    model = make(kind)
    x, target, lengths, resets = problem(model, 6)
    given = {"lengths": lengths, "resets": resets}
    at = lengths + step if step < 0 else torch.full_like(lengths, step)
    there = torch.arange(6) == at.unsqueeze(-1)

    def own(output, target):
        return ((output - target).square() * there.unsqueeze(-1)).sum()

    def whole(output, target):
        return (output - target).square().sum()

    found = error_flow(model, x, target, whole, step=step, **given)
    expected = ll.state_errors(model, x, target, own, joint=True, **given)
    by_lag = ll.gradient_by_lag(model, x, target, whole, step=step, **given).norms()
    seen = 0
    for mine, theirs in zip(found.layers, expected.layers, strict=True):
        errors = joint(theirs)
        torch.testing.assert_close(mine.by_step, torch.linalg.vector_norm(errors, dim=-1))
        hidden = next(iter(theirs.initial.values())).shape[-1]
        for lag in range(7):
            parts = []
            for index in range(at.numel()):
                s = int(at.flatten()[index]) + 1 - lag
                if s >= 0 and int(at.flatten()[index]) < int(lengths.flatten()[index]):
                    parts.append(errors.flatten(0, -3)[index, s])
                else:
                    parts.append(errors.new_zeros(errors.shape[-1]))
            rows = torch.stack(parts).view(*lengths.shape, -1, hidden)
            units = rows.square().sum((-3, -2)).sqrt()
            torch.testing.assert_close(mine.by_unit[..., lag, :], units)
            torch.testing.assert_close(
                mine.by_lag[..., lag], torch.linalg.vector_norm(units, dim=-1)
            )
        for name, norms in mine.weights.items():
            seen += 1
            torch.testing.assert_close(
                norms, by_lag[name], rtol=1e-8, atol=1e-12, check_dtype=False
            )
        for share in mine.shares().values():
            assert float(share.sum()) == pytest.approx(1.0)
    assert seen == len(by_lag)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_the_terms_of_the_weights_of_any_cell(name):
    cell = CELLS[name]
    layer = layer_of(cell, 3, hidden_of(cell, 4))
    x, target = random(3, 7, 3), random(3, 7, layer.hidden_size, seed=1)
    lengths = torch.tensor([7, 5, 0])
    (found,) = error_flow(layer, x, target, mse, lengths=lengths).layers
    expected = ll.gradient_by_lag(layer, x, target, mse, lengths=lengths).norms()
    assert found.weights.keys() == expected.keys()
    for parameter, norms in found.weights.items():
        torch.testing.assert_close(norms, expected[parameter], rtol=1e-8, atol=1e-12)


@pytest.mark.slow
def test_all_steps_share_the_terms_of_gradient_by_lag():
    model = make("stack")
    x, target, lengths, resets = problem(model, 5)
    given = {"lengths": lengths, "resets": resets}
    found = error_flow(model, x, target, mse, step="all", **given)
    expected = ll.gradient_by_lag(model, x, target, mse, step="all", **given).norms()
    mine = {name: norms for each in found.layers for name, norms in each.weights.items()}
    assert mine.keys() == expected.keys()
    for name, norms in mine.items():
        torch.testing.assert_close(norms, expected[name])


@pytest.mark.slow
@pytest.mark.parametrize("reduce", [None, "last", "mean"])
def test_both_directions(reduce):
    layer = ll.Bidirectional(made("LSTM"), ll.Stack(made("GRU")))
    model = ll.SequenceModel(layer, 2, reduce=reduce, seed=0)
    x, lengths = random(3, 6, 2), torch.tensor([6, 4, 0])
    target = random(3, 2) if reduce else random(3, 6, 2)
    found = error_flow(model, x, target, mse, step="all", lengths=lengths, weights=False)
    names = [each.layer for each in found.layers]
    assert names == ["layer.forward_layer", "layer.backward_layer.layers.0"]
    for start, part in ((0, 0), (1, 1)):
        begin = [torch.zeros(3, 3).double().requires_grad_() for _ in range(3)]
        state = ((begin[0], begin[1]), ((begin[2],),))
        mse(model(x, state, lengths=lengths), target).backward()
        parts = (begin[:2], begin[2:])[part]
        norm = torch.linalg.vector_norm(torch.cat([each.grad for each in parts], -1), dim=-1)
        torch.testing.assert_close(found.layers[start].by_step[:2, 0], norm[:2])
    one = error_flow(model, x, target, mse, lengths=lengths)
    modules = dict(model.named_parameters())
    for each in one.layers:
        assert each.weights
        assert set(each.weights) <= set(modules)
        assert each.by_lag[0] > 0
    torch.testing.assert_close(one.loss, mse(model(x, lengths=lengths), target).detach())
    assert not layer._forward_hooks


def test_what_the_error_of_an_end_is_made_of():
    """dE/ds_s is dE/dh_T times the product of the Jacobians, at all lags."""
    model = make("LSTM", reduce="last")
    x, target, _, _ = problem(model, 12, batch=1)
    (layer,) = error_flow(model, x, target, mse).layers
    jacobians = state_jacobians(model, x)[0]
    (errors,) = ll.state_errors(model, x, target, mse, joint=True).layers
    vector = torch.cat([errors.errors["h"][0, -1], errors.errors["c"][0, -1]])
    for lag in range(13):
        torch.testing.assert_close(layer.by_lag[lag], vector.norm(), rtol=1e-10, atol=0)
        if lag < 12:
            vector = vector @ jacobians[11 - lag]
    norms = jacobian_norms(model, x, sample="ends").largest.mean.exp()
    assert (layer.by_lag <= layer.by_lag[0] * norms * (1 + 1e-9)).all()


def test_which_units_carry_the_long_memory():
    """Leaky units without W: unit i forgets as (1 - a_i)^lag."""
    leaks = (0.5, 0.1, 0.02, 0.001)
    layer = ll.Leaky(1, 4, leak=leaks, recurrent=False, seed=0, dtype=torch.float64)
    model = ll.SequenceModel(layer, 1, reduce="last", seed=0)
    x, target = random(3, 400, 1), random(3, 1)
    (found,) = error_flow(model, x, target, mse).layers
    expected = [7.0, 44.0, 228.0, torch.inf]  # ceil(log 0.01 / log(1 - a))
    assert found.unit_horizons().tolist() == expected
    assert found.horizon() is None
    assert found.noise() is None
    assert found.horizons().item() == torch.inf
    quick = ll.SequenceModel(
        ll.Leaky(1, 2, leak=0.5, recurrent=False, seed=0, dtype=torch.float64), 1, seed=0
    )
    result = error_flow(quick, x, target, mse)
    assert result.horizons(0.1) == {"layer": 4}
    assert result.layers[0].noise() == 53  # half of 2^-52 is the first below it


def test_replicas_have_their_own():
    model = make("replicas", reduce="last")
    x, target, _, _ = problem(model, 9)
    (found,) = error_flow(model, x, target, mse).layers
    assert found.by_step.shape == (2, 3, 10)
    assert found.by_lag.shape == (2, 10)
    assert found.by_unit.shape == (2, 10, 4)
    assert found.horizons(0.5).shape == (2,)
    torch.testing.assert_close(found.horizons(0.5)[1], horizons(found.by_lag[1], 0.5))
    assert found.unit_horizons(0.5).shape == (2, 4)


def test_blocks_of_lags_are_one(monkeypatch):
    model = make("stack")
    x, target, lengths, resets = problem(model, 6)
    given = {"lengths": lengths, "resets": resets}
    whole = error_flow(model, x, target, mse, **given)
    monkeypatch.setattr(linear, "AT_ONCE", 1)
    parts = error_flow(model, x, target, mse, **given)
    for mine, theirs in zip(parts.layers, whole.layers, strict=True):
        for name, norms in mine.weights.items():
            torch.testing.assert_close(norms, theirs.weights[name])


@pytest.mark.parametrize(("count", "steps"), [(0, 4), (2, 0)])
def test_nothing_to_read(count, steps):
    layer, x = made("LSTM"), torch.ones(count, steps, 2).double()
    (found,) = error_flow(layer, x, x, lambda output, _: output.sum()).layers
    assert found.by_step.shape == (count, steps + 1)
    assert found.by_lag.shape == (steps + 1,)
    assert len(found.weights) == 3
    assert all((norms == 0).all() and norms.shape == (steps,) for norms in found.weights.values())


def test_a_loss_that_depends_on_nothing():
    model = ll.SequenceModel(ll.Bidirectional(made("GRU")), 1)
    found = error_flow(model, random(2, 4, 2), random(2, 1), lambda output, target: target.sum())
    assert all((each.by_step == 0).all() for each in found.layers)
    assert all((share == 0).all() for each in found.layers for share in each.shares().values())


def test_what_is_refused():
    model, x = make("GRU"), torch.ones(2, 4, 3).double()
    target = torch.ones(2, 4, 2).double()
    for step in (4, -5):
        with pytest.raises(ValueError, match=f"step: got {step}, expected one of the 4 steps"):
            error_flow(model, x, target, mse, step=step)
    with pytest.raises(TypeError, match=r"step: got 1\.5"):
        error_flow(model, x, target, mse, step=1.5)
    both = ll.SequenceModel(ll.Bidirectional(made("GRU")), 2)
    with pytest.raises(ValueError, match=r"loss: got shape \(2, 2\), expected a scalar"):
        error_flow(both, x[..., :2], target[:, 0], lambda output, target: output - target)
