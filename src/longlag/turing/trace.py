"""A run step by step: as a table, and as a picture."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.turing.construction import Construction
from longlag.turing.tape import Configuration

_NAMED = 60
"""So many units have their names on the axis."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What a network did, step by step.

    Attributes:
        construction: of the network.
        configurations: of the machine, steps + 1 of them.
        activity: of the units, (updates + 1, H), the initial state first.
    """

    construction: Construction
    configurations: tuple[Configuration, ...]
    activity: NDArray[np.float64]

    @property
    def heads(self) -> NDArray[np.int64]:
        """Where the head of the first tape is at each step, from 0."""
        machine = self.construction.machine
        moves = [
            machine.rules[c.state, tuple(tape.scanned for tape in c.tapes)].move[0]
            for c in self.configurations[:-1]
        ]
        return np.cumsum([0, *moves])

    def cells(self) -> tuple[NDArray[np.int64], int]:
        """The first tape at each step.

        Returns:
            Places in the alphabet, (steps + 1, width), over all cells that are ever written or
            seen, and which position is the first column.
        """
        heads, machine = self.heads, self.construction.machine
        tapes = [configuration.tape for configuration in self.configurations]
        first = min(int(h) - len(t.left) for h, t in zip(heads, tapes, strict=True))
        last = max(int(h) + max(len(t.right), 1) for h, t in zip(heads, tapes, strict=True))
        places = {symbol: place for place, symbol in enumerate(machine.symbols)}
        rows = np.empty((len(tapes), last - first), np.int64)
        for row, head, tape in zip(rows, heads.tolist(), tapes, strict=True):
            reach = max(head - first, last - 1 - head)
            shown = tape.around(reach)[reach - (head - first) :]
            row[:] = [places[symbol] for symbol in shown[: len(row)]]
        return rows, first

    def __str__(self) -> str:
        """A table: step, state, the tapes with the head in brackets."""
        width = len(str(len(self.configurations) - 1))
        return "\n".join(
            f"{step:{width}}  {configuration}"
            for step, configuration in enumerate(self.configurations)
        )

    def plot(self) -> Any:
        """A figure of matplotlib: the tape over time, and the activity of all units beside it."""
        return _draw(self)


def _draw(trace: Trace) -> Any:
    """See :meth:`Trace.plot`."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    construction = trace.construction
    machine, updates = construction.machine, construction.updates
    cells, first = trace.cells()
    steps, count, units = len(cells) - 1, len(machine.symbols), construction.equations.units
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
