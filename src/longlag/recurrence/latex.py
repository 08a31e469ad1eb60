"""The equations of a traced recurrence in LaTeX: update, BPTT and state-to-state Jacobian.

States that only hold the past for a delay are not written: what reads them reads h_{t-d}.
"""

from collections.abc import Iterable

import sympy
from sympy.printing.latex import LatexPrinter

from longlag.recurrence.functions import Expression
from longlag.recurrence.traced import CLOCK, Gate, Recurrence, real_symbol
from longlag.recurrence.wiring import Dense, Pattern


def render(recurrence: Recurrence, part: str = "all") -> str:
    """Write a recurrence as a lecture would.

    Args:
        recurrence: a traced declaration.
        part: ``"update"``, ``"bptt"``, ``"jacobian"`` or ``"all"``.

    Raises:
        ValueError: for any other part.
    """
    writer = _Writer(recurrence)
    parts = {"update": writer.update, "bptt": writer.bptt, "jacobian": writer.jacobian}
    if part == "all":
        return "\n\n".join(_align(lines()) for lines in parts.values())
    if part not in parts:
        known = ", ".join(repr(name) for name in (*parts, "all"))
        raise ValueError(f"part: got {part!r}, expected one of {known}")
    return _align(parts[part]())


def _align(lines: Iterable[tuple[str, str]]) -> str:
    rows = " \\\\\n".join(f"{left} &= {right}" for left, right in lines)
    return f"\\begin{{align*}}\n{rows}\n\\end{{align*}}"


def _with_affine(atom: Expression, equations: Iterable[Expression]) -> Expression:
    """The function with what scales and shifts it, as 4 sigma(a) - 2, where it is always so."""
    forms = {
        form
        for equation in equations
        for form in equation.atoms(sympy.Add)
        if form.has(atom) and form.xreplace({atom: sympy.Integer(0)}).is_number
    }
    if len(forms) != 1:
        return atom
    form = forms.pop()
    bare = any(equation.xreplace({form: sympy.Integer(0)}).has(atom) for equation in equations)
    return atom if bare else form


class _Printer(LatexPrinter):
    """Elementwise products with their sign, numeric factors without."""

    def _print_Mul(self, expr: Expression) -> str:
        number, rest = expr.as_coeff_Mul()
        if number in (1, -1) or rest.is_number:
            return super()._print_Mul(expr)
        text = self._print(rest)
        return f"{self._print(number)} " + (rf"\left({text}\right)" if rest.is_Add else text)


class _Writer:
    """Names every symbol once, then writes the three parts with those names."""

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        self.states = [name for name in recurrence.states if name not in recurrence.delayed]
        self.single = len(recurrence.gates) == 1
        self.names: dict[sympy.Symbol, str] = {}
        self.printer = _Printer({"mul_symbol": r" \odot ", "symbol_names": self.names})
        self._name_symbols()
        self.stage = dict(zip(recurrence.states, recurrence.stages[0], strict=True))
        order = [name for name in recurrence.dependency_order if name in self.states]
        self.order = sorted(order, key=self.stage.__getitem__)
        self.activations = {} if self.single else self._activations()

    def _word(self, name: str) -> str:
        """A name as mathematics: as declared, else letters and Greek as they are, words upright."""
        if name in self.recurrence.latex_symbols:
            return self.recurrence.latex_symbols[name]
        written = sympy.latex(sympy.Symbol(name))
        if len(name) == 1 or written.startswith("\\"):
            return written
        return r"\mathrm{" + name.replace("_", r"\ ") + "}"

    def _name_symbols(self) -> None:
        r = self.recurrence
        self.names[CLOCK] = "t"
        for gate in r.gates:
            self.names[gate.from_input] = self._of_gate("a", "^", gate) + "_t"
            if gate.split:
                self.names[gate.from_state] = self._of_gate("r", "^", gate) + "_t"
            self.names[real_symbol(f"unit.diagonal.{gate.name}")] = self._of_gate("w", "_", gate)
            self.names[real_symbol(f"gate.{gate.name}")] = f"{self._word(gate.name)}_t"
        for name in self.states:
            self.names[real_symbol(f"now.{name}")] = f"{self._word(name)}_t"
            self.names[real_symbol(f"state.{name}")] = self._word(name) + "_{t-1}"
        for name in r.units:
            if not name.startswith("diagonal."):
                self.names[real_symbol(f"unit.{name}")] = self._word(name)

    def _of_gate(self, letter: str, mark: str, gate: Gate) -> str:
        """A letter with the gate's name as its "^" or "_", where there are several gates."""
        return letter if self.single else f"{letter}{mark}{{{self._word(gate.name)}}}"

    def _activations(self) -> dict[Expression, tuple[Gate, sympy.Symbol]]:
        """The one function that is applied to a gate's pre-activation: it is the gate itself."""
        equations = self.recurrence.equations.values()
        activations = {}
        for gate in self.recurrence.gates:
            applied = {
                atom
                for equation in equations
                for atom in equation.atoms(sympy.Function)
                if atom.has(gate.from_input)
                and not any(
                    inner.has(gate.from_input) for inner in atom.args[0].atoms(sympy.Function)
                )
            }
            if len(applied) == 1 and not applied & set(equations):
                named = _with_affine(applied.pop(), equations)
                activations[named] = (gate, real_symbol(f"gate.{gate.name}"))
        return activations

    def _write(
        self,
        expression: Expression,
        states: Iterable[str] | None = None,
        defining: Expression | None = None,
    ) -> str:
        """Print, with gates and the new states in ``states`` written as such where they occur.

        A gate that is being defined is written out.
        """
        known: dict[Expression, sympy.Symbol] = {}
        for name in self.order if states is None else states:
            equation = self.recurrence.equations[name]
            if not equation.is_Atom and equation not in known:
                known[equation] = real_symbol(f"now.{name}")
        expression = expression.xreplace(known)
        gates = {}
        for atom, (_, symbol) in self.activations.items():
            if atom != defining:
                gates[atom] = gates[atom.xreplace(known)] = symbol
        return self.printer.doprint(expression.xreplace(gates))

    def _label(self, gate: Gate, dense: Dense) -> str:
        """What tells a matrix from the others of its gate: its delay, its source, else primes."""
        if gate.matrices == (dense,) and dense.delay <= 1:
            return ""
        several = len({other.source for other in gate.matrices}) > 1
        source = self._word(dense.source or "") if several else ""
        delayed = any(other.delay != 1 for other in gate.matrices)
        label = ", ".join([source] * several + [str(dense.delay)] * delayed)
        alike = [e for e in gate.matrices if (e.source, e.delay) == (dense.source, dense.delay)]
        primes = r"\prime" * alike.index(dense)
        return (f"({label})" if label else "") + primes

    def _weight(self, gate: Gate, dense: Dense) -> str:
        """The name of a matrix."""
        label = self._label(gate, dense)
        return self._of_gate("W", "_", gate) + (f"^{{{label}}}" if label else "")

    def _patterns(self) -> list[Pattern]:
        """The patterns that there are, each once."""
        wires = self.recurrence.wires
        return list(dict.fromkeys(wire.pattern for wire in wires if wire.pattern is not None))

    def _mask(self, pattern: Pattern) -> str:
        known = self._patterns()
        return "M" if len(known) == 1 else f"M_{{{known.index(pattern) + 1}}}"

    def _matrix(self, gate: Gate, dense: Dense, transposed: bool = False) -> str:
        """A matrix as it stands in a product: under its mask where it has a pattern."""
        weight = self._weight(gate, dense)
        if dense.pattern is not None:
            written = rf"\left({self._mask(dense.pattern)} \odot {weight}\right)"
            return written + r"^\top" * transposed
        if not transposed:
            return weight
        label = self._label(gate, dense)  # one superscript, as LaTeX has no two
        return self._of_gate("W", "_", gate) + (rf"^{{{label}\top}}" if label else r"^\top")

    def _read(self, dense: Dense) -> str:
        """The state that a matrix reads, at its time."""
        return self._word(dense.source or "") + (f"_{{t-{dense.delay}}}" if dense.delay else "_t")

    def _product(self, gate: Gate) -> list[str]:
        terms = []
        for dense in gate.matrices:
            source = self._read(dense)
            if dense.truncated:
                source = rf"\operatorname{{sg}}({source})"
            terms.append(f"{self._matrix(gate, dense)} {source}")
        return terms

    def update(self) -> list[tuple[str, str]]:
        """The recurrence: pre-activations, gates, states."""
        lines = []
        for pattern in self._patterns():
            rows = r" \\ ".join(" & ".join(map(str, row)) for row in pattern)
            rows = rf"\left(\begin{{smallmatrix}} {rows} \end{{smallmatrix}}\right)"
            lines.append((self._mask(pattern), rf"{rows} \otimes \mathbf{{1}} \mathbf{{1}}^\top"))
        for gate in self.recurrence.dense_gates:
            for dense in filter(lambda dense: dense.constraint, gate.matrices):
                weight, transpose = self._matrix(gate, dense), self._matrix(gate, dense, True)
                orthogonal = dense.constraint == "orthogonal"
                kept = (f"{transpose} {weight}", "I") if orthogonal else (transpose, f"-{weight}")
                lines.append(kept)
        by_gate = zip(self.recurrence.dense_gates, self.recurrence.stages[1], strict=True)
        of_gate = {gate.name: stage for gate, stage in by_gate}
        done: list[str] = []
        named: set[sympy.Symbol] = set()
        stage = -1
        for name in self.order:
            while stage < self.stage[name]:
                stage += 1
                for gate in self.recurrence.gates:
                    if of_gate.get(gate.name, 0) == stage:
                        lines += self._drive(gate)
            for atom, (_, symbol) in self.activations.items():
                if symbol not in named and self.recurrence.equations[name].has(atom):
                    named.add(symbol)
                    lines.append((self.names[symbol], self._write(atom, done, defining=atom)))
            now = self.names[real_symbol(f"now.{name}")]
            lines.append((now, self._write(self.recurrence.equations[name], done)))
            done.append(name)
        return lines

    def _drive(self, gate: Gate) -> list[tuple[str, str]]:
        """The pre-activation of a gate, or its two parts."""
        products = self._product(gate)
        terms = [f"{self._of_gate('U', '_', gate)} x_t", self._of_gate("b", "_", gate)]
        if not gate.split:
            terms[1:1] = products
        lines = [(self.names[gate.from_input], " + ".join(terms))]
        if products and gate.split:
            lines.append((self.names[gate.from_state], " + ".join(products)))
        return lines

    def _sent_back(self, by: sympy.Symbol) -> list[str]:
        """The terms delta^k * dk/dsymbol, over the states k."""
        terms = []
        for state in self.states:
            partial = self.recurrence.partials.get((state, by))
            if partial is None:
                continue
            delta = rf"\delta^{{{self._word(state)}}}_t"
            text = self._write(partial)
            if partial == 1:
                terms.append(delta)
            elif partial.is_Add or text.startswith("-"):
                terms.append(rf"{delta} \odot \left({text}\right)")
            else:
                terms.append(rf"{delta} \odot {text}")
        return terms

    def _delta(self, of: sympy.Symbol, later: int = 0) -> str:
        when = f"{{t{later:+}}}" if later else "t"
        return rf"\delta^{{{self.names[of].removesuffix('_t')}}}_{when}"

    def _readers(self, state: str) -> list[tuple[Gate, Dense]]:
        """The matrices through which error flows back into the state, with their gates."""
        return [
            (gate, dense)
            for gate in self.recurrence.dense_gates
            for dense in gate.matrices
            if dense.source == state and not dense.truncated
        ]

    def bptt(self) -> list[tuple[str, str]]:
        """The error sent back in time, and the derivatives of all weights."""
        r = self.recurrence
        lines = [("E", r"\sum_t E_t")]
        for state in self.states:
            word = self._word(state)
            derivative = rf"\frac{{\partial E}}{{\partial {word}_t}}"
            others = ", ".join(f"{self._word(other)}_t" for other in self.states if other != state)
            if others:  # what goes through the other states of the step is in their delta
                derivative = rf"\left.{derivative}\right|_{{{others}}}"
            within = [
                f"{self._matrix(gate, dense, True)} {self._delta(gate.from_state)}"
                for gate, dense in self._readers(state)
                if dense.delay == 0
            ]
            lines.append((rf"\delta^{{{word}}}_t", " + ".join([derivative, *within])))
        for symbol in r.drive_symbols:
            lines.append((self._delta(symbol), " + ".join(self._sent_back(symbol)) or "0"))
        for state in self.states:
            word = self._word(state)
            terms = self._sent_back(real_symbol(f"state.{state}"))
            if state == r.output:
                terms.insert(0, rf"\frac{{\partial E_{{t-1}}}}{{\partial {word}_{{t-1}}}}")
            terms += [
                f"{self._matrix(gate, dense, True)} {self._delta(gate.from_state, dense.delay - 1)}"
                for gate, dense in self._readers(state)
            ]
            lines.append((rf"\delta^{{{word}}}_{{t-1}}", " + ".join(terms) or "0"))
        return lines + self._weights()

    def _weights(self) -> list[tuple[str, str]]:
        r = self.recurrence
        lines = []

        def derivative(weight: str, terms: str, pattern: Pattern | None = None) -> None:
            mask = "" if pattern is None else rf"{self._mask(pattern)} \odot "
            lines.append((rf"\frac{{\partial E}}{{\partial {weight}}}", rf"{mask}\sum_t {terms}"))

        for gate in r.gates:
            delta = self._delta(gate.from_input)
            for dense in gate.matrices:
                source = self._read(dense) + r"^\top"
                terms = f"{self._delta(gate.from_state)} {source}"
                derivative(self._weight(gate, dense), terms, dense.pattern)
            derivative(self._of_gate("U", "_", gate), rf"{delta} x_t^\top")
            derivative(self._of_gate("b", "_", gate), delta)
        for name, symbol in zip(r.units, r.unit_symbols, strict=True):
            if not r.unit_parameters[name].trained:
                continue
            terms = " + ".join(self._sent_back(symbol)) or "0"
            derivative(self.printer.doprint(symbol), rf"\left[{terms}\right]")
        return lines

    def jacobian(self) -> list[tuple[str, str]]:
        """The state-to-state Jacobian, block by block; a block for each delay that there is."""
        r = self.recurrence
        lines = []
        delays: dict[tuple[str, str], set[int]] = {}
        for state in sorted(self.states, key=self.stage.__getitem__):
            for before in self.states:
                by_delay: dict[int, list[str]] = {1: []}
                partial = r.partials.get((state, real_symbol(f"state.{before}")))
                if partial is not None:
                    by_delay[1].append(self._diagonal(partial))
                for gate, dense in self._readers(before):
                    partial = r.partials.get((state, gate.from_state))
                    if partial is not None and dense.delay:
                        term = f"{self._diagonal(partial)} {self._matrix(gate, dense)}"
                        by_delay.setdefault(dense.delay, []).append(term)
                for inner in self.order:
                    for gate, dense in self._readers(inner):
                        partial = r.partials.get((state, gate.from_state))
                        if partial is None or dense.delay:
                            continue
                        for delay in sorted(delays[inner, before]):
                            term = f"{self._diagonal(partial)} {self._matrix(gate, dense)} "
                            term += self._block(inner, before, delay)
                            by_delay.setdefault(delay, []).append(term)
                delays[state, before] = {delay for delay, terms in by_delay.items() if terms}
                for delay, terms in sorted(by_delay.items()):
                    left = self._block(state, before, delay)
                    lines.append((left, " + ".join(terms) or "0"))
        return lines

    def _block(self, state: str, before: str, delay: int) -> str:
        """A block of the Jacobian."""
        now, past = self._word(state), self._word(before)
        return rf"\frac{{\partial {now}_t}}{{\partial {past}_{{t-{delay}}}}}"

    def _diagonal(self, partial: Expression) -> str:
        if partial == 1:
            return "I"
        return rf"\operatorname{{diag}}\left({self._write(partial)}\right)"
