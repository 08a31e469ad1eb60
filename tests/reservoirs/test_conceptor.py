"""Conceptors: their definition and logic against NumPy; patterns, stored and recalled."""

import numpy as np
import pytest
import torch

import longlag as ll
from longlag.reservoirs import Conceptor, load_patterns


def states(seed, count=200, units=8, rank=8):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, rank)) @ draw.normal(size=(rank, units))


def conceptor_of(seed, aperture=0.7, **options):
    return Conceptor.of(torch.from_numpy(states(seed, **options)), aperture)


def correlation(seed):
    h = states(seed)
    return h.T @ h / len(h)


def from_correlation(r, aperture):
    return r @ np.linalg.inv(r + np.eye(len(r)) / aperture**2)


def test_the_definition():
    for aperture in (0.01, 0.7, 30.0):
        c = conceptor_of(0, aperture)
        expected = from_correlation(correlation(0), aperture)
        np.testing.assert_allclose(c.matrix, expected, atol=1e-12)
        np.testing.assert_allclose(c.singular_values, np.linalg.svd(expected)[1], atol=1e-12)
        assert c.quota == pytest.approx(np.linalg.svd(expected)[1].mean())


def test_it_is_the_least_of_what_it_minimises():
    h = torch.from_numpy(states(1, count=50, units=3, rank=3))
    matrix = Conceptor.of(h, 0.5).matrix.clone().requires_grad_()
    loss = (h - h @ matrix.mT).square().sum(1).mean() + 0.5**-2 * matrix.square().sum()
    (slope,) = torch.autograd.grad(loss, matrix)
    assert float(slope.abs().max()) < 1e-10


def test_another_aperture():
    small, large = conceptor_of(0, 0.3), conceptor_of(0, 1.2)
    np.testing.assert_allclose(small.with_aperture(4.0).matrix, large.matrix, atol=1e-12)
    np.testing.assert_allclose(large.with_aperture(0.25).matrix, small.matrix, atol=1e-12)


def test_or_is_the_conceptor_of_the_states_of_both():
    both = from_correlation(correlation(0) + correlation(1), 0.7)
    np.testing.assert_allclose((conceptor_of(0) | conceptor_of(1)).matrix, both, atol=1e-9)
    one = conceptor_of(0)
    np.testing.assert_allclose((one | one).matrix, one.with_aperture(2**0.5).matrix, atol=1e-9)


def test_and_is_that_of_the_parallel_correlation():
    one, other = correlation(0), correlation(1)
    both = np.linalg.inv(np.linalg.inv(one) + np.linalg.inv(other))
    expected = from_correlation(both, 0.7)
    np.testing.assert_allclose((conceptor_of(0) & conceptor_of(1)).matrix, expected, atol=1e-9)


def test_the_laws_of_logic():
    a, b = conceptor_of(0, rank=3), conceptor_of(1, rank=7)  # not invertible
    np.testing.assert_allclose((~~a).matrix, a.matrix, atol=1e-14)
    np.testing.assert_allclose((a & b).matrix, (b & a).matrix, atol=1e-9)
    np.testing.assert_allclose((~(a & b)).matrix, (~a | ~b).matrix, atol=1e-9)
    nothing, all_of_it = Conceptor(torch.zeros(8, 8)), Conceptor(torch.eye(8))
    np.testing.assert_allclose((a & nothing).matrix, 0.0, atol=1e-12)
    np.testing.assert_allclose((a | nothing).matrix, a.matrix, atol=1e-9)
    np.testing.assert_allclose((a & all_of_it).matrix, a.matrix, atol=1e-9)
    np.testing.assert_allclose((a | all_of_it).matrix, np.eye(8), atol=1e-12)
    assert (a & b).quota < min(a.quota, b.quota) < max(a.quota, b.quota) < (a | b).quota


def test_subspaces_meet_and_join_as_sets():
    def span(*axes):
        return Conceptor(torch.diag(torch.tensor([float(axis in axes) for axis in range(4)])))

    assert torch.allclose((span(0, 1) & span(1, 2)).matrix, span(1).matrix)
    assert torch.allclose((span(0, 1) | span(1, 2)).matrix, span(0, 1, 2).matrix)
    assert torch.allclose((span(0) & span(2)).matrix, span().matrix)


def model_of(units=100, features=1, **options):
    layer = ll.EchoState(
        features, units, spectral_radius=1.5, input_scaling=1.5, bias_scaling=0.2, seed=0,
        dtype=torch.float64, **options,
    )  # fmt: skip
    return ll.SequenceModel(layer, features, reduce=None, seed=0)


@pytest.mark.parametrize("layer", [ll.EchoState, ll.Elman])
def test_a_steered_network_in_plain_numpy(layer, tmp_path):
    made = layer(
        2,
        8,
        dtype=torch.float64,
        seed=0,
        **({"bias_scaling": 0.5} if layer is ll.EchoState else {}),
    )
    model, c = ll.SequenceModel(made, 3, reduce=None, seed=0), conceptor_of(0)
    steered = c.steer(model)
    x = torch.randn(1, 12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    start = torch.rand(1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u, w, b = (
        part.detach().numpy() for part in (made.weight_ih, made.recurrent_matrix(), made.bias)
    )
    h, outputs = c.matrix.numpy() @ start[0].numpy(), []
    for step in x[0].numpy():
        h = c.matrix.numpy() @ np.tanh(u @ step + w @ h + b)
        outputs.append(
            model.readout.weight.detach().numpy() @ h + model.readout.bias.detach().numpy()
        )
    got = steered(x, start)
    np.testing.assert_allclose(got[0].detach(), np.array(outputs), atol=1e-12)
    ll.save(steered, tmp_path / "model")
    assert torch.equal(ll.load(tmp_path / "model")(x, start), got)


def patterns():
    """Two sines of no whole period and two random ones of period 5, as in the source."""
    t = torch.arange(600, dtype=torch.float64).unsqueeze(-1)
    random = [
        torch.from_numpy(np.tile(np.random.default_rng(seed).uniform(-0.9, 0.9, 5), 120)[:, None])
        for seed in (3, 4)
    ]
    return [(2 * np.pi * t / 8.8342522).sin(), (2 * np.pi * t / 9.8342522).sin(), *random]


def test_patterns_are_stored_and_recalled():
    model = model_of()
    before = {name: part.clone() for name, part in model.state_dict().items()}
    stored = [pattern[:500] for pattern in patterns()]
    loaded = load_patterns(model, stored, aperture=10.0)
    nothing = torch.zeros(1, 100, 0, dtype=torch.float64)
    for number, pattern in enumerate(patterns()):
        steered = loaded.conceptors[number].steer(loaded.model)
        y = steered(nothing, loaded.states[number])[0].detach()
        error = (y - pattern[500:]).square().mean().sqrt() / pattern.std()
        assert float(error) < 0.1, number
    y = loaded.model(nothing, loaded.states[0])[0].detach()  # without a conceptor it is lost
    assert float((y - patterns()[0][500:])[-20:].square().mean().sqrt()) > 0.3
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())


def test_a_pattern_is_found_from_any_state():
    """From a random state the network falls into the period of the pattern."""
    loaded = load_patterns(model_of(), [pattern[:500] for pattern in patterns()])
    start = torch.randn(1, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for number in (2, 3):
        steered = loaded.conceptors[number].steer(loaded.model)
        y = steered(torch.zeros(1, 300, 0, dtype=torch.float64), start)[0, -20:].detach()
        errors = [
            float((y - patterns()[number][shift : shift + 20]).square().mean().sqrt())
            for shift in range(5)
        ]
        assert min(errors) < 0.1


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(2, 3), r"matrix: got \(2, 3\), expected a finite matrix \(H, H\)"),
        (torch.full((2, 2), torch.nan), "expected a finite matrix"),
        (torch.tensor([[0.5, 0.3], [0.0, 0.5]]), "matrix: is not symmetric"),
        (2.0 * torch.eye(2), "matrix: has singular values from 2 to 2, expected such in"),
        (-torch.eye(2), "matrix: has singular values from -1 to -1"),
    ],
)
def test_what_is_no_conceptor(matrix, message):
    with pytest.raises(ValueError, match=message):
        Conceptor(matrix)


def test_arguments_that_do_not_fit_are_named():
    c, small = conceptor_of(0), Conceptor(torch.eye(3))
    x = torch.zeros(200, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"aperture: got 0, expected a number above 0.0"):
        Conceptor.of(torch.zeros(3, 2), 0)
    with pytest.raises(ValueError, match="h: has a state that is not finite"):
        Conceptor.of(torch.full((3, 2), torch.nan))
    with pytest.raises(ValueError, match=r"h: got \(0, 2\), expected at least one state"):
        Conceptor.of(torch.zeros(0, 2))
    with pytest.raises(ValueError, match="got conceptors of 8 and 3 units, expected as many"):
        _ = c & small
    with pytest.raises(TypeError, match="got Tensor, expected another Conceptor"):
        _ = c | c.matrix
    with pytest.raises(ValueError, match="model: has 100 units, and the conceptor 8; expected as"):
        c.steer(model_of())
    with pytest.raises(ValueError, match=r"with leak=0.5; expected an ll.EchoState with leak=1.0"):
        c.steer(model_of(8, leak=0.5))
    with pytest.raises(ValueError, match=r"its layer is GRU.*expected an ll.EchoState"):
        c.steer(ll.SequenceModel(ll.GRU(1, 8), 1))
    squares = ll.SequenceModel(ll.EchoState(1, 8), 1, squares=True)
    with pytest.raises(ValueError, match="model: its readout sees x or the squares of h"):
        c.steer(squares)
    with pytest.raises(TypeError, match=r"model: got EchoState, expected a ll.SequenceModel"):
        c.steer(model_of(8).layer)
    with pytest.raises(ValueError, match="patterns: got none, expected at least one"):
        load_patterns(model_of(), [])
    with pytest.raises(
        ValueError, match=r"patterns\[1\]: got \(100, 1\), expected \(T, 1\) with T"
    ):
        load_patterns(model_of(), [x, x[:100]])
    with pytest.raises(ValueError, match="model: it reads 1 features and puts out 2; expected as"):
        load_patterns(ll.SequenceModel(model_of(8).layer, 2, reduce=None), [x])
