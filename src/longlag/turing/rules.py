"""What a machine does in one case, and the error of a description that is none."""

from dataclasses import dataclass

MOVES = {"L": -1, "S": 0, "R": 1}
"""The letters of the moves: left, stay, right."""


class MachineError(ValueError):
    """A description that is no Turing machine, or an input that does not fit one.

    The message says where (line and column, from 1), what came, what was expected, and the fix.
    """


@dataclass(frozen=True)
class Rule:
    """What a machine does: for each tape the symbol to write and the move, and the next state.

    Args:
        write: symbols, one for each tape.
        move: -1, 0 or 1 for each tape.
        next: the state that it goes to; it halts where that has no rules.
    """

    write: tuple[str, ...]
    move: tuple[int, ...]
    next: str
