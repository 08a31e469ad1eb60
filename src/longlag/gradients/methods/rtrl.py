"""Real-time recurrent learning: the exact gradient, forward in time.

References:
    R. J. Williams and D. Zipser (1989), "A learning algorithm for continually running fully
    recurrent neural networks", Neural Computation 1(2).
    J. Schmidhuber (1992), "A fixed size storage O(n^3) time complexity learning algorithm for fully
    recurrent continually running networks", Neural Computation 4(2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from longlag.gradients.influence.law import Joint, Law, Units
from longlag.gradients.influence.opened import keeps_to_units
from longlag.gradients.methods.forward_mode import ForwardMethod
from longlag.layers.recurrent import Recurrent


@dataclass(frozen=True)
class RTRL(ForwardMethod):
    r"""The exact gradient without a stored past: the influence of the parameters is carried along.

    .. math:: M_t = \frac{\partial s_t}{\partial \theta}
        = \frac{\partial s_t}{\partial s_{t-1}} M_{t-1} + \frac{\partial^+ s_t}{\partial \theta},
        \qquad \frac{\partial E}{\partial \theta}
        = \sum_t \frac{\partial E_t}{\partial s_t} M_t

    In blocks of B steps [a, b) it costs less and is as exact (Schmidhuber, 1992):

    .. math:: \frac{\partial E_{[a,b)}}{\partial \theta} = g + \lambda_a M_a, \qquad
        M_b = G + \frac{\partial s_b}{\partial s_a} M_a

    g and :math:`\lambda_a = \partial E_{[a,b)} / \partial s_a` come from one backward pass over the
    block with its errors; each row of G and of the Jacobian from a backward pass with a unit error
    at one number of the last state. All rows are computed at once. B = 1 is the recursion above.

    Exact: equal to BPTT, for every cell, stacks, replicas, and any loss of the whole output; of
    equations with ``stop_gradient`` it is what automatic differentiation gives.

    Time a step, for N sequences, S H state numbers and P parameters of the recurrent layers: N S H
    P multiply-adds for the rows, and N (S H)^2 P / B for the blocks, so with B of about S H a dense
    layer costs O(H^3), not O(H^4). Memory, whatever T is: the influence, N S H P numbers, twice
    while it is replaced; the rows of one block, up to 64 MB in float32, or one row of all
    sequences; the output. In a stack the states of all layers are one state, and a layer's
    parameters have a row for each number of its own states and of those above.

    Where a single layer lets no error go from unit to unit, because its gates are diagonal or
    absent (:class:`~longlag.IndRNN`; leaky units without W) or truncated
    (:class:`~longlag.LSTM1997`), a parameter of a unit influences the states of that unit alone:
    N S P numbers, and as much time a step, times S.

    For online learning without end, and to check other methods. With ``online`` the training loop
    updates the weights after every step; the influence then still holds the steps before with the
    weights of their time, so the gradient is exact in the limit of small steps. A model with one
    output a sequence is updated at its end.

    Args:
        online: whether ``fit`` updates after every step instead of after whole sequences.
        block: B >= 1; by default max(16, S H), of all layers of a stack together; of layers whose
            errors stay within the unit at most 256.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range.

    >>> import torch
    >>> import longlag as ll
    >>> from longlag.gradients.methods.rtrl import RTRL
    >>> model = ll.SequenceModel(ll.GRU(2, 3, seed=0, dtype=torch.float64), 1, reduce=None, seed=1)
    >>> x, target = torch.ones(4, 50, 2).double(), torch.zeros(4, 50, 1).double()
    >>> mse = torch.nn.functional.mse_loss
    >>> forwards = RTRL().gradients(model, x, target, mse)
    >>> backwards = ll.BPTT().gradients(model, x, target, mse)
    >>> all(torch.allclose(forwards[name], backwards[name], rtol=1e-10) for name in backwards)
    True
    """

    def _law(self, layers: Sequence[Recurrent]) -> Law:
        if len(layers) == 1 and keeps_to_units(layers[0].recurrence):
            return Units(layers)
        return Joint(layers)
