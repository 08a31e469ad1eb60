"""The forward kernel: U x + W h in a register tile, then the update before it leaves them."""

import functools
from collections.abc import Callable, Mapping, Sequence

from llvmlite import ir

from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import Product, Stage, lower
from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.kernel import (
    AHEAD,
    BY_ALL,
    BY_ANY,
    Arguments,
    Kernel,
    Part,
    Row,
    Term,
    Units,
    cost_of,
    schedule_arguments,
)
from longlag.scan.cpu.plan import Plan
from longlag.scan.cpu.tile import Tile

NAME = "longlag_forward"


def arguments(recurrence: Recurrence, plan: Plan) -> Arguments:
    """What the kernel is given, in order. Numbers that begin with ``at_`` are parts of ``work``."""
    tables = [
        "list",
        *(["ticks_blocks"] if plan.rests else []),
        *(["reads_blocks"] if plan.remembers else []),
        *(f"ranges_{number}" for number in range(len(lower(recurrence).patterns))),
    ]
    pointers = ["x", "input", "bias", "recurrent", "units", "residuals", "work"]
    states = range(len(lower(recurrence).stored))
    pointers += [f"state_{k}" for k in states]
    pointers += [f"before_{k}" for k in states if plan.dilated]
    scheduled, further = schedule_arguments(recurrence, plan)
    pointers += scheduled
    pointers += ["heads", "columns"] if plan.sparse else []
    pointers += ["readout", "readout_bias"] if plan.fed else []
    pointers += ["meetings"] if plan.team else []
    numbers = ("T", "x_t", "x_n", "packed", *(["before_t", "all_rows"] if plan.dilated else []))
    constants = (
        "N", "H", "C", "state_t", "keep_t", "residuals_t", "work_bytes", "at_recurrent", "at_input",
        "at_drive", "at_read", "turned_tiles", "stretch", "pack", "drive",
        "pack_recurrent", *further,
        *(["fed"] if plan.fed else []), *(["at_words"] if plan.rests else []),
        *(["at_changed", "at_sums", "tiles"] if plan.remembers else []),
        *(["yield", "read_size"] if plan.team else []), *(["dilation"] if plan.dilated else []),
    )  # fmt: skip
    return Arguments(tuple(tables), tuple(pointers), numbers, constants)


def emit(recurrence: Recurrence, plan: Plan, *, store: bool, recompute: bool = False) -> str:
    """The kernel as LLVM IR: T steps of all sequences.

    Args:
        recurrence: the traced cell.
        plan: what it is compiled for.
        store: whether it stores the residuals; see :mod:`longlag.recurrence.residuals`.
        recompute: the states are all there, and are only read: the residuals are computed again.
    """
    kernel = _Forward(recurrence, plan, store, recompute)
    code, arg = kernel.code, kernel.arg
    with code.b.if_then(code.b.not_(kernel.is_set("packed"))):
        kernel.pack()
    if kernel.team is not None:
        kernel.team.meet()
    if plan.remembers:
        kernel.forget()
    zero = code.i64(0)
    if plan.input != "apart":
        with code.loop(zero, arg["T"]) as t:
            kernel.step(t)
        return kernel.finish()
    with code.loop(zero, arg["T"], arg["stretch"]) as first:
        stop = code.smaller(code.plus(first, arg["stretch"]), arg["T"])
        kernel.drives_of_stretch(first, stop)
        if kernel.team is not None:
            kernel.team.meet()
        with code.loop(first, stop) as t:
            kernel.step(t, first)
    return kernel.finish()


class _Forward(Kernel):
    def __init__(self, recurrence: Recurrence, plan: Plan, storing: bool, recompute: bool) -> None:
        names = arguments(recurrence, plan)
        by_thread = {} if plan.team else {"work": "work_bytes"}
        super().__init__(recurrence, plan, NAME, names, by_thread)
        self.storing, self.recompute = storing, recompute
        self.residuals = self.lowered.residuals.values
        self.sources, self.inner_sources = self.lowered.sources, self.lowered.inner_sources
        self.wires = range(len(recurrence.wires))
        self.number_of_gates = len(recurrence.gates)

    def pack(self) -> None:
        """W, and U, as the tiles read them."""
        code, arg = self.code, self.arg
        if self.wires and not self.plan.sparse:
            self.call(
                "pack_recurrent", arg["recurrent"], self.work("at_recurrent"), arg["H"], arg["H"],
                code.i64(len(self.wires)), arg["list"], *self.blocks,
            )  # fmt: skip
        if self.plan.input != "drive":
            self.call(
                "pack", arg["input"], self.work("at_input"), arg["H"], arg["C"],
                code.i64(self.number_of_gates), arg["list"], *self.blocks,
            )  # fmt: skip

    def drives_of_stretch(self, first: Value, stop: Value) -> None:
        """U x + b of all sequences for some steps."""
        code, arg = self.code, self.arg
        width = code.times(arg["H"], self.number_of_gates)
        with (
            self.tiles(arg["N"]) as row,
            code.loop(code.i64(0), code.i64(self.plan.rows)) as r,
        ):
            here = row(r)
            self.call(
                "drive", self.input_of(first, here), arg["x_t"], code.b.sub(stop, first),
                self.work("at_input"), arg["C"], arg["bias"],
                self.work("at_drive", code.times(here.number, width)),
                code.times(arg["N"], width), arg["H"], code.i64(self.number_of_gates),
                *self.blocks,
            )  # fmt: skip

    def step(self, t: Value, first: Value | None = None) -> None:
        """One step of all sequences; ``first`` is the step where the drives at hand begin."""
        code, arg, plan = self.code, self.arg, self.plan
        self.t, self.first = t, first
        self.find_held(t)
        rows = self.count(t)
        if self.rests:
            self.find_words(rows, code.i64(0))
        if plan.fed:
            self._feed(rows)
        if plan.sparse == "turned" and self.sources:
            with self.tiles(rows) as row, self.unit_blocks(everyone=True) as (_, (units,)):
                self._turn([row(code.i64(r)) for r in range(plan.rows)], units)
        elif plan.indirect and self.sources:
            with self.tiles(rows) as row, code.loop(code.i64(0), code.i64(plan.rows)) as r:
                here = row(r)
                with self.unit_blocks(everyone=True) as (_, vectors):
                    for units in vectors:
                        self._prepare(here, units)
        for stage in self.lowered.stages:
            hold = self._hold if self.rests and stage is self.lowered.stages[0] else None
            with self.unit_tiles(rows, hold) as (block, vectors, row):
                self._tile(stage, block, vectors, row)
            if self.team is not None:
                self.team.meet()
                size = code.times(arg["N"], arg["H"])
                for k in stage.states:  # those of others lie in their caches: ask for all at once
                    with code.loop(code.i64(0), size, 64 // code.bytes) as at:
                        code.prefetch(code.at(arg[f"state_{k}"], self.new, at))
        if plan.ordered and not self.recompute:
            self._pad(rows)
        if plan.remembers:
            self._note_changes(rows)

    def _feed(self, rows: Value) -> None:
        """The last features of x at this step: V h + c of the output h before it."""
        code, arg, lanes = self.code, self.arg, self.plan.lanes
        tile = Tile(code, 1, 1, 4)
        with (
            self.tiles(rows) as row,
            code.loop(code.i64(0), code.i64(self.plan.rows)) as r,
            code.loop(code.i64(0), arg["fed"]) as k,
        ):
            here = row(r)
            output = code.at(arg[f"state_{self.lowered.output}"], self.old, here.place)
            weights = code.at(arg["readout"], code.times(code.times(k, self.vectors), lanes))

            def step(v: Value, chain: int, output=output, weights=weights) -> None:
                at = code.times(v, lanes)
                start = code.smaller(at, code.plus(arg["H"], -lanes))
                read = code.load(code.at(output, start))
                tile.add_product(0, 0, code.load(code.at(weights, at)), read, chain)

            tile.begin(lambda r, v: code.zero())
            tile.stretch(code.i64(0), self.vectors, step)
            value = code.b.load(code.at(arg["readout_bias"], k))
            for lane in range(lanes):
                part = code.b.extract_element(tile.totals()[0][0], code.i64(lane))
                value = code.b.fadd(value, part)
            feature = code.plus(code.b.sub(arg["C"], arg["fed"]), k)
            code.b.store(value, code.at(self.input_of(self.t, here), feature))

    def _pad(self, rows: Value) -> None:
        """Zeros for the states of the rows that have ended."""
        code, size = self.code, self.code.i64(self.plan.rows)
        with self.tiles(self.arg["N"], rows) as row, code.loop(code.i64(0), size) as r:
            here = row(r)
            with self.unit_blocks() as (_, vectors):
                for units in vectors:
                    for k in self.states:
                        self.store(code.zero(), f"state_{k}", units, self.new, here.place)

    def _turned_at(self, source: int, row: Row) -> Value:
        """Where the states (H, rows) of a tile are, of which this is a row: by thread."""
        tiles = self.code.b.udiv(row.slot, self.code.i64(self.plan.rows))
        at = self.code.plus(
            self.code.times(self.arg["turned_tiles"], self.sources.index(source)), tiles
        )
        return self._own(self.code.times(self.code.times(at, self.plan.rows), self.arg["H"]))

    def _at_read(self, source: int, row: Row, new: bool = False) -> Value:
        number = self.sources.index(source) if not new else (
            len(self.sources) + self.inner_sources.index(source)
        )  # fmt: skip
        rows = self.code.times(self.arg["N"], number)
        return self._own(self.code.b.add(self.code.times(rows, self.arg["H"]), row.place))

    def _own(self, place: Value) -> Value:
        """A place among the states as W reads them, of which each thread of a team has all."""
        if self.team is None:
            return place
        before = self.code.times(self.arg["part"], self.arg["read_size"])
        return self.code.b.add(before, place)

    def _prepare(self, row: Row, units: Units) -> None:
        """The states as W reads them at this step."""
        for source in self.sources:
            to = self.work("at_read", self._at_read(source, row), units.start)
            self.code.store(self._prepared(source, row, units), to)

    def _prepared(self, source: int, row: Row, units: Units) -> Value:
        """A state as W reads it at this step."""
        place, back = self.lowered.origins[source]
        unreset = self.unreset(self.t, row, back + 1)
        value = self.held(place, row, units, back)
        if self.plan.mask:
            value = self.code.b.fmul(value, self.load("mask", units, row.place))
        return self.select(unreset, value)

    def _turn(self, rows: list[Row], units: Units) -> None:
        """The same, with the rows of a tile side by side for each unit."""
        code, plan = self.code, self.plan
        for source in self.sources:
            base = self.work("at_read", self._turned_at(source, rows[0]))
            for first in range(0, plan.rows, plan.lanes):
                some = rows[first : first + plan.lanes]
                values = [self._prepared(source, row, units) for row in some]
                for n, value in enumerate(code.turned(values)):
                    at = code.times(code.plus(units.start, n), plan.rows)
                    code.store(value, code.at(base, code.plus(at, first)))

    def _given(self, row: Row, units: Units, gate: int) -> Value:
        """a of a gate, where it is at hand."""
        code, arg = self.code, self.arg
        offset = code.times(arg["H"], gate)
        if self.plan.input == "drive":
            at = self.input_of(self.t, row)
            # Steps of one sequence often lie apart from those of the next: too many places for the
            # processor to guess the next ones.
            code.prefetch(code.at(at, code.times(arg["x_t"], AHEAD), offset, units.start))
            return code.load(code.at(at, offset, units.start))
        step = code.times(code.b.sub(self.t, self.first), arg["N"])
        width = code.times(arg["H"], self.number_of_gates)
        at = code.times(code.b.add(step, row.number), width)
        return code.load(self.work("at_drive", at, offset, units.start))

    def _terms(self, stage: Stage, block: Value, rows: list[Row]) -> dict[int, list[Term]]:
        """By drive of a stage what is summed up in a tile, where anything is."""
        code, arg, plan = self.code, self.arg, self.plan
        terms: dict[int, list[Term]] = {number: [] for number in stage.drives}
        drives = {number: self.drives[number] for number in stage.drives}
        if plan.input == "folded":
            inputs = [self.input_of(self.t, row) for row in rows]
            if plan.placed:  # each block of units asks for a line of what comes
                ahead = code.plus(
                    code.times(arg["x_t"], AHEAD), code.times(block, 64 // code.bytes)
                )
                for place in inputs:
                    code.prefetch(code.at(place, ahead))
            for number, gate in ((n, drive.gate) for n, drive in drives.items()):
                if gate is None:
                    continue
                place = code.plus(code.times(block, self.number_of_gates), gate)
                weights = self.work("at_input", code.times(code.times(place, arg["C"]), plan.units))
                size = code.times(code.times(arg["C"], plan.units), self.number_of_gates)
                terms[number].append(Term(None, weights, inputs, arg["C"], next=size))
        numbers = {drive.dense: number for number, drive in drives.items()}
        numbers.pop(None, None)
        for product in self.products:
            read = None
            for dense, wire in zip(product.gates, product.wires, strict=True):
                if dense in numbers:
                    read = read or self._read(product, rows)
                    term = self.recurrent_term(product, wire, self.wires, block, read)
                    terms[numbers[dense]].append(term)
        return {number: some for number, some in terms.items() if some}

    def _read(self, product: Product, rows: list[Row]) -> list[Value]:
        """By row, the address of the state as W reads it."""
        code, source, new = self.code, product.source, product.new
        if self.plan.sparse == "turned":
            return [self.work("at_read", self._turned_at(source, rows[0]))]
        if self.plan.mask or (self.plan.keep and not new):
            return [self.work("at_read", self._at_read(source, row, new)) for row in rows]
        place, back = self.lowered.origins[source]
        if new:
            return [code.at(self.arg[f"state_{place}"], self.new, row.place) for row in rows]
        return [self.held_at(place, row, back=back) for row in rows]

    def _tile(
        self, stage: Stage, block: Value, vectors: list[Units], row: Callable[[Value], Row]
    ) -> None:
        """One tile of a stage, of which some units may rest, or all."""
        if not self.rests:
            self._update_tile(stage, block, vectors, row)
            return
        first, bits = row(self.code.i64(0)), self.of_block(block)
        some, every = (self.word(kind, first, self.code.i64(0)) for kind in (BY_ANY, BY_ALL))
        with self.code.b.if_then(self.has(some, bits)):
            self._update_tile(stage, block, vectors, row, self.has(every, bits, every=True))

    def _hold(self, row: Callable[[Value], Row]) -> None:
        """The new states of all units as if they rested: row by row, which is in order."""
        if self.recompute and not self.plan.mask:
            return
        code = self.code
        with code.loop(code.i64(0), code.i64(self.plan.rows)) as r:
            here = row(r)
            with code.loop(code.i64(0), self.vectors) as v:
                units = self._units(v)
                at = units, self.old, here.place
                values = {k: self.load(f"state_{k}", *at) for k in self.states}
                for k, value in values.items() if not self.recompute else ():
                    self.store(value, f"state_{k}", units, self.new, here.place)
                if self.plan.mask:
                    self._prepare_new(here, units, values)

    def _update_tile(
        self,
        stage: Stage,
        block: Value,
        vectors: list[Units],
        row: Callable[[Value], Row],
        all_take: Value | None = None,
    ) -> None:
        """The gates' products, then the update; ``all_take`` is whether no unit rests."""
        code, arg, plan = self.code, self.arg, self.plan
        rows = [row(code.i64(r)) for r in range(plan.rows)]
        terms = self._terms(stage, block, rows)

        def start(number: int, r: int, v: int) -> Value:
            drive = self.drives[number]
            if drive.gate is None or plan.input != "folded":
                return code.zero()
            return self.load("bias", vectors[v], code.times(arg["H"], drive.gate))

        starts = [functools.partial(start, number) for number in terms]
        if plan.remembers:
            values = self._remembered(starts, list(terms.values()), block, rows[0])
        elif plan.fused:
            given = starts, list(terms.values()), block, plan.rows, range(plan.vectors)
            values = self.sums_at_once(*given, rows[0].slot)
        else:
            values = [
                self.sums(*pair, block, slot=rows[0].slot)
                for pair in zip(starts, terms.values(), strict=True)
            ]
        summed = list(terms)
        parameters = {id(units): self.unit_parameters(units) for units in vectors}

        def body(parts: Sequence[Part], totals: list[list[Value]]) -> None:
            drives = []
            for n, (here, units) in enumerate(parts):
                sums = {number: total[n] for number, total in zip(summed, totals, strict=True)}
                drives.append([self._drive(number, here, units, sums) for number in stage.drives])
            given = [parameters[id(units)] for _, units in parts]
            self._update(stage, parts, drives, given, all_take)

        self.finish_tile(row, vectors, values, cost_of(stage.forward), body)

    # Sums that are remembered

    def _changed_at(self, number: Value) -> Value:
        """Where the word is that tells which groups of units have changed since a block of units
        was last found, for the rows of a tile: these are numbered block by block."""
        return self.code.b.gep(
            self.code.b.bitcast(self.work("at_changed"), I64.as_pointer()), [number]
        )

    def _tile_of(self, first: Row) -> Value:
        """The number of a tile of this thread, by its first row."""
        return self.code.b.udiv(first.slot, self.code.i64(self.plan.rows))

    def forget(self) -> None:
        """Nothing is remembered: before the last group is nothing, and all have changed."""
        code, zero, plan = self.code, self.code.i64(0), self.plan
        blocks = code.times(self.arg["tiles"], self.all_blocks[1])
        with code.loop(zero, blocks) as number:
            code.b.store(code.i64(-1), self._changed_at(number))
        size = len(self.recurrence.periods) * len(self.wires) * plan.rows * plan.units
        with code.loop(zero, code.times(blocks, size), plan.lanes) as at:
            code.store(code.zero(), self.work("at_sums", at))

    def _note_changes(self, rows: Value) -> None:
        """After a step: which groups have changed, in the rows of each tile."""
        code, b, blocks = self.code, self.code.b, self.all_blocks[1]
        with self.tiles(rows) as row:
            first = row(code.i64(0))
            some, before = (
                self.word(BY_ANY, first, code.i64(0)),
                code.times(self._tile_of(first), blocks),
            )
            with code.loop(before, code.plus(before, blocks)) as number:
                at = self._changed_at(number)
                b.store(b.or_(b.load(at), some), at)

    def _remembered(
        self,
        starts: Sequence[Callable[[int, int], Value]],
        terms: Sequence[Sequence[Term]],
        block: Value,
        first: Row,
    ) -> list[list[list[Value]]]:
        """The sums of a tile, as :meth:`sums_at_once` has them.

        Products with W are added up from the last group of units to the first; what has come
        together before each group is kept. So what a step adds up begins with the last group that
        has changed: with periods 1, 2, 4 ... two groups, of however many. Nothing in the order of
        the sums depends on what was kept.
        """
        code, b, plan, lanes = self.code, self.code.b, self.plan, self.plan.lanes
        width, groups = plan.vectors, len(self.recurrence.periods)
        tile = Tile(code, plan.rows, width * len(starts), plan.chains)
        pairs = [(number, term) for number, some in enumerate(terms) for term in some]
        recurrent = [(number, term) for number, term in pairs if term.count is self.arg["H"]]
        inputs = [pair for pair in pairs if pair not in recurrent]
        columns = [number * width + v for number, _ in recurrent for v in range(width)]
        places = [(r, column) for r in range(plan.rows) for column in columns]
        size = len(self.wires) * plan.rows * plan.units
        number = code.plus(code.times(self._tile_of(first), self.all_blocks[1]), block)

        def kept(group: Value, index: int) -> Value:
            at = code.times(code.plus(code.times(number, groups), group), size)
            return self.work("at_sums", code.plus(at, index * lanes))

        def last_of(word: Value) -> Value:
            return b.sub(code.i64(63), b.ctlz(word, ir.Constant(ir.IntType(1), 1)))

        zero, one, read = code.i64(0), code.i64(1), b.load(b.gep(self.arg["reads_blocks"], [block]))
        changed_at = self._changed_at(number)
        changed = b.and_(b.load(changed_at), read)
        b.store(zero, changed_at)
        some = b.icmp_signed("!=", changed, zero)
        last = last_of(b.select(some, changed, b.and_(read, b.sub(zero, read))))
        group, left = code.variable(I64), code.variable(I64)
        b.store(last, group)
        b.store(b.and_(read, b.sub(b.shl(code.i64(2), last), one)), left)
        begin = {place: index for index, place in enumerate(places)}
        tile.begin(
            lambda r, v: code.load(kept(last, begin[r, v])) if (r, v) in begin else code.zero()
        )
        body, done = b.append_basic_block("groups"), b.append_basic_block("all_groups")
        following = b.append_basic_block("next_group")
        b.branch(body)
        b.position_at_end(body)
        now = b.load(group)
        self.stretch(tile, recurrent, *self.units_of(now), range(width))
        b.store(b.xor(b.load(left), b.shl(one, now)), left)
        b.cbranch(b.icmp_signed("==", b.load(left), zero), done, following)
        b.position_at_end(following)
        b.store(last_of(b.load(left)), group)
        totals = tile.totals()
        for index, (r, column) in enumerate(places):
            code.store(totals[r][column], kept(b.load(group), index))
        tile.begin(lambda r, v: totals[r][v])
        b.branch(body)
        b.position_at_end(done)
        if plan.input == "folded":
            for r in range(plan.rows):
                for column in range(width * len(starts)):
                    tile.add_sum(r, column, starts[column // width](r, column % width))
            self.stretch(tile, inputs, zero, self.arg["C"], range(width))
        return self.by_sum(tile, width)

    def _drive(self, number: int, row: Row, units: Units, sums: Mapping[int, Value]) -> Value:
        """A drive from its sum of products."""
        drive, value = self.drives[number], sums.get(number)
        if drive.gate is None or self.plan.input == "folded":
            return value
        # After the sum, which need not wait for it to come from far.
        given = self._given(row, units, drive.gate)
        return given if value is None else self.code.b.fadd(given, value)

    def _update(
        self,
        stage: Stage,
        parts: Sequence[Part],
        drives: Sequence[Sequence[Value]],
        parameters: Sequence[list[Value]],
        all_take: Value | None,
    ) -> None:
        """The new states of one stage, of some parts of a tile; the rest is by part."""
        held, inputs = [], []
        for (row, units), mine, given in zip(parts, drives, parameters, strict=True):
            unreset = self.unreset(self.t, row)
            held.append([self.select(unreset, self.held(k, row, units)) for k in self.states])
            clock = self.clock(self.t, row)
            earlier = [self.load(f"state_{k}", units, self.new, row.place) for k in stage.earlier]
            filled = dict(zip(stage.drives, mine, strict=True))
            all_drives = [filled.get(number) for number in range(len(self.drives))]
            inputs.append([*all_drives, *held[-1], *given, *clock, *earlier])
        found = self.values(stage.forward, inputs)
        for part, values, before, given in zip(parts, found, held, parameters, strict=True):
            taking = self.taking(part[0], given, all_take)
            outputs = zip(stage.states, stage.forward.outputs, strict=True)
            new = {k: self.select(taking, values[output], before[k]) for k, output in outputs}
            self._store_new(stage, *part, new, values)

    def _store_new(
        self, stage: Stage, row: Row, units: Units, new: Mapping[int, Value], values: list[Value]
    ) -> None:
        """Store the new states of a stage, by place, and what is kept of the values."""
        code = self.code
        if not self.recompute:
            for k, value in new.items():
                self.store(value, f"state_{k}", units, self.new, row.place)
                if self.plan.dilated:  # what the next step reads is from long ago
                    code.prefetch(self.held_at(k, row, self.arg["state_t"], units.start))
        if self.plan.mask:
            self._prepare_new(row, units, new)
        for place, back in (self.lowered.origins[source] for source in self.sources):
            # Long ago, so perhaps in no near cache: what the next step reads.
            if back and place in stage.states:
                ahead = code.at(self.arg[f"state_{place}"], self.past(back - 1), row.place)
                code.prefetch(code.at(ahead, units.start))
        if self.storing:
            at = code.times(self.t, self.arg["residuals_t"])
            place = code.times(row.place, len(self.residuals))
            for number, value in stage.residuals:
                offset = code.times(self.arg["H"], number)
                self.store(values[value], "residuals", units, at, place, offset)

    def _prepare_new(self, row: Row, units: Units, new: Mapping[int, Value]) -> None:
        """The new states as W reads them in this step, under the mask; ``new`` is by place."""
        for source in self.inner_sources:
            place, _ = self.lowered.origins[source]
            if place in new:
                value = self.code.b.fmul(new[place], self.load("mask", units, row.place))
                to = self.work("at_read", self._at_read(source, row, new=True), units.start)
                self.code.store(value, to)
