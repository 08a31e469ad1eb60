import numpy as np
import pytest
import torch
from tests.chunker import cases

import longlag as ll
from longlag.chunker import Chunker, ChunkerTrainer, OnlineBPTT, OnlineRTRL

METHODS = [OnlineBPTT(1), OnlineBPTT(3), OnlineRTRL()]


def trainer_of(nets, method=None, **options):
    given = {"learning_rate": 0.3, "threshold": 0.6} | options
    return ChunkerTrainer(nets, method=method, **given)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "steps", "options"),
    [
        ({}, 3, {}),
        ({}, 1, {}),
        ({"imitate": "hidden", "direct": False, "bias": False, "targets": 0}, 3, {}),
        ({"activation": "tanh", "output": "tanh", "state": "identity"}, 2, {"imitation": 0.5}),
    ],
)
@pytest.mark.parametrize("vectors", [False, True])
def test_every_step_is_gradient_descent_on_the_three_error_terms(given, steps, options, vectors):
    nets = cases.nets(replicas=None, seed=2, **given)
    x, target, starts = cases.stream(
        60, replicas=None, targets=nets.target_size, seed=1, vectors=vectors
    )
    threshold = 2.0 if vectors else 0.75
    plain = cases.Plain(nets, 0.3, threshold, steps, options.get("imitation", 1.0))
    before = cases.weights(nets)
    history = trainer_of(nets, OnlineBPTT(steps), threshold=threshold, **options).fit(
        x, target, starts
    )
    plain.run(x, target, starts)
    assert history.surprised.tolist() == plain.surprised
    assert 10 < history.surprised.sum() < 59  # both kinds of step
    for name, value in cases.weights(nets).items():
        assert not torch.equal(value, before[name])
        torch.testing.assert_close(value, plain.w[name].detach(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_before_anything_changed_the_first_step_is_the_same_for_every_method(method):
    """One prediction, so nothing to truncate beyond one step: all methods agree with autograd."""
    nets = cases.nets(replicas=None, seed=3)
    x, target, _ = cases.stream(2, replicas=None, seed=2)
    plain = cases.Plain(nets, 0.3, 1e-6, 1)
    trainer_of(nets, method, threshold=1e-6).fit(x, target)
    plain.run(x, target, [True, False])
    for name, value in cases.weights(nets).items():
        torch.testing.assert_close(value, plain.w[name].detach(), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_where_the_automatizer_is_right_the_chunker_is_untouched(method):
    nets = cases.nets(replicas=3, seed=4)
    trainer = trainer_of(nets, method, threshold=0.85)
    x, target, starts = cases.stream(40, seed=3)
    trainer.fit(x, target, starts)
    quiet = moved = 0
    rng = np.random.default_rng(0)
    for _ in range(100):
        before, state = cases.weights(nets.chunker), trainer._state_of_c().copy()
        step = rng.integers(cases.SYMBOLS, size=(3, 1))
        surprised = trainer.fit(step).surprised[:, 0]
        after, new_state = cases.weights(nets.chunker), trainer._state_of_c()
        for r in range(3):
            same = all(torch.equal(after[name][r], before[name][r]) for name in after)
            same_state = np.array_equal(new_state[r], state[r])
            assert same == same_state == (not surprised[r])
            quiet, moved = quiet + (not surprised[r]), moved + surprised[r]
    assert quiet > 20
    assert moved > 20


@pytest.mark.parametrize("method", METHODS)
def test_the_first_element_of_an_episode_goes_to_the_chunker_and_teaches_nothing(method):
    nets = cases.nets(replicas=2, seed=5)
    before = cases.weights(nets)
    trainer = trainer_of(nets, method, threshold=1e9)
    x = np.array([[0], [3]])
    first = trainer.fit(x)  # the first step of all counts, without being told
    assert first.surprised.all()
    assert np.isnan(first.error).all()
    state = trainer._state_of_c().copy()
    again = trainer.fit(x, starts=np.array([[True], [False]]))
    assert again.surprised[:, 0].tolist() == [True, False]
    assert np.isnan(again.error[:, 0]).tolist() == [True, False]
    for name, value in cases.weights(nets).items():
        assert torch.equal(value[0], before[name][0]), name
    # from zero, with the same symbol and the same weights: the same state of C
    np.testing.assert_array_equal(trainer._state_of_c()[0], state[0])
    changed = [not torch.equal(v[1], before[k][1]) for k, v in cases.weights(nets).items()]
    assert any(changed)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("vectors", [False, True])
def test_a_replica_runs_as_it_does_alone(method, vectors):
    many = cases.nets(replicas=3, seed=6)
    alone = [cases.one(many, r) for r in range(3)]
    x, target, starts = cases.stream(80, seed=5, vectors=vectors)
    threshold = 1.5 if vectors else 0.7
    history = trainer_of(many, method, threshold=threshold).fit(x, target, starts)
    for r, single in enumerate(alone):
        own = trainer_of(single, method, threshold=threshold).fit(x[r], target[r], starts[r])
        np.testing.assert_array_equal(own.surprised, history.surprised[r])
        np.testing.assert_allclose(own.error, history.error[r], rtol=1e-9)
        np.testing.assert_allclose(own.imitation_error, history.imitation_error[r], rtol=1e-9)
        np.testing.assert_allclose(own.chunker_error, history.chunker_error[r], rtol=1e-9)
        for name, value in cases.weights(single).items():
            torch.testing.assert_close(value, cases.weights(many)[name][r], rtol=1e-9, atol=1e-12)
    assert 0.1 < history.surprised.mean() < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("cell", [ll.LSTM, ll.GRU])
def test_any_layer_learns_and_replicas_run_as_alone(cell):
    many = cases.nets(replicas=2, seed=7, cell=cell, state="identity")
    alone = [cases.one(many, r) for r in range(2)]
    x, target, starts = cases.stream(40, replicas=2, seed=6)
    history = trainer_of(many).fit(x, target, starts)
    for r, single in enumerate(alone):
        own = trainer_of(single).fit(x[r], target[r], starts[r])
        np.testing.assert_allclose(own.error, history.error[r], rtol=1e-9)
    assert history.surprised.any()
    assert not history.surprised.all()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_fit_goes_on_where_it_stopped(method):
    whole, parts = cases.nets(seed=8), cases.nets(seed=8)
    x, target, starts = cases.stream(50, seed=7)
    trainer_of(whole, method).fit(x, target, starts)
    trainer = trainer_of(parts, method)
    for cut in (slice(0, 17), slice(17, 17), slice(17, 50)):
        trainer.fit(x[:, cut], target[:, cut], starts[:, cut])
    for name, value in cases.weights(parts).items():
        assert torch.equal(value, cases.weights(whole)[name])


@pytest.mark.slow
def test_symbols_are_unit_vectors():
    for method in METHODS:
        as_symbols, as_vectors = cases.nets(seed=9, targets=0), cases.nets(seed=9, targets=0)
        x, _, starts = cases.stream(50, seed=8, targets=0)
        trainer_of(as_symbols, method).fit(x, starts=starts)
        trainer_of(as_vectors, method).fit(np.eye(cases.SYMBOLS)[x], starts=starts)
        for name, value in cases.weights(as_symbols).items():
            torch.testing.assert_close(value, cases.weights(as_vectors)[name])


def test_without_the_third_term_the_automatizer_is_a_conventional_net():
    one, other = cases.nets(seed=10), cases.nets(seed=10)
    with torch.no_grad():
        for parameter in other.chunker.parameters():
            parameter.mul_(-1.0)  # another C
    x, target, starts = cases.stream(50, seed=9)
    for nets in (one, other):
        trainer_of(nets, imitation=0.0).fit(x, target, starts)
    for name, value in cases.weights(one.automatizer).items():
        assert torch.equal(value, cases.weights(other.automatizer)[name])


def test_the_history_says_what_happened():
    nets = cases.nets(replicas=None)
    x, target, starts = cases.stream(60, replicas=None, seed=10)
    starts[0] = True
    history = trainer_of(nets).fit(x, target, starts)
    assert history.steps == 60
    assert history.surprise_rate() == history.surprised.mean()
    due = ~np.isnan(target).any(-1)
    np.testing.assert_array_equal(np.isnan(history.error), starts)
    np.testing.assert_array_equal(~np.isnan(history.target_error), due & ~starts)
    np.testing.assert_array_equal(~np.isnan(history.chunker_error), history.surprised & ~starts)
    going = ~starts
    np.testing.assert_array_equal(history.surprised[going], history.error[going] >= 0.6)
    assert (history.target_error[due & going] <= history.error[due & going]).all()
    assert history.seconds > 0


def test_a_learning_rate_for_each_net():
    nets = cases.nets(seed=11)
    twin = cases.nets(seed=11)
    x, target, _ = cases.stream(2, seed=11)
    trainer_of(nets, threshold=1e-6).fit(x, target)
    trainer_of(twin, threshold=1e-6, chunker_learning_rate=0.6).fit(x, target)
    start = cases.weights(cases.nets(seed=11))
    for name, value in cases.weights(twin).items():
        factor = 2.0 if name.startswith("chunker") else 1.0
        moved = cases.weights(nets)[name] - start[name]
        torch.testing.assert_close(value - start[name], factor * moved)


@pytest.mark.long  # the document's example shows it too
def test_the_chunker_bridges_a_lag_that_the_same_net_alone_does_not():
    """Task 2a at p = 6; each net with one logistic hidden unit."""
    p, replicas = 6, 4
    uniform = ll.init.Uniform(-0.2, 0.2)
    largest = []
    for imitation in (1.0, 0.0):
        a, c = (
            ll.Elman(p + 1, 1, activation="sigmoid", bias=False, weight_ih_init=uniform,
                     weight_hh_init=uniform, replicas=replicas, seed=seed)
            for seed in (1, 2)
        )  # fmt: skip
        nets = Chunker(
            a, c, imitate="hidden", direct=True, chunker_direct=False, bias=False,
            readout_init=uniform, seed=3,
        )  # fmt: skip
        trainer = ChunkerTrainer(
            nets, learning_rate=1.0, threshold=0.2, method=OnlineRTRL(), imitation=imitation
        )
        rng = np.random.default_rng(0)
        keys = rng.integers(2, size=(replicas, 5000)) + p - 1
        x = np.empty((replicas, 5000, p + 1), np.int64)
        x[..., 1:p], x[..., 0], x[..., p] = np.arange(p - 1), keys, keys
        starts = np.zeros(x.shape, bool)
        starts[..., 0] = True
        trainer.fit(x.reshape(replicas, -1), starts=starts.reshape(replicas, -1))
        both = torch.arange(-1, p - 1).repeat(2, 1)
        both[:, 0] = torch.tensor([p - 1, p])
        target = torch.cat([both[:, 1:], both[:, :1]], 1)
        with torch.no_grad():
            output = nets(both.expand(replicas, 2, p))
        error = output - torch.nn.functional.one_hot(target, p + 1)
        largest.append(error.abs().amax((1, 2, 3)))
    assert (largest[0] < 0.25).sum() >= 2
    assert largest[1].min() > 0.4


def test_arguments_out_of_range():
    nets = cases.nets()
    for name, value in [
        ("learning_rate", 0.0), ("learning_rate", float("nan")), ("threshold", -1.0),
        ("chunker_learning_rate", float("inf")), ("imitation", -0.5),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}: got {value}"):
            trainer_of(nets, **{name: value})
    with pytest.raises(TypeError, match="method: got TruncatedBPTT, expected OnlineBPTT"):
        trainer_of(nets, ll.TruncatedBPTT(1, 3))
    with pytest.raises(TypeError, match="chunker: got Elman, expected a Chunker"):
        trainer_of(nets.automatizer.layer)


def test_wrong_streams():
    trainer = trainer_of(cases.nets())
    with pytest.raises(ValueError, match=r"x: got symbols of shape \(4,\), expected \(3, T\)"):
        trainer.fit([0, 1, 2, 3])
    with pytest.raises(ValueError, match="x: got symbols from 0 to 4, expected 0 to 3"):
        trainer.fit([[0], [4], [1]])
    with pytest.raises(ValueError, match=r"x: got shape \(3, 5, 3\), expected \(3, T, 4\)"):
        trainer.fit(np.zeros((3, 5, 3)))
    with pytest.raises(ValueError, match="x: has values that are not finite"):
        trainer.fit(np.full((3, 5, 4), np.nan))
    with pytest.raises(TypeError, match="x: got bool"):
        trainer.fit(np.zeros((3, 5), bool))
    x = np.zeros((3, 5), int)
    with pytest.raises(ValueError, match=r"target: got shape \(3, 5\), expected \(3, 5, 2\)"):
        trainer.fit(x, np.zeros((3, 5)))
    with pytest.raises(ValueError, match="target: has infinite values"):
        trainer.fit(x, np.full((3, 5, 2), np.inf))
    with pytest.raises(TypeError, match="starts: got int64, expected bool"):
        trainer.fit(x, starts=x)
    with pytest.raises(ValueError, match=r"starts: got shape \(3, 4\), expected \(3, 5\)"):
        trainer.fit(x, starts=np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match="target: the nets have none"):
        trainer_of(cases.nets(targets=0)).fit(x, np.zeros((3, 5, 2)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_learning_rate_that_blows_up_is_an_error():
    nets = cases.nets(activation="identity", output="identity")
    x, target, _ = cases.stream(200, seed=12)
    with pytest.raises(FloatingPointError, match="use a smaller learning_rate"):
        trainer_of(nets, learning_rate=50.0).fit(x, target)
