"""One recurrent layer over some steps, and errors of many kinds sent back through it at once.

Everything has time first and no graph. F stands for the sequences, N or R N of them. To send c
errors back through each, a sequence is c rows of the same states side by side: one scan of F c
rows, whose products with W are as large as a processor likes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from longlag.gradients.influence_wires import own_weight
from longlag.gradients.layers import Layer
from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import lower
from longlag.scan import Schedule, Weights, choose
from longlag.scan.backend import Backend, Run, Wanted
from longlag.scan.inputs import drive_of
from longlag.scan.step import patterned

__all__ = ["Errors", "Influence", "Piece", "Scope"]

Influence = dict[str, Tensor]
"""ds/dtheta of one layer's states and parameters, by the parameter's name in the layer: (F, rows,
K, H, Z). K: gates, wires or 1; H: the unit that a parameter belongs to; Z: C, H or 1."""

WANTED = Wanted(x=True, input=False, bias=False, recurrent=False, initial=True, units=False)


class Scope:
    """What is asked of one layer: which parameters are trained, and by which recurrence.

    Args:
        layer: the layer.
        make: from a recurrence with the names of its trained unit parameters, and whether W is
            trained, to the one that errors go back through.
    """

    def __init__(self, layer: Layer, make: Any) -> None:
        self.layer = layer
        own = dict(layer.named_parameters())
        self.trained = {name for name, p in own.items() if p.requires_grad}
        self.stored = {
            name: f"{name}_raw" if f"{name}_raw" in self.trained else name
            for name in layer.recurrence.units
        }
        diagonal = [name for name in layer.recurrence.units if name.startswith("diagonal.")]
        self.diagonal = diagonal if "weight_hh_diagonal" in self.trained else []
        self.units = [name for name, kept in self.stored.items() if kept in self.trained]
        self.matrix = "weight_hh" in self.trained
        self.recurrence: Recurrence = make(
            layer.recurrence, self.matrix, (*self.diagonal, *self.units)
        )

    @property
    def hidden(self) -> int:
        """H."""
        return self.layer.hidden_size

    @property
    def size(self) -> int:
        """How many state numbers a sequence has: S H."""
        return len(self.layer.recurrence.states) * self.hidden

    @cached_property
    def weights(self) -> Weights:
        """The recurrent matrix and all unit parameters, those of :func:`within_units` included."""
        layer, matrix = self.layer, self.layer.weight_hh
        values: dict[str, Tensor] = {n: layer.unit(n).detach() for n in layer.recurrence.units}
        if matrix is not None:
            matrix = matrix.detach()
            blocks = matrix.split(self.hidden, -2)
            for number, wire in enumerate(layer.recurrence.wires):
                block = patterned(blocks[number], wire.pattern)
                values[own_weight(number)] = block.diagonal(dim1=-2, dim2=-1)
        return Weights(matrix, tuple(values[n].unsqueeze(-2) for n in self.recurrence.units))

    @cached_property
    def slopes(self) -> dict[str, Tensor]:
        """Of each trained unit parameter, d(value)/d(stored number): (R, H), or R x 1."""
        found = {}
        for name in self.units:
            stored = cast(Tensor, dict(self.layer.named_parameters())[self.stored[name]])
            with torch.enable_grad():
                # Each value comes from one stored number; where all share it, they are alike.
                value = self.layer.unit(name)
                total = (value if stored.shape == value.shape else value[..., :1]).sum()
                (slope,) = torch.autograd.grad(total, stored)
            found[name] = slope.reshape(-1, slope.shape[-1])
        return found

    def gradient(self, name: str, found: Tensor) -> Tensor:
        """From (R or 1, K, H, Z) to the shape of the parameter."""
        parameter = dict(self.layer.named_parameters())[name]
        if found.numel() != parameter.numel():  # one number for all units
            found = found.sum(-2)
        return found.reshape(parameter.shape)


@dataclass
class Errors:
    """What errors became on their way back.

    Attributes:
        drive: of all gates of the opened recurrence, (T, F, c, gates, H).
        initial: of the states before the first step, (F, c, S, H).
    """

    drive: Tensor
    initial: Tensor


class Piece:
    """One recurrent layer over some steps.

    Args:
        scope: the layer, and what is asked of it.
        x: (T, N, C).
        state: the states before the first step, each (N, H).
        schedule: padding and resets.
    """

    def __init__(
        self, scope: Scope, x: Tensor, state: Sequence[Tensor], schedule: Schedule
    ) -> None:
        self.scope, self.schedule = scope, schedule
        layer, recurrence = scope.layer, scope.recurrence
        self.x = self._full(x)
        drive = self._full(drive_of(self.x, Weights(None, (), layer.weight_ih, layer.bias)))
        further = len(recurrence.gates) - len(layer.recurrence.gates)
        if further:
            zeros = drive.new_zeros((*drive.shape[:-1], further * scope.hidden))
            drive = torch.cat([drive, zeros], -1)
        self.drive = drive
        self.run: Run = self.backend.forward(
            recurrence, drive, scope.weights, list(state), schedule, True
        )
        self.output_number = recurrence.states.index(recurrence.output)
        self.output = self.run.states[self.output_number][1:]
        if not self.backend.zero_padding:
            self.output = self._full(self.output)

    def _full(self, sequence: Tensor) -> Tensor:
        """Zero in the padding."""
        active = self.schedule.active
        return sequence if active is None else sequence.masked_fill(~active, 0.0)

    @cached_property
    def backend(self) -> Backend:
        """What runs the layer: compiled kernels, or the explicit backward pass in PyTorch."""
        return choose(self.scope.layer.backend, self.x, plain=False)

    @property
    def steps(self) -> int:
        """T."""
        return self.drive.shape[0]

    @property
    def front(self) -> torch.Size:
        """(N,) or (R, N)."""
        return self.drive.shape[1:-1]

    def back(self, count: int, d_output: Tensor | None, d_final: Tensor | None) -> Errors:
        """Send errors back through the steps.

        Args:
            count: c, errors of each sequence.
            d_output: errors of the output, (T, F, c, H), or None.
            d_final: errors of the states after the last step, (F, c, S, H), or None.
        """
        scope, front = self.scope, self.front
        rows = (*front[:-1], front[-1] * count)

        def repeated(tensor: Tensor | None) -> Any:
            """(., N, .) to (., N c, .)."""
            if tensor is None or count == 1:
                return tensor
            tensor = tensor.unsqueeze(-2)
            shape = (*tensor.shape[:-2], count, tensor.shape[-1])
            return tensor.expand(shape).flatten(-3, -2)

        run = self.run if count == 1 else Run([repeated(path) for path in self.run.states], [])
        schedule = Schedule(repeated(self.schedule.active), repeated(self.schedule.keep))
        hidden, states = scope.hidden, len(scope.recurrence.states)
        errors: list[Any] = [None] * (1 + states)
        if d_output is not None:
            errors[0] = d_output.reshape(self.steps, *rows, hidden)
        if d_final is not None:
            errors[1:] = [part.reshape(*rows, hidden).contiguous() for part in d_final.unbind(-2)]
        found = self.backend.backward(
            scope.recurrence, repeated(self.drive), scope.weights, run, schedule, errors, WANTED
        )
        gates = len(scope.recurrence.gates)
        total = front.numel()
        initial = torch.stack(found.initial, -2).view(total, count, states, hidden)
        assert found.x is not None
        return Errors(found.x.reshape(self.steps, total, count, gates, hidden), initial)

    def at_once(self, d_output: Tensor) -> Tensor:
        """The errors of the drive at the steps at which they arise, (T, F, G, H).

        Args:
            d_output: errors of the output, (T, F, H), which do not go back in time.
        """
        scope, front = self.scope, self.front

        def apart(sequence: Tensor | None) -> Any:
            """(T, N, .) to (1, T N, .): each step a sequence of its own."""
            if sequence is None:
                return None
            return sequence.movedim(0, -3).flatten(-3, -2).unsqueeze(0)

        def back(rows: Tensor) -> Tensor:
            """(1, T N, .) to (T, N, .)."""
            return rows.squeeze(0).unflatten(-2, (self.steps, front[-1])).movedim(-3, 0)

        states = [torch.cat([apart(path[:-1]), apart(path[1:])]) for path in self.run.states]
        schedule = Schedule(apart(self.schedule.active), apart(self.schedule.keep))
        error = apart(d_output.reshape(self.steps, *front, scope.hidden))
        found = self.backend.backward(
            scope.recurrence, apart(self.drive), scope.weights, Run(states, []), schedule,
            [error, *[None] * len(states)], WANTED._replace(initial=False),
        )  # fmt: skip
        assert found.x is not None
        gates = (len(scope.recurrence.gates), scope.hidden)
        own = back(found.x).reshape(self.steps, front.numel(), *gates)
        return own[..., : len(scope.layer.recurrence.gates), :]

    def below(self, drive: Tensor) -> Tensor:
        """From errors of the drive, (T, F, ..., G, H), to those of x, (T, F, ..., C)."""
        layer = self.scope.layer
        own = drive[..., : len(layer.recurrence.gates), :].flatten(-2)
        if layer.replicas is None:
            return own @ layer.weight_ih.detach()
        steps, replicas, middle = self.steps, layer.replicas, drive.shape[2:-2]
        own = own.view(steps, replicas, -1, own.shape[-1]).transpose(0, 1)
        found = own.flatten(1, 2) @ layer.weight_ih.detach()
        found = found.view(replicas, steps, -1, layer.input_size).transpose(0, 1)
        return found.reshape(steps, drive.shape[1], *middle, layer.input_size)

    @cached_property
    def _before(self) -> list[Tensor]:
        """s_{t-1} as W reads it: zero where it is reset."""
        states = [path[:-1] for path in self.run.states]
        if self.schedule.keep is None:
            return states
        return [state.masked_fill(~self.schedule.keep, 0.0) for state in states]

    def by_parameter(self, drive: Tensor) -> Influence:
        """What errors of the drive, (T, F, c, gates, H), make of each trained parameter."""
        scope, recurrence = self.scope, self.scope.layer.recurrence
        names, found = [gate.name for gate in scope.recurrence.gates], Influence()
        own = drive[..., : len(recurrence.gates), :]
        if "weight_ih" in scope.trained:
            found["weight_ih"] = self._outer(own, self.x)
        if "bias" in scope.trained:
            found["bias"] = own.sum(0).unsqueeze(-1)
        if scope.matrix:
            found["weight_hh"] = self._matrix(drive)
        by_name = {n: drive[..., names.index(f"open.{n}"), :] for n in scope.units}
        for name, errors in by_name.items():
            slope = scope.slopes[name]  # (R, H)
            slope = slope.repeat_interleave(len(errors[0]) // len(slope), 0).unsqueeze(1)
            found[scope.stored[name]] = (errors.sum(0) * slope)[:, :, None, :, None]
        if scope.diagonal:
            parts = [drive[..., names.index(f"open.{n}"), :].sum(0) for n in scope.diagonal]
            found["weight_hh_diagonal"] = torch.stack(parts, -2).unsqueeze(-1)
        return found

    def _outer(self, errors: Tensor, read: Tensor) -> Tensor:
        """Sum over steps of errors (T, F, c, K, H) times what was read (T, N, Z)."""
        steps, count = errors.shape[:2]
        rows = errors.reshape(steps, count, -1).permute(1, 2, 0)
        columns = read.reshape(steps, count, read.shape[-1]).transpose(0, 1)
        return torch.bmm(rows, columns).view(*errors.shape[1:], read.shape[-1])

    def _matrix(self, drive: Tensor) -> Tensor:
        """The same for W: (F, c, wires, H, H)."""
        recurrence = self.scope.layer.recurrence
        names = [gate.name for gate in self.scope.recurrence.gates]
        numbers = [
            names.index(f"open.{gate.name}" if gate.split else gate.name)
            for gate in recurrence.dense_gates
        ]
        groups, found = lower(recurrence).products, []
        for product in groups:
            chosen = [numbers[gate] for gate in product.gates]
            whole = chosen == list(range(drive.shape[-2]))
            errors = drive if whole else drive[..., chosen, :]
            part = self._outer(errors, self._before[product.source])
            if product.pattern is not None:
                part = patterned(part.flatten(-3, -2), product.pattern).view(part.shape)
            found.append(part)
        order = [wire for product in groups for wire in product.wires]
        if order == list(range(len(order))):
            return found[0] if len(found) == 1 else torch.cat(found, -3)
        return torch.cat(found, -3)[..., torch.tensor(order).argsort().tolist(), :, :]
