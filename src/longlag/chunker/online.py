"""Learning while reading: what the trainer asks of each of the two nets, and the ways to answer.

A method is a small frozen object. `start` takes a layer and its readouts and gives an
`OnlineNet`, which reads one input at a time and changes the weights after any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from numpy.typing import NDArray

from longlag.chunker.bptt import WindowNet
from longlag.chunker.rtrl import ElmanNet
from longlag.layers.base import RecurrentModule
from longlag.layers.checks import positive
from longlag.layers.readout import Readout

__all__ = ["OnlineBPTT", "OnlineMethod", "OnlineNet", "OnlineRTRL"]


class OnlineNet(Protocol):
    """R nets that learn while they read; each call names the nets (rows) that it is for.

    What the other rows hold, weights and state, stays as it is, bit for bit.
    """

    def reset(self, rows: NDArray) -> None:
        """An episode begins: the state is zero, and no error goes back beyond here."""
        ...

    def read(self, rows: NDArray, x: NDArray) -> None:
        """One step: symbols (rows,) of whole numbers, or vectors (rows, C)."""
        ...

    def outputs(self) -> list[NDArray]:
        """What each readout says since the last input: (R, K) each."""
        ...

    def hidden(self) -> NDArray:
        """The hidden activations since the last input, (R, H); zero after a reset."""
        ...

    def learn(self, rows: NDArray, errors: Sequence[NDArray]) -> None:
        """One step of gradient descent on E = 1/2 sum e^2, e = output - target, (R, K) each.

        An error of 0 asks for nothing. Parameters that required no gradient at the start stay.
        """
        ...


@runtime_checkable
class OnlineMethod(Protocol):
    """A way to the gradient after every step."""

    def start(
        self, layer: RecurrentModule, readouts: Sequence[Readout], learning_rate: float
    ) -> OnlineNet:
        """The net, ready to read; its weights are those of the modules, changed in place."""
        ...


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
        positive("steps", self.steps)

    def start(
        self, layer: RecurrentModule, readouts: Sequence[Readout], learning_rate: float
    ) -> OnlineNet:
        """The net, ready to read."""
        return WindowNet(layer, readouts, self.steps, learning_rate)


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
        self, layer: RecurrentModule, readouts: Sequence[Readout], learning_rate: float
    ) -> OnlineNet:
        """The net, ready to read.

        Raises:
            TypeError: the layer is no Elman layer.
            ValueError: its activation, device or dropout cannot be had.
        """
        return ElmanNet(layer, readouts, learning_rate)
