"""An update of Keras' ``fit`` as one compiled function: what runs it, and when Keras' own does."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from longlag.batch import Batch
from longlag.keras.chain import Chain, chain_of
from longlag.keras.layers import KerasLayer, Move
from longlag.keras.loop import as_tensor
from longlag.keras.losses import KerasLoss
from longlag.keras.metrics import Metrics
from longlag.keras.optimizers import CompiledOptimizer
from longlag.scan.cpu.passes import Noted
from longlag.training.compiled.calls import Calls
from longlag.training.compiled.cells import Cells
from longlag.training.compiled.network import Unfit
from longlag.training.compiled.piece import Compiled, Piece
from longlag.training.compiled.program import Program

_SIZES = 8
"""Shapes of a batch whose memory is kept."""


@functools.cache
def turn(double: bool, adds: bool) -> Compiled:
    """target[c, r] = source[r, c], of R rows and C columns; or added to it."""
    code = Piece("longlag_turn", "source target R C", double, 1)
    source, target = code.numbers("source"), code.numbers("target")
    rows, columns = code.arg["R"], code.arg["C"]
    with (
        code.loop(code.i64(0), columns) as column,
        code.loop(code.i64(0), rows) as row,
    ):
        value = code.read(source, code.times(row, columns), column)
        place = code.at(target, code.times(column, rows), row)
        if adds:
            value = code.b.fadd(code.b.load(place), value)
        code.b.store(value, place)
    return code.finish()


class _KerasCalls(Calls):
    """An update of the shadow of a model, from and to the variables of Keras."""

    def __init__(self, chain: Chain, data: Batch[Tensor], cells: Cells) -> None:
        size = len(data.x)
        super().__init__(chain.shadow, chain.network, data, cells, size)
        found = self._gradients
        self._gradients, calls = {}, []
        before = [self._move(v.value, move) for v, moves in chain.moves for move in moves]
        for variable, moves in chain.moves:
            gradient = torch.zeros_like(variable.value)
            self._gradients[id(variable.value)] = gradient
            calls += [self._move_back(gradient, move, found) for move in moves]
        self._calls = [*before, *self._calls, *calls]
        self._shadow = chain.shadow

    def _move(self, variable: Tensor, move: Move) -> Noted:
        return self._turned(
            variable, move.source, move.parameter, move.target, move.rows, move.columns, move.adds
        )

    def _move_back(self, gradient: Tensor, move: Move, found: dict[int, Tensor]) -> Noted:
        there = found[id(move.parameter)]
        return self._turned(there, move.target, gradient, move.source, move.columns, move.rows)

    def _turned(
        self, source: Tensor, first: int, target: Tensor, to: int, R: int, C: int,
        adds: bool = False,
    ) -> Noted:  # fmt: skip
        size = source.element_size()
        return turn(self._double, adds).noted(
            source=source.data_ptr() + first * size, target=target.data_ptr() + to * size, R=R, C=C
        )


class Plan:
    """The compiled step of a compiled model of Keras.

    Args:
        model: of Keras, built, with an optimizer that is built.

    Raises:
        Unfit: it cannot be compiled.
    """

    def __init__(self, model: Any) -> None:
        self.chain = chain_of(model)
        loss = self.chain.network.loss
        assert isinstance(loss, KerasLoss)
        self.loss = loss
        self.optimizer = CompiledOptimizer(model.optimizer)
        self._variables = [variable for variable, _ in self.chain.moves]
        self._trainable = self._flags()
        self._trained = [v for v in self._variables if v.trainable]
        if not self._trained:
            raise Unfit("nothing of the model is trained")
        values = [v.value for v in self._trained]
        self._states = [self.optimizer.states(v) for v in self._trained]
        self._tensors = [v.value for v in self._variables]
        self._held = [*values, *(t for state in self._states for t in state.values())]
        self._dtype = values[0].dtype
        if any(t.dtype != self._dtype for t in self._held):
            raise Unfit("a state of the optimizer has another type than its variable")
        if str(self._dtype) != f"torch.{keras.config.floatx()}":
            raise Unfit(f"the variables are of {self._dtype}, expected Keras' floatx")
        for tensor in (*self._tensors, *self._held):  # an orthogonal matrix is drawn turned
            tensor.data = tensor.data.contiguous()
        for part in self.chain.parts:
            if isinstance(part, KerasLayer):
                part._set("backend_used", "cpu")
        self._values = values
        self._places = self._addresses()
        self._cells = Cells(self.optimizer.clip_norm, 1)
        self._known: dict[tuple[int, ...], tuple[Batch[Tensor], _KerasCalls, Program]] = {}

    def _flags(self) -> list[bool]:
        return [part.trainable for part in self.chain.parts] + [
            v.trainable for v in self._variables
        ]

    def _addresses(self) -> list[int]:
        return [t.data_ptr() for t in (*self._tensors, *self._held)]

    def holds(self, model: Any) -> bool:
        """Whether variables and optimizer of the model still are those that were found."""
        return (
            self.optimizer.optimizer is model.optimizer
            and self._flags() == self._trainable
            and all(v.value is t for v, t in zip(self._variables, self._tensors, strict=True))
            and self._addresses() == self._places
        )

    def update(self, x: Tensor, y: Tensor) -> tuple[float, Tensor, Tensor] | None:
        """An update on a batch: the loss, y as it was read and the outputs before it; None, and
        nothing is changed, where a number of it is not finite.

        Raises:
            Unfit: the batch does not fit.
        """
        shape = tuple(x.shape)
        y = self._answers(y, shape)
        if shape not in self._known:
            self._prepare(x, y)
        data, calls, program = self._known[shape]
        data.x.copy_(x)
        data.target.copy_(y)
        numbers = self.optimizer.coefficients(self._dtype)
        cells = self._cells
        cells.coefficients.numpy()[0, : len(numbers)] = numbers
        cells.stop.zero_()
        program.run(0, 1)
        if int(cells.stop):
            return None
        for tensor in self._held:
            increment_version(tensor)
        self.optimizer.count()
        outputs = calls.y
        if self.chain.network.reduce is None:
            outputs = outputs.view(shape[1], shape[0], -1).transpose(0, 1)
        return float(cells.losses[0]), data.target, outputs

    def _answers(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        loss, outputs = self.loss, self.chain.network.readout.output_size
        front = shape[:1] if self.chain.network.reduce == "last" else shape[:2]
        if loss.classes:
            if y.shape == (*front, 1):
                y = y.squeeze(-1)
            wanted = front
        else:
            wanted = (*front, outputs)
        y = y.to(torch.int64 if loss.classes else self._dtype)
        if y.shape != wanted:
            raise Unfit(f"y has the shape {tuple(y.shape)}, expected {wanted}")
        if loss.classes or loss.unit:
            least, most = y.aminmax()
            if not (least >= 0 and most <= (outputs - 1 if loss.classes else 1)):
                raise Unfit("y has answers out of range")
        return y

    def _prepare(self, x: Tensor, y: Tensor) -> None:
        inputs = self.chain.network.layers[0].input_size
        if x.ndim != 3 or x.shape[2] != inputs or 0 in x.shape:
            raise Unfit(f"x has the shape {tuple(x.shape)}, expected (N, T, {inputs})")
        if not (x.is_cpu and y.is_cpu) or x.is_complex() or y.is_complex():
            raise Unfit(f"x is of {x.dtype} on {x.device}, expected real numbers on the CPU")
        kind = torch.int64 if self.loss.classes else self._dtype
        data = Batch(
            torch.zeros(x.shape, dtype=self._dtype),
            torch.zeros(y.shape, dtype=kind),
        )
        with torch.no_grad():
            calls = _KerasCalls(self.chain, data, self._cells)
        calls.order[0] = torch.arange(len(x))
        program = calls.program_of([self.optimizer.rule], [self._values], [self._states])
        if len(self._known) == _SIZES:
            del self._known[next(iter(self._known))]
        self._known[tuple(x.shape)] = data, calls, program


class TrainFunction:
    """What ``fit`` of Keras calls with each batch: a compiled step, or Keras' own.

    Args:
        model: of Keras.
        own: Keras' own train function.
    """

    def __init__(self, model: Any, own: Callable[[Any], Any]) -> None:
        self._model, self._own = model, own
        self.look()

    def look(self) -> None:
        """Look at the model anew: its training begins."""
        self._plan: Plan | None = None
        self._refused = False

    def __call__(self, data: Any) -> Any:
        """A step on ``data``, a list with one batch; the metrics so far."""
        if not self._refused:
            try:
                logs = self._compiled(data[0])
            except Unfit as unfit:
                self._refused = self._plan is None
                self._note("keras", str(unfit))
            else:
                if logs is not None:
                    self._note("compiled", "")
                    return logs
        return self._own(data)

    @torch.no_grad()
    def _compiled(self, batch: Any) -> Any:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        model = self._model
        if not model.optimizer.built:
            self._note("keras", "the optimizer makes its state in the first update")
            return None
        if self._plan is None or not self._plan.holds(model):
            self._plan = None
            self._plan = Plan(model)
            self._metrics = Metrics(model, self._plan.loss.classes)
        x, y = (as_tensor(part) if isinstance(part, np.ndarray) else part for part in (x, y))
        if weights is not None or not isinstance(x, Tensor) or not isinstance(y, Tensor):
            raise Unfit("the batch has weights, or is not one x and one y")
        done = self._plan.update(x, y)
        if done is None:
            self._note("keras", "a number of the update is not finite")
            return None
        loss, target, outputs = done
        return self._metrics.update(loss, x, y, target, outputs)

    def _note(self, step: str, reason: str) -> None:
        model = self._model
        if (model.step_used, model.step_reason) != (step, reason):
            model.step_used, model.step_reason = step, reason
