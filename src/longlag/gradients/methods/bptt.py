"""Backpropagation through time.

References:
    P. J. Werbos (1990), "Backpropagation through time: what it does and how to do it",
    Proceedings of the IEEE 78(10).
    R. J. Williams and D. Zipser (1995), "Gradient-based learning algorithms for recurrent networks
    and their computational complexity", in Backpropagation: Theory, Architectures, and
    Applications.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from longlag.gradients.method import Loss
from longlag.gradients.methods.piecewise_method import PiecewiseMethod
from longlag.layers.inputs import Inputs


@dataclass(frozen=True)
class BPTT(PiecewiseMethod):
    """The exact gradient, by one backward pass over the whole sequence; the default method.

    With states s_t = phi(s_{t-1}, x_t, theta) and loss E,

        delta_t = dE/ds_t = (explicit dE/ds_t) + J_{t+1}^T delta_{t+1},   J_t = ds_t/ds_{t-1}
        dE/dtheta = sum_t (dphi_t/dtheta)^T delta_t

    Exact. Time: one backward pass, about twice the forward one. Memory: the states of all T steps.
    For sequences whose states fit into memory; each update needs the whole sequence first.

    >>> import torch
    >>> model = nn.RNN(2, 3, batch_first=True)
    >>> x, target = torch.randn(4, 5, 2), torch.zeros(4, 5, 3)
    >>> gradients = BPTT().gradients(model, x, target, nn.functional.mse_loss)
    >>> gradients["weight_hh_l0"].shape
    torch.Size([3, 3])
    """

    def _find(self, model: nn.Module, inputs: Inputs, target: Tensor, loss: Loss) -> None:
        """All steps are one piece."""
