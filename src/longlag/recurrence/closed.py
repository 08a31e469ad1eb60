"""The recurrence of a network that reads its own output: what it is fed becomes part of W."""

from dataclasses import replace
from typing import NamedTuple

import sympy

from longlag.recurrence.traced import Gate, Recurrence
from longlag.recurrence.wiring import Dense


class Fed(NamedTuple):
    """How what a gate is fed reaches it in the closed recurrence.

    Attributes:
        gate: number of the gate that read the output as a part of x.
        wire: number of the wire of the closed recurrence that carries it.
        shared: number of the wire of the open one whose matrix that wire carries too, or None.
    """

    gate: int
    wire: int
    shared: int | None


class Closed(NamedTuple):
    """A recurrence that is closed over its output.

    Attributes:
        recurrence: it has the gates of the open one, in their order, and perhaps further ones,
            which read no input.
        fed: one for each gate of the open recurrence.
        kept: by wire of the open recurrence, the number of the wire that carries its matrix.
    """

    recurrence: Recurrence
    fed: tuple[Fed, ...]
    kept: tuple[int, ...]


def closed_loop(recurrence: Recurrence) -> Closed:
    r"""Close a recurrence over a linear function of its output.

    Where x has the part :math:`y_{t-1} = V h_{t-1} + c`, a gate gets from it
    :math:`U y_{t-1} = U V h_{t-1} + U c`: a recurrent product with the matrix U V, and a bias. It
    is added to the recurrent matrix of the gate if there is one that reads h; else it is one more,
    and where the update sees a and r apart, a gate of its own.

    Args:
        recurrence: the open one.

    >>> from longlag import cells
    >>> closed = closed_loop(cells.GRU().recurrence)
    >>> [gate.name for gate in closed.recurrence.gates]
    ['reset', 'update', 'new', 'fed_new']
    """
    output = recurrence.output
    whole = Dense(output)
    gates: list[Gate] = []
    apart: list[Gate] = []
    exchanged: dict[sympy.Symbol, sympy.Expr] = {}
    of_gate: list[tuple[str, int, bool]] = []  # in which gate, as which matrix, whether it shares
    for gate in recurrence.gates:
        if gate.split:
            fed = Gate(f"fed_{gate.name}", whole, split=False)
            exchanged[gate.from_input] = gate.from_input + fed.from_state
            apart.append(fed)
            of_gate.append((fed.name, 0, False))
            gates.append(gate)
            continue
        # The matrices are given from here on, and not kept as the cell keeps them.
        matrices = tuple(replace(dense, constraint=None) for dense in gate.matrices)
        place = matrices.index(whole) if whole in matrices else len(matrices)
        of_gate.append((gate.name, place, place < len(matrices)))
        added = () if place < len(matrices) else (whole,)
        gates.append(replace(gate, wiring=(*matrices, *added)))
    equations = {
        name: sympy.sympify(equation).xreplace(exchanged)
        for name, equation in recurrence.equations.items()
    }
    made = replace(
        recurrence, name=f"Closed{recurrence.name}", gates=(*gates, *apart), equations=equations
    )
    first = _first_wires(made)
    before = _first_wires(recurrence)
    kept = tuple(
        first[gate.name] + number
        for gate in recurrence.dense_gates
        for number in range(len(gate.matrices))
    )
    fed = tuple(
        Fed(number, first[name] + place, before[name] + place if shares else None)
        for number, (name, place, shares) in enumerate(of_gate)
    )
    return Closed(made, fed, kept)


def _first_wires(recurrence: Recurrence) -> dict[str, int]:
    """By dense gate, the number of its first wire."""
    numbers: dict[str, int] = {}
    count = 0
    for gate in recurrence.dense_gates:
        numbers[gate.name] = count
        count += len(gate.matrices)
    return numbers
