import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from longlag.tasks import SequentialDigits


@pytest.fixture(scope="module")
def digits():
    images, classes = load_digits(return_X_y=True)
    return np.asarray(images), np.asarray(classes)


def rows(x):
    return sorted(np.round(x.reshape(len(x), 64) * 16).astype(int).tolist())


@pytest.mark.parametrize("order", ["pixels", "rows"])
def test_split_is_disjoint_and_complete(order, digits):
    task = SequentialDigits(order)
    assert rows(np.concatenate([task.train.x, task.test.x])) == rows(digits[0] / 16)
    assert len(task.train.x) + len(task.test.x) == 1797
    counts = np.bincount(digits[1])
    np.testing.assert_array_equal(np.bincount(task.test.target), counts // 5)
    np.testing.assert_array_equal(np.bincount(task.train.target), counts - counts // 5)
    # No image comes twice in the data, so equal rows would be shared between the parts.
    assert len(np.unique(digits[0], axis=0)) == 1797


def test_every_image_keeps_its_class_and_its_order(digits):
    images, classes = digits
    known = {tuple(image): label for image, label in zip(images.tolist(), classes, strict=True)}
    for part in SequentialDigits("pixels").train, SequentialDigits("rows").train:
        assert part.x.min() == 0
        assert part.x.max() == 1
        for x, target in zip(part.x, part.target, strict=True):
            assert known[tuple((x.astype(float) * 16).ravel().tolist())] == target


def test_rows_are_the_images_rows():
    pixels, by_row = SequentialDigits("pixels").test, SequentialDigits("rows").test
    assert pixels.x.shape[1:] == (64, 1)
    assert by_row.x.shape[1:] == (8, 8)
    np.testing.assert_array_equal(pixels.x.reshape(-1, 8, 8), by_row.x)


@pytest.mark.parametrize("order", ["pixels", "rows"])
def test_permutation_is_one_and_the_same(order):
    plain = SequentialDigits(order)
    shuffled = SequentialDigits(order, permuted=True)
    a, b = (t.train.x.reshape(-1, 64) for t in (plain, shuffled))
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(np.sort(a, axis=1), np.sort(b, axis=1))
    columns = {column.tobytes() for column in np.ascontiguousarray(a.T)}
    assert columns == {column.tobytes() for column in np.ascontiguousarray(b.T)}
    np.testing.assert_array_equal(plain.train.target, shuffled.train.target)
    other = SequentialDigits(order, permuted=True, split=1)
    both = np.concatenate([other.train.x, other.test.x])
    assert rows(both) == rows(np.concatenate([shuffled.train.x, shuffled.test.x]))


def test_split_depends_on_its_number_only():
    np.testing.assert_array_equal(SequentialDigits().test.x, SequentialDigits().test.x)
    assert rows(SequentialDigits(split=1).test.x) != rows(SequentialDigits().test.x)


@pytest.mark.parametrize("size", [1, 7, 100, 2000])
def test_each_epoch_has_each_training_image_once(size):
    task = SequentialDigits("rows")
    n = len(task.train.x)
    batches = [task.batch(size, seed=3, index=i) for i in range(-(-2 * n // size))]
    x = np.concatenate([b.x for b in batches])
    y = np.concatenate([b.target for b in batches])
    first, second = x[:n], x[n : 2 * n]
    assert rows(first) == rows(second) == rows(task.train.x)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.bincount(y[:n]), np.bincount(task.train.target))


def test_test_batches_come_from_the_test_set():
    task = SequentialDigits("rows")
    assert rows(task.test_batch(len(task.test.x), seed=0, index=0).x) == rows(task.test.x)


def test_success_allows_less_than_a_twentieth_wrong():
    task = SequentialDigits("rows")
    target = task.test.target
    for wrong, expected in ((0, True), (17, True), (18, False)):
        scores = np.eye(10)[target]
        scores[:wrong] *= -1
        result = task.success(lambda x, n, s=scores: s)
        assert result.sequences == len(target) == 355
        assert (result.wrong, result.success) == (wrong, expected)
    assert task.success(lambda x, n: np.eye(10)[target[: len(x)]], sequences=20).sequences == 20
    with pytest.raises(ValueError, match=r"^sequences must be at most 355, got 356; "):
        task.success(lambda x, n: x, sequences=356)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"^order must be one of 'pixels', 'rows', got 'columns'"):
        SequentialDigits("columns")
    with pytest.raises(ValueError, match=r"^permuted must be one of False, True, got 'yes'; "):
        SequentialDigits(permuted="yes")
    with pytest.raises(ValueError, match=r"^split must be an integer of at least 0, got -1; "):
        SequentialDigits(split=-1)


@pytest.mark.slow
def test_scikit_learn_is_imported_only_for_the_digits():
    code = (
        "import sys, importlib.util as u\n"
        "before = set(sys.modules)\n"
        "import longlag.tasks as t\n"
        "t.LongLag().batch(1, seed=0, index=0)\n"
        "heavy = {'sklearn', 'scipy', 'pandas', 'matplotlib'} & (set(sys.modules) - before)\n"
        "needed = 'sklearn' in sys.modules or bool(t.SequentialDigits().test)\n"
        "sys.exit(1 if heavy or not needed or 'sklearn' not in sys.modules else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
