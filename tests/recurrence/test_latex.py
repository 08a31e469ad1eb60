import re

import pytest
from matplotlib.mathtext import MathTextParser
from tests.scan import cases

from longlag import cells
from longlag.recurrence import Absent, Cell, Dense, UnitParameter, sigmoid, sqrt, tanh

ELMAN = {
    "update": r"""\begin{align*}
a_t &= U x_t + W h_{t-1} + b \\
h_t &= \tanh{\left(a_t \right)}
\end{align*}""",
    "bptt": r"""\begin{align*}
E &= \sum_t E_t \\
\delta^{h}_t &= \frac{\partial E}{\partial h_t} \\
\delta^{a}_t &= \delta^{h}_t \odot \left(1 - h_t^{2}\right) \\
\delta^{h}_{t-1} &= \frac{\partial E_{t-1}}{\partial h_{t-1}} + W^\top \delta^{a}_t \\
\frac{\partial E}{\partial W} &= \sum_t \delta^{a}_t h_{t-1}^\top \\
\frac{\partial E}{\partial U} &= \sum_t \delta^{a}_t x_t^\top \\
\frac{\partial E}{\partial b} &= \sum_t \delta^{a}_t
\end{align*}""",
    "jacobian": r"""\begin{align*}
\frac{\partial h_t}{\partial h_{t-1}} &= \operatorname{diag}\left(1 - h_t^{2}\right) W
\end{align*}""",
}


class Mixed(Cell):
    """Two states, split, truncated and absent gates, names of every kind."""

    state = ("h", "long_memory")
    gates = ("alpha", "q", "open_gate")
    wiring = {"q": Dense("long_memory", truncated=True), "open_gate": Absent()}
    unit_parameters = {"k": UnitParameter(), "time_scale": UnitParameter(1.0)}

    def update(self, pre, state, unit):
        gate = sigmoid(pre.open_gate) / (1 + unit.time_scale**2)
        memory = gate * state.long_memory + pre.from_input("q") * pre.from_state("q")
        return {"h": tanh(pre.alpha + unit.k * memory), "long_memory": sqrt(1 + memory**2)}


CELLS = {
    **{name: getattr(cells, name)() for name in cells.__all__},
    "Elman relu": cells.Elman("relu"),
    "Elman saturated": cells.Elman("saturated"),
    "Leaky, trained": cells.Leaky(train_leak=True),
    "Leaky without W": cells.Leaky(recurrent=False),
    "LSTM with peepholes": cells.LSTM(peepholes=True),
    "LSTM1997 without output gate": cells.LSTM1997(output_gate=False, recurrent=False),
    "of one's own": Mixed(),
    **{name: cases.CELLS[name] for name in ("Delayed", "Blocks", "Wired")},
}

DELAYED = {
    "update": r"""\begin{align*}
a_t &= U x_t + W^{(1)} h_{t-1} + W^{(3)} h_{t-3} + b \\
h_t &= \tanh{\left(a_t \right)}
\end{align*}""",
    "bptt": r"""\begin{align*}
E &= \sum_t E_t \\
\delta^{h}_t &= \frac{\partial E}{\partial h_t} \\
\delta^{a}_t &= \delta^{h}_t \odot \left(1 - h_t^{2}\right) \\
\delta^{h}_{t-1} &= \frac{\partial E_{t-1}}{\partial h_{t-1}} + W^{(1)\top} \delta^{a}_t + W^{(3)\top} \delta^{a}_{t+2} \\
\frac{\partial E}{\partial W^{(1)}} &= \sum_t \delta^{a}_t h_{t-1}^\top \\
\frac{\partial E}{\partial W^{(3)}} &= \sum_t \delta^{a}_t h_{t-3}^\top \\
\frac{\partial E}{\partial U} &= \sum_t \delta^{a}_t x_t^\top \\
\frac{\partial E}{\partial b} &= \sum_t \delta^{a}_t
\end{align*}""",  # noqa: E501
    "jacobian": r"""\begin{align*}
\frac{\partial h_t}{\partial h_{t-1}} &= \operatorname{diag}\left(1 - h_t^{2}\right) W^{(1)} \\
\frac{\partial h_t}{\partial h_{t-3}} &= \operatorname{diag}\left(1 - h_t^{2}\right) W^{(3)}
\end{align*}""",
}


def lines(cell, part="all"):
    text = cell.latex(part)
    return [
        line.removesuffix(r" \\")
        for line in text.splitlines()
        if line and not line.startswith((r"\begin", r"\end"))
    ]


@pytest.mark.parametrize("part", ELMAN)
def test_the_elman_network_as_a_lecture_writes_it(part):
    assert cells.Elman().latex(part) == ELMAN[part]


@pytest.mark.parametrize("part", DELAYED)
def test_delays_are_written_as_such_and_not_as_states(part):
    assert cases.Delayed().latex(part) == DELAYED[part]


def test_all_is_the_three_parts_one_after_another():
    assert cells.Elman().latex() == "\n\n".join(ELMAN.values())


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("LSTM", "update", r"a^{f}_t &= U_{f} x_t + W_{f} h_{t-1} + b_{f}"),
        ("LSTM", "update", r"i_t &= \sigma\left(a^{i}_t\right)"),
        ("LSTM", "update", r"c_t &= g_t \odot i_t + f_t \odot c_{t-1}"),
        ("LSTM", "update", r"h_t &= o_t \odot \tanh{\left(c_t \right)}"),
        ("LSTM", "jacobian", r"\frac{\partial c_t}{\partial c_{t-1}} &= \operatorname{diag}\left(f_t\right)"),  # noqa: E501
        ("LSTM", "bptt", r"\delta^{h}_{t-1} &= \frac{\partial E_{t-1}}{\partial h_{t-1}} + W_{i}^\top \delta^{a^{i}}_t + W_{f}^\top \delta^{a^{f}}_t + W_{g}^\top \delta^{a^{g}}_t + W_{o}^\top \delta^{a^{o}}_t"),  # noqa: E501
        ("GRU", "update", r"a^{n}_t &= U_{n} x_t + b_{n}"),
        ("GRU", "update", r"r^{n}_t &= W_{n} h_{t-1}"),
        ("GRU", "update", r"h_t &= n_t \odot \left(1 - z_t\right) + z_t \odot h_{t-1}"),
        ("GRU", "bptt", r"\frac{\partial E}{\partial W_{n}} &= \sum_t \delta^{r^{n}}_t h_{t-1}^\top"),  # noqa: E501
        ("Leaky", "update", r"h_t &= h_{t-1} \odot \left(1 - \alpha\right) + \alpha \odot \tanh{\left(a_t \right)}"),  # noqa: E501
        ("Leaky, trained", "bptt", r"\frac{\partial E}{\partial \alpha} &= \sum_t \left[\delta^{h}_t \odot \left(- h_{t-1} + \tanh{\left(a_t \right)}\right)\right]"),  # noqa: E501
        ("Leaky without W", "update", r"a_t &= U x_t + b"),
        ("Leaky without W", "jacobian", r"\frac{\partial h_t}{\partial h_{t-1}} &= \operatorname{diag}\left(1 - \alpha\right)"),  # noqa: E501
        ("LSTM1997", "update", r"a^{o}_t &= U_{o} x_t + W_{o} \operatorname{sg}(h_{t-1}) + b_{o}"),
        ("LSTM1997", "update", r"g_t &= 4 \sigma\left(a^{g}_t\right) - 2"),
        ("LSTM1997", "update", r"h_t &= o_t \odot \left(2 \sigma\left(c_t\right) - 1\right)"),
        ("LSTM1997", "bptt", r"\delta^{c}_t &= \left.\frac{\partial E}{\partial c_t}\right|_{h_t}"),
        ("LSTM1997", "jacobian", r"\frac{\partial c_t}{\partial c_{t-1}} &= I"),
        ("GRU", "update", r"z_t &= \sigma\left(a^{z}_t\right)"),
        ("LSTM1997", "jacobian", r"\frac{\partial h_t}{\partial h_{t-1}} &= 0"),
        ("IndRNN", "bptt", r"\delta^{h}_{t-1} &= \frac{\partial E_{t-1}}{\partial h_{t-1}} + \delta^{h}_t \odot w \odot \mathbf{1}\left[a_t + h_{t-1} \odot w > 0\right]"),  # noqa: E501
        ("of one's own", "update", r"r^{q}_t &= W_{q} \operatorname{sg}(\mathrm{long\ memory}_{t-1})"),  # noqa: E501
        ("of one's own", "update", r"a^{\alpha}_t &= U_{\alpha} x_t + W_{\alpha} h_{t-1} + b_{\alpha}"),  # noqa: E501
        ("Blocks", "update", r"M &= \left(\begin{smallmatrix} 1 & 1 & 1 \\ 0 & 1 & 1 \\ 0 & 0 & 1 \end{smallmatrix}\right) \otimes \mathbf{1} \mathbf{1}^\top"),  # noqa: E501
        ("Blocks", "update", r"a_t &= U x_t + \left(M \odot W\right) h_{t-1} + b"),
        ("Blocks", "bptt", r"\delta^{h}_{t-1} &= \frac{\partial E_{t-1}}{\partial h_{t-1}} + \left(M \odot W\right)^\top \delta^{a}_t"),  # noqa: E501
        ("Blocks", "bptt", r"\frac{\partial E}{\partial W} &= M \odot \sum_t \delta^{a}_t h_{t-1}^\top"),  # noqa: E501
        ("Wired", "update", r"M_{2} &= \left(\begin{smallmatrix} 0 & 1 \\ 1 & 0 \end{smallmatrix}\right) \otimes \mathbf{1} \mathbf{1}^\top"),  # noqa: E501
        ("Wired", "update", r"a^{\mathrm{input}}_t &= U_{\mathrm{input}} x_t + \left(M_{1} \odot W_{\mathrm{input}}^{(h, 1)}\right) h_{t-1} + W_{\mathrm{input}}^{(c, 2)} c_{t-2} + W_{\mathrm{input}}^{(h, 4)} \operatorname{sg}(h_{t-4}) + b_{\mathrm{input}}"),  # noqa: E501
        ("Wired", "update", r"a^{\mathrm{forget}}_t &= U_{\mathrm{forget}} x_t + W_{\mathrm{forget}}^{(2)} c_{t-2} + \left(M_{2} \odot W_{\mathrm{forget}}^{(2)\prime}\right) c_{t-2} + b_{\mathrm{forget}}"),  # noqa: E501
        ("Wired", "jacobian", r"\frac{\partial c_t}{\partial c_{t-1}} &= \operatorname{diag}\left(\mathrm{forget}_t\right)"),  # noqa: E501
    ],
)  # fmt: skip
def test_key_lines(name, part, expected):
    assert expected in lines(CELLS[name], part)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_braces_and_brackets_are_balanced(cell):
    for line in lines(cell):
        assert line.count("&=") == 1
        assert line.count(r"\begin{smallmatrix}") == line.count(r"\end{smallmatrix}")
        assert len(re.findall(r"\\left\b", line)) == len(re.findall(r"\\right\b", line))
        depth = 0
        for character in line:
            depth += {"{": 1, "}": -1}.get(character, 0)
            assert depth >= 0
        assert depth == 0


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_every_line_compiles(cell):
    """In matplotlib's reader of LaTeX, which refuses what it does not know."""
    parser = MathTextParser("path")
    for line in lines(cell):
        line = re.sub(r"\\begin\{smallmatrix\}.*\\end\{smallmatrix\}", "P", line)  # it has none
        parser.parse(f"${line.replace('&', '')}$")


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_every_weight_has_its_derivative(cell):
    written = "\n".join(lines(cell, "bptt"))
    count = 2 * len(cell.recurrence.gates) + len(cell.recurrence.wires)
    count += sum(declared.trained for declared in cell.recurrence.unit_parameters.values())
    # And E itself; before some sums stands the mask of a pattern.
    assert len(re.findall(r"&= (M\S* \\odot )?\\sum_t", written)) == count + 1


def test_a_constant_has_no_derivative():
    assert r"\partial \alpha" not in cells.Leaky().latex("bptt")
    assert r"\partial \alpha" in cells.Leaky(train_leak=True).latex("bptt")


def test_no_name_of_the_program_is_left_in():
    for cell in CELLS.values():
        assert not re.search(r"(pre|input|recurrent|state|unit)\.", cell.latex())
        assert not re.search(r"[hc](_|\\_)[1-9]", cell.latex())


def test_matrices_of_one_gate_are_told_apart_by_what_differs():
    def written(*wires):
        body = {"state": ("h", "c"), "gates": ("a",), "wiring": {"a": wires}}
        body["update"] = lambda self, pre, state, unit: {"h": tanh(pre.a), "c": state.h}
        return lines(type("Own", (Cell,), body)(), "update")[-3].removeprefix("a_t &= U x_t + ")

    assert written(Dense()) == "W h_{t-1} + b"
    assert written(Dense(delay=5)) == "W^{(5)} h_{t-5} + b"
    assert written(Dense(), Dense("c")) == "W^{(h)} h_{t-1} + W^{(c)} c_{t-1} + b"
    assert written(Dense(), Dense(truncated=True)) == (
        r"W h_{t-1} + W^{\prime} \operatorname{sg}(h_{t-1}) + b"
    )
    assert written(Dense(delay=2), Dense("c", delay=3)) == (
        "W^{(h, 2)} h_{t-2} + W^{(c, 3)} c_{t-3} + b"
    )


def test_an_unknown_part_is_refused():
    message = r"part: got 'forward', expected one of 'update', 'bptt', 'jacobian', 'all'"
    with pytest.raises(ValueError, match=message):
        cells.Elman().latex("forward")
