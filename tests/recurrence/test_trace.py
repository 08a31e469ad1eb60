import os
import re
import subprocess
import sys

import pytest
import sympy
import torch
from tests.scan import cases

from longlag import cells, recurrence
from longlag.recurrence import (
    Absent,
    Cell,
    DeclarationError,
    Dense,
    Diagonal,
    Uniform,
    UnitParameter,
    Wire,
    block_diagonal,
    derive_adjoint,
    stop_gradient,
    tanh,
    trace,
)
from longlag.recurrence.traced import CLOCK

CELLS = {
    **{name: getattr(cells, name)() for name in cells.__all__},
    "Elman sigmoid": cells.Elman("sigmoid"),
    "Elman relu": cells.Elman("relu"),
    "Elman saturated": cells.Elman("saturated"),
    "Leaky without W": cells.Leaky(recurrent=False),
    "LSTM with peepholes": cells.LSTM(peepholes=True),
    "LSTM1997 without output gate": cells.LSTM1997(output_gate=False, recurrent=False),
    "GRU without b_hn": cells.GRU(recurrent_bias=False),
    "IndRNN tanh": cells.IndRNN("tanh"),
}


def declare(update=lambda pre, state, unit: {"h": tanh(pre.a)}, **parts):
    """A cell class named Mine with one state h and one gate a, unless told otherwise."""
    body = {"state": ("h",), "gates": ("a",), **parts}
    body["update"] = lambda self, pre, state, unit: update(pre, state, unit)
    return type("Mine", (Cell,), body)()


# Derivatives


def as_mpmath(expression, symbols):
    import mpmath

    known = {
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "relu": lambda x: x if x > 0 else mpmath.mpf(0),
        "saturate": lambda x: min(mpmath.mpf(1), max(mpmath.mpf(0), x)),
        "step": lambda x: mpmath.mpf(x > 0),
        "stop_gradient": lambda x: x,
        "multiple": lambda x, period: mpmath.mpf(x % period == 0),
    }
    return sympy.lambdify(symbols, expression, [known, "mpmath"])


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_partials_are_the_slopes_of_the_equations(cell):
    """Central differences in 50 digits, at points away from the corners of relu."""
    import mpmath

    recurrence = cell.recurrence
    symbols = list(recurrence.symbols)
    dummies = [sympy.Dummy(f"s{number}", real=True) for number in range(len(symbols))]
    rename = {**dict(zip(symbols, dummies, strict=True)), CLOCK: sympy.Integer(0)}
    checked = 0
    with mpmath.workdps(50):
        at = [mpmath.mpf(f"{0.37 + 0.211 * number:.3f}") % 1 for number in range(len(symbols))]
        step = mpmath.mpf(10) ** -15
        for state, equation in recurrence.equations.items():
            if isinstance(equation, stop_gradient):
                continue  # its derivative is by intention not the slope
            function = as_mpmath(equation.xreplace(rename), dummies)
            for number, symbol in enumerate(symbols):
                slope = sum(
                    sign * function(*at[:number], at[number] + sign * step, *at[number + 1 :])
                    for sign in (1, -1)
                ) / (2 * step)
                partial = recurrence.partials.get((state, symbol), sympy.Integer(0))
                value = as_mpmath(partial.xreplace(rename), dummies)(*at)
                assert abs(value - slope) < 1e-25, (state, symbol)
                checked += value != 0
    assert checked > 0


def test_the_linearisation_holds_the_partials_in_their_order():
    recurrence = cells.GRU().recurrence
    assert len(recurrence.linearisation.outputs) == len(recurrence.partials)
    assert recurrence.linearisation.inputs == tuple(map(str, recurrence.symbols))


def test_no_derivative_passes_stop_gradient():
    cell = declare(lambda pre, state, unit: {"h": stop_gradient(pre.a) * state.h})
    assert [str(symbol) for _, symbol in cell.recurrence.partials] == ["state.h"]


def test_the_sign_has_slope_zero():
    cell = declare(lambda pre, state, unit: {"h": sympy.sign(pre.a) + abs(state.h)})
    assert {str(s): str(p) for (_, s), p in cell.recurrence.partials.items()} == {
        "state.h": "sign(state.h)"
    }


# What is traced


def test_gates_states_and_symbols_of_a_plain_cell():
    recurrence = cells.LSTM().recurrence
    assert recurrence.name == "LSTM"
    assert [gate.name for gate in recurrence.gates] == ["input", "forget", "candidate", "output"]
    assert all(gate.wiring == Dense("h") and not gate.split for gate in recurrence.gates)
    assert recurrence.dense_gates == recurrence.gates
    assert [str(symbol) for symbol in recurrence.symbols] == [
        "pre.input", "pre.forget", "pre.candidate", "pre.output", "state.h", "state.c"
    ]  # fmt: skip
    assert recurrence.initial_bias == {"forget": 1.0}


def test_drives_that_no_matrix_reaches_come_first():
    cell = declare(
        lambda pre, state, unit: {
            "h": pre.a * pre.from_input("b") * pre.from_state("b") * pre.c * pre.d
        },
        gates=("a", "b", "c", "d"),
        wiring={"c": Absent(), "d": Diagonal()},
    )
    recurrence = cell.recurrence
    assert [str(s) for s in recurrence.drive_symbols] == [
        "input.b", "pre.c", "pre.d", "pre.a", "recurrent.b"
    ]  # fmt: skip
    assert [gate.split for gate in recurrence.gates] == [False, True, False, False]
    assert recurrence.units == ("diagonal.d",)
    assert [gate.name for gate in recurrence.dense_gates] == ["a", "b"]


def test_a_split_gate_can_still_be_read_as_a_whole():
    cell = declare(lambda pre, state, unit: {"h": tanh(pre.a) * pre.from_state("a")})
    assert str(cell.recurrence.equations["h"]) == "recurrent.a*tanh(input.a + recurrent.a)"


@pytest.mark.parametrize("truncated", [False, True])
def test_a_diagonal_gate_is_an_elementwise_product(truncated):
    wire = Diagonal("h", truncated, initial=Uniform(0.0, 0.5))
    cell = declare(
        lambda pre, state, unit: {"h": pre.from_input("a") * pre.from_state("a")},
        wiring={"a": wire},
    )
    h, w, a = (sympy.Symbol(n, real=True) for n in ("state.h", "unit.diagonal.a", "input.a"))
    expected = a * w * (stop_gradient(h) if truncated else h)
    assert cell.recurrence.equations["h"] == expected
    assert cell.recurrence.unit_parameters["diagonal.a"] == UnitParameter(Uniform(0.0, 0.5))


def test_the_source_of_a_wire_is_the_output_unless_given():
    parts = {"state": ("c", "m"), "output": "m"}
    update = {"update": lambda pre, state, unit: {"c": tanh(pre.a), "m": state.c}}
    assert declare(**update, **parts).recurrence.gates[0].wiring == Dense("m")
    other = declare(**update, **parts, wiring={"a": Dense("c", truncated=True)})
    assert other.recurrence.gates[0].wiring == Dense("c", truncated=True)
    assert other.recurrence.output == "m"


def test_a_delay_is_a_line_of_further_states():
    cell = declare(
        lambda pre, state, unit: {"c": tanh(pre.a), "h": state.c * pre.from_state("b") + pre.b},
        state=("c", "h"),
        output="h",
        gates=("a", "b"),
        wiring={"a": (Dense(delay=3), Dense("c", delay=2)), "b": Dense(delay=2, truncated=True)},
    )
    recurrence = cell.recurrence
    assert cell.state == ("c", "h")
    assert recurrence.states == ("c", "h", "c_1", "h_1", "h_2")
    assert recurrence.delayed == {"c_1": ("c", 1), "h_1": ("h", 1), "h_2": ("h", 2)}
    assert {name: str(recurrence.equations[name]) for name in recurrence.delayed} == {
        "c_1": "state.c", "h_1": "state.h", "h_2": "state.h_1"
    }  # fmt: skip
    assert recurrence.wires == (
        Wire(0, 4, False, None), Wire(0, 2, False, None), Wire(1, 3, True, None)
    )  # fmt: skip
    assert recurrence.output == cell.output == "h"
    assert {(s, str(by)) for s, by in recurrence.partials if s in recurrence.delayed} == {
        ("c_1", "state.c"), ("h_1", "state.h"), ("h_2", "state.h_1")
    }  # fmt: skip


def test_a_line_is_as_long_as_the_longest_delay_and_there_without_one_is_none():
    assert declare(wiring={"a": Dense(delay=1)}).recurrence.delayed == {}
    assert declare(wiring={"a": (Dense(delay=2), Dense(delay=5))}).recurrence.states == (
        "h", "h_1", "h_2", "h_3", "h_4"
    )  # fmt: skip


def test_the_adjoint_hands_the_error_down_the_line():
    recurrence = declare(wiring={"a": Dense(delay=3)}).recurrence
    adjoint = derive_adjoint(recurrence)
    names = {str(s): n for n, s in enumerate(recurrence.symbols)}
    written = str(adjoint).splitlines()[-1].removeprefix("return ").split(", ")
    assert written[names["state.h"]] == "delta.h_1"
    assert written[names["state.h_1"]] == "delta.h_2"


def test_long_delays_are_traced_in_no_time():
    recurrence = declare(wiring={"a": Dense(delay=500)}).recurrence
    assert len(recurrence.states) == len(recurrence.partials) == 500
    assert recurrence.wires[0].source == 499


def test_wires_are_the_rows_of_the_recurrent_matrix_in_order():
    heads = block_diagonal(2)
    recurrence = declare(
        lambda pre, state, unit: {"h": pre.a * pre.b * pre.c * pre.d},
        gates=("a", "b", "c", "d"),
        wiring={"b": Absent(), "c": (Dense(pattern=heads), Dense(truncated=True)), "d": Diagonal()},
    ).recurrence
    assert [gate.name for gate in recurrence.dense_gates] == ["a", "c"]
    assert recurrence.wires == (
        Wire(0, 0, False, None), Wire(1, 0, False, heads), Wire(1, 0, True, None)
    )  # fmt: skip
    assert cells.IndRNN().recurrence.wires == ()


def test_a_tuple_of_one_is_that_one():
    assert declare(wiring={"a": (Dense(),)}).recurrence.gates == declare().recurrence.gates


def test_another_delay_or_pattern_is_another_recurrence():
    wirings = (
        Dense(), Dense(delay=2), Dense(pattern=block_diagonal(2)), Dense(pattern=block_diagonal(3)),
        (Dense(), Dense(delay=2)), (Dense(delay=2), Dense()),
    )  # fmt: skip
    assert len({declare(wiring={"a": wire}).recurrence.key for wire in wirings}) == len(wirings)


def test_update_is_called_once():
    calls = []

    def update(pre, state, unit):
        calls.append(pre)
        return {"h": tanh(pre.a)}

    cell = declare(update)
    assert cell.recurrence is cell.recurrence
    assert len(calls) == 1
    assert trace(cell) is not cell.recurrence


def test_a_state_may_be_a_number_or_keep_its_value():
    cell = declare(
        lambda pre, state, unit: {"h": tanh(pre.a), "one": 1, "old": state.old},
        state=("h", "one", "old"),
    )
    assert str(cell.recurrence.forward).endswith("return v0, v1, state.old")


def test_private_words_stay_attribute_errors():
    """So that copy, hasattr and the like work on what update is given."""
    seen = []
    cell = declare(lambda p, s, u: seen.append(hasattr(p, "__iter__")) or {"h": tanh(p.a)})
    assert str(cell.recurrence.equations["h"]) == "tanh(pre.a)"
    assert seen == [False]


# What is refused


def h(expression):
    return lambda pre, state, unit: {"h": expression(pre, state, unit)}


REFUSED = {
    "unknown gate": (
        {"update": h(lambda p, s, u: tanh(p.candidat)), "gates": ("candidate",)},
        "Mine.update reads pre.candidat, but no gate 'candidat' is declared (declared: "
        "'candidate'); did you mean 'candidate'?",
    ),
    "unknown gate, split": (
        {"update": h(lambda p, s, u: p.from_input("b"))},
        "Mine.update reads pre.from_input('b'), but no gate 'b' is declared (declared: 'a')",
    ),
    "unknown gate, recurrent": (
        {"update": h(lambda p, s, u: p.from_state("b"))},
        "Mine.update reads pre.from_state('b'), but no gate 'b' is declared",
    ),
    "unknown state": (
        {"update": h(lambda p, s, u: p.a * s.memry), "state": ("h", "memory")},
        "Mine.update reads state.memry, but no state 'memry' is declared (declared: 'h', "
        "'memory'); did you mean 'memory'?",
    ),
    "unknown unit parameter": (
        {"update": h(lambda p, s, u: p.a * u.leek), "unit_parameters": {"leak": UnitParameter()}},
        "Mine.update reads unit.leek, but no unit parameter 'leek' is declared (declared: "
        "'leak'); did you mean 'leak'?",
    ),
    "no unit parameters": (
        {"update": h(lambda p, s, u: p.a * u.leak)},
        "no unit parameter 'leak' is declared (declared: none)",
    ),
    "state not updated": (
        {"state": ("h", "c")},
        "Mine.update does not return the state 'c'; return its new value, or 'c': state.c where",
    ),
    "unknown returned state": (
        {"update": lambda p, s, u: {"h": p.a, "hh": p.a}},
        "Mine.update returns 'hh', but no state 'hh' is declared (declared: 'h')",
    ),
    "returns no dict": (
        {"update": lambda p, s, u: tanh(p.a)},
        "Mine.update returned tanh, expected a dict from each state's name to its new value, "
        "such as {'h': ...}",
    ),
    "returns nothing": ({"update": lambda p, s, u: None}, "Mine.update returned NoneType"),
    "returns text": ({"update": h(lambda p, s, u: "h")}, "returned str for the state 'h'"),
    "returns a truth value": ({"update": h(lambda p, s, u: True)}, "returned bool for the state"),
    "returns a comparison": (
        {"update": h(lambda p, s, u: p.a > 0)},
        "returned StrictGreaterThan for the state 'h', expected a pointwise expression",
    ),
    "returns a matrix": (
        {"update": h(lambda p, s, u: sympy.Matrix([p.a]))},
        "Matrix for the state 'h', expected a pointwise expression",
    ),
    "returns a tensor": (
        {"update": h(lambda p, s, u: torch.zeros(2))},
        "Mine.update returned Tensor for the state 'h', expected a pointwise expression",
    ),
    "Piecewise": (
        {"update": h(lambda p, s, u: sympy.Piecewise((p.a, p.a > 0), (0, True)))},
        "Mine.update: the update uses Piecewise in",
    ),
    "Max": (
        {"update": h(lambda p, s, u: sympy.Max(p.a, 0))},
        "Mine.update: the update uses Max in 'Max(0, pre.a)', which is not a pointwise operation "
        "that longlag can compile; use + - * / ** and abs, cos, exp",
    ),
    "integral": (
        {"update": h(lambda p, s, u: sympy.Integral(s.h * p.a, (s.h, 0, 1)))},
        "uses Integral in",
    ),
    "torch call": (
        {"update": h(lambda p, s, u: torch.tanh(p.a))},
        "Mine.update failed on its symbols with TypeError: tanh(): argument 'input'",
    ),
    "matrix product": (
        {"update": h(lambda p, s, u: p.a @ s.h)},
        "must be pointwise: + - * / ** and the functions of longlag.recurrence",
    ),
    "branch on a value": (
        {"update": h(lambda p, s, u: p.a if p.a > 0 else s.h)},
        "no tensors, no matrix products, no comparisons",
    ),
    "foreign symbol": (
        {"update": h(lambda p, s, u: p.a * sympy.Symbol("k"))},
        "uses the symbol k, which is not one of its arguments; use only pre, state and unit, and",
    ),
    "symbol of the same name": (
        {"update": h(lambda p, s, u: p.a * sympy.Symbol("state.h"))},
        "uses the symbol state.h, which is not one of its arguments",
    ),
    "division by zero": (
        {"update": h(lambda p, s, u: p.a / 0)},
        "is not finite",
    ),
    "infinite constant": (
        {"update": h(lambda p, s, u: p.a * float("inf"))},
        "Mine.update returned 'oo*pre.a' for the state 'h', which is not finite; look for a "
        "division by 0, log(0) or an infinite constant",
    ),
    "NaN": ({"update": h(lambda p, s, u: p.a + float("nan"))}, "returned 'nan' for the state 'h'"),
    "imaginary": ({"update": h(lambda p, s, u: p.a * sympy.I)}, "contains I, which is not a"),
    "imaginary, not differentiated": (
        {"update": h(lambda p, s, u: stop_gradient(p.a) * sympy.I)},
        "contains I, which is not a finite real number",
    ),
    "fractional power": (
        {"update": h(lambda p, s, u: p.a**0.3)},
        "Mine.update: the update raises to the power 0.3",
    ),
    "symbolic power": (
        {"update": h(lambda p, s, u: p.a**s.h)},
        "raises to the power state.h in 'pre.a**state.h'",
    ),
    "unused gate": (
        {"gates": ("a", "b")},
        "Mine.gates declares 'b', but update never uses it; read pre.b or remove the gate",
    ),
    "recurrent weights that nothing reads": (
        {"update": h(lambda p, s, u: p.from_input("a"))},
        "Mine.update reads only pre.from_input('a'), so the gate's recurrent weights would do "
        "nothing; declare wiring",
    ),
    "gate named as a method": (
        {"gates": ("from_input",)},
        "Mine.gates: 'from_input' is a method of pre; choose another name for the gate",
    ),
    "gate that cancels": (
        {"update": h(lambda p, s, u: p.a + p.b - p.b), "gates": ("a", "b")},
        "Mine.gates declares 'b', but update never uses it",
    ),
    "unused unit parameter": (
        {"unit_parameters": {"leak": UnitParameter()}},
        "Mine.unit_parameters declares 'leak', but update never uses it; read unit.leak or remove",
    ),
    "wiring of no gate": (
        {"wiring": {"b": Absent()}},
        "Mine.wiring names the gate 'b', but no gate 'b' is declared",
    ),
    "wiring from no state": (
        {"wiring": {"a": Dense("c")}},
        "Mine.wiring['a'] reads 'c', but no state 'c' is declared (declared: 'h')",
    ),
    "diagonal from no state": ({"wiring": {"a": Diagonal("cc")}}, "Mine.wiring['a'] reads 'cc'"),
    "wiring of another type": (
        {"wiring": {"a": "dense"}},
        "Mine.wiring['a']: got 'dense', expected Dense(...), Diagonal(...) or Absent()",
    ),
    "wiring that is a class": ({"wiring": {"a": Dense}}, "expected Dense(...), Diagonal(...)"),
    "wiring that is no dict": (
        {"wiring": Dense()},
        "Mine.wiring: got Dense(source=None, truncated=False, delay=1, pattern=None, "
        'constraint=None), expected a dict by name; write wiring = {"name": ...}',
    ),
    "wiring of no matrices": (
        {"wiring": {"a": ()}},
        "Mine.wiring['a']: got (), expected Dense(...), Diagonal(...) or Absent(), or a tuple of "
        "several Dense(...), whose products are summed",
    ),
    "wiring of other matrices": (
        {"wiring": {"a": (Dense(), Diagonal())}},
        "expected Dense(...), Diagonal(...) or Absent(), or a tuple of several Dense(...)",
    ),
    "wiring as a list": (
        {"wiring": {"a": [Dense(), Dense(delay=2)]}},
        "expected Dense(...), Diagonal(...) or Absent(), or a tuple of several Dense(...)",
    ),
    "one of several from no state": (
        {"wiring": {"a": (Dense(), Dense("c"))}},
        "Mine.wiring['a'] reads 'c', but no state 'c' is declared (declared: 'h')",
    ),
    "the same matrix twice": (
        {"wiring": {"a": (Dense(delay=2), Dense("h", delay=2, pattern=[[1]]))}},
        "Mine.wiring['a'] has Dense(source='h', truncated=False, delay=2, pattern=None, "
        "constraint=None) twice: two matrices that do the same; remove one, or give it another "
        "source, delay or pattern",
    ),
    "state named as the past of another": (
        {
            "update": lambda p, s, u: {"h": tanh(p.a), "h_2": s.h},
            "state": ("h", "h_2"),
            "wiring": {"a": Dense(delay=4)},
        },
        "Mine.state: 'h_2' is also the name of the state that holds 'h' of 2 step(s) before, which "
        "Dense(delay=4) reads; choose another name",
    ),
    "the past read by update": (
        {"update": h(lambda p, s, u: tanh(p.a) + s.h_1), "wiring": {"a": Dense(delay=2)}},
        "Mine.update reads state.h_1, but no state 'h_1' is declared (declared: 'h')",
    ),
    "the past returned by update": (
        {
            "update": lambda p, s, u: {"h": tanh(p.a), "h_1": s.h},
            "wiring": {"a": Dense(delay=2)},
        },
        "Mine.update returns 'h_1', but no state 'h_1' is declared (declared: 'h')",
    ),
    "recurrent part of an absent wire": (
        {"update": h(lambda p, s, u: p.from_state("a")), "wiring": {"a": Absent()}},
        "reads pre.from_state('a'), but that gate's wiring is Absent(); wire it with Dense() or",
    ),
    "unit parameter of another type": (
        {"unit_parameters": {"leak": 0.1}},
        "Mine.unit_parameters['leak']: got 0.1, expected UnitParameter(0.1)",
    ),
    "unit parameters as a tuple": (
        {"unit_parameters": ("leak",)},
        "Mine.unit_parameters: got ('leak',), expected a dict by name",
    ),
    "reserved name": (
        {"unit_parameters": {"weight_hh": UnitParameter()}},
        "'weight_hh' is the name of a parameter that every layer has; choose another",
    ),
    "bias of no gate": (
        {"initial_bias": {"b": 1.0}},
        "Mine.initial_bias names 'b', but no gate 'b' is declared",
    ),
    "biases that are no dict": ({"initial_bias": 1.0}, "Mine.initial_bias: got 1.0, expected a"),
    "keeping gate that is none": (
        {"keeping_gates": {"b": 1}},
        "Mine.keeping_gates names 'b', but no gate 'b' is declared",
    ),
    "symbol of nothing": (
        {"latex_symbols": {"b": "B"}},
        "Mine.latex_symbols names 'b', but no name 'b' is declared",
    ),
    "output no state": (
        {"output": "y"},
        "Mine.output is 'y', but no state 'y' is declared (declared: 'h')",
    ),
    "state as text": ({"state": "h"}, "Mine.state: got 'h', expected a tuple of names; write"),
    "gates as a list": ({"gates": ["a"]}, "Mine.gates: got ['a'], expected a tuple of names"),
    "no gates declared": ({"gates": None}, "Mine declares no gates; write gates = "),
    "numbers as names": ({"gates": (1,)}, "Mine.gates: got (1,), expected a tuple of names"),
    "no state": ({"state": ()}, "Mine.state: got (), expected at least 1 name"),
    "no gate": ({"gates": ()}, "Mine.gates: got (), expected at least 1 name"),
    "name with a blank": (
        {"gates": ("a b",)},
        "Mine.gates: 'a b' is not a name that update can read as an attribute; use letters",
    ),
    "keyword": ({"gates": ("lambda",)}, "Mine.gates: 'lambda' is not a name"),
    "private name": ({"gates": ("_a",)}, "Mine.gates: '_a' is not a name"),
    "name twice": ({"gates": ("a", "a")}, "Mine.gates: 'a' is declared twice"),
    "bad parameter name": (
        {"unit_parameters": {"2x": UnitParameter()}},
        "Mine.unit_parameters: '2x' is not a name",
    ),
}


@pytest.mark.parametrize(("parts", "message"), REFUSED.values(), ids=REFUSED)
def test_a_declaration_without_meaning_is_refused(parts, message):
    with pytest.raises(DeclarationError, match=re.escape(message)):
        _ = declare(**parts).recurrence


def test_a_declaration_error_is_a_value_error():
    assert issubclass(DeclarationError, ValueError)


def test_the_cause_of_a_failed_update_is_kept():
    with pytest.raises(DeclarationError) as caught:
        _ = declare(h(lambda p, s, u: torch.tanh(p.a))).recurrence
    assert isinstance(caught.value.__cause__, TypeError)


# Determinism

TRACED = """
from longlag import cells
from longlag.recurrence import (
    Cell, Dense, UnitParameter, block_diagonal, exp, sin, sqrt, tanh
)

class Mine(Cell):
    state = ("h", "c", "zeta")
    gates = ("b", "a", "omega")
    unit_parameters = {"k": UnitParameter(), "alpha": UnitParameter()}
    wiring = {
        "b": (Dense("zeta", delay=3), Dense("c", delay=2)),
        "a": (Dense(), Dense(pattern=block_diagonal(2))),
    }
    def update(self, pre, state, unit):
        c = tanh(pre.a) * state.c / (1 + pre.b**2) + unit.alpha * sin(state.zeta)
        return {"h": exp(-c) * pre.omega, "c": c, "zeta": sqrt(1 + c**2) * unit.k - state.zeta}

for cell in (Mine(), cells.GRU(), cells.LSTM(peepholes=True), cells.LSTM1997(), cells.IndRNN()):
    print(cell.recurrence.forward, cell.recurrence.linearisation, cell.latex())
"""


@pytest.mark.slow
def test_tracing_does_not_depend_on_the_hash_seed():
    printed = set()
    for seed in ("1", "4321"):
        done = subprocess.run(
            [sys.executable, "-c", TRACED],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.add(done.stdout)
    assert len(printed) == 1
    assert "return" in printed.pop()


@pytest.mark.parametrize(
    "name", ["tanh", "sigmoid", "relu", "saturate", "exp", "log", "sqrt", "sin", "cos"]
)
def test_functions_are_the_words_of_an_update(name):
    function = getattr(recurrence, name)
    program = declare(h(lambda p, s, u: function(p.a))).recurrence.forward
    assert str(program) == f"v0 = {name}(pre.a)\nreturn v0"


class Circle(Cell):
    """Each of two states reads the new value of the other."""

    state = ("h", "c")
    gates = ("of_h", "of_c")
    wiring = {"of_h": Dense("c", delay=0), "of_c": Dense("h", delay=0)}

    def update(self, pre, state, unit):
        return {"h": tanh(pre.of_h), "c": tanh(pre.of_c)}


class Itself(Circle):
    wiring = {"of_h": Dense(), "of_c": Dense("c", delay=0)}


class ThroughTheUpdate(Circle):
    """c is made of h, which the gate of h reads."""

    wiring = {"of_h": Dense("c", delay=0), "of_c": Dense()}

    def update(self, pre, state, unit):
        h = tanh(pre.of_h)
        return {"h": h, "c": tanh(pre.of_c) * h}


@pytest.mark.parametrize("cell", [Circle, Itself, ThroughTheUpdate])
def test_a_new_value_that_is_made_of_itself_is_refused(cell):
    message = r"wiring\['of_.'\] reads the new value of '.' \(delay=0\), which is made of this gate"
    with pytest.raises(DeclarationError, match=message):
        _ = cell().recurrence


def test_stages_follow_from_what_is_read():
    both = cases.CELLS["Staged"].recurrence
    assert both.stages == ((2, 0, 1, 0, 0), (0, 1, 2, 0))
    assert cells.LEM().recurrence.stages == ((1, 0), (0, 0, 0, 1))
    assert cells.LSTM().recurrence.stages == ((0, 0), (0, 0, 0, 0))
