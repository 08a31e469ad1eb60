"""What the methods have in common that run sequences piece by piece in time."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor, nn

from longlag.gradients.bptt import BPTT
from longlag.gradients.method import Accumulated, Backward, Loss
from longlag.gradients.parts import add_gradients

__all__ = ["Found", "PiecewiseMethod"]


class Found(NamedTuple):
    """Gradients by parameter name, with the loss and the output they are of, without a graph."""

    gradients: dict[str, Tensor]
    loss: Tensor
    output: Tensor


class PiecewiseMethod(ABC):
    """A method that finds the gradients of whole sequences piece by piece; of one piece by BPTT."""

    @abstractmethod
    def _find(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        lengths: Tensor | None,
        resets: Tensor | None,
        state: Any,
    ) -> Found | None:
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
        found = self._find(model, x, target, loss, lengths, resets, state)
        if found is not None:
            return found.gradients
        options = {"lengths": lengths, "resets": resets, "state": state}
        return BPTT().gradients(model, x, target, loss, **options)

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
        found = self._find(model, x, target, loss, lengths, resets, state)
        if found is None:
            options = {"lengths": lengths, "resets": resets, "state": state}
            return BPTT().accumulate(model, x, target, loss, backward, **options)
        add_gradients(model, found.gradients, backward)
        return Accumulated(found.loss, found.output)
