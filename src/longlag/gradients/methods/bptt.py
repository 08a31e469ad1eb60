"""Backpropagation through time.

References:
    P. J. Werbos (1990), "Backpropagation through time: what it does and how to do it",
    Proceedings of the IEEE 78(10).
    R. J. Williams and D. Zipser (1995), "Gradient-based learning algorithms for recurrent networks
    and their computational complexity", in Backpropagation: Theory, Architectures, and
    Applications.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longlag.gradients.losses import as_scalar
from longlag.gradients.method import Accumulated, Backward, Loss, forward
from longlag.gradients.parameters import trained

__all__ = ["BPTT"]


@dataclass(frozen=True)
class BPTT:
    """The exact gradient, by one backward pass over the whole sequence; the default method.

    With states s_t = phi(s_{t-1}, x_t, theta) and loss E,

        delta_t = dE/ds_t = (explicit dE/ds_t) + J_{t+1}^T delta_{t+1},   J_t = ds_t/ds_{t-1}
        dE/dtheta = sum_t (dphi_t/dtheta)^T delta_t

    Exact. Time: one backward pass, about twice the forward one. Memory: the states of all T steps.
    For sequences whose states fit into memory; each update needs the whole sequence first.

    >>> model = nn.RNN(2, 3, batch_first=True)
    >>> x, target = torch.randn(4, 5, 2), torch.zeros(4, 5, 3)
    >>> gradients = BPTT().gradients(model, x, target, nn.functional.mse_loss)
    >>> gradients["weight_hh_l0"].shape
    torch.Size([3, 3])
    """

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
        """The gradient of `loss(model(x), target)` by parameter name.

        Args:
            model: any module; it is run in the mode (train or eval) it is in.
            x: (N, T, C).
            target: whatever `loss` takes.
            loss: `loss(output, target)`, a scalar.
            lengths: (N,), passed to the model if given; `resets` (N, T) and `state` likewise.

        Returns:
            One tensor for each parameter that requires a gradient, of its shape and dtype; zeros
            where the loss does not depend on it. `.grad` stays as it is.

        Raises:
            ValueError: the loss is not a scalar.
        """
        named = trained(model)
        output = forward(model, x, lengths=lengths, resets=resets, state=state)
        value = as_scalar(loss(output, target))
        if not value.requires_grad:
            return {name: torch.zeros_like(p) for name, p in named.items()}
        found = torch.autograd.grad(
            value, list(named.values()), allow_unused=True, materialize_grads=True
        )
        return dict(zip(named, found, strict=True))

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
        """Add the gradient to `.grad` through `backward`; arguments as for `gradients`.

        Args:
            backward: starts the backward pass from the loss, for example `torch.Tensor.backward`.

        Returns:
            The loss and the output, cut off from the graph.

        Raises:
            ValueError: the loss is not a scalar.
        """
        output = forward(model, x, lengths=lengths, resets=resets, state=state)
        value = as_scalar(loss(output, target))
        backward(value)
        return Accumulated(value.detach(), output.detach())
