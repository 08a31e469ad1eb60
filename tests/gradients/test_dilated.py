"""Gradient methods and measures of dilated layers: those of the same delays, and of autograd."""

import pytest
import torch

import longlag as ll

DOUBLE = torch.float64
METHODS = [
    ll.BPTT(), ll.CheckpointedBPTT(budget=4), ll.TruncatedBPTT(3, 6), ll.RTRL(), ll.SnAp1(),
]  # fmt: skip


def mse(output, target):
    return ((output - target) ** 2).mean()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(3, 11, 2, dtype=DOUBLE, generator=generator),
        torch.randn(3, 11, 1, dtype=DOUBLE, generator=generator),
        {
            "lengths": torch.tensor([11, 4, 7]),
            "resets": torch.rand(3, 11, generator=generator) < 0.2,
        },
    )


@pytest.fixture
def twins():
    """A dilated Elman layer, and one with the delay: the same network."""
    layer = ll.Elman(2, 4, dilation=3, seed=0, dtype=DOUBLE)
    other = ll.Skip(2, 4, delays=(3,), dtype=DOUBLE)
    other.load_state_dict(layer.state_dict())
    return [ll.SequenceModel(one, 1, reduce=None, seed=1) for one in (layer, other)]


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_gradients_are_those_of_the_delay(twins, data, method):
    x, target, options = data
    assert_same(*(method.gradients(model, x, target, mse, **options) for model in twins))


def test_measures_are_those_of_the_delay(twins, data):
    x, target, options = data
    ours, theirs = (ll.gradient_by_lag(m, x, target, mse, **options).terms for m in twins)
    assert_same(ours, theirs)
    ours, theirs = (ll.state_jacobians(model.layer, x) for model in twins)
    assert ours.shape == (3, 11, 12, 12)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [ll.GRU, ll.LSTM, ll.Leaky, ll.IndRNN])
def test_exact_methods_agree(layer, data):
    x, target, options = data
    net = ll.Dilated(layer, 2, 4, dilations=(1, 2, 5), seed=0, dtype=DOUBLE)
    model = ll.SequenceModel(net, 1, reduce=None, seed=1)
    exact = ll.BPTT().gradients(model, x, target, mse, **options)
    for method in (ll.CheckpointedBPTT(budget=4), ll.TruncatedBPTT(11, 11), ll.RTRL()):
        assert_same(exact, method.gradients(model, x, target, mse, **options))


@pytest.mark.slow
def test_a_report_of_a_dilated_stack(data):
    x, target, _ = data
    net = ll.Dilated(ll.Elman, 2, 4, dilations=(1, 2, 4), seed=0, dtype=DOUBLE)
    model = ll.SequenceModel(net, 1, reduce=None, seed=1)
    assert "Dilated" in str(ll.memory_report(model, x, target, loss=mse))
