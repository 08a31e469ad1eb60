"""The same instructions for several values: one after the other, instruction by instruction.

A chain of instructions waits for each before the next begins. Processors look ahead for work that
need not wait, but not as far as the end of a tanh: chains of several vectors that alternate keep
them busy.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from longlag.scan.cpu.math_values import Value


class Several(tuple[Value, ...]):
    """Values of one type, with which the same is done."""

    @property
    def type(self) -> Any:
        """Their type."""
        return self[0].type


def together(values: Sequence[Value]) -> Value:
    """Values as one, for which :class:`Abreast` does everything."""
    return values[0] if len(values) == 1 else Several(values)


def part_of(value: Value, number: int) -> Value:
    """One of such values; where it is a list, of each in it; anything else is the same for all."""
    if isinstance(value, list):
        return [part_of(each, number) for each in value]
    return value[number] if isinstance(value, Several) else value


def _count(arguments: Sequence[Value]) -> int:
    """How many values there are among arguments, and lists of them: 1 where none is several."""
    counts = (
        len(each) if isinstance(each, Several) else _count(each)
        for each in arguments
        if isinstance(each, (list, Several))
    )
    return max(counts, default=1)


class Abreast:
    """A builder whose instructions take :class:`Several` values, and give as many.

    Args:
        builder: where the instructions go.
    """

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.builder, name)
        if not callable(method):
            return method

        def emit(*arguments: Value) -> Value:
            count = _count(arguments)
            if count == 1:
                return method(*arguments)
            return Several(method(*part_of([*arguments], number)) for number in range(count))

        return emit
