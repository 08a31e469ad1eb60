"""A forward pass of a model that keeps all states of all layers, and the way back through it.

The recurrent layers are run by :mod:`longlag.gradients.runs.layer_run`; what is read out of them,
and its error, is that of :mod:`longlag.gradients.runs.piecewise_run`.
"""

import torch
from torch import Tensor, nn

from longlag.gradients.method import Loss
from longlag.gradients.parameters import trained
from longlag.gradients.refusals import refuse_dropout
from longlag.gradients.runs.layer_run import LayerRun, send_back, weights_of
from longlag.gradients.runs.piecewise_run import OutputError, PiecewiseReadout, PiecewiseRun
from longlag.layers.base import LayerPart
from longlag.layers.checks import check_state
from longlag.layers.computed import plain_model
from longlag.layers.inputs import Inputs
from longlag.recurrence import probed
from longlag.scan.backend import Wanted
from longlag.scan.inputs import to_batch_first


class ModelRun:
    """All recurrent layers of a model over sequences, forward; then backward, layer by layer.

    Args:
        model: a recurrent layer, a stack of such, or a `SequenceModel` around either.
        inputs: as for `state_errors`.
        method: who asks, for errors.
        joint: what the errors of the states are; see :func:`longlag.recurrence.probes.probed`.

    Attributes:
        model: the same, with parameters in the place of computed weights.
        inputs: checked.
        layers: one run for each layer, the one that reads x first.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, method: str, *, joint: bool) -> None:
        self.model = model = plain_model(model).model
        self._sequences = PiecewiseRun.of(model, inputs, method)
        self.inputs = self._sequences.inputs
        parts = list(self._sequences.model.parts(method, inputs.state))
        refuse_dropout(model, method)
        self.schedule = self.inputs.schedule
        self.layers: list[LayerRun] = []
        x = self.inputs.x
        below = x.detach().movedim(-2, 0)
        begins = [_state_of(part, x) for part in parts]
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            for part, begin in zip(parts, begins, strict=True):
                layer = part.layer
                made = probed(layer.recurrence, joint)
                run = LayerRun.forward(
                    part.path, layer, made, weights_of(layer), below, begin, self.schedule
                )
                self.layers.append(run)
                below = run.output

    def read(self, loss: Loss, target: Tensor) -> OutputError:
        """The loss, and what its error is had by."""
        readout = PiecewiseReadout(self._sequences)
        with torch.no_grad():
            readout.add(self._top, 0, self.inputs.steps)
        return readout.error(loss, target)

    @property
    def _top(self) -> Tensor:
        return to_batch_first(self.layers[-1].output)

    def at(self, step: int) -> Tensor:
        """The step in each sequence, (N,): a negative one counts from the sequence's own end."""
        ends = self.inputs.ends
        return ends + step if step < 0 else torch.full_like(ends, step)

    def explicit(self, error: OutputError, totals: dict[str, Tensor] | None = None) -> Tensor:
        """What the readout sends back to the top layer's output: (T, N, H), zero in the padding.

        Args:
            error: from :meth:`read`.
            totals: gets the gradients of the readout's parameters by name, where given.
        """
        steps = self.inputs.steps
        sums = error.start({} if totals is None else trained(self.model))
        if steps and error.touches(0, steps):
            slope = error.of_piece(self._top, 0, steps, sums)
        else:
            slope = torch.zeros_like(self._top)
        if totals is not None:
            totals |= sums.by_name()
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


def _state_of(part: LayerPart, x: Tensor) -> list[Tensor] | None:
    """What a layer starts from, checked; None for zeros."""
    if part.state is None:
        return None
    argument = f"state of {part.path}" if part.path else "state"
    recurrence, hidden = part.layer.recurrence, part.layer.hidden_size
    checked = check_state(part.state, recurrence, x, hidden, argument)
    return [state.detach() for state in checked]
