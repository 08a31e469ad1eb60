"""The backward kernel: W^T dr in a register tile, and the adjoint before it leaves the registers.

A step t takes the errors dr of step t + 1 through W^T, adds what arrives at s_t from elsewhere, and
goes through the pointwise adjoint of step t. So the kernel has the shape of the forward one, with
two ends: rows whose last step this is have no dr yet, and after the first step of the call the
product alone gives the error of the states before it.
"""

import functools
from collections.abc import Callable

from longlag.recurrence import Adjoint, Recurrence, derive_adjoint
from longlag.scan.cpu.builder import Value
from longlag.scan.cpu.kernel import Arguments, Kernel, Row, Units, cost_of, patterns, run_program
from longlag.scan.cpu.plan import Plan
from longlag.scan.step import products

__all__ = ["NAME", "adjoint_of", "arguments", "carried", "emit", "sending"]

NAME = "longlag_backward"


@functools.lru_cache(maxsize=256)
def adjoint_of(recurrence: Recurrence) -> Adjoint:
    """The backward step of a recurrence, derived once."""
    return derive_adjoint(recurrence)


def carried(recurrence: Recurrence) -> tuple[bool, ...]:
    """By state, whether any error reaches it pointwise, from the states after it."""
    program = adjoint_of(recurrence).program
    first, drives = len(program.inputs), len(recurrence.drive_symbols)

    def nonzero(value: int) -> bool:
        if value < first:
            return True
        operation = program.operations[value - first]
        return operation.name != "constant" or operation.value != 0.0

    outputs = program.outputs[drives : drives + len(recurrence.states)]
    return tuple(nonzero(value) for value in outputs)


def sending(recurrence: Recurrence) -> list[int]:
    """Numbers of W's blocks of rows through which error flows back."""
    found = [p for p in products(recurrence) if not p.truncated]
    return sorted(wire for product in found for wire in product.wires)


def arguments(recurrence: Recurrence, plan: Plan) -> Arguments:
    """What the kernel is given, in order."""
    states = range(len(recurrence.states))
    pointers = ["d_output", "drives", "d_drives", "weights", "units", "d_units"]
    pointers += [f"state_{k}" for k in states]
    pointers += [f"delta_{k}" for k in states]
    pointers += ["order", "counts", "offsets"] if plan.ordered else []
    pointers += [name for name in ("keep", "mask") if getattr(plan, name)]
    pointers += [f"ranges_{number}" for number in range(len(patterns(recurrence)))]
    numbers = (
        "T",
        "N",
        "H",
        "output_t",
        "output_n",
        "state_t",
        "keep_t",
        "delta_half",
        "by_thread",
    )
    return Arguments(tuple(pointers), numbers)


def emit(recurrence: Recurrence, plan: Plan) -> str:
    """The kernel as LLVM IR.

    It goes from step T - 1 down to step 0. ``delta_k`` holds two arrays (rows, H), ``delta_half``
    apart, that steps read and write in turns, beginning with the first: it holds the error of the
    states after the last step. In the end the one with number T + 1 modulo 2 holds the error of the
    states before the first.
    """
    kernel = _Backward(
        recurrence, plan, NAME, arguments(recurrence, plan), {"d_units": "by_thread"}
    )
    code, arg = kernel.code, kernel.arg
    last = code.plus(arg["T"], -1)
    with code.loop(last, code.i64(-1), -1) as t:
        kernel.begin(t)
        with kernel.unit_blocks() as (block, vectors), kernel.tiles(kernel.later) as row:
            kernel.tile(block, vectors, row)
        with kernel.tiles(kernel.rows, kernel.later) as row, kernel.unit_blocks() as (_, vectors):
            kernel.first(vectors, row)
    kernel.begin(code.i64(-1))
    with kernel.unit_blocks() as (block, vectors), kernel.tiles(kernel.later) as row:
        kernel.last(block, vectors, row)
    return kernel.finish()


class _Backward(Kernel):
    def begin(self, t: Value) -> None:
        """Offsets of step t, whose errors dr of step t + 1 are there."""
        code, arg = self.code, self.arg
        self.t, self.next = t, code.plus(t, 1)
        self.old = code.times(t, arg["state_t"])
        self.new = code.b.add(self.old, arg["state_t"])
        self.output_t = code.times(t, arg["output_t"])
        self.width = code.times(arg["H"], self.drives)
        turn = code.b.and_(code.plus(code.b.sub(arg["T"], t), -1), code.i64(1))
        self.arriving = code.times(turn, arg["delta_half"])
        self.leaving = code.b.sub(arg["delta_half"], self.arriving)
        self.output = self.recurrence.states.index(self.recurrence.output)
        self.apart = self.drives - len(self.recurrence.dense_gates)
        self.carried = carried(self.recurrence)
        self.sources = sorted({p.source for p in self.products if not p.truncated})
        inside = code.b.icmp_signed("<", self.next, arg["T"])
        if self.plan.ordered:
            # counts and offsets go one step further than T; what is there is not used.
            later = self.count(self.next)
            self.rows = self.count(code.b.select(self._is_end(t), self.next, t))
        else:
            later = self.rows = arg["N"]
        self.later = code.b.select(inside, later, code.i64(0))

    def _is_end(self, t: Value) -> Value:
        return self.code.b.icmp_signed("<", t, self.code.i64(0))

    def _errors(self, t: Value, row: Row, drive: int) -> tuple[Value, Value]:
        """Offset of the error of a drive."""
        code = self.code
        packed = code.b.add(self.packed_row(t), row.packed)
        return code.times(packed, self.width), code.times(self.arg["H"], drive)

    def _sent(self, block: Value, vectors: list[Units], rows: list[Row], end: bool) -> list:
        """For each source, what W^T brings to it, by row and vector.

        What arrives from elsewhere is in it already, where there is nothing in between.
        """
        code, arg, plan = self.code, self.arg, self.plan
        wires = sending(self.recurrence)
        base = code.times(code.times(block, arg["H"]), plan.units * len(wires))
        found = []
        for source in self.sources:
            terms = []
            for product in self.products:
                if product.truncated or product.source != source:
                    continue
                for gate, wire in zip(product.gates, product.wires, strict=True):
                    at = code.times(arg["H"], wires.index(wire) * plan.units)
                    errors = [
                        code.at(arg["d_drives"], *self._errors(self.next, row, self.apart + gate))
                        for row in rows
                    ]
                    terms.append((product, code.at(arg["weights"], base, at), errors))

            def start(r: int, v: int, source: int = source) -> Value:
                if plan.indirect:
                    return code.zero()
                return self._elsewhere(source, rows[r], vectors[v], end)

            found.append(self.sums(start, terms, block))
        return found

    def _elsewhere(self, state: int, row: Row, units: Units, end: bool) -> Value:
        """What arrives at a state other than by W: pointwise, and from the output."""
        code = self.code
        value = code.zero()
        if self.carried[state]:
            value = self.load(f"delta_{state}", units, self.arriving, row.place)
        if state == self.output and not end:
            value = code.b.fadd(value, self._output_error(row, units))
        return value

    def _output_error(self, row: Row, units: Units) -> Value:
        at = self.code.times(row.number, self.arg["output_n"])
        return self.load("d_output", units, self.output_t, at)

    def _arrived(self, row: Row, units: Units, sent: list[Value], end: bool) -> list[Value]:
        """The errors of all states, from what W^T brought."""
        b, found = self.code.b, []
        for k in self.states:
            if k not in self.sources:
                found.append(self._elsewhere(k, row, units, end))
                continue
            value = sent[self.sources.index(k)]
            if self.plan.indirect:
                if self.plan.mask:
                    value = b.fmul(value, self.load("mask", units, row.place))
                value = self.select(self.kept(self.next, row), value)
                value = b.fadd(value, self._elsewhere(k, row, units, end))
            found.append(value)
        return found

    def tile(self, block: Value, vectors: list[Units], row: Callable[[Value], Row]) -> None:
        """One tile of a step that is not the rows' last."""
        code = self.code
        rows = [row(code.i64(r)) for r in range(self.plan.rows)]
        values = self._sent(block, vectors, rows, end=False)

        def body(here: Row, units: Units, sent: list[Value]) -> None:
            self._adjoint(here, units, self._arrived(here, units, sent, end=False))

        cost = cost_of(adjoint_of(self.recurrence).program)
        self.finish_tile(row, vectors, values, cost, body)

    def first(self, vectors: list[Units], row: Callable[[Value], Row]) -> None:
        """One tile of a step that is the last of its rows, or of the call."""
        code = self.code
        with code.loop(code.i64(0), code.i64(self.plan.rows)) as r:
            here = row(r)
            for units in vectors:
                delta = [
                    self.load(f"delta_{k}", units, self.arriving, here.place) for k in self.states
                ]
                error = self._output_error(here, units)
                delta[self.output] = code.b.fadd(delta[self.output], error)
                self._adjoint(here, units, delta)

    def last(self, block: Value, vectors: list[Units], row: Callable[[Value], Row]) -> None:
        """One tile of what comes after all steps: the error of the states before the first."""
        code = self.code
        rows = [row(code.i64(r)) for r in range(self.plan.rows)]
        values = self._sent(block, vectors, rows, end=True)

        def body(here: Row, units: Units, sent: list[Value]) -> None:
            for k, value in enumerate(self._arrived(here, units, sent, end=True)):
                self.store(value, f"delta_{k}", units, self.leaving, here.place)

        self.finish_tile(row, vectors, values, 8, body)

    def _adjoint(self, row: Row, units: Units, delta: list[Value]) -> None:
        """The pointwise adjoint of one row and vector of units."""
        code, recurrence = self.code, self.recurrence
        adjoint, drives = adjoint_of(recurrence), range(self.drives)
        values = [code.zero() for _ in drives]
        if adjoint.needs_drives:
            values = [self.load("drives", units, *self._errors(self.t, row, z)) for z in drives]
        before = [self.load(f"state_{k}", units, self.old, row.place) for k in self.states]
        after = [self.load(f"state_{k}", units, self.new, row.place) for k in self.states]
        kept = self.kept(self.t, row)
        held = [self.select(kept, state) for state in before]
        parameters = self.unit_parameters(units)
        results = iter(
            run_program(code, adjoint.program, [*values, *held, *parameters, *after, *delta])
        )
        for z in drives:
            self.store(next(results), "d_drives", units, *self._errors(self.t, row, z))
        for k in self.states:
            value = self.select(kept, next(results))
            if self.carried[k]:
                self.store(value, f"delta_{k}", units, self.leaving, row.place)
        if recurrence.units:
            done = self._done(row, units)
            for u, value in enumerate(results):
                offset = code.times(self.arg["H"], u)
                total = self.load("d_units", units, offset)
                value = code.b.select(done, code.zero(), value)
                self.store(code.b.fadd(total, value), "d_units", units, offset)

    def _done(self, row: Row, units: Units) -> Value:
        """Which lanes of this row and vector are there for the second time."""
        lanes = self.code.lane_numbers()
        passed = self.code.b.icmp_signed("<", lanes, self.code.splat(units.passed))
        if row.again is None:
            return passed
        return self.code.b.or_(passed, self.code.splat(row.again))
