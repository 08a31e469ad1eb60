"""What the methods have in common that run sequences piece by piece in time."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor, nn

from longlag.gradients.method import Accumulated, Backward, Loss
from longlag.gradients.methods.bptt import BPTT
from longlag.gradients.parameters import add_gradients
from longlag.layers.inputs import Inputs

__all__ = ["Found", "PiecewiseMethod"]


class Found(NamedTuple):
    """Gradients by parameter name, with the loss and the output they are of, without a graph."""

    gradients: dict[str, Tensor]
    loss: Tensor
    output: Tensor


class PiecewiseMethod(ABC):
    """A method that finds the gradients of whole sequences piece by piece; of one piece by BPTT."""

    @abstractmethod
    def _find(self, model: nn.Module, inputs: Inputs, target: Tensor, loss: Loss) -> Found | None:
        """What is found piece by piece; None where one piece is all there is."""

    def gradients(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        state: Any = None,
    ) -> dict[str, Tensor]:
        """The gradient of `loss(model(x), target)`, the weights being as they are.

        Arguments and result are those of :meth:`BPTT.gradients`. The output of all steps is had
        first, and its error, whatever the loss is.

        Raises:
            TypeError: the model cannot be taken apart into recurrence and readout.
            ValueError: it reads in both directions; `lengths` or `resets` do not fit x; the loss is
                not a scalar; what else the method says.
        """
        inputs = Inputs(x, lengths, resets, state)
        found = self._find(model, inputs, target, loss)
        if found is not None:
            return found.gradients
        return BPTT().gradients(model, x, target, loss, **inputs.options)

    def accumulate(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        backward: Backward,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        state: Any = None,
    ) -> Accumulated:
        """Add what :meth:`gradients` finds to `.grad`; see :meth:`BPTT.accumulate`."""
        inputs = Inputs(x, lengths, resets, state)
        found = self._find(model, inputs, target, loss)
        if found is None:
            return BPTT().accumulate(model, x, target, loss, backward, **inputs.options)
        add_gradients(model, found.gradients, backward)
        return Accumulated(found.loss, found.output)
