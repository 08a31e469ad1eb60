"""Scalar programs: the short lists of operations that every backend walks.

A :class:`Program` is straight-line code over real numbers, one number per unit. Its values are
numbered: first the inputs, then one value per operation. Equal operations are one operation, so
common subexpressions are shared, between outputs too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import sympy

from longlag.recurrence import functions
from longlag.recurrence.functions import Expression


class DeclarationError(ValueError):
    """A recurrence is declared in a way that has no meaning; the message gives the fix."""


ARITY = {
    "constant": 0,
    "add": 2,
    "sub": 2,
    "mul": 2,
    "div": 2,
    "neg": 1,
    "tanh": 1,
    "sigmoid": 1,
    "exp": 1,
    "log": 1,
    "sqrt": 1,
    "sin": 1,
    "cos": 1,
    "abs": 1,
    "sign": 1,
    "relu": 1,
    "saturate": 1,
    "step": 1,
    "floor": 1,
    "stop_gradient": 1,
}
"""The closed set of operations, with their number of arguments. A backend implements these."""

_FUNCTIONS: dict[Any, str] = {
    sympy.tanh: "tanh",
    functions.sigmoid: "sigmoid",
    sympy.exp: "exp",
    sympy.log: "log",
    sympy.sin: "sin",
    sympy.cos: "cos",
    sympy.Abs: "abs",
    sympy.sign: "sign",
    functions.relu: "relu",
    functions.saturate: "saturate",
    functions.step: "step",
    functions.floor: "floor",
    functions.stop_gradient: "stop_gradient",
}


_HINTS = {
    "Max": "; for max(a, b) write b + relu(a - b)",
    "Min": "; for min(a, b) write b - relu(b - a)",
    "Piecewise": "; for a choice write a * step(x) + b * (1 - step(x))",
    "Heaviside": "; write step",
}


@dataclass(frozen=True)
class Operation:
    """One scalar operation: its name, the numbers of its argument values, a constant's value."""

    name: str
    arguments: tuple[int, ...] = ()
    value: float = 0.0


@dataclass(frozen=True)
class Program:
    """Straight-line scalar code.

    Attributes:
        inputs: names of the input values 0 .. len(inputs) - 1.
        operations: value len(inputs) + k is the result of operation k.
        outputs: numbers of the values that are the results, in order.
    """

    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[int, ...]

    def __str__(self) -> str:
        names = list(self.inputs)
        lines = []
        for number, operation in enumerate(self.operations):
            arguments = ", ".join(names[index] for index in operation.arguments)
            text = repr(operation.value) if operation.name == "constant" else arguments
            names.append(f"v{number}")
            lines.append(f"v{number} = {operation.name}({text})")
        return "\n".join([*lines, "return " + ", ".join(names[index] for index in self.outputs)])

    def values(self, table: Mapping[str, Callable[..., Any]], inputs: Sequence[Any]) -> list[Any]:
        """All values of the program: the inputs, then the result of each operation.

        Args:
            table: by the name of an operation of :data:`ARITY`, what does it; ``"constant"`` is
                given the number, every other its arguments. What numbers are (tensors, arrays,
                fractions, vectors of a kernel, nodes of a graph) is the table's affair.
            inputs: one value for each of the program's inputs, in order.

        Raises:
            KeyError: the program has an operation that is not in the table.
        """
        values = list(inputs)
        for operation in self.operations:
            if operation.name == "constant":
                value = table["constant"](operation.value)
            else:
                value = table[operation.name](*[values[index] for index in operation.arguments])
            values.append(value)
        return values

    def evaluate(self, table: Mapping[str, Callable[..., Any]], inputs: Sequence[Any]) -> list[Any]:
        """The outputs of the program, in order; see :meth:`values`.

        >>> from fractions import Fraction
        >>> from longlag.recurrence.arithmetic import EXACT
        >>> x = sympy.Symbol("x", real=True)
        >>> compile_program([x], [functions.saturate(x / 4)]).evaluate(EXACT, [Fraction(1, 3)])
        [Fraction(1, 12)]
        """
        values = self.values(table, inputs)
        return [values[index] for index in self.outputs]

    @cached_property
    def reads(self) -> frozenset[int]:
        """Numbers of the inputs that operations and outputs read."""
        read = {*self.outputs, *(n for operation in self.operations for n in operation.arguments)}
        return frozenset(number for number in read if number < len(self.inputs))

    def part(self, outputs: Sequence[int], known: Sequence[int] = ()) -> "Part":
        """What is needed for some of the values, where others are at hand.

        Args:
            outputs: numbers of the values that are wanted.
            known: numbers of the values at hand: they are further inputs, in this order.

        >>> x, y = sympy.symbols("x y", real=True)
        >>> program = compile_program([x, y], [sympy.tanh(x) * y, sympy.tanh(x)])
        >>> print(program.part(program.outputs[:1], known=program.outputs[1:]).program)
        v0 = mul(y, known.2)
        return v0
        """
        first, inputs = len(self.inputs), (*self.inputs, *(f"known.{number}" for number in known))
        numbers = {number: first + place for place, number in enumerate(known)}
        numbers |= {number: number for number in range(first)}
        needed, left = set[int](), list(outputs)
        while left:
            number = left.pop()
            if number not in needed and number not in numbers:
                needed.add(number)
                left += self.operations[number - first].arguments
        operations = []
        for number in sorted(needed):
            operation = self.operations[number - first]
            arguments = tuple(numbers[argument] for argument in operation.arguments)
            numbers[number] = len(inputs) + len(operations)
            operations.append(replace(operation, arguments=arguments))
        results = tuple(numbers[number] for number in outputs)
        return Part(Program(inputs, tuple(operations), results), numbers)

    def is_zero(self, value: int) -> bool:
        """Whether a value, by its number, is the constant 0."""
        first = len(self.inputs)
        return value >= first and self.operations[value - first] == Operation("constant")


class Part(NamedTuple):
    """A part of a program.

    Attributes:
        program: it has the inputs of the whole, then what is known.
        numbers: by the number of a value in the whole, its number here, where it is there.
    """

    program: Program
    numbers: dict[int, int]


class _Builder:
    """Lowers SymPy expressions into operations, sharing equal ones (value numbering)."""

    def __init__(self, symbols: Sequence[sympy.Symbol]) -> None:
        self.inputs = len(symbols)
        self.numbers = {symbol: index for index, symbol in enumerate(symbols)}
        self.operations: list[Operation] = []
        self.known: dict[Operation, int] = {}

    def emit(self, name: str, *arguments: int, value: float = 0.0) -> int:
        if name in ("add", "mul"):
            arguments = tuple(sorted(arguments))
        operation = Operation(name, arguments, value)
        if operation not in self.known:
            self.known[operation] = self.inputs + len(self.operations)
            self.operations.append(operation)
        return self.known[operation]

    def constant(self, value: float) -> int:
        return self.emit("constant", value=float(value))

    def lower(self, expression: Expression) -> int:
        if isinstance(expression, sympy.Symbol):
            if expression not in self.numbers:
                raise DeclarationError(
                    f"the update uses the symbol {expression}, which is not one of its arguments; "
                    "use only pre, state and unit, and declare constants as Python numbers"
                )
            return self.numbers[expression]
        if expression.is_number:
            number = complex(expression)
            if number.imag or number.real != number.real or abs(number.real) == float("inf"):
                raise DeclarationError(
                    f"the update contains {expression}, which is not a finite real number"
                )
            return self.constant(number.real)
        if isinstance(expression, sympy.Add):
            return self._sum(expression)
        if isinstance(expression, (sympy.Mul, sympy.Pow)) and not isinstance(expression, sympy.exp):
            return self._product(expression)
        if isinstance(expression, (functions.multiple, functions.positive)):
            return self.lower(expression.lowered)
        name = _FUNCTIONS.get(type(expression))
        if name is None:
            raise DeclarationError(
                f"the update uses {type(expression).__name__} in '{expression}', which is not a "
                "pointwise operation that longlag can compile; use + - * / ** and "
                + ", ".join(
                    sorted({*_FUNCTIONS.values(), "sqrt", "modulo", "multiple", "positive"})
                )
                + _HINTS.get(type(expression).__name__, "")
            )
        return self.emit(name, *(self.lower(argument) for argument in expression.args))

    def _sum(self, expression: sympy.Add) -> int:
        terms = sorted(expression.args, key=lambda term: bool(term.could_extract_minus_sign()))
        first, *rest = terms
        total = self.lower(first)
        for term in rest:
            if term.could_extract_minus_sign():
                total = self.emit("sub", total, self.lower(-term))
            else:
                total = self.emit("add", total, self.lower(term))
        return total

    def _product(self, expression: Expression) -> int:
        sign, factors = (1, expression.as_ordered_factors())
        above: list[int] = []
        below: list[int] = []
        for factor in factors:
            if factor == -1:
                sign = -sign
                continue
            if factor.is_number and not factor.is_real:  # I, which is also sqrt(-1)
                self.lower(factor)
            base, exponent = factor.as_base_exp()
            if isinstance(factor, sympy.exp):
                base, exponent = factor, sympy.Integer(1)
            negative = exponent.could_extract_minus_sign()
            side = below if negative else above
            side.append(self._power(base, -exponent if negative else exponent, factor))
        if not above:
            above.append(self.constant(1.0))
        value = self._multiply(above)
        if below:
            value = self.emit("div", value, self._multiply(below))
        return value if sign > 0 else self.emit("neg", value)

    def _multiply(self, values: list[int]) -> int:
        first, *rest = values
        for value in rest:
            first = self.emit("mul", first, value)
        return first

    def _power(self, base: Expression, exponent: Expression, whole: Expression) -> int:
        twice = 2 * exponent
        if not twice.is_number or float(twice) != int(float(twice)):
            raise DeclarationError(
                f"the update raises to the power {exponent} in '{whole}'; expected a whole or half "
                "number (for any other, write exp(power * log(base)) with a positive base)"
            )
        count, half = divmod(int(float(twice)), 2)
        square = self.lower(base)
        values = [self.emit("sqrt", square)] if half else []
        while count:
            if count & 1:
                values.append(square)
            count >>= 1
            if count:
                square = self.emit("mul", square, square)
        return self._multiply(values)


def compile_program(symbols: Sequence[sympy.Symbol], expressions: Iterable[Expression]) -> Program:
    """Lower expressions over ``symbols`` to one program, common subexpressions shared.

    Args:
        symbols: the inputs, in order.
        expressions: the outputs, in order.

    Raises:
        DeclarationError: for an operation outside the closed set, or a foreign symbol.

    >>> x, y = sympy.symbols("x y", real=True)
    >>> print(compile_program([x, y], [sympy.tanh(x) * y, sympy.tanh(x)]))
    v0 = tanh(x)
    v1 = mul(y, v0)
    return v1, v0
    """
    replacements, reduced = sympy.cse(list(expressions), order="canonical")
    builder = _Builder(symbols)
    for symbol, expression in replacements:
        builder.numbers[symbol] = builder.lower(expression)
    outputs = tuple(builder.lower(expression) for expression in reduced)
    return Program(tuple(str(symbol) for symbol in symbols), tuple(builder.operations), outputs)
