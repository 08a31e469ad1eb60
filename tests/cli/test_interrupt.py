"""Ctrl-C and SIGTERM in training, and going on from there."""

import signal
import subprocess
import time

import pytest

from longlag.pipeline import dataset

EPOCHS = 200


def command(*more):
    return [
        "train", "walks.csv", "--task", "classification", "--hidden", "4",
        "--epochs", str(EPOCHS), "--patience", "null", "--batch_size", "1",
        "--recurrent_dropout", "0.2", *more,
    ]  # fmt: skip


def interrupt(words, folder, number):
    """Start a run, send a signal in its first epochs, and wait for its end."""
    with subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        first = running.stderr.readline()
        assert first.startswith("epoch 1/"), first + running.stderr.read()
        time.sleep(0.2)
        running.send_signal(number)
        _, errors = running.communicate(timeout=60)
    return running.returncode, first + errors


@pytest.mark.slow
def test_a_resumed_run_gives_the_bits_of_an_uninterrupted_one(longlag, script, folder, walks_csv):
    done = longlag(*command("--output", "whole.longlag"))
    assert done.status == 0, done.err

    parted = command("--output", "parted.longlag", "--checkpoint", "runs/a")
    status, errors = interrupt([script, *parted], folder, signal.SIGINT)
    assert status == 130, errors
    assert not (folder / "parted.longlag").exists()
    assert "Traceback" not in errors
    assert "The same command goes on from there: longlag train walks.csv" in errors
    assert (folder / "runs" / "a" / "checkpoint.longlag").exists()
    step = int(errors.split("interrupted after step ")[1].split(",")[0])
    assert 0 < step < 32 * EPOCHS

    again = longlag(*parted)
    assert again.status == 0, again.err
    assert "epoch 1/" not in again.err  # it did not start anew
    assert (folder / "parted.longlag").read_bytes() == (folder / "whole.longlag").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGINT, 130, id="INT"),
        pytest.param(signal.SIGTERM, 143, id="TERM", marks=pytest.mark.long),
    ],
)
def test_an_interrupted_run_without_a_checkpoint_writes_nothing(
    script, folder, walks_csv, number, status
):
    before = {path.name for path in folder.iterdir()}
    found, errors = interrupt(
        [script, *command("--epochs", "5000", "--logger", "none")], folder, number
    )
    assert found == status, errors
    assert {path.name for path in folder.iterdir()} == before
    assert "--checkpoint FOLDER" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_outside_training_ends_alike(
    longlag, walks_csv, small, monkeypatch, number, status
):
    def interrupted(*given, **named):
        signal.raise_signal(number)

    monkeypatch.setattr(dataset, "read", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    done = longlag("train", walks_csv, *small)
    assert done.status == status
    assert "interrupted. No model was written." in done.err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_checkpoint_of_other_settings_is_refused(longlag, folder, walks_csv, small):
    options = ["train", walks_csv, *small, "--checkpoint", "runs/a"]
    assert longlag(*options).status == 0
    refused = longlag(
        *options, "--overwrite", "--seed", "5", "--cell", "lstm", "--clip_norm", "null"
    )
    assert refused.status == 2
    for part in (
        "runs/a",
        'cell was not given and is "lstm"',
        "seed was 0 and is 5",
        "clip_norm was 1.0 and is null",
    ):
        assert part in refused.err
    # Paths, and how long to train, may change.
    more = longlag(*options, "--output", "other.longlag", "--epochs", "4")
    assert more.status == 0, more.err
    assert "4 epochs" in more.out


def test_a_folder_without_a_run_takes_other_settings(longlag, folder, walks_csv, small):
    options = ["train", walks_csv, *small, "--checkpoint", "runs"]
    diverging = ["--optimizer", "sgd", "--learning_rate", "1e38", "--clip_norm", "null"]
    assert longlag(*options, *diverging, "--epochs", "20").status == 3
    done = longlag(*options)
    assert done.status == 0, done.err


def test_a_checkpoint_of_other_data_is_refused(longlag, folder, walks_csv, new_walks_csv, small):
    assert longlag("train", walks_csv, *small, "--checkpoint", "runs").status == 0
    options = ["--checkpoint", "runs", "--output", "other.longlag"]
    refused = longlag("train", new_walks_csv, *small, *options)
    assert refused.status == 2
    assert "belongs to a run with other settings" in refused.err
    assert "resume=" not in refused.err  # that would be Python
    assert not (folder / "other.longlag").exists()
