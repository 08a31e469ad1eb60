"""The figure of a history."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from longlag.training.record import Record

_DECADES = 10.0
"""Positive values that span more than this factor are drawn on a logarithmic axis."""
_POINTS = 2000
"""More steps than this are drawn as means over equal stretches, or the curve is a blot."""


def plot_history(
    losses: np.ndarray,
    gradient_norms: np.ndarray,
    records: Sequence[Record],
    best_step: int | None = None,
) -> Figure:
    """Draw losses, metrics (if any) and gradient norms, one below the other, over the steps.

    Args:
        losses, gradient_norms: of each step.
        records: of the run.
        best_step: the step of the weights that were kept, if any.

    >>> len(plot_history(np.ones(3), np.ones(3), []).axes)
    2
    """
    names = list(records[-1].metrics) if records else []
    figure = Figure(figsize=(7.0, 2.4 * (2 + bool(names))), layout="constrained")
    panels: Any = figure.subplots(2 + bool(names), 1, sharex=True)
    steps = [record.step for record in records]
    style: dict[str, Any] = {"marker": "o" if len(steps) <= 50 else "", "markersize": 3}

    axes = panels[0]
    at, thinned = _thinned(losses)
    axes.plot(at, thinned, color="0.75", linewidth=0.8, label="training, each step")
    axes.plot(steps, [record.loss for record in records], label="training, mean", **style)
    validated = [record for record in records if record.validation_loss is not None]
    shown = [thinned, np.array([record.loss for record in records])]
    if validated:
        values = [record.validation_loss for record in validated]
        axes.plot([record.step for record in validated], values, label="validation", **style)
        shown.append(np.array(values, dtype=float))
    _finish(axes, "loss", np.concatenate(shown))

    if names:
        axes = panels[1]
        for name in names:
            axes.plot(steps, [record.metrics[name] for record in records], label=name, **style)
        values = [[record.metrics[name] for name in names] for record in records]
        _finish(axes, names[0] if len(names) == 1 else "metrics", np.ravel(values))

    axes = panels[-1]
    at, norms = _thinned(gradient_norms)
    axes.plot(at, norms, linewidth=0.8, label="before clipping")
    _finish(axes, "gradient norm", norms)
    axes.set_xlabel("step")
    if best_step is not None:
        for axes in panels:
            axes.axvline(best_step, color="0.5", linestyle=":", linewidth=1)
    return figure


def _finish(axes: Any, label: str, values: np.ndarray) -> None:
    axes.set_ylabel(label)
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() / finite.min() > _DECADES:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", frameon=False)


def _thinned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps counted from 1 and values, or both averaged over equal stretches."""
    steps = np.arange(1, len(values) + 1, dtype=float)
    stretch = -(-len(values) // _POINTS)
    if stretch <= 1:
        return steps, values
    whole = len(values) // stretch * stretch
    return tuple(array[:whole].reshape(-1, stretch).mean(axis=1) for array in (steps, values))  # pyright: ignore[reportReturnType]
