"""Long short-term memory as published in 1997."""

from dataclasses import dataclass

from longlag.recurrence import Absent, Cell, Dense, activation, sigmoid


@dataclass(frozen=True)
class LSTM1997(Cell):
    r"""Long short-term memory of 1997: no forget gate, the error truncated.

    .. math::
        i_t &= \sigma(U_i x_t + W_i \operatorname{sg}(h_{t-1}) + b_i) \\
        g_t &= g(U_g x_t + W_g \operatorname{sg}(h_{t-1}) + b_g) \\
        c_t &= c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(U_o x_t + W_o \operatorname{sg}(h_{t-1}) + b_o) \\
        h_t &= o_t \odot h(c_t)

    sg is the identity in the forward direction and stops the error in the backward direction:
    error that has entered a gate or the cell's input does not flow further back in time, only
    that inside the memory c does, and there it flows unchanged (the constant error carousel).

    Args:
        output_gate: whether there is an output gate o; without it h_t = h(c_t).
        recurrent: whether cell and gates read h_{t-1} at all.
        cell_input: g, an activation by name; the paper's is ``"double_bipolar"``,
            4 sigma - 2 in [-2, 2], and ``"sigmoid"`` for its experiment 2a.
        cell_output: h, by name; the paper's is ``"bipolar"``, 2 sigma - 1 in [-1, 1], and
            ``"identity"`` for its experiment 2a.

    Raises:
        ValueError: for an unknown activation.

    Source: S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9(8),
    1997, section 4 and appendix A.1.

    Example:
        >>> import longlag as ll
        >>> ll.cells.LSTM1997(output_gate=False).gates
        ('input', 'candidate')
        >>> net = ll.LSTM1997(101, 1, output_gate=False, recurrent=False, bias=False)
        >>> sum(parameter.numel() for parameter in net.parameters())
        202
    """

    output_gate: bool = True
    recurrent: bool = True
    cell_input: str = "double_bipolar"
    cell_output: str = "bipolar"

    state = ("h", "c")

    def __post_init__(self) -> None:
        activation(self.cell_input)
        activation(self.cell_output)

    @property
    def gates(self):  # noqa: D102
        return ("input", "candidate", "output") if self.output_gate else ("input", "candidate")

    @property
    def latex_symbols(self):  # noqa: D102
        return {gate: {"input": "i", "candidate": "g", "output": "o"}[gate] for gate in self.gates}

    @property
    def wiring(self):  # noqa: D102
        wire = Dense("h", truncated=True) if self.recurrent else Absent()
        return dict.fromkeys(self.gates, wire)

    def update(self, pre, state, unit):  # noqa: D102
        g, h = activation(self.cell_input), activation(self.cell_output)
        c = state.c + sigmoid(pre.input) * g(pre.candidate)
        return {"h": sigmoid(pre.output) * h(c) if self.output_gate else h(c), "c": c}
