import numpy as np
import pytest

from longlag.tasks import NARMA10
from longlag.tasks.arrays import TRAIN, generator


def slow_response(u):
    """y(1) .. y(T), with all that lies before the start 0; no end to its growth."""
    y = dict.fromkeys(range(-9, 1), 0.0)
    before = dict(enumerate(u))
    for t in range(len(u)):
        window = sum(y[t - i] for i in range(10))
        product = before.get(t - 9, 0.0) * before[t]
        y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * window + 1.5 * product + 0.1
    return np.array([y[t + 1] for t in range(len(u))])


@pytest.mark.parametrize("steps", [1, 9, 10, 11, 300])
def test_against_a_plain_loop(steps):
    x, target = NARMA10().series(steps, seed=4)
    np.testing.assert_allclose(target[:, 0], slow_response(x[:, 0].tolist()), rtol=1e-12)


def test_inputs_are_uniform_and_the_figures_those_of_the_docstring():
    x, target = NARMA10().series(20_000, seed=0)
    assert 0 <= x.min() < 0.001
    assert 0.499 < x.max() < 0.5
    assert x.mean() == pytest.approx(0.25, abs=5 * 0.5 / np.sqrt(12 * 20_000))
    assert x.var() == pytest.approx(0.25 / 12, rel=0.05)
    assert target[100:].mean() == pytest.approx(0.39, abs=0.01)
    assert target[100:].var() == pytest.approx(0.012, abs=0.001)
    assert target[100:].min() > 0.1
    assert target.max() < 1.3


def draws(seed, steps):
    """The inputs that a seed has, and whether each makes the plain loop diverge."""
    for draw in range(20):
        u = generator(seed, TRAIN, draw).uniform(0.0, 0.5, size=steps)
        yield u, not max(slow_response(u.tolist())) < 2


def test_a_series_that_diverges_is_drawn_anew():
    steps, task = 10_000, NARMA10()
    seed = next(seed for seed in range(200) if next(draws(seed, steps))[1])
    expected = next(u for u, diverges in draws(seed, steps) if not diverges)
    x, target = task.series(steps, seed)
    np.testing.assert_array_equal(x[:, 0], expected)
    np.testing.assert_allclose(target[:, 0], slow_response(expected.tolist()), rtol=1e-9)
    assert task.series(steps, seed).target.tobytes() == target.tobytes()


def test_an_input_that_always_diverges_is_an_error(monkeypatch):
    class Loud:
        def uniform(self, low, high, size):
            return np.full(size, 0.5)

    monkeypatch.setattr("longlag.tasks.narma.generator", lambda *_: Loud())
    with pytest.raises(ValueError, match=r"^steps must be few enough .* got 500, of which 100 "):
        NARMA10().series(500, seed=0)
    assert NARMA10().series(20, seed=0).target.max() < 2


def recalled(x, inputs):
    """1, u(t), ..., u(t - inputs + 1): (T, inputs + 1)."""
    shifted = [np.pad(x, ((k, 0), (0, 0)))[: len(x)] for k in range(inputs)]
    return np.hstack([np.ones_like(x), *shifted])


@pytest.mark.parametrize(("inputs", "nmse"), [(1, 0.75), (20, 0.16)])
def test_the_linear_readout_of_the_last_inputs_has_the_figure_of_the_docstring(inputs, nmse):
    task = NARMA10()
    x, target = (part[100:] for part in task.series(5000, seed=1))
    weights = np.linalg.lstsq(recalled(x, inputs), target, rcond=None)[0]
    x, target = (part[100:] for part in task.test_series(5000, seed=1))
    assert task.nmse(recalled(x, inputs) @ weights, target) == pytest.approx(nmse, abs=0.03)
