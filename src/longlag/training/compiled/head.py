"""The head of a network: readout, loss, and the error that goes back from there.

For P rows h of H numbers, which are the sequences or every step of them, perhaps beside rows x of C
inputs, and K outputs:

    y = phi(V h + D x + b),   E = (sum of losses where an error is due) / (how many such places)
    dE/da with a = V h + D x + b,   dV = da^T h,   dD = da^T x,   db = sum of da,   dh = V^T da

The products are those of `product`; errors lie in panels.
"""

import functools
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from longlag.batch import IGNORED_CLASS
from longlag.scan.cpu import math
from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.math_values import Arithmetic, constant
from longlag.training.compiled.piece import DOUBLE, Compiled
from longlag.training.compiled.product import Products, Sizes

LOSSES = ("cross_entropy", "logistic", "mse", "mae", "quantile")
"""The losses of `fit` that there are here."""

SUMS = ("half_squares", "class_sum")
"""Further ones: sums over outputs and steps, on average over sequences: of half the squares of
errors, and of cross-entropies."""

CLASSES = ("cross_entropy", "class_sum")
"""Those whose targets are classes."""

LOGITS = (*CLASSES, "logistic")
"""Those of which phi must be the identity."""

ACTIVATIONS = ("identity", "sigmoid", "tanh")
"""What phi may be; of classes the identity alone."""

_NAMES = "H K P h weight bias packed y zero pack drive"
_NAMES_OF_INPUT = " C x direct no_bias packed_direct y_direct"
_NAMES_OF_INPUT_ERRORS = " d_direct sums_direct"
_NAMES_OF_ERRORS = (
    " clock N steps since panels sums d_weight d_bias target order d_h where loss outer_input "
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
        loss: one of :data:`LOSSES` or :data:`SUMS`, or one's own; None for the outputs alone.
        inputs: H.
        outputs: K.
        direct: C; 0 where there is no D.
        activation: phi.
        weighted: whether classes have weights, or labels that hold.
        shared: whether sequences have weights.
        level: alpha, of "quantile".
        networks: whose numbers lie side by side.
    """

    double: bool
    loss: str | RowLoss | None
    inputs: int
    outputs: int
    direct: int = 0
    activation: str = "identity"
    weighted: bool = False
    shared: bool = False
    level: float = 0.0
    networks: int = 1

    @property
    def sizes(self) -> Sizes:
        """Those of the product with V."""
        return Sizes(self.double, self.inputs, self.outputs, self.networks)


@functools.cache
def head(facts: Head) -> Compiled:
    """The whole head, from h to dh and the gradients of the readout.

    ``order`` has N numbers of sequences for each update, ``target`` for each sequence as many
    targets as there are ``steps``; row t N + n of h is step t of sequence n. ``where`` has the
    places of the rows in ``d_h``, ``zero`` is the list (0,). ``loss`` gets E, a double; of steps
    before ``since`` no error goes back. ``weights`` has a number for each class, or for each label
    that holds; ``shares`` one for each sequence.
    """
    code = Writing(facts)
    code.outputs()
    if facts.loss is not None:
        code.errors()
        code.gradients()
    return code.finish()


class Writing(Products):
    """A head under construction.

    Attributes:
        y: where the outputs lie; dE/dy goes to the panels.
        total, due: doubles that are added up over the rows: of the losses, of how many they are.
        share: what the sequence of the present row counts for, where sequences have weights.
    """

    def __init__(self, facts: Head) -> None:
        names = _NAMES + _NAMES_OF_INPUT * bool(facts.direct)
        if facts.loss is not None:
            names += _NAMES_OF_ERRORS + _NAMES_OF_INPUT_ERRORS * bool(facts.direct)
            names += " weights" * facts.weighted + " shares" * facts.shared
        super().__init__("longlag_head", names, facts.sizes)
        self.facts = facts
        self.share: Value | None = None
        if facts.loss is None:
            return
        self.total, self.due = self.variable(self.wide), self.variable(self.wide)
        self.wide_total = self.variable(self.wide_vector)
        self.wide_due = self.variable(self.wide_vector)
        self.y = self.numbers("y")

    def outputs(self) -> None:
        """y = phi(V h + D x + b)."""
        self.product("weight", "packed", "h", "H", "bias", "y")
        if self.facts.direct:
            self.product("direct", "packed_direct", "x", "C", "no_bias", "y_direct")
        if not self.facts.direct and self.facts.activation == "identity":
            return
        y, other = self.numbers("y"), self.facts.direct and self.numbers("y_direct")
        # In whole vectors: behind the last number there is room.
        with self.loop(self.i64(0), self.times(self.arg["P"], self.arg["K"]), self.lanes) as k:
            value = self.load(self.at(y, k))
            if other:
                value = self.b.fadd(value, self.load(self.at(other, k)))
            if self.facts.activation != "identity":
                value = math.emit(self.b, self.facts.activation, value)
            self.store(value, self.at(y, k))

    def errors(self) -> None:
        """The loss, and dE/dy in panels; its sum over the rows is the last row of the sums."""
        b, arg = self.b, self.arg
        for place in (self.total, self.due):
            b.store(constant(self.wide, 0.0), place)
        for place in (self.wide_total, self.wide_due):
            b.store(constant(self.wide_vector, 0.0), place)
        order = self.at(self.order(), self.times(self.clock(), arg["N"]))
        loss = self.facts.loss
        if isinstance(loss, RowLoss):
            write = functools.partial(loss.write, self)
        else:
            write = self._class_row if loss in CLASSES else self._number_row
        with (
            self.loop(self.i64(0), arg["steps"]) as t,
            self.loop(self.i64(0), arg["N"]) as n,
        ):
            sequence = self.read(order, n)
            if self.facts.shared:
                self.share = self.look_up(self.table("shares"), sequence)
            target = self.further(sequence, arg["steps"], t)
            write(self.plus(self.times(t, arg["N"]), n), target)
        total = b.fadd(b.load(self.total), self.total_of(self.wide_total))
        due = b.fadd(b.load(self.due), self.total_of(self.wide_due))
        least = constant(self.wide, 1.0)
        if loss in SUMS:
            due = self.same(b.sitofp(arg["N"], DOUBLE))
        elif self.facts.weighted or self.facts.shared:
            least = constant(self.wide, float(np.finfo("f8" if self.facts.double else "f4").tiny))
        due = b.select(b.fcmp_ordered("<", due, least), least, due)
        if loss == "half_squares":
            total = b.fmul(total, constant(self.wide, 0.5))
        mean = self.widened(self.narrowed(b.fdiv(total, due)))
        b.store(mean, self.numbers("loss", self.wide))
        factor = constant(self.wide, 2.0 if loss == "mse" else 1.0)
        scale = self.splat(self.narrowed(b.fdiv(factor, due)))
        lasts = [self.at(self.numbers("sums"), self.times(arg["H"], self.sizes.wide))]
        if self.facts.direct:
            place = self.times(arg["C"], self.sizes.wide)
            lasts.append(self.at(self.numbers("sums_direct"), place))

        def scaled(v: Value, start: Value) -> None:
            row_sum = self.variable(self.vector)
            b.store(self.zero(), row_sum)
            first = self.times(arg["since"], arg["N"])
            with self.loop(self.i64(0), first) as p:
                self.store(self.zero(), self.place(v, p))
            with self.loop(first, arg["P"]) as p:
                place = self.place(v, p)
                error = b.fmul(self.load(place), scale)
                self.store(error, place)
                b.store(b.fadd(b.load(row_sum), error), row_sum)
            for last in lasts:
                self.store(b.load(row_sum), self.at(last, self.times(v, self.lanes)))

        self.each_vector(scaled)

    def further(self, index: Value, factor: Value, offset: Value) -> Value:
        """index * factor + offset, of which networks may have an index each."""
        return self.b.add(self.b.mul(index, self.same(factor)), self.same(offset))

    def total_of(self, place: Value) -> Value:
        """The sum over a vector that is in a variable."""
        return self.total_over(self.b.load(place))

    def gradients(self) -> None:
        """dV, db and dh."""
        self.outer("sums", "h", "H", "d_weight")
        if self.facts.direct:
            self.outer("sums_direct", "x", "C", "d_direct")
        with self.wanted():
            self.send()

    # Rows

    def _class_row(self, p: Value, target: Value) -> None:
        """-log softmax(y)[c]: softmax(y) - (1 at c) is left in the panels."""
        b = self.b
        row = self.at(self.y, self.times(p, self.arg["K"]))
        wanted = self.look_up(self.table("target", I64), target)
        due = b.icmp_signed("!=", wanted, self.same(self.i64(IGNORED_CLASS)))
        most, sums = self.variable(self.vector), self.variable(self.vector)
        b.store(self.load(row), most)

        def compare(v: Value, start: Value) -> None:
            value, known = self.load(self.at(row, start)), b.load(most)
            b.store(b.select(b.fcmp_ordered(">", value, known), value, known), most)

        if self.sizes.vectors > 1:
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
        inverse = self.splat(b.fdiv(constant(self.scalar, 1.0), total))
        kept = self.splat(due)
        known, weight = b.select(due, wanted, self.same(self.i64(0))), self.share
        if self.facts.weighted:
            own = self.pick(self.numbers("weights"), known)
            weight = own if weight is None else b.fmul(own, weight)

        def error(v: Value, start: Value) -> None:
            place = self.place(v, p)
            share = b.fmul(self.load(place), inverse)
            output = b.add(self.lane_numbers(), self.splat(start))
            right = b.icmp_signed("==", output, self.splat(wanted))
            ones = constant(self.vector, 1.0)
            value = b.fsub(share, b.select(right, ones, self.zero()))
            if weight is not None:
                value = b.fmul(value, self.splat(weight))
            self.store(b.select(kept, value, self.zero()), place)

        self.each_vector(error)
        with b.if_then(due) if self.networks == 1 else nullcontext():
            above = b.fsub(self.pick(row, known), largest)
            loss = b.fsub(math.emit(b, "log", total), above)
            counted = constant(self.wide, 1.0)
            if weight is not None:
                loss, counted = b.fmul(loss, weight), self.widened(weight)
            nothing = constant(self.wide, 0.0)
            for place, value in ((self.total, self.widened(loss)), (self.due, counted)):
                b.store(b.fadd(b.load(place), b.select(due, value, nothing)), place)

    def _number_row(self, p: Value, target: Value) -> None:
        """A loss of each output: its gradient, or half of that of a square, is left in the
        panels."""
        b, outputs = self.b, self.arg["K"]
        row = self.at(self.y, self.times(p, outputs))
        table = self.table("target")

        def one(v: Value, start: Value) -> None:
            place = self.further(target, outputs, start)
            if self.networks > 1:
                value = self.look_up(table, place)
            else:
                value = self.load(self.at(table, place))
            due = b.fcmp_ordered("==", value, value)
            y = self.load(self.at(row, start))
            difference = b.select(due, b.fsub(y, value), self.zero())
            error, loss = self._of_output(difference, y, value, due)
            weight = self._weight_of(start, value, due)
            if weight is not None:
                error, loss = b.fmul(error, weight), b.fmul(loss, weight)
            if self.facts.activation != "identity":  # phi' by its value
                ones = constant(self.vector, 1.0)
                one_less = b.fsub(y if self.facts.activation == "sigmoid" else ones, b.fmul(y, y))
                error = b.select(due, b.fmul(error, one_less), self.zero())
            self.store(error, self.place(v, p))
            counted = b.and_(due, self.fresh(v, start))
            loss = self.widened(b.select(counted, loss, self.zero()))
            b.store(b.fadd(b.load(self.wide_total), loss), self.wide_total)
            each = constant(self.vector, 1.0) if weight is None else weight
            each = self.widened(b.select(counted, each, self.zero()))
            b.store(b.fadd(b.load(self.wide_due), each), self.wide_due)

        self.each_vector(one)

    def _weight_of(self, start: Value, t: Value, due: Value) -> Value | None:
        """What outputs of a row count for, of which t is wanted; None: all the same."""
        share = None if self.share is None else self.splat(self.share)
        if not self.facts.weighted:
            return share
        v = Arithmetic(self.b, self.vector)
        own = self.load(self.at(self.numbers("weights"), start))
        beyond = v.mul(v.sub(own, v.value(1.0)), self.b.select(due, t, self.zero()))
        weight = v.add(v.value(1.0), beyond)
        return weight if share is None else v.mul(weight, share)

    def _of_output(self, difference: Value, y: Value, t: Value, due: Value) -> tuple[Value, Value]:
        """The error and the loss of outputs y, of which t is wanted."""
        b, v, zero = self.b, Arithmetic(self.b, self.vector), self.zero()
        if self.facts.loss == "mae":
            return math.emit(b, "sign", difference), math.emit(b, "abs", difference)
        if self.facts.loss == "quantile":  # where both sides meet, torch takes their middle
            level = self.facts.level
            below, middle, above = (v.value(n - level) for n in (0.0, 0.5, 1.0))
            side = b.select(b.fcmp_ordered(">", difference, zero), above, below)
            error = b.select(b.fcmp_ordered("==", difference, zero), middle, side)
            return b.select(due, error, zero), v.mul(difference, side)
        if self.facts.loss == "logistic":
            small = math.emit(b, "exp", v.neg(math.emit(b, "abs", y)))
            loss = v.sub(math.emit(b, "relu", y), v.mul(y, t))
            loss = v.add(loss, math.emit(b, "log", v.add(v.value(1.0), small)))
            return b.select(due, v.sub(math.emit(b, "sigmoid", y), t), zero), loss
        return difference, v.mul(difference, difference)
