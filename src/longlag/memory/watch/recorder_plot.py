"""The figure of a recorder."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from longlag.memory.watch.fixed_sequences import FRACTION
from longlag.memory.watch.record import MemoryRecord

if TYPE_CHECKING:
    import matplotlib.figure


def plot_records(records: Sequence[MemoryRecord]) -> "matplotlib.figure.Figure":
    """The norms by lag, one curve a record, and below them the horizons over the updates."""
    from matplotlib.cm import ScalarMappable  # here: matplotlib is slow to import
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    names = list(records[-1].log_norms)
    figure = Figure(figsize=(7.0, 2.8 * (1 + len(names))), layout="constrained")
    panels: Any = figure.subplots(1 + len(names), 1)
    colours = ScalarMappable(Normalize(records[0].step, max(1, records[-1].step)), "viridis")
    # More curves than this are a blot.
    shown = [records[round(at)] for at in np.linspace(0, len(records) - 1, min(40, len(records)))]
    longest = max(records[-1].lags, default=1)
    for name, axes in zip(names, panels, strict=False):
        for record in shown:
            curve = np.array(record.log_norms[name]) / math.log(10)
            axes.plot(record.lags, curve, color=colours.to_rgba(record.step), linewidth=1)
        axes.axhline(math.log10(FRACTION), color="0.5", linestyle=":", linewidth=1, label="1 %")
        axes.set_xscale("log")
        axes.set_xlabel("lag k (steps)")
        axes.set_ylabel("log10 of the norm\nof $ds_t/ds_{t-k}$")
        axes.set_title(name, fontsize="medium")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", frameon=False)
        figure.colorbar(colours, ax=axes, label="updates")
    axes = panels[-1]
    steps = np.array([record.step for record in records])
    for number, name in enumerate(records[-1].horizon):
        seen = [record.horizon[name] for record in records]
        lags = np.array([math.nan if lag is None else lag for lag in seen])
        axes.plot(steps, lags, marker=".", color=f"C{number}", label=name)
        beyond = steps[np.isnan(lags)]
        # Each name a little higher, so that none hides another.
        axes.plot(
            beyond, np.full(len(beyond), longest * 1.06**number), "^", color=f"C{number}",
            markerfacecolor="none",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(0.8, longest * 2)
    axes.set_xlabel("updates")
    axes.set_ylabel("horizon (steps)\n(△: none within the sequences)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", frameon=False)
    return figure
