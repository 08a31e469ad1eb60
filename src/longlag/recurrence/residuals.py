"""The residuals of a step: which numbers of the forward pass the backward pass reads again.

The adjoint, as it is derived, begins from the drives: it computes the gates' activations once
more, and they are the costly part of a step. So what the forward pass stores, beside the states, is
the values of the functions of drives that the adjoint needs, and a drive only where it is read as
it is: for an LSTM the four activations in place of the four drives. A function of the new states
alone, as tanh(c), is computed again: it needs no memory.
"""

from dataclasses import dataclass

from longlag.recurrence.program import Operation, Program
from longlag.recurrence.traced import Recurrence

_DEAR = frozenset(("tanh", "sigmoid", "exp", "log", "sqrt", "sin", "cos"))


@dataclass(frozen=True)
class Residuals:
    """The backward step with what the forward step stores for it.

    Attributes:
        values: numbers of the values of the forward program that are stored.
        program: inputs are those, old states, unit parameters, new states, errors of the new
            states; outputs as of :func:`~longlag.recurrence.derive_adjoint`.
    """

    values: tuple[int, ...]
    program: Program


class _Numbers:
    """Equal values of several programs get one number."""

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], int] = {}

    def of(self, key: tuple[object, ...]) -> int:
        return self.known.setdefault(key, len(self.known))

    def of_operation(self, operation: Operation, arguments: list[int]) -> int:
        if operation.name in ("add", "mul"):
            arguments = sorted(arguments)
        return self.of((operation.name, operation.value, *arguments))


def find_residuals(recurrence: Recurrence, adjoint: Program) -> Residuals:
    """Find what is stored, and the backward step that reads it.

    Args:
        recurrence: a traced declaration.
        adjoint: its :func:`~longlag.recurrence.derive_adjoint`.
    """
    forward = recurrence.forward
    numbers = _Numbers()
    shared = len(recurrence.inputs)
    drives, states = len(recurrence.drive_symbols), len(recurrence.states)
    first = [numbers.of(("input", index)) for index in range(shared)]
    before = list(first)
    for operation in forward.operations:
        before.append(numbers.of_operation(operation, [before[n] for n in operation.arguments]))
    now = [before[output] for output in forward.outputs]
    deltas = [numbers.of(("error", index)) for index in range(states)]
    # What is at hand beside the drives: by number, the input of the adjoint that has it.
    names = [*first, *now, *deltas]
    at_hand = {number: index for index, number in reversed(list(enumerate(names)))}
    for index in range(drives):
        at_hand.pop(first[index], None)

    # The adjoint's values, each by number, and whether it can be had without the drives.
    values = list(names)
    free = [number in at_hand for number in names]
    for operation in adjoint.operations:
        number = numbers.of_operation(operation, [values[n] for n in operation.arguments])
        values.append(number)
        free.append(number in at_hand or all(free[n] for n in operation.arguments))
    where = {number: index for index, number in reversed(list(enumerate(before)))}

    stored: dict[int, int] = {}  # by number, its place among the residuals
    rest = shared - drives + 2 * states  # inputs beside the residuals
    operations: list[Operation] = []
    made: dict[int, tuple[str, int]] = {}  # by number, where the new program has it

    def visit(index: int) -> tuple[str, int]:
        number = values[index]
        if number in made:
            return made[number]
        if number in at_hand:
            place = "rest", at_hand[number] - drives
        elif index < drives or (
            adjoint.operations[index - len(names)].name in _DEAR
            and not free[index]
            and number in where
        ):
            place = "residual", stored.setdefault(number, len(stored))
        else:
            operation = adjoint.operations[index - len(names)]
            arguments = [visit(argument) for argument in operation.arguments]
            made_of.append(arguments)
            operations.append(operation)
            place = "operation", len(operations) - 1
        made[number] = place
        return place

    made_of: list[list[tuple[str, int]]] = []
    outputs = [visit(output) for output in adjoint.outputs]
    offsets = {"residual": 0, "rest": len(stored), "operation": len(stored) + rest}
    program = Program(
        (*(f"residual.{index}" for index in range(len(stored))), *adjoint.inputs[drives:]),
        tuple(
            Operation(operation.name, tuple(offsets[kind] + n for kind, n in arguments),
                      operation.value)
            for operation, arguments in zip(operations, made_of, strict=True)
        ),
        tuple(offsets[kind] + number for kind, number in outputs),
    )  # fmt: skip
    return Residuals(tuple(where[number] for number in stored), program)
