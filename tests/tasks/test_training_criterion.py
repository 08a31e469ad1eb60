import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import Adding1997, Multiplication, TemporalOrder1997

WINDOW = 2000


def feed(criterion, errors, start=0):
    """Update with one batch whose sequences have these errors."""
    batch = criterion.task.batch(len(errors), seed=0, index=start)
    return criterion.update(batch.target + np.reshape(errors, (-1, 1)), batch)


def test_needs_a_full_window():
    criterion = Adding1997().training_criterion()
    assert not feed(criterion, np.zeros(WINDOW - 1))
    assert feed(criterion, np.zeros(1))
    assert criterion.seen == WINDOW


def test_a_window_not_yet_full_is_not_taken_for_a_few_wrong():
    criterion = Multiplication(n_seq=140).training_criterion()
    assert not feed(criterion, np.zeros(WINDOW - 1))
    assert feed(criterion, np.zeros(1))


def test_one_wrong_sequence_counts_until_it_leaves_the_window():
    criterion = Adding1997().training_criterion()
    assert not feed(criterion, np.r_[0.05, np.zeros(WINDOW - 1)])
    assert feed(criterion, np.zeros(1))
    assert not feed(criterion, [np.nan])
    assert not feed(criterion, np.zeros(WINDOW - 1))
    assert feed(criterion, np.zeros(1))


def test_the_mean_error_must_be_small_too():
    criterion = Adding1997().training_criterion()
    assert not feed(criterion, np.full(WINDOW, 0.0101))  # each is right: below 0.04
    assert feed(criterion, np.full(WINDOW, 0.0099))


def test_fewer_than_n_seq_may_be_wrong():
    for n_seq in (140, 13):
        criterion = Multiplication(n_seq=n_seq).training_criterion()
        wrong = np.arange(WINDOW) < n_seq
        assert not feed(criterion, np.where(wrong, 0.5, 0.0))
        assert feed(criterion, np.zeros(1))  # the oldest, a wrong one, has left


def test_temporal_order_looks_at_all_outputs():
    criterion = TemporalOrder1997(keys=2).training_criterion()
    batch = criterion.task.batch(WINDOW, seed=0, index=0)
    assert criterion.update(batch.target, batch)
    output = batch.target.copy()
    output[5, 2] += 0.31
    assert not criterion.update(output, batch)
    assert not criterion.update(batch.target + 0.11, batch)
    assert criterion.update(batch.target + 0.09, batch)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 2500), min_size=1, max_size=6),
    share=st.sampled_from([0.0, 0.06, 0.07, 0.08]),
)
def test_against_a_list_of_everything(sizes, share):
    task = Multiplication()
    criterion, wrong = task.training_criterion(), []
    rng = np.random.default_rng(0)
    for index, size in enumerate(sizes):
        errors = np.where(rng.random(size) < share, 0.1, 0.0)
        wrong += (errors > 0.04).tolist()
        expected = len(wrong) >= WINDOW and sum(wrong[-WINDOW:]) < 140
        assert feed(criterion, errors, index) == expected == criterion.met


def test_state_goes_on_exactly():
    first = Adding1997().training_criterion()
    feed(first, np.r_[np.full(700, 0.05), np.zeros(WINDOW - 700)])
    second = Adding1997().training_criterion()
    second.load_state_dict(first.state_dict())
    for criterion in (first, second):
        assert not feed(criterion, np.zeros(699))
        assert feed(criterion, np.zeros(1))


def test_state_of_another_shape_is_refused():
    criterion = Adding1997().training_criterion()
    state = criterion.state_dict()
    state["right"] = state["right"][:-1]
    with pytest.raises(ValueError, match=r"^state must have the shapes .*; load it into"):
        criterion.load_state_dict(state)
