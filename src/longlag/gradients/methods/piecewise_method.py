"""What the methods have in common that go back through whole sequences, at once or in pieces."""

from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from longlag.gradients.losses import as_scalar
from longlag.gradients.method import Accumulated, Backward, Loss, Options
from longlag.gradients.parameters import add_gradients, trained
from longlag.gradients.refusals import refuse_without_autograd
from longlag.layers.computed import plain_model
from longlag.layers.inputs import Inputs

Found: TypeAlias = tuple[dict[str, Tensor], Accumulated]
"""Gradients by parameter name, and the loss and the output that they are of."""


class PiecewiseMethod(ABC):
    """A method that finds the gradients of whole sequences piece by piece.

    Of one piece, which all steps are, it is one backward pass: backpropagation through time.
    """

    @abstractmethod
    def _find(self, model: nn.Module, inputs: Inputs, target: Tensor, loss: Loss) -> Found | None:
        """What is found piece by piece; None where one piece is all there is."""

    def gradients(
        self, model: nn.Module, x: Tensor, target: Tensor, loss: Loss, **options: Unpack[Options]
    ) -> dict[str, Tensor]:
        """The gradient of `loss(model(x), target)` by parameter name, with the weights as they are.

        A method that looks inside the model has the output of all steps first, and its error,
        whatever the loss is.

        Args:
            model: any module for :class:`~longlag.BPTT`, else one that can be taken apart into
                recurrence and readout; it is run in the mode (train or eval) it is in.
            x: (N, T, C).
            target: whatever `loss` takes.
            loss: `loss(output, target)`, a scalar.
            options: `lengths` (N,), passed to the model if given; `resets` (N, T) and `state`
                likewise.

        Returns:
            One tensor for each parameter that requires a gradient, of its shape and dtype; zeros
            where the loss does not depend on it. `.grad` stays as it is.

        Raises:
            TypeError: the model cannot be taken apart.
            ValueError: it reads in both directions; `lengths` or `resets` do not fit x; the loss is
                not a scalar; what else the method says.
            RuntimeError: called under `torch.no_grad()` or `torch.inference_mode()`.
        """
        refuse_without_autograd(type(self).__name__)
        inputs, plain = Inputs(x, **options), plain_model(model)
        result = self._find(plain.model, inputs, target, loss)
        if result is not None:
            return plain.by_original(result[0])
        named = trained(model)
        value = as_scalar(loss(inputs.output_of(model), target))
        if not value.requires_grad:
            return {name: torch.zeros_like(p) for name, p in named.items()}
        gradients = torch.autograd.grad(
            value, list(named.values()), allow_unused=True, materialize_grads=True
        )
        return dict(zip(named, gradients, strict=True))

    def accumulate(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        backward: Backward,
        **options: Unpack[Options],
    ) -> Accumulated:
        """Add what :meth:`gradients` finds to `.grad` through `backward`; arguments as there.

        Args:
            backward: starts the backward pass from the loss, for example `torch.Tensor.backward`.

        Returns:
            The loss and the output, cut off from the graph.

        Raises:
            TypeError, ValueError: as for :meth:`gradients`.
        """
        refuse_without_autograd(type(self).__name__)
        inputs, plain = Inputs(x, **options), plain_model(model)
        result = self._find(plain.model, inputs, target, loss)
        if result is not None:
            gradients, accumulated = result
            add_gradients(model, plain.by_original(gradients), backward)
            return accumulated
        output = inputs.output_of(model)
        value = as_scalar(loss(output, target))
        backward(value)
        return Accumulated(value.detach(), output.detach())
