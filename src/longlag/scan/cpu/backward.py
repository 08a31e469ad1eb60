"""The backward kernel: W^T dr in a register tile, and the adjoint before it leaves the registers.

A step t takes the errors dr of step t + 1 through W^T, adds what arrives at s_t from elsewhere, and
goes through the pointwise adjoint of step t. So the kernel has the shape of the forward one, with
two ends: rows whose last step this is have no dr yet, and after the first step of the call the
product alone gives the error of the states before it.

The errors of the drives, the states that W read and the input of some steps are collected, in a
work space that stays in a cache, until there are enough rows for dW, dU, db and dx to be matrix
products.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TypeAlias

from longlag.recurrence import Program, Recurrence
from longlag.recurrence.lowered import Product, Stage
from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.kernel import (
    AHEAD,
    BY_ALL,
    BY_ANY,
    BY_ROW,
    Arguments,
    Kernel,
    Part,
    Row,
    Units,
    cost_of,
    lowered_of,
    schedule_arguments,
)
from longlag.scan.cpu.math_values import constant
from longlag.scan.cpu.matrix import ROWS
from longlag.scan.cpu.plan import Plan
from longlag.scan.cpu.sparse import add_products

NAME = "longlag_backward"


def arguments(recurrence: Recurrence, plan: Plan) -> Arguments:
    """What the kernel is given, in order. Numbers that begin with ``at_`` are parts of ``work``."""
    lowered = lowered_of(recurrence, plan.rests)
    states, count = range(len(lowered.stored)), len(lowered.patterns)
    tables = ["list_sending", "list_slots", "panels"]
    tables += [f"{name}_{number}" for number in range(count) for name in ("ranges", "panels")]
    tables += ["ticks_blocks", "ticks_vectors", f"ranges_{count}"] if plan.rests else []
    tables += ["reads_blocks", "levels", "panels_levels"] if plan.gathers else []
    pointers = ["x", "input", "recurrent", "units", "residuals", "work", "d_output", "errors"]
    pointers += ["d_x", "d_input", "d_bias", "d_recurrent", "d_units"]
    pointers += [f"{name}_{k}" for k in states for name in ("state", "delta")]
    if plan.dilated:
        pointers += [f"{name}_{k}" for k in states for name in ("before", "final", "initial")]
    past = [k for k in states if lowered.depths[k]]
    pointers += [f"{name}_{k}" for k in past for name in ("further", "past")]
    scheduled, constants_of_schedule = schedule_arguments(recurrence, plan)
    pointers += scheduled
    if plan.sparse:
        pointers += ["heads", "columns", "heads_forward", "columns_forward"]
    numbers = (
        "T", "x_t", "x_n", "output_t", "output_n", "d_x_t", "d_x_n", "delta_half",
        "opens", "closes", "want_initial", "want_units", "want_x", "want_input", "want_recurrent",
        "send", *(["further_t"] if past else []),
        *(["before_t", "final_t", "all_rows"] if plan.dilated else []),
    )  # fmt: skip
    constants = (
        "N", "H", "C", "state_t", "keep_t", "residuals_t", "error_half", "work_bytes", "unit_bytes",
        "input_bytes", "bias_bytes", "recurrent_bytes", "at_recurrent", "at_count", "at_errors",
        "at_read", "at_inputs", "at_where", "at_sums", "at_input_sums", "sums_size", "rows",
        "entries", *(f"entries_{number}" for number in range(count)),
        "pack_back", "outer", "outer_input", "unpack", "unpack_input", *constants_of_schedule,
        *(["slot_numbers"] if plan.sparse else []),
        *(["at_kept"] if len(lowered.stages) > 1 else []),
        *(["at_words", "at_marks"] if plan.rests else []),
        *(["at_filled", "at_flows", "at_levels", "outer_all"] if plan.gathers else []),
        *(["dilation", "phases"] if plan.dilated else []),
    )  # fmt: skip
    return Arguments(tuple(tables), tuple(pointers), numbers, constants)


_BY_THREAD = {
    "work": "work_bytes", "d_units": "unit_bytes", "d_input": "input_bytes",
    "d_bias": "bias_bytes", "d_recurrent": "recurrent_bytes",
}  # fmt: skip


def emit(recurrence: Recurrence, plan: Plan, make: type["Backward"] | None = None) -> str:
    """The kernel as LLVM IR.

    It goes from step T - 1 down to step 0, and where ``want_initial`` is not 0 once more, for the
    error of the states before the first step. ``delta_k`` holds two arrays (rows, H) that steps
    read and write in turns, ``delta_half`` apart, beginning with the first: it holds the error of
    the states after the last step. In the end the one with number T + 1 modulo 2 holds the error of
    the states before the first. ``errors`` has the same two, (rows, dense gates, H), for dr.

    A state that is read d steps back has errors dr of d steps in a ring, D + 2 of them, all zero at
    first. ``further_k`` (D + T + 1, rows, H) is the error that arrives at its path, the past before
    the first step included, beside that of the steps of this call; where there is none it is one
    row of zeros, and ``further_t`` is 0. ``past_k`` (D, rows, H) gets the error of the past, that
    of the step before the first step first. Sums go from the longest delay to the shortest, as do
    those of pieces.

    Of a dilated recurrence it takes some ``phases`` at a time, which are steps that follow on each
    other, from the last such steps to the first: what they read again is small. ``delta_k`` and
    ``errors`` have two halves for each. ``final_k`` has the error of the states of the last
    ``dilation`` steps by phase, ``final_t`` apart; ``initial_k`` gets that of the states before
    the first steps.

    Several calls may share the work of one: pieces in time, the last piece first. The first
    ``opens`` the sums, the last ``closes`` them and writes the gradients of the weights. What was
    collected and the sums stay in ``work`` in between, so that the bits are those of one call.
    """
    kernel = (make or Backward)(recurrence, plan)
    code, arg = kernel.code, kernel.arg
    kernel.prepare()
    if plan.dilated:
        with code.loop(code.i64(0), arg["dilation"], arg["phases"]) as first:
            kernel.phases(first)
    else:
        with code.loop(code.plus(arg["T"], -1), code.i64(-1), -1) as t:
            kernel.begin(t)
            kernel.step()
        with code.b.if_then(kernel.comes_after()):
            kernel.begin(code.i64(-1))
            kernel.last_step()
            kernel.past_errors()
    kernel.close()
    return kernel.finish()


Source: TypeAlias = tuple[bool, int]
"""A state that W reads, by its number: its new value, or that of the step before."""

Sent: TypeAlias = Mapping[Source, Value]
"""What W^T brings to each, of one row and vector of units."""


class Backward(Kernel):
    """See the module and :func:`emit`."""

    def __init__(self, recurrence: Recurrence, plan: Plan) -> None:
        super().__init__(recurrence, plan, NAME, arguments(recurrence, plan), _BY_THREAD)
        lowered = self.lowered
        self.residuals = lowered.residuals
        self.has_input = plan.input != "drive"
        self.slots = lowered.drive_of_gate
        self.dense, self.apart = len(recurrence.dense_gates), lowered.apart
        carried = [True] * len(lowered.stored) if self.rests else lowered.carried
        self.carried, self.output = carried, lowered.output
        self.reading = [(source, False) for source in lowered.sources]
        self.reading += [(source, True) for source in lowered.inner_sources]
        self.wires = lowered.propagating_wires
        self.sources = sorted({(product.new, product.source) for product in lowered.propagating})
        self.kept = [k for stage in lowered.stages for k in stage.kept]
        self.ring = 1 + lowered.delays[-1]
        if self.rests:
            self.step_words = self.code.times(self.arg["N"], 3)
        self.collected, self.sent = self.code.variable(I64), self.code.variable(I64)
        code = self.code
        panel = code.times(self.arg["rows"], plan.lanes)
        self.panel, self.drive_panels = panel, code.times(panel, self.vectors)

    def prepare(self) -> None:
        """W as it sends errors back; sums that are zero, or go on."""
        code, arg = self.code, self.arg
        if self.wires and not self.plan.sparse:
            self.call(
                "pack_back", arg["recurrent"], self.work("at_recurrent"), arg["H"], arg["H"],
                code.i64(len(self.wires)), arg["list_sending"], *self.all_blocks,
            )  # fmt: skip
        before = code.b.bitcast(self.work("at_count"), I64.as_pointer())
        with code.b.if_else(self.is_set("opens")) as (opens, goes_on):
            with opens:
                with code.loop(code.i64(0), arg["sums_size"], self.plan.lanes) as index:
                    code.store(code.zero(), self.work("at_sums", index))
                code.b.store(code.i64(0), self.collected)
            with goes_on:
                code.b.store(code.b.load(before), self.collected)
        code.b.store(code.b.load(self.collected), self.sent)
        if self.rests:
            self._no_words(code.i64(0), self.ring)

    def _no_words(self, at: Value, steps: int = 1) -> None:
        """No group takes a step, or any of several."""
        words = self.code.b.bitcast(self.work("at_words"), I64.as_pointer())
        with self.code.loop(at, self.code.plus(at, self.code.times(self.step_words, steps))) as n:
            self.code.b.store(self.code.i64(0), self.code.b.gep(words, [n]))

    def phases(self, first: Value) -> None:
        """All steps of some phases of a dilated recurrence, then the error of before the first."""
        code, b, arg = self.code, self.code.b, self.arg
        stop = code.smaller(code.plus(first, arg["phases"]), arg["dilation"])
        turns = b.sdiv(code.plus(arg["T"], code.plus(arg["dilation"], -1)), arg["dilation"])
        with code.loop(code.plus(turns, -1), code.i64(-1), -1) as turn:
            end = code.smaller(stop, b.sub(arg["T"], code.times(turn, arg["dilation"])))
            with code.loop(code.plus(end, -1), code.plus(first, -1), -1) as phase:
                self.begin_phase(turn, phase, first, stop)
                self.step()
        with b.if_then(self.is_set("want_initial")), code.loop(first, stop) as phase:
            self.begin_phase(code.i64(-1), phase, first, stop)
            self.last_step()

    def begin_phase(self, turn: Value, phase: Value, first: Value, stop: Value) -> None:
        """Offsets of a step of the phases first .. stop - 1; those of turn -1 come after all."""
        code, b, arg = self.code, self.code.b, self.arg
        self.phase, self.t = phase, code.plus(code.times(turn, arg["dilation"]), phase)
        self.next = code.plus(self.t, arg["dilation"])
        same = b.icmp_signed(">", phase, first)
        before = code.plus(b.sub(b.sub(stop, first), arg["dilation"]), -1)
        self.step_after = code.plus(self.t, b.select(same, code.i64(-1), before))
        self.find_held(self.t)
        self.output_t = code.times(self.t, arg["output_t"])
        half, place = b.and_(turn, code.i64(1)), b.sub(phase, first)
        at = code.times(place, arg["state_t"])
        before = code.times(half, arg["delta_half"])
        self.arriving = b.add(before, at)
        self.leaving = b.add(b.sub(arg["delta_half"], before), at)
        size = code.times(arg["error_half"], arg["phases"])
        before, at = code.times(half, size), code.times(place, arg["error_half"])
        self.errors_at = [b.add(b.sub(size, before), at), b.add(before, at)]
        self.words_at = []
        inside = b.icmp_signed("<", self.next, arg["T"])
        later = self.count(code.smaller(self.next, arg["T"]))
        self.later = b.select(inside, later, code.i64(0))
        end = b.icmp_signed("<", self.t, code.i64(0))
        self.count_now = b.select(end, arg["N"], self.count(b.select(end, code.i64(0), self.t)))

    def step(self) -> None:
        """The step that has begun."""
        self.make_room()
        self.collect_words()
        self.collect_input()
        for stage in reversed(self.lowered.stages):
            with self.unit_tiles(self.later) as (block, vectors, row):
                self.tile(stage, block, vectors, row)
            with (
                self.tiles(self.count_now, self.later) as row,
                self.unit_blocks() as (block, vectors),
            ):
                self.first(stage, block, vectors, row)
        self.end()

    def comes_after(self) -> Value:
        """Whether there is anything to do after all steps."""
        return self.is_set("want_initial")

    def last_step(self) -> None:
        """The error of the states before the first step."""
        with self.unit_blocks() as (block, vectors), self.tiles(self.later) as row:
            self.last(block, vectors, row)
        if not self.plan.dilated:
            return
        code = self.code
        with (  # of rows that have no step
            self.tiles(self.count_now, self.later) as row,
            code.loop(code.i64(0), code.i64(self.plan.rows)) as r,
            self.unit_blocks() as (_, vectors),
        ):
            here = row(r)
            for units in vectors:
                for k in self.states:
                    self._leave(k, here, units, self._arrives(k, here, units))

    def begin(self, t: Value) -> None:
        """Offsets of step t, whose errors dr of step t + 1 are there; -1 comes after all."""
        code, arg = self.code, self.arg
        self.t, self.next = t, code.plus(t, 1)
        self.find_held(t)
        self.output_t = code.times(t, arg["output_t"])
        turn = code.b.and_(code.plus(code.b.sub(arg["T"], t), -1), code.i64(1))
        self.arriving = code.times(turn, arg["delta_half"])
        self.leaving = code.b.sub(arg["delta_half"], self.arriving)
        self.errors_at = self._in_ring(turn, arg["error_half"])
        self.words_at = self._in_ring(turn, self.step_words) if self.rests else []
        inside = code.b.icmp_signed("<", self.next, arg["T"])
        if self.plan.ordered:
            # counts go one step further than T; what is there is not used.
            later = self.count(self.next)
            end = code.b.icmp_signed("<", t, code.i64(0))
            self.count_now = self.count(code.b.select(end, self.next, t))
        else:
            later = self.count_now = arg["N"]
        self.later = code.b.select(inside, later, code.i64(0))

    def _in_ring(self, turn: Value, size: Value) -> list[Value]:
        """The offsets of what is kept of this step, and of those so many after it."""
        code, ring = self.code, self.ring
        if ring == 2:
            before = code.times(turn, size)
            return [code.b.sub(size, before), before]
        return [self._turned(delay, size) for delay in range(ring)]

    def _turned(self, delay: int, size: Value) -> Value:
        code, ring = self.code, self.ring
        number = code.plus(code.b.sub(self.arg["T"], self.t), ring - delay)
        return code.times(code.b.urem(number, code.i64(ring)), size)

    # What is collected

    def _slot(self, row: Row) -> Value:
        return self.code.b.add(self.base, row.slot)

    def _panel(self, name: str, number: int, row: Row, units: Units) -> Value:
        """Where the panels of a part of the work space have a row and vector of units."""
        code = self.code
        at = code.times(units.number, self.panel)
        row_at = code.times(self._slot(row), self.plan.lanes)
        return self.work(name, code.times(self.drive_panels, number), at, row_at)

    def collect_words(self) -> None:
        """Which groups of units take this step, where any rest."""
        if not self.rests:
            return
        code = self.code
        self.find_words(self.count_now, self.words_at[0])
        marks = code.b.bitcast(self.work("at_marks"), I64.as_pointer())
        with (
            self.tiles(self.count_now) as row,
            code.loop(code.i64(0), code.i64(self.plan.rows)) as r,
        ):
            here = row(r)
            word = self.word(BY_ROW, here, self.words_at[0])
            code.b.store(word, code.b.gep(marks, [self._slot(here)]))

    def collect_input(self) -> None:
        """The input of this step, with a one for the bias, and where its error goes."""
        if not self.has_input:
            return
        code, arg = self.code, self.arg
        size = code.i64(self.plan.rows)
        where = code.b.bitcast(self.work("at_where"), I64.as_pointer())
        with self.tiles(self.count_now) as row, code.loop(code.i64(0), size) as r:
            here = row(r)
            slot = self._slot(here)
            at = code.plus(code.times(self.t, arg["d_x_t"]), code.times(here.number, arg["d_x_n"]))
            code.b.store(at, code.b.gep(where, [slot]))
            source = self.input_of(self.t, here)
            target = self.work("at_inputs", code.times(slot, code.plus(arg["C"], 1)))
            if self.plan.dilated:
                code.prefetch(self.input_of(self.step_after, here))
            if self.plan.placed:
                back = code.times(arg["x_t"], -AHEAD)
                with code.loop(code.i64(0), arg["C"], 64 // code.bytes) as k:
                    code.prefetch(code.at(source, back, k), level=2)
            self._copy(source, target, arg["C"])
            one = constant(code.scalar, 1.0)
            code.b.store(one, code.at(target, arg["C"]))

    def _copy(self, source: Value, target: Value, count: Value) -> None:
        """Some numbers, as vectors as wide as there are numbers for; the last one overlaps."""
        self._copy_by(self.plan.lanes, source, target, count)

    def _copy_by(self, width: int, source: Value, target: Value, count: Value) -> None:
        code, b = self.code, self.code.b
        kind = code.vector_of(width).as_pointer()

        def move(k: Value) -> None:
            there, here = (b.bitcast(code.at(place, k), kind) for place in (source, target))
            b.store(b.load(there, align=code.bytes), here, align=code.bytes)

        with b.if_else(b.icmp_signed(">=", count, code.i64(width))) as (enough, fewer):
            with enough:
                last = code.plus(count, -width)
                with code.loop(code.i64(0), last, width) as k:
                    move(k)
                move(last)
            with fewer:
                if width > 1:
                    self._copy_by(width // 2, source, target, count)

    def make_room(self) -> None:
        """Before a step: the products, where it has no room."""
        code, b = self.code, self.code.b
        rows = b.load(self.collected)
        need = b.add(rows, self.mine(self.count_now))
        with b.if_then(b.icmp_signed(">", need, self.arg["rows"])):
            self._products(rows)
            b.store(code.i64(0), self.collected)
            b.store(code.i64(0), self.sent)
        self.base = b.load(self.collected)

    def end(self) -> None:
        """After a step: its rows are there."""
        b = self.code.b
        b.store(b.add(self.base, self.mine(self.count_now)), self.collected)

    def close(self) -> None:
        """After all steps: the gradients, or what the next piece goes on from."""
        b = self.code.b
        rows = b.load(self.collected)
        with b.if_else(self.is_set("closes")) as (closes, goes_on):
            with closes:
                self._products(rows)
                self._unpack()
            with goes_on:
                if self.has_input:
                    self._send(rows)
                b.store(rows, b.bitcast(self.work("at_count"), I64.as_pointer()))

    def _send(self, rows: Value) -> None:
        """dx of the rows that were not sent yet."""
        code, arg, b = self.code, self.arg, self.code.b
        with b.if_then(self.is_set("want_x")):
            first = b.load(self.sent)
            where = b.bitcast(self.work("at_where"), I64.as_pointer())
            self.call(
                "send", self.work("at_errors", code.times(first, self.plan.lanes)), self.panel,
                b.sub(rows, first), b.gep(where, [first]), arg["d_x"], arg["input"], arg["H"],
                arg["C"], code.i64(len(self.slots)), arg["list_slots"],
            )  # fmt: skip

    def _products(self, rows: Value) -> None:
        """To the sums what the rows that were collected bring; and dx.

        Where the sums stay in a near cache, so do some rows, for all of them; else each in turn
        takes all rows.
        """
        code, b = self.code, self.code.b
        if self.plan.hidden:
            with code.loop(code.i64(0), rows, ROWS) as first:
                self._some_products(first, code.smaller(b.sub(rows, first), code.i64(ROWS)))
        else:
            self._some_products(code.i64(0), rows)
        if self.has_input:
            self._send(rows)
        if self.plan.sparse:
            with b.if_then(self.is_set("want_recurrent")):
                for product in self.products:
                    self._sparse_products(product, rows)

    def _some_products(self, first: Value, rows: Value) -> None:
        """To the sums what some rows bring."""
        code, arg, b = self.code, self.arg, self.code.b
        before = code.times(first, self.plan.lanes)  # within a panel
        words = []
        if self.rests:
            marks = b.bitcast(self.work("at_marks"), I64.as_pointer())
            words = [b.gep(marks, [first]), arg["ticks_vectors"]]

        def errors(drive: int) -> Value:
            return self.work("at_errors", code.times(self.drive_panels, drive), before)

        if self.has_input:
            inputs = code.plus(arg["C"], 1)
            width = code.times(code.times(self.vectors, self.plan.lanes), len(self.slots))
            with b.if_then(self.is_set("want_input")):
                for place, count in self._together(self.slots_in_order):
                    at = code.times(code.times(self.vectors, self.plan.lanes), place)
                    self.call(
                        "outer_input", self.work("at_input_sums", at), width,
                        self.work("at_inputs", code.times(first, inputs)), inputs, inputs,
                        errors(self.slots_in_order[place]), self.panel, rows,
                        code.times(arg["H"], count), *words,
                    )  # fmt: skip
        if self.products and not self.plan.sparse:
            with b.if_then(self.is_set("want_recurrent")):
                self._recurrent_products(errors, before, rows, words)

    def _recurrent_products(
        self, errors: Callable[[int], Value], before: Value, rows: Value, words: list[Value]
    ) -> None:
        """To the sums of dW what some rows bring; ``errors`` is by drive."""
        code, arg, lanes = self.code, self.arg, self.code.i64(self.plan.lanes)
        for product in self.products:
            name = ""
            if product.pattern is not None:
                name = f"_{self.patterns.index(product.pattern)}"
            source = self.reading.index((product.source, product.new))
            read = self.work("at_read", code.times(self.drive_panels, source), before)
            for place, count in self._side_by_side(product):
                drive = errors(self.apart + product.gates[place])
                sums = code.times(self._wire_sums(), product.wires[place])
                if count > 1:
                    wide = code.times(lanes, count)
                    self.call(
                        "outer_input", self.work("at_sums", sums), wide, read, lanes, lanes, drive,
                        self.panel, rows, wide,
                    )  # fmt: skip
                    continue
                self.call(
                    "outer", self.work("at_sums", sums), drive, read, self.panel, lanes, rows,
                    arg["H"], arg[f"panels{name}"], arg[f"entries{name}"], *words,
                )  # fmt: skip

    @property
    def slots_in_order(self) -> list[int]:
        """The drives of the gates, in the order of their errors."""
        return sorted(self.slots)

    def _together(self, drives: Sequence[int]) -> list[tuple[int, int]]:
        """Drives whose errors follow on each other in full vectors, and are one for a product: the
        place of the first, and how many."""
        groups: list[tuple[int, int]] = []
        full = self.plan.hidden and not self.rests
        for place, drive in enumerate(drives):
            if groups and full and drive == drives[place - 1] + 1:
                first, count = groups.pop()
                groups.append((first, count + 1))
            else:
                groups.append((place, 1))
        return groups

    def _side_by_side(self, product: Product) -> list[tuple[int, int]]:
        """The same of the gates of a product, where units fill one vector: their states are then
        single numbers in order, which the errors of several gates are multiplied by."""
        wires = product.wires
        in_order = all(after == wire + 1 for wire, after in itertools.pairwise(wires))
        if self.plan.hidden != self.plan.lanes or product.pattern or not in_order:
            return [(place, 1) for place in range(len(wires))]
        return self._together(product.gates)

    def _unpack_turned(self, sums: Value, target: Value, number: int, count: int) -> None:
        """The gradient of one of the matrices whose sums stand side by side, turned."""
        code, lanes = self.code, self.plan.lanes
        rows = [
            code.load(code.at(sums, code.i64((k * count + number) * lanes))) for k in range(lanes)
        ]
        for unit, row in enumerate(code.turned(rows)):
            code.store(row, code.at(target, code.i64((number * lanes + unit) * lanes)))

    def _sparse_products(self, product: Product, rows: Value) -> None:
        code, arg = self.code, self.arg
        slots = arg["heads_forward"], arg["columns_forward"]
        source = self.reading.index((product.source, product.new))
        states = self.work("at_read", code.times(self.drive_panels, source))
        for gate, wire in zip(product.gates, product.wires, strict=True):
            errors = self.work("at_errors", code.times(self.drive_panels, self.apart + gate))
            with code.loop(code.i64(0), self.vectors) as v:
                panels = code.at(errors, code.times(v, self.panel)), states, self.panel
                vector = code.plus(code.times(self.vectors, wire), v)
                add_products(code, slots, vector, self.work("at_sums"), panels, rows, arg["H"])

    def _wire_sums(self) -> Value:
        size = self.code.times(self.vectors, self.plan.lanes)
        return self.code.times(size, size)

    def _unpack(self) -> None:
        """The sums as gradients."""
        code, arg = self.code, self.arg
        if self.plan.sparse:
            with code.b.if_then(self.is_set("want_recurrent")):
                self._copy(self.work("at_sums"), arg["d_recurrent"], arg["slot_numbers"])
        square = code.times(arg["H"], arg["H"])
        with code.b.if_then(self.is_set("want_recurrent")):
            for product in () if self.plan.sparse else self.products:
                for place, count in self._side_by_side(product):
                    wire = product.wires[place]
                    sums = self.work("at_sums", code.times(self._wire_sums(), wire))
                    target = code.at(arg["d_recurrent"], code.times(square, wire))
                    if count == 1:
                        self.call("unpack", sums, target, arg["H"])
                    for number in range(count if count > 1 else 0):
                        self._unpack_turned(sums, target, number, count)
        if not self.has_input:
            return
        wide = code.times(self.vectors, self.plan.lanes)
        with code.b.if_then(self.is_set("want_input")):
            for gate, slot in enumerate(self.slots):
                first = code.times(arg["H"], gate)
                at = code.times(wide, self.slots_in_order.index(slot))
                self.call(
                    "unpack_input", self.work("at_input_sums", at),
                    code.times(wide, len(self.slots)),
                    code.at(arg["d_input"], code.times(first, arg["C"])),
                    code.at(arg["d_bias"], first), arg["H"], arg["C"],
                )  # fmt: skip

    # The step

    def _later(self, states: Sequence[int]) -> list[Source]:
        """The sources, held by states of these places, that products of later steps read."""
        origins = self.lowered.origins
        return [pair for pair in self.sources if not pair[0] and origins[pair[1]][0] in states]

    def _within(self, states: Sequence[int]) -> list[Source]:
        """Those whose new values later stages of the step read."""
        origins = self.lowered.origins
        return [pair for pair in self.sources if pair[0] and origins[pair[1]][0] in states]

    def _sent(
        self, block: Value, rows: list[Row], sources: Sequence[Source], kind: int = BY_ROW
    ) -> list[list[list[Value]]]:
        """For each of some sources, what W^T brings to it, by row and vector.

        Where units rest, of those alone that took the step: ``kind`` is BY_ANY for a tile.
        """
        code, arg, totals = self.code, self.arg, []
        for new, source in sources:
            terms, delay = [], 0 if new else self.lowered.origins[source][1] + 1
            for product in self.lowered.propagating:
                if (product.new, product.source) != (new, source):
                    continue
                merged = self._lie_in_a_row(product)
                for gate, wire in zip(product.gates, product.wires, strict=True):
                    if merged and gate > product.gates[0]:
                        break
                    errors = [
                        code.at(
                            arg["errors"], self.errors_at[delay],
                            code.times(row.place, self.dense), code.times(arg["H"], gate),
                        )
                        for row in rows
                    ]  # fmt: skip
                    term = self.recurrent_term(product, wire, self.wires, block, errors)
                    if merged:
                        term = term._replace(count=code.times(arg["H"], len(product.gates)))
                    if self.rests:
                        word = self.word(kind, rows[0], self.words_at[delay])
                        term = term._replace(word=word)
                    terms.append(term)
            given = terms, block, len(rows), rows[0].slot
            totals.append(self.sums(lambda r, v: code.zero(), *given))
        return totals

    def _lie_in_a_row(self, product: Product) -> bool:
        """Whether the errors and matrices of its gates follow on each other, so that they are one
        product of many numbers."""
        places = [self.wires.index(wire) for wire in product.wires]
        plain = product.pattern is None and not self.rests and not self.plan.sparse
        return plain and all(
            list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
            for numbers in (product.gates, places)
        )

    def _output_error(self, row: Row, units: Units) -> Value:
        code = self.code
        at = code.times(row.number, self.arg["output_n"])
        # Steps of one sequence often lie apart from those of the next: too many places for the
        # processor to guess the next ones.
        ahead = code.b.sub(self.output_t, code.times(self.arg["output_t"], AHEAD))
        if self.plan.dilated:
            ahead = code.times(self.step_after, self.arg["output_t"])
        if units.opens_line or not self.rests:
            code.prefetch(code.at(self.arg["d_output"], ahead, at, units.start))
        return self.load("d_output", units, self.output_t, at)

    def _arrived(
        self, row: Row, units: Units, sent: Sent, states: Sequence[int], end: bool = False
    ) -> dict[int, Value]:
        """The errors of states: what W^T brought, what comes pointwise, and from the output.

        In this order, in which a piece adds them up too whose final states have the first two.
        """
        b, errors = self.code.b, {}
        for k in states:
            value = self._from_products(k, row, units, sent)
            if self.carried[k]:
                value = b.fadd(value, self.load(f"delta_{k}", units, self.arriving, row.place))
            if k == self.output and not end:
                value = b.fadd(value, self._output_error(row, units))
            errors[k] = value
        return errors

    def _add_within(self, row: Row, units: Units, sent: Sent, errors: dict[int, Value]) -> None:
        """To the errors of states what products of later stages of the step bring."""
        for new, source in self._within(list(errors)):
            place, part = self.lowered.origins[source][0], sent[new, source]
            if self.plan.mask:
                part = self.code.b.fmul(part, self.load("mask", units, row.place))
            errors[place] = self.code.b.fadd(errors[place], part)

    def _from_products(self, k: int, row: Row, units: Units, sent: Sent) -> Value:
        """The error that products of later steps, here or in a later piece, bring to a state."""
        code, value = self.code, None
        if self.lowered.depths[k]:
            at = code.times(self.next, self.arg["further_t"])
            value = self.load(f"further_{k}", units, at, row.place)
        # Held longest first: of equal origin, by how far back.
        origins = {self.lowered.origins[pair[1]]: pair for pair in self._later([k])}
        for back in sorted((back for _, back in origins), reverse=True):
            part = sent[origins[k, back]]
            if self.plan.mask:
                part = code.b.fmul(part, self.load("mask", units, row.place))
            t = self.next
            if back:  # there is no error beyond the ends, so any flag will do
                t = code.smaller(code.plus(self.t, back + 1), code.plus(self.arg["T"], -1))
                t = code.b.select(code.b.icmp_signed("<", t, code.i64(0)), code.i64(0), t)
            part = self.select(self.unreset(t, row, back + 1), part)
            value = part if value is None else code.b.fadd(value, part)
        return code.zero() if value is None else value

    def past_errors(self) -> None:
        """After all steps: the error of the past before the first step, for delays."""
        code, arg, depths = self.code, self.arg, self.lowered.depths
        if not any(depths):
            return
        sources = self._later(self.states)
        with code.loop(code.i64(-2), code.i64(-2 - max(depths)), -1) as t:
            self.begin(t)
            if self.rests:
                self._no_words(self.words_at[1])
            # The step after this one was none: its place in the ring has an older one's errors. Of
            # the rows of other threads it may have errors that are still to be read.
            with (
                self.tiles(arg["N"]) as row,
                code.loop(code.i64(0), code.i64(self.plan.rows)) as r,
                code.loop(code.i64(0), code.times(arg["H"], self.dense)) as index,
            ):
                place = code.times(row(r).place, self.dense)
                after = code.at(arg["errors"], self.errors_at[1], place)
                code.b.store(constant(code.scalar, 0.0), code.at(after, index))
            with (
                self.unit_blocks() as (block, vectors),
                self.tiles(arg["N"]) as row,
                code.loop(code.i64(0), code.i64(self.plan.rows)) as r,
            ):
                here = row(r)
                values = self._sent(block, [here], sources)
                for v, units in enumerate(vectors):
                    sent = {pair: value[0][v] for pair, value in zip(sources, values, strict=True)}
                    self._store_past(here, units, sent)

    def _store_past(self, row: Row, units: Units, sent: Sent) -> None:
        code = self.code
        steps = code.b.sub(code.i64(0), self.next)  # before the state of before the first step
        for k in self.states:
            depth = self.lowered.depths[k]
            if not depth:
                continue
            with code.b.if_then(code.b.icmp_signed("<=", steps, code.i64(depth))):
                value = self._from_products(k, row, units, sent)
                at = code.times(code.plus(steps, -1), self.arg["state_t"])
                self.store(value, f"past_{k}", units, at, row.place)

    def tile(
        self, stage: Stage, block: Value, vectors: list[Units], row: Callable[[Value], Row]
    ) -> None:
        """One tile of a stage of a step that is not the rows' last."""
        code, sources = self.code, [*self._later(stage.states), *self._within(stage.states)]
        rows = [row(code.i64(r)) for r in range(self.plan.rows)]
        values, cost = self._sent(block, rows, sources, BY_ANY), cost_of(stage.backward)

        def arrived(parts: Sequence[Part], totals: list[list[Value]]) -> list[dict[int, Value]]:
            found = []
            for n, (here, units) in enumerate(parts):
                sent = {pair: total[n] for pair, total in zip(sources, totals, strict=True)}
                errors = self._arrived(here, units, sent, stage.states)
                self._add_within(here, units, sent, errors)
                found.append(errors)
            return found

        def body(
            parts: Sequence[Part], totals: list[list[Value]], every: Value | None = None
        ) -> None:
            self._adjoint(stage, parts, arrived(parts, totals), every)

        if not self.rests:
            self.finish_tile(row, vectors, values, cost, body)
            return

        def rest(parts: Sequence[Part], totals: list[list[Value]]) -> None:
            for (here, units), errors in zip(parts, arrived(parts, totals), strict=True):
                self._rest(stage, here, units, errors)

        bits = self.of_block(block)
        some, every = (self.word(kind, rows[0], self.words_at[0]) for kind in (BY_ANY, BY_ALL))
        with code.b.if_else(self.has(some, bits)) as (taken, resting):
            with taken:
                known = functools.partial(body, every=self.has(every, bits, every=True))
                self.finish_tile(row, vectors, values, cost, known)
            with resting:
                self.finish_tile(row, vectors, values, cost_of(Program((), (), ())), rest)
                self._no_errors(stage, rows, vectors)

    def last(self, block: Value, vectors: list[Units], row: Callable[[Value], Row]) -> None:
        """One tile of what comes after all steps: the error of the states before the first.

        It is done once a call, so row by row, which is little to compile.
        """
        code, sources = self.code, self._later(self.states)
        with code.loop(code.i64(0), code.i64(self.plan.rows)) as r:
            here = row(r)
            values = self._sent(block, [here], sources)
            for v, units in enumerate(vectors):
                sent = {pair: value[0][v] for pair, value in zip(sources, values, strict=True)}
                errors = self._arrived(here, units, sent, self.states, end=True)
                for k, value in errors.items():
                    self._leave(k, here, units, value)

    def _arrives(self, k: int, row: Row, units: Units) -> Value:
        """The error of the state of a row after its last step."""
        if self.plan.dilated:
            at = self.code.times(self.phase, self.arg["final_t"])
            return self.load(f"final_{k}", units, at, row.place)
        return self.load(f"delta_{k}", units, self.arriving, row.place)

    def _leave(self, k: int, row: Row, units: Units, error: Value) -> None:
        """Keep the error of a state before the first step."""
        if self.plan.dilated:
            at = self.code.times(self.phase, self.arg["state_t"])
            self.store(error, f"initial_{k}", units, at, row.place)
            return
        self.store(error, f"delta_{k}", units, self.leaving, row.place)

    def first(
        self, stage: Stage, block: Value, vectors: list[Units], row: Callable[[Value], Row]
    ) -> None:
        """One tile of a stage of a step that is the last of its rows, or of the call."""
        code, sources = self.code, self._within(stage.states)
        with code.loop(code.i64(0), code.i64(self.plan.rows)) as r:
            here = row(r)
            values = self._sent(block, [here], sources)
            for v, units in enumerate(vectors):
                errors = {k: self._arrives(k, here, units) for k in stage.states}
                if self.output in errors:
                    error = self._output_error(here, units)
                    errors[self.output] = code.b.fadd(errors[self.output], error)
                sent = {pair: value[0][v] for pair, value in zip(sources, values, strict=True)}
                self._add_within(here, units, sent, errors)
                self._adjoint(stage, [(here, units)], [errors])

    def _keep(self, stage: Stage, row: Row, units: Units, errors: dict[int, Value]) -> None:
        """Keep what earlier stages read of the errors, and add what later ones have kept."""
        code, arg = self.code, self.arg
        first = len(stage.backward.inputs) - len(self.states)
        for number, k in enumerate(self.kept):
            rows = code.times(arg["N"], number)
            at = self.work("at_kept", code.times(rows, arg["H"]), row.place, units.start)
            if k in stage.kept:
                code.store(errors[k], at)
            elif k not in errors and first + k in stage.backward.reads:
                errors[k] = code.load(at)

    def _rest(self, stage: Stage, row: Row, units: Units, errors: Mapping[int, Value]) -> None:
        """What a stage does for one row and a vector of units that all rest."""
        before, after = self._states(stage, row, units)
        self._collect_states(stage, row, units, before, after)
        for k in stage.states:
            self.store(errors[k], f"delta_{k}", units, self.leaving, row.place)

    def _no_errors(self, stage: Stage, rows: Sequence[Row], vectors: Sequence[Units]) -> None:
        """Zeros for the errors of units that all rest, where they are read whatever the row is;
        else they are left out by the words."""
        read = nullcontext() if self.plan.sparse else self.code.b.if_then(self.is_set("want_x"))
        drives = [number for number in stage.errors if number < len(self.drives)]
        with read:
            for row in rows:
                for units in vectors:
                    self._store_errors(row, units, dict.fromkeys(drives, self.code.zero()))

    def _states(self, stage: Stage, row: Row, units: Units) -> tuple[list[Value], list[Value]]:
        """The states before the step, and after it."""
        code, ahead = self.code, self.code.b.sub(self.old, self.arg["state_t"])
        if self.plan.dilated:
            back = code.b.sub(self.step_after, self.arg["dilation"])
            ahead = code.times(back, self.arg["state_t"])
        for k in stage.states if units.opens_line or not self.rests else ():
            code.prefetch(code.at(self.arg[f"state_{k}"], ahead, row.place, units.start))
        if not self.plan.dilated and units.opens_line:
            # Those of a long sequence are further away than the second cache.
            past = code.times(code.plus(self.t, -1), self.arg["residuals_t"])
            place = code.times(row.place, len(self.residuals.values))
            for number in range(len(self.residuals.values)):
                offset = code.times(self.arg["H"], number)
                at = code.at(self.arg["residuals"], past, place, offset, units.start)
                code.prefetch(at, level=2)
        before = [self.held(k, row, units) for k in self.states]
        after = [self.load(f"state_{k}", units, self.new, row.place) for k in self.states]
        return before, after

    def _collect_states(
        self, stage: Stage, row: Row, units: Units, held: list[Value], after: list[Value]
    ) -> None:
        """The states of a stage as W reads them, for dW."""
        for number, (state, new) in enumerate(self.reading):
            place = self.lowered.origins[state][0]
            if place not in stage.states:
                continue
            value = after[place] if new else self._read_by_products(state, row, units, held)
            if self.plan.mask:
                value = self.code.b.fmul(value, self.load("mask", units, row.place))
            self.code.store(value, self._panel("at_read", number, row, units))

    def _adjoint(
        self,
        stage: Stage,
        parts: Sequence[Part],
        errors: Sequence[dict[int, Value]],
        every: Value | None = None,
    ) -> None:
        """The pointwise adjoint of a stage, of some parts of a tile, from their errors.

        ``every`` is whether all units take the step, where that is known.
        """
        code = self.code
        known: list[tuple[list[Value], list[Value], list[Value]]] = []
        inputs = []
        for (row, units), arrived in zip(parts, errors, strict=True):
            at = code.times(self.t, self.arg["residuals_t"])
            place = code.times(row.place, len(self.residuals.values))
            values = [
                self.load("residuals", units, at, place, code.times(self.arg["H"], number))
                for number in range(len(self.residuals.values))
            ]
            before, after = self._states(stage, row, units)
            unreset = self.unreset(self.t, row)
            held = [self.select(unreset, state) for state in before]
            parameters, clock = self.unit_parameters(units), self.clock(self.t, row)
            self._keep(stage, row, units, arrived)
            delta = [arrived.get(k) for k in self.states]
            inputs.append([*values, *held, *parameters, *clock, *after, *delta])
            known.append((held, after, parameters))
        found = self.values(stage.backward, inputs)
        for part, by_number, arrived, (held, after, parameters) in zip(
            parts, found, errors, known, strict=True
        ):
            outputs = (by_number[n] for n in stage.backward.outputs)
            results = dict(zip(stage.errors, outputs, strict=True))
            taking = self.taking(part[0], parameters, every)
            drives, states = len(self.drives), len(self.states)
            results = {
                n: value if drives <= n < drives + states else self.select(taking, value)
                for n, value in results.items()
            }
            self._store_errors(*part, {n: v for n, v in results.items() if n < drives})
            self._collect_states(stage, *part, held, after)
            self._store_deltas(stage, *part, results, arrived, taking)
            by_unit = {n - drives - states: v for n, v in results.items() if n >= drives + states}
            if self.recurrence.units and by_unit:
                with code.b.if_then(self.is_set("want_units")):
                    self._add_units(*part, by_unit)

    def _store_deltas(
        self,
        stage: Stage,
        row: Row,
        units: Units,
        results: Mapping[int, Value],
        errors: Mapping[int, Value],
        taking: Value | None,
    ) -> None:
        """Store the errors of the states before the step that come pointwise."""
        unreset, drives = self.unreset(self.t, row), len(self.drives)
        for k in self.states:
            value, at = results.get(drives + k), (units, self.leaving, row.place)
            if value is not None:
                value = self.select(unreset, value)
            if taking is not None and (value is not None or k in stage.states):
                # Of several stages another may find the error of a unit that takes the step.
                value = self.load(f"delta_{k}", *at) if value is None else value
                rests = errors[k] if k in stage.states else self.load(f"delta_{k}", *at)
                value = self.select(taking, value, rests)
            if value is not None and self.carried[k]:
                self.store(value, f"delta_{k}", *at)

    def _read_by_products(self, state: int, row: Row, units: Units, held: list[Value]) -> Value:
        """A state as W read it, before dropout."""
        place, back = self.lowered.origins[state]
        if not back:
            return held[place]
        value = self.held(place, row, units, back)
        self._prefetch_past(place, back, row, units)
        return self.select(self.unreset(self.t, row, back + 1), value)

    def _prefetch_past(self, place: int, back: int, row: Row, units: Units) -> None:
        """Ask for what the next step reads of a state, and of the errors, so far apart."""
        code = self.code
        ahead = code.at(self.arg[f"state_{place}"], self.past(back + 1), row.place)
        code.prefetch(code.at(ahead, units.start))
        errors = code.at(self.arg["errors"], self.errors_at[back], units.start)
        for gate in range(self.dense):
            offset = code.times(self.arg["H"], gate)
            code.prefetch(code.at(errors, code.times(row.place, self.dense), offset))

    def _add_units(self, row: Row, units: Units, values: Mapping[int, Value]) -> None:
        """To the sums of the unit parameters what one row and vector of units brings."""
        code, done = self.code, self._done(row, units)
        for u, value in values.items():
            offset = code.times(self.arg["H"], u)
            total = self.load("d_units", units, offset)
            value = code.b.select(done, code.zero(), value)
            self.store(code.b.fadd(total, value), "d_units", units, offset)

    def _store_errors(self, row: Row, units: Units, errors: Mapping[int, Value]) -> None:
        """Errors of drives, by number: for the step before, for the products, or as dx itself."""
        for number, error in errors.items():
            if number >= self.apart:
                self._store_dense(row, units, number - self.apart, error)
        self._give_errors(row, units, errors)

    def _store_dense(self, row: Row, units: Units, dense: int, error: Value) -> None:
        """The error of a dense gate, for W^T."""
        place = self.code.times(row.place, self.dense)
        offset = self.code.times(self.arg["H"], dense)
        self.store(error, "errors", units, self.errors_at[0], place, offset)

    def _give_errors(self, row: Row, units: Units, errors: Mapping[int, Value]) -> None:
        """Errors of drives, by number: for the products, or as dx itself."""
        code, arg = self.code, self.arg
        for number, error in errors.items():
            code.store(error, self._panel("at_errors", number, row, units))
        slots = [(gate, slot) for gate, slot in enumerate(self.slots) if slot in errors]
        if self.has_input or not slots:
            return
        at, by_row = code.times(self.t, arg["d_x_t"]), code.times(row.number, arg["d_x_n"])
        with code.b.if_then(self.is_set("want_x")):
            for gate, slot in slots:
                offset = code.times(arg["H"], gate)
                self.store(errors[slot], "d_x", units, at, by_row, offset)

    def _done(self, row: Row, units: Units) -> Value:
        """Which lanes of this row and vector are there for the second time."""
        lanes = self.code.lane_numbers()
        passed = self.code.b.icmp_signed("<", lanes, self.code.splat(units.passed))
        if row.again is None:
            return passed
        return self.code.b.or_(passed, self.code.splat(row.again))
