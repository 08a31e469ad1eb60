"""`longlag predict --stream`: each row is answered before the next, as a file would be."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest

from longlag.data import Columns, DataError, read, write_predictions
from longlag.messages import GuidedError
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import Settings
from longlag.pipeline.streaming import predict_rows

pytestmark = pytest.mark.filterwarnings("ignore::longlag.data.DataWarning")
KINDS = ("lathe", "mill", "saw")


@pytest.fixture
def machines(folder, table):
    """Series of uneven times with a category, missing cells, a class, and labels at each step."""

    def write(name: str, seed: int, kinds=KINDS, holes: float = 0.2) -> Path:
        rng, rows = np.random.default_rng(seed), []
        for n in range(24):
            hour = 0.0
            for _ in range(rng.integers(4, 9)):
                cells = ["" if rng.random() < holes else round(rng.normal() + n % 2, 3)]
                cells = [kinds[n % len(kinds)] if rng.random() > holes else "", *cells]
                rows.append([f"m{n}", round(hour, 2), *cells, ("bad", "good")[n % 2]])
                hour += 0.1 + rng.exponential()
        rng.shuffle(rows)  # of several series mixed, each in its order
        rows.sort(key=lambda row: row[1])
        return table(folder / name, ["series", "time", "kind", "heat", "target"], rows)

    return write


def untrained(path: Path, task: str, columns: Columns | None = None, **options) -> Fitted:
    settings = Settings(task, **options)
    data = read(
        path, task=task, columns=columns, missing=settings.missing != "error", tags="auto"
    )  # fmt: skip
    parts = hold_out(data, task, share=0.3, seed=0, horizon=settings.steps_ahead)
    pipeline = Pipeline.of(parts, settings, columns or Columns())
    return pipeline.fit(progress=False) if settings.echo else pipeline.as_it_is()


def by_step(rows: list[list[str]], width: int) -> dict[tuple[str, ...], list[str]]:
    return {tuple(row[:width]): row[width:] for row in rows}


def alike(one: list[str], other: list[str]) -> bool:
    """Equal text, or numbers but for rounding."""
    try:
        return np.allclose(np.array(one, float), np.array(other, float), atol=1e-5)
    except ValueError:
        return one[0] == other[0] and alike(one[1:], other[1:])


def streamed(fitted: Fitted, path: Path) -> list[list[str]]:
    with open(path, newline="") as lines:
        return [list(map(str, row)) for rows in predict_rows(fitted, lines) for row in rows]


@pytest.mark.parametrize(
    "options",
    [
        {"missing": "previous", "time_delta": True},
        {"missing": "indicator", "embed": ("all",), "reduce": "mean"},
        {"missing": "mean", "cell": "echo", "hidden": 30, "places": True, "alpha": 0.1},
        {"missing": "previous", "cell": "echo", "hidden": 30, "alpha": 0.1},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_the_last_answer_of_a_series_is_that_of_the_file(machines, options):
    old, new = machines("old.csv", 0), machines("new.csv", 1)
    fitted = untrained(old, "classification", **{"hidden": 8, **options})
    data = fitted.preparation.read(new, scored=False)
    write_predictions("whole.csv", data, fitted.predict(data).predictions)
    whole = list(csv.reader(Path("whole.csv").read_text().splitlines()))
    got = streamed(fitted, new)
    assert got[0] == ["series", "time", *whole[0][1:]]
    assert len(got) == 1 + data.lengths.sum()
    last = {row[0]: row[2:] for row in got[1:]}
    assert len(whole) == 25
    for name, *answer in whole[1:]:
        assert alike(last[name], answer), name


def test_answers_at_steps_are_those_of_the_file(folder, table):
    rng, rows = np.random.default_rng(0), []
    for n in range(6):
        heat = rng.normal(size=12).round(3)
        rows += [[n, value, "hot" if value > 0 else "cold"] for value in heat]
    path = table(folder / "tags.csv", ["series", "heat", "target"], rows)
    columns = Columns(series="series", time=None)
    fitted = untrained(path, "tagging", columns, hidden=8, layers=2)
    data = fitted.preparation.read(path, scored=False)
    write_predictions("whole.csv", data, fitted.predict(data).predictions)
    whole, got = (
        list(csv.reader(Path("whole.csv").read_text().splitlines())),
        streamed(fitted, path),
    )
    assert got[0] == whole[0] == ["series", "step", "prediction", "probability"]
    steps = by_step(got[1:], 2)
    assert len(steps) == len(whole) - 1 == 72
    for name, step, *answer in whole[1:]:
        assert alike(steps[name, step], answer)


def test_forecasts_of_the_values_themselves_come_after_each_row(folder, table):
    rows = [[round(np.sin(t / 3), 4)] for t in range(40)]
    path = table(folder / "wave.csv", ["height"], rows)
    columns = Columns(series=None, time=None)
    fitted = untrained(path, "forecasting", columns, horizon=3, relative=False, hidden=8)
    got = streamed(fitted, path)
    assert got[0] == ["series", "step", "step_ahead", "height"]
    assert len(got) == 1 + 40 * 3
    data = fitted.preparation.read(path)
    whole = fitted.predict(data).predictions.values[0, :, 0]
    np.testing.assert_allclose([float(row[3]) for row in got[-3:]], whole, atol=1e-5)


def test_an_answer_is_there_before_the_next_row(machines, script):
    fitted = untrained(machines("old.csv", 0, holes=0.0), "classification", hidden=8)
    fitted.save("model.longlag")
    running = subprocess.Popen(
        [script, "predict", "model.longlag", "--stream"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stderr is not None
    with running:
        running.stdin.write("heat,kind,time,more,series\n1.5,mill,0,x,a\n")
        running.stdin.flush()
        heads = running.stdout.readline().strip().split(",")
        assert heads == ["series", "time", "prediction", "probability_bad", "probability_good"]
        first = running.stdout.readline().split(",")
        assert first[:2] == ["a", "0"]
        running.stdin.write("-2,saw,1,x,a\n")
        running.stdin.flush()
        second = running.stdout.readline().split(",")
        assert second[:2] == ["a", "1"]
        assert second[3] != first[3]
        running.stdin.write("-2,saw,0.5,x,a\n")
        running.stdin.close()
        assert running.stdout.read() == ""
        assert "row 4, column 'time': '0.5' comes after '1' of row 3" in running.stderr.read()
    assert running.returncode == 2


def test_what_a_stream_cannot_do_is_said(machines, longlag):
    old = machines("old.csv", 0, holes=0.0)
    both = untrained(old, "classification", hidden=8, bidirectional=True)
    with pytest.raises(GuidedError, match="reads each series backward too"):
        list(predict_rows(both, ["series,time,kind,heat\n"]))
    columns = Columns(target="heat")
    relative = untrained(old, "forecasting", columns, hidden=8)
    with pytest.raises(GuidedError, match="units of the whole series"):
        list(predict_rows(relative, ["series,time,kind,heat\n"]))
    plain = untrained(old, "classification", hidden=8)
    for text, said in (
        ((), "it is empty"),
        (("series,time,heat",), "there is no column 'kind'"),
        (("series,time,kind,heat", "a,0,mill,warm"), "row 2, column 'heat': expected a number"),
        (("series,time,kind,heat", "a,0,mill"), "row 2: 3 cells, expected 4"),
        (("series,time,kind,heat", "a,0,mill,1", "a,0,mill,1"), "row 3"),
        (("series,time,kind,heat", 'a,0,mill,"1'), "not a valid csv"),
    ):
        with pytest.raises(DataError, match=said):
            list(predict_rows(plain, text))
    plain.save("model.longlag")
    predict = ("predict", "model.longlag")
    assert "DATA is missing" in longlag(*predict).err
    assert (
        "DATA: got old.csv, but with --stream rows come"
        in longlag(*predict, "old.csv", "--stream").err
    )
    assert "--output: got a.csv, but" in longlag(*predict, "--stream", "--output", "a.csv").err
    assert "--columns: with --stream" in longlag(*predict, "--stream", "--columns.time", "t").err
