"""A recurrence with a gate that listens to the error of each of its states."""

from dataclasses import replace

from longlag.recurrence.functions import Expression
from longlag.recurrence.traced import Gate, Recurrence
from longlag.recurrence.wiring import Absent


def probed(recurrence: Recurrence, joint: bool = False) -> Recurrence:
    r"""The same recurrence, with one more gate z^k per state, added to its new value.

    .. math:: s^k_t = \phi^k(a_t, r_t, s_{t-1}, \theta) + z^k_t

    With z = 0 the values are the same, and dE/dz^k_t is the error delta^k_t = dE/ds^k_t that
    arrives at the state. So the gradient by the drive holds the errors of all steps and states.

    Where the equation of one state reads the new value of another (h_t = o_t tanh(c_t)), there are
    two derivatives, and ``joint`` says which:

    * False: h_t reads c_t + z. The error of c_t is that of all that reads it, h_t of the same step
      included; so it is the gradient that automatic differentiation gives to c_t.
    * True: z is added after all equations have been formed from s_{t-1}. The error of c_t is that
      by c_t with h_t held, as for the state (h_t, c_t) as one vector. These errors meet
      :math:`\delta_{t-1} = \partial E/\partial s_{t-1} + J_t^\top \delta_t` with
      :math:`J_t = \partial s_t / \partial s_{t-1}`.

    A matrix that reads a new value (``Dense(delay=0)``) reads it with z in both cases: the error of
    the state has what that product sends back.

    The states that hold the past for delays have gates too.

    Args:
        recurrence: a traced declaration.
        joint: see above.

    Returns:
        A recurrence whose gates are those of ``recurrence`` in their order, then ``probe.NAME`` for
        each state in the order of its states, without recurrent wires. It is made once, and kept
        with ``recurrence``. A name with a dot cannot be that of a declared gate.

    Imperfection: new values are found as whole parts of other equations, as everywhere in the
    library. Where SymPy has merged one into a sum or a product with a number (h = c + x, h = 2 c
    for a sum c), h reads what c is made of and not c; its error then does not pass through c.

    Example:
        >>> from longlag.cells import LSTM
        >>> probing = probed(LSTM().recurrence)
        >>> [gate.name for gate in probing.gates[4:]]
        ['probe.h', 'probe.c']
        >>> probed(LSTM().recurrence) is probing
        True
    """
    kept = recurrence.__dict__.setdefault("_probed", {})
    if joint not in kept:
        kept[joint] = _probed(recurrence, joint)
    return kept[joint]


def _probed(recurrence: Recurrence, joint: bool) -> Recurrence:
    gates = {name: Gate(f"probe.{name}", Absent(), False) for name in recurrence.states}
    equations: dict[str, Expression] = {}
    known: dict[Expression, Expression] = {}
    for name in recurrence.dependency_order:
        equation = recurrence.equations[name]
        equations[name] = equation.xreplace(known) + gates[name].from_input
        if not (joint or equation.is_Atom):
            known[equation] = equations[name]
    return replace(
        recurrence,
        gates=(*recurrence.gates, *gates.values()),
        equations={name: equations[name] for name in recurrence.equations},
        latex_symbols={
            **recurrence.latex_symbols,
            **{gate.name: rf"\zeta^{{{name}}}" for name, gate in gates.items()},
        },
        delayed={},  # a probed state does more than to hand on
    )
