"""The methods that were made for the chunker's nets: small frozen objects.

`start` gives an :class:`~longlag.gradients.OnlineLearner`, as every
:class:`~longlag.gradients.OnlineMethod` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from longlag.arguments import check_whole
from longlag.chunker.bptt import WindowNet
from longlag.chunker.rtrl import ElmanNet
from longlag.gradients.online import OnlineLearner
from longlag.layers.readout import ReadoutModule


@dataclass(frozen=True)
class OnlineBPTT:
    """After every step, its error is sent back over the last few steps, this one included.

    The last `steps` inputs are read again from the state before them, with the weights of now, and
    the error goes back through them: backpropagation through time, truncated, with k1 = 1 and
    k2 = `steps` (see :class:`longlag.TruncatedBPTT`). Any recurrent layer. Biased: what is further
    back gets no credit. The state before the window stems from the weights of its time.

    Time: one forward and one backward pass over `steps` steps for each input. Memory: as many
    states.

    Args:
        steps: steps that an error reaches, >= 1.

    Raises:
        ValueError, TypeError: steps out of range.

    >>> OnlineBPTT(3)
    OnlineBPTT(steps=3)
    """

    steps: int = 3

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 1)

    def start(
        self, model: nn.Module, learning_rate: float, further: Sequence[ReadoutModule] = ()
    ) -> OnlineLearner:
        """The nets, ready to read; see :meth:`longlag.gradients.OnlineMethod.start`."""
        return WindowNet(model, further, self.steps, learning_rate)


@dataclass(frozen=True)
class OnlineRTRL:
    r"""Real-time recurrent learning: the derivative of the state is carried forward in time.

    For an Elman layer, :math:`h_t = \phi(a_t)`, :math:`a_t = U x_t + W h_{t-1} + b`,

    .. math:: \frac{dh_t}{d\theta} = \mathrm{diag}(\phi'(a_t)) \left(
        W \frac{dh_{t-1}}{d\theta} + \frac{\partial a_t}{\partial \theta} \right)

    No lag is cut off. Exact for weights that stay; as they change after every step, it is the
    gradient up to terms of second order in the learning rate.

    Time: O(H^2 P) a step and net for P = H (C + H + 1) parameters of the layer, so for few hidden
    units. Memory: H P numbers, whatever the length of the stream. On the CPU, in NumPy. Where the
    input is a symbol, only its columns of the weights are touched.

    Source: R. J. Williams and D. Zipser, A learning algorithm for continually running fully
    recurrent neural networks, Neural Computation 1, 1989.

    >>> OnlineRTRL()
    OnlineRTRL()
    """

    def start(
        self, model: nn.Module, learning_rate: float, further: Sequence[ReadoutModule] = ()
    ) -> OnlineLearner:
        """The nets, ready to read; see :meth:`longlag.gradients.OnlineMethod.start`.

        Raises:
            TypeError: the layer is no Elman layer.
            ValueError: its activation, device or dropout cannot be had.
        """
        return ElmanNet(model, further, learning_rate)
