"""Matrix functions that know no recurrence: every kernel of one precision and tile shares them.

Panels. The backward pass collects the errors of the drives, and the states as W read them, as
panels: (vectors of units, rows, lanes), so that a tile of a product reads both in order. The last
vector of units overlaps the one before it where H is no multiple of the lanes; the sums of both are
kept, and are equal, so that storing both is storing one.

All arguments are 64-bit whole numbers, addresses among them; sizes are in numbers, not bytes.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from llvmlite import ir

from longlag.scan.cpu.builder import I64, Code, Value
from longlag.scan.cpu.target import addresses_of, host
from longlag.scan.cpu.tile import Tile

MATRIX = (
    "pack", "pack_back", "drive", "outer", "outer_input", "unpack", "unpack_input",
)  # fmt: skip
"""The functions of :func:`emit`."""

PACKING = MATRIX[:2]
"""Those of :func:`packing`."""

SEND = "send_input"
"""The function of :func:`emit_send`."""

ROWS = 128
"""Rows that a product over rows takes at once: two panels of them stay in the first cache."""


@dataclass(frozen=True)
class Matrix:
    """What the functions are compiled for.

    Attributes:
        double: float64, else float32.
        lanes: numbers in a vector.
        vectors: vectors in a block of packed weights.
        registers: of the processor.
        rests: whether there are units whose errors count in some rows alone.
        networks: see :class:`~longlag.scan.cpu.builder.Code`.
        bfloat16: whether weights are rounded when they are packed; see :func:`packing`.
        halves: whether two of them are then in a word.
    """

    double: bool
    lanes: int
    vectors: int
    registers: int
    rests: bool = False
    networks: int = 1
    bfloat16: bool = False
    halves: bool = False

    @property
    def units(self) -> int:
        """Units of a block of packed weights."""
        return self.lanes * self.vectors

    @property
    def packed(self) -> int:
        """Words of such a block, for each number that is multiplied."""
        return self.units // 2 if self.halves else self.units

    @property
    def outer_tile(self) -> tuple[int, int]:
        """Single numbers and vectors of a tile of an outer product."""
        wide = self.registers >= 32
        if self.networks > 1:
            return (4, 4) if wide else (2, 4)
        numbers = min(self.lanes, 8 if wide else 4)
        return numbers, (16 if wide else 8) // numbers

    @property
    def drive_rows(self) -> int:
        """Rows of a tile of drives."""
        room = self.registers - self.vectors - 2
        return max(1, min(8, room // self.vectors))


@functools.lru_cache(maxsize=64)
def matrix(facts: Matrix) -> dict[str, int]:
    """Addresses of the compiled functions."""
    return addresses_of(emit(facts), MATRIX)


@functools.lru_cache(maxsize=64)
def packing(facts: Matrix) -> dict[str, int]:
    """Addresses of the functions that pack weights rounded to bfloat16: as numbers of float32, or
    two in a word, of the vectors v and v + 1 of a block, v even."""
    return addresses_of(emit(facts, PACKING), PACKING)


@functools.lru_cache(maxsize=64)
def send(double: bool, lanes: int, wide: int, networks: int = 1) -> int:
    """The address of the compiled :data:`SEND`."""
    text = emit_send(double, lanes, wide, host().registers, networks)
    return addresses_of(text, (SEND,))[SEND]


class _Function(Code):
    """A function of whole numbers under construction."""

    def __init__(
        self, module: ir.Module, name: str, arguments: Sequence[str], double: bool, lanes: int,
        networks: int,
    ) -> None:  # fmt: skip
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(arguments))
        super().__init__(ir.Function(module, kind, name), double, lanes, networks)
        self.arg: dict[str, Value] = dict(zip(arguments, self.function.args, strict=True))

    def address(self, name: str) -> Value:
        """An argument as the address of numbers."""
        return self.b.inttoptr(self.arg[name], self.pointer)

    def numbers(self, name: str) -> Value:
        """An argument as the address of whole numbers."""
        return self.b.inttoptr(self.arg[name], I64.as_pointer())

    def read(self, base: Value, index: Value) -> Value:
        """A whole number of a list."""
        return self.b.load(self.b.gep(base, [index]))

    def start(self, vector: Value) -> Value:
        """The first unit of a vector of units."""
        return self.smaller(self.times(vector, self.lanes), self.plus(self.arg["H"], -self.lanes))

    def vectors(self) -> Value:
        """How many vectors cover H units."""
        return self.b.sdiv(self.plus(self.arg["H"], self.lanes - 1), self.i64(self.lanes))


def emit(facts: Matrix, names: Sequence[str] = MATRIX) -> str:
    """Functions of :data:`MATRIX` as LLVM IR."""
    module = ir.Module("longlag_matrix")
    every = (_pack, _pack_back, _drive, _outer, _outer_input, _unpack, _unpack_input)
    for name, write in zip(MATRIX, every, strict=True):
        if name in names:
            write(module, facts)
    return str(module)


def _function(module: ir.Module, facts: Matrix, name: str, arguments: str) -> _Function:
    kind = facts.double, facts.lanes, facts.networks
    return _Function(module, name, arguments.split(), *kind)


def _pack(module: ir.Module, facts: Matrix) -> None:
    """From a matrix (rows H, K) some of whose blocks of H rows are wanted, as a product reads them:
    (blocks of units, wanted, K, units)."""
    code = _function(module, facts, "pack", "source target H K count numbers first stop")
    _each_block(code, facts, lambda *place: _pack_rows(code, facts, *place))


def _pack_rows(
    code: _Function, facts: Matrix, wire: Value, starts: Sequence[Value], to: Value
) -> None:
    arg, b = code.arg, code.b
    source, target = code.address("source"), code.address("target")
    by_wire = code.times(wire, arg["H"])
    firsts = [code.times(code.plus(by_wire, start), arg["K"]) for start in starts]
    lanes = facts.lanes
    whole = b.sub(arg["K"], b.srem(arg["K"], code.i64(lanes)))
    with code.loop(code.i64(0), whole, lanes) as k:
        columns = [
            code.turned(
                [
                    code.load(code.at(source, first, k, code.times(arg["K"], lane)))
                    for lane in range(lanes)
                ]
            )
            for first in firsts
        ]
        for number, parts in enumerate(zip(*columns, strict=True)):
            at = code.times(code.plus(k, number), facts.packed)
            code.store(_packed(code, facts, parts), code.at(target, to, at))
    with code.loop(whole, arg["K"]) as k:
        here = code.plus(to, code.times(k, facts.packed))
        for lane in range(lanes):
            parts = [
                b.load(code.at(source, first, k, code.times(arg["K"], lane))) for first in firsts
            ]
            b.store(_packed(code, facts, parts), code.at(target, here, code.i64(lane)))


def _packed(code: _Function, facts: Matrix, parts: Sequence[Value]) -> Value:
    """What is stored of one weight, or of two that share a word."""
    if facts.bfloat16:
        parts = [code.as_bfloat16(part) for part in parts]
    return parts[0] if len(parts) == 1 else code.joined(*parts)


def _pack_back(module: ir.Module, facts: Matrix) -> None:
    """As ``pack``, from wanted blocks (H, H), for the product with their transposes."""
    code = _function(module, facts, "pack_back", "source target H K count numbers first stop")

    def rows(wire: Value, starts: Sequence[Value], to: Value) -> None:
        arg = code.arg
        source, target = code.address("source"), code.address("target")
        first = code.times(code.times(wire, arg["H"]), arg["K"])
        with code.loop(code.i64(0), arg["K"]) as k:
            row = code.plus(first, code.times(k, arg["K"]))
            parts = [code.load(code.at(source, row, start)) for start in starts]
            at = code.times(k, facts.packed)
            code.store(_packed(code, facts, parts), code.at(target, to, at))

    _each_block(code, facts, rows)


def _each_block(
    code: _Function, facts: Matrix, write: Callable[[Value, Sequence[Value], Value], None]
) -> None:
    """The loops over blocks of units first .. stop - 1, wanted numbers and vectors of ``pack``."""
    arg, zero, shared = code.arg, code.i64(0), 2 if facts.halves else 1
    numbers, blocks = code.numbers("numbers"), (arg["first"], arg["stop"])
    with code.loop(*blocks) as block, code.loop(zero, arg["count"]) as number:
        wire = code.read(numbers, number)
        place = code.times(code.plus(code.times(block, arg["count"]), number), arg["K"])
        with code.loop(zero, code.i64(facts.packed // facts.lanes)) as v:
            first = code.plus(code.times(block, facts.vectors), code.times(v, shared))
            starts = [code.start(code.plus(first, n)) for n in range(shared)]
            to = code.plus(code.times(place, facts.packed), code.times(v, facts.lanes))
            write(wire, starts, to)
    code.b.ret_void()


def _drive(module: ir.Module, facts: Matrix) -> None:
    """U x + b for the rows of one sequence: (rows, G H), from U as ``pack`` gives it; of the units
    of the blocks first .. stop - 1."""
    code = _function(
        module, facts, "drive", "x x_row rows weights K bias target target_row H gates first stop"
    )
    arg, zero, b = code.arg, code.i64(0), code.b
    x, weights, bias, target = map(code.address, ("x", "weights", "bias", "target"))
    large, blocks = facts.drive_rows, (arg["first"], arg["stop"])
    whole = b.sub(arg["rows"], b.srem(arg["rows"], code.i64(large)))
    with code.loop(*blocks) as block, code.loop(zero, arg["gates"]) as gate:
        place = code.times(code.plus(code.times(block, arg["gates"]), gate), arg["K"])
        packed = code.at(weights, code.times(place, facts.units))
        first = code.times(block, facts.vectors)
        starts = [code.start(code.plus(first, v)) for v in range(facts.vectors)]
        by_gate = code.times(gate, arg["H"])
        begin = [code.load(code.at(bias, by_gate, start)) for start in starts]

        def rows(row: Value, count: int, packed=packed, starts=starts, begin=begin, gate=by_gate):
            tile = Tile(code, count, facts.vectors)
            tile.begin(lambda r, v: begin[v])
            bases = [code.at(x, code.times(code.plus(row, r), arg["x_row"])) for r in range(count)]

            def step(k: Value, chain: int) -> None:
                at = code.times(k, facts.units)
                vectors = [
                    code.load(code.at(packed, code.plus(at, v * facts.lanes)))
                    for v in range(facts.vectors)
                ]
                tile.add(vectors, [code.at(base, k) for base in bases], chain)

            tile.stretch(zero, arg["K"], step)
            for r, by_vector in enumerate(tile.totals()):
                to = code.plus(code.times(code.plus(row, r), arg["target_row"]), gate)
                for start, value in zip(starts, by_vector, strict=True):
                    code.store(value, code.at(target, to, start))

        if large > 1:
            with code.loop(zero, whole, large) as row:
                rows(row, large)
        with code.loop(whole if large > 1 else zero, arg["rows"]) as row:
            rows(row, 1)
    b.ret_void()


RESTS = " words ticks"
"""Further arguments of products over rows where units rest: by row, a word that tells which groups
of units have errors; and by vector of units, the bits of its groups."""


class _Picked:
    """The rows of a stretch in which some units have errors: all, where none ever rests."""

    def __init__(self, code: _Function, facts: Matrix) -> None:
        self.code, self.rests = code, facts.rests
        if self.rests:
            self.numbers = code.entry_builder.alloca(I64, ROWS)
            self.bits, self.last = code.variable(I64), code.variable(I64)

    def begin(self, first: Value, count: Value) -> None:
        """The stretch."""
        self.first, self.count = first, count
        if self.rests:
            self.code.b.store(self.code.i64(0), self.bits)
            self.code.b.store(self.code.i64(0), self.last)

    def of(self, *vectors: Value) -> Value:
        """How many rows, for some vectors of units."""
        if not self.rests:
            return self.count
        code, b = self.code, self.code.b
        bits, ticks = code.i64(0), code.numbers("ticks")
        for v in vectors:
            bits = b.or_(bits, code.read(ticks, v))
        words = code.numbers("words")
        with b.if_then(b.icmp_signed("!=", bits, b.load(self.bits))):
            b.store(bits, self.bits)
            b.store(code.i64(0), self.last)
            with code.loop(code.i64(0), self.count) as p:
                number = b.load(self.last)
                b.store(p, b.gep(self.numbers, [number]))
                word = code.read(words, code.plus(self.first, p))
                some = b.icmp_signed("!=", b.and_(word, bits), code.i64(0))
                b.store(b.add(number, b.zext(some, I64)), self.last)
        return b.load(self.last)

    @contextmanager
    def any(self, count: Value) -> Iterator[None]:
        """What is done where there are so many rows, and more than none."""
        some = self.code.b.icmp_signed(">", count, self.code.i64(0))
        with self.code.b.if_then(some) if self.rests else nullcontext():
            yield

    def row(self, number: Value) -> Value:
        """A row within the stretch."""
        return self.code.read(self.numbers, number) if self.rests else number


def _outer_tile(
    code: _Function, rows: int, vectors: int, picked: _Picked, count: Value,
    panels: tuple[Value, Value], sums: tuple[Value, Value], apart: Value | int = 1,
) -> None:  # fmt: skip
    """sums[i][v] += sum over rows p of left[p][i] right[v][p], for some i and v.

    Args:
        code: the function; its arguments left_row and right_vector are read.
        rows, vectors: how many i and v.
        picked: which p.
        count: how many.
        panels: where left and right begin, at the first i, v and row.
        sums: where those are, and how far apart the i are.
        apart: how far apart the i are in left.
    """
    chains = max(1, min(4, 8 // (rows * vectors)))
    tile, lanes = Tile(code, rows, vectors, chains), code.lanes
    (left, right), (base, sums_row) = panels, sums
    places = [
        [code.at(base, code.plus(code.times(sums_row, r), v * lanes)) for v in range(vectors)]
        for r in range(rows)
    ]
    tile.begin(lambda r, v: code.load(places[r][v]))
    for place in itertools.chain(*places):  # of wide layers the next sums lie far away
        code.prefetch(code.at(place, code.times(sums_row, rows)))

    def step(p: Value, chain: int) -> None:
        p = picked.row(p)
        row = code.times(p, code.arg["left_row"])
        at = code.times(p, lanes)
        numbers = [code.at(left, row, code.times(code.i64(r), apart)) for r in range(rows)]
        rights = [
            code.load(code.at(right, at, code.times(code.arg["right_vector"], v)))
            for v in range(vectors)
        ]
        tile.add(rights, numbers, chain)

    tile.stretch(code.i64(0), count, step, 2 * rows * vectors)
    for r, values in enumerate(tile.totals()):
        for v, value in enumerate(values):
            code.store(value, places[r][v])


def _by_sizes(
    code: _Function, first: Value, stop: Value, sizes: Sequence[int],
    body: Callable[[Value, int], None],
) -> None:  # fmt: skip
    """The loop from first to stop in steps of the first size, what is left in the next ones."""
    for size in sizes:
        end = stop
        if size > 1:
            count = code.b.sub(stop, first)
            end = code.b.sub(stop, code.b.srem(count, code.i64(size)))
        with code.loop(first, end, size) as index:
            body(index, size)
        first = end


def _outer(module: ir.Module, facts: Matrix) -> None:
    """Sums (units, vectors of units, lanes) of errors times states, both in panels.

    ``ranges`` has three whole numbers an entry: a vector of errors, and the vectors of states from
    one up to another. Of networks side by side a vector is one unit, and all meet all.
    """
    names = "sums left right right_vector left_row P H ranges entries"
    code = _function(module, facts, "outer", names + RESTS * facts.rests)
    arg, zero, b = code.arg, code.i64(0), code.b
    if facts.networks > 1:
        _outer_of_units(code, facts)
        return
    numbers, vectors = facts.outer_tile
    sums, left, right, ranges = (
        *map(code.address, ("sums", "left", "right")),
        code.numbers("ranges"),
    )
    by_unit, picked = code.times(code.vectors(), facts.lanes), _Picked(code, facts)
    with code.loop(zero, arg["P"], ROWS) as p:
        picked.begin(p, code.smaller(b.sub(arg["P"], p), code.i64(ROWS)))
        with code.loop(zero, arg["entries"]) as entry:
            panel, low, high = (
                code.read(ranges, code.plus(code.times(entry, 3), n)) for n in range(3)
            )
            errors = code.at(
                left, code.times(panel, arg["right_vector"]), code.times(p, facts.lanes)
            )
            base = code.at(sums, code.times(code.times(panel, facts.lanes), by_unit))
            count = picked.of(panel)

            def one(v: Value, width: int, errors=errors, base=base, p=p, count=count) -> None:
                states = code.at(
                    right, code.times(v, arg["right_vector"]), code.times(p, facts.lanes)
                )
                size = numbers if width > 1 or numbers == facts.lanes else facts.lanes
                size = min(size, 16)
                with code.loop(zero, code.i64(facts.lanes), size) as i:
                    here = code.at(base, code.times(i, by_unit), code.times(v, facts.lanes))
                    panels = code.at(errors, i), states
                    _outer_tile(code, size, width, picked, count, panels, (here, by_unit))

            with picked.any(count):
                _by_sizes(code, low, high, (vectors, 1), one)
    b.ret_void()


def _outer_of_units(code: _Function, facts: Matrix) -> None:
    arg, zero, b = code.arg, code.i64(0), code.b
    numbers, vectors = facts.outer_tile
    sums, left, right = map(code.address, ("sums", "left", "right"))
    picked, apart = _Picked(code, facts), arg["right_vector"]
    with code.loop(zero, arg["P"], ROWS) as p:
        picked.begin(p, code.smaller(b.sub(arg["P"], p), code.i64(ROWS)))

        def some(i: Value, size: int, p: Value = p) -> None:
            errors = code.at(left, code.times(i, apart), p)

            def one(v: Value, width: int) -> None:
                panels = errors, code.at(right, code.times(v, apart), p)
                here = code.at(sums, code.times(i, arg["H"]), v), arg["H"]
                _outer_tile(code, size, width, picked, picked.of(), panels, here, apart)

            _by_sizes(code, zero, arg["H"], (vectors, 1), one)

        _by_sizes(code, zero, arg["H"], (numbers, 1), some)
    b.ret_void()


def _outer_input(module: ir.Module, facts: Matrix) -> None:
    """Sums (K, vectors of units, lanes) of the numbers (P, K) times errors in panels.

    They are ``sums_row`` apart.
    """
    names = "sums sums_row left left_row K right right_vector P H"
    code = _function(module, facts, "outer_input", names + RESTS * facts.rests)
    arg, zero, b = code.arg, code.i64(0), code.b
    numbers, vectors = facts.outer_tile
    if facts.rests and facts.vectors % vectors:  # of two blocks of units one may have no errors
        numbers, vectors = numbers * vectors, 1
    fewer = (8, 2) if facts.rests else (2,)
    sizes = (numbers, *(size for size in fewer if size < numbers), 1)
    sums, left, right = map(code.address, ("sums", "left", "right"))
    picked = _Picked(code, facts)
    with code.loop(zero, arg["P"], ROWS) as p:
        picked.begin(p, code.smaller(b.sub(arg["P"], p), code.i64(ROWS)))
        inputs = code.at(left, code.times(p, arg["left_row"]))

        def one(v: Value, width: int, inputs=inputs, p=p) -> None:
            count = picked.of(*[code.plus(v, n) for n in range(width)])
            errors = code.at(right, code.times(v, arg["right_vector"]), code.times(p, facts.lanes))

            def some(i: Value, size: int) -> None:
                here = code.at(sums, code.times(i, arg["sums_row"]), code.times(v, facts.lanes))
                panels = code.at(inputs, i), errors
                _outer_tile(code, size, width, picked, count, panels, (here, arg["sums_row"]))

            with picked.any(count):
                _by_sizes(code, zero, arg["K"], sizes, some)

        _by_sizes(code, zero, code.vectors(), (vectors, 1), one)
    b.ret_void()


def _unpack(module: ir.Module, facts: Matrix) -> None:
    """From the sums of ``outer`` to the matrix (H, H)."""
    code = _function(module, facts, "unpack", "sums target H")
    arg, zero, vectors = code.arg, code.i64(0), code.vectors()
    sums, target = code.address("sums"), code.address("target")
    with (
        code.loop(zero, vectors) as panel,
        code.loop(zero, code.i64(facts.lanes)) as lane,
        code.loop(zero, vectors) as v,
    ):
        row = code.plus(code.times(panel, facts.lanes), lane)
        at = code.times(code.plus(code.times(row, vectors), v), facts.lanes)
        unit = code.plus(code.start(panel), lane)
        to = code.plus(code.times(unit, arg["H"]), code.start(v))
        code.store(code.load(code.at(sums, at)), code.at(target, to))
    code.b.ret_void()


def _unpack_input(module: ir.Module, facts: Matrix) -> None:
    """From the sums of ``outer_input`` of one gate to U (H, C); the last row of sums to b (H,)."""
    code = _function(module, facts, "unpack_input", "sums sums_row matrix bias H C")
    arg, zero = code.arg, code.i64(0)
    sums, target, bias = map(code.address, ("sums", "matrix", "bias"))
    with code.loop(zero, code.vectors()) as v:
        start, at = code.start(v), code.times(v, facts.lanes)
        last = code.load(code.at(sums, code.times(arg["C"], arg["sums_row"]), at))
        code.store(last, code.at(bias, start))
        first = code.times(start, arg["C"])
        with code.loop(zero, arg["C"]) as c:
            here = code.at(sums, code.times(c, arg["sums_row"]), at)
            for lane in range(facts.lanes):
                value = code.b.load(code.at(here, code.i64(lane)))
                code.b.store(value, code.at(target, first, code.times(arg["C"], lane), c))
    code.b.ret_void()


def emit_send(double: bool, lanes: int, wide: int, registers: int, networks: int = 1) -> str:
    """dx = U^T da as LLVM IR: rows of inputs from panels of errors.

    Args:
        double: float64, else float32.
        lanes: units in a vector of the panels.
        wide: inputs in a vector; no more than there are.
        registers: of the processor.
        networks: see :class:`~longlag.scan.cpu.builder.Code`.
    """
    module = ir.Module("longlag_send")
    names = (
        "errors errors_vector P where target matrix H C gates slots"  # slots: of each gate's errors
    )
    code = _Function(module, SEND, names.split(), double, wide, networks)
    arg, zero, b = code.arg, code.i64(0), code.b
    errors, target, matrix_ = map(code.address, ("errors", "target", "matrix"))
    where, slots = code.numbers("where"), code.numbers("slots")
    vectors = b.sdiv(code.plus(arg["H"], lanes - 1), code.i64(lanes))
    columns = b.sdiv(code.plus(arg["C"], wide - 1), code.i64(wide))
    last, many = code.plus(arg["C"], -wide), 8 if registers >= 32 else 4

    def rows(p: Value, size: int) -> None:
        def some(column: Value, width: int) -> None:
            starts = [
                code.smaller(code.times(code.plus(column, n), wide), last) for n in range(width)
            ]
            tile = Tile(code, size, width)
            tile.begin(lambda r, v: code.zero())
            with code.loop(zero, arg["gates"]) as gate, code.loop(zero, vectors) as v:
                slot = code.read(slots, gate)
                wanted = code.times(v, lanes)
                start = code.smaller(wanted, code.plus(arg["H"], -lanes))
                panel = code.times(code.plus(code.times(slot, vectors), v), arg["errors_vector"])
                base = code.at(errors, panel, code.times(p, lanes))
                unit = code.plus(code.times(gate, arg["H"]), start)

                def step(lane: Value, chain: int, base=base, unit=unit) -> None:
                    row = code.times(code.plus(unit, lane), arg["C"])
                    numbers = [code.at(base, code.plus(lane, r * lanes)) for r in range(size)]
                    vectors = [code.load(code.at(matrix_, row, s)) for s in starts]
                    tile.add(vectors, numbers, chain)

                tile.stretch(b.sub(wanted, start), code.i64(lanes), step)
            for r, values in enumerate(tile.totals()):
                place = code.read(where, code.plus(p, r))
                for start, value in zip(starts, values, strict=True):
                    code.store(value, code.at(target, place, start))

        _by_sizes(code, zero, columns, (2, 1), some)

    _by_sizes(code, zero, arg["P"], (many, 1), rows)
    b.ret_void()
    return str(module)
