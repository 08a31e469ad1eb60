"""Errors of many kinds sent back at once through one recurrent layer over some steps.

Everything has time first and no graph. F stands for the sequences, N or R N of them. To send c
errors back through each, a sequence is c rows of the same states side by side: one scan of F c
rows, whose products with W are as large as a processor likes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from longlag.gradients.influence.opened import own_weight
from longlag.gradients.runs.layer_run import STATES_ONLY, LayerRun, weights_of
from longlag.layers.recurrent import Recurrent
from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import lower
from longlag.scan import Schedule, Weights
from longlag.scan.connections import stored_gradient

Influence = dict[str, Tensor]
"""ds/dtheta of one layer's states and parameters, by the parameter's name in the layer: (F, rows,
K, H, Z). K: gates, wires or 1; H: the unit that a parameter belongs to; Z: C, H or 1."""


class Scope:
    """What is asked of one layer: which parameters are trained, and by which recurrence.

    Args:
        layer: the layer.
        make: from a recurrence with the names of its trained unit parameters, and whether W is
            trained, to the one that errors go back through.
    """

    def __init__(self, layer: Recurrent, make: Any) -> None:
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
            layer.recurrence.materialised, self.matrix, (*self.diagonal, *self.units)
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
        weights, recurrence = weights_of(self.layer), self.layer.recurrence
        values = dict(zip(recurrence.units, weights.units, strict=True))
        matrix = self.layer.recurrent_matrix()
        if matrix is not None:
            blocks = matrix.detach().split(self.hidden, -2)
            for number, block in enumerate(blocks):
                diagonal = block.diagonal(dim1=-2, dim2=-1)
                values[own_weight(number)] = diagonal.unsqueeze(-2)
        return weights._replace(units=tuple(values[n] for n in self.recurrence.units))

    def run(self, x: Tensor, state: Sequence[Tensor], schedule: Schedule) -> LayerRun:
        """The layer over x (T, N, C), from the states before it, each (N, H)."""
        return LayerRun.forward("", self.layer, self.recurrence, self.weights, x, state, schedule)

    @cached_property
    def slopes(self) -> dict[str, Tensor]:
        """Of each trained unit parameter, d(value)/d(stored number): (R, H), or R x 1."""
        by_unit = {}
        for name in self.units:
            stored = cast(Tensor, dict(self.layer.named_parameters())[self.stored[name]])
            with torch.enable_grad():
                # Each value comes from one stored number; where all share it, they are alike.
                value = self.layer.unit(name)
                total = (value if stored.shape == value.shape else value[..., :1]).sum()
                (slope,) = torch.autograd.grad(total, stored)
            by_unit[name] = slope.reshape(-1, slope.shape[-1])
        return by_unit

    def gradient(self, name: str, rows: Tensor) -> Tensor:
        """From (R or 1, K, H, Z) to the shape of the parameter."""
        parameter = dict(self.layer.named_parameters())[name]
        if name == "weight_hh":
            layer, matrix = self.layer, rows.flatten(-3, -2)
            return stored_gradient(layer.recurrence, layer.entries, matrix).view(parameter.shape)
        if rows.numel() != parameter.numel():  # one number for all units
            rows = rows.sum(-2)
        return rows.reshape(parameter.shape)


@dataclass
class SentErrors:
    """What errors became on their way back.

    Attributes:
        drive: of all gates of the opened recurrence, (T, F, c, gates, H).
        initial: of the states before the first step, (F, c, S, H).
    """

    drive: Tensor
    initial: Tensor


class Propagation:
    """The way back through one layer's run, for many errors of each sequence at once.

    Args:
        scope: the layer, and what is asked of it.
        run: the layer over some steps, by the recurrence of the scope.
    """

    def __init__(self, scope: Scope, run: LayerRun) -> None:
        self.scope, self.run = scope, run

    def back(self, count: int, d_output: Tensor | None, d_final: Tensor | None) -> SentErrors:
        """Send errors back through the steps.

        Args:
            count: c, errors of each sequence.
            d_output: errors of the output, (T, F, c, H), or None.
            d_final: errors of the states after the last step, (F, c, S, H), or None.
        """
        scope, front, steps = self.scope, self.run.front, self.run.steps
        rows = (*front[:-1], front[-1] * count)

        def repeated(tensor: Tensor | None) -> Any:
            """(., N, .) to (., N c, .)."""
            if tensor is None:
                return None
            tensor = tensor.unsqueeze(-2)
            shape = (*tensor.shape[:-2], count, tensor.shape[-1])
            return tensor.expand(shape).flatten(-3, -2)

        run = self.run
        if count > 1:
            run = self._over(repeated, [repeated(path) for path in run.visited])
        hidden, states = scope.hidden, len(scope.recurrence.states)
        errors: list[Any] = [None] * (1 + states)
        if d_output is not None:
            errors[0] = d_output.reshape(steps, *rows, hidden)
        if d_final is not None:
            errors[1:] = [part.reshape(*rows, hidden).contiguous() for part in d_final.unbind(-2)]
        gradients = run.send_back(errors, STATES_ONLY)
        gates = len(scope.recurrence.gates)
        total = front.numel()
        initial = torch.stack(gradients.initial, -2).view(total, count, states, hidden)
        assert gradients.x is not None
        return SentErrors(gradients.x.reshape(steps, total, count, gates, hidden), initial)

    def at_once(self, d_output: Tensor) -> Tensor:
        """The errors of the drive at the steps at which they arise, (T, F, G, H).

        Args:
            d_output: errors of the output, (T, F, H), which do not go back in time.
        """
        scope, front, steps = self.scope, self.run.front, self.run.steps

        def apart(sequence: Tensor | None) -> Any:
            """(T, N, .) to (1, T N, .): each step a sequence of its own."""
            if sequence is None:
                return None
            return sequence.movedim(0, -3).flatten(-3, -2).unsqueeze(0)

        def together(rows: Tensor) -> Tensor:
            """(1, T N, .) to (T, N, .)."""
            return rows.squeeze(0).unflatten(-2, (steps, front[-1])).movedim(-3, 0)

        states = [torch.cat([apart(path[:-1]), apart(path[1:])]) for path in self.run.visited]
        error = apart(d_output.reshape(steps, *front, scope.hidden))
        wanted = STATES_ONLY._replace(initial=False)
        gradients = self._over(apart, states).send_back([error, *[None] * len(states)], wanted)
        assert gradients.x is not None
        gates = (len(scope.recurrence.gates), scope.hidden)
        own = together(gradients.x).reshape(steps, front.numel(), *gates)
        return own[..., : len(scope.layer.recurrence.gates), :]

    def _over(self, change: Callable[[Any], Any], states: list[Tensor]) -> LayerRun:
        """The run with its sequences laid out in another way, which needs no forward pass."""
        active, keep, _, clock = self.run.schedule
        schedule = Schedule(change(active), change(keep), None, change(clock))
        drive = change(self.run.full_drive)
        return replace(self.run, full_drive=drive, schedule=schedule, states=states, run=None)

    def below(self, drive: Tensor) -> Tensor:
        """From errors of the drive, (T, F, ..., G, H), to those of x, (T, F, ..., C)."""
        layer = self.scope.layer
        own = drive[..., : len(layer.recurrence.gates), :].flatten(-2)
        if layer.replicas is None:
            return own @ layer.weight_ih.detach()
        steps, replicas, middle = self.run.steps, layer.replicas, drive.shape[2:-2]
        own = own.view(steps, replicas, -1, own.shape[-1]).transpose(0, 1)
        sent = own.flatten(1, 2) @ layer.weight_ih.detach()
        sent = sent.view(replicas, steps, -1, layer.input_size).transpose(0, 1)
        return sent.reshape(steps, drive.shape[1], *middle, layer.input_size)

    def by_parameter(self, drive: Tensor) -> Influence:
        """What errors of the drive, (T, F, c, gates, H), make of each trained parameter."""
        scope, recurrence = self.scope, self.scope.layer.recurrence
        names, influence = [gate.name for gate in scope.recurrence.gates], Influence()
        own = drive[..., : len(recurrence.gates), :]
        if "weight_ih" in scope.trained:
            influence["weight_ih"] = self._outer(own, self.run.x)
        if "bias" in scope.trained:
            influence["bias"] = own.sum(0).unsqueeze(-1)
        if scope.matrix:
            influence["weight_hh"] = self._matrix(drive)
        by_name = {n: drive[..., names.index(f"open.{n}"), :] for n in scope.units}
        for name, errors in by_name.items():
            slope = scope.slopes[name]  # (R, H)
            slope = slope.repeat_interleave(len(errors[0]) // len(slope), 0).unsqueeze(1)
            influence[scope.stored[name]] = (errors.sum(0) * slope)[:, :, None, :, None]
        if scope.diagonal:
            parts = [drive[..., names.index(f"open.{n}"), :].sum(0) for n in scope.diagonal]
            influence["weight_hh_diagonal"] = torch.stack(parts, -2).unsqueeze(-1)
        return influence

    def _outer(self, errors: Tensor, read: Tensor) -> Tensor:
        """Sum over steps of errors (T, F, c, K, H) times what was read (T, N, Z)."""
        steps, count = errors.shape[:2]
        rows = errors.reshape(steps, count, -1).permute(1, 2, 0)
        columns = read.reshape(steps, count, read.shape[-1]).transpose(0, 1)
        return torch.bmm(rows, columns).view(*errors.shape[1:], read.shape[-1])

    def _matrix(self, drive: Tensor) -> Tensor:
        """The same for W: (F, c, wires, H, H), as if all its entries were there."""
        recurrence = self.scope.layer.recurrence
        names = [gate.name for gate in self.scope.recurrence.gates]
        numbers = [
            names.index(f"open.{gate.name}" if gate.split else gate.name)
            for gate in recurrence.dense_gates
        ]
        groups, blocks = lower(recurrence).products, []
        for product in groups:
            chosen = [numbers[gate] for gate in product.gates]
            whole = chosen == list(range(drive.shape[-2]))
            errors = drive if whole else drive[..., chosen, :]
            blocks.append(self._outer(errors, self.run.reads(product)))
        order = [wire for product in groups for wire in product.wires]
        if order == list(range(len(order))):
            return blocks[0] if len(blocks) == 1 else torch.cat(blocks, -3)
        return torch.cat(blocks, -3)[..., torch.tensor(order).argsort().tolist(), :, :]
