"""The gated recurrent unit."""

from dataclasses import dataclass, field

from longlag.recurrence import Cell, Dense, UnitParameter, sigmoid, tanh


@dataclass(frozen=True)
class GRU(Cell):
    r"""Gated recurrent unit, the reset after the matrix product or before it.

    .. math::
        r_t &= \sigma(U_r x_t + W_r h_{t-1} + b_r) \\
        z_t &= \sigma(U_z x_t + W_z h_{t-1} + b_z) \\
        n_t &= \tanh(U_n x_t + b_n + r_t \odot (W_n h_{t-1} + b_{hn})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Gate order as in PyTorch: r, z, n. The reset needs a second bias, b_hn, for n. With
    ``reset_after=False`` there is none, and the reset comes first:

    .. math:: m_t = r_t \odot h_{t-1}, \qquad n_t = \tanh(U_n x_t + W_n m_t + b_n)

    Then m is a second state, of which no later step reads anything.

    Args:
        recurrent_bias: whether there is a b_hn; in a layer, by default, as ``bias``.
        reset_after: whether the reset comes after the product.

    Source: K. Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014
    (the reset before the product); the form with the reset after it is that of cuDNN, PyTorch and
    Keras, where the first is ``reset_after=False``.

    Example:
        >>> import longlag as ll
        >>> ll.cells.GRU().recurrence.units
        ('bias_hn',)
        >>> ll.GRU(3, 4).bias_hn.shape
        torch.Size([4])
    """

    recurrent_bias: bool = field(default=True, metadata={"as_option": "bias"})
    reset_after: bool = True

    gates = ("reset", "update", "new")
    keeping_gates = {"update": 1}

    @property
    def state(self):  # noqa: D102
        return ("h",) if self.reset_after else ("h", "m")

    @property
    def wiring(self):  # noqa: D102
        return {} if self.reset_after else {"new": Dense("m", delay=0)}

    @property
    def latex_symbols(self):  # noqa: D102
        bias = {"bias_hn": "b_{hn}"} if self.unit_parameters else {}
        return {"reset": "r", "update": "z", "new": "n", **bias}

    @property
    def unit_parameters(self):  # noqa: D102
        there = self.recurrent_bias and self.reset_after
        return {"bias_hn": UnitParameter(0.0)} if there else {}

    def update(self, pre, state, unit):  # noqa: D102
        r, z = sigmoid(pre.reset), sigmoid(pre.update)
        if not self.reset_after:
            return {"h": (1 - z) * tanh(pre.new) + z * state.h, "m": r * state.h}
        recurrent = pre.from_state("new")
        if self.recurrent_bias:
            recurrent = recurrent + unit.bias_hn
        n = tanh(pre.from_input("new") + r * recurrent)
        return {"h": (1 - z) * n + z * state.h}
