"""`longlag report` and `longlag train --report`: what they print, write and refuse."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch

import longlag as ll
from longlag.data import Preparation, read
from longlag.layers import load_with_metadata
from longlag.memory import memory_report
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.memory import measure

QUICK = ("--hidden", 4, "--epochs", 1)


def rows_of_task(task, count=20):
    """Rows series, time, step, noise, target of ragged series of 22 to 29 steps."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(count):
        steps = rng.normal(size=int(rng.integers(22, 30)))
        targets = {
            "classification": ["up" if steps.sum() > 0 else "down"] * len(steps),
            "regression": [*[""] * (len(steps) - 1), float(steps.sum())],
            "tagging": np.where(steps.cumsum() > 0, "high", "low").tolist(),
            "forecasting": steps.cumsum().tolist(),
        }[task]
        for t, (step, target) in enumerate(zip(steps, targets, strict=True)):
            rows.append([f"s{n}", t, float(step), float(rng.normal()), target])
    return rows


TASKS = {
    "classification": ("--cell", "elman"),
    "regression": ("--cell", "lstm"),
    "tagging": ("--cell", "gru", "--bidirectional"),
    "forecasting": ("--cell", "leaky", "--horizon", 2, "--window", 12),
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory, table):
    """A folder with a .csv and a network of each task; two more of the first."""
    from longlag.cli import main

    folder = tmp_path_factory.mktemp("trained")
    more = {
        "other": ("classification", ("--cell", "gru")),
        "deep": ("classification", ("--layers", 2, "--bidirectional")),
    }
    for name, (task, options) in {**{task: (task, o) for task, o in TASKS.items()}, **more}.items():
        data, model = folder / f"{task}.csv", folder / f"{name}.longlag"
        if not data.exists():
            table(data, ["series", "time", "step", "noise", "target"], rows_of_task(task))
        words = ["train", data, "--task", task, *QUICK, *options, "--output", model]
        words += ["--logger", "none"]  # it would write where the tests are started
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def here(trained, folder):
    """The folder to stand in has them too."""
    for path in trained.iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def refused(longlag, here):
    """Runs a command that must fail in one sentence and leave the folder as it was."""

    def contents():
        return {path.name: path.read_bytes() for path in here.iterdir()}

    def run(*words):
        before = contents()
        done = longlag(*words)
        assert done.status == 2, done
        assert contents() == before
        assert done.out == ""
        assert done.err.startswith("longlag: ")
        assert done.err.count("\n") == 1
        return done.err

    return run


def prepared(path, data):
    model, metadata = load_with_metadata(path)
    preparation = Preparation.from_dict(metadata["preparation"])
    series = read(data, task=preparation.task, columns=preparation.columns)
    return model, preparation, preparation.apply(series)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_report(longlag, here, task):
    done = longlag("report", f"{task}.longlag", f"{task}.csv", "--lag", 9, "--json", "found.json")
    assert done.status == 0, done.err
    (data,) = json.loads((here / "found.json").read_text()).values()
    for line in [data["verdict"]["headline"], *data["verdict"]["evidence"]]:
        assert line in done.out
    assert "the task's lag is 9" in done.out
    assert done.out.endswith("written: report.html, found.json (numbers)\n")
    page = (here / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure") >= 6
    assert f"<h2>{task}</h2>" in page
    assert data["error_of_loss"]
    assert data["sequences"] == 20
    assert data["lag"] == 9


@pytest.mark.slow
def test_its_numbers_are_those_of_the_library(longlag, here):
    options = ("--json", "found.json", "--seed", 3)
    assert longlag("report", "classification.longlag", "classification.csv", *options).status == 0
    (data,) = json.loads((here / "found.json").read_text()).values()
    model, _, whole = prepared("classification.longlag", here / "classification.csv")
    report = memory_report(
        model, torch.tensor(whole.x), torch.tensor(whole.target),
        lengths=torch.tensor(whole.lengths), seed=3, name="classification",
    )  # fmt: skip
    expected = json.loads(json.dumps(report.to_dict()))
    assert data["error"] == expected["error"]
    for part in ("kind", "headline", "evidence"):  # advice is in the words of the command line
        assert data["verdict"][part] == expected["verdict"][part]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_the_last_steps_of_some_series_are_enough(here, task):
    """Each counts from its own end; places that are cut off have neither input nor target."""
    model, preparation, whole = prepared(f"{task}.longlag", here / f"{task}.csv")
    found = measure(model, preparation, whole, lag=None, sequences=3, steps=10, name="few")
    rows = [0, 9, 19]
    at = [slice(whole.lengths[n] - 10, whole.lengths[n]) for n in rows]
    x = np.stack([whole.x[n, part] for n, part in zip(rows, at, strict=True)])
    target = whole.target[rows]
    if task == "tagging":
        target = np.stack([whole.target[n, part] for n, part in zip(rows, at, strict=True)])
    expected = memory_report(model, torch.tensor(x), torch.tensor(target), name="few")
    assert (found.sequences, found.steps) == (3, 10)
    for mine, theirs in zip(found.flow.layers, expected.flow.layers, strict=True):
        torch.testing.assert_close(mine.by_lag, theirs.by_lag)
    torch.testing.assert_close(found.states.norms, expected.states.norms)


@pytest.mark.slow
def test_two_stand_side_by_side(longlag, here):
    done = longlag(
        "report", "classification.longlag", "classification.csv", "--beside", "other.longlag",
        "--json", "found.json",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert done.out.count("Memory horizon") == 2
    assert list(json.loads((here / "found.json").read_text())) == ["classification", "other"]
    page = (here / "report.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 2
    assert 'data-figure="together"' in page
    assert page.count('data-figure="unrolled"') == 2


@pytest.mark.slow
def test_two_of_one_name_are_told_by_their_folders(longlag, here):
    (here / "old").mkdir()
    shutil.copy("other.longlag", "old/classification.longlag")
    done = longlag(
        "report", "classification.longlag", "classification.csv", "--sequences", 2,
        "--beside", "old/classification.longlag",
    )  # fmt: skip
    assert done.status == 0, done.err
    page = (here / "report.html").read_text(encoding="utf-8")
    assert "<h2>classification.longlag</h2>" in page
    assert "<h2>old/classification.longlag</h2>" in page


@pytest.mark.slow
def test_without_a_target_the_error_is_a_random_one(longlag, here):
    lines = (here / "classification.csv").read_text().splitlines()
    (here / "bare.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    done = longlag("report", "classification.longlag", "bare.csv", "--json", "found.json")
    assert done.status == 0, done.err
    assert "the error is a random one at the output" in done.out
    (data,) = json.loads((here / "found.json").read_text()).values()
    assert not data["error_of_loss"]


@pytest.mark.slow
def test_what_is_there_is_replaced_only_when_told(longlag, refused, here):
    (here / "report.html").write_text("mine")
    words = ("report", "classification.longlag", "classification.csv", "--sequences", 2)
    assert "--overwrite" in refused(*words)
    done = longlag(*words, "--overwrite")
    assert done.status == 0, done.err
    assert (here / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


IMPOSSIBLE = """
                                            => MODEL is missing
M                                           => DATA is missing
nope.longlag D                              => nope.longlag: there is no such file
. D                                         => MODEL .: it is a folder; expected a file that longlag
M nope.csv                                  => nope.csv: there is no such file
M D --beside nope.longlag                   => nope.longlag: there is no such file
M D --beside M                              => --beside M: it is MODEL itself
M D --beside ./M                            => it is MODEL itself; give another file
damaged.longlag D                           => damaged.longlag
M D --beside damaged.longlag                => damaged.longlag
bare.longlag D                              => bare.longlag: it holds a SequenceModel without
M other.csv                                 => other.csv, row 1 | 'step'
M empty.csv                                 => empty.csv
M D --output page.pdf                       => --output page.pdf | '.pdf' | .html, .htm
M D --output no/page.html                   => --output no/page.html | mkdir -p no
M D --json found.txt                        => --json found.txt | '.txt' | .json
M D --json there.json                       => there.json: it is there already | --overwrite
M D --output same.html --json same.html     => --json same.html
M D --lag 0                                 => --lag: got 0 | 1 or more
M D --lag soon                              => --lag: got 'soon' | a whole number
M D --steps 1                               => --steps: got 1 | 2 or more
M D --sequences 0                           => --sequences: got 0 | 1 or more
M D --besides other.longlag                 => no option --besides | --beside
"""
"""What is typed after `longlag report`, and what the message must say."""


@pytest.mark.parametrize("case", IMPOSSIBLE.strip("\n").splitlines())
def test_an_impossible_wish_is_refused_and_nothing_written(refused, here, case):
    whole = (here / "other.longlag").read_bytes()
    (here / "damaged.longlag").write_bytes(whole[: len(whole) // 2])
    ll.save(ll.SequenceModel(ll.GRU(2, 3), 2), here / "bare.longlag")
    (here / "other.csv").write_text("series,time,stpe,noise,target\na,0,1,1,up\n")
    (here / "empty.csv").write_text("")
    (here / "there.json").write_text("mine")
    words, said = case.split("=>")
    names = {"M": "classification.longlag", "./M": "./classification.longlag"}
    names["D"] = "classification.csv"
    message = refused("report", *(names.get(word, word) for word in words.split()))
    for part in said.split("|"):
        assert part.strip().replace("--beside M", f"--beside {names['M']}") in message


def test_a_file_of_another_task_does_not_fit(refused, here):
    message = refused("report", "classification.longlag", "forecasting.csv", "--json", "a.json")
    assert "forecasting.csv" in message


def test_a_file_that_fits_one_of_two_writes_nothing(refused, here):
    """The second model knows other columns."""
    message = refused(
        "report", "classification.longlag", "classification.csv", "--beside", "regression.longlag"
    )
    assert "classification.csv" in message


@pytest.mark.slow
def test_training_ends_with_the_report(longlag, here):
    done = longlag(
        "train", "classification.csv", "--task", "classification", *QUICK,
        "--output", "new.longlag", "--report", "memory.html", "--logger", "none",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "Memory horizon" in done.out
    assert "saved: new.longlag (network and preparation), memory.html (memory)" in done.out
    page = (here / "memory.html").read_text(encoding="utf-8")
    assert "<h2>new</h2>" in page
    plain = longlag(
        "train", "classification.csv", "--task", "classification", *QUICK, "--output", "b.longlag"
    )
    assert plain.status == 0
    assert "Memory horizon" not in plain.out
    # To look at it changes nothing.
    assert (here / "b.longlag").read_bytes() == (here / "new.longlag").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--report", "memory.pdf"), ["--report memory.pdf", ".html"]),
        (("--report", "no/memory.html"), ["--report no/memory.html", "mkdir -p no"]),
        (("--report", "there.html"), ["there.html: it is there already", "--overwrite"]),
        (("--report", "a.html", "--output", "a.html"), ["--report a.html", "uses this file"]),
    ],
)
def test_training_is_refused_before_it_begins(refused, here, options, said):
    (here / "there.html").write_text("mine")
    message = refused("train", "classification.csv", "--task", "classification", *options)
    for part in said:
        assert part in message


@pytest.mark.slow
def test_advice_is_in_options_that_train_takes(longlag, here):
    words = ("report", "classification.longlag", "classification.csv", "--json", "found.json")
    done = longlag(*words, "--lag", 28)
    assert done.status == 0, done.err
    page = (here / "report.html").read_text(encoding="utf-8")
    (data,) = json.loads((here / "found.json").read_text()).values()
    assert [one["name"] for one in data["verdict"]["advice"]] == [
        "lstm-chrono",
        "gru-chrono",
        "leaky",
    ]
    for one in data["verdict"]["advice"]:
        assert one["code"].startswith("longlag train ... --cell ")
        assert one["code"].endswith("--chrono 28")
        assert one["code"] in done.out
        assert one["code"] in page
    for text in (done.out, page):
        assert "ll." not in text
    options = data["verdict"]["advice"][2]["code"].split(" ... ")[1].split()
    again = longlag(
        "train", "classification.csv", "--task", "classification", *QUICK, *options,
        "--output", "again.longlag", "--logger", "none",
    )  # fmt: skip
    assert again.status == 0, again.err
    assert 1 / ll.load("again.longlag").layer.unit("leak").min() == pytest.approx(28)


@pytest.mark.slow
def test_layers_that_read_both_ways_have_one_report(longlag, here):
    done = longlag("report", "deep.longlag", "classification.csv", "--json", "found.json")
    assert done.status == 0, done.err
    assert done.out.count("Memory horizon") == 1
    (data,) = json.loads((here / "found.json").read_text()).values()
    assert len(data["error"]) == 4


@pytest.mark.slow
def test_one_long_series_is_looked_at_in_stretches(longlag, here, table):
    rows = rows_of_task("tagging", 20)
    table(here / "one.csv", ["noise", "step", "target"], [[r[3], r[2], r[4]] for r in rows])
    options = ("--columns.series", "null", "--columns.time", "null", "--output", "one.longlag")
    done = longlag("train", "one.csv", "--task", "tagging", *QUICK, *options)
    assert done.status == 0, done.err
    words = ("report", "one.longlag", "one.csv", "--steps", 25, "--json", "found.json")
    assert longlag(*words).status == 0
    (data,) = json.loads((here / "found.json").read_text()).values()
    assert (data["sequences"], data["steps"]) == (len(rows) // 25, 25)
    assert data["horizon_interval"] is not None


@pytest.mark.slow
def test_four_draws_of_speakers_say_the_same(longlag, here, vowels_ts):
    """A real classifier: horizon and lag of each draw are in the intervals of the others."""
    train, test = vowels_ts(here / "train.ts", "train"), vowels_ts(here / "test.ts", "test")
    done = longlag(
        "train", train, "--task", "classification", "--cell", "gru", "--hidden", 16, "--epochs", 25,
        "--output", "speakers.longlag", "--logger", "none",
    )  # fmt: skip
    assert done.status == 0, done.err
    fitted = Fitted.load(here / "speakers.longlag")
    whole = fitted.prepare(fitted.preparation.read(test), test)
    rows = np.random.default_rng(0).permutation(len(whole.x))
    horizons, lags = [], []
    for draw in range(4):
        part = whole.map(lambda values, n=draw: values[rows[n::4][:40]])
        found = measure(fitted.model, fitted.preparation, part, lag=None, sequences=40, name="x")
        low, high = found.horizon_interval
        horizons.append((found.steps if low is None else low, np.inf if high is None else high))
        lags.append(found.task_lag.interval)
        assert found.verdict.kind == "remembers"
        assert found.verdict.advice == ()
        assert 5 <= found.known_lag <= 20
    for intervals in (horizons, lags):
        assert max(low for low, _ in intervals) <= min(high for _, high in intervals)


def test_help_names_the_command(longlag):
    shown = longlag("report", "--help")
    assert shown.status == 0
    for word in ("MODEL DATA", "--beside", "--lag", "--json", "--output"):
        assert word in shown.out
