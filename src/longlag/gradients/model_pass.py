"""A forward pass of a model that keeps all states of all layers, and the way back through it.

The recurrent layers are run by :mod:`longlag.gradients.layer_pass`; what is read out of them, and
its error, is that of :mod:`longlag.gradients.pieces`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from longlag.gradients.layer_pass import Pass, send_back
from longlag.gradients.layers import Layer, layers_in
from longlag.gradients.method import Loss
from longlag.gradients.parts import refuse_dropout, trained
from longlag.gradients.pieces import Error, Reading, Steps, check_fit
from longlag.scan import Schedule
from longlag.scan.backend import Wanted
from longlag.scan.inputs import to_batch_first

__all__ = ["ModelPass"]


class ModelPass:
    """All recurrent layers of a model over sequences, forward; then backward, layer by layer.

    Args:
        model: a recurrent layer, a stack of such, or a `SequenceModel` around either.
        x, lengths, resets, state: as for `state_errors`.
        method: who asks, for errors.
        joint: what the errors of the states are; see :func:`longlag.recurrence.probe.probed`.

    Attributes:
        layers: one pass for each layer, the one that reads x first.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        lengths: Tensor | None,
        resets: Tensor | None,
        state: Any,
        method: str,
        *,
        joint: bool,
    ) -> None:
        self.model = model
        given = Steps.of(model, x, None, None, method)
        prefix = "layer" if given.parts.recurrent is not model else ""
        found = list(layers_in(given.parts.recurrent, prefix, state, method))
        refuse_dropout(model, method)
        lengths, resets = _checked(found[0][1], x, lengths, resets)
        self.given = Steps(given.parts, x, lengths, resets)
        self.schedule = Schedule.of(x, lengths, resets)
        self.layers: list[Pass] = []
        below = x.detach().movedim(-2, 0)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            for name, layer, begin in found:
                begin = _checked_state(name, layer, begin, x)
                run = Pass.forward(name, layer, below, begin, self.schedule, joint)
                self.layers.append(run)
                below = run.output

    def read(self, loss: Loss, target: Tensor) -> Error:
        """The loss, and what its error is had by."""
        reading = Reading(self.given)
        with torch.no_grad():
            reading.add(self._top, 0, self.given.steps)
        return reading.error(loss, target)

    @property
    def _top(self) -> Tensor:
        return to_batch_first(self.layers[-1].output)

    def at(self, step: int) -> Tensor:
        """The step in each sequence, (N,): a negative one counts from the sequence's own end."""
        x, lengths = self.given.x, self.given.lengths
        ends = torch.full(x.shape[:-2], self.given.steps, device=x.device)
        if lengths is not None:
            ends = lengths
        return ends + step if step < 0 else torch.full_like(ends, step)

    def explicit(self, error: Error, totals: dict[str, Tensor] | None = None) -> Tensor:
        """What the readout sends back to the top layer's output: (T, N, H), zero in the padding.

        Args:
            error: from :meth:`read`.
            totals: gets the gradients of the readout's parameters by name, where given.
        """
        found = error.start({} if totals is None else trained(self.model))
        if self.given.steps and error.touches(0, self.given.steps):
            slope = error.of_piece(self._top, 0, self.given.steps, found)
        else:
            slope = torch.zeros_like(self._top)
        if totals is not None:
            totals |= found.by_name()
        slope = slope.movedim(-2, 0)
        if self.schedule.active is not None:
            slope = slope.masked_fill(~self.schedule.active, 0.0)
        return slope

    def backward(
        self, d_output: Tensor, wanted: Wanted, totals: dict[str, Tensor] | None = None
    ) -> None:
        """Send the error of the top layer's output back through all layers.

        Args:
            d_output: from :meth:`explicit`.
            wanted: what each layer finds.
            totals: gets the gradients of the layers' parameters added by name, where given.
        """
        send_back(self.layers, d_output, wanted, None if totals is None else self.model, totals)


def _checked(
    layer: Layer, x: Any, lengths: Any, resets: Any
) -> tuple[Tensor | None, Tensor | None]:
    """Lengths and resets as tensors, after all has been checked."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x: got {type(x).__name__}, expected a torch.Tensor")
    front = () if layer.replicas is None else (layer.replicas,)
    if x.dim() != 3 + len(front) or x.shape[: len(front)] != front or (
        x.shape[-1] != layer.input_size
    ):  # fmt: skip
        wanted = ", ".join(map(str, (*front, "N", "T", layer.input_size)))
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected ({wanted})")
    if x.dtype != layer.weight_ih.dtype or x.device != layer.weight_ih.device:
        expected = f"{layer.weight_ih.dtype} on {layer.weight_ih.device}"
        raise TypeError(
            f"x: got {x.dtype} on {x.device}, expected {expected}, as the weights; use x.to(...)"
        )
    if lengths is not None:
        lengths = torch.as_tensor(lengths, device=x.device)
        if lengths.is_floating_point() or lengths.dtype == torch.bool:
            raise TypeError(f"lengths: got {lengths.dtype}, expected whole numbers (torch.int64)")
        lengths = lengths.long()
    if resets is not None:
        resets = torch.as_tensor(resets, device=x.device)
        if resets.dtype != torch.bool:
            raise TypeError(f"resets: got {resets.dtype}, expected torch.bool; use resets.bool()")
    check_fit(x, lengths, resets)
    return lengths, resets


def _checked_state(name: str, layer: Layer, state: Any, x: Tensor) -> list[Tensor] | None:
    """What a layer starts from; None for zeros."""
    if state is None:
        return None
    given = [state] if isinstance(state, Tensor) else state
    names, size = layer.recurrence.states, (*x.shape[:-2], layer.hidden_size)
    where = f"state of {name}" if name else "state"
    if not isinstance(given, tuple | list) or len(given) != len(names):
        came = f"{len(given)} items" if isinstance(given, tuple | list) else type(given).__name__
        raise ValueError(
            f"{where}: got {came}, expected {len(names)} tensors: ({', '.join(names)})"
        )
    for each, tensor in zip(names, given, strict=True):
        if not isinstance(tensor, Tensor) or tensor.shape != size or tensor.dtype != x.dtype:
            came = type(tensor).__name__
            if isinstance(tensor, Tensor):
                came = f"shape {tuple(tensor.shape)} of {tensor.dtype}"
            raise ValueError(
                f"{where}, {each}: got {came}, expected shape {size} of {x.dtype}: one row per "
                "sequence of x, one column per hidden unit"
            )
    return [tensor.detach() for tensor in given]
