"""The reference backend: the recurrence step by step in plain PyTorch, differentiated by autograd.

This is the definition of correct. It takes any floating dtype and any device, and can be
differentiated twice. Every step leaves its operations in autograd's graph, so memory and time are
those of a Python loop; the other backends are for speed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from longlag.recurrence.lowered import lower
from longlag.scan.backend import Backend, Gradients, Run, Wanted
from longlag.scan.inputs import ScanInputs, Weights, unfolded
from longlag.scan.phases import in_rows
from longlag.scan.step import torch_step
from longlag.scan.trajectory import paths_of
from longlag.torch_private import transforms_active


def run_steps(inputs: ScanInputs) -> Run:
    """All states, step by step in PyTorch."""
    recurrence, _, weights, _, schedule, _ = inputs
    _, drive, initial = unfolded(inputs)
    visited = [initial, *torch_step(recurrence).run(drive, weights, initial, schedule)]
    return Run(paths_of(lower(recurrence), visited), [state.clone() for state in visited[-1]])


class Reference(Backend):
    """See the module."""

    name = "reference"
    plain = True
    dilates = True

    def unsupported(self, like: Tensor) -> None:  # noqa: D102
        return None

    def run(self, inputs: ScanInputs) -> tuple[Tensor, list[Tensor]]:
        """The output (T, N, H) and the final states, each (N, H), in autograd's graph."""
        inputs, back = in_rows(inputs)
        recurrence, _, weights, _, schedule, _ = inputs
        _, drive, initial = unfolded(inputs)
        step = torch_step(recurrence)
        states, outputs = list(initial), []
        for t, states in enumerate(step.run(drive, weights, initial, schedule)):
            output = states[step.output]
            if schedule.active is not None:
                output = output.masked_fill(~schedule.active[t], 0.0)
            outputs.append(output)
        if not outputs:  # empty, and still a part of autograd's graph
            return back(drive[..., : initial[step.output].shape[-1]], states)
        return back(torch.stack(outputs), states)

    def forward(self, inputs: ScanInputs, backward: bool) -> Run:  # noqa: D102
        return run_steps(inputs)

    def backward(
        self, inputs: ScanInputs, run: Run, gradients: Sequence[Tensor | None], wanted: Wanted
    ) -> Gradients:
        """The gradients by autograd, through a forward pass that is run again.

        Where gradients are recorded, they are differentiable expressions themselves. Of ``run``
        nothing is read.
        """
        again = torch.is_grad_enabled()

        # Views of their own: one tensor may be given twice, and an initial state may depend on the
        # weights through an earlier window; neither may add to the gradient of another argument.
        def own(tensor: Any) -> Any:
            if tensor is None:
                return None
            return tensor.view_as(tensor) if again else tensor.detach().requires_grad_()

        if transforms_active():
            return self._transformed(inputs, gradients)
        recurrence, x, weights, initial, schedule, dilation = inputs
        recurrent, units, matrix, bias, *_ = weights
        with torch.enable_grad():
            x, matrix, bias, recurrent = map(own, (x, matrix, bias, recurrent))
            initial, units = list(map(own, initial or ())), tuple(map(own, units))
            weights = weights._replace(recurrent=recurrent, units=units, input=matrix, bias=bias)
            replayed = ScanInputs(recurrence, x, weights, initial or None, schedule, dilation)
            output, final = self.run(replayed)
        pairs = [
            (result, gradient)
            for result, gradient in zip((output, *final), gradients, strict=True)
            if result.requires_grad and gradient is not None
        ]
        single = zip((x, matrix, bias, recurrent), wanted[:4], strict=True)
        asked = [tensor if want else None for tensor, want in single]
        asked += [state if wanted.initial else None for state in initial]
        asked += [unit if wanted.units else None for unit in units]
        by = torch.autograd.grad(
            [result for result, _ in pairs],
            [tensor for tensor in asked if tensor is not None and tensor.requires_grad],
            [gradient for _, gradient in pairs],
            create_graph=again,
            materialize_grads=True,
        )
        left = iter(by)
        results: list[Any] = [
            next(left) if tensor is not None and tensor.requires_grad else None for tensor in asked
        ]
        states = len(initial)
        d_x, d_matrix, d_bias, d_recurrent, *rest = results
        return Gradients(d_x, d_matrix, d_bias, d_recurrent, rest[:states], rest[states:])

    def _transformed(self, inputs: ScanInputs, gradients: Sequence[Tensor | None]) -> Gradients:
        """The same inside the transforms of torch.func, which follow no graph but their own."""
        recurrence, x, weights, initial, schedule, dilation = inputs
        recurrent, units, matrix, bias, *_ = weights
        arguments = [x, matrix, bias, recurrent, *(initial or ()), *units]
        present = [number for number, tensor in enumerate(arguments) if tensor is not None]
        states = len(initial or ())

        def put(tensors: Sequence[Tensor]) -> list[Any]:
            places = dict(zip(present, tensors, strict=True))
            return [places.get(number) for number in range(len(arguments))]

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            x, matrix, bias, recurrent, *rest = put(tensors)
            own = Weights(recurrent, tuple(rest[states:]), matrix, bias, *weights[4:])
            before = rest[:states] or None
            output, final = self.run(ScanInputs(recurrence, x, own, before, schedule, dilation))
            return output, *final

        results, pull, *_ = torch.func.vjp(run, *[arguments[number] for number in present])
        pairs = zip(results, gradients, strict=True)
        d_x, d_matrix, d_bias, d_recurrent, *rest = put(
            pull(tuple(torch.zeros_like(r) if error is None else error for r, error in pairs))
        )
        return Gradients(d_x, d_matrix, d_bias, d_recurrent, rest[:states], rest[states:])
