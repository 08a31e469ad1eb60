"""Next-generation reservoirs: against loops in NumPy, in pieces, and on the Lorenz system."""

import itertools
import math

import numpy as np
import pytest
import torch

import longlag as ll


def layer_of(features=2, **options):
    return ll.NextGeneration(features, dtype=torch.float64, **options)


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def by_hand(x, delays, stride, degrees, starts=(0,)):
    """One sequence (T, C), which starts anew at some steps."""
    rows = []
    for t in range(len(x)):
        start = max(step for step in starts if step <= t)
        lags = [t - lag * stride for lag in range(delays)]
        seen = np.concatenate([x[at] if at >= start else np.zeros(x.shape[1]) for at in lags])
        row = list(seen)
        for degree in degrees:
            combinations = itertools.combinations_with_replacement(range(len(seen)), degree)
            row += [math.prod(seen[number] for number in places) for places in combinations]
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(
    ("delays", "stride", "degree"), [(1, 1, 2), (2, 1, 2), (3, 4, (3,)), (2, 2, (2, 3)), (3, 1, ())]
)
def test_the_features(delays, stride, degree):
    layer, x = layer_of(delays=delays, stride=stride, degree=degree), draw(3, 15, 2)
    output, _ = layer(x)
    degrees = degree if isinstance(degree, tuple) else (degree,)
    for row, sequence in zip(output.numpy(), x.numpy(), strict=True):
        expected = by_hand(sequence, delays, stride, degrees)
        np.testing.assert_allclose(row, expected, atol=1e-14)
        assert layer.output_size == expected.shape[1]


@pytest.mark.parametrize("cuts", [[5], [1, 2, 3], [0, 14], list(range(15))])
def test_calls_in_a_row_are_one(cuts):
    layer, x = layer_of(delays=3, stride=2), draw(3, 15, 2)
    resets = torch.zeros(3, 15, dtype=torch.bool)
    resets[1, [4, 9]], resets[2, 0] = True, True
    whole, final = layer(x, resets=resets)
    state, outputs = None, []
    for first, stop in itertools.pairwise([0, *cuts, 15]):
        output, state = layer(x[:, first:stop], state, resets=resets[:, first:stop])
        outputs.append(output)
    assert torch.equal(torch.cat(outputs, 1), whole)
    assert torch.equal(state.inputs, final.inputs)
    assert torch.equal(layer.output_of(final), whole[:, -1])
    for row, starts in zip(range(3), [(0,), (0, 4, 9), (0,)], strict=True):
        expected = by_hand(x[row].numpy(), 3, 2, (2,), starts)
        np.testing.assert_allclose(whole[row], expected, atol=1e-14)


def test_padding_changes_nothing():
    layer, x = layer_of(delays=3, stride=2), draw(4, 12, 2)
    lengths = torch.tensor([12, 7, 1, 0])
    resets = torch.zeros(4, 12, dtype=torch.bool)
    resets[1, 5], resets[2, 6] = True, True
    before = layer(draw(4, 6, 2))[1]
    padded = x.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = math.nan
    output, state = layer(padded, before, lengths=lengths, resets=resets)
    for row, length in enumerate(lengths.tolist()):
        alone = x[row : row + 1, :length], before.inputs[row : row + 1]
        expected, after = layer(*alone, resets=resets[row : row + 1, :length])
        assert torch.equal(output[row, :length], expected[0])
        assert not output[row, length:].any()
        assert torch.equal(state.inputs[row], after.inputs[0])


def test_gradients_reach_the_input():
    layer = layer_of(degree=(2, 3))
    x = draw(1, 4, 2).requires_grad_()
    state = draw(1, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, s: layer(x, s)[0], (x, state))


def test_it_is_saved_alone_and_in_models(tmp_path):
    layer = layer_of(3, delays=2, stride=5, degree=(2, 4))
    x = draw(2, 9, 3)
    for model in (
        layer,
        ll.Stack(layer, ll.GRU(layer.output_size, 4, dtype=torch.float64)),
        ll.SequenceModel(layer, 2, reduce=None, direct=True),
    ):
        ll.save(model, tmp_path / "model")
        again = ll.load(tmp_path / "model")
        got, expected = again(x), model.eval()(x)
        got, expected = (y[0] if isinstance(y, tuple) else y for y in (got, expected))
        assert torch.equal(got, expected)


def test_it_is_trained_by_gradients_as_well():
    x = draw(8, 20, 1).float()
    target = x * x.roll(1, 1)
    model = ll.SequenceModel(ll.NextGeneration(1), 1, reduce=None, seed=0)
    for method in (ll.BPTT(), ll.TruncatedBPTT(k1=10), ll.CheckpointedBPTT(budget=10**5)):
        history = ll.fit(
            model, (x, target), epochs=20, method=method, progress=False,
            optimizer=lambda parameters: torch.optim.Adam(parameters, 0.03),
        )  # fmt: skip
    assert history.losses[-1] < 0.2
    with pytest.raises(
        TypeError, match=r"model: RTRL.* sees into the recurrence of cells, and a Ne"
    ):
        ll.fit(model, (x, target), epochs=1, method=ll.RTRL(), progress=False)


def test_it_forecasts_the_lorenz_system():
    """As in the paper: 400 points, two delays, squares, increments; some Lyapunov times ahead.

    The penalty is not the paper's 2.5e-6: its series has the errors of a coarse solver, and on an
    exact one such a small penalty finds an extrapolation that is exact and unstable.
    """
    task = ll.tasks.Lorenz(step=0.025)
    times = []
    for seed in range(3):
        series = torch.from_numpy(task.series(steps=1000, seed=seed)).unsqueeze(0)
        seen = series[:, :400]
        model = ll.SequenceModel(layer_of(3, delays=2), 3, reduce=None)
        ll.fit(model, (seen[:, :-1], seen.diff(dim=1)), method=ll.Ridge(0.1, washout=1))
        with torch.no_grad():  # from one input to the next it is what the model puts out
            model.readout.weight[:, :3] += torch.eye(3)
            ahead, _ = model.generate(600, warmup=seen)
        spread = seen[0].std(0).numpy()
        times.append(task.valid_time(ahead[0].numpy(), series[0, 400:].numpy(), deviation=spread))
    assert min(times) > 3.0, times


def test_generating_goes_on_from_a_state():
    model = ll.SequenceModel(layer_of(2, delays=2), 1, reduce=None, seed=0)
    with torch.no_grad():
        model.readout.weight *= 0.3
    warmup, x = draw(2, 5, 2), draw(2, 8, 1)
    whole, _ = model.generate(8, warmup=warmup, x=x)
    some, state = model.generate(3, warmup=warmup, x=x[:, :3])
    others, _ = model.generate(5, state=state, x=x[:, 3:])
    torch.testing.assert_close(torch.cat([some, others], 1), whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 0}, "input_size: got 0, expected at least 1"),
        ({"delays": 0}, "delays: got 0, expected at least 1"),
        ({"stride": 0}, "stride: got 0, expected at least 1"),
        ({"degree": 1}, "degree: got 1, expected at least 2"),
        ({"degree": (2, 1)}, "degree: got 1, expected at least 2"),
        ({"delays": 10**12}, "more than 1000000 products; expected fewer or lower degrees"),
        ({"degree": 10**9}, "more than 1000000 products"),
        ({"input_size": 500, "degree": 3}, "more than 1000000 products"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ll.NextGeneration(**{"input_size": 2, **options})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (torch.zeros(3, 2, 2, dtype=torch.float64), r"got \(3, 2, 2\) of torch.float64, expected"),
        ((torch.zeros(3, 5, 2),), r"got \(3, 5, 2\) of torch.float32, expected \(3, 5, 2\) of tor"),
        ("rest", "got str, expected"),
    ],
)
def test_a_state_that_does_not_fit(state, message):
    with pytest.raises(ValueError, match=f"state.inputs: {message}"):
        layer_of(delays=3, stride=2)(draw(3, 4, 2), state)


def test_torch_has_none():
    with pytest.raises(ValueError, match=r"to_torch: .* it has no NextGeneration"):
        layer_of().to_torch()
