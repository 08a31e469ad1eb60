"""Long short-term memory with a forget gate."""

from dataclasses import dataclass

from longlag.recurrence import Cell, UnitParameter, sigmoid, tanh


@dataclass(frozen=True)
class LSTM(Cell):
    r"""Long short-term memory with a forget gate, and peepholes if wanted.

    .. math::
        i_t &= \sigma(U_i x_t + W_i h_{t-1} + b_i + p_i \odot c_{t-1}) \\
        f_t &= \sigma(U_f x_t + W_f h_{t-1} + b_f + p_f \odot c_{t-1}) \\
        g_t &= \tanh(U_g x_t + W_g h_{t-1} + b_g) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(U_o x_t + W_o h_{t-1} + b_o + p_o \odot c_t) \\
        h_t &= o_t \odot \tanh(c_t)

    The terms with p are there with ``peepholes=True`` only. Gate order as in PyTorch: i, f, g, o.

    Args:
        forget_bias: initial b_f. With 1 the memory is open at the start of training.
        peepholes: whether the gates see the memory c; the p start at 0.

    Source: S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9(8),
    1997; F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, 2000 (forget gate);
    F. A. Gers et al., Learning precise timing with LSTM recurrent networks, JMLR 3, 2002
    (peepholes); R. Jozefowicz et al., An empirical exploration of recurrent network
    architectures, ICML 2015 (forget bias 1).

    Example:
        >>> import torch, longlag as ll
        >>> ll.cells.LSTM().recurrence.states
        ('h', 'c')
        >>> output, state = ll.LSTM(3, 4)(torch.zeros(2, 5, 3))
        >>> output.shape, state.c.shape
        (torch.Size([2, 5, 4]), torch.Size([2, 4]))
    """

    forget_bias: float = 1.0
    peepholes: bool = False

    state = ("h", "c")
    gates = ("input", "forget", "candidate", "output")
    keeping_gates = {"forget": 1, "input": -1}

    @property
    def latex_symbols(self):  # noqa: D102
        symbols = {"input": "i", "forget": "f", "candidate": "g", "output": "o"}
        peepholes = {name: f"p_{symbols[name[9:]]}" for name in self.unit_parameters}
        return {**symbols, **peepholes}

    @property
    def initial_bias(self):  # noqa: D102
        return {"forget": self.forget_bias}

    @property
    def unit_parameters(self):  # noqa: D102
        names = ("peephole_input", "peephole_forget", "peephole_output")
        return {name: UnitParameter(0.0) for name in names} if self.peepholes else {}

    def update(self, pre, state, unit):  # noqa: D102
        def gate(net, peephole, memory):
            return sigmoid(net + getattr(unit, peephole) * memory if self.peepholes else net)

        i = gate(pre.input, "peephole_input", state.c)
        f = gate(pre.forget, "peephole_forget", state.c)
        c = f * state.c + i * tanh(pre.candidate)
        o = gate(pre.output, "peephole_output", c)
        return {"h": o * tanh(c), "c": c}
