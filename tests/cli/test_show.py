"""`longlag show`, the card that `longlag train` writes, and where the numbers of epochs go."""

import csv
import importlib.util
from pathlib import Path

import pytest

import longlag as ll
from longlag.pipeline import tracking
from longlag.pipeline.settings import SettingsError


def test_a_trained_network_is_shown(longlag, folder, walks_csv, small):
    done = longlag("train", "walks.csv", *small, "--licence", "CC0-1.0", "--logger", "csv")
    assert done.status == 0, done.err
    shown = longlag("show", "model.longlag")
    assert shown.status == 0, shown.err
    for part in (
        "GRU(2, 4), readout of 2 of the last step", "licence   CC0-1.0", "seed      0",
        "task classification, features step noise, targets down up, series 32, steps 4 8",
        "series held out 8", "accuracy of the baseline 0.", "hidden 4", "longlag ",
    ):  # fmt: skip
        assert part in shown.out, part
    assert ll.show("model.longlag").card.metrics["accuracy"] is not None

    assert "logs/model/version_0 (records)" in done.out
    with open("logs/model/version_0/metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [8, 16]
    assert {"loss", "validation_loss", "accuracy", "learning_rate", "epoch"} <= rows[0].keys()
    (loss,) = {row["validation_loss"] for row in rows[1:]}
    assert 0 < float(loss) < 2

    again = longlag("train", "walks.csv", *small, "--output", "b.longlag", "--logger", "none")
    assert again.status == 0, again.err
    assert not (folder / "logs" / "b").exists()
    assert "licence   not stated" in longlag("show", "b.longlag").out


def test_what_is_no_network_is_refused(longlag, folder):
    missing = longlag("show", "nothing.longlag")
    assert missing.status == 2
    assert "MODEL nothing.longlag: there is no such file" in missing.err
    (folder / "text.longlag").write_text("text")
    damaged = longlag("show", "text.longlag")
    assert damaged.status == 2
    assert "text.longlag: it ends after 4 bytes" in damaged.err
    assert "or no file that longlag saved" in damaged.err
    assert "MODEL .: it is a folder" in longlag("show", ".").err


def test_a_logger_that_is_not_installed_names_its_extra(longlag, walks_csv, small, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    assert tracking.make_logger("auto", Path("logs"), "model") is None
    for kind in ("tensorboard", "wandb", "mlflow"):
        with pytest.raises(SettingsError, match=rf"longlag\[{kind}\]"):
            tracking.make_logger(kind, Path("logs"), "model")
    refused = longlag("train", "walks.csv", *small, "--logger", "wandb")
    assert refused.status == 2
    assert "--logger: wandb needs wandb" in refused.err
    assert "or use --logger csv" in refused.err


@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="needs tensorboard")
def test_tensorboard_is_the_default(longlag, folder, walks_csv, small):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = longlag("train", "walks.csv", *small)
    assert done.status == 0, done.err
    assert "logs/model/version_0 (records)" in done.out
    events = EventAccumulator("logs/model/version_0")
    events.Reload()
    assert [event.step for event in events.Scalars("validation_loss")] == [8, 16]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_services_take_the_numbers_without_a_network(
    longlag, folder, walks_csv, small, kind, monkeypatch
):
    for package in (kind, "pytorch_lightning"):
        pytest.importorskip(package)
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = longlag("train", "walks.csv", *small, "--logger", kind)
    assert done.status == 0, done.err
    written = [path.name for path in (folder / "logs").rglob("*")]
    assert any("wandb" in name or name in ("validation_loss", "mlflow.db") for name in written)
