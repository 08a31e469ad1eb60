from __future__ import annotations

import sys

import numpy as np
import pytest

from longlag.data import DataError, read

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:aeon"),
    pytest.mark.filterwarnings("ignore::FutureWarning:aeon"),
]

HEAD = "@problemName t\n@univariate false\n@equalLength false\n"
CLASSES = HEAD + "@classLabel true Up Banana\n@data\n"
VALUES = HEAD + "@targetLabel true\n@data\n"


def test_japanese_vowels_come_back(vowels_ts, vowels):
    series, speakers = vowels
    data = read(vowels_ts, task="classification")
    assert data.x.shape == (270, 26, 12)
    assert data.lengths.tolist() == [len(case) for case in series]
    assert data.target is not None
    assert data.target.tolist() == speakers
    for x, case in zip(data.x, series, strict=True):
        np.testing.assert_array_equal(x[: len(case)], case.astype(np.float32))
        assert not x[len(case) :].any()


def test_both_formats_hold_the_same_arrays(vowels_ts, vowels_csv):
    ts, table = (read(path, task="classification") for path in (vowels_ts, vowels_csv))
    np.testing.assert_array_equal(ts.x, table.x)
    np.testing.assert_array_equal(ts.lengths, table.lengths)
    assert ts.target is not None
    assert table.target is not None
    np.testing.assert_array_equal(ts.target, table.target)


def test_labels_are_as_the_header_writes_them(write):
    path = write(CLASSES + "1,2:3,4:Banana\n5:6:Up\n", "fruit.ts")
    data = read(path, task="classification")
    assert data.target is not None
    assert data.target.tolist() == ["Banana", "Up"]
    assert data.x.tolist() == [[[1, 3], [2, 4]], [[5, 6], [0, 0]]]


def test_regression_and_forecasting(write):
    path = write(VALUES + "1,2:3,4:0.5\n5:6:-7\n", "flow.ts")
    data = read(path, task="regression")
    assert data.target is not None
    assert data.target.tolist() == [[0.5], [-7.0]]
    ahead = read(path, task="forecasting")
    assert ahead.target is None
    assert ahead.target_names == ("x0", "x1")


def test_the_target_may_be_absent_when_predicting(write):
    missing = write(CLASSES + "1:3:?\n5:6:?\n", "missing.ts")
    assert read(missing, task="classification", require_target=False).target is None
    none = write(HEAD + "@classLabel false\n@data\n1:3\n5:6\n", "none.ts")
    assert read(none, task="classification", require_target=False).target is None
    with pytest.raises(DataError, match=r"no @classLabel true, which classification needs"):
        read(none, task="classification")
    with pytest.raises(DataError, match=r"no @targetLabel true, which regression needs"):
        read(missing, task="regression")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CLASSES + "1,2:3,4:Up\n1,?:3,NaN:Up\n", "row 7, channel 0, step 1: a missing.*1 more"),
        (CLASSES + "1,inf:3,4:Up\n", "row 6, channel 0, step 1: inf"),
        (CLASSES + "1,2:3,4:Up\n1,2:3,warm:Up\n", "row 7, channel 1, step 1: 'warm'"),
        (CLASSES + "1,2:3,4:Up\n1,2:3:Up\n", "row 7, channel 1: 1 steps, expected 2"),
        (CLASSES + "1,2:3,4:Up\n1,2:Up\n", "row 7: 1 channels, expected 2"),
        (CLASSES + "1:3:Up\n\n1:3:Up\n", "row 7: a blank line"),
        (CLASSES + "1:3:Up\n1:3:?\n", "row 7, target of series 1: it is missing"),
        (CLASSES, "no series below @data"),
        (HEAD + "1,2:3\n", "no line @data"),
        (HEAD + "@timeStamps true\n@data\n(1,2)\n", "@timeStamps true is not supported"),
        (HEAD + "@classLabel true a A\n@data\n1:3:a\n", "differ in case only"),
        ("@univariate false\n@classLabel true a\n@data\n1:2:a\n1,2:2,3:a\n", "@equalLength false"),
    ],
)
def test_an_error_names_row_channel_and_step(write, text, message):
    path = write(text, "bad.ts")
    with pytest.raises(DataError, match=message) as caught:
        read(path, task="classification")
    assert str(caught.value).startswith(str(path))


def test_a_regression_target_that_is_no_number_is_located(write):
    path = write(VALUES + "1:2:3\n4:2:5\n1:2:high\n", "bad.ts")
    with pytest.raises(DataError, match="row 8, target: 'high', expected a number"):
        read(path, task="regression")


def test_tagging_is_refused(vowels_ts):
    with pytest.raises(DataError, match="tagging needs one per step"):
        read(vowels_ts, task="tagging")


def test_without_aeon_the_error_says_what_to_install(vowels_ts, monkeypatch):
    monkeypatch.setitem(sys.modules, "aeon", None)
    monkeypatch.setitem(sys.modules, "aeon.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "longlag\[ts\]"'):
        read(vowels_ts, task="classification")


@pytest.mark.parametrize("where", ["@problemName größe\n", "0,1:1,0:größe\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_that_is_not_utf8_is_located(tmp_path, where, end):
    head = "@timeStamps false\n@univariate false\n@dimensions 2\n@equalLength true\n"
    head += "@seriesLength 2\n@classLabel true u v\n"
    first = where if where.startswith("@") else ""
    rest = "" if first else where
    text = f"{first}{head}@data\n1,2:3,4:u\n{rest}"
    row = text[: text.index("ö")].count("\n") + 1
    path = tmp_path / "latin.ts"
    path.write_bytes(text.replace("\n", end).encode("latin-1"))
    with pytest.raises(DataError, match=rf"latin\.ts, row {row}: not UTF-8 text \(byte 0xf6\)"):
        read(path, task="classification")
