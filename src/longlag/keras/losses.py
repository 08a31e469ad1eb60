"""Keras' losses as pieces of a compiled step: from y = V h + b to the loss and dE/dy.

What Keras does in two layers or arguments, an activation and a loss that reads what it puts out, is
one function of y here. Probabilities are clipped to [eps, 1 - eps] as in Keras, whose loss has no
gradient beyond. The mean is over sequences and steps, and over outputs where Keras' is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from llvmlite import ir

from longlag.scan.cpu import math
from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.math_values import Arithmetic
from longlag.training.compiled.head import RowLoss, Writing
from longlag.training.compiled.network import Unfit
from longlag.training.compiled.piece import DOUBLE


class KerasLoss(RowLoss):
    """A loss of Keras behind an activation of Keras, whose outputs are left in y."""

    @property
    def classes(self) -> bool:
        """Whether an answer is the number of a class, else K numbers."""
        return False

    @property
    def unit(self) -> bool:
        """Whether answers must lie in [0, 1]."""
        return False


@dataclass(frozen=True)
class CrossEntropy(KerasLoss):
    r"""``categorical_crossentropy`` and ``sparse_categorical_crossentropy``.

    .. math::
        q = softmax(y),\quad E = -\sum_k t_k \log clip(q_k),\quad
        dE/dy = q \sum_k t_k m_k - t \odot m

    with m 1 where nothing was clipped. From logits there is no clipping, and y stays.

    Args:
        sparse: whether an answer is the number of the one class whose t is 1.
        logits: whether the outputs are y, else softmax(y).
        epsilon: of Keras.
    """

    sparse: bool
    logits: bool
    epsilon: float

    @property
    def classes(self) -> bool:  # noqa: D102
        return self.sparse

    def write(self, code: Writing, p: Value, target: Value) -> None:  # noqa: D102
        b, arg, v = code.b, code.arg, Arithmetic(code.b, code.vector)
        row = code.at(code.y, code.times(p, arg["K"]))
        one, zero = (ir.Constant(code.vector, [n] * code.lanes) for n in (1.0, 0.0))
        largest, sums, kept, loss = (code.variable(code.vector) for _ in range(4))
        b.store(code.load(row), largest)
        for place in (sums, kept, loss):
            b.store(zero, place)

        def add(place: Value, value: Value, among: Value) -> None:
            b.store(b.fadd(b.load(place), b.select(among, value, zero)), place)

        def answers(start: Value) -> Value:
            if not self.sparse:
                answer = code.at(code.numbers("target"), code.times(target, arg["K"]), start)
                return code.load(answer)
            wanted = code.splat(code.read(code.numbers("target", I64), target))
            output = b.add(code.lane_numbers(), code.splat(start))
            return b.select(b.icmp_signed("==", output, wanted), one, zero)

        def compare(n: Value, start: Value) -> None:
            value, known = code.load(code.at(row, start)), b.load(largest)
            b.store(b.select(b.fcmp_ordered(">", value, known), value, known), largest)

        code.each_vector(compare)
        most = code.splat(code.largest(b.load(largest)))

        def power(n: Value, start: Value) -> None:
            value = math.emit(b, "exp", b.fsub(code.load(code.at(row, start)), most))
            code.store(value, code.place(n, p))
            add(sums, value, code.fresh(n, start))

        code.each_vector(power)
        total = code.total_of(sums)
        inverse = code.splat(b.fdiv(ir.Constant(code.scalar, 1.0), total))
        above = b.fadd(most, code.splat(math.emit(b, "log", total)))

        def share(n: Value, start: Value) -> None:
            place, answer, fresh = code.place(n, p), answers(start), code.fresh(n, start)
            q = b.fmul(code.load(place), inverse)
            code.store(q, place)
            if self.logits:
                log = b.fsub(code.load(code.at(row, start)), above)
                add(kept, answer, fresh)
            else:
                clipped = _clipped(v, q, self.epsilon)
                log = math.emit(b, "log", clipped)
                inside = b.fcmp_ordered("==", clipped, q)
                add(kept, b.select(inside, answer, zero), fresh)
            add(loss, v.neg(b.fmul(answer, log)), fresh)

        code.each_vector(share)
        weight = code.splat(code.total_of(kept))

        def error(n: Value, start: Value) -> None:
            place, answer = code.place(n, p), answers(start)
            q = code.load(place)
            if not self.logits:
                inside = b.fcmp_ordered("==", _clipped(v, q, self.epsilon), q)
                answer = b.select(inside, answer, zero)
                code.store(q, code.at(row, start))
            code.store(b.fsub(b.fmul(q, weight), answer), place)

        code.each_vector(error)
        b.store(b.fadd(b.load(code.total), code.widened(code.total_of(loss))), code.total)
        b.store(b.fadd(b.load(code.due), ir.Constant(DOUBLE, 1.0)), code.due)


def _clipped(v: Arithmetic, q: Value, epsilon: float) -> Value:
    """q within [eps, 1 - eps]; a q that is no number stays."""
    b = v.builder
    low, high = v.value(epsilon), v.value(1 - epsilon)
    q = b.select(b.fcmp_ordered("<", q, low), low, q)
    return b.select(b.fcmp_ordered(">", q, high), high, q)


@dataclass(frozen=True)
class Elementwise(KerasLoss):
    """The mean over outputs of a loss of each.

    Args:
        loss: ``"mse"``, ``"mae"`` or ``"bce"``.
        activation: what makes the outputs of y, one of :data:`ACTIVATIONS`.
        logits: of ``"bce"``: whether the outputs are logits, else probabilities.
        epsilon: of Keras.
    """

    loss: str
    activation: str
    logits: bool
    epsilon: float

    @property
    def unit(self) -> bool:  # noqa: D102
        return self.loss == "bce"

    def write(self, code: Writing, p: Value, target: Value) -> None:  # noqa: D102
        b, outputs, v = code.b, code.arg["K"], Arithmetic(code.b, code.vector)
        row = code.at(code.y, code.times(p, outputs))
        wanted = code.at(code.numbers("target"), code.times(target, outputs))
        of_row = code.variable(code.vector)
        b.store(code.zero(), of_row)

        def one(n: Value, start: Value) -> None:
            put_out, slope = ACTIVATIONS[self.activation](v, code.load(code.at(row, start)))
            loss, error = self._of(v, put_out, code.load(code.at(wanted, start)))
            code.store(error if slope is None else v.mul(error, slope), code.place(n, p))
            counted = b.select(code.fresh(n, start), loss, code.zero())
            b.store(b.fadd(b.load(of_row), counted), of_row)

        code.each_vector(one)

        def put(n: Value, start: Value) -> None:
            place = code.at(row, start)
            fresh = code.fresh(n, start)  # what two vectors share was put by the first
            value = code.load(place)
            put_out, _ = ACTIVATIONS[self.activation](v, value)
            code.store(b.select(fresh, put_out, value), place)

        if self.activation != "linear":
            code.each_vector(put)
        total, due = code.widened(code.total_of(of_row)), b.sitofp(outputs, DOUBLE)
        b.store(b.fadd(b.load(code.total), total), code.total)
        b.store(b.fadd(b.load(code.due), due), code.due)

    def _of(self, v: Arithmetic, y: Value, t: Value) -> tuple[Value, Value]:
        """The loss and its gradient by what is put out; of probabilities, by y."""
        b, difference = v.builder, v.sub(y, t)
        if self.loss == "mse":
            return v.mul(difference, difference), v.add(difference, difference)
        if self.loss == "mae":
            return math.emit(b, "abs", difference), math.emit(b, "sign", difference)
        one = v.value(1.0)
        if self.logits:
            sigmoid = math.emit(b, "sigmoid", y)
            small = math.emit(b, "exp", v.neg(math.emit(b, "abs", y)))
            loss = v.sub(math.emit(b, "relu", y), v.mul(y, t))
            return v.add(loss, math.emit(b, "log", v.add(one, small))), v.sub(sigmoid, t)
        clipped = _clipped(v, y, self.epsilon)
        logs = [math.emit(b, "log", q) for q in (clipped, v.sub(one, clipped))]
        loss = v.neg(v.fma(t, logs[0], v.mul(v.sub(one, t), logs[1])))
        inside = b.fcmp_ordered("==", clipped, y)
        # Its slope by y, that of the logarithms and that of the sigmoid, is 1.
        return loss, b.select(inside, difference, v.value(0.0))


Activation = Callable[[Arithmetic, Value], tuple[Value, Any]]


def _sigmoid(v: Arithmetic, y: Value) -> tuple[Value, Value]:
    p = math.emit(v.builder, "sigmoid", y)
    return p, v.mul(p, v.sub(v.value(1.0), p))


def _tanh(v: Arithmetic, y: Value) -> tuple[Value, Value]:
    p = math.emit(v.builder, "tanh", y)
    return p, v.sub(v.value(1.0), v.mul(p, p))


def _relu(v: Arithmetic, y: Value) -> tuple[Value, Value]:
    above = v.builder.fcmp_ordered(">", y, v.value(0.0))
    slope = v.builder.select(above, v.value(1.0), v.value(0.0))
    return math.emit(v.builder, "relu", y), slope


ACTIVATIONS: dict[str, Activation] = {
    "linear": lambda v, y: (y, None),
    "sigmoid": _sigmoid,
    "probability": lambda v, y: (math.emit(v.builder, "sigmoid", y), None),
    "tanh": _tanh,
    "relu": _relu,
}
"""What makes outputs of y, and its slope; ``"probability"`` is the sigmoid below ``"bce"``."""

_CLASSES: dict[str, type[keras.losses.Loss]] = {
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "mean_squared_error": keras.losses.MeanSquaredError,
    "mean_absolute_error": keras.losses.MeanAbsoluteError,
}
"""The losses that can be compiled, by the name of Keras' function."""

_ORDINARY = {
    "reduction": ("sum_over_batch_size", "mean"), "label_smoothing": (0, 0.0), "axis": (-1,),
    "ignore_class": (None,),
}  # fmt: skip
"""Arguments of Keras' losses that must be as they are by default."""


def loss_of(given: Any, activation: str) -> KerasLoss:
    """The compiled loss of what ``model.compile`` was given, behind an activation.

    Raises:
        Unfit: there is none.
    """
    if given is None or isinstance(given, (list, tuple, dict)):
        raise Unfit(f"loss is {given!r:.80}, expected one loss")
    loss: Any = keras.losses.get(given)
    name = next((n for n, kind in _CLASSES.items() if type(loss) is kind), None)
    config: dict[str, Any] = {}
    if name is not None:
        config = loss.get_config()
        for argument, usual in _ORDINARY.items():
            if argument in config and config[argument] not in usual:
                raise Unfit(f"the loss has {argument}={config[argument]!r}")
    else:
        name = next((n for n in _CLASSES if loss is getattr(keras.losses, n)), None)
    if name is None:
        raise Unfit(
            f"the loss is {getattr(loss, '__name__', type(loss).__name__)}, expected one of "
            f"{', '.join(_CLASSES)}"
        )
    logits, epsilon = bool(config.get("from_logits", False)), float(keras.config.epsilon())
    expected: tuple[str, ...] = ("linear", "sigmoid", "tanh", "relu")
    if "cross" in name:
        usual = "sigmoid" if name.startswith("binary") else "softmax"
        expected = ("linear",) if logits else (usual,)
    if activation not in expected:
        raise Unfit(
            f"the outputs have the activation {activation!r} below {name}"
            f"{' of logits' if logits else ''}, expected {' or '.join(map(repr, expected))}"
        )
    if name.endswith("categorical_crossentropy"):
        return CrossEntropy(name.startswith("sparse"), logits, epsilon)
    short = {"mean_squared_error": "mse", "mean_absolute_error": "mae"}.get(name, "bce")
    if short == "bce" and not logits:
        activation = "probability"
    return Elementwise(short, activation, logits, epsilon)
