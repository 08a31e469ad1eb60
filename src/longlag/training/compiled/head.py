"""The head of a network: linear readout, loss, and the error that goes back from there.

For P rows h of H numbers, which are the sequences or every step of them, and K outputs:

    y = V h + b,   E = (sum of losses of the places where an error is due) / (how many there are)
    dE/dy,   dV = dy^T h,   db = sum of dy,   dh = V^T dy

The products are those of the kernels, which see the readout as an input matrix: its outputs are the
units, h the input. Errors lie in panels, as there.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from longlag.batch import IGNORED_CLASS
from longlag.scan.cpu import math
from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.matrix import Matrix, matrix, send
from longlag.scan.cpu.plan import lanes_of
from longlag.scan.cpu.target import host
from longlag.training.compiled.piece import DOUBLE, Compiled, Piece, full_lanes

LOSSES = ("cross_entropy", "mse", "mae")
"""The losses of `fit` that there are here."""

_UNROLLED = 4
"""Vectors of outputs up to which the loops over them are unrolled."""

_NAMES = "H K P h weight bias packed y zero pack drive"
_NAMES_OF_ERRORS = (
    " clock N steps panels sums d_weight d_bias target order d_h where loss outer_input "
    "unpack_input send"
)


class RowLoss(ABC):
    """A loss of one's own, as instructions for one row of outputs; equal ones are compiled once."""

    @abstractmethod
    def write(self, code: Any, p: Value, target: Value) -> None:
        """Row ``p`` of y, whose answer has the number ``target``: dE/dy, but for the division by
        how many there are, is stored in the panels, and the row counted.

        Args:
            code: the head under construction, a ``Writing``.
            p, target: whole numbers.
        """


@dataclass(frozen=True)
class Head:
    """What a head is compiled for.

    Attributes:
        double: float64, else float32.
        loss: one of :data:`LOSSES`, or one's own; None for the outputs alone.
        inputs: H.
        outputs: K.
    """

    double: bool
    loss: str | RowLoss | None
    inputs: int
    outputs: int

    @property
    def lanes(self) -> int:
        """Outputs in a vector."""
        return lanes_of(host(), self.outputs, self.double)

    @property
    def vectors(self) -> int:
        """Vectors that cover the outputs."""
        return -(-self.outputs // self.lanes)

    @property
    def wide(self) -> int:
        """Numbers of a row of sums, and of an output's row of panels."""
        return self.vectors * self.lanes

    @property
    def packed(self) -> int:
        """Numbers of the packed weights."""
        return self.vectors * self._matrix.units * self.inputs

    @property
    def blocks(self) -> int:
        """Blocks of outputs, of the packed weights."""
        return -(-self.outputs // self._matrix.units)

    @property
    def _matrix(self) -> Matrix:
        return Matrix(self.double, self.lanes, min(2, self.vectors), host().registers)

    def functions(self) -> dict[str, int]:
        """The addresses of the products."""
        names = ("pack", "drive", "outer_input", "unpack_input")
        wide = min(full_lanes(self.double), 1 << max(0, self.inputs.bit_length() - 1))
        compiled = matrix(self._matrix)
        return {
            **{name: compiled[name] for name in names},
            "send": send(self.double, self.lanes, wide),
        }


@functools.cache
def head(facts: Head) -> Compiled:
    """The whole head, from h to dh and the gradients of the readout.

    ``order`` has N numbers of sequences for each update, ``target`` for each sequence as many
    targets as there are ``steps``; row t N + n of h is step t of sequence n. ``where`` has the
    places of the rows in ``d_h``, ``zero`` is the list (0,). ``loss`` gets E, a double.
    """
    code = Writing(facts)
    code.outputs()
    if facts.loss is not None:
        code.errors()
        code.gradients()
    return code.finish()


class Writing(Piece):
    """A head under construction.

    Attributes:
        y, panels: where the outputs lie, and where dE/dy goes.
        total, due: doubles that are added up over the rows: of the losses, of how many they are.
    """

    def __init__(self, facts: Head) -> None:
        names = _NAMES if facts.loss is None else _NAMES + _NAMES_OF_ERRORS
        super().__init__("longlag_head", names, facts.double, facts.lanes)
        self.facts = facts
        if facts.loss is None:
            return
        self.total, self.due = self.variable(DOUBLE), self.variable(DOUBLE)
        self.wide_total = self.variable(ir.VectorType(DOUBLE, facts.lanes))
        self.wide_due = self.variable(ir.VectorType(DOUBLE, facts.lanes))
        self.y, self.panels = self.numbers("y"), self.numbers("panels")
        self.panel = self.times(self.arg["P"], facts.lanes)

    def outputs(self) -> None:
        """y = V h + b."""
        arg, one = self.arg, self.i64(1)
        blocks = self.i64(0), self.i64(self.facts.blocks)
        self.call(
            "pack", arg["weight"], arg["packed"], arg["K"], arg["H"], one, arg["zero"], *blocks
        )  # fmt: skip
        self.call(
            "drive", arg["h"], arg["H"], arg["P"], arg["packed"], arg["H"], arg["bias"], arg["y"],
            arg["K"], arg["K"], one, *blocks,
        )  # fmt: skip

    def errors(self) -> None:
        """The loss, and dE/dy in panels; its sum over the rows is the last row of the sums."""
        b, arg = self.b, self.arg
        for place in (self.total, self.due):
            b.store(ir.Constant(DOUBLE, 0.0), place)
        zeros = ir.Constant(ir.VectorType(DOUBLE, self.lanes), [0.0] * self.lanes)
        for place in (self.wide_total, self.wide_due):
            b.store(zeros, place)
        order = self.at(self.numbers("order", I64), self.times(self.clock(), arg["N"]))
        loss = self.facts.loss
        if isinstance(loss, RowLoss):
            write = functools.partial(loss.write, self)
        else:
            write = self._class_row if loss == "cross_entropy" else self._number_row
        with (
            self.loop(self.i64(0), arg["steps"]) as t,
            self.loop(self.i64(0), arg["N"]) as n,
        ):
            target = self.plus(self.times(self.read(order, n), arg["steps"]), t)
            write(self.plus(self.times(t, arg["N"]), n), target)
        total = b.fadd(b.load(self.total), self.total_of(self.wide_total))
        due = b.fadd(b.load(self.due), self.total_of(self.wide_due))
        one = ir.Constant(DOUBLE, 1.0)
        due = b.select(b.fcmp_ordered("<", due, one), one, due)
        mean = self.widened(self.narrowed(b.fdiv(total, due)))
        b.store(mean, self.numbers("loss", DOUBLE))
        factor = ir.Constant(DOUBLE, 2.0 if loss == "mse" else 1.0)
        scale = self.splat(self.narrowed(b.fdiv(factor, due)))
        last = self.at(self.numbers("sums"), self.times(arg["H"], self.facts.wide))

        def scaled(v: Value, start: Value) -> None:
            row_sum = self.variable(self.vector)
            b.store(self.zero(), row_sum)
            with self.loop(self.i64(0), arg["P"]) as p:
                place = self.place(v, p)
                error = b.fmul(self.load(place), scale)
                self.store(error, place)
                b.store(b.fadd(b.load(row_sum), error), row_sum)
            self.store(b.load(row_sum), self.at(last, self.times(v, self.lanes)))

        self.each_vector(scaled)

    def total_of(self, place: Value) -> Value:
        """The sum over a vector that is in a variable."""
        return self.total_over(self.b.load(place))

    def gradients(self) -> None:
        """dV, db and dh."""
        arg, b = self.arg, self.b
        sums, wide = self.numbers("sums"), self.i64(self.facts.wide)
        with self.loop(self.i64(0), self.times(arg["H"], wide), self.lanes) as index:
            self.store(self.zero(), self.at(sums, index))
        self.call(
            "outer_input", arg["sums"], wide, arg["h"], arg["H"], arg["H"], arg["panels"],
            self.panel, arg["P"], arg["K"],
        )  # fmt: skip
        self.call(
            "unpack_input", arg["sums"], wide, arg["d_weight"], arg["d_bias"], arg["K"], arg["H"]
        )  # fmt: skip
        wanted = b.icmp_signed("!=", arg["d_h"], self.i64(0))
        with b.if_then(wanted):
            self.call(
                "send", arg["panels"], self.panel, arg["P"], arg["where"], arg["d_h"],
                arg["weight"], arg["K"], arg["H"], self.i64(1), arg["zero"],
            )  # fmt: skip

    # Rows

    def each_vector(self, body: Callable[[Value, Value], None]) -> None:
        """The loop over vectors of outputs: body(number, first output)."""

        def one(v: Value) -> None:
            last = self.plus(self.arg["K"], -self.lanes)
            body(v, self.smaller(self.times(v, self.lanes), last))

        if self.facts.vectors <= _UNROLLED:
            for v in range(self.facts.vectors):
                one(self.i64(v))
            return
        with self.loop(self.i64(0), self.i64(self.facts.vectors)) as v:
            one(v)

    def place(self, v: Value, p: Value) -> Value:
        """Where in the panels a vector of the outputs of row p lies."""
        return self.at(self.panels, self.times(v, self.panel), self.times(p, self.lanes))

    def fresh(self, v: Value, start: Value) -> Value:
        """Which outputs of a vector no vector before it has."""
        passed = self.b.sub(self.times(v, self.lanes), start)
        return self.b.icmp_signed(">=", self.lane_numbers(), self.splat(passed))

    def _class_row(self, p: Value, target: Value) -> None:
        """-log softmax(y)[c]: softmax(y) - (1 at c) is left in the panels."""
        b = self.b
        row = self.at(self.y, self.times(p, self.arg["K"]))
        wanted = self.read(self.numbers("target", I64), target)
        due = b.icmp_signed("!=", wanted, self.i64(IGNORED_CLASS))
        most, sums = self.variable(self.vector), self.variable(self.vector)
        b.store(self.load(row), most)

        def compare(v: Value, start: Value) -> None:
            value, known = self.load(self.at(row, start)), b.load(most)
            b.store(b.select(b.fcmp_ordered(">", value, known), value, known), most)

        if self.facts.vectors > 1:
            self.each_vector(compare)
        largest = self.largest(b.load(most))
        b.store(self.zero(), sums)

        def power(v: Value, start: Value) -> None:
            value = b.fsub(self.load(self.at(row, start)), self.splat(largest))
            value = math.emit(b, "exp", value)
            self.store(value, self.place(v, p))
            counted = b.select(self.fresh(v, start), value, self.zero())
            b.store(b.fadd(b.load(sums), counted), sums)

        self.each_vector(power)
        total = self.total_over(b.load(sums))
        inverse = self.splat(b.fdiv(ir.Constant(self.scalar, 1.0), total))
        kept = self.splat(due)

        def error(v: Value, start: Value) -> None:
            place = self.place(v, p)
            share = b.fmul(self.load(place), inverse)
            output = b.add(self.lane_numbers(), self.splat(start))
            right = b.icmp_signed("==", output, self.splat(wanted))
            ones = ir.Constant(self.vector, [1.0] * self.lanes)
            value = b.fsub(share, b.select(right, ones, self.zero()))
            self.store(b.select(kept, value, self.zero()), place)

        self.each_vector(error)
        with b.if_then(due):
            above = b.fsub(self.read(row, wanted), largest)
            loss = b.fsub(math.emit(b, "log", total), above)
            b.store(b.fadd(b.load(self.total), self.widened(loss)), self.total)
            b.store(b.fadd(b.load(self.due), ir.Constant(DOUBLE, 1.0)), self.due)

    def _number_row(self, p: Value, target: Value) -> None:
        """(y - target)^2 or |y - target|: the difference, or its sign, is left in the panels."""
        b, outputs = self.b, self.arg["K"]
        row = self.at(self.y, self.times(p, outputs))
        wanted = self.at(self.numbers("target"), self.times(target, outputs))

        def one(v: Value, start: Value) -> None:
            value = self.load(self.at(wanted, start))
            due = b.fcmp_ordered("==", value, value)
            difference = b.fsub(self.load(self.at(row, start)), value)
            difference = b.select(due, difference, self.zero())
            if self.facts.loss == "mse":
                error, loss = difference, b.fmul(difference, difference)
            else:
                error, loss = (math.emit(b, n, difference) for n in ("sign", "abs"))
            self.store(error, self.place(v, p))
            counted = b.and_(due, self.fresh(v, start))
            loss = self.widened(b.select(counted, loss, self.zero()))
            b.store(b.fadd(b.load(self.wide_total), loss), self.wide_total)
            ones = ir.Constant(self.vector, [1.0] * self.lanes)
            one = self.widened(b.select(counted, ones, self.zero()))
            b.store(b.fadd(b.load(self.wide_due), one), self.wide_due)

        self.each_vector(one)
