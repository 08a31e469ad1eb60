from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longlag.data import DataError, read

X = np.arange(12, dtype=np.float64).reshape(2, 3, 2)
LABELS = np.array(["up", "down"])


def save(folder: Path, **arrays: object) -> Path:
    path = folder / "walks.npz"
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


def test_arrays_come_back(tmp_path):
    data = read(save(tmp_path, x=X, y=LABELS), task="classification")
    np.testing.assert_array_equal(data.x, X.astype(np.float32))
    assert data.x.dtype == np.float32
    assert data.lengths.tolist() == [3, 3]
    assert data.target is not None
    assert data.target.tolist() == ["up", "down"]
    assert data.names == ("0", "1")
    assert data.feature_names is None


def test_a_channel_axis_is_added_and_padding_is_zeroed(tmp_path):
    x = np.array([[1.0, 2.0], [3.0, np.nan]])
    path = save(tmp_path, x=x, y=np.array([[4, 5], [6, 9]]), lengths=np.array([2, 1]))
    data = read(path, task="tagging")
    assert data.x.tolist() == [[[1.0], [2.0]], [[3.0], [0.0]]]
    assert data.target is not None
    assert data.target.tolist() == [[4, 5], [6, 0]]


@pytest.mark.parametrize(
    ("y", "expected", "names"),
    [
        (np.array([1, 2]), [[1.0], [2.0]], ("y",)),
        (np.array([[1.5, 2], [3, 4]]), [[1.5, 2.0], [3.0, 4.0]], ("y0", "y1")),
    ],
)
def test_regression_targets_have_two_axes(tmp_path, y, expected, names):
    data = read(save(tmp_path, x=X, y=y), task="regression")
    assert data.target is not None
    assert data.target.tolist() == expected
    assert data.target_names == names


def test_forecasting_needs_x_alone(tmp_path):
    data = read(save(tmp_path, x=X), task="forecasting")
    assert data.target is None
    assert data.target_names == ("x0", "x1")
    with pytest.raises(DataError, match=r"walks\.npz: there is an array 'y', but forecasting"):
        read(save(tmp_path, x=X, y=LABELS), task="forecasting")


def test_the_target_may_be_absent_when_predicting(tmp_path):
    path = save(tmp_path, x=X)
    assert read(path, task="classification", require_target=False).target is None
    with pytest.raises(DataError, match="no array 'y', which classification needs"):
        read(path, task="classification")


def holed(value: float) -> np.ndarray:
    x = X.copy()
    x[1, 2, 0] = x[1, 2, 1] = value
    return x


@pytest.mark.parametrize(
    ("task", "arrays", "message"),
    [
        ("classification", {"x": holed(np.nan)}, r"x\[1, 2, 0\] is nan.*\[n, t, c\].*1 more"),
        ("classification", {"x": holed(-np.inf)}, r"x\[1, 2, 0\] is -inf"),
        ("classification", {"x": holed(1e39)}, r"x\[1, 2, 0\] is 1e\+39, expected .*float32"),
        ("classification", {"x": X.astype(str)}, "x has dtype <U32, expected numbers"),
        ("classification", {"x": X.astype(object)}, "array 'x' cannot be read.*objects"),
        ("classification", {"x": X + 0j}, "x has dtype complex128"),
        ("classification", {"x": X[0, 0]}, r"x has shape \(2,\), expected \(N, T, C\)"),
        ("classification", {"x": X[..., None]}, r"x has shape \(2, 3, 2, 1\)"),
        ("classification", {"x": X[:, :0]}, r"x has shape \(2, 0, 2\), expected at least one"),
        ("classification", {"lengths": [3]}, r"lengths has shape \(1,\)"),
        ("classification", {"lengths": [3.0, 2.0]}, "lengths has .* dtype float64"),
        ("classification", {"lengths": [3, 4]}, r"lengths\[1\] is 4, expected 1 to 3"),
        ("classification", {"lengths": [0, -1]}, r"lengths\[0\] is 0.*1 more"),
        ("classification", {"y": LABELS[:1]}, r"y has shape \(1,\), .* expects \(2,\)"),
        ("classification", {"y": [0.0, 1.0]}, "y has dtype float64.*astype"),
        ("classification", {"y": ["", "a"]}, r"y\[0\] is empty text"),
        ("tagging", {"y": LABELS}, r"y has shape \(2,\), tagging expects \(2, 3\)"),
        ("tagging", {"y": [["a", "b", ""], ["", "b", "c"]]}, r"y\[0, 2\] is empty.*1 more"),
        ("regression", {"y": LABELS}, "y has dtype <U4, regression expects numbers"),
        ("regression", {"y": [1.0]}, r"y has shape \(1,\), expected \(2,\) or \(2, D\)"),
        ("regression", {"y": [[1.0], [np.nan]]}, r"y\[1, 0\] is nan"),
        ("classification", {"length": [3, 3]}, "unknown array 'length'.*did you mean 'lengths'"),
    ],
)
def test_an_error_names_the_array_and_index(tmp_path, task, arrays, message):
    path = save(tmp_path, **{"x": X, "y": LABELS, **arrays})
    with pytest.raises(DataError, match=message) as caught:
        read(path, task=task)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_object_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    path = save(tmp_path, x=X, y=np.array([Trap(), Trap()], object))
    with pytest.raises(DataError, match="array 'y' cannot be read"):
        read(path, task="classification")
    assert not (tmp_path / "sprung").exists()


def test_other_files_under_the_suffix(tmp_path):
    path = tmp_path / "walks.npz"
    path.write_bytes(b"series,time\n")
    with pytest.raises(DataError, match="not a NumPy archive"):
        read(path, task="classification")
    with pytest.raises(DataError, match="no array 'x'; the arrays are 'y'"):
        read(save(tmp_path, y=LABELS), task="classification")
    whole = save(tmp_path, x=np.zeros((9, 99, 9)), y=np.arange(9)).read_bytes()
    damaged = bytearray(whole)
    damaged[300:9000] = bytes(8700 * [7])
    path.write_bytes(bytes(damaged))
    with pytest.raises(DataError, match="array 'x' cannot be read"):
        read(path, task="classification")
