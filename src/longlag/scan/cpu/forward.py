"""The forward kernel: W h in a register tile, and the update before it leaves the registers."""

from collections.abc import Callable

from longlag.recurrence import Recurrence
from longlag.scan.cpu.builder import Value
from longlag.scan.cpu.kernel import Arguments, Kernel, Row, Units, cost_of, patterns, run_program
from longlag.scan.cpu.plan import Plan
from longlag.scan.step import Product, products

__all__ = ["NAME", "arguments", "emit", "sources"]

NAME = "longlag_forward"


def sources(recurrence: Recurrence) -> list[int]:
    """Numbers of the states that the recurrent matrix reads."""
    return sorted({product.source for product in products(recurrence)})


def arguments(recurrence: Recurrence, plan: Plan, keep_drives: bool) -> Arguments:
    """What the kernel is given, in order."""
    pointers = ["drive", "weights", "units"]
    pointers += [f"state_{k}" for k in range(len(recurrence.states))]
    pointers += ["drives"] if keep_drives else []
    pointers += ["scratch"] if plan.indirect else []
    pointers += ["order", "counts", "offsets"] if plan.ordered else []
    pointers += [name for name in ("keep", "mask") if getattr(plan, name)]
    pointers += [f"ranges_{number}" for number in range(len(patterns(recurrence)))]
    return Arguments(tuple(pointers), ("T", "N", "H", "drive_t", "drive_n", "state_t", "keep_t"))


def emit(recurrence: Recurrence, plan: Plan, keep_drives: bool) -> str:
    """The kernel as LLVM IR. It runs T steps, and keeps the drives where the backward pass asks."""
    given = arguments(recurrence, plan, keep_drives)
    kernel = _Forward(recurrence, plan, NAME, given)
    code, arg = kernel.code, kernel.arg
    with code.loop(code.i64(0), arg["T"]) as t:
        kernel.begin(t)
        if plan.indirect and recurrence.dense_gates:
            with kernel.tiles(kernel.rows) as row, code.loop(code.i64(0), code.i64(plan.rows)) as r:
                here = row(r)
                with kernel.unit_blocks() as (_, vectors):
                    for units in vectors:
                        kernel.prepare(here, units)
        with kernel.unit_blocks() as (block, vectors), kernel.tiles(kernel.rows) as row:
            kernel.tile(block, vectors, row, keep_drives)
    return kernel.finish()


class _Forward(Kernel):
    def begin(self, t: Value) -> None:
        """Offsets of step t."""
        code, arg = self.code, self.arg
        self.t = t
        self.old = code.times(t, arg["state_t"])
        self.new = code.b.add(self.old, arg["state_t"])
        self.rows = self.count(t)
        self.packed = self.packed_row(t)
        self.sources = sources(self.recurrence)
        self.gate_names = [gate.name for gate in self.recurrence.gates]

    def _scratch(self, source: int, row: Row) -> Value:
        rows = self.code.times(self.arg["N"], self.sources.index(source))
        return self.code.b.add(self.code.times(rows, self.arg["H"]), row.place)

    def prepare(self, row: Row, units: Units) -> None:
        """The states as W reads them at this step."""
        kept = self.kept(self.t, row)
        for source in self.sources:
            value = self.load(f"state_{source}", units, self.old, row.place)
            if self.plan.mask:
                value = self.code.b.fmul(value, self.load("mask", units, row.place))
            self.store(self.select(kept, value), "scratch", units, self._scratch(source, row))

    def _drive(self, row: Row, units: Units, gate: str) -> Value:
        """a of a gate."""
        code, arg = self.code, self.arg
        if self.plan.ordered:
            at = code.times(code.b.add(self.packed, row.packed), arg["drive_n"])
        else:
            at = code.b.add(
                code.times(self.t, arg["drive_t"]), code.times(row.packed, arg["drive_n"])
            )
        offset = code.times(arg["H"], self.gate_names.index(gate))
        return self.load("drive", units, at, offset)

    def tile(
        self, block: Value, vectors: list[Units], row: Callable[[Value], Row], keep_drives: bool
    ) -> None:
        """One tile: the gates' products, then the update."""
        code, arg, plan, recurrence = self.code, self.arg, self.plan, self.recurrence
        rows = [row(code.i64(r)) for r in range(plan.rows)]
        number_of_wires = sum(len(product.gates) for product in self.products)
        base = code.times(code.times(block, arg["H"]), plan.units * number_of_wires)
        values = []
        for number, gate in enumerate(recurrence.dense_gates):
            terms = []
            for product in self.products:
                for gate_number, wire in zip(product.gates, product.wires, strict=True):
                    if gate_number == number:
                        at = code.times(arg["H"], wire * plan.units)
                        weights = code.at(arg["weights"], base, at)
                        terms.append((product, weights, self._read(product, rows)))

            def start(r: int, v: int, gate=gate, rows=rows) -> Value:
                return code.zero() if gate.split else self._drive(rows[r], vectors[v], gate.name)

            values.append(self.sums(start, terms, block))
        parameters = [self.unit_parameters(units) for units in vectors]

        def body(here: Row, units: Units, totals: list[Value]) -> None:
            known = dict(zip(map(id, vectors), parameters, strict=True))[id(units)]
            self._update(here, units, totals, known, keep_drives)

        self.finish_tile(row, vectors, values, cost_of(recurrence.forward), body)

    def _read(self, product: Product, rows: list[Row]) -> list[Value]:
        """By row, the address of the state as W reads it."""
        code, source = self.code, product.source
        if self.plan.indirect:
            return [code.at(self.arg["scratch"], self._scratch(source, row)) for row in rows]
        return [code.at(self.arg[f"state_{source}"], self.old, row.place) for row in rows]

    def _update(
        self, row: Row, units: Units, totals: list[Value], parameters: list[Value],
        keep_drives: bool,
    ) -> None:  # fmt: skip
        """The new states of one row and vector of units."""
        code, recurrence = self.code, self.recurrence
        apart = [gate.name for gate in recurrence.gates if gate.split or not gate.dense]
        drives = [*(self._drive(row, units, name) for name in apart), *totals]
        before = [self.load(f"state_{k}", units, self.old, row.place) for k in self.states]
        kept = self.kept(self.t, row)
        held = [self.select(kept, state) for state in before]
        after = run_program(code, recurrence.forward, [*drives, *held, *parameters])
        for k, value in enumerate(after):
            self.store(value, f"state_{k}", units, self.new, row.place)
        if keep_drives:
            width = code.times(self.arg["H"], self.drives)
            at = code.times(code.b.add(self.packed, row.packed), width)
            for z, value in enumerate(drives):
                self.store(value, "drives", units, at, code.times(self.arg["H"], z))
