"""Runs of single recurrent layers: all states of a forward pass, all errors of a backward one.

Autograd hands out neither the states of a compiled forward pass nor the errors at them. Here the
backends are called as they are, layer by layer, with a recurrence made over for the purpose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from longlag.gradients.parameters import names_in
from longlag.layers.recurrent import Recurrent
from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import Product
from longlag.scan import Schedule, Weights, choose
from longlag.scan.backend import Backend, Gradients, Run, Wanted
from longlag.scan.inputs import ScanInputs, drive_of, with_clock
from longlag.scan.step import TorchStep, outer, times, torch_step

EVERYTHING = Wanted()
"""A backward pass that finds all gradients."""

STATES_ONLY = Wanted(x=True, input=False, bias=False, recurrent=False, initial=True, units=False)
"""A backward pass that finds the errors of drives and states, and no gradient of a weight."""


@dataclass
class LayerRun:
    """One recurrent layer over some steps. All has time first, and no graph.

    What is run may be more than the layer's own recurrence: one with further gates, whose drives
    are zero, and whose gradients are what is looked for.

    Attributes:
        name: where the layer is in the model.
        layer: the layer.
        recurrence: what is run: that of the layer, made over.
        weights: the recurrent matrix and the unit parameters of ``recurrence``.
        x: (T, N, C), zero in the padding.
        full_drive: a = U x + b of the layer's gates, then zeros for the further ones, likewise.
        schedule: padding and resets.
        states: s_0 .. s_T, each (T + 1, N, H), zero after a sequence's own end.
        run: what the backend gave; None where the states came from elsewhere.
        after: the t after each sequence's own last step, (N, 1), where the recurrence reads it.
    """

    name: str
    layer: Recurrent
    recurrence: Recurrence
    weights: Weights
    x: Tensor
    full_drive: Tensor
    schedule: Schedule
    states: list[Tensor]
    run: Run | None = None
    after: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        self.gradients: Any = None  # Gradients, after backward
        self.deltas: list[Tensor] = []
        """dE/ds_t for t = 1 .. T, each (T, N, H), after :meth:`backward`."""

    @classmethod
    def forward(
        cls,
        name: str,
        layer: Recurrent,
        recurrence: Recurrence,
        weights: Weights,
        x: Tensor,
        state: Sequence[Tensor] | None,
        schedule: Schedule,
    ) -> "LayerRun":
        """Run the layer over x (T, N, C) from the states before it, each (N, H), and t, (N, 1),
        where the recurrence reads it; without t it begins with 0."""
        start = None
        if state is not None and len(state) > len(recurrence.states):
            *state, start = state
            start = start[..., :1]
        schedule, after = with_clock(recurrence, schedule, x, start)
        padding = None if schedule.active is None else ~schedule.active
        if padding is not None:
            x = x.masked_fill(padding, 0.0)
        with torch.no_grad():  # not detached: torch multiplies such weights in another order
            drive = drive_of(x, Weights(None, (), layer.weight_ih, layer.bias))
        if padding is not None:
            drive = drive.masked_fill(padding, 0.0)
        further = len(recurrence.gates) - len(layer.recurrence.gates)
        if further:
            zeros = drive.new_zeros((*drive.shape[:-1], further * layer.hidden_size))
            drive = torch.cat([drive, zeros], -1)
        if state is None:
            zero = x.new_zeros((*x.shape[1:-1], layer.hidden_size))
            state = [zero] * len(recurrence.states)
        layer_run = cls(name, layer, recurrence, weights, x, drive, schedule, [], None, after)
        inputs = ScanInputs(recurrence, drive, weights, list(state), schedule)
        layer_run.run = layer_run.backend.forward(inputs, True)
        layer_run.states = layer_run.run.states
        if padding is not None and not layer_run.backend.zero_padding:
            gone = torch.cat([torch.zeros_like(padding[:1]), padding])
            layer_run.states = [path.masked_fill(gone, 0.0) for path in layer_run.run.states]
        return layer_run

    @cached_property
    def backend(self) -> Backend:
        """What runs the layer: the compiled kernels, or the explicit backward pass in PyTorch."""
        return choose(self.layer.backend, self.x, self.name or "the layer", plain=False)

    @property
    def step(self) -> TorchStep:
        """The layer's own recurrence in PyTorch."""
        return torch_step(self.layer.recurrence)

    @property
    def steps(self) -> int:
        """T."""
        return self.full_drive.shape[0]

    @property
    def front(self) -> torch.Size:
        """(N,) or (R, N)."""
        return self.full_drive.shape[1:-1]

    @property
    def drive(self) -> Tensor:
        """a = U x + b of the layer's own gates, (T, N, G H)."""
        return self.full_drive[..., : self._own]

    @property
    def _own(self) -> int:
        return len(self.layer.recurrence.gates) * self.layer.hidden_size

    @property
    def output(self) -> Tensor:
        """What the layer puts out, (T, N, H)."""
        return self.states[self.step.output][1:]

    @property
    def visited(self) -> list[Tensor]:
        """The states as the backend left them: :attr:`states`, but for the padding."""
        return self.states if self.run is None else self.run.states

    @property
    def final(self) -> list[Tensor]:
        """What is carried on after each sequence's own last step: the states, (N, H), and t."""
        assert self.run is not None
        return [*self.run.final, *self.after]

    def send_back(self, errors: Sequence[Tensor | None], wanted: Wanted) -> Gradients:
        """The gradients of ``recurrence``.

        Args:
            errors: of the output, (T, N, H), as far as it does not come from this layer's later
                steps, zero in the padding; then of each final state, (N, H). None for zeros.
            wanted: which gradients to find.
        """
        run = Run(self.states, []) if self.run is None else self.run
        inputs = ScanInputs(self.recurrence, self.full_drive, self.weights, schedule=self.schedule)
        return self.backend.backward(inputs, run, errors, wanted)

    def backward(self, d_output: Tensor, wanted: Wanted) -> Tensor:
        """Send the error back through a probed recurrence; returns that of the drive, (T, N, G H).

        Args:
            d_output: dE/dh_t, as for :meth:`send_back`.
            wanted: of the matrices and unit parameters, which gradients to find.
        """
        wanted = wanted._replace(
            recurrent=wanted.recurrent and self.weights.recurrent is not None,
            units=wanted.units and bool(self.weights.units),
        )
        self.gradients = self.send_back((d_output, *[None] * len(self.states)), wanted)
        d_drive = self.gradients.x
        self.deltas = list(d_drive[..., self._own :].split(self.layer.hidden_size, -1))
        return d_drive[..., : self._own]

    def before(self, block: slice = slice(None)) -> list[Tensor]:
        """s_{t-1} of some steps as the step reads it: zero where it is reset."""
        states = [path[:-1][block] for path in self.states]
        if self.schedule.keep is None:
            return states
        return [state.masked_fill(~self.schedule.keep[block], 0.0) for state in states]

    def reads(self, product: Product, block: slice = slice(None)) -> Tensor:
        """What a product of the layer's recurrence reads in some steps, (T, N, H)."""
        states = [path[1:][block] for path in self.states] if product.new else self.before(block)
        return self.step.read(product, states, None)

    def clock(self, block: Any) -> Tensor | None:
        """t of some steps, by whatever indexes (T, N, 1); None where the recurrence reads none."""
        return None if self.schedule.clock is None else self.schedule.clock[block]

    def partials(self, block: slice) -> dict[tuple[int, Any], Tensor]:
        """The pointwise derivatives of each new state of some steps; see `TorchStep.partials`."""
        step, weights = self.step, self.weights
        return step.partials(
            self.drive[block], self.before(block), step.blocks(weights), weights.units, None,
            self.clock(block),
        )  # fmt: skip

    def apart_from_stages(self) -> list[Tensor]:
        """The errors :attr:`deltas` of a joint run with the other states of the step held: without
        what products of new values send back within the step."""
        deltas, inner = list(self.deltas), self.step.lowered.inner
        if not inner:
            return deltas
        with torch.no_grad():
            blocks, partials = self.step.blocks(self.weights), self.partials(slice(None))
            by_drives = self.step.stacked(partials, deltas[0])
            for product in inner:
                sent = self.step.sent_within(product, by_drives, self.deltas, blocks)
                if sent is not None:
                    deltas[product.source] = deltas[product.source] - sent
        return deltas

    def by_drives(self, partials: dict, deltas: Sequence[Tensor]) -> Tensor:
        """The errors of all drives, (T, N, drives, H), in the order of `drive_symbols`.

        Args:
            partials: from :meth:`partials`.
            deltas: the errors of the states of the same steps; or what goes in their place.
        """
        symbols = self.layer.recurrence.drive_symbols
        return torch.stack([self.by_symbol(partials, deltas, symbol) for symbol in symbols], -2)

    def by_symbol(self, partials: dict, deltas: Sequence[Tensor], symbol: Any) -> Tensor:
        """The error of one argument of the update, (T, N, H); see :meth:`by_drives`."""
        total = None
        for number, delta in enumerate(deltas):
            if (number, symbol) in partials:
                part = delta * partials[number, symbol]
                total = part if total is None else total.add_(part)
        return torch.zeros_like(deltas[0]) if total is None else total

    def weight_gradients(self, d_drive: Tensor) -> dict[str, Tensor]:
        """The gradients of the layer's parameters by their names, after :meth:`backward`.

        Args:
            d_drive: what :meth:`backward` gave.
        """
        replicated = self.layer.replicas is not None
        gradients = {"weight_ih": outer(d_drive, self.x, replicated)}
        if self.layer.bias is not None:
            gradients["bias"] = d_drive.sum((0, -2))
        if self.gradients.recurrent is not None:
            gradients["weight_hh"] = self.gradients.recurrent
        units = [unit.squeeze(-2).unsqueeze(0) for unit in self.gradients.units or ()]
        gradients |= {name: by.squeeze(0) for name, by in self.by_unit(units).items()}
        return gradients

    def by_unit(self, d_units: Sequence[Tensor]) -> dict[str, Tensor]:
        """From errors of the unit parameters as the update reads them to what the layer trains.

        Args:
            d_units: one (M, H) per unit parameter of the recurrence, M errors at once.

        Returns:
            (M, .) by the parameter's name in the layer, such as `leak_raw`.
        """
        own = {name: p for name, p in self.layer.named_parameters() if p.requires_grad}
        sums: dict[str, Tensor] = {}
        for unit, errors in zip(self.layer.recurrence.units, d_units, strict=True):
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
                    sums[name] = sums[name] + by if name in sums else by
        return sums


def weights_of(layer: Recurrent) -> Weights:
    """The recurrent matrix and the unit parameters of a layer, without a graph."""
    units = tuple(layer.unit(n).detach().unsqueeze(-2) for n in layer.recurrence.units)
    recurrent = None if layer.weight_hh is None else layer.weight_hh.detach()
    rounded = layer.weights is not None
    return Weights(recurrent, units, entries=layer.entries, bfloat16=rounded)


def send_back(
    layers: Sequence[LayerRun],
    d_output: Tensor,
    wanted: Wanted,
    model: nn.Module | None = None,
    totals: dict[str, Tensor] | None = None,
) -> None:
    """Send the error of the top layer's output back; see :meth:`ModelRun.backward`."""
    with torch.no_grad(), torch.autocast(d_output.device.type, enabled=False):
        for run in reversed(layers):
            d_drive = run.backward(d_output, wanted)
            if model is not None and totals is not None:
                add_by_name(model, run.layer, run.weight_gradients(d_drive), totals)
            if run is not layers[0]:
                d_output = times(d_drive, run.layer.weight_ih)


def add_by_name(
    model: nn.Module, layer: Recurrent, gradients: dict[str, Tensor], totals: dict[str, Tensor]
) -> None:
    """Add gradients by a layer's names to totals by the model's names, of trained parameters."""
    for own, name in names_in(model, layer).items():
        if own in gradients:
            by = gradients[own]
            totals[name] = totals[name] + by if name in totals else by
