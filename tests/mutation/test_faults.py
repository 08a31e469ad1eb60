"""G8: the comparison that the tests of the cells make detects every fault of this list.

A fault is one small change: of the traced equations, of what reaches the scan, or of the backward
pass. Each is a real change of behaviour, so a comparison that passes would be blind. The list of
a cell has at least 20, and the comparison must find all.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import pytest
import sympy
import torch
from tests.cells import oracle

from longlag import cells
from longlag.layers import Recurrent
from longlag.layers import recurrent as layer_module
from longlag.recurrence import Recurrence, functions, sigmoid, tanh
from longlag.scan import Weights, derived
from longlag.scan.dilated import Dilation
from longlag.scan.step import TorchStep

Fault = Callable[[Recurrent, pytest.MonkeyPatch], None]

CELLS = {
    **{file: getattr(cells, name)() for file, name in cells.CELLS.items()},
    "leaky": cells.Leaky(leak=(0.8, 0.3, 0.1), train_leak=True),
    "leaky without W": cells.Leaky(0.3, True, recurrent=False),
    "lstm with peepholes": cells.LSTM(peepholes=True),
    "indrnn": cells.IndRNN("tanh"),
    "skip": cells.Skip((1, 3)),
    "clockwork": cells.Clockwork((1, 2, 4)),
    "antisymmetric": cells.Antisymmetric(0.5, 0.3),
    "elman orthogonal": cells.Elman(constraint="orthogonal"),
    "cornn": cells.CoRNN(0.5, 2.0, 0.7),
    "lem": cells.LEM(0.6),
    "gru before the product": cells.GRU(reset_after=False),
}
"""By the file of the cell, and what tells this variant of it."""


def symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, real=True)


# Faults of the equations


def exchange(layer: Recurrent, recurrence: Recurrence) -> None:
    """Another recurrence in the place of a layer's."""
    layer.recurrence, layer._dilation = recurrence, Dilation.of(recurrence, 1)


def equation(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    """The traced equations after a change, with all that is derived from them."""

    def inject(layer: Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
        before = layer.recurrence
        changed = {**before.equations, **change(dict(before.equations))}
        assert changed != before.equations, "this fault changes nothing"
        exchange(layer, dataclasses.replace(before, equations=changed))

    return inject


def swap(one: str, other: str) -> Fault:
    """Two symbols in each other's place, in all equations."""
    names = {symbol(one): symbol(other), symbol(other): symbol(one)}
    return equation(lambda e: {s: value.xreplace(names) for s, value in e.items()})


def put(name: str, value: Callable[[sympy.Symbol], Any]) -> Fault:
    """Another expression in place of a symbol, in all equations."""
    here = symbol(name)
    return equation(lambda e: {s: v.xreplace({here: value(here)}) for s, v in e.items()})


def function(old: Any, new: Any) -> Fault:
    """Another function in place of one, everywhere."""
    return equation(lambda e: {s: value.replace(old, new) for s, value in e.items()})


def scaled(state: str, factor: float) -> Fault:
    return equation(lambda e: {state: factor * e[state]})


# Faults of what reaches the scan


def given(**change: Callable[..., Any]) -> Fault:
    """Another argument of the scan."""

    def inject(layer: Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
        scan = layer_module.scan_dilated

        def faulty(dilation, x, weights, initial, **schedule):
            arguments = {"x": x, "weights": weights, "initial": initial, **schedule}
            arguments |= {name: make(arguments[name]) for name, make in change.items()}
            return scan(dilation, **arguments)

        monkeypatch.setattr(layer_module, "scan_dilated", faulty)

    return inject


def results(change: Callable[..., Any]) -> Fault:
    """Another result of the scan."""

    def inject(layer: Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
        scan = layer_module.scan_dilated
        monkeypatch.setattr(layer_module, "scan_dilated", lambda *a, **o: change(scan(*a, **o)))

    return inject


def matrix(change: Callable[[torch.Tensor], torch.Tensor]) -> Fault:
    return given(weights=lambda w: w._replace(recurrent=change(w.recurrent)))


def kept(change: Callable[[Recurrent, torch.Tensor], torch.Tensor]) -> Fault:
    """Another W in place of one that is kept orthogonal."""

    def inject(layer: Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
        matrix(lambda w: change(layer, w))(layer, monkeypatch)

    return inject


def unit(number: int, change: Callable[[torch.Tensor], torch.Tensor]) -> Fault:
    def changed(weights: Weights) -> Weights:
        units = list(weights.units)
        units[number] = change(units[number])
        return weights._replace(units=tuple(units))

    return given(weights=changed)


def gates(order: Callable[[list[Any]], list[Any]]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: torch.cat(order(list(tensor.split(oracle.HIDDEN))), 0)


def state(number: int, change: Callable[[torch.Tensor], torch.Tensor]) -> Fault:
    return given(
        initial=lambda states: tuple(change(s) if n == number else s for n, s in enumerate(states))
    )


def input_side(change: Callable[[Recurrent, torch.Tensor], torch.Tensor]) -> Fault:
    """Another drive a = U x + b."""

    def inject(layer: Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
        scan = layer_module.scan_dilated

        def faulty(dilation, x, weights, initial, **schedule):
            given = Weights(weights.recurrent, weights.units)
            return scan(dilation, change(layer, x), given, initial, **schedule)

        monkeypatch.setattr(layer_module, "scan_dilated", faulty)

    return inject


def linear(layer, x, weight=None, bias=None):
    weight = layer.weight_ih if weight is None else weight
    return torch.nn.functional.linear(x, weight, layer.bias if bias is None else bias)


# Faults of the backward pass


def backward(name: str, change: Callable[..., Any], where: Any = derived) -> Fault:
    """Another function in place of one that the backward pass calls."""

    def inject(layer: Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
        old = getattr(where, name)
        monkeypatch.setattr(where, name, lambda *arguments: change(old, *arguments))

    return inject


def sent_back(change: Callable[..., Any]) -> Fault:
    """Another product in place of that with W^T; that with U stays."""

    def product(old: Any, x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        of_w = matrix.shape[-1] == oracle.HIDDEN
        return change(old, x, matrix) if of_w else old(x, matrix)

    return backward("times", product)


def partials(change: Callable[[dict[Any, Any]], dict[Any, Any]]) -> Fault:
    """Other derivatives of the same equations."""

    def inject(layer: Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
        before = layer.recurrence
        exchange(layer, dataclasses.replace(before))
        changed = change(dict(before.partials))
        assert changed != before.partials, "this fault changes nothing"
        layer.recurrence.__dict__["partials"] = changed

    return inject


def at(state: str, name: str, change: Callable[[Any], Any]) -> Fault:
    key = (state, symbol(name))
    return partials(lambda p: {**p, key: change(p[key])})


def without(state: str, name: str) -> Fault:
    return partials(lambda p: {key: v for key, v in p.items() if key != (state, symbol(name))})


def half_block(old, self, block, *arguments):
    """The error is sent back through all steps of a block but its first."""
    return old(self, slice(min(block.start + 1, block.stop - 1), block.stop), *arguments)


def mask_forgotten(old, step, product, states, mask):
    """The mask is there in the steps of the forward pass, not in the blocks of the backward."""
    return old(step, product, states, None if states[0].dim() == 3 else mask)


def mask_on_states(old, step, a, states, blocks, units, mask, clock):
    """The dropout mask falls on the states themselves, not on what W reads."""
    return old(step, a, [state * mask for state in states], blocks, units, None, clock)


def error_at_matrices(truncated: bool) -> Fault:
    """The error flows back through no recurrent matrix, or through all."""

    def inject(layer: Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
        gates = []
        for gate in layer.recurrence.gates:
            wires = tuple(dataclasses.replace(wire, truncated=truncated) for wire in gate.matrices)
            gates.append(dataclasses.replace(gate, wiring=wires) if wires else gate)
        exchange(layer, dataclasses.replace(layer.recurrence, gates=tuple(gates)))

    return inject


# Every cell

EVERY: dict[str, Fault] = {
    "U reversed": input_side(lambda layer, x: linear(layer, x, layer.weight_ih.flip(1))),
    "U ignored": input_side(lambda layer, x: linear(layer, x, 0 * layer.weight_ih)),
    "bias ignored": input_side(lambda layer, x: linear(layer, x, bias=torch.zeros(()))),
    "bias twice": input_side(lambda layer, x: linear(layer, x, bias=2 * layer.bias)),
    "x a step late": input_side(lambda layer, x: linear(layer, x.roll(1, 1))),
    "x backwards": input_side(lambda layer, x: linear(layer, x.flip(1))),
    "h0 ignored": state(0, torch.zeros_like),
    "h0 cut off": state(0, torch.Tensor.detach),
    "h0 of the next row": state(0, lambda h: h.roll(1, 0)),
    "lengths one short": given(lengths=lambda n: (n - 1).clamp(min=0)),
    "lengths one long": given(lengths=lambda n: (n + 1).clamp(max=oracle.STEPS)),
    "lengths ignored": given(lengths=lambda n: torch.full_like(n, oracle.STEPS)),
    "lengths of the next row": given(lengths=lambda n: n.roll(1)),
    "resets ignored": given(resets=torch.zeros_like),
    "resets a step late": given(resets=lambda r: r.roll(1, 1)),
    "resets inverted": given(resets=torch.logical_not),
    "resets all rows": given(resets=lambda r: r.any(0, keepdim=True).expand_as(r)),
    "output a step late": results(lambda r: r._replace(output=r.output.roll(1, 1))),
    "final state is the last output": results(
        lambda r: r._replace(state=(r.output[:, -1], *r.state[1:]))
    ),
    "output cut off": results(lambda r: r._replace(output=r.output.detach())),
    "the first step sends no error back": backward("_block", half_block, derived._Backward),
}

MATRIX: dict[str, Fault] = {
    "W transposed": matrix(
        lambda w: torch.cat([block.T for block in w.split(oracle.HIDDEN)]).contiguous()
    ),
    "W ignored": matrix(torch.zeros_like),
    "W not trained": matrix(torch.Tensor.detach),
    "W negated": matrix(torch.neg),
    "W lacks its diagonal": matrix(
        lambda w: w * (1 - torch.eye(oracle.HIDDEN).repeat(len(w) // oracle.HIDDEN, 1))
    ),
    "dropout mask ignored": given(mask=lambda mask: None),
    "dropout mask of the next row": given(mask=lambda mask: mask.roll(1, 0)),
    "dropout mask unscaled": given(mask=lambda mask: (mask > 0).to(mask.dtype)),
    "dW misses the last step": backward("outer", lambda old, x, y, r: old(x[:-1], y[:-1], r)),
    "dW misses the first step": backward("outer", lambda old, x, y, r: old(x[1:], y[1:], r)),
    "dW a step late": backward("outer", lambda old, x, y, r: old(x, y.roll(1, 0), r)),
    "dW of the first row alone": backward("outer", lambda old, x, y, r: old(x[:, :1], y[:, :1], r)),
    "dropout mask forgotten on the way back": backward("read", mask_forgotten, TorchStep),
}

# Those of the error that flows back through W: where it is truncated there is none.
SENT: dict[str, Fault] = {
    "W^T missing": sent_back(lambda old, x, w: 0 * old(x, w)),
    "W for W^T": sent_back(
        lambda old, x, w: old(x, torch.cat([b.T for b in w.split(oracle.HIDDEN)]).contiguous())
    ),
    "W^T twice": sent_back(lambda old, x, w: 2 * old(x, w)),
    "error truncated at W": error_at_matrices(True),
}

# Where h is read by W alone, a mask on h is a mask on what W reads.
MASK: dict[str, Fault] = {
    "dropout mask on the states": backward("update", mask_on_states, TorchStep),
}

UNITS: dict[str, Fault] = {
    "unit parameters not trained": backward(
        "_add_units", lambda old, *arguments: None, derived._Backward
    ),
    "unit parameters of the last step": backward(
        "_add_units",
        lambda old, self, p, visited, d: old(
            self, {k: v[-1:] for k, v in p.items()}, [path[:1] for path in visited], d
        ),
        derived._Backward,
    ),
}

MEMORY: dict[str, Fault] = {
    "c0 ignored": state(1, torch.zeros_like),
    "c0 cut off": state(1, torch.Tensor.detach),
    "c0 is h0": given(initial=lambda states: (states[0], states[0])),
    "h0 and c0 swapped": given(initial=lambda states: states[::-1]),
    "states given back swapped": results(lambda r: r._replace(state=r.state[::-1])),
    "c added to the output": results(
        lambda r: r._replace(output=r.output + r.state[1].unsqueeze(1))
    ),
    "delta c not sent back": without("c", "state.c"),
}  # fmt: skip

# One cell

c, h = symbol("state.c"), symbol("state.h")
p_i, p_f, p_o = (symbol(f"unit.peephole_{gate}") for gate in ("input", "forget", "output"))


def lstm_with(**parts: Any) -> Fault:
    """The LSTM built again from its parts, one of them another."""

    def change(e: dict[str, Any]) -> dict[str, Any]:
        i, f, o = (sigmoid(symbol(f"pre.{gate}")) for gate in ("input", "forget", "output"))
        g = tanh(symbol("pre.candidate"))
        named = {"i": i, "f": f, "o": o, "g": g, "c": c}
        new = parts.get("c", lambda n: n["f"] * c + n["i"] * n["g"])(named)
        named["new"] = new
        return {"c": new, "h": parts.get("h", lambda n: n["o"] * tanh(n["new"]))(named)}

    return equation(change)


def peepholes_with(input_reads: Any = c, forget_reads: Any = c, output_reads: Any = None) -> Fault:
    """The LSTM with peepholes built again, a peephole reading something else."""

    def change(e: dict[str, Any]) -> dict[str, Any]:
        i = sigmoid(symbol("pre.input") + p_i * input_reads)
        f = sigmoid(symbol("pre.forget") + p_f * forget_reads)
        memory = f * c + i * tanh(symbol("pre.candidate"))
        read = memory if output_reads is None else output_reads
        o = sigmoid(symbol("pre.output") + p_o * read)
        return {"c": memory, "h": o * tanh(memory)}

    return equation(change)


LSTM: dict[str, Fault] = {
    "input and forget gate swapped": swap("pre.input", "pre.forget"),
    "input and output gate swapped": swap("pre.input", "pre.output"),
    "forget and output gate swapped": swap("pre.forget", "pre.output"),
    "candidate and output swapped": swap("pre.candidate", "pre.output"),
    "sigmoid for tanh": function(tanh, sigmoid),
    "tanh for sigmoid": function(sigmoid, tanh),
    "forget gate complement": put("pre.forget", lambda a: -a),
    "input gate complement": put("pre.input", lambda a: -a),
    "output gate complement": put("pre.output", lambda a: -a),
    "c grows": scaled("c", 1.001),
    "partial of c by the forget gate negated": at("c", "pre.forget", lambda p: -p),
    "partial of h by the output gate missing": without("h", "pre.output"),
    "partial of h by c missing": without("h", "state.c"),
}
PLAIN_LSTM: dict[str, Fault] = {
    "no forget gate": lstm_with(c=lambda n: c + n["i"] * n["g"]),
    "no input gate": lstm_with(c=lambda n: n["f"] * c + n["g"]),
    "forget is one minus input": lstm_with(c=lambda n: (1 - n["i"]) * c + n["i"] * n["g"]),
    "input is one minus forget": lstm_with(c=lambda n: n["f"] * c + (1 - n["f"]) * n["g"]),
    "output reads the old c": lstm_with(h=lambda n: n["o"] * tanh(c)),
    "output without tanh": lstm_with(h=lambda n: n["o"] * n["new"]),
    "no output gate": lstm_with(h=lambda n: tanh(n["new"])),
    "candidate reads c": put("pre.candidate", lambda a: a + c),
}
PEEPHOLES: dict[str, Fault] = {
    "peephole of the output reads the old c": peepholes_with(output_reads=c),
    "peephole of the output reads h": peepholes_with(output_reads=h),
    "peephole of the input reads h": peepholes_with(input_reads=h),
    "peephole of the forget gate reads h": peepholes_with(forget_reads=h),
    "peephole of the forget gate missing": peepholes_with(forget_reads=sympy.Integer(0)),
    "peephole of the input missing": peepholes_with(input_reads=sympy.Integer(0)),
    "peephole of the output missing": peepholes_with(output_reads=sympy.Integer(0)),
    "peepholes of input and forget swapped": swap(str(p_i), str(p_f)),
    "peepholes of input and output swapped": swap(str(p_i), str(p_o)),
    "peepholes negated": unit(0, torch.neg),
    "peephole of the forget gate not trained": unit(1, torch.Tensor.detach),
}
LSTM1997: dict[str, Fault] = {
    "input gate and candidate swapped": swap("pre.input", "pre.candidate"),
    "input and output gate swapped": swap("pre.input", "pre.output"),
    "tanh for sigmoid": function(sigmoid, tanh),
    "memory leaks": put("state.c", lambda c: 0.999 * c),
    "output reads the old c": equation(
        lambda e: {"h": sigmoid(symbol("pre.output")) * (2 * sigmoid(c) - 1)}
    ),
    "no output gate": equation(lambda e: {"h": 2 * sigmoid(e["c"]) - 1}),
    "no input gate": equation(lambda e: {"c": c + 4 * sigmoid(symbol("pre.candidate")) - 2}),
    "h is bipolar of twice c": equation(
        lambda e: {"h": sigmoid(symbol("pre.output")) * (2 * sigmoid(2 * e["c"]) - 1)}
    ),
    "g within 1": equation(
        lambda e: {
            "c": c + sigmoid(symbol("pre.input")) * (2 * sigmoid(symbol("pre.candidate")) - 1)
        }
    ),
    "output gate complement": put("pre.output", lambda a: -a),
    "partial of c by the candidate halved": at("c", "pre.candidate", lambda p: p / 2),
    "partial of h by c missing": without("h", "state.c"),
}


def gru_new(a: Any, w: Any, b: Any, r: Any) -> Any:
    return tanh(a + r * (w + b))


def gru_old(n: Any, z: Any) -> Any:
    return (1 - z) * n + z * h


def gru_with(n: Callable[..., Any] = gru_new, h: Callable[..., Any] = gru_old) -> Fault:
    """The GRU built again from its parts, one of them another."""

    def change(e: dict[str, Any]) -> dict[str, Any]:
        r, z = sigmoid(symbol("pre.reset")), sigmoid(symbol("pre.update"))
        new = n(symbol("input.new"), symbol("recurrent.new"), symbol("unit.bias_hn"), r)
        return {"h": h(new, z)}

    return equation(change)


GRU: dict[str, Fault] = {
    "reset and update swapped": swap("pre.reset", "pre.update"),
    "update gate complement": put("pre.update", lambda a: -a),
    "reset gate complement": put("pre.reset", lambda a: -a),
    "input and recurrent part swapped": swap("input.new", "recurrent.new"),
    "sigmoid for tanh": function(tanh, sigmoid),
    "tanh for sigmoid": function(sigmoid, tanh),
    "second bias outside the reset": gru_with(n=lambda a, w, b, r: tanh(a + b + r * w)),
    "second bias missing": put("unit.bias_hn", lambda b: 0 * b),
    "no reset": gru_with(n=lambda a, w, b, r: tanh(a + w + b)),
    "reset on the input too": gru_with(n=lambda a, w, b, r: tanh(r * (a + w + b))),
    "reset before the product": gru_with(n=lambda a, w, b, r: tanh(a + w + b + (r - 1) * h)),
    "new state not gated": gru_with(h=lambda n, z: n + z * h),
    "old state not gated": gru_with(h=lambda n, z: (1 - z) * n + h),
    "partial by the old state missing": without("h", "state.h"),
    "partial by the reset negated": at("h", "pre.reset", lambda p: -p),
    "partial by the recurrent part without reset": at(
        "h", "recurrent.new", lambda p: p / sigmoid(symbol("pre.reset"))
    ),
}
LEAKY: dict[str, Fault] = {
    "leak complement": put("unit.leak", lambda a: 1 - a),
    "leak squared": put("unit.leak", lambda a: a**2),
    "leak ignored": put("unit.leak", lambda a: 1 + 0 * a),
    "leak of the next unit": unit(0, lambda a: a.roll(1, -1)),
    "leak not trained": unit(0, torch.Tensor.detach),
    "input not scaled by the leak": equation(
        lambda e: {"h": (1 - symbol("unit.leak")) * h + tanh(symbol("pre.candidate"))}
    ),
    "state not decayed": equation(
        lambda e: {"h": h + symbol("unit.leak") * tanh(symbol("pre.candidate"))}
    ),
    "activation around the sum": equation(
        lambda e: {
            "h": tanh((1 - symbol("unit.leak")) * h + symbol("unit.leak") * symbol("pre.candidate"))
        }
    ),
    "sigmoid for tanh": function(tanh, sigmoid),
    "partial by the leak negated": at("h", "unit.leak", lambda p: -p),
    "partial by the state missing": without("h", "state.h"),
    "partial by the state is the leak": at("h", "state.h", lambda p: symbol("unit.leak")),
}
# With one leak for all units the next unit's is the same: no fault.
LEAKY_WITHOUT_W = {name: fault for name, fault in LEAKY.items() if "next unit" not in name}
ELMAN: dict[str, Fault] = {
    "sigmoid for tanh": function(tanh, sigmoid),
    "relu for tanh": function(tanh, functions.relu),
    "identity for tanh": function(tanh, lambda a: a),
    "tanh twice": function(tanh, lambda a: tanh(tanh(a))),
    "output negated": scaled("h", -1),
    "the old state added": equation(lambda e: {"h": e["h"] + h}),
    "derivative negated": at("h", "pre.candidate", lambda p: -p),
    "derivative 1 - h for 1 - h^2": at(
        "h", "pre.candidate", lambda p: 1 - tanh(symbol("pre.candidate"))
    ),
    "derivative 1": at("h", "pre.candidate", lambda p: sympy.Integer(1)),
}
INDRNN: dict[str, Fault] = {
    "w ignored": unit(0, torch.zeros_like),
    "w negated": unit(0, torch.neg),
    "w of the next unit": unit(0, lambda w: w.roll(1, -1)),
    "w not trained": unit(0, torch.Tensor.detach),
    "w squared": put("unit.diagonal.candidate", lambda w: w**2),
    "w outside the activation": equation(
        lambda e: {"h": tanh(symbol("pre.candidate")) + symbol("unit.diagonal.candidate") * h}
    ),
    "relu for tanh": function(tanh, functions.relu),
    "derivative by the state without w": at(
        "h", "state.h", lambda p: p / symbol("unit.diagonal.candidate")
    ),
    "derivative by w without the state": at("h", "unit.diagonal.candidate", lambda p: p / h),
    "derivative by the state missing": without("h", "state.h"),
}
SKIP: dict[str, Fault] = {
    "matrices of the delays swapped": matrix(gates(lambda parts: parts[::-1])),
    "long delay a step short": equation(lambda e: {"h_2": h}),
    "long delay reads the step before": equation(lambda e: {"h_1": e["h"], "h_2": e["h"]}),
    "the past fades": scaled("h_1", 0.999),
    "partial of the past missing": without("h_1", "state.h"),
    "partial of the older past missing": without("h_2", "state.h_1"),
    "older past ignored": state(2, torch.zeros_like),
    "older past cut off": state(1, torch.Tensor.detach),
}
moves = functions.multiple(symbol("clock.t"), symbol("unit.period"))


def pattern(new: Any) -> Fault:
    """Other blocks of the recurrent matrix."""

    def inject(layer: Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
        (gate,) = layer.recurrence.gates
        wire = dataclasses.replace(gate.wiring, pattern=new)
        gates = (dataclasses.replace(gate, wiring=wire),)
        exchange(layer, dataclasses.replace(layer.recurrence, gates=gates))

    return inject


CLOCKWORK: dict[str, Fault] = {
    "no clock": unit(0, torch.ones_like),
    "rest and tick swapped": function(
        functions.multiple, lambda t, period: functions.step(functions.modulo(t, period))
    ),
    "a tick a step late": put("clock.t", lambda t: t - 1),
    "a tick a step early": put("clock.t", lambda t: t + 1),
    "a clock of half the speed": put("clock.t", lambda t: t / 2),
    "a resting unit forgets": equation(lambda e: {"h": moves * tanh(symbol("pre.candidate"))}),
    "a resting unit is added to": equation(
        lambda e: {"h": tanh(symbol("pre.candidate")) + (1 - moves) * h}
    ),
    "a tick adds to the state": equation(
        lambda e: {"h": moves * tanh(symbol("pre.candidate")) + h}
    ),
    "period of the next unit": unit(0, lambda periods: periods.roll(1, -1)),
    "period a step longer": unit(0, lambda periods: periods + 1),
    "clock stands": put("clock.t", lambda t: functions.floor(t) - t),
    "clock ignored at the start": state(1, torch.zeros_like),
    "clock of the next row": state(1, lambda steps: steps.roll(1, 0)),
    "states given back swapped": results(lambda r: r._replace(state=r.state[::-1])),
    "faster groups move slower ones": pattern(((1, 0, 0), (1, 1, 0), (1, 1, 1))),
    "every group reads every other": pattern(None),
    "groups read themselves alone": pattern(((1, 0, 0), (0, 1, 0), (0, 0, 1))),
    "partial by the state missing": without("h", "state.h"),
    "error of a resting unit doubled": at("h", "state.h", lambda p: 2 * p),
    "partial by the candidate at rest too": at(
        "h", "pre.candidate", lambda p: 1 - tanh(symbol("pre.candidate")) ** 2
    ),
    "sigmoid for tanh": function(tanh, sigmoid),
}
MINGRU: dict[str, Fault] = {
    "gate and candidate swapped": swap("pre.update", "pre.candidate"),
    "gate complement": put("pre.update", lambda a: -a),
    "tanh for sigmoid": function(sigmoid, tanh),
    "gate reads the state": put("pre.update", lambda a: a + h),
    "candidate reads the state": put("pre.candidate", lambda a: a + h),
    "candidate not gated": equation(lambda e: {"h": h + (1 - sigmoid(symbol("pre.update"))) * h}),
    "old state not gated": equation(
        lambda e: {"h": h + sigmoid(symbol("pre.update")) * symbol("pre.candidate")}
    ),
    "candidate through tanh": put("pre.candidate", tanh),
    "candidate above 0": put("pre.candidate", functions.positive),
    "the state fades": put("state.h", lambda s: 0.999 * s),
    "partial by the gate negated": at("h", "pre.update", lambda p: -p),
    "partial by the gate missing": without("h", "pre.update"),
    "partial by the candidate missing": without("h", "pre.candidate"),
    "partial by the old state missing": without("h", "state.h"),
}
LRU: dict[str, Fault] = {
    "turned the other way": put("unit.angle", lambda angle: -angle),
    "not turned": put("unit.angle", lambda angle: 0 * angle),
    "turned by the angle of the next unit": unit(1, lambda angle: angle.roll(1, -1)),
    "decay of the next unit": unit(0, lambda decay: decay.roll(1, -1)),
    "radius for its square": put("unit.decay", lambda decay: decay**2),
    "decay not trained": unit(0, torch.Tensor.detach),
    "angle not trained": unit(1, torch.Tensor.detach),
    "real and imaginary input swapped": swap("pre.re", "pre.im"),
    "real and imaginary past swapped": swap("state.re", "state.im"),
    "input as it is": equation(
        lambda e: {"re": e["re"] + symbol("pre.re") * (1 - sympy.sqrt(1 - symbol("unit.decay")))}
    ),
    "parts apart": put("state.im", lambda s: 0 * s),
    "conjugate put out": scaled("im", -1),
    "im0 ignored": state(1, torch.zeros_like),
    "im0 cut off": state(1, torch.Tensor.detach),
    "re0 and im0 swapped": given(initial=lambda states: states[::-1]),
    "states given back swapped": results(lambda r: r._replace(state=r.state[::-1])),
    "partial of re by im missing": without("re", "state.im"),
    "partial of im by re negated": at("im", "state.re", lambda p: -p),
    "partial of re by the angle missing": without("re", "unit.angle"),
    "partial of im by the decay halved": at("im", "unit.decay", lambda p: p / 2),
}
ORTHOGONAL: dict[str, Fault] = {
    "W as it was drawn": kept(lambda layer, w: layer.weight_hh_base),
    "W of what is trained": kept(lambda layer, w: layer.weight_hh_raw),
    "turned the other way": kept(
        lambda layer, w: layer.weight_hh_base @ (layer.weight_hh_base.T @ w).T
    ),
    "turned before B": kept(lambda layer, w: layer.weight_hh_base.T @ w @ layer.weight_hh_base),
}
ANTISYMMETRIC: dict[str, Fault] = {
    "step doubled": unit(0, lambda numbers: 2 * numbers),
    "no diffusion": unit(1, torch.zeros_like),
    "diffusion outward": put("unit.diffusion", lambda gamma: -gamma),
    "step and diffusion swapped": swap("unit.step", "unit.diffusion"),
    "diffusion outside of tanh": equation(
        lambda e: {
            "h": h
            + symbol("unit.step") * (tanh(symbol("pre.candidate")) - symbol("unit.diffusion") * h)
        }
    ),
    "the old state left out": equation(lambda e: {"h": e["h"] - h}),
    "step of the state too": equation(lambda e: {"h": e["h"] - h + symbol("unit.step") * h}),
    "half of W is free": matrix(torch.tril),
    "sigmoid for tanh": function(tanh, sigmoid),
    "partial by the old state without diffusion": at("h", "state.h", lambda p: 1 + 0 * p),
    "partial by the old state missing": without("h", "state.h"),
    "partial by the candidate without the step": at(
        "h", "pre.candidate", lambda p: p / symbol("unit.step")
    ),
}
y, z = symbol("state.y"), symbol("state.z")
CORNN: dict[str, Fault] = {
    "step doubled": unit(0, lambda numbers: 2 * numbers),
    "gamma and epsilon swapped": swap("unit.gamma", "unit.epsilon"),
    "no pull back": unit(1, torch.zeros_like),
    "no damping": unit(2, torch.zeros_like),
    "pull and damping outward": equation(
        lambda e: {s: v.xreplace({y: -y, z: -z}) for s, v in e.items()}
    ),
    "matrices of y and z swapped": matrix(gates(lambda parts: parts[::-1])),
    "the old velocity moves y": equation(lambda e: {"y": y + symbol("unit.step") * z}),
    "a step of y without its length": equation(lambda e: {"y": y + e["z"]}),
    "the new y pulls": equation(lambda e: {"z": e["z"].xreplace({y: y + symbol("unit.step") * z})}),
    "velocity added to the output": results(
        lambda r: r._replace(output=r.output + r.state[1].unsqueeze(1))
    ),
    "z0 ignored": state(1, torch.zeros_like),
    "z0 cut off": state(1, torch.Tensor.detach),
    "y0 and z0 swapped": given(initial=lambda states: states[::-1]),
    "states given back swapped": results(lambda r: r._replace(state=r.state[::-1])),
    "sigmoid for tanh": function(tanh, sigmoid),
    "partial of y by z missing": without("y", "state.z"),
    "partial of z by y missing": without("z", "state.y"),
    "partial of y by the candidate missing": without("y", "pre.candidate"),
}
LEM: dict[str, Fault] = {
    "step doubled": unit(0, lambda numbers: 2 * numbers),
    "gates swapped": swap("pre.step_z", "pre.step_y"),
    "y and z swapped where they are kept": swap("state.y", "state.z"),
    "gate of z complement": put("pre.step_z", lambda a: -a),
    "gate of y complement": put("pre.step_y", lambda a: -a),
    "y0 and z0 swapped": given(initial=lambda states: states[::-1]),
    "states given back swapped": results(lambda r: r._replace(state=r.state[::-1])),
    "sigmoid for tanh": function(tanh, sigmoid),
    "partial of z by its gate negated": at("z", "pre.step_z", lambda p: -p),
    "partial of y by its candidate missing": without("y", "pre.candidate_y"),
    "partial of z by z missing": without("z", "state.z"),
}
ROWS: dict[str, Fault] = {
    "gates of W in another order": matrix(gates(lambda parts: [*parts[1:], parts[0]])),
    "first two gates of W swapped": matrix(gates(lambda p: [p[1], p[0], *p[2:]])),
    "gates of U in another order": input_side(
        lambda layer, x: linear(layer, x, layer.weight_ih.roll(oracle.HIDDEN, 0))
    ),
    "gates of b in another order": input_side(
        lambda layer, x: linear(layer, x, bias=layer.bias.roll(oracle.HIDDEN, 0))
    ),
}

OWN: dict[str, dict[str, Fault]] = {
    "elman": ELMAN,
    "leaky": LEAKY,
    "elman orthogonal": ELMAN | ORTHOGONAL,
    "leaky without W": LEAKY_WITHOUT_W,
    "lstm": LSTM | PLAIN_LSTM,
    "lstm with peepholes": LSTM | PEEPHOLES,
    "lstm1997": LSTM1997,
    "gru": GRU,
    "indrnn": INDRNN,
    "skip": ELMAN | SKIP,
    "clockwork": CLOCKWORK,
    "antisymmetric": ANTISYMMETRIC,
    "cornn": CORNN,
    "lem": LEM,
    "mingru": MINGRU,
    "lru": LRU,
}
"""The faults that only one cell can have."""


def faults_of(name: str) -> dict[str, Fault]:
    """Every fault that changes what this cell does."""
    recurrence = CELLS[name].recurrence
    read = {by for _, by in recurrence.partials}
    sent = any(not wire.truncated for wire in recurrence.wires)
    faults = dict(EVERY)
    if not sent and symbol("state.h") not in read:
        del faults["h0 cut off"]  # no error comes back to h0
    if recurrence.wires:
        faults |= MATRIX | ({} if read.isdisjoint(recurrence.state_symbols) else MASK)
        faults |= SENT if sent else {"error not truncated": error_at_matrices(False)}
    if any(parameter.trained for parameter in recurrence.unit_parameters.values()):
        faults |= UNITS
    if recurrence.constrained == "antisymmetric":
        del faults["W lacks its diagonal"]  # it has none
    if len(recurrence.dense_gates) > 1:
        faults |= ROWS
    if "c" in recurrence.states:
        faults |= MEMORY
    return faults | OWN.get(name, {})


FAULTS = {name: faults_of(name) for name in CELLS}


@pytest.fixture(scope="module")
def expected():
    """What the equations say of each cell: layer, problem and answer, worked out once."""
    found = {}
    for name, cell in CELLS.items():
        equations = importlib.import_module(f"tests.cells.test_{name.split()[0]}").equations
        layer, problem = oracle.layer_of(cell, backend="derived"), oracle.problem(cell)
        found[name] = problem, oracle.answer_of_equations(equations, layer, problem)
    return found


def matches(name: str, expected: Any, fault: Fault | None = None) -> bool:
    """The verdict of the comparison that the cell's own test makes."""
    problem, answer = expected[name]
    layer = oracle.layer_of(CELLS[name], backend="derived")
    with pytest.MonkeyPatch.context() as monkeypatch:
        if fault is not None:
            fault(layer, monkeypatch)
        return not oracle.difference(oracle.answer_of_layer(layer, problem), answer)


@pytest.mark.parametrize("name", CELLS)
def test_without_a_fault_the_comparison_passes(name, expected):
    assert matches(name, expected)


LONG = (
    "lem",
    "gru before the product",
    "cornn",
    "mingru",
    "lru",
    "antisymmetric",
    "elman orthogonal",
)
"""Cells whose faults, but for every eighth, are looked for in the long tests."""


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(name, fault, marks=[pytest.mark.long] * (name in LONG and number % 8 > 0))
        for name, faults in FAULTS.items()
        for number, fault in enumerate(faults)
    ],
)
def test_every_fault_is_found(name, fault, expected):
    assert not matches(name, expected, FAULTS[name][fault])


@pytest.mark.parametrize("name", CELLS)
def test_there_are_at_least_twenty_for_each_cell(name):
    assert len(FAULTS[name]) >= 20


def test_a_fault_leaves_nothing_behind(expected):
    for fault in FAULTS["elman"].values():
        matches("elman", expected, fault)
    assert matches("elman", expected)
