"""How axes look: colours, grid, limits, legend, and the marks that several figures share."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


INK, GRID, FAINT = "#14171c", "#d8dce2", "#8a8f98"
"""Colours of text, grid and what is secondary; `report/html.py` puts those of the page in."""

SERIES = ("#2f7de1", "#e0762f", "#2f9e6e", "#9467d8", "#c2417c")
"""Colours of curves."""

DECADES = 30.0
"""Curves are cut off so many powers of ten below their top: they would flatten all else."""

WIDEST = 60
"""Characters of a name that a figure shows."""


def colour(number: int) -> str:
    """Of one of several curves."""
    return SERIES[number % len(SERIES)]


def shown_name(name: str) -> str:
    """A name as matplotlib shows it: no mathematics, not hidden, not wider than the figure."""
    name = name if len(name) <= WIDEST else f"{name[: WIDEST - 1]}…"
    name = f" {name}" if name.startswith("_") else name
    return name.replace("$", r"\$")


def mark_level(axes: "Axes", fraction: float, *, logarithmic: bool = False) -> None:
    """A line at the fraction that the horizon asks for."""
    level = math.log10(fraction) if logarithmic else fraction
    axes.axhline(level, color=FAINT, linewidth=1)
    axes.annotate(
        f"{100 * fraction:.3g} %", (1.0, level), xycoords=axes.get_yaxis_transform(), fontsize=7,
        color=FAINT, ha="right", va="bottom",
    )  # fmt: skip


def mark_lag(axes: "Axes", lag: int | None, *, found: bool = False) -> None:
    """A line at the lag of the task, where it is known: given, or found.

    There is none where the axis has a fixed end before the lag.
    """
    if lag is None or (not axes.get_autoscalex_on() and lag > axes.get_xlim()[1]):
        return
    axes.axvline(lag, color=INK, linewidth=0.9, linestyle="--")
    axes.annotate(
        " lag of the task" + ", as found" * found, (lag, 1.0),
        xycoords=axes.get_xaxis_transform(), fontsize=7, color=INK,
        ha="right" if lag > 0.6 * axes.get_xlim()[1] else "left", va="top",
    )  # fmt: skip


def limit(axes: "Axes", values: np.ndarray, *, logarithmic: bool = False) -> None:
    """Limits that no curve on its way to nothing can blow up.

    Args:
        axes: the axes.
        values: of all curves; on a logarithmic scale, or where ``logarithmic`` their decades.
    """
    decades = values if logarithmic else np.log10(np.where(values > 0, values, np.nan))
    known = decades[np.isfinite(decades)]
    top = max(float(known.max()) if len(known) else 0.0, 0.0)
    low = max(float(known.min()) if len(known) else -1.0, top - DECADES)
    margin = max(0.05 * (top - low), 0.3)
    low, top = min(low, -2.5) - margin, top + margin
    axes.set_ylim((low, top) if logarithmic else (10.0**low, 10.0**top))
    axes.set_xlim(left=0)


def finish(axes: "Axes", *, legend: bool = True) -> None:
    """Grid, inks, ticks, legend."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, which="both", labelsize="small")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    if legend:
        axes.legend(fontsize="x-small", frameon=False, labelcolor=INK)
