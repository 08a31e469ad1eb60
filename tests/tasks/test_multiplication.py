import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import Adding1997, Multiplication


@settings(max_examples=25, deadline=None)
@given(length=st.integers(20, 120), seed=st.integers(0, 1000))
def test_target_is_the_product_of_the_marked(length, seed):
    batch = Multiplication(length=length).batch(8, seed, index=0)
    for x, target, steps in zip(batch.x, batch.target, batch.lengths, strict=True):
        value, marker = x[:steps].T
        assert ((value >= 0) & (value <= 1)).all()
        marked = np.flatnonzero(marker == 1)
        assert len(marked) == 2 or (len(marked) == 1 and value[0] == 1)
        assert target[0] == pytest.approx(np.prod(value[marked].astype(float)), abs=1e-6)


def test_markers_are_those_of_adding():
    product = Multiplication(length=50).batch(100, seed=4, index=2)
    total = Adding1997(length=50).batch(100, seed=4, index=2)
    np.testing.assert_array_equal(product.x[..., 1], total.x[..., 1])
    np.testing.assert_array_equal(product.lengths, total.lengths)


def test_degenerate_first_pair_counts_as_one():
    batch = Multiplication(length=20).batch(500, seed=0, index=0)
    marked = batch.x[..., 1] == 1
    degenerate = marked.sum(axis=1) == 1
    assert degenerate.any()
    assert (batch.x[degenerate, 0] == [1, -1]).all()
    other = batch.x[..., 0][degenerate][marked[degenerate]]
    np.testing.assert_array_equal(batch.target[degenerate, 0], other)


@pytest.mark.parametrize("n_seq", [140, 13])
@pytest.mark.parametrize("spare", [1, 0])
def test_fewer_than_n_seq_of_2000_may_be_wrong(n_seq, spare):
    task, left = Multiplication(length=20, n_seq=n_seq), [n_seq - spare]

    def predict(x, _):
        output = np.where(x[..., 1] == 1, x[..., 0], 1).prod(axis=1, keepdims=True)
        output[: left[0]] += 0.05
        left[0] = 0
        return output

    result = task.success(predict)
    assert result.sequences == 2000
    assert result.wrong == n_seq - spare
    assert result.success == (spare == 1)


@pytest.mark.parametrize(("name", "value"), [("length", 19), ("n_seq", 0), ("n_seq", 2001)])
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got {value}; "):
        Multiplication(**{name: value})
