"""A run step by step: as a table, and as a picture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from longlag.turing.tape import Configuration

if TYPE_CHECKING:
    from longlag.turing.network import TuringNetwork


@dataclass(frozen=True, eq=False)
class Trace:
    """What a network did, step by step.

    Attributes:
        network: which.
        configurations: of the machine, steps + 1 of them.
        activity: of the units, (updates + 1, H), the initial state first.
    """

    network: "TuringNetwork"
    configurations: tuple[Configuration, ...]
    activity: NDArray[np.float64]

    @property
    def heads(self) -> NDArray[np.int64]:
        """Where the head of the first tape is at each step, from 0."""
        machine = self.network.machine
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
        heads, machine = self.heads, self.network.machine
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
        from longlag.turing.picture import draw

        return draw(self)
