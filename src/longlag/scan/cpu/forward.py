"""The forward kernel: W h in a register tile, and the update before it leaves the registers."""

from longlag.recurrence import Recurrence
from longlag.scan.cpu.builder import Value
from longlag.scan.cpu.kernel import Kernel, Row, Units, run_program
from longlag.scan.cpu.plan import Plan

__all__ = ["NAME", "arguments", "emit", "sources"]

NAME = "longlag_forward"


def sources(recurrence: Recurrence) -> list[int]:
    """Numbers of the states that the recurrent matrix reads."""
    states = recurrence.states
    return sorted({states.index(getattr(g.wiring, "source", "")) for g in recurrence.dense_gates})


def arguments(recurrence: Recurrence, plan: Plan) -> tuple[list[str], list[str]]:
    """Names of the kernel's pointers and numbers, in order."""
    pointers = ["drive", "weights", "units"]
    pointers += [f"state_{k}" for k in range(len(recurrence.states))]
    pointers += ["scratch"] if plan.keep or plan.mask else []
    pointers += [name for name in ("lengths", "keep", "mask") if getattr(plan, name)]
    numbers = ["T", "N", "H", "drive_t", "drive_n", "state_t", "keep_t", "first_tile", "stop_tile"]
    return pointers, numbers


def emit(recurrence: Recurrence, plan: Plan) -> str:
    """The kernel as LLVM IR. It runs all T steps for tiles first_tile .. stop_tile - 1."""
    kernel = _Forward(recurrence, plan, NAME, *arguments(recurrence, plan))
    code, arg = kernel.code, kernel.arg
    with code.loop(code.i64(0), arg["T"]) as t:
        kernel.begin(t)
        if kernel.indirect and recurrence.dense_gates:
            with kernel.each_row() as row, kernel.unit_vectors() as units:
                kernel.prepare(row, units)
        with kernel.unit_blocks() as (block, vectors), kernel.tiles() as rows:
            totals = kernel.totals(block, rows)
            for v, units in enumerate(vectors):
                parameters = kernel.unit_parameters(units)
                for position, row in enumerate(rows):
                    by_gate = [total[v][position] for total in totals]
                    kernel.update(row, units, by_gate, parameters)
    return kernel.finish()


class _Forward(Kernel):
    @property
    def indirect(self) -> bool:
        """Whether W reads a prepared copy of the state: reset and dropped out."""
        return self.plan.keep or self.plan.mask

    def begin(self, t: Value) -> None:
        """Offsets of step t."""
        self.t = t
        self.old = self.code.times(t, self.arg["state_t"])
        self.new = self.code.b.add(self.old, self.arg["state_t"])
        self.drive_t = self.code.times(t, self.arg["drive_t"])
        self.sources = sources(self.recurrence)

    def _scratch(self, source: int, row: Row) -> Value:
        rows = self.code.times(self.arg["N"], self.sources.index(source))
        return self.code.b.add(self.code.times(rows, self.arg["H"]), row.offset)

    def prepare(self, row: Row, units: Units) -> None:
        """The states as W reads them at this step."""
        kept = self.kept(self.t, row)
        for source in self.sources:
            value = self.load(f"state_{source}", units, self.old, row.offset)
            if self.plan.mask:
                value = self.code.b.fmul(value, self.load("mask", units, row.offset))
            self.store(self.select(kept, value), "scratch", units, self._scratch(source, row))

    def totals(self, block: Value, rows: list[Row]) -> list[list[list[Value]]]:
        """W h by dense gate, vector of units and row."""
        code, plan, dense = self.code, self.plan, self.recurrence.dense_gates
        width = plan.units * max(1, len(dense))
        start = code.times(code.times(block, self.arg["H"]), width)
        found: dict[int, list[list[Value]]] = {}
        for source in self.sources:
            gates = [
                gate
                for product in self.products
                if product.source == source
                for gate in product.gates
            ]
            if self.indirect:
                bases = [code.at(self.arg["scratch"], self._scratch(source, r)) for r in rows]
            else:
                bases = [code.at(self.arg[f"state_{source}"], self.old, r.offset) for r in rows]

            def weights(k: Value, gates: list[int] = gates) -> list[Value]:
                at = code.b.add(start, code.times(k, width))
                places = [g * plan.units + v * plan.lanes for g in gates for v in self._vectors]
                return [code.load(code.at(self.arg["weights"], code.plus(at, p))) for p in places]

            def read(k: Value, row: int, bases: list[Value] = bases) -> Value:
                return code.b.load(code.b.gep(bases[row], [k]))

            sums = self.product(len(gates) * plan.vectors, self.arg["H"], weights, read)
            for position, gate in enumerate(gates):
                found[gate] = sums[position * plan.vectors : (position + 1) * plan.vectors]
        return [found[gate] for gate in range(len(dense))]

    @property
    def _vectors(self) -> range:
        return range(self.plan.vectors)

    def update(self, row: Row, units: Units, by_gate: list[Value], parameters: list[Value]) -> None:
        """The new states of one row and vector of units."""
        code, recurrence = self.code, self.recurrence
        gates = [gate.name for gate in recurrence.gates]
        drive_row = code.times(row.number, self.arg["drive_n"])

        def drive(name: str) -> Value:
            offset = code.times(self.arg["H"], gates.index(name))
            return self.load("drive", units, self.drive_t, drive_row, offset)

        inputs = [drive(gate.name) for gate in recurrence.gates if gate.split or not gate.dense]
        for gate, total in zip(recurrence.dense_gates, by_gate, strict=True):
            inputs.append(total if gate.split else code.b.fadd(drive(gate.name), total))
        before = [self.load(f"state_{k}", units, self.old, row.offset) for k in self.states]
        kept, active = self.kept(self.t, row), self.active(self.t, row)
        held = [self.select(kept, state) for state in before]
        after = run_program(code, recurrence.forward, [*inputs, *held, *parameters])
        for k, value in enumerate(after):
            value = self.select(active, value, before[k])
            self.store(value, f"state_{k}", units, self.new, row.offset)
