"""Categories, booleans, dates, missing values and uneven times, from the table to the network."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import polars
import pytest

from longlag.data import Columns, DataError, Preparation, SequenceData, from_frame, read
from longlag.data.encoding import Encoding, constant, left_out, uneven
from longlag.data.read_csv import read_csv

MACHINES = """series,time,kind,heat,on,built,target
a,0,mill,1.0,true,2001-03-04,u
a,1,mill,,TRUE,2001-03-04,u
a,3,lathe,3.0,false,2001-03-04,u
b,0,lathe,,false,1970-01-02,v
b,9,saw,5.0,False,1970-01-02,v
b,10,saw,7.0,true,1970-01-02,v
"""
KINDS = ("lathe", "mill", "saw")


@pytest.fixture(params=["arrow", "python", "frame"])
def take(request, write):
    """Takes the text of a table in three ways, which must give the same."""

    def take(
        text: str, task: str = "classification", missing: bool = False, **names
    ) -> SequenceData:
        columns = Columns(**names)
        if request.param == "frame":
            frame = polars.read_csv(text.encode(), infer_schema_length=None, try_parse_dates=True)
            return from_frame(frame, task=task, columns=columns, missing=missing)
        quick = request.param == "arrow"
        return read_csv(write(text), task, columns, True, quick, missing)

    return take


def test_what_a_column_holds_is_found(take):
    data = take(MACHINES, missing=True)
    assert data.feature_names == ("kind", "heat", "on", "built")
    assert data.dates == ("built",)
    assert set(data.categories) == {"kind"}
    names = np.array(data.categories["kind"])[data.x[:, :, 0].astype(int)]
    assert names.tolist() == [["mill", "mill", "lathe"], ["lathe", "saw", "saw"]]
    np.testing.assert_array_equal(data.x[:, :, 1], [[1, np.nan, 3], [np.nan, 5, 7]])
    assert data.x[:, :, 2].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert data.x[:, 0, 3].tolist() == [(date(2001, 3, 4) - date(1970, 1, 1)).days, 1]
    assert data.gaps is not None
    assert data.gaps.tolist() == [[0, 1, 2], [0, 9, 1]]


def test_a_missing_cell_is_an_error_that_names_the_ways(take):
    with pytest.raises(DataError, match=r"column 'heat'.*empty cell.*or read with missing=True"):
        take(MACHINES)


def test_numbers_are_categories_where_that_is_said(take):
    text = "series,time,code,target\na,0,7,u\na,1,7.0,u\nb,0,12,v\nb,1,7,v\n"
    data = take(text, categories=("code",))
    assert data.categories == {"code": ("7", "12")}
    assert data.x[:, :, 0].tolist() == [[0, 0], [1, 0]]
    assert take(text).categories == {}


def test_where_categories_are_said_no_others_are_found(take):
    with pytest.raises(DataError, match=r"row \d, column 'kind': expected a number, got 'mill'"):
        take(MACHINES.replace(",,", ",2,"), categories=())
    with pytest.raises(DataError, match=r"column 'built': expected a number, got '2001-03-04'"):
        take(MACHINES.replace(",,", ",2,"), dates=(), categories=("kind",))


def test_text_among_numbers_is_a_mistake_not_a_category(take):
    with pytest.raises(DataError, match="column 'heat': expected a number, got 'warm'"):
        take(MACHINES.replace("3.0", "warm"), missing=True)


def test_text_that_hardly_repeats_is_no_category(take):
    rows = "".join(f"a,{t},note {t // 2 if t < 2 else t},u\nb,{t},note {t},v\n" for t in range(4))
    rows = rows.replace("b,", "b,").replace("note 3,v", "other,v")
    with pytest.raises(DataError, match=r"column 'note': expected a number, got 'note 0'"):
        take("series,time,note,target\n" + rows)


def test_a_date_that_is_none_is_named(take):
    text = MACHINES.replace(",,", ",2,").replace(
        "9,saw,5.0,False,1970-01-02", "9,saw,5.0,False,soon"
    )
    with pytest.raises(
        DataError, match=r"column 'built': expected a date or timestamp, got 'soon'"
    ):
        take(text, dates=("built",))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"categories": ("knd",)}, "'knd', named in categories, is not among.*did you mean 'kind'"),
        ({"dates": ("kind",), "categories": ("kind",)}, "among categories and dates"),
    ],
)
def test_names_that_do_not_fit(write, names, message):
    with pytest.raises(DataError, match=message):
        read(write(MACHINES), task="classification", missing=True, columns=Columns(**names))


def machines(write, text: str = MACHINES) -> SequenceData:
    return read(write(text), task="classification", missing=True)


@pytest.mark.parametrize("way", ["previous", "mean", "indicator"])
def test_each_input_is_as_the_encoding_says(write, way):
    data = machines(write)
    preparation = Preparation.fit(data, task="classification", missing=way, time_delta=True)
    x = preparation.apply(data).x
    names = preparation.input_names
    assert names[:6] == (*(f"kind = {kind}" for kind in KINDS), "heat", "on", "built")
    assert names[6:] == (
        ("time_delta", "heat is missing") if way == "indicator" else ("time_delta",)
    )
    assert x.shape[2] == len(names) == preparation.input_size
    text = np.array([["mill", "mill", "lathe"], ["lathe", "saw", "saw"]])
    np.testing.assert_array_equal(x[:, :, :3], text[:, :, None] == np.array(KINDS))
    known = np.array([1.0, 3, 5, 7])
    mean, scale = known.mean(), known.std()
    heat = np.array([[1, mean, 3], [mean, 5, 7]])
    if way == "previous":
        heat[0, 1] = 1  # the second series has none before
    np.testing.assert_allclose(x[:, :, 3], (heat - mean) / scale, rtol=1e-6)
    gaps = np.array([[0, 1, 2], [0, 9, 1]])
    np.testing.assert_allclose(x[:, :, 6], (gaps - gaps.mean()) / gaps.std(), rtol=1e-6)
    if way == "indicator":
        assert x[:, :, 7].tolist() == [[0, 1, 0], [1, 0, 0]]


def test_without_standardisation_the_mean_is_filled_in(write):
    data = machines(write)
    preparation = Preparation.fit(data, task="classification", missing="mean", standardise=False)
    assert preparation.apply(data).x[:, :, 3].tolist() == [[1, 4, 3], [4, 5, 7]]


def test_what_was_done_is_done_again(write):
    data = machines(write)
    columns = Columns()
    preparation = Preparation.fit(
        data, task="classification", missing="indicator", time_delta=True, columns=columns
    )
    assert preparation.columns is not None
    assert preparation.columns.categories == ("kind",)
    assert preparation.columns.dates == ("built",)
    again = Preparation.from_dict(json.loads(json.dumps(preparation.to_dict())))
    assert again == preparation
    # Other rows, other order of columns, a category that looks like a number, a missing category.
    new = "time,built,series,kind,on,heat\n0,1970-01-02,z,7,true,1\n5,1970-01-03,z,,false,\n"
    other = read(
        write(new), task="classification", columns=again.columns, require_target=False, missing=True
    )
    x = again.apply(other).x
    assert x[:, :, :3].tolist() == [[[0, 0, 0], [0, 0, 0]]]
    assert x[0, :, 7].tolist() == [0, 1]
    assert again.encoding.unknown(other, again.feature_names) == {"kind": ["7"]}


def test_beyond_the_end_all_inputs_are_zero(write):
    data = machines(write, MACHINES + "b,11,saw,7.0,true,1970-01-02,v\n")
    preparation = Preparation.fit(data, task="classification", missing="indicator")
    assert not preparation.apply(data).x[0, 3].any()


def test_a_missing_value_is_no_target_of_forecasting(write):
    text = "series,time,kind,heat\n" + "".join(
        f"a,{t},{'ab'[t % 2]},{'' if t == 2 else t}\n" for t in range(6)
    )
    data = read(write(text), task="forecasting", missing=True)
    assert data.target_names == ("heat",)  # a category is not forecast
    preparation = Preparation.fit(
        data, task="forecasting", horizon=1, missing="previous", standardise=False
    )
    batch = preparation.apply(data)
    assert batch.x[0, :, 2].tolist() == [0, 1, 1, 3, 4, 5]
    np.testing.assert_array_equal(batch.target[0, :, 0], [1, np.nan, 3, 4, 5, np.nan])
    assert preparation.repeated_inputs() == [2]
    with pytest.raises(DataError, match="forecasting predicts numbers: 'kind' holds categories"):
        Preparation.fit(
            read(write(text), task="forecasting", missing=True, columns=Columns(target="kind")),
            task="forecasting", horizon=1, missing="mean",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {}, r"series 'a', step 1, feature 'heat': the value is missing.*missing='previous'"),
        ({}, {"missing": "zero"}, "missing='zero': expected one of 'error'"),
        (
            {"gaps": None},
            {"missing": "mean", "time_delta": True},
            "time_delta: the data have no times",
        ),
    ],
)
def test_what_cannot_be_prepared(write, change, arguments, message):
    from dataclasses import replace

    data = replace(machines(write), **change)
    with pytest.raises(DataError, match=message):
        Preparation.fit(data, task="classification", **arguments)


def test_a_feature_without_any_value_is_named(write):
    text = MACHINES
    for value in ("1.0", "3.0", "5.0", "7.0"):
        text = text.replace(f",{value},", ",,")
    with pytest.raises(DataError, match="feature 'heat': all its values are missing"):
        Preparation.fit(machines(write, text), task="classification", missing="mean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"missing": "zero"}, "missing='zero'"),
        ({"categories": [[0, ["a", "a"]]]}, "expected distinct names"),
        ({"categories": [["a"]]}, "categories: expected pairs"),
        ({"indicated": [0]}, "without missing='indicator'"),
        ({"indicated": ["a"], "missing": "indicator"}, "indicated: expected positions"),
        ({"time_delta": 1}, "time_delta: expected true or false"),
        ({"fil": []}, "unknown key 'fil'; did you mean 'fill'"),
    ],
)
def test_the_schema_of_the_encoding_is_closed(change, message):
    with pytest.raises(DataError, match=message):
        Encoding.from_dict({**Encoding().to_dict(), **change})


def test_uneven_steps_are_told_and_months_are_even(write):
    def gaps(times: list[object]) -> str:
        rows = "".join(f"a,{when},{at}\n" for at, when in enumerate(times))
        return uneven(read(write("series,time,f\n" + rows), task="forecasting"))

    assert gaps(list(range(0, 50, 5))) == ""
    assert gaps([f"{2000 + m // 12}-{m % 12 + 1:02d}-01" for m in range(40)]) == ""
    assert gaps([0, 1, 2, 5, 9, 30]) == "from 1 to 21, the median 3"
    days = [f"2024-01-{day:02d}" for day in (1, 2, 9, 16, 30)]
    assert gaps(days) == "from 1 day to 14 days, the median 7 days"
    assert gaps(["2024-01-01T00:00Z", "2024-01-01T00:30Z", "2024-01-01T05:00Z"]) == (
        "from 30 minutes to 4.5 hours, the median 2.5 hours"
    )


def test_steps_that_even_series_lack_are_counted(write):
    def lacking(times: list[object]) -> tuple[int, str]:
        rows = "".join(f"a,{when},{at}\n" for at, when in enumerate(times))
        return left_out(read(write("series,time,f\n" + rows), task="forecasting"))

    hours = [f"2024-01-{1 + h // 24:02d}T{h % 24:02d}:00" for h in range(96)]
    assert lacking(hours) == (0, "1 hour")
    assert lacking([hour for h, hour in enumerate(hours) if h not in (7, 30, 31)]) == (3, "1 hour")
    assert lacking([t for t in range(0, 500, 5) if t != 250]) == (1, "5")
    assert lacking([f"{2000 + m // 12}-{m % 12 + 1:02d}-01" for m in range(40)])[0] == 0
    assert lacking([0, 1, 2, 5, 9, 30]) == (0, "")  # not even at all
    assert lacking([0]) == (0, "")
    series = "".join(f"a,{t},0\n" for t in range(80)) + "b,0,0\nb,7,0\nb,14,0\nb,28,0\n"
    data = read(write("series,time,f\n" + series), task="forecasting")
    assert left_out(data) == (1, "4")  # each by its own steps


def test_a_feature_with_one_value_is_told_and_one_with_gaps_is_not(write):
    rows = "a,0,1,5,2,u\na,1,2,5,,u\nb,0,1,5,2,v\n"
    data = read(
        write("series,time,f,same,gap,target\n" + rows), task="classification", missing=True
    )
    assert constant(data) == ["same"]


@pytest.mark.parametrize("suffix", ["npz", "ts"])
def test_arrays_have_missing_values_too(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez(path, x=[[[1.0], [np.nan]], [[3.0], [4.0]]], y=[0, 1])
    else:
        path.write_text(
            "@problemName a\n@timeStamps false\n@missing true\n@univariate true\n"
            "@equalLength true\n@seriesLength 2\n@classLabel true 0 1\n@data\n1.0,?:0\n3.0,4.0:1\n"
        )
    with pytest.raises(DataError, match="read with missing=True"):
        read(path, task="classification")
    data = read(path, task="classification", missing=True)
    np.testing.assert_array_equal(data.x[:, :, 0], [[1, np.nan], [3, 4]])


def test_embedded_categories_stay_one_input(take):
    data = take(MACHINES, missing=True)
    preparation = Preparation.fit(
        data, task="classification", missing="indicator", columns=Columns(), embed=("all",)
    )
    encoding = preparation.encoding
    assert preparation.input_names == ("kind", "heat", "on", "built", "heat is missing")
    assert encoding.vectors == {0: 3}
    assert preparation.inputs.mean[0] == 0.0
    assert preparation.inputs.scale[0] == 1.0
    new = take(
        MACHINES.replace("saw", "press").replace("mill,1.0", ",1.0"),
        missing=True,
        categories=("kind",),
    )
    codes = preparation.apply(new).x[:, :, 0]
    assert codes.tolist() == [[-1, 1, 0], [0, -1, -1]]  # none where missing or new
    record = json.loads(json.dumps(preparation.to_dict()))
    assert Preparation.from_dict(record) == preparation
    for forged in ([1], [-1], "kind"):
        record["encoding"]["embedded"] = forged
        with pytest.raises(DataError, match="embedded"):
            Preparation.from_dict(record)


@pytest.mark.parametrize(
    ("embed", "said"),
    [
        (
            ("heat",),
            r"embed: got 'heat', which holds numbers .*; expected 'all', or some of 'kind'",
        ),
        (("knd",), r"embed: got 'knd', which is no feature; expected 'all', or some of 'kind'"),
        (("kind", "all"), r"embed: got 'all', which is no feature"),
    ],
)
def test_only_categories_are_embedded(take, embed, said):
    data = take(MACHINES.replace(",,", ",2,"))
    with pytest.raises(DataError, match=said):
        Preparation.fit(data, task="classification", embed=embed)
