import dataclasses

import pytest
import torch
from torch import nn

from longlag.gradients import BPTT, GradientMethod, forward


class Net(nn.Module):
    """Notes what came; `unused` has no part in the output, `frozen` no gradient."""

    def __init__(self):
        super().__init__()
        self.core = nn.GRU(2, 3, batch_first=True)
        self.unused = nn.Parameter(torch.ones(4))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.seen = {}

    def forward(self, x, **inputs):
        self.seen = inputs
        return self.core(x)[0] * self.frozen


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = Net().double()
    x = torch.randn(4, 5, 2, dtype=torch.float64, generator=generator)
    target = torch.randn(4, 5, 3, dtype=torch.float64, generator=generator)
    return net, x, target


def loss(output, target):
    return (output - target).pow(2).mean()


def test_it_is_the_gradient(problem):
    """Against central differences of the loss, entry by entry."""
    net, x, target = problem
    gradients = BPTT().gradients(net, x, target, loss)
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        flat, expected = parameter.data.view(-1), torch.zeros(parameter.numel()).double()
        for i in range(len(flat)):
            middle, values = flat[i].item(), []
            for shift in (1e-6, -1e-6):
                flat[i] = middle + shift
                values.append(loss(net(x), target).item())
            flat[i] = middle
            expected[i] = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close(
            gradients[name], expected.view_as(parameter), rtol=1e-6, atol=1e-9
        )


def test_it_is_autograd_to_the_bit_and_leaves_grad_alone(problem):
    net, x, target = problem
    gradients = BPTT().gradients(net, x, target, loss)
    assert all(p.grad is None for p in net.parameters())
    loss(net(x), target).backward()
    marker = {name: p.grad for name, p in net.named_parameters()}
    BPTT().gradients(net, x, target, loss)
    assert gradients.keys() == marker.keys() - {"frozen"}
    for name, parameter in net.named_parameters():
        assert parameter.grad is marker[name]
        if name not in ("unused", "frozen"):
            assert torch.equal(gradients[name], marker[name])
    assert torch.equal(gradients["unused"], torch.zeros(4).double())


def test_a_loss_that_depends_on_nothing_has_zero_gradients(problem):
    net, x, target = problem
    gradients = BPTT().gradients(net, x, target, lambda output, target: target.sum())
    assert gradients["core.weight_hh_l0"].shape == (9, 3)
    assert all(gradient.count_nonzero() == 0 for gradient in gradients.values())


def test_accumulate_adds_to_grad_through_the_given_backward(problem):
    net, x, target = problem
    started = []

    def backward(value):
        started.append(value.item())
        value.backward()

    once = BPTT().gradients(net, x, target, loss)
    for _ in range(2):
        value, output, carry = BPTT().accumulate(net, x, target, loss, backward)
    assert carry is None
    assert started == [value.item()] * 2 == [loss(net(x), target).item()] * 2
    assert torch.equal(output, net(x))
    assert not value.requires_grad
    assert not output.requires_grad
    assert torch.equal(net.core.weight_hh_l0.grad, 2 * once["core.weight_hh_l0"])


@pytest.mark.parametrize("given", [(), ("lengths",), ("resets", "state"), ("lengths", "state")])
def test_only_given_inputs_reach_the_model(problem, given):
    net, x, target = problem
    inputs = {name: object() for name in given}
    BPTT().gradients(net, x, target, loss, **inputs)
    assert net.seen == inputs
    net.seen = {}
    BPTT().accumulate(net, x, target, loss, torch.Tensor.backward, **inputs)
    assert net.seen == inputs


def test_of_a_tuple_the_first_is_the_output(problem):
    net, x, _ = problem
    assert torch.equal(forward(net.core, x), net.core(x)[0])


def test_a_loss_that_is_no_scalar_is_refused(problem):
    net, x, target = problem
    message = r"loss\(output, target\) has shape \(4, 5, 3\); expected a scalar"
    with pytest.raises(ValueError, match=message):
        BPTT().gradients(net, x, target, lambda output, target: output - target)
    with pytest.raises(ValueError, match=message):
        BPTT().accumulate(net, x, target, lambda o, t: o - t, torch.Tensor.backward)


def test_it_is_a_frozen_value_that_meets_the_protocol():
    assert isinstance(BPTT(), GradientMethod)
    assert BPTT() == BPTT()
    assert repr(BPTT()) == "BPTT()"
    with pytest.raises(dataclasses.FrozenInstanceError):
        BPTT().k1 = 3  # pyright: ignore[reportAttributeAccessIssue]
