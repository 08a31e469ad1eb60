"""A leaky unit as a user declares it: nothing of longlag knows this cell.

h_t = (1 - a) h_{t-1} + a tanh(U x_t + W h_{t-1} + b)
"""

from longlag.recurrence import Cell, UnitParameter, tanh

LEAK = 0.1


class OwnLeaky(Cell):
    """The leaky unit, with a constant leak."""

    state = ("h",)
    gates = ("candidate",)
    unit_parameters = {"leak": UnitParameter(LEAK, trained=False)}

    def update(self, pre, state, unit):  # noqa: D102
        return {"h": (1 - unit.leak) * state.h + unit.leak * tanh(pre.candidate)}
