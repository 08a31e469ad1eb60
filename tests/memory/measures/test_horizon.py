"""horizon and horizons."""

import math

import pytest
import torch

from longlag.memory import horizon, horizons


def test_for_good():
    curve = torch.tensor([2.0, 0.5, 0.01, 0.3, 0.019, 0.001])
    assert horizon(curve) == 4
    assert horizon(curve, 0.2) == 2
    assert horizon(curve[:4]) is None
    assert horizon(torch.tensor([1.0])) is None
    assert horizon(torch.tensor([1.0, 0.25]), 0.25) is None  # not below, but just there


def test_logarithms_far_below_the_least_number():
    lags = torch.arange(5000).double()
    assert horizon(-2.0 * lags, 1e-300, logarithmic=True) == math.ceil(300 * math.log(10) / 2)
    assert horizon(torch.tensor([0.0, -1.0, -math.inf]), logarithmic=True) == 2


def test_what_is_no_number_is_not_below():
    assert horizon(torch.tensor([1.0, 0.0, math.nan])) is None
    assert horizon(torch.tensor([1.0, math.nan, 0.0])) == 2
    assert horizon(torch.zeros(3)) is None
    assert horizon(torch.tensor([math.inf, 0.0])) == 1


def test_many_at_once():
    curves = torch.tensor([[1.0, 4.0], [0.5, 0.03], [0.001, 0.0]])
    assert horizons(curves).tolist() == [2.0, 1.0]
    assert horizons(curves.unsqueeze(-1)).shape == (2, 1)


def test_what_is_refused():
    for curve in (torch.ones(2, 2), torch.ones(0), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="curve: got shape"):
            horizon(curve)
    for fraction in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="fraction: got"):
            horizon(torch.ones(2), fraction)
    with pytest.raises(ValueError, match="curves: got shape"):
        horizons(torch.ones(0, 2))
