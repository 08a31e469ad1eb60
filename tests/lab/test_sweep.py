"""`longlag sweep`: trials side by side are what they are alone, and no trial is lost."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from longlag.cli import main
from longlag.data import SequenceData
from longlag.lab.sweep import runners
from longlag.lab.sweep.side_by_side import key, together
from longlag.lab.sweep.space import Space, SpaceError
from longlag.lab.sweep.trial import alone
from longlag.messages import GuidedError
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
        {"task": "classification", "scheduler": "plateau"},
    ],
)
def test_trials_side_by_side_are_what_they_are_alone(options):
    parts = parts_of(options["task"])
    wild = 1e30 if options["task"] == "regression" else 0.005  # diverges, for errors are squared
    own = ((0.001, 1.0, 3), (0.02, 0.1, 20), (wild, None, 9), (0.03, 0.5, 2), (0.01, None, 1))
    trials = [
        Settings(hidden=4, epochs=8, learning_rate=r, clip_norm=norm, patience=patience, **options)
        for r, norm, patience in own
    ]
    for one, other in zip(together(parts, trials, 2), map(alone, [parts] * 5, trials), strict=True):
        assert one.epoch == other.epoch
        assert one.value == pytest.approx(other.value, rel=1e-3)


def test_what_cannot_run_side_by_side_has_no_key():
    assert key(Settings("regression", cell="echo")) is None
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
    return ["my.csv", "--task", "classification", "--epochs", "20", "--space", SPACE]


def numbers():
    with open("sweep/table.csv", encoding="utf-8", newline="") as file:
        return [int(row["trial"]) for row in csv.DictReader(file)]


def kept():
    """The parameters of the trials in the journal, by their state."""
    optuna = pytest.importorskip("optuna", reason="a sweep needs the extra sweep")
    backend = optuna.storages.journal.JournalFileBackend("sweep/journal.log")
    storage = optuna.storages.JournalStorage(backend)
    by_state = defaultdict(list)
    if storage.get_all_studies():
        for trial in optuna.load_study(study_name="sweep", storage=storage).trials:
            by_state[trial.state.name].append(trial.params)
    return by_state


def killed(*words):
    """The trials of a sweep that is killed when some are done and some are under way."""
    sweep = subprocess.Popen([sys.executable, "-m", "longlag", "sweep", *words])
    try:
        while sweep.poll() is None:
            time.sleep(0.1)
            sweep.send_signal(signal.SIGSTOP)
            trials = kept() if Path("sweep/journal.log").exists() else {}
            if trials.get("COMPLETE") and trials.get("RUNNING"):
                return trials
            sweep.send_signal(signal.SIGCONT)
    finally:
        sweep.kill()
        sweep.wait()
    raise AssertionError("the sweep ended by itself")


def test_a_sweep_that_was_killed_goes_on(data, capsys):
    pytest.importorskip("optuna", reason="a sweep needs the extra sweep")
    before = killed(*data, "--trials", "1000", "--at_once", "3")
    with Path("sweep/journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 6, "wor')  # of a write that was cut off
    done = len(before["COMPLETE"])
    assert main(["sweep", *data, "--trials", str(done + 4), "--at_once", "3"]) == 0
    after = kept()
    assert after["COMPLETE"][:done] == before["COMPLETE"]
    assert len(after["COMPLETE"]) == done + 4
    assert not after["RUNNING"]
    assert after["FAIL"] == before["RUNNING"]
    made_anew = after["COMPLETE"][done:]
    assert all(params in made_anew for params in before["RUNNING"] if params)
    assert len(numbers()) == done + 4
    assert Path("sweep/figure.png").stat().st_size > 0
    assert "next: longlag train --config sweep/best.yaml my.csv" in capsys.readouterr().out
    assert main(["train", "--config", "sweep/best.yaml", "my.csv", "--logger", "none"]) == 0
    assert main(["sweep", *data, "--hidden", "3", "--trials", "7"]) == 2
    assert "holds a sweep with another settings" in capsys.readouterr().err


def test_a_sweep_without_optuna_names_the_extra(data, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", *data]) == 2
    assert 'pip install "longlag[sweep]"' in capsys.readouterr().err


def test_settings_that_do_not_go_together_are_not_trained(data):
    pytest.importorskip("optuna", reason="a sweep needs the extra sweep")
    data[data.index(SPACE)] = "layers=2,1 dropout=0,0.2 hidden=4"
    assert main(["sweep", *data, "--epochs", "1", "--trials", "8", "--at_once", "8"]) == 0
    trials = kept()
    assert trials["PRUNED"] == [{"layers": 1, "dropout": 0.2, "hidden": 4}] * len(trials["PRUNED"])
    assert len(numbers()) + len(trials["PRUNED"]) == 8
    assert len(numbers()) == len(trials["COMPLETE"]) < 8


def test_a_sweep_whose_trials_all_diverge_says_so(data, capsys):
    pytest.importorskip("optuna", reason="a sweep needs the extra sweep")
    data[data.index(SPACE)] = "learning_rate=1e38 optimizer=sgd hidden=4"
    assert main(["sweep", *data, "--trials", "2"]) == 0
    assert "Every trial diverged" in capsys.readouterr().out
    assert numbers() == [0, 1]
    assert not Path("sweep/best.yaml").exists()


def test_a_process_that_ends_is_named(monkeypatch):
    monkeypatch.setattr(runners, "_begin", os._exit)
    with pytest.raises(GuidedError, match="a process of the sweep has ended"):
        list(runners.processes(3, [Settings("regression")], 1, None))


@pytest.mark.filterwarnings("ignore")  # Ray leaves files open
@pytest.mark.parametrize(
    ("runner", "workers"), [("processes", "1"), pytest.param("ray", "2", marks=pytest.mark.long)]
)
def test_trials_run_elsewhere(data, runner, workers):
    pytest.importorskip("optuna", reason="a sweep needs the extra sweep")
    if runner == "ray":
        pytest.importorskip("ray", reason="a cluster needs the extra ray")
    words = ["sweep", *data, "--trials", "4", "--runner", runner, "--workers", workers]
    assert main(words) == 0
    assert sorted(numbers()) == [0, 1, 2, 3]


def test_long_series_are_trained_on_in_windows_one_trial_after_the_other():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 1_500, 1)).astype(np.float32)
    data = SequenceData(x, np.array([1_500]), np.where(x[:, :, 0] > 0, "up", "down"), ("a",))
    parts = hold_out(data, "tagging", share=0.2, seed=0)
    trials = [Settings("tagging", hidden=4, epochs=2, learning_rate=rate) for rate in (0.01, 0.1)]
    got = [result.value for result in together(parts, trials)]
    assert got == [alone(parts, settings).value for settings in trials]
