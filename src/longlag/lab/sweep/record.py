"""The trials of a sweep: as a table, as CSV, as a configuration and as a figure."""

import csv
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from longlag.lab.sweep.study import best_of

if TYPE_CHECKING:
    import matplotlib.figure
    import optuna


def rows(study: "optuna.Study") -> list[dict[str, Any]]:
    """Each trial that was trained, the best first."""
    trained = [t for t in study.get_trials(deepcopy=False) if t.value is not None]
    trained.sort(key=lambda trial: float(trial.value or 0.0))
    return [
        {"trial": t.number, "validation_loss": t.value, **t.params,
         "epoch": t.user_attrs.get("epoch"), "seconds": t.user_attrs.get("seconds")}
        for t in trained
    ]  # fmt: skip


def as_csv(study: "optuna.Study") -> str:
    """All of them."""
    listed, text = rows(study), io.StringIO()
    table = csv.DictWriter(text, list(listed[0]) if listed else ["trial"], lineterminator="\n")
    table.writeheader()
    table.writerows(listed)
    return text.getvalue()


def table(study: "optuna.Study", most: int = 10) -> Table:
    """The best of them, for a terminal."""
    listed = rows(study)
    shown = Table(*(listed[0] if listed else ["trial"]))
    for column in shown.columns:
        column.justify = "right"
    for row in listed[:most]:
        shown.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    return shown


def draw(study: "optuna.Study", names: list[str]) -> "matplotlib.figure.Figure":
    """The validation loss by trial, with the best until then, and by each setting."""
    from matplotlib.figure import Figure

    listed = [row for row in rows(study) if math.isfinite(row["validation_loss"])]
    listed.sort(key=lambda row: row["trial"])
    figure = Figure(figsize=(4 * (1 + len(names)), 3.5), layout="constrained")
    first, *others = np.atleast_1d(figure.subplots(1, 1 + len(names), sharey=True))
    losses = [row["validation_loss"] for row in listed]
    numbers = [row["trial"] for row in listed]
    first.plot(numbers, losses, ".", color="0.6", label="a trial")
    first.step(numbers, np.minimum.accumulate(losses) if losses else [], where="post", label="best")
    first.set(xlabel="trial", ylabel="validation loss")
    first.legend()
    if losses and min(losses) > 0 and max(losses) > 10 * min(losses):
        first.set_yscale("log")
    for axes, name in zip(others, names, strict=True):
        values = [row[name] for row in listed]
        if not all(type(value) in (int, float) for value in values):
            values = [str(value) for value in values]
        elif values and min(values) > 0 and max(values) >= 10 * min(values):
            axes.set_xscale("log")
        axes.plot(values, losses, ".", color="0.3")
        axes.set_xlabel(name.replace("_", " "))
    return figure


def best_settings(study: "optuna.Study") -> dict[str, Any]:
    """What the best trial was given; empty where all diverged."""
    trial = best_of(study)
    return {} if trial is None else dict(trial.params)
