"""What calls of one shape have in common: found once, so that a short call stays short."""

import ctypes
import functools
import gc
import itertools
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from longlag.recurrence import Pattern, Recurrence
from longlag.recurrence.lowered import lower
from longlag.scan.cpu import backward, forward, resting
from longlag.scan.cpu.kernel import WORD, Arguments, lowered_of
from longlag.scan.cpu.matrix import ROWS as AT_ONCE
from longlag.scan.cpu.matrix import Matrix, matrix, packing, send
from longlag.scan.cpu.plan import Form, Plan, choose, lanes_of
from longlag.scan.cpu.target import compile_functions, host
from longlag.scan.cpu.team import offer

SMALL = 1 << 23
"""Multiply-adds of a whole call below which a second thread costs more than it brings: handing work
to one takes a tenth of a millisecond."""

COLLECTED = 1 << 15
"""Numbers of errors, states and inputs that are collected for a matrix product: they should stay
in a near cache, beside what a step reads."""

LEAST_ROWS = AT_ONCE
"""Rows that are collected at least: for each product the sums are read and written once."""

MEETING = 1 << 14
"""Multiply-adds of a step, of each thread, from which threads share the units of few rows: a
meeting takes some tenths of a microsecond."""

ROWS = 32
"""Rows that steps of a dilated recurrence should have."""

PHASES = 1 << 16
"""Bytes of errors of some phases of a dilated recurrence that stay in the second cache."""

STRETCH = 1 << 14
"""Numbers of drives that are at hand at once where U x + b is a product apart."""


Facts = tuple[torch.Size, torch.dtype, bool]
"""Of a tensor its shape, its dtype, and whether it is on the CPU."""


class Key(NamedTuple):
    """What a shape depends on, beside the recurrence; of tensors their facts, with time first.

    Attributes:
        x, input, bias, recurrent, units, initial: of the call; None where there is none.
        sparse: of a sparse W, how many entries it has, how many numbers its slots have, and the
            form for few rows; None of a dense one.
        active, keep, mask, clock: of the schedule.
        threads: how many there may be.
        fed: how many of the last features of x are computed by the kernel.
        dilation: how many steps before the states are read.
        fold: how many steps are rows of one.
        rests: whether units rest, by the clocks that the cell declares.
        whole: steps of the sequences of which these are a piece.
        networks: see :class:`~longlag.scan.cpu.plan.Plan`.
        bfloat16: whether W is rounded to that type.
        placed: whether a table says where the rows of x lie.
        small, meeting, collected, least_rows, stretch: the constants of this module.
    """

    x: Facts
    input: Facts | None
    bias: Facts | None
    recurrent: Facts | None
    sparse: tuple[int, int, Form] | None
    units: tuple[Facts, ...]
    initial: tuple[Facts, ...] | None
    active: Facts | None
    keep: Facts | None
    mask: Facts | None
    clock: Facts | None
    threads: int
    fed: int
    dilation: int
    fold: int
    rests: bool
    whole: int
    networks: int
    bfloat16: bool
    placed: bool
    small: int
    meeting: int
    collected: int
    least_rows: int
    stretch: int


@functools.lru_cache(maxsize=1024)
def shape_of(recurrence: Recurrence, key: Key) -> "Shape":
    """The shape of a call, made at its first use.

    Raises:
        ValueError: a kernel would read memory as what it is not.
    """
    return Shape(recurrence, key)


@functools.lru_cache(maxsize=4096)  # the machine code stays in any case
def _kernel(recurrence: Recurrence, plan: Plan, kind: str) -> Callable[..., None]:
    with _no_collection():
        if kind == "backward":
            emit = resting.emit if plan.gathers else backward.emit
            name, text = backward.NAME, emit(recurrence, plan)
        else:
            name, recompute = forward.NAME, kind == "recompute"
            text = forward.emit(recurrence, plan, store=kind != "forward", recompute=recompute)
    return compile_functions(text, {name: [ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64]})[name]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's collector does not run meanwhile.

    Emitting makes some 50,000 small objects, none of them garbage yet, and the collector would look
    through all that the process has, three times as long as the emitting takes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Work:
    """The layout of a thread's work space: parts, one after the other, each where a cache line
    may begin.

    Attributes:
        size: numbers in all.
        at: by name, where each part begins.
    """

    def __init__(self) -> None:
        self.size = 0
        self.at: dict[str, int] = {}

    def add(self, name: str, numbers: int) -> None:
        """One more part."""
        self.at[name] = self.size
        self.size += -(-numbers // 16) * 16


class FixedArguments:
    """What a kernel is given that does not change from call to call, as it wants it.

    Attributes:
        size: numbers of the work spaces of all threads.
        places: which parameters are the addresses of the pointers.
    """

    def __init__(
        self,
        names: Arguments,
        replicas: int,
        tables: Mapping[str, Tensor],
        constants: Mapping[str, int],
        size: int,
    ) -> None:
        self.size = size
        self._tables = [tables[name] for name in names.tables]  # the kernel has their addresses
        first = 1 + len(names.tables)
        self.places = tuple(range(first, first + 2 * len(names.pointers), 2))
        head = [replicas, *(table.data_ptr() for table in self._tables)]
        tail = [constants[name] for name in names.constants]
        self._head, self._tail = (struct.pack(f"={len(part)}q", *part) for part in (head, tail))
        self._pack = struct.Struct(f"={2 * len(names.pointers) + len(names.numbers)}q").pack

    def parameters(self, arguments: Sequence[int]) -> bytes:
        """All parameters.

        Args:
            arguments: address and stride of every pointer, then the numbers, in the kernel's order.
        """
        return self._head + self._pack(*arguments) + self._tail


def _check_x(recurrence: Recurrence, key: Key) -> None:
    """Raise a ValueError for an x, or numbers of rows, that the kernels cannot take."""
    (*front, width), dtype, on_cpu = key.x
    if len(front) not in (2, 3) or not on_cpu or dtype not in (torch.float32, torch.float64):
        came = f"{tuple(key.x[0])} of {dtype}{'' if on_cpu else ' elsewhere'}"
        raise ValueError(
            f"x: got {came}, expected (T, N, C) or (T, R, N, C) of float32 or float64 on the CPU"
        )
    rows, gates = width if key.input is None else key.input[0][-2], len(recurrence.gates)
    name = "x" if key.input is None else "input matrix"
    groups = math.lcm(*(len(pattern) for pattern in lower(recurrence).patterns))
    if rows % gates or rows // gates % groups:
        raise ValueError(
            f"{name}: got {rows} numbers for the gates, expected a multiple of {gates * groups}: "
            f"{gates} gates of equal size"
        )
    if key.input is not None and (key.input[1], key.input[0][-1]) != (dtype, width):
        raise ValueError(
            f"x: got {width} features of {dtype}, but the input matrix: got {tuple(key.input[0])} "
            f"of {key.input[1]}; they have to fit"
        )


@functools.lru_cache(maxsize=1024)
def folded(dilation: int, rows: int) -> int:
    """How many steps of a dilated recurrence are rows of one, where a step has few.

    None of them reads another. As many rows are a batch, whose products take a fraction of the
    time.
    """
    sizes = [size for size in range(1, dilation + 1) if dilation % size == 0]
    return min(sizes, key=lambda size: abs(math.log(size * max(1, rows) / ROWS)))


class Shape:
    """Sizes, plan, kernels and work spaces of calls of one shape.

    Attributes:
        hidden, gates, stored: H, how many gates there are, and how many numbers of each unit and
            step are stored for the backward pass.
        delayed: whether a state is read from further back than a step.
        parts: how many threads share a kernel, by rows.
        team: how many share the forward kernel by units, instead; 1 for none.
        single_parts: how many threads share the rows of a network.
        steps, batch: T and N; where steps are folded into rows, of what is then a step, and a row.
        dilated, dilation, fold: whether states are read from several steps back, of how many such
            steps, and how many of x are one.
        expected: by name, the shapes of weights and states.
        by_blocks: whether no block of units is of several groups of a pattern, so that kernels read
            and sum up what is in W alone.
        state: the shape of a state of a step of x.
        size: numbers of all states of a step.
        stored_state, stored_bytes: the shape of the residuals of a step, and their bytes.
        by_replica: bytes from a replica's states to the next one's.
        forward, backward: what each pass needs.
    """

    def __init__(self, recurrence: Recurrence, key: Key) -> None:
        self.recurrence = recurrence
        _check_x(recurrence, key)
        (*front, width), self.dtype, _ = key.x
        self.replicated = len(front) == 3
        self.dilated, self.fold = key.dilation > 1, key.fold
        self.dilation = key.dilation // key.fold
        self.steps, self.batch, self.width = -(-front[0] // key.fold), front[-1] * key.fold, width
        self.whole = self.steps if self.dilated else key.whole
        self.replicas = front[1] if self.replicated else 1
        self.rows = width if key.input is None else key.input[0][-2]
        self.gates, self.wires = len(recurrence.gates), len(recurrence.wires)
        self.hidden = hidden = self.rows // self.gates
        self.lowered = lowered = lowered_of(recurrence, key.rests)
        self.periods = recurrence.periods if key.rests else ()
        self.delayed, self.by_blocks = any(lowered.depths), not recurrence.patterned
        self.stored, self.patterns = len(lowered.residuals.values), lowered.patterns
        self.item = self.dtype.itemsize
        batch = self.batch
        self.size = self.replicas * batch * hidden
        self.stored_bytes = self.stored * self.size * self.item
        self.by_replica = batch * hidden * self.item if self.replicated else 0
        self.state = (*front[1:], hidden)
        if self.dilated:  # of those that end before others, whole steps
            length = front[0] if key.active is None else self.steps * self.fold
            self.paths = [(length, *self.state)] * len(lowered.depths)
        else:
            self.paths = [(depth + self.steps + 1, *self.state) for depth in lowered.depths]
        self.stored_state = (*front[1:], self.stored * hidden)
        before, self.sparse = front[1:-1], key.sparse
        matrix = (self.wires * hidden, hidden) if key.sparse is None else key.sparse[:1]
        # What the backward kernel gives: of a sparse W the sums of its slots.
        self.d_recurrent = (*before, *(matrix if key.sparse is None else key.sparse[1:2]))
        self.expected = {
            "input matrix": (*before, self.rows, width),
            "bias": (*before, self.rows),
            "recurrent matrix": (*before, *matrix),
            "unit": (*before, 1, hidden),
            "state": (*([key.dilation] if self.dilated else []), *self.state),
            "flags": (*front, 1),
        }
        self._check(key)
        self.fed = key.fed
        self.has_input, self.networks = key.input is not None, key.networks
        self.bfloat16 = key.bfloat16
        self.collected = key.collected // key.networks, key.least_rows
        self.stretch = key.stretch // key.networks
        self.empty = self.steps == 0 or self.size == 0
        if self.empty:
            return
        reads = math.prod(self.d_recurrent[len(before) :]) // hidden  # of a unit
        work = self.whole * self.size * (reads + 16)
        threads = 1 if work < key.small else key.threads
        plans = functools.partial(
            choose,
            host(),
            batch,
            hidden,
            double=self.dtype == torch.float64,
            products=self.wires,
            has_input=self.has_input,
            ordered=key.active is not None,
            keep=key.keep is not None,
            mask=key.mask is not None,
            sparse=None if key.sparse is None else key.sparse[2],
            dilated=self.dilated,
            ragged=self.fold > 1,
            periods=self.periods,
            networks=key.networks,
            bfloat16=key.bfloat16,
            placed=key.placed,
        )
        turns, by_rows = not lowered.inner, max(1, threads // self.replicas)
        drives = max(len(stage.drives) for stage in lowered.stages)
        together = max([self.gates, *(len(product.gates) for product in lowered.products)])
        forward = functools.partial(plans, turns=turns, kept=drives - 1)
        plan = forward(by_rows, drives=drives, together=min(drives, together))
        self.plan_back = replace(plans(by_rows, turns=False), abreast=1)
        tiles = -(-batch // plan.rows)
        self.parts = min(threads, tiles if self.replicas == 1 else self.replicas)
        self.team, alone = 1, forward(1)
        if self.replicas == 1 and not self.periods and not (lowered.inner and key.mask):
            blocks = alone.blocks(hidden) - (alone.sparse is not None)  # the last two are one
            team = min(threads, blocks, work // self.whole // key.meeting)
            if team > self.parts:
                self.team, plan = team, replace(alone, team=True)
        if key.fed:  # U x cannot be there before the step
            plan = replace(plan, input="folded", fed=True)
        alone = plan.fused or len(lowered.drives) == 1
        self.plan = replace(plan, remembers=alone and self._grouped(plan))
        back = self.plan_back
        self.plan_back = replace(back, gathers=self._grouped_back(back))
        sizes = {hidden // len(pattern) for pattern in self.patterns}
        self.by_blocks = all(size % plan.units == 0 for size in sizes)
        self.vectors = -(-hidden // plan.lanes)
        self.sending, self.slots = lowered.propagating_wires, lowered.drive_of_gate
        self.single_parts = self.parts if self.replicas == 1 else 1
        self.tables = self._tables()
        self.forward = self._forward(self.plan)
        self.backward = self._backward(self.plan_back)
        self._kernels: dict[str, Callable[..., None]] = {}

    def _check(self, key: Key) -> None:
        """Raise a ValueError where a kernel would read memory as what it is not."""
        recurrence, expected = self.recurrence, self.expected
        for name, tensors, count in (
            ("unit parameters", key.units, len(recurrence.units)),
            ("initial states", key.initial, len(recurrence.states)),
        ):
            if tensors is not None and len(tensors) != count:
                raise ValueError(f"{name}: got {len(tensors)}, expected {count}")
        if key.bfloat16 and (self.dtype is not torch.float32 or key.sparse or key.networks > 1):
            raise ValueError(
                f"recurrent matrix: got {key.recurrent} to be rounded to bfloat16, expected "
                "a dense one of float32"
            )
        wanted: list[tuple[str, Facts | None, tuple[int, ...]]] = []
        if key.input is not None:
            wanted.append(("input matrix", key.input, expected["input matrix"]))
        if key.bias is not None:
            wanted.append(("bias", key.bias, expected["bias"]))
        if self.wires:
            wanted.append(("recurrent matrix", key.recurrent, expected["recurrent matrix"]))
        states = zip(recurrence.states, key.initial or (), strict=False)
        wanted += [(f"state {name}", facts, expected["state"]) for name, facts in states]
        units = zip(recurrence.units, key.units, strict=False)
        wanted += [(name, facts, expected["unit"]) for name, facts in units]
        if key.mask is not None:
            wanted.append(("mask", key.mask, self.state))
        if recurrence.timed:
            wanted.append(("clock", key.clock, expected["flags"]))
        checked = [(*row, self.dtype) for row in wanted]
        for name, facts in (("lengths", key.active), ("resets", key.keep)):
            if facts is not None:
                checked.append((name, facts, expected["flags"], torch.bool))
        for name, facts, shape, dtype in checked:
            if facts != (shape, dtype, True):
                came = None
                if facts is not None:
                    came = f"{tuple(facts[0])} of {facts[1]}{'' if facts[2] else ' elsewhere'}"
                raise ValueError(f"{name}: got {came}, expected {shape} of {dtype} on the CPU")

    def _grouped(self, plan: Plan) -> bool:
        """Whether groups of units rest, each block of units is of one of them, all read one state,
        of the step before, and no row of a tile is another's in a later step."""
        lowered, groups = self.lowered, len(self.periods)
        if not 0 < groups <= WORD or plan.ordered or plan.indirect or plan.sparse or plan.dilated:
            return False
        plain = len(lowered.stages) == len(lowered.products) == 1 and lowered.delays == (1,)
        patterns = [pattern for pattern in self.patterns if pattern is not None]
        sizes = self.hidden % groups == 0 and self.hidden // groups % plan.units == 0
        return plain and sizes and all(len(pattern) == groups for pattern in patterns)

    def _grouped_back(self, plan: Plan) -> bool:
        """Whether, beside, none reads groups before its own, and no row is done twice."""
        if not self._grouped(plan) or not self.patterns or not plan.even:
            return False
        (pattern,), lowered = self.patterns, self.lowered
        later = not any(any(row[:number]) for number, row in enumerate(pattern))
        return later and lowered.propagating == lowered.products

    def kernel(self, kind: str) -> Callable[..., None]:
        """The compiled kernel: "forward", "store" or "recompute" (see :func:`forward.emit`), or
        "backward"."""
        compiled = self._kernels.get(kind)
        if compiled is None:
            plan = self.plan_back if kind == "backward" else self.plan
            compiled = self._kernels[kind] = _kernel(self.recurrence, plan, kind)
        return compiled

    def _functions(self, plan: Plan, all_rows: bool = False) -> dict[str, int]:
        rests = bool(self.periods) and not all_rows
        facts = plan.double, plan.lanes, plan.vectors, host().registers, rests
        return matrix(Matrix(*facts, plan.networks))

    def _packing(self, plan: Plan) -> dict[str, int]:
        """The addresses of what packs W."""
        if not self.bfloat16:
            return self._functions(plan)
        facts = plan.double, plan.lanes, plan.vectors, host().registers
        return packing(Matrix(*facts, bfloat16=True, halves=plan.halves))

    def _add_words(self, work: _Work, name: str, words: int) -> None:
        """A part for words that tell which groups of units take a step, where any rest."""
        work.add(name, words * 8 // self.item if self.periods else 0)

    def _sizes(self, work: _Work) -> dict[str, int]:
        """The numbers that both kernels are given."""
        return {
            **work.at,
            "N": self.batch,
            "H": self.hidden,
            "C": self.width,
            "state_t": self.size,
            "keep_t": self.replicas * self.batch,
            "residuals_t": self.size * self.stored,
            "work_bytes": work.size * self.item,
            "keep_plane": self.steps * self.replicas * self.batch,
        }

    def _forward(self, plan: Plan) -> "FixedArguments":
        hidden, work = self.hidden, _Work()
        blocks = plan.blocks(hidden)
        work.add("at_recurrent", 0 if plan.sparse else blocks * plan.packed * hidden * self.wires)
        work.add("at_input", blocks * plan.units * self.width * self.gates if self.has_input else 0)
        stretch = 0
        if plan.input == "apart":
            stretch = min(self.steps, max(8, self.stretch // (self.batch * self.rows)))
        work.add("at_drive", stretch * self.batch * self.rows)
        sources = (*self.lowered.sources, *self.lowered.inner_sources)
        read = len(sources) if plan.indirect else 0
        shared_by = 1 if plan.team else self.single_parts
        tiles = math.ceil(math.ceil(self.batch / plan.rows) / shared_by)
        rows = tiles * plan.rows if plan.sparse == "turned" else self.batch
        work.add("at_read", read * rows * hidden * self.team)
        self._add_words(work, "at_words", 3 * self.batch)
        blocks = tiles * plan.blocks(hidden) if plan.remembers else 0
        self._add_words(work, "at_changed", blocks)
        groups = self.wires * len(self.periods)
        work.add("at_sums", blocks * groups * plan.rows * plan.units)
        numbers = {
            **self._sizes(work),
            "tiles": tiles,
            "dilation": self.dilation,
            "turned_tiles": tiles,
            "fed": self.fed,
            "stretch": max(1, stretch),
            "yield": offer() if plan.team else 0,
            "read_size": read * rows * hidden,
            **{name: self._functions(plan)[name] for name in ("pack", "drive")},
            "pack_recurrent": self._packing(plan)["pack"],
        }
        names, parts = forward.arguments(self.recurrence, plan), 1 if plan.team else self.parts
        return FixedArguments(names, self.replicas, self.tables, numbers, parts * work.size)

    def _backward(self, plan: Plan) -> "FixedArguments":
        hidden, work = self.hidden, _Work()
        lowered = self.lowered
        reading = len(lowered.sources) + len(lowered.inner_sources)
        drives, kept = len(lowered.drives), sum(len(stage.kept) for stage in lowered.stages)
        wide = self.vectors * plan.lanes
        inputs = self.width + 1 if self.has_input else 0
        # Rows that are collected: those of some steps, and at least of one.
        by_step = self._rows_of_step(plan)
        steps = self.collected[0] // ((drives + reading) * wide + inputs) // by_step
        steps = max(steps, -(-self.collected[1] // by_step))
        rows = by_step * min(steps, self.whole)
        work.add("at_count", 16)
        packed = 0 if plan.sparse else plan.blocks(hidden) * plan.packed * hidden
        work.add("at_recurrent", packed * len(self.sending))
        work.add("at_errors", drives * rows * wide)
        work.add("at_read", 0 if plan.gathers else reading * rows * wide)
        work.add("at_inputs", rows * inputs)
        work.add("at_where", rows * 8 // self.item if inputs else 0)
        self._add_words(work, "at_words", 3 * self.batch * (1 + lowered.delays[-1]))
        self._add_words(work, "at_marks", rows)
        work.add("at_kept", kept * self.batch * hidden)
        work.add("at_levels", int(self.tables["back_levels"][-1]) if plan.gathers else 0)
        sums = self.wires * wide * wide if self.sparse is None else self.sparse[1]
        work.add("at_sums", sums)
        work.add("at_input_sums", inputs * self.gates * wide)
        if plan.gathers:
            groups = len(self.periods)
            self._add_words(work, "at_filled", groups)
            work.add("at_flows", self.wires * by_step * (groups + 1) * hidden)
        functions = ("outer", "outer_input", "unpack", "unpack_input")
        dense = len(self.recurrence.dense_gates)
        numbers = {
            **self._sizes(work),
            "error_half": self.size * dense,
            "dilation": self.dilation,
            "phases": self.phases,
            "sums_size": work.size - work.at["at_sums"],
            "rows": rows,
            "entries": self.tables["panels"].numel() // 3,
            **{
                f"entries_{number}": self.tables[f"panels_{number}"].numel() // 3
                for number in range(len(self.patterns))
            },
            **{name: self._functions(plan)[name] for name in functions},
            "pack_back": self._packing(plan)["pack_back"],
            "outer_all": self._functions(plan, all_rows=True)["outer"] if plan.gathers else 0,
        }
        # Each thread has sums of its own; of replicas, each.
        apart = self.item if self.single_parts > 1 else 0
        square = len(self.recurrence.units) * self.replicas * hidden
        numbers |= {
            "unit_bytes": square * self.item,
            "input_bytes": self.rows * self.width * apart,
            "bias_bytes": self.rows * apart,
            "recurrent_bytes": math.prod(self.d_recurrent[self.replicated :]) * apart,
            "slot_numbers": 0 if self.sparse is None else self.sparse[1],
        }
        tables = {name.removeprefix("back_"): table for name, table in self.tables.items()
                  if not name.startswith(("ranges", "reads", "ticks_blocks"))}  # fmt: skip
        names = backward.arguments(self.recurrence, plan)
        return FixedArguments(names, self.replicas, tables, numbers, self.parts * work.size)

    @property
    def phases(self) -> int:
        """How many phases of a dilated recurrence the backward kernel takes at a time."""
        numbers = 2 * len(self.lowered.stored) + 2 * len(self.recurrence.dense_gates) + 1
        return max(1, min(self.dilation, PHASES // (self.size * self.item * numbers)))

    def send_input(self) -> int:
        """The address of what sends errors back to x."""
        double, networks = self.plan.double, self.networks
        wide = lanes_of(host(), max(1, self.width), double, networks)
        return send(double, self.plan.lanes, wide, networks)

    def _tables(self) -> dict[str, Tensor]:
        most = max(self.wires, self.gates)
        tables: dict[str, Sequence[int]] = {
            "list": range(most),
            "list_sending": self.sending,
            "list_slots": self.slots,
            "panels": self._all_panels(),
        }
        for number, pattern in enumerate(self.patterns):
            tables[f"ranges_{number}"] = self._ranges(pattern, self.plan, back=False)
            tables[f"back_ranges_{number}"] = self._ranges(pattern, self.plan_back, back=True)
            tables[f"panels_{number}"] = self._panels(pattern)
        if self.periods:
            tables[f"back_ranges_{len(self.patterns)}"] = self._ranges(
                ((1,),), self.plan_back, back=True
            )
            for name, plan in (("ticks_blocks", self.plan), ("back_ticks_blocks", self.plan_back)):
                tables[name] = [
                    self._bits(self._groups_of_block(block, self.periods, plan))
                    for block in range(plan.blocks(self.hidden))
                ]
            for name, back in (("reads_blocks", False), ("back_reads_blocks", True)):
                tables[name] = self._read_groups(self.plan_back if back else self.plan, back)
            tables["back_levels"], tables["back_panels_levels"] = self._levels()
            tables["ticks_vectors"] = [
                self._bits(self._groups(vector, self.periods)) for vector in range(self.vectors)
            ]
        return {
            name: torch.tensor(list(table), dtype=torch.int64, device="cpu")
            for name, table in tables.items()
        }

    def _groups(self, vector: int, groups: Sized) -> set[int]:
        """Which of equal groups of units a vector of units has a part of."""
        size, lanes = self.hidden // len(groups), self.plan.lanes
        start = min(vector * lanes, self.hidden - lanes)
        return {unit // size for unit in range(start, start + lanes)}

    def _groups_of_block(self, block: int, groups: Sized, plan: Plan) -> set[int]:
        first = block * plan.vectors
        vectors = range(first, first + plan.vectors)
        return set().union(*(self._groups(vector, groups) for vector in vectors))

    @staticmethod
    def _bits(groups: set[int]) -> int:
        """A word with the bits of some groups of units that rest."""
        return sum({1 << group % WORD for group in groups})

    def _by_group(self, low: int, high: int) -> list[int]:
        """The units low .. high - 1, by groups that rest: triples of first, end and bits."""
        size, triples = self.hidden // len(self.periods), []
        for group in range(low // size, -(-high // size)):
            first, end = max(low, group * size), min(high, (group + 1) * size)
            triples += [first, end, self._bits({group})]
        return triples

    def _ranges(self, pattern: Pattern, plan: Plan, back: bool) -> list[int]:
        """Which k a block of units reads, as the kernels want it: where its pairs begin, then the
        pairs. Backward, where units rest, triples."""
        size, groups = self.hidden // len(pattern), range(len(pattern))
        heads, pairs = [], []
        blocks = plan.blocks(self.hidden)
        for block in range(blocks):
            heads.append(blocks + 1 + len(pairs))
            mine = self._groups_of_block(block, pattern, plan)
            read = [
                any(pattern[other][unit] if back else pattern[unit][other] for unit in mine)
                for other in groups
            ]
            for low, high in runs(read):
                ends = low * size, high * size
                pairs += self._by_group(*ends) if back and self.periods else ends
        return [*heads, blocks + 1 + len(pairs), *pairs]

    def _read_groups(self, plan: Plan, back: bool) -> list[int]:
        """By block of units, the bits of the groups that rest whose units it reads."""
        words, groups = [], range(len(self.periods))
        pattern = self.patterns[0] if self.patterns else None
        for block in range(plan.blocks(self.hidden) if plan.remembers or plan.gathers else 0):
            (mine,) = self._groups_of_block(block, groups, plan)
            read = {
                other
                for other in groups
                if pattern is None or (pattern[other][mine] if back else pattern[mine][other])
            }
            words.append(self._bits(read))
        return words

    def _levels(self) -> tuple[list[int], list[int]]:
        """Of a backward kernel that gathers errors, by group that is read: where its panels of
        errors and of states begin, their rows, where its entries begin and how many there are; and
        the entries, as :meth:`_panels` has them."""
        levels, entries, size = [], [], 0
        if not self.plan_back.gathers:
            return levels, entries
        (pattern,), wide = self.patterns, self.vectors // len(self.periods)
        by_step = self._rows_of_step(self.plan_back)
        steps = max(1, 2 * self.collected[1] // by_step)
        for group, period in enumerate(self.periods):
            rows, errors = by_step * -(-steps // period), (group + 1) * wide
            first = len(entries) // 3
            for vector in range(errors):
                if pattern[vector // wide][group]:
                    entries += (vector, group * wide, (group + 1) * wide)
            after = size + self.wires * errors * rows * self.plan_back.lanes
            levels += (size, after, rows, first, len(entries) // 3 - first)
            size = after + wide * rows * self.plan_back.lanes
        return [*levels, size], entries

    def _rows_of_step(self, plan: Plan) -> int:
        """Rows that a thread has in a step."""
        return math.ceil(math.ceil(self.batch / plan.rows) / self.single_parts) * plan.rows

    def _all_panels(self) -> list[int]:
        """The same without a pattern. The states of a tile meet all errors before the next ones, so
        that they stay in the first cache."""
        plan = self.plan_back
        facts = plan.double, plan.lanes, plan.vectors, host().registers
        _, size = Matrix(*facts, networks=plan.networks).outer_tile
        return [
            number
            for first in range(0, self.vectors, size)
            for errors in range(self.vectors)
            for number in (errors, first, min(first + size, self.vectors))
        ]

    def _panels(self, pattern: Pattern) -> list[int]:
        """Which vectors of states meet each vector of errors in dW: triples."""
        panels = []
        for errors in range(self.vectors):
            mine = self._groups(errors, pattern)
            read = [
                any(pattern[row][column] for row in mine for column in self._groups(v, pattern))
                for v in range(self.vectors)
            ]
            for low, high in runs(read):
                panels += [errors, low, high]
        return panels


def runs(flags: Sequence[object]) -> list[tuple[int, int]]:
    """The stretches in which flags are true.

    >>> runs([1, 1, 0, 1])
    [(0, 2), (3, 4)]
    """
    padded = [False, *map(bool, flags), False]
    edges = [place for place, pair in enumerate(itertools.pairwise(padded)) if pair[0] != pair[1]]
    return list(zip(edges[::2], edges[1::2], strict=True))
