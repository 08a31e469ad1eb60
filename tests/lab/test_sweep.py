"""`longlag sweep`: trials side by side are what they are alone, and no trial is lost."""

import csv
from pathlib import Path

import numpy as np
import pytest

from longlag.cli import main
from longlag.data import SequenceData
from longlag.lab.sweep.side_by_side import key, together
from longlag.lab.sweep.space import Space, SpaceError
from longlag.lab.sweep.trial import alone
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.settings import Settings, SettingsError

SPACE = "learning_rate=0.001..0.1 hidden=4,6"


def parts_of(task):
    rng = np.random.default_rng(0)
    x, lengths = np.zeros((40, 8, 2), np.float32), rng.integers(4, 9, 40)
    for n, length in enumerate(lengths):
        x[n, :length] = rng.normal(size=(length, 2))
    totals = x[:, :, 0].sum(axis=1)
    target = np.where(totals > 0, "up", "down") if task == "classification" else totals[:, None]
    names = tuple(f"w{n}" for n in range(40))
    return hold_out(SequenceData(x, lengths, target, names), task, share=0.2, seed=0)


@pytest.mark.parametrize(
    "options",
    [
        {"task": "classification"},
        {"task": "classification", "optimizer": "sgd", "scheduler": "one_cycle"},
        {"task": "regression", "optimizer": "adamw", "scheduler": "cosine", "layers": 2},
        {"task": "classification", "optimizer": "rmsprop", "bidirectional": True},
    ],
)
def test_trials_side_by_side_are_what_they_are_alone(options):
    parts = parts_of(options["task"])
    own = ((0.001, 1.0, 3), (0.02, 0.1, 20), (0.03, 0.5, 2), (0.01, None, 1))
    trials = [
        Settings(hidden=4, epochs=8, learning_rate=rate, clip_norm=norm, patience=patience, **options)
        for rate, norm, patience in own
    ]  # fmt: skip
    for one, other in zip(together(parts, trials), map(alone, [parts] * 4, trials), strict=True):
        assert one.epoch == other.epoch
        assert one.value == pytest.approx(other.value, rel=1e-3)


def test_what_cannot_run_side_by_side_has_no_key():
    assert key(Settings("regression", scheduler="plateau")) is None
    assert key(Settings("regression", hidden=4)) != key(Settings("regression", hidden=8))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden=8", "did you mean hidden"),
        ("hidden=8,big", "hidden got 'big', expected a whole number"),
        ("cell=gru..lstm", "no order"),
        ("learning_rate=1..0.1", "a range that rises"),
        ("hidden=8 hidden=9", "twice"),
        ("hidden", "names no values"),
        ("", "it is empty"),
    ],
)
def test_a_space_that_cannot_be_read_says_why(text, message):
    with pytest.raises(SpaceError, match=message):
        Space.parse(text)


def test_a_space_is_held_against_the_other_settings():
    with pytest.raises(SettingsError, match="dropout"):
        Space.parse("dropout=0,0.2").check(Settings("regression"))


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = parts_of("classification").train
    rows = [
        f"{name},{t},{parts.x[n, t, 0]},{parts.target[n]}"
        for n, name in enumerate(parts.names)
        for t in range(parts.lengths[n])
    ]
    Path("my.csv").write_text("\n".join(["series,time,step,target", *rows]) + "\n")
    return ["my.csv", "--task", "classification", "--epochs", "3", "--space", SPACE]


def numbers():
    with open("sweep/table.csv", encoding="utf-8", newline="") as file:
        return [int(row["trial"]) for row in csv.DictReader(file)]


def test_a_sweep_goes_on_where_it_was_stopped(data, monkeypatch, capsys):
    optuna = pytest.importorskip("optuna")
    from longlag.lab.sweep import study

    class Killed(BaseException):
        pass

    def dies(parts, trials, workers, address):
        yield from enumerate([alone(parts, trials[0])])
        raise Killed

    monkeypatch.setitem(study.RUNNERS, "replicas", dies)
    with pytest.raises(Killed):
        main(["sweep", *data, "--trials", "6", "--at_once", "4"])
    monkeypatch.undo()
    monkeypatch.chdir(Path.cwd())
    assert main(["sweep", *data, "--trials", "6", "--at_once", "4"]) == 0
    assert len(numbers()) == 6
    storage = optuna.storages.journal.JournalFileBackend("sweep/journal.log")
    kept = optuna.load_study(
        study_name="sweep", storage=optuna.storages.JournalStorage(storage)
    ).trials
    left = [t.params for t in kept if t.state.name == "FAIL"]
    made = [t.params for t in kept if t.state.name == "COMPLETE"]
    assert len(left) == 3
    assert all(params in made for params in left)  # those that were under way are made anew
    for name in ("figure.png", "best.yaml"):
        assert Path("sweep", name).stat().st_size > 0
    assert "next: longlag train --config sweep/best.yaml my.csv" in capsys.readouterr().out
    assert main(["train", "--config", "sweep/best.yaml", "my.csv", "--logger", "none"]) == 0
    assert main(["sweep", *data, "--hidden", "3", "--trials", "7"]) == 2
    assert "holds a sweep with another settings" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("runner", ["processes", "ray"])
def test_trials_run_elsewhere(data, runner):
    pytest.importorskip("optuna")
    if runner == "ray":
        pytest.importorskip("ray")
    words = ["sweep", *data, "--trials", "4", "--runner", runner, "--workers", "2"]
    assert main(words) == 0
    assert sorted(numbers()) == [0, 1, 2, 3]
