"""The backward kernel: each step the pointwise adjoint, then the product that sends error on."""

import functools

from longlag.recurrence import Adjoint, Recurrence, derive_adjoint
from longlag.scan.cpu.builder import Value
from longlag.scan.cpu.kernel import Kernel, Row, Units, run_program
from longlag.scan.cpu.plan import Plan
from longlag.scan.step import Product

__all__ = ["NAME", "adjoint_of", "arguments", "emit"]

NAME = "longlag_backward"


@functools.lru_cache(maxsize=256)
def adjoint_of(recurrence: Recurrence) -> Adjoint:
    """The backward step of a recurrence, derived once."""
    return derive_adjoint(recurrence)


def arguments(recurrence: Recurrence, plan: Plan) -> tuple[list[str], list[str]]:
    """Names of the kernel's pointers and numbers, in order."""
    states = range(len(recurrence.states))
    pointers = ["d_output", "drives", "d_drives", "weights", "units", "d_units"]
    pointers += [f"state_{k}" for k in states]
    pointers += [f"delta_{k}" for k in states]
    pointers += [name for name in ("lengths", "keep", "mask") if getattr(plan, name)]
    numbers = ["first_t", "stop_t", "base_t", "N", "H", "output_t", "output_n", "drives_t"]
    return pointers, [*numbers, "state_t", "keep_t", "first_tile", "stop_tile"]


def emit(recurrence: Recurrence, plan: Plan) -> str:
    """The kernel as LLVM IR.

    It goes from step stop_t - 1 down to first_t, for tiles first_tile .. stop_tile - 1. ``drives``
    and ``d_drives`` begin at step base_t; ``delta_k`` (rows, H) holds the error of the states after
    the last step, and in the end that before the first.
    """
    kernel = _Backward(recurrence, plan, NAME, *arguments(recurrence, plan))
    code, arg = kernel.code, kernel.arg
    last = code.plus(arg["stop_t"], -1)
    with code.loop(last, code.plus(arg["first_t"], -1), -1) as t:
        kernel.begin(t)
        with kernel.unit_vectors() as units, kernel.each_row() as row:
            kernel.adjoint(row, units)
        offset = code.i64(0)
        for product in kernel.products:
            if product.truncated:
                continue
            with kernel.unit_blocks() as (block, vectors), kernel.tiles() as rows:
                kernel.send_back(product, offset, block, vectors, rows)
            width = code.times(arg["H"], len(product.gates) * plan.units)
            offset = code.b.add(offset, code.b.mul(kernel.block_count(), width))
    return kernel.finish()


class _Backward(Kernel):
    def begin(self, t: Value) -> None:
        """Offsets of step t."""
        code, arg = self.code, self.arg
        self.t = t
        self.old = code.times(t, arg["state_t"])
        self.new = code.b.add(self.old, arg["state_t"])
        self.here = code.times(code.b.sub(t, arg["base_t"]), arg["drives_t"])
        self.output_t = code.times(t, arg["output_t"])
        self.drives = len(self.recurrence.drive_symbols)

    def _drive(self, row: Row, number: int) -> tuple[Value, Value, Value]:
        """Offsets of the error of a drive."""
        code = self.code
        rows = code.times(row.offset, self.drives)
        return self.here, rows, code.times(self.arg["H"], number)

    def adjoint(self, row: Row, units: Units) -> None:
        """The pointwise part of one row and vector of units."""
        code, recurrence = self.code, self.recurrence
        adjoint, drives = adjoint_of(recurrence), range(self.drives)
        kept, active = self.kept(self.t, row), self.active(self.t, row)
        values = [
            self.load("drives", units, *self._drive(row, z))
            if adjoint.needs_drives
            else code.zero()
            for z in drives
        ]
        before = [self.load(f"state_{k}", units, self.old, row.offset) for k in self.states]
        after = [self.load(f"state_{k}", units, self.new, row.offset) for k in self.states]
        arrived = [self.load(f"delta_{k}", units, row.offset) for k in self.states]
        delta = list(arrived)
        output = recurrence.states.index(recurrence.output)
        output_row = code.times(row.number, self.arg["output_n"])
        error = self.load("d_output", units, self.output_t, output_row)
        delta[output] = code.b.fadd(delta[output], error)
        held = [self.select(kept, state) for state in before]
        parameters = self.unit_parameters(units)
        results = iter(
            run_program(code, adjoint.program, [*values, *held, *parameters, *after, *delta])
        )
        for z in drives:
            self.store(self.select(active, next(results)), "d_drives", units, *self._drive(row, z))
        for k in self.states:
            value = self.select(active, self.select(kept, next(results)), arrived[k])
            self.store(value, f"delta_{k}", units, row.offset)
        for u, value in enumerate(results):
            offset = code.times(self.arg["H"], u)
            total = code.b.fadd(self.load("d_units", units, offset), self.select(active, value))
            self.store(total, "d_units", units, offset)

    def send_back(
        self, product: Product, offset: Value, block: Value, vectors: list[Units], rows: list[Row]
    ) -> None:
        """delta += W^T dr, for the gates of one product, a block of units and a tile of rows."""
        code, plan, arg = self.code, self.plan, self.arg
        apart = self.drives - len(self.recurrence.dense_gates)
        size = code.times(arg["H"], len(product.gates) * plan.units)
        base = code.at(arg["weights"], offset, code.b.mul(block, size))
        totals: list[list[Value]] = []
        for position, gate in enumerate(product.gates):
            first = code.times(arg["H"], position)
            bases = [code.at(arg["d_drives"], *self._drive(row, apart + gate)) for row in rows]

            def weights(j: Value, first: Value = first) -> list[Value]:
                at = code.times(code.b.add(first, j), plan.units)
                places = (v * plan.lanes for v in range(plan.vectors))
                return [code.load(code.at(base, code.plus(at, place))) for place in places]

            def read(j: Value, row: int, bases: list[Value] = bases) -> Value:
                return code.b.load(code.b.gep(bases[row], [j]))

            sums = self.product(plan.vectors, arg["H"], weights, read)
            if totals:
                pairs = [zip(one, two, strict=True) for one, two in zip(totals, sums, strict=True)]
                sums = [[code.b.fadd(*pair) for pair in by_row] for by_row in pairs]
            totals = sums
        # A row may stand for the last one again: so all is read before anything is written, and
        # writing twice is writing the same.
        writes = []
        name = f"delta_{product.source}"
        for v, units in enumerate(vectors):
            for position, row in enumerate(rows):
                value = totals[v][position]
                if plan.mask:
                    value = code.b.fmul(value, self.load("mask", units, row.offset))
                value = self.select(self.kept(self.t, row), value)
                value = code.b.fadd(self.load(name, units, row.offset), value)
                writes.append((value, name, units, row.offset))
        for write in writes:
            self.store(*write)
