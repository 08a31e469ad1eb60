import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import TemporalOrder, TemporalOrder1997

# Section 5.6: the rules, in the order in which the paper lists them.
RULES = {
    2: ["XX", "XY", "YX", "YY"],
    3: ["XXX", "XXY", "XYX", "XYY", "YXX", "YXY", "YYX", "YYY"],
}
POSITIONS = {2: [(10, 20), (50, 60)], 3: [(10, 20), (33, 43), (66, 76)]}


@pytest.mark.parametrize("keys", [2, 3])
def test_1997_against_the_papers_words(keys):
    n = 3000
    batch = TemporalOrder1997(keys=keys).batch(n, seed=0, index=0)
    places = []
    for x, target, length in zip(batch.x, batch.target, batch.lengths, strict=True):
        assert (x[:length].sum(axis=1) == 1).all()
        word = "".join("abcdXYEB"[i] for i in x[:length].argmax(axis=1))
        assert word[0] == "E"
        assert word[-1] == "B"
        assert 100 <= len(word) <= 110
        places.append([t for t, letter in enumerate(word, start=1) if letter in "XY"])
        assert set(word[1:-1]) <= set("abcdXY")
        found = "".join(letter for letter in word if letter in "XY")
        assert target.tolist() == [float(found == rule) for rule in RULES[keys]]
    for column, (low, high) in zip(np.array(places).T, POSITIONS[keys], strict=True):
        counts = np.bincount(column - low)
        assert len(counts) == 11 == high - low + 1
        assert np.abs(counts - n / 11).max() < 5 * np.sqrt(n / 11)
    lengths = np.bincount(batch.lengths - 100)
    assert len(lengths) == 11
    assert np.abs(lengths - n / 11).max() < 5 * np.sqrt(n / 11)
    share = batch.target.mean(axis=0)
    assert np.abs(share - 1 / 2**keys).max() < 5 * np.sqrt(0.25 / n)
    noise = batch.x[:, 1:9, :4].mean(axis=(0, 1))
    assert np.abs(noise - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / (8 * n))
    # Table 10 gives the lag from the last key to the end of the shortest sequence: 40 and 24.
    assert 100 - POSITIONS[keys][-1][1] == {2: 40, 3: 24}[keys]


def keys_of(x, count, first):
    """The class, read off the input: a perfect memory."""
    n = len(x)
    number = np.zeros(n, dtype=int)
    for row in range(n):
        for symbol in x[row, :, first : first + 2]:
            if symbol.any():
                number[row] = 2 * number[row] + symbol.argmax()
    return np.eye(2**count)[number]


@pytest.mark.slow
@pytest.mark.parametrize("keys", [2, 3])
def test_1997_success(keys):
    task = TemporalOrder1997(keys=keys)
    result = task.success(lambda x, n: keys_of(x, keys, 4))
    assert result.success
    assert (result.sequences, result.largest_error) == (2000, 0.0)
    off = np.zeros(2**keys)
    off[1] = 0.29
    assert task.success(lambda x, n: keys_of(x, keys, 4) + off, sequences=50).success
    off[1] = 0.31
    assert task.success(lambda x, n: keys_of(x, keys, 4) + off, sequences=50).wrong == 50
    assert not task.success(lambda x, n: keys_of(x, keys, 4) + 0.11, sequences=50).success


@settings(max_examples=25, deadline=None)
@given(length=st.integers(10, 250), extra=st.integers(0, 60), seed=st.integers(0, 1000))
def test_2013_positions_and_classes(length, extra, seed):
    longest = length + extra if extra else None
    batch = TemporalOrder(length=length, longest=longest).batch(8, seed, index=0)
    lengths = np.full(8, length) if batch.lengths is None else batch.lengths
    assert (batch.lengths is None) == (longest is None)
    for x, target, steps in zip(batch.x, batch.target, lengths, strict=True):
        assert length <= steps <= length + extra
        word = "".join("ABcdef"[i] for i in x[:steps].argmax(axis=1))
        places = [t for t, letter in enumerate(word) if letter in "AB"]
        assert len(places) == 2
        assert int(0.1 * steps) <= places[0] < steps / 5
        assert int(0.5 * steps) <= places[1] < 3 * steps / 5
        assert target == ["AA", "AB", "BA", "BB"].index("".join(word[t] for t in places))


def test_2013_positions_are_uniform():
    n = 20_000
    batch = TemporalOrder(length=50).batch(n, seed=0, index=0)
    key = batch.x[..., :2].sum(axis=2).mean(axis=0)
    expected = np.zeros(50)
    expected[5:10] = expected[25:30] = 0.2
    assert (key[expected == 0] == 0).all()
    assert np.abs(key - expected).max() < 5 * np.sqrt(0.2 * 0.8 / n)
    assert np.abs(np.bincount(batch.target) / n - 0.25).max() < 5 * np.sqrt(0.1875 / n)
    lengths = np.bincount(TemporalOrder(10, longest=13).batch(n, seed=0, index=0).lengths)[10:]
    assert len(lengths) == 4
    assert np.abs(lengths - n / 4).max() < 5 * np.sqrt(n / 4)


@pytest.mark.parametrize(("wrong", "expected"), [(9, True), (10, False)])
def test_2013_success_is_less_than_one_per_cent_wrong(wrong, expected):
    task, left = TemporalOrder(length=20), [wrong]
    assert task.rule.sequences == 10_000

    def predict(x, _):
        output = keys_of(x, 2, 0)
        output[: left[0]] *= -1
        left[0] = 0
        return output

    result = task.success(predict, sequences=1000)
    assert (result.wrong, result.success) == (wrong, expected)
    assert result.mean_error == pytest.approx(wrong / 1000)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"^keys must be one of 2, 3, got 4; "):
        TemporalOrder1997(keys=4)
    with pytest.raises(ValueError, match=r"^length must be .* at least 10, got 9; "):
        TemporalOrder(length=9)
    with pytest.raises(ValueError, match=r"^longest must be .* at least 50, got 49; "):
        TemporalOrder(length=50, longest=49)
