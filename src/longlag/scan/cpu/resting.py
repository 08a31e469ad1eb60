"""The backward kernel of units that rest: what they would do in every step is done once a rest.

While the units of a group rest, all that read them read the same numbers. So of the errors dr of
those drives only the sum over the rest counts, for W^T dr and for dW alike. Where units read their
own and slower groups, few of these products are left: with periods 1, 2, 4 ... a step has two sums
that end, and each is added to what the next slower group waits for.

A level is what reads one group: its sums end where that group, or a slower one, takes a step. Per
row, ``at_flows`` has by level and by vector of errors what has come together since. When it ends,
it is a row of the panels of that level, beside the states that were read; from there W^T reads it
at once, and dW when the panels are full.

Sums go on from piece to piece: the error that a piece gives for the states before it lacks what is
still to come from them, which the next piece's call has in its work space.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llvmlite import ir

from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import Stage
from longlag.scan.cpu import backward
from longlag.scan.cpu.backward import Backward, Source
from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.kernel import BY_ANY, BY_ROW, Row, Units
from longlag.scan.cpu.plan import Plan
from longlag.scan.cpu.tile import Tile


def emit(recurrence: Recurrence, plan: Plan) -> str:
    """As :func:`longlag.scan.cpu.backward.emit`, where :attr:`Plan.gathers`."""
    return backward.emit(recurrence, plan, _Resting)


class _Level(NamedTuple):
    """The panels of what reads one group.

    Attributes:
        number: of the group.
        vectors: of errors: of this group and those before it.
        errors, states: where the panels begin.
        rows: that there is room for.
        first, entries: which entries of ``panels_levels`` are its.
    """

    number: Value
    vectors: Value
    errors: Value
    states: Value
    rows: Value
    first: Value
    entries: Value


class _Resting(Backward):
    level: _Level
    """Whose units are being found, and where its rows of this step begin."""
    base_of_level: Value

    def __init__(self, recurrence: Recurrence, plan: Plan) -> None:
        super().__init__(recurrence, plan)
        (self.product,), (self.stage,) = self.lowered.products, self.lowered.stages
        self.groups = len(recurrence.periods)
        self.wide = self.code.b.udiv(self.vectors, self.code.i64(self.groups))
        self.panel_rows = plan.rows * plan.lanes

    # Where things are

    def _level(self, number: Value) -> _Level:
        code, at = self.code, self.code.times(number, 5)
        errors, states, *rest = (
            code.b.load(code.b.gep(self.arg["levels"], [code.plus(at, n)])) for n in range(5)
        )
        vectors = code.times(code.plus(number, 1), self.wide)
        return _Level(number, vectors, errors, states, *rest)

    def _filled(self, level: _Level) -> Value:
        words = self.code.b.bitcast(self.work("at_filled"), I64.as_pointer())
        return self.code.b.gep(words, [level.number])

    def _errors_of(self, level: _Level, wire: int, vector: Value, row: Value) -> Value:
        """Where the panels of a level have a row of a vector of errors."""
        code = self.code
        place = code.plus(code.times(level.vectors, wire), vector)
        place = code.plus(code.times(place, level.rows), row)
        return self.work("at_levels", level.errors, code.times(place, self.plan.lanes))

    def _states_of(self, level: _Level, vector: Value, row: Value) -> Value:
        """Where they have a row of a vector of the states of the group, the first being 0."""
        place = self.code.plus(self.code.times(vector, level.rows), row)
        return self.work("at_levels", level.states, self.code.times(place, self.plan.lanes))

    def _flow(self, tile: Value, level: Value, wire: int, vector: Value) -> Value:
        """Where what has come together for a level is, of a vector of errors of a tile's rows."""
        code = self.code
        at = code.plus(
            code.times(
                code.plus(code.times(tile, self.groups + 1), level), len(self.product.wires)
            ),
            wire,
        )
        at = code.plus(code.times(at, self.vectors), vector)
        return self.work("at_flows", code.times(at, self.panel_rows))

    def _tile_of(self, row: Row) -> Value:
        return self.code.b.udiv(row.slot, self.code.i64(self.plan.rows))

    def _in_tile(self, row: Row) -> Value:
        return self.code.b.urem(row.slot, self.code.i64(self.plan.rows))

    def _blocks_of(self, level: Value) -> tuple[Value, Value]:
        count = self.code.b.udiv(self.wide, self.code.i64(self.plan.vectors))
        first = self.code.times(level, count)
        return first, self.code.plus(first, count)

    def _vectors_of(self, block: Value) -> list[Units]:
        first = self.code.times(block, self.plan.vectors)
        return [self._units(self.code.plus(first, v)) for v in range(self.plan.vectors)]

    # The step

    def step(self) -> None:
        code, b = self.code, self.code.b
        self.make_room()
        self.collect_words()
        self.collect_input()
        with self.tiles(self.count_now) as row:
            word = self.word(BY_ANY, row(code.i64(0)), self.words_at[0])
            stop = b.sub(code.i64(64), b.ctlz(word, ir.Constant(ir.IntType(1), 0)))
            self._rest_beyond(row, stop)
            with code.loop(code.i64(0), stop) as number:
                self._end_level(number, row)
                with code.loop(*self._blocks_of(number)) as block:
                    self.tile(self.stage, block, self._vectors_of(block), row)
        self.end()

    def _rest_beyond(self, row: Callable[[Value], Row], group: Value) -> None:
        """What a step does for the units of a group, and of all after it, that rest."""
        code = self.code
        numbers = [n for n in self.stage.errors if n < len(self.drives)]
        first = code.times(group, self.wide)
        with code.loop(code.i64(0), code.i64(self.plan.rows)) as r:
            here = row(r)
            with code.loop(first, self.vectors) as v:
                units = self._units(v)
                for k in self.states:
                    error = self.load(f"delta_{k}", units, self.arriving, here.place)
                    if k == self.output:
                        error = code.b.fadd(error, self._output_error(here, units))
                    self.store(error, f"delta_{k}", units, self.leaving, here.place)
        with (
            code.b.if_then(self.is_set("want_x")),
            code.loop(code.i64(0), code.i64(self.plan.rows)) as r,
            code.loop(first, self.vectors) as v,
        ):
            self._give_errors(row(r), self._units(v), dict.fromkeys(numbers, code.zero()))

    def _end_level(self, number: Value, row: Callable[[Value], Row]) -> None:
        """What has come together for a level ends, for a tile: rows of its panels."""
        code, b, zero = self.code, self.code.b, self.code.i64(0)
        self.level = level = self._level(number)
        filled, rows = self._filled(level), self.plan.rows
        with b.if_then(b.icmp_signed(">", code.plus(b.load(filled), rows), level.rows)):
            self._level_products(level)
        self.base_of_level = base = b.load(filled)
        b.store(code.plus(base, rows), filled)
        tile = self._tile_of(row(zero))
        with code.loop(zero, level.vectors) as vector:
            for wire in range(len(self.product.wires)):
                here = self._flow(tile, number, wire, vector)
                following = self._flow(tile, code.plus(number, 1), wire, vector)
                to = self._errors_of(level, wire, vector, base)
                with code.loop(zero, code.i64(self.panel_rows), self.plan.lanes) as at:
                    error, after = code.load(code.at(here, at)), code.at(following, at)
                    code.store(error, code.at(to, at))
                    code.store(b.fadd(code.load(after), error), after)
                    code.store(code.zero(), code.at(here, at))
        place, _ = self.lowered.origins[self.product.source]
        first = code.times(number, self.wide)
        with code.loop(zero, self.wide) as v, code.loop(zero, code.i64(rows)) as r:
            units = self._units(code.plus(first, v))
            state = self.load(f"state_{place}", units, self.new, row(r).place)
            code.store(state, self._states_of(level, v, code.plus(base, r)))

    def _sent(
        self, block: Value, rows: list[Row], sources: Sequence[Source], kind: int = BY_ROW
    ) -> list[list[list[Value]]]:
        code, level, lanes, width = self.code, self.level, self.plan.lanes, self.plan.vectors
        tile = Tile(code, len(rows), width, self.plan.chains)
        tile.begin(lambda r, v: code.zero())
        read = code.b.load(code.b.gep(self.arg["reads_blocks"], [block]))
        slots = [code.plus(self.base_of_level, self._in_tile(row)) for row in rows]
        with code.bits(read) as group:
            first = code.times(group, self.wide)
            with code.loop(first, code.plus(first, self.wide)) as vector:
                low = code.times(vector, lanes)
                before = code.b.sub(code.i64(0), low)
                for number, wire in enumerate(self.product.wires):
                    errors = [self._errors_of(level, number, vector, slot) for slot in slots]
                    numbers = [code.at(place, before) for place in errors]
                    term = self.recurrent_term(self.product, wire, self.wires, block, numbers)
                    self.stretch(tile, [(0, term)], low, code.plus(low, lanes), range(width))
        return [tile.totals()]

    def _store_dense(self, row: Row, units: Units, dense: int, error: Value) -> None:
        wire = self.product.gates.index(dense)
        flow = self._flow(self._tile_of(row), self.level.number, wire, units.number)
        self.code.store(
            error, self.code.at(flow, self.code.times(self._in_tile(row), self.plan.lanes))
        )

    def _collect_states(
        self, stage: Stage, row: Row, units: Units, held: list[Value], after: list[Value]
    ) -> None:
        """They are collected where a rest ends."""

    def _recurrent_products(
        self, errors: Callable[[int], Value], before: Value, rows: Value, words: list[Value]
    ) -> None:
        """Those of a level come when its panels are full."""

    # The ends

    def comes_after(self) -> Value:
        return self.code.b.or_(super().comes_after(), self.is_set("closes"))

    def last_step(self) -> None:
        code, b, zero = self.code, self.code.b, self.code.i64(0)
        wanted = super().comes_after()
        with (
            self.tiles(self.arg["N"]) as row,
            b.if_else(self.is_set("closes")) as (closes, goes_on),
        ):
            with closes, code.loop(zero, code.i64(self.groups)) as number:
                self._end_level(number, row)
                with b.if_then(wanted), code.loop(*self._blocks_of(number)) as block:
                    self.last(block, self._vectors_of(block), row)
            with goes_on, code.loop(zero, code.i64(self.plan.rows)) as r:
                here = row(r)
                with code.loop(zero, self.vectors) as v:
                    units = self._units(v)
                    for k in self.states:
                        error = self.load(f"delta_{k}", units, self.arriving, here.place)
                        self._leave(k, here, units, error)

    def close(self) -> None:
        code = self.code
        with (
            code.b.if_then(self.is_set("closes")),
            code.loop(code.i64(0), code.i64(self.groups)) as number,
        ):
            self._level_products(self._level(number))
        super().close()

    def _level_products(self, level: _Level) -> None:
        """To the sums of dW what the panels of a level bring, which are then empty."""
        code, b, arg, lanes = self.code, self.code.b, self.arg, self.plan.lanes
        filled, zero = self._filled(level), code.i64(0)
        apart = code.times(level.rows, lanes)
        first = code.times(level.number, self.wide)
        entries = b.gep(arg["panels_levels"], [code.times(level.first, 3)])
        with b.if_then(self.is_set("want_recurrent")):
            for number, wire in enumerate(self.product.wires):
                states = self._states_of(level, b.sub(zero, first), zero)  # so numbers are all's
                self.call(
                    "outer_all", self.work("at_sums", code.times(self._wire_sums(), wire)),
                    self._errors_of(level, number, zero, zero), states, apart,
                    code.i64(lanes), b.load(filled), arg["H"], entries, level.entries,
                )  # fmt: skip
        b.store(zero, filled)
