"""What a recurrence is: the declaration that a cell makes, and nothing about how it is run."""

import functools
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from longlag.recurrence import latex
from longlag.recurrence.trace import trace
from longlag.recurrence.traced import Recurrence


@functools.lru_cache(maxsize=256)
def _traced(cell: "Cell") -> Recurrence:
    """Equal cells share one recurrence, and with it all that is made of it."""
    return trace(cell)


class Cell(ABC):
    r"""A recurrence, declared once as its equations.

    For units i = 1..H, gates g and states s^k::

        a^g_t = U_g x_t + b_g                     one matrix product for all t
        r^g_t = sum over d of W_{g,d} s_{t-d}     as ``wiring`` says; W_g s_{t-1} by default
        s_t   = update(a_t + r_t, s_{t-1}, unit)  pointwise over the units

    A subclass says its ``state``, its ``gates`` and its ``update``. The forward pass, the
    derivatives, back-propagation through time, the state-to-state Jacobian and the LaTeX are
    derived from these. A declaration that has no meaning is a
    :class:`~longlag.recurrence.DeclarationError` when the cell is first used.

    Attributes:
        state: names of the states s^k, each one number per unit.
        gates: names of the gates; each has its rows in the input and recurrent matrices.
        output: the state that the layer puts out; by default the first.
        wiring: by gate name, how the past reaches it: :class:`Dense` (default), a tuple of
            several, whose products are summed, :class:`Diagonal` or :class:`Absent`.
        unit_parameters: by name, the numbers per unit that ``update`` reads.
        initial_bias: by gate name, the initial value of its bias; 0 where not given.
        keeping_gates: by gate name, the sign with which its bias makes the cell keep its state:
            +1 where a large bias keeps, -1 where it overwrites. Chrono initialisation reads it.
        periods: for units that rest: the units are as many equal groups, and group i takes the
            steps t = 0, T_i, 2 T_i, ... of a sequence alone; in the others its states stay. The
            update is written as if none rested; a kernel leaves the work of resting groups out.
        latex_symbols: by name of a state, gate or unit parameter, how :meth:`latex` writes it.

    Example:
        >>> from longlag.recurrence import Cell, tanh
        >>> class Elman(Cell):
        ...     state = ("h",)
        ...     gates = ("candidate",)
        ...     def update(self, pre, state, unit):
        ...         return {"h": tanh(pre.candidate)}
        >>> print(Elman().recurrence.forward)
        v0 = tanh(pre.candidate)
        return v0
    """

    # Each of these may be a class attribute or, where it depends on the cell's fields, a property;
    # a type checker knows no word for that.
    state: Any = ("h",)
    gates: Any
    unit_parameters: Any = {}
    wiring: Any = {}
    initial_bias: Any = {}
    keeping_gates: Any = {}
    latex_symbols: Any = {}
    periods: Any = ()

    @property
    def output(self) -> str:
        """The state that the layer puts out: the first, unless the cell says otherwise."""
        return self.state[0]

    @abstractmethod
    def update(self, pre: Any, state: Any, unit: Any) -> dict[str, Any]:
        """The pointwise update: the new value of every state.

        Args:
            pre: ``pre.GATE`` is a + r of that gate; ``pre.from_input("GATE")`` and
                ``pre.from_state("GATE")`` are a and r apart.
            state: ``state.NAME`` is that state at t - 1, and ``state.t`` (where no state has that
                name) the step within the sequence: 0 in its first step and where it is reset,
                carried on with the state, and of derivative 0. It is exact up to 2^24 steps in
                float32.
            unit: ``unit.NAME`` is that unit parameter.

        Returns:
            The new value of each state, by name.
        """

    @cached_property
    def recurrence(self) -> Recurrence:
        """The traced declaration, from which all else is derived.

        Raises:
            DeclarationError: where the declaration has no meaning; the message gives the fix.
        """
        try:
            hash(self)
        except TypeError:
            return trace(self)
        return _traced(self)

    def __repr__(self) -> str:
        """As it is made, so that what prints it is the same in every process."""
        fields = [f"{name}={value!r}" for name, value in self.__getstate__().items()]
        return f"{type(self).__name__}({', '.join(fields)})"

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds; who reads it traces the cell again."""
        return {name: value for name, value in vars(self).items() if name != "recurrence"}

    def latex(self, part: str = "all") -> str:
        """The equations in LaTeX, as a lecture would write them.

        Args:
            part: ``"update"`` (the recurrence), ``"bptt"`` (the error sent back in time),
                ``"jacobian"`` (state to state) or ``"all"``.

        Returns:
            ``align*`` environments; they need the amsmath package, and no other.

        Raises:
            ValueError: for any other part.
        """
        return latex.render(self.recurrence, part)
