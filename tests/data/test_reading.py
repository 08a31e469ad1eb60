from __future__ import annotations

import pytest

from longlag.data import DataError, read


def test_the_suffix_decides_whatever_its_case(write):
    path = write("series,time,f\na,1,2\n", "WALKS.CSV")
    assert read(str(path), task="forecasting").names == ("a",)


def test_an_unknown_suffix_is_explained(write):
    with pytest.raises(DataError, match=r"suffix '\.cvs' is not known.*did you mean '\.csv'"):
        read(write("", "walks.cvs"), task="forecasting")


def test_a_missing_file_is_explained(write):
    path = write("", "walks.csv")
    with pytest.raises(DataError, match=r"walk\.csv: there is no such file; did you mean 'walks"):
        read(path.with_name("walk.csv"), task="forecasting")
    with pytest.raises(DataError, match=r"there is no such file$"):
        read(path.parent / "nowhere" / "walk.csv", task="forecasting")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "walks.csv").mkdir()
    with pytest.raises(DataError, match=r"walks\.csv: it is a folder; expected a file"):
        read(tmp_path / "walks.csv", task="forecasting")


def test_an_unknown_task_is_explained(write):
    with pytest.raises(DataError, match=r"'classify' is not known.*did you mean 'classification'"):
        read(write("", "walks.csv"), task="classify")
