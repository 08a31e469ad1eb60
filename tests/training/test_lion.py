import numpy as np
import pytest
import torch

from longlag.training import Lion


def test_it_makes_the_steps_of_its_formulas():
    generator = np.random.default_rng(0)
    start, gradients = generator.normal(size=3), generator.normal(size=(5, 3))
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    frozen = torch.nn.Parameter(torch.ones(2))
    optimizer = Lion([weight, frozen], lr=0.01, betas=(0.8, 0.95), weight_decay=0.3)
    expected, mean = start, np.zeros(3)
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient)
        assert optimizer.step(lambda: 7) == 7
        way = np.sign(0.8 * mean + 0.2 * gradient)
        expected = (1 - 0.01 * 0.3) * expected - 0.01 * way
        mean = 0.95 * mean + 0.05 * gradient
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12)
    assert frozen.tolist() == [1, 1]
    again = Lion([torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.ones(2))])
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["betas"] == (0.8, 0.95)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"lr": 0}, "lr is 0; expected a number > 0"),
        ({"betas": (1, 0.9)}, "betas are .* two numbers"),
        ({"weight_decay": -1}, "weight_decay is -1"),
    ],
)
def test_settings_out_of_range_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        Lion([torch.zeros(1)], **setting)


def test_complex_weights_are_refused():
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.complex64))
    weight.grad = weight.detach().clone()
    with pytest.raises(ValueError, match="complex"):
        Lion([weight]).step()
