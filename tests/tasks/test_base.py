"""What holds for every task: shapes, types, bits, padding, and a perfect predictor's success."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag import tasks

TASKS = [
    tasks.LongLag(delay=5),
    tasks.LongLagRandom(delay=5),
    tasks.LongLagTrigger(q=4, p=3),
    tasks.Adding1997(length=20),
    tasks.Adding(length=7),
    tasks.Multiplication(length=20),
    tasks.TemporalOrder1997(keys=2),
    tasks.TemporalOrder1997(keys=3),
    tasks.TemporalOrder(length=10),
    tasks.TemporalOrder(length=10, longest=30),
    tasks.Copy(delay=3),
    tasks.EmbeddedReber(),
    tasks.TwoSequence("3a", length=10),
    tasks.TwoSequence("3b", length=10),
    tasks.TwoSequence("3c", length=10, informative=1),
    tasks.SequentialDigits("pixels"),
    tasks.SequentialDigits("rows", permuted=True),
]
every_task = pytest.mark.parametrize("task", TASKS, ids=repr)


def same(a, b):
    return all(
        p is q is None or (p.dtype == q.dtype and p.shape == q.shape and p.tobytes() == q.tobytes())
        for p, q in zip(a, b, strict=True)
    )


def test_the_list_above_names_every_public_task():
    public = {getattr(tasks, name) for name in tasks.__all__}
    classes = {c for c in public if isinstance(c, type) and issubclass(c, tasks.Task)}
    assert classes - {tasks.Task} == {type(task) for task in TASKS}


@every_task
@settings(max_examples=12, deadline=None)
@given(size=st.integers(0, 9), seed=st.integers(0, 2**40), index=st.integers(0, 2**40))
def test_shapes_types_and_padding(task, size, seed, index):
    for batch in (task.batch(size, seed, index), task.test_batch(size, seed, index)):
        n, steps, width = batch.x.shape
        assert (n, width) == (size, task.input_size)
        assert batch.x.dtype == np.float32
        assert batch.x.flags.c_contiguous
        assert batch.x.flags.writeable
        assert np.isfinite(batch.x).all()
        if batch.lengths is None:
            lengths = np.full(size, steps)
            assert steps == task.steps
        else:
            lengths = batch.lengths
            assert lengths.dtype == np.int64
            assert lengths.shape == (size,)
            assert steps == lengths.max(initial=task.steps)
            assert (lengths >= task.steps).all()
        after = np.arange(steps) >= lengths[:, None]
        assert (batch.x[after] == 0).all()

        shape = (size,) if task.reduce == "last" else (size, steps)
        if task.kind == "classification":
            assert batch.target.dtype == np.int64
            assert batch.target.shape == shape
            assert ((batch.target >= 0) & (batch.target < task.output_size)).all()
        else:
            assert batch.target.dtype == np.float32
            assert batch.target.shape == (*shape, task.output_size)
            if task.reduce is None:
                np.testing.assert_array_equal(np.isnan(batch.target).any(-1), after)
                np.testing.assert_array_equal(np.isnan(batch.target).all(-1), after)
            else:
                assert np.isfinite(batch.target).all()


@every_task
def test_same_arguments_same_bits_in_any_order(task):
    forward = [task.batch(6, seed=3, index=i) for i in range(4)]
    fresh = dataclasses.replace(task)
    backward = [fresh.batch(6, seed=3, index=i) for i in reversed(range(4))]
    assert all(same(a, b) for a, b in zip(forward, reversed(backward), strict=True))


@every_task
def test_index_seed_and_purpose_give_different_sequences(task):
    batches = [
        task.batch(30, seed=3, index=0),
        task.batch(30, seed=3, index=1),
        task.batch(30, seed=4, index=0),
        task.test_batch(30, seed=3, index=0),
    ]
    for a, b in itertools.combinations(batches, 2):
        assert not same(a, b)


@every_task
def test_a_batch_is_not_shared_memory(task):
    before = task.batch(5, seed=0, index=0)
    spoiled = task.batch(5, seed=0, index=0)
    spoiled.x[:] = 7
    spoiled.target[:] = 7
    assert same(task.batch(5, seed=0, index=0), before)
    assert not (spoiled.x != 7).any()


@every_task
def test_stream_counts_from_zero_and_resumes(task):
    stream = task.stream(batch_size=2, seed=5)
    for index, batch in enumerate(itertools.islice(stream, 3)):
        assert same(batch, stream.batch(index))
        assert same(batch, task.batch(2, seed=5, index=index))
    assert stream == tasks.Stream(task, 2, 5)


@every_task
@pytest.mark.parametrize("name", ["batch_size", "seed", "index"])
def test_negative_arguments_are_named(task, name):
    arguments = {"batch_size": 1, "seed": 0, "index": 0, name: -1}
    with pytest.raises(ValueError, match=rf"^{name} must be .* at least 0, got -1; "):
        task.batch(**arguments)
    if name != "index":
        del arguments["index"]
        with pytest.raises(ValueError, match=rf"^{name} must be .* at least 0, got -1; "):
            task.stream(**arguments)


@every_task
def test_tasks_are_frozen_and_compare_by_their_fields(task):
    twin = dataclasses.replace(task)
    assert twin == task
    assert hash(twin) == hash(task)
    assert sum(task == other for other in TASKS) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(task, dataclasses.fields(task)[0].name, 3)


def perfect(task, target):
    """Outputs (N, ..., D) without any error."""
    if task.kind == "classification":
        return np.eye(task.output_size)[target]
    return target.astype(np.float64)


# Of Reber's two legal symbols only one comes: its outputs are judged in test_embedded_reber.py.
@pytest.mark.parametrize(
    "task", [task for task in TASKS if not isinstance(task, tasks.EmbeddedReber)], ids=repr
)
def test_correct_accepts_the_target_and_rejects_one_wrong_place(task):
    target = task.test_batch(6, seed=0, index=0).target
    assert task.correct(perfect(task, target), target).tolist() == [True] * 6
    for spoil in (np.nan, -9.0, 9.0):
        output = perfect(task, target)
        if task.kind == "classification":  # the right class loses: to others, or by not being one
            place = (3, target[3]) if task.reduce else (3, -1, target[3, -1])
            spoil = np.nan if np.isnan(spoil) else -9.0
        else:
            place = (3, 0) if task.reduce else (3, -1, 0)
        output[place] = spoil
        assert task.correct(output, target).tolist() == [True, True, True, False, True, True]


@every_task
def test_output_of_a_wrong_shape_is_named(task):
    batch = task.batch(3, seed=0, index=0)
    with pytest.raises(ValueError, match=r"^output must have shape \(3, .*, got \(3,\); give "):
        task.correct(np.zeros(3), batch.target)


@pytest.mark.parametrize("sequences", [0, -1, 2.5])
def test_success_needs_sequences(sequences):
    task = tasks.LongLag(delay=3)
    with pytest.raises(ValueError, match=r"^sequences must be an integer of at least 1, got "):
        task.success(lambda x, lengths: x, sequences=sequences)


def test_success_sees_the_asked_number_of_test_sequences_in_portions():
    task, seen = tasks.LongLagRandom(delay=100), []

    def predict(x, lengths):
        assert lengths is None
        seen.append(x)
        return np.zeros_like(x)

    result = task.success(predict, seed=2, sequences=500)
    assert result.sequences == sum(len(x) for x in seen) == 500
    assert len(seen) > 1
    for index, x in enumerate(seen):
        assert x.tobytes() == task.test_batch(len(x), seed=2, index=index).x.tobytes()


@pytest.mark.parametrize("wrong", [None, 0, 25, 39])
@pytest.mark.parametrize("task", [tasks.LongLagRandom(delay=5), tasks.LongLagTrigger(q=4, p=3)])
def test_a_test_ends_with_the_first_wrong_sequence(task, wrong, monkeypatch):
    numbers = task.steps * (task.input_size + task.output_size)
    monkeypatch.setattr("longlag.tasks.base._NUMBERS_AT_ONCE", 10 * numbers)
    for judged in (task.meets, lambda *given: task.success(*given).success):
        shown = []

        def predict(x, lengths, shown=shown):
            output = np.nan_to_num(task.test_batch(len(x), 3, len(shown)).target)
            if wrong is not None and wrong // 10 == len(shown):
                output[wrong % 10] += 9.0
            shown.append(len(x))
            return output

        assert judged(predict, 3, 40) == (wrong is None)
        early = judged == task.meets and wrong is not None
        assert shown == [10] * (wrong // 10 + 1 if early else 4)


def test_of_two_sequences_each_is_looked_at_once_and_counts_as_often_as_it_is_drawn():
    task, seen = tasks.LongLag(delay=6), []

    def predict(x, lengths):
        seen.append(len(x))
        output = np.stack([task._both[1][int(row[0, -1])] for row in x])
        output[x[:, 0, -1] == 1, -1] = 0.1  # all that begin with y are wrong
        return output

    found = task.success(predict, seed=2, sequences=500)
    assert seen == [2]
    whole = tasks.Task._hold_against(task, task.rule, predict, 2, 500)
    assert found == whole
    assert 200 < found.wrong < 300


def test_describe_keeps_ends_and_landmarks():
    task = tasks.LongLag(delay=12)
    batch = task.batch(8, seed=0, index=0)
    key = "xy"[int(batch.x[4, 0].argmax()) - 11]
    assert task.describe(batch, 4) == f"{key} a1 a2 ... a11 -> {key}"
    middle = " ".join(f"a{i}" for i in range(1, 12))
    assert task.describe(batch, 4, most=12) == f"{key} {middle} -> {key}"
