"""The clockwork recurrent network."""

from collections.abc import Sequence
from dataclasses import dataclass

from longlag.recurrence import Cell, Dense, activation, block_triangular
from longlag.recurrence.wiring import numbers_of_steps


@dataclass(frozen=True)
class Clockwork(Cell):
    r"""Clockwork network: groups of units, each with a clock, rest between the ticks of it.

    .. math::
        h^g_t = \begin{cases}
            \phi\bigl(U_g x_t + \sum_{j \ge g} W_{gj} h^j_{t-1} + b_g\bigr) & t \bmod T_g = 0 \\
            h^g_{t-1} & \text{otherwise}
        \end{cases}

    The units are divided into as many equal groups as there are periods :math:`T_g`, from the
    fastest to the slowest; a group reads itself and the slower ones. t counts from 0 at the start
    of a sequence and after a reset, so all groups take in the first step. In a group that rests
    error flows back unchanged: over a lag of k steps it meets :math:`k / T_g` factors. For inputs
    that have several time scales, where the slow ones are to be kept for long.

    The state is (h, t): t (N, 1) is the step, carried on from call to call. A group that rests
    costs no products in the compiled backend, forward or backward, and what others read of it is
    multiplied once a rest: with 8 periods 1, 2, ..., 128 a sixteenth of the dense products is left
    (with lengths or resets a fifth).

    Args:
        periods: the T_g, whole numbers from 1, each greater than the one before. H is a multiple
            of their number.
        activation: phi, as for :class:`~longlag.cells.Elman`.

    Raises:
        ValueError: for an unknown activation, or periods that are none.

    Source: J. Koutnik, K. Greff, F. Gomez and J. Schmidhuber, A clockwork RNN, ICML 2014, where
    the periods are the powers of 2.

    Example:
        >>> import torch, longlag as ll
        >>> layer = ll.Clockwork(3, 8, periods=(1, 2, 4, 8), seed=0)
        >>> output, _ = layer(torch.ones(1, 9, 3))
        >>> [int((output[0, t] != output[0, t - 1]).sum()) for t in range(1, 9)]
        [2, 4, 2, 6, 2, 4, 2, 8]
    """

    periods: Sequence[int] = (1, 2, 4, 8)
    activation: str = "tanh"

    gates = ("candidate",)

    def __post_init__(self) -> None:
        activation(self.activation)
        periods = numbers_of_steps("periods", self.periods)
        if list(periods) != sorted(periods):
            raise ValueError(
                f"periods: got {periods}, expected the fastest first; give {tuple(sorted(periods))}"
            )
        object.__setattr__(self, "periods", periods)

    @property
    def wiring(self):  # noqa: D102
        return {"candidate": Dense("h", pattern=block_triangular(len(self.periods)))}

    def update(self, pre, state, unit):  # noqa: D102
        return {"h": activation(self.activation)(pre.candidate)}
