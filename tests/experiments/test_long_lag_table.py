"""The compiled loop of the 1997 table against the library's own RTRL, update by update."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import longlag as ll

SCRIPT = Path(__file__).parents[2] / "experiments" / "long_lag_table" / "run.py"


@pytest.fixture(scope="module")
def table():
    pytest.importorskip("numba")
    spec = importlib.util.spec_from_file_location("long_lag_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_online_rtrl(table):
    p, rate, generator = 4, 0.7, np.random.default_rng(0)
    u, w, v = generator.normal(size=p + 1), generator.normal(size=1), generator.normal(size=p + 1)
    direct = generator.normal(size=(p + 1, p + 1))
    model = ll.SequenceModel(
        ll.Elman(p + 1, 1, activation="sigmoid", bias=False, dtype=torch.float64),
        p + 1, reduce=None, direct=True, bias=False, output_activation="sigmoid",
    )  # fmt: skip
    assert sum(weight.numel() for weight in model.parameters()) == (p + 2) ** 2
    with torch.no_grad():
        model.layer.weight_ih[0] = torch.tensor(u)
        model.layer.weight_hh[0] = torch.tensor(w)
        model.readout.weight[:, 0] = torch.tensor(v)
        model.readout.weight_direct.copy_(torch.tensor(direct.T))
    method, ends = ll.RTRL(online=True), np.array([4, 3, 3, 4])
    for end in ends:
        symbols = [end, *range(p - 1), end]
        coded, carry = torch.eye(p + 1, dtype=torch.float64)[symbols], None
        for t in range(p):
            model.zero_grad()
            carry = method.accumulate_window(
                model, coded[None, t : t + 1], coded[None, t + 1 : t + 2],
                lambda y, d: 0.5 * (y - d).square().sum(), torch.Tensor.backward, carry=carry,
            ).carry  # fmt: skip
            with torch.no_grad():
                for weight in model.parameters():
                    weight -= rate * weight.grad
    table.learn(u, w, direct, v, ends, rate)
    for found, wanted in (
        (model.layer.weight_ih[0], u),
        (model.layer.weight_hh[0], w),
        (model.readout.weight[:, 0], v),
        (model.readout.weight_direct, direct.T),
    ):
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-11, atol=1e-13)
    x = torch.eye(p + 1, dtype=torch.float64)[torch.tensor([[3, 0, 1, 2], [4, 0, 1, 2]])]
    y = torch.eye(p + 1, dtype=torch.float64)[torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]])]
    worst = float((model(x) - y).abs().max().detach())
    assert table.largest_error(u, w, direct, v, p) == pytest.approx(worst, rel=1e-11)


def test_a_trial_that_is_done_is_left_alone(table):
    done = table.row(2, 20.0, 20_000, trials=3, seed=0)
    assert done["solved"] == 3
    assert max(done["sequences"]) < 20_000
    assert done["weights"] == 16
