import math

import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import LRU

DOUBLE = {"dtype": torch.float64, "seed": 0}


def equations(cell, x, s, p):
    """h_t = lambda h_{t-1} + sqrt(1 - |lambda|^2) (U x_t + b), of real and imaginary parts."""
    rho, theta = p.unit["decay"], p.unit["angle"]
    a = {part: x @ p.U[part].T + p.b[part] for part in ("re", "im")}
    cosine, sine, taken = np.sqrt(rho) * np.cos(theta), np.sqrt(rho) * np.sin(theta), 1 - rho
    return {
        "re": cosine * s["re"] - sine * s["im"] + np.sqrt(taken) * a["re"],
        "im": sine * s["re"] + cosine * s["im"] + np.sqrt(taken) * a["im"],
    }


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("cell", [LRU(), LRU(0.2, 0.6, 1.0)], ids=["long", "short"])
def test_it_is_its_equation(cell, backend):
    layer = oracle.layer_of(cell, backend=backend)
    problem = oracle.problem(cell)
    expected = oracle.answer_of_equations(equations, layer, problem)
    assert not oracle.difference(oracle.answer_of_layer(layer, problem), expected)


def by_hand(layer, x, h, lengths, resets):
    """The paper's recurrence in complex numbers, gradients by PyTorch."""
    rho = torch.sigmoid(layer.decay_raw) * (1 - 2e-6) + 1e-6
    eigenvalue = torch.polar(rho.sqrt(), layer.angle)
    real, imaginary = (torch.nn.functional.linear(x, layer.weight_ih, layer.bias)).chunk(2, -1)
    drive = torch.complex(real, imaginary) * (1 - rho).sqrt()
    outputs = []
    for t in range(x.shape[-2]):
        active = (t < lengths).unsqueeze(-1)
        before = torch.where(resets[:, t, None], 0, h)
        after = eigenvalue * before + drive[:, t]
        outputs.append(torch.where(active, after.real, 0))
        h = torch.where(active, after, h)
    return torch.stack(outputs, -2), h


def test_it_equals_a_loop_of_complex_numbers():
    layer = ll.LRU(3, 5, **DOUBLE)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 40, 3, dtype=torch.float64, generator=generator).requires_grad_()
    start = torch.randn(2, 4, 5, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(4, 40, 5, dtype=torch.float64, generator=generator)
    lengths, resets = torch.tensor([40, 12, 0, 33]), torch.zeros(4, 40, dtype=torch.bool)
    resets[0, 13] = resets[1, 2] = resets[3, 0] = True
    output, state = layer(x, tuple(start), lengths=lengths, resets=resets)
    assert layer.backend_used == "cpu"
    expected, final = by_hand(layer, x, torch.complex(*start), lengths, resets)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.complex(state.re, state.im), final, rtol=0, atol=1e-12)
    inputs = [x, start, *layer.parameters()]
    ours = torch.autograd.grad((output * weight).sum() + state.im.sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum() + final.imag.sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.count_nonzero() > 0
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


def test_it_starts_uniform_on_the_ring():
    layer = ll.LRU(1, 20_000, r_min=0.5, r_max=0.9, max_phase=1.0, **DOUBLE)
    radius, angle = layer.unit("decay").detach().sqrt(), layer.angle.detach()
    assert 0.5 <= radius.min() < 0.501
    assert 0.899 < radius.max() <= 0.9
    assert float((radius < 0.7).double().mean()) == pytest.approx(0.24 / 0.56, abs=0.02)
    assert 0 <= angle.min() < 0.001
    assert float(angle.mean()) == pytest.approx(0.5, abs=0.02)


def test_noise_as_input_gives_states_of_its_own_size_for_every_radius():
    """What the factor before the input is for."""
    layer = ll.LRU(1, 3, max_phase=1e-9, bias=False, **DOUBLE)
    with torch.no_grad():
        layer.weight_ih.copy_(torch.tensor([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]]))
        layer.decay_raw.copy_(torch.logit(torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)))
    x = torch.randn(200, 1000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    size = layer(x)[0][:, -1].square().mean(0).sqrt()
    torch.testing.assert_close(size, torch.ones(3, dtype=torch.float64), rtol=0, atol=0.15)


@pytest.mark.parametrize("raw", [-200.0, 200.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wherever_training_goes_it_stays_stable_and_differentiable(raw, dtype):
    layer = ll.LRU(1, 4, dtype=dtype, seed=0)
    with torch.no_grad():
        layer.decay_raw.fill_(raw)
    output, _ = layer(torch.ones(1, 300, 1, dtype=dtype))
    output.sum().backward()
    assert layer.unit("decay").max() < 1
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"r_min": 0.0}, "r_min: got 0.0 with r_max = 0.999, expected 0.001 < r_min <= r_max"),
        ({"r_max": 1.0}, "r_min: got 0.9 with r_max = 1.0, expected"),
        ({"r_min": 0.9, "r_max": 0.8}, "r_min: got 0.9 with r_max = 0.8, expected"),
        ({"r_max": math.nan}, "r_min: got 0.9 with r_max = nan, expected"),
        ({"max_phase": 0.0}, "max_phase: got 0.0, expected 0 < max_phase <= 2 pi"),
        ({"max_phase": 7.0}, "max_phase: got 7.0, expected 0 < max_phase <= 2 pi"),
    ],
)
def test_what_is_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LRU(**fields)
