import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import LongLagTrigger


@settings(max_examples=25, deadline=None)
@given(q=st.integers(0, 12), p=st.integers(1, 6), seed=st.integers(0, 1000))
def test_every_sequence_is_one_of_the_papers(q, p, seed):
    """(b, key, a.., e, key) with at least q distractors, symbols in the order a_1..a_p e b x y."""
    task = LongLagTrigger(q=q, p=p)
    distractors = {f"a{i}" for i in range(1, p + 1)}
    names = [*(f"a{i}" for i in range(1, p + 1)), "e", "b", "x", "y"]
    batch = task.batch(6, seed, index=0)
    for x, target, length in zip(batch.x, batch.target, batch.lengths, strict=True):
        assert (x[:length].sum(axis=1) == 1).all()
        words = [names[i] for i in x[:length].argmax(axis=1)]
        assert words[0] == "b"
        assert target.tolist() == {"x": [1.0, 0.0], "y": [0.0, 1.0]}[words[1]]
        assert words[-1] == "e"
        assert set(words[2:-1]) <= distractors
        assert len(words[2:-1]) >= q
        # With the copy that is predicted, at least q + 4 symbols; the lag, from the key to e:
        assert length + 1 >= q + 4
        assert words.index("e") - 1 >= q + 1


@pytest.mark.slow
def test_lengths_follow_the_geometric_law():
    q, n = 7, 200_000
    symbols = LongLagTrigger(q=q, p=1).batch(n, seed=0, index=0).lengths + 1
    assert symbols.min() == q + 4
    # Independent of the generator: k distractors beyond q, P(k) = 0.1 * 0.9^k, variance 90.
    mean = q + 4 + sum(k * 0.1 * 0.9**k for k in range(2000))
    assert mean == pytest.approx(q + 13)
    assert abs(symbols.mean() - mean) < 5 * np.sqrt(90 / n)
    for k in range(12):
        expected = 0.1 * 0.9**k
        share = (symbols == q + 4 + k).mean()
        assert abs(share - expected) < 5 * np.sqrt(expected / n)


def test_distractors_and_keys_are_uniform():
    n, p = 20_000, 4
    batch = LongLagTrigger(q=3, p=p).batch(n, seed=2, index=0)
    for step in (2, 3, 4):
        share = batch.x[:, step, :p].mean(axis=0)
        assert np.abs(share - 1 / p).max() < 5 * np.sqrt(0.25 / n)
    assert abs(batch.target[:, 1].mean() - 0.5) < 5 * np.sqrt(0.25 / n)


def test_success_needs_both_outputs_below_a_fifth():
    task = LongLagTrigger(q=2, p=3)

    def remember_second(x, _):
        return x[:, 1, -2:]

    result = task.success(remember_second)
    assert result.success
    assert result.sequences == 10_000
    for error, expected in (((0, 0.19), True), ((0, 0.21), False), ((-0.21, 0), False)):
        result = task.success(lambda x, n, e=error: remember_second(x, n) + np.array(e))
        assert result.success == expected
        assert result.wrong == (0 if expected else 10_000)
    guess = task.success(lambda x, n: np.full((len(x), 2), 0.5))
    assert guess.wrong == 10_000


@pytest.mark.parametrize(("name", "value", "least"), [("q", -1, 0), ("p", 0, 1), ("q", 1.5, 0)])
def test_bad_arguments_are_named(name, value, least):
    with pytest.raises(ValueError, match=rf"^{name} must be .* at least {least}, got {value}; "):
        LongLagTrigger(**{name: value})
