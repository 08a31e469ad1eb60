"""Tracing: one call of ``update`` with symbols, checked, gives the recurrence."""

import dataclasses
import keyword
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import sympy

from longlag.arguments import is_whole
from longlag.messages import near_match
from longlag.recurrence.functions import Expression, stop_gradient
from longlag.recurrence.program import DeclarationError
from longlag.recurrence.traced import CLOCK, TICKS, Gate, Recurrence, held, real_symbol
from longlag.recurrence.wiring import Absent, Dense, Diagonal, Groups, UnitParameter, Wiring

RESERVED = ("weight_ih", "weight_hh", "weight_hh_diagonal", "bias")
"""Names of the layer's own parameters, which a unit parameter cannot take."""


class _Namespace:
    """Attribute access to symbols, with an error that names what there is."""

    def __init__(self, cell: str, word: str, symbols: Mapping[str, Any]) -> None:
        self._cell, self._word, self._symbols = cell, word, symbols
        self._used: set[str] = set()

    def _get(self, name: str, call: str) -> Any:
        if name not in self._symbols:
            _unknown(f"{self._cell}.update reads {call}", self._word, name, self._symbols)
        self._used.add(name)
        return self._symbols[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        namespace = {"gate": "pre", "unit parameter": "unit"}.get(self._word, "state")
        return self._get(name, f"{namespace}.{name}")


class _State(_Namespace):
    """The states at t - 1, and t itself, where no state has that name."""

    def _get(self, name: str, call: str) -> Any:
        if name == "t" and name not in self._symbols:
            return CLOCK
        return super()._get(name, call)


class _Pre(_Namespace):
    """The pre-activations: a + r by attribute, a and r apart by method."""

    def __init__(self, cell: str, gates: Mapping[str, Any]) -> None:
        super().__init__(cell, "gate", {name: real_symbol(f"pre.{name}") for name in gates})
        self._gates = gates
        self._split: set[str] = set()

    def from_input(self, name: str) -> sympy.Symbol:
        self._get(name, f"pre.from_input({name!r})")
        self._split.add(name)
        return real_symbol(f"input.{name}")

    def from_state(self, name: str) -> sympy.Symbol:
        self._get(name, f"pre.from_state({name!r})")
        if isinstance(self._gates[name], Absent):
            raise DeclarationError(
                f"{self._cell}.update reads pre.from_state({name!r}), but that gate's wiring is "
                "Absent(); wire it with Dense() or Diagonal(), or read pre.from_input"
            )
        self._split.add(name)
        return real_symbol(f"recurrent.{name}")


def _unknown(what: str, word: str, name: object, known: Iterable[str]) -> NoReturn:
    known = tuple(known)
    listed = ", ".join(repr(other) for other in known) or "none"
    raise DeclarationError(
        f"{what}, but no {word} {name!r} is declared (declared: {listed}){near_match(name, known)}"
    )


def _names(cell: str, attribute: str, value: Any, least: int = 1) -> tuple[str, ...]:
    if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
        raise DeclarationError(
            f"{cell}.{attribute}: got {value!r}, expected a tuple of names; "
            f'write {attribute} = ("name",)'
        )
    if len(value) < least:
        raise DeclarationError(f"{cell}.{attribute}: got (), expected at least {least} name")
    for name in value:
        if attribute == "gates" and name in ("from_input", "from_state"):
            raise DeclarationError(
                f"{cell}.gates: {name!r} is a method of pre; choose another name for the gate"
            )
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise DeclarationError(
                f"{cell}.{attribute}: {name!r} is not a name that update can read as an "
                "attribute; use letters, digits and _, with a letter first"
            )
        if value.count(name) > 1:
            raise DeclarationError(f"{cell}.{attribute}: {name!r} is declared twice")
    return value


def _mapping(cell: str, attribute: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise DeclarationError(
            f"{cell}.{attribute}: got {value!r}, expected a dict by name; write "
            f'{attribute} = {{"name": ...}}'
        )
    return dict(value)


def _wiring(
    cell: Any, name: str, gates: tuple[str, ...], states: tuple[str, ...]
) -> dict[str, Wiring]:
    declared = _mapping(name, "wiring", cell.wiring)
    for gate in declared:
        if gate not in gates:
            _unknown(f"{name}.wiring names the gate {gate!r}", "gate", gate, gates)

    def resolved(gate: str, wire: Any) -> Any:
        source = cell.output if wire.source is None else wire.source
        if source not in states:
            _unknown(f"{name}.wiring[{gate!r}] reads {source!r}", "state", source, states)
        return dataclasses.replace(wire, source=source)

    wiring: dict[str, Wiring] = {}
    for gate in gates:
        wire = declared.get(gate, Dense())
        if isinstance(wire, tuple) and wire and all(isinstance(dense, Dense) for dense in wire):
            several = tuple(resolved(gate, dense) for dense in wire)
            for dense in several:
                if several.count(dense) > 1:
                    raise DeclarationError(
                        f"{name}.wiring[{gate!r}] has {dense!r} twice: two matrices that do the "
                        "same; remove one, or give it another source, delay or pattern"
                    )
            wiring[gate] = several[0] if len(several) == 1 else several
        elif isinstance(wire, Absent):
            wiring[gate] = wire
        elif isinstance(wire, (Dense, Diagonal)):
            wiring[gate] = resolved(gate, wire)
        else:
            raise DeclarationError(
                f"{name}.wiring[{gate!r}]: got {wire!r}, expected Dense(...), Diagonal(...) or "
                "Absent(), or a tuple of several Dense(...), whose products are summed"
            )
    return wiring


def _periods(name: str, declared: Any, parameters: Mapping[str, UnitParameter]) -> tuple[int, ...]:
    periods = tuple(declared) if isinstance(declared, (tuple, list)) else None
    if periods is None or not all(is_whole(period, 1) for period in periods):
        raise DeclarationError(
            f"{name}.periods: got {declared!r}, expected a tuple of whole numbers of steps, at "
            "least 1 each, one for each equal group of units; () where no unit rests"
        )
    if periods and "period" in parameters:
        raise DeclarationError(
            f"{name}.unit_parameters: 'period' is the unit parameter that {name}.periods makes; "
            "choose another name"
        )
    return periods


def _delay_line(
    name: str, gates: Iterable[Gate], states: tuple[str, ...]
) -> dict[str, tuple[str, int]]:
    """The further states that hold the past: by name, what they hold, and how many steps old."""
    longest = dict.fromkeys(states, 1)
    for dense in (dense for gate in gates for dense in gate.matrices):
        assert dense.source is not None
        longest[dense.source] = max(longest[dense.source], dense.delay)
    line: dict[str, tuple[str, int]] = {}
    for source, delay in longest.items():
        for steps in range(1, delay):
            further = held(source, steps)
            if further in states or further in line:
                raise DeclarationError(
                    f"{name}.state: {further!r} is also the name of the state that holds "
                    f"{source!r} of {steps} step(s) before, which Dense(delay={delay}) reads; "
                    "choose another name"
                )
            line[further] = (source, steps)
    return line


def _call_update(cell: Any, name: str, pre: _Pre, state: _Namespace, unit: _Namespace) -> dict:
    try:
        result = cell.update(pre, state, unit)
    except DeclarationError:
        raise
    except Exception as error:
        raise DeclarationError(
            f"{name}.update failed on its symbols with {type(error).__name__}: {error}; it is "
            "called once with SymPy symbols and must be pointwise: + - * / ** and the functions "
            "of longlag.recurrence (tanh, sigmoid, relu, exp, ...), no tensors, no matrix "
            "products, no comparisons"
        ) from error
    if not isinstance(result, dict):
        raise DeclarationError(
            f"{name}.update returned {type(result).__name__}, expected a dict from each state's "
            f"name to its new value, such as {{{cell.state[0]!r}: ...}}"
        )
    return result


def _expression(name: str, state: str, value: Any) -> Expression:
    if isinstance(value, (bool, str)):
        expression = None
    else:
        try:
            expression = sympy.sympify(value, strict=True)
        except (sympy.SympifyError, TypeError, ValueError, AttributeError):
            expression = None
    if not isinstance(expression, sympy.Expr) or getattr(expression, "is_Matrix", False):
        raise DeclarationError(
            f"{name}.update returned {type(value).__name__} for the state {state!r}, expected a "
            "pointwise expression of pre, state and unit"
        )
    if expression.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise DeclarationError(
            f"{name}.update returned '{expression}' for the state {state!r}, which is not finite; "
            "look for a division by 0, log(0) or an infinite constant"
        )
    return expression


def trace(cell: Any) -> Recurrence:
    """Call the cell's ``update`` once with symbols and check what it declares.

    Args:
        cell: an instance of :class:`~longlag.recurrence.Cell`.

    Returns:
        The recurrence, with a, r, states and unit parameters as SymPy symbols.

    Raises:
        DeclarationError: for an unknown gate, state or unit parameter, a state that is not
            updated, a gate or unit parameter that is never read, an operation that is not
            pointwise, wiring that names no state, a matrix that is there twice, or a new value that
            is made of itself.
    """
    name = type(cell).__name__
    states = _names(name, "state", cell.state)
    if getattr(cell, "gates", None) is None:
        raise DeclarationError(
            f'{name} declares no gates; write gates = ("candidate",), one name for each '
            "pre-activation U x + W h + b that update reads"
        )
    gates = _names(name, "gates", cell.gates)
    parameters = _mapping(name, "unit_parameters", cell.unit_parameters)
    _names(name, "unit_parameters", tuple(parameters), least=0)
    for parameter, declared in parameters.items():
        if parameter in RESERVED:
            raise DeclarationError(
                f"{name}.unit_parameters: {parameter!r} is the name of a parameter that every "
                "layer has; choose another"
            )
        if not isinstance(declared, UnitParameter):
            raise DeclarationError(
                f"{name}.unit_parameters[{parameter!r}]: got {declared!r}, expected "
                f"UnitParameter({declared!r})"
            )
    if cell.output not in states:
        _unknown(f"{name}.output is {cell.output!r}", "state", cell.output, states)
    for attribute in ("initial_bias", "keeping_gates"):
        for gate in _mapping(name, attribute, getattr(cell, attribute)):
            if gate not in gates:
                _unknown(f"{name}.{attribute} names {gate!r}", "gate", gate, gates)
    for written in _mapping(name, "latex_symbols", cell.latex_symbols):
        if written not in {*states, *gates, *parameters}:
            _unknown(f"{name}.latex_symbols names {written!r}", "name", written, (*states, *gates))
    wiring = _wiring(cell, name, gates, states)
    periods = _periods(name, cell.periods, parameters)

    pre = _Pre(name, wiring)
    state = _State(name, "state", {s: real_symbol(f"state.{s}") for s in states})
    unit = _Namespace(name, "unit parameter", {u: real_symbol(f"unit.{u}") for u in parameters})
    result = _call_update(cell, name, pre, state, unit)
    for returned in result:
        if returned not in states:
            _unknown(f"{name}.update returns {returned!r}", "state", returned, states)
    for declared in states:
        if declared not in result:
            raise DeclarationError(
                f"{name}.update does not return the state {declared!r}; return its new value, or "
                f"{declared!r}: state.{declared} where it keeps the old one"
            )
    equations = {s: _expression(name, s, result[s]) for s in states}
    _check_read(name, equations, wiring, parameters)

    traced = tuple(Gate(gate, wiring[gate], gate in pre._split) for gate in gates)
    units = dict(parameters)
    replacements: dict[Expression, Expression] = {}
    for gate in traced:
        total, a, r = (real_symbol(f"{word}.{gate.name}") for word in ("pre", "input", "recurrent"))
        product: Expression = r
        if isinstance(gate.wiring, Absent):
            product = sympy.Integer(0)
        elif isinstance(gate.wiring, Diagonal):
            source: Expression = real_symbol(f"state.{gate.wiring.source}")
            if gate.wiring.truncated:
                source = stop_gradient(source)
            product = real_symbol(f"unit.diagonal.{gate.name}") * source
            units[f"diagonal.{gate.name}"] = UnitParameter(gate.wiring.initial)
            replacements[r] = product
        if gate.split:
            replacements[total] = a + product
        elif isinstance(gate.wiring, Diagonal):
            replacements[total] = total + product
    equations = {state: equation.xreplace(replacements) for state, equation in equations.items()}
    if periods:
        units["period"] = UnitParameter(Groups(periods), trained=False)
        equations = {
            state: TICKS * equation + (1 - TICKS) * real_symbol(f"state.{state}")
            for state, equation in equations.items()
        }
    delayed = _delay_line(name, traced, states)
    for further, (source, steps) in delayed.items():
        equations[further] = real_symbol(f"state.{held(source, steps - 1)}")
    recurrence = Recurrence(
        name=name,
        gates=traced,
        states=(*states, *delayed),
        output=cell.output,
        unit_parameters=units,
        initial_bias=dict(cell.initial_bias),
        latex_symbols={**({"period": "T"} if periods else {}), **cell.latex_symbols},
        equations=equations,
        delayed=delayed,
        periods=periods,
    )
    _ = recurrence.stages
    try:
        _ = recurrence.forward, recurrence.linearisation
    except DeclarationError as error:
        raise DeclarationError(f"{name}.update: {error}") from None
    return recurrence


def _check_read(
    name: str,
    equations: Mapping[str, Expression],
    wiring: Mapping[str, Any],
    parameters: Mapping[str, UnitParameter],
) -> None:
    """Every declared gate and unit parameter must be read: else its weights would be dead."""
    read = {str(symbol) for expression in equations.values() for symbol in expression.free_symbols}
    for gate in wiring:
        if not read & {f"pre.{gate}", f"input.{gate}", f"recurrent.{gate}"}:
            raise DeclarationError(
                f"{name}.gates declares {gate!r}, but update never uses it; read pre.{gate} or "
                "remove the gate"
            )
        if not read & {f"pre.{gate}", f"recurrent.{gate}"} and not isinstance(wiring[gate], Absent):
            raise DeclarationError(
                f"{name}.update reads only pre.from_input({gate!r}), so the gate's recurrent "
                f'weights would do nothing; declare wiring = {{"{gate}": Absent()}}, or read '
                f"pre.from_state({gate!r}) too"
            )
    for parameter in parameters:
        if f"unit.{parameter}" not in read:
            raise DeclarationError(
                f"{name}.unit_parameters declares {parameter!r}, but update never uses it; read "
                f"unit.{parameter} or remove it"
            )
