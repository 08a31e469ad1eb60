"""What exchanging the past of two sequences shows, and a gradient does not."""

import pytest
import torch

import longlag as ll
from longlag.memory import PastEffects, past_effects


def linear(w: float) -> ll.SequenceModel:
    """h_t = w h_{t-1} + x_t, read out as it is."""
    layer = ll.Elman(1, 1, activation="identity", bias=False, dtype=torch.float64)
    layer.weight_ih.data.fill_(1.0)
    layer.weight_hh.data.fill_(w)
    model = ll.SequenceModel(layer, 1, reduce="last", bias=False)
    model.readout.weight.data.fill_(1.0)
    return model


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_hand(w: float, x: torch.Tensor, lengths: torch.Tensor, lag: int) -> float:
    """The mean |y' - y| for the two partners of each sequence, from the closed form."""
    rows = [n for n in range(len(x)) if lengths[n] > lag]
    states = []
    for n in rows:
        h = 0.0
        for value in x[n, : int(lengths[n]) - lag, 0]:
            h = w * h + float(value)
        states.append(h)
    count = len(rows)
    shifts = {1 + k * (count - 1) // 2 for k in range(2)}
    changes = [
        abs(states[(n - shift) % count] - states[n]) * abs(w) ** lag
        for shift in shifts
        for n in range(count)
    ]
    return sum(changes) / len(changes)


@pytest.mark.slow
def test_of_a_linear_unit_it_is_the_difference_of_states_times_its_power():
    x = noise(7, 30, 1)
    lengths = torch.tensor([30, 12, 30, 25, 9, 30, 28])
    found = past_effects(linear(0.9), x, lengths=lengths, lags=[1, 5, 20])
    expected = [by_hand(0.9, x, lengths, lag) for lag in (0, 1, 5, 20)]
    ratios = found.effects / found.effects[0]
    assert ratios.tolist() == pytest.approx([each / expected[0] for each in expected], rel=1e-10)
    assert found.lags == (0, 1, 5, 20)


def test_effects_are_in_units_of_the_distance_between_two_outputs():
    """Of a unit without memory, lag 0 exchanges outputs, and the distance is theirs."""
    x = noise(400, 3, 1)
    found = past_effects(linear(0.0), x, lags=[1])
    assert float(found.effects[0]) == pytest.approx(1.0, abs=0.1)
    assert float(found.effects[1]) == 0.0


def test_a_latch_holds_what_its_gradient_has_lost():
    layer = ll.Elman(1, 1, bias=False)  # tanh, own weight 2: stable near +0.96 and -0.96
    layer.weight_ih.data.fill_(3.0)
    layer.weight_hh.data.fill_(2.0)
    x = torch.zeros(8, 60, 1)
    x[:, 0, 0] = torch.tensor([1.0, -1, 1, -1, -1, 1, 1, -1])
    report = ll.memory_report(ll.SequenceModel(layer, 1, seed=0), x, lag=59)
    assert report.horizon is not None
    assert report.horizon < 10
    assert report.exchange is not None
    assert report.exchange.reach(0.3) == 59
    assert report.verdict.kind == "holds"
    assert report.verdict.advice == ()


@pytest.mark.slow
def test_a_stack_and_a_given_state_are_followed():
    model = ll.Stack(ll.LSTM(2, 5, seed=0), ll.Elman(5, 3, seed=1))
    x = torch.randn(6, 20, 2, generator=torch.Generator().manual_seed(0))
    _, state = model(x.flip(0))
    with_state = past_effects(model, x, state=state, lags=[19])
    without = past_effects(model, x, lags=[19])
    # 19 steps before the end one step has been read: the given states still tell sequences apart.
    assert with_state.effects[1] != without.effects[1]
    assert torch.isfinite(with_state.effects).all()


def test_reach_ends_at_the_first_lag_below():
    found = PastEffects((0, 1, 2, 4, 8), torch.tensor([1.0, 0.5, 0.2, 0.05, 0.3]))
    assert found.reach() == 2
    assert found.reach(0.6) is None
    assert found.reach(0.01) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": torch.zeros(1, 5, 1)},
            r"x: got shape \(1, 5, 1\), expected \(N, T, C\) with N >= 2",
        ),
        ({"lags": [9]}, r"lags: got \[9\], expected some from 1 to 4"),
        ({"model": ll.Bidirectional(ll.Elman(1, 2))}, "reads in both directions"),
    ],
)
def test_what_it_refuses(change, message):
    given = {"model": ll.Elman(1, 2), "x": torch.zeros(2, 5, 1)} | change
    with pytest.raises(ValueError, match=message):
        past_effects(**given)
