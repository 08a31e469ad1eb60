"""Sparse real-time recurrent learning with the pattern of one step.

References:
    J. Menick, E. Elsen, U. Evci, S. Osindero, K. Simonyan and A. Graves (2021), "Practical real
    time recurrent learning with a sparse approximation", ICLR.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from longlag.gradients.influence.law import Law, Units
from longlag.gradients.methods.forward_mode import ForwardMethod
from longlag.layers.recurrent import Recurrent


@dataclass(frozen=True)
class SnAp1(ForwardMethod):
    r"""RTRL that keeps only the influence of each parameter on the states of its own unit.

    .. math:: M_t = D_t M_{t-1} + \frac{\partial^+ s_t}{\partial \theta}, \qquad
        D_t = \text{the part of } \frac{\partial s_t}{\partial s_{t-1}}
        \text{ from each unit to itself}

    D_t has the pointwise derivatives, and diag(W) of each product W h; it is the Jacobian of the
    recurrence in which W h sends error back along its diagonal only, so it runs in blocks on the
    same kernels. A parameter of unit i (row i of a matrix, a bias, a unit parameter) influences the
    states of unit i after one step, those of other units later; the latter is left out. Of a matrix
    that reads a new value (:class:`~longlag.LEM`) it is left out within the step too. The states
    that hold the past for delays belong to their unit, and a unit parameter that all units share to
    each of them.

    Biased: error from one unit to another is lost, except at the step at which it arises. Exact
    where errors do not go from unit to unit (:class:`~longlag.IndRNN`, leaky units without W), and
    for sequences of one step from a given state, but for such matrices. In a stack each layer keeps
    its own units, and the error of a step goes down through the layers at that step; what a lower
    layer's past did to later steps by way of the layers above is left out.

    Time a step, for N sequences, S states and P parameters of the recurrent layers: a forward and a
    backward pass, and N S P multiply-adds for the influence: a few times that of BPTT. Memory,
    whatever T is: N S P numbers, twice while they are replaced; the states of one block; the
    output.

    For online learning where RTRL costs too much. ``online`` is as for :class:`RTRL`.

    Args:
        online: whether ``fit`` updates after every step instead of after whole sequences.
        block: steps that are taken at once, >= 1; it changes rounding only. By default between 16
            and 256, the number of state numbers of the largest layer.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range.

    >>> import torch
    >>> import longlag as ll
    >>> from longlag.gradients.methods.snap import SnAp1
    >>> model = ll.SequenceModel(ll.GRU(2, 3, seed=0), 1, reduce=None, seed=1)
    >>> x, target = torch.ones(4, 50, 2), torch.zeros(4, 50, 1)
    >>> found = SnAp1().gradients(model, x, target, torch.nn.functional.mse_loss)
    >>> found["layer.weight_hh"].shape
    torch.Size([9, 3])
    """

    def _law(self, layers: Sequence[Recurrent]) -> Law:
        return Units(layers)
