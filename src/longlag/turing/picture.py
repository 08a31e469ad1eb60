"""The space-time diagram of a tape, beside the activity of the units."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from longlag.turing.trace import Trace

_NAMED = 60
"""So many units have their names on the axis."""


def draw(trace: "Trace") -> Any:
    """See :meth:`Trace.plot`."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    network = trace.network
    machine, updates = network.machine, network.construction.updates
    cells, first = trace.cells()
    steps, count, units = len(cells) - 1, len(machine.symbols), network.units
    wide = 4.0 + min(0.17 * len(units), 10.0)
    figure = Figure(figsize=(4.5 + wide, 7.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4.5, wide))

    shades = ListedColormap([str(1.0 - 0.75 * a / (count - 1)) for a in range(count)])
    extent = (first - 0.5, first + cells.shape[1] - 0.5, steps + 0.5, -0.5)
    left.imshow(
        cells, cmap=shades, vmin=0, vmax=count - 1, aspect="auto", extent=extent,
        interpolation="nearest",
    )  # fmt: skip
    left.plot(trace.heads, np.arange(steps + 1), color="tab:red", linewidth=1.2, label="head")
    patches = [
        Patch(facecolor=shades(a), edgecolor="gray", label=symbol)
        for a, symbol in enumerate(machine.symbols[:8])
    ]
    handles = [*patches, *left.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, fontsize="small", loc="outside lower left", ncols=len(handles))
    left.set(title="tape", xlabel="cell", ylabel="step of the machine")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.yaxis.get_major_locator().set_params(integer=True)

    half = 0.5 / updates
    image = right.imshow(
        trace.activity, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
        extent=(-0.5, len(units) - 0.5, steps + half, -half),
    )  # fmt: skip
    right.set(title=f"units of the network, {updates} update{'s' * (updates > 1)} a step")
    if len(units) <= _NAMED:
        right.set_xticks(range(len(units)), units, rotation=90, fontsize="small")
    else:
        right.set_xlabel("unit")
    figure.colorbar(image, ax=right, label="activity", fraction=0.04)
    return figure
