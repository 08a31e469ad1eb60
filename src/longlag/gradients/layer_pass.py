"""Passes over single recurrent layers: all states of a forward pass, all errors of a backward one.

Autograd hands out neither the states of a compiled forward pass nor the errors at them. Here the
engines are called as they are, layer by layer, with a probed recurrence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from longlag.gradients.layers import Layer, names_in
from longlag.recurrence import Recurrence
from longlag.recurrence.probe import probed
from longlag.scan import Schedule, Weights, choose
from longlag.scan.backend import Backend, Gradients, Run, Wanted
from longlag.scan.inputs import drive_of
from longlag.scan.step import TorchStep, outer, times, torch_step

__all__ = [
    "EVERYTHING",
    "STATES_ONLY",
    "Pass",
    "add_by_name",
    "send_back",
]

EVERYTHING = Wanted()
"""A backward pass that finds all gradients."""

STATES_ONLY = Wanted(x=True, input=False, bias=False, recurrent=False, initial=True, units=False)
"""A backward pass that finds the errors of drives and states, and no gradient of a weight."""


@dataclass
class Pass:
    """One recurrent layer over some steps. All has time first, and no graph.

    Attributes:
        name: where the layer is in the model.
        layer: the layer.
        x: (T, N, C), zero in the padding.
        drive: a = U x + b, (T, N, G H), likewise.
        schedule: padding and resets.
        states: s_0 .. s_T, each (T + 1, N, H), zero after a sequence's own end.
        listening: the layer's recurrence, probed.
        run: what the engine gave; None where the states came from elsewhere.
    """

    name: str
    layer: Layer
    x: Tensor
    drive: Tensor
    schedule: Schedule
    states: list[Tensor]
    listening: Recurrence
    run: Run | None = None

    def __post_init__(self) -> None:
        self.gradients: Any = None  # Gradients, after backward
        self.deltas: list[Tensor] = []
        """dE/ds_t for t = 1 .. T, each (T, N, H), after :meth:`backward`."""

    @classmethod
    def forward(
        cls,
        name: str,
        layer: Layer,
        x: Tensor,
        state: Sequence[Tensor] | None,
        schedule: Schedule,
        joint: bool,
    ) -> "Pass":
        """Run the layer over x (T, N, C)."""
        if schedule.active is not None:
            x = x.masked_fill(~schedule.active, 0.0)
        drive = drive_of(x, Weights(None, (), layer.weight_ih, layer.bias))
        if schedule.active is not None:
            drive = drive.masked_fill(~schedule.active, 0.0)
        if state is None:
            zero = x.new_zeros((*x.shape[1:-1], layer.hidden_size))
            state = [zero] * len(layer.recurrence.states)
        found = cls(name, layer, x, drive, schedule, [], probed(layer.recurrence, joint))
        run = found.backend.forward(
            found.listening, found._probed_drive, found.weights, list(state), schedule, True
        )
        found.run, found.states = run, run.states
        if schedule.active is not None and not found.backend.zero_padding:
            gone = torch.cat([torch.zeros_like(schedule.active[:1]), ~schedule.active])
            found.states = [path.masked_fill(gone, 0.0) for path in run.states]
        return found

    @cached_property
    def backend(self) -> Backend:
        """What runs the layer: the compiled kernels, or the explicit backward pass in PyTorch."""
        return choose(self.layer.backend, self.x, self.name or "the layer", plain=False)

    @cached_property
    def weights(self) -> Weights:
        """The recurrent matrix and the unit parameters."""
        units = tuple(self.layer.unit(n).unsqueeze(-2) for n in self.layer.recurrence.units)
        matrix = self.layer.weight_hh
        units = tuple(unit.detach() for unit in units)
        return Weights(None if matrix is None else matrix.detach(), units)

    @property
    def step(self) -> TorchStep:
        """The recurrence, not probed, in PyTorch."""
        return torch_step(self.layer.recurrence)

    @property
    def output(self) -> Tensor:
        """What the layer puts out, (T, N, H)."""
        return self.states[self.step.output][1:]

    @property
    def _probed_drive(self) -> Tensor:
        width = len(self.layer.recurrence.states) * self.layer.hidden_size
        return torch.cat([self.drive, self.drive.new_zeros((*self.drive.shape[:-1], width))], -1)

    def backward(self, d_output: Tensor, wanted: Wanted) -> Tensor:
        """Send the error back; returns that of the drive, (T, N, G H).

        Args:
            d_output: dE/dh_t, (T, N, H), as far as it does not come from this layer's later steps;
                zero in the padding.
            wanted: of the matrices and unit parameters, which gradients to find.
        """
        recurrence, hidden, run = self.layer.recurrence, self.layer.hidden_size, self.run
        if run is None:
            run = Run(self.states, [])
        nothing = [None] * len(recurrence.states)
        wanted = wanted._replace(
            recurrent=wanted.recurrent and self.weights.recurrent is not None,
            units=wanted.units and bool(self.weights.units),
        )
        found: Gradients = self.backend.backward(
            self.listening, self._probed_drive, self.weights, run, self.schedule,
            (d_output, *nothing), wanted,
        )  # fmt: skip
        assert found.x is not None
        own = len(recurrence.gates) * hidden
        self.gradients = found
        self.deltas = list(found.x[..., own:].split(hidden, -1))
        return found.x[..., :own]

    def before(self, block: slice) -> list[Tensor]:
        """s_{t-1} of some steps as the step reads it: zero where it is reset."""
        states = [path[block.start : block.stop] for path in self.states]
        if self.schedule.keep is None:
            return states
        return [state.masked_fill(~self.schedule.keep[block], 0.0) for state in states]

    def partials(self, block: slice) -> dict[tuple[int, Any], Tensor]:
        """The pointwise derivatives of each new state of some steps; see `TorchStep.partials`."""
        step, weights = self.step, self.weights
        return step.partials(
            self.drive[block], self.before(block), step.blocks(weights), weights.units, None
        )

    def by_drives(self, partials: dict, deltas: Sequence[Tensor]) -> Tensor:
        """The errors of all drives, (T, N, drives, H), in the order of `drive_symbols`.

        Args:
            partials: from :meth:`partials`.
            deltas: the errors of the states of the same steps; or what goes in their place.
        """
        symbols = self.layer.recurrence.drive_symbols
        return torch.stack([self.by_symbol(partials, deltas, each) for each in symbols], -2)

    def by_symbol(self, partials: dict, deltas: Sequence[Tensor], symbol: Any) -> Tensor:
        """The error of one argument of the update, (T, N, H); see :meth:`by_drives`."""
        found = None
        for number, delta in enumerate(deltas):
            if (number, symbol) in partials:
                part = delta * partials[number, symbol]
                found = part if found is None else found.add_(part)
        return torch.zeros_like(deltas[0]) if found is None else found

    def weight_gradients(self, d_drive: Tensor) -> dict[str, Tensor]:
        """The gradients of the layer's parameters by their names, after :meth:`backward`.

        Args:
            d_drive: what :meth:`backward` gave.
        """
        replicated = self.layer.replicas is not None
        found = {"weight_ih": outer(d_drive, self.x, replicated)}
        if self.layer.bias is not None:
            found["bias"] = d_drive.sum((0, -2))
        if self.gradients.recurrent is not None:
            found["weight_hh"] = self.gradients.recurrent
        units = [unit.squeeze(-2).unsqueeze(0) for unit in self.gradients.units or ()]
        found |= {name: by.squeeze(0) for name, by in self.by_unit(units).items()}
        return found

    def by_unit(self, d_units: Sequence[Tensor]) -> dict[str, Tensor]:
        """From errors of the unit parameters as the update reads them to what the layer trains.

        Args:
            d_units: one (M, H) per unit parameter of the recurrence, M errors at once.

        Returns:
            (M, .) by the parameter's name in the layer, such as `leak_raw`.
        """
        own = {name: p for name, p in self.layer.named_parameters() if p.requires_grad}
        given = zip(self.layer.recurrence.units, d_units, strict=True)
        found: dict[str, Tensor] = {}
        for unit, errors in given:
            with torch.enable_grad():
                value = self.layer.unit(unit)
            if not value.requires_grad:
                continue
            for name, parameter in own.items():
                (by,) = torch.autograd.grad(
                    value, parameter, errors, allow_unused=True, retain_graph=True,
                    is_grads_batched=True,
                )  # fmt: skip
                if by is not None:
                    found[name] = found[name] + by if name in found else by
        return found


def send_back(
    layers: Sequence[Pass],
    d_output: Tensor,
    wanted: Wanted,
    model: nn.Module | None = None,
    totals: dict[str, Tensor] | None = None,
) -> None:
    """Send the error of the top layer's output back; see :meth:`ModelPass.backward`."""
    with torch.no_grad(), torch.autocast(d_output.device.type, enabled=False):
        for each in reversed(layers):
            d_drive = each.backward(d_output, wanted)
            if model is not None and totals is not None:
                add_by_name(model, each.layer, each.weight_gradients(d_drive), totals)
            if each is not layers[0]:
                d_output = times(d_drive, each.layer.weight_ih)


def add_by_name(
    model: nn.Module, layer: Layer, found: dict[str, Tensor], totals: dict[str, Tensor]
) -> None:
    """Add gradients by a layer's names to totals by the model's names, of trained parameters."""
    for own, name in names_in(model, layer).items():
        if own in found:
            by = found[own]
            totals[name] = totals[name] + by if name in totals else by
