"""One call of the compiled kernels: where its tensors lie, its rows, the run on all threads.

A place is the address of the first replica's part of a tensor, and the bytes from one replica's to
the next. What a kernel is given is a flat list of such numbers, in the order of its arguments.
"""

import functools
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan.cpu import shape
from longlag.scan.cpu.plan import Plan, lanes_of
from longlag.scan.cpu.shape import Facts, Key, Shape, folded, shape_of
from longlag.scan.cpu.sparse import Slots, form_of, slots_of
from longlag.scan.cpu.target import host
from longlag.scan.cpu.team import Meetings
from longlag.scan.cpu.threads import POOL
from longlag.scan.inputs import FULL, Schedule, Weights
from longlag.scan.pieces import current
from longlag.scan.trajectory import held_since

Place = tuple[int, int]

NOWHERE: Place = (0, 0)


class _Rows(NamedTuple):
    """Which rows count, of a batch with lengths; R is 1 for a single network.

    Attributes:
        lengths: (R, N), of the sequences.
        order: (R, N), the rows by falling length.
        counts: (R, T + 1), how many count in each step.
    """

    lengths: Tensor
    order: Tensor
    counts: Tensor


def _facts(tensor: Tensor | None) -> Facts | None:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.is_cpu)


@functools.lru_cache(maxsize=64)
def _declared(periods: tuple[int, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    declared = torch.tensor(periods, dtype=dtype, device="cpu")
    return declared.repeat_interleave(shape[-1] // len(periods)).expand(shape)


def _rests(recurrence: Recurrence, units: Sequence[Tensor]) -> bool:
    """Whether units rest, and their periods are the declared ones: they might have been changed."""
    if recurrence.awake is recurrence or len(units) != len(recurrence.units):
        return False
    periods = units[recurrence.units.index("period")]
    if periods.shape[-1] % len(recurrence.periods) or not periods.is_cpu:
        return False
    return torch.equal(periods, _declared(recurrence.periods, periods.shape, periods.dtype))


def find_shape(
    recurrence: Recurrence,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor] | None,
    schedule: Schedule,
    fed: int = 0,
    *,
    dilation: int = 1,
    team: bool = True,
    networks: int = 1,
    folds: bool = True,
    placed: bool = False,
) -> Shape:
    """The shape of a call.

    Args:
        recurrence, x, weights, initial, schedule: of the call.
        fed: how many of the last features of x are computed by the kernel.
        dilation: how many steps before the states are that a step reads.
        team: whether threads may share the units of a row.
        networks: whose numbers will lie side by side (:class:`~longlag.scan.cpu.plan.Plan`).
        folds: whether steps of a dilated recurrence may be rows of one.
        placed: whether a table says where the rows of x lie.

    Raises:
        ValueError: the tensors do not fit together; the message names the one.
    """
    recurrent, units, matrix, bias, entries, bfloat16 = weights
    pieces, sparse = current(), None
    if entries is not None:
        double = x.dtype == torch.float64
        lanes = lanes_of(host(), entries.hidden, double)
        numbers = slots_of(entries, "slots", lanes, back=False).entries.numel()
        sparse = (len(entries.indices), numbers, form_of(entries, double, lanes))
    active, keep, mask, clock = (None,) * 4 if schedule is FULL else map(_facts, schedule)
    key = (
        (x.shape, x.dtype, x.is_cpu), _facts(matrix), _facts(bias), _facts(recurrent), sparse,
        tuple([_facts(unit) for unit in units]) if units else (),
        None if initial is None else tuple([_facts(state) for state in initial]),
        active, keep, mask, clock, torch.get_num_threads(), fed, dilation,
        folded(dilation, x.shape[-2]) if dilation > 1 and folds and in_a_row(x) else 1,
        _rests(recurrence, units),
        x.shape[0] if pieces is None else pieces.steps, networks, bfloat16, placed,
        shape.SMALL, shape.MEETING if team else sys.maxsize, shape.COLLECTED, shape.LEAST_ROWS,
        shape.STRETCH,
    )  # fmt: skip
    return shape_of(recurrence, Key._make(key))


class Call:
    """The facts of one call that both passes share. Tensors have time first.

    Args:
        recurrence: the traced cell.
        x: (T, N, C), or (T, R, N, C); the drive where there is no input matrix.
        weights: of the layer.
        schedule: which steps count.
        shape: of the call.
        places: (N,), where the rows of x begin, in numbers from the first of its memory; None where
            they are as far apart as x says.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        x: Tensor,
        weights: Weights,
        schedule: Schedule,
        shape: Shape,
        places: Tensor | None = None,
    ) -> None:
        self.recurrence, self.weights, self.schedule = recurrence, weights, schedule
        self.shape, self.item, self.replicated = shape, shape.item, shape.replicated
        self.x, self.places = last_contiguous(x), places
        self.held: list[Tensor] = []  # what a kernel has the address of
        self.readout: list[int] = []  # where it is, of a call that is fed its output
        self.ordered: _Rows | None = None
        if not shape.empty:
            self._prepare()

    def _prepare(self) -> None:
        weights, schedule = self.weights, self.schedule
        self.input = self.place(weights.input)
        if weights.entries is None:  # known at once; of a sparse W each is packed when it is read
            self.recurrent = self.recurrent_back = self.place(weights.recurrent)
        self.units, self.joined_units = NOWHERE, None
        if weights.units:  # (R, P, H)
            units = weights.units
            self.joined_units = units[0] if len(units) == 1 else torch.cat(units, -2)
            self.units = self.place(self.joined_units)
        if schedule is FULL:
            return
        if schedule.active is not None:
            self.ordered = self._order(schedule.active)
        if schedule.keep is not None and self.shape.dilated:
            keep = held_since(schedule.keep, self.shape.dilation * self.shape.fold)
            missing = self.shape.steps * self.shape.fold - len(keep)
            self.keep = torch.cat([keep, keep.new_ones((missing, *keep.shape[1:]))])
            self.held.append(self.keep)
        elif schedule.keep is not None:
            delays = self.shape.lowered.delays
            planes = [held_since(schedule.keep, delay) for delay in delays]
            self.keep = torch.stack(planes) if len(delays) > 1 else planes[0].contiguous()
            self.held.append(self.keep)
        if schedule.clock is not None:
            self.clock = schedule.clock.contiguous()
            self.held.append(self.clock)

    def _order(self, active: Tensor) -> _Rows:
        replicas, steps, fold = self.shape.replicas, self.shape.steps, self.shape.fold
        lengths = active.sum(0).view(replicas, -1)
        pieces, ranks = current(), lengths
        if pieces is not None and pieces.lengths is not None:  # as they lie in the whole
            ranks = pieces.lengths.view(replicas, -1)
        rows = lengths
        if fold > 1:  # each step of x that is folded is a row
            places = torch.arange(fold, device="cpu").unsqueeze(-1)
            ranks = rows = ((lengths - places + fold - 1) // fold).view(replicas, -1)
        order = ranks.argsort(dim=-1, descending=True, stable=True)
        falling = rows.gather(-1, order)
        step = torch.arange(steps + 1, device="cpu")
        counts = (falling.unsqueeze(1) > step.view(1, -1, 1)).sum(-1)
        return _Rows(lengths, order, counts)

    @property
    def slots_forward(self) -> Slots:
        """The slots of a sparse W, as the forward kernel reads it."""
        return self._slots(self.shape.plan, back=False)

    @property
    def slots_back(self) -> Slots:
        """The same for the product with its transpose."""
        return self._slots(self.shape.plan_back, back=True)

    @property
    def slots_summed(self) -> Slots:
        """The slots in which the backward kernel gives the gradient of W."""
        assert self.weights.entries is not None
        return slots_of(self.weights.entries, "slots", self.shape.plan.lanes, back=False)

    def _slots(self, plan: Plan, back: bool) -> Slots:
        assert self.weights.entries is not None
        assert plan.sparse is not None
        return slots_of(self.weights.entries, plan.sparse, plan.lanes, back)

    @functools.cached_property
    def recurrent(self) -> Place:
        """Where W is: of a sparse one its numbers, in the slots of the product with it."""
        return self._packed(self.slots_forward)

    @functools.cached_property
    def recurrent_back(self) -> Place:
        """The same for the product with the transpose."""
        return self._packed(self.slots_back)

    def _packed(self, slots: Slots) -> Place:
        assert self.weights.recurrent is not None
        packed = slots.pack(self.weights.recurrent)
        self.held.append(packed)
        return self.place(packed)

    def place_of_slots(self, back: bool) -> list[int]:
        """Where heads and columns of the slots of a sparse W are, backward also those of its
        gradient; nothing for a dense one."""
        if self.weights.entries is None:
            return []
        kinds = (self.slots_back, self.slots_summed) if back else (self.slots_forward,)
        # They are kept with the entries, which the weights hold.
        return [
            n for slots in kinds for n in (slots.heads.data_ptr(), 0, slots.columns.data_ptr(), 0)
        ]

    def place(self, tensor: Tensor | None) -> Place:
        """Where a tensor lies, without gaps, whose first axis is that of replicas if there are."""
        if tensor is None:
            return NOWHERE
        if not tensor.is_contiguous() or tensor.is_neg():
            tensor = tensor.resolve_neg().contiguous()
            self.held.append(tensor)
        return tensor.data_ptr(), tensor.stride(0) * self.item if self.replicated else 0

    def by_step(self, tensor: Tensor | None, first: int) -> Place:
        """Where a tensor (T, R, N, ...) lies from a step on."""
        if tensor is None:
            return NOWHERE
        address = tensor.data_ptr()
        if first:
            address += first * self.shape.fold * tensor.stride(0) * self.item
        return address, tensor.stride(1) * self.item if self.replicated else 0

    def scheduled(self, first: int) -> list[int]:
        """Where order, counts, flags, mask, clock and places are, as far as there are, from a step
        on."""
        pointers: list[int] = []
        places = [] if self.places is None else [self.places.data_ptr(), 0]
        if self.schedule is FULL:
            return places
        if self.ordered is not None:
            _, order, counts = self.ordered
            pointers += (order.data_ptr(), order.stride(0) * 8)
            pointers += (counts.data_ptr() + 8 * first, counts.stride(0) * 8)
        if self.schedule.keep is not None:
            batch = self.shape.batch
            pointers += (self.keep.data_ptr() + first * self.shape.replicas * batch, batch)
        if self.schedule.mask is not None:
            mask, fold = self.schedule.mask, self.shape.fold
            pointers += self.place(mask if fold == 1 else mask.expand(fold, *mask.shape))
        if self.schedule.clock is not None:
            pointers += self.by_step(self.clock, first)
        return pointers + places

    def run(self, kind: str, parameters: bytes, meetings: Meetings | None = None) -> None:
        """Run a kernel on all threads.

        Args:
            kind: as in :meth:`Shape.kernel`.
            parameters: what it is given.
            meetings: of a team.
        """
        kernel, shape = self.shape.kernel(kind), self.shape
        if meetings is None:
            POOL.run_kernel(kernel, parameters, shape.parts)
        else:
            task = functools.partial(kernel, parameters)
            POOL.run_team(task, shape.team, meetings.let_go)

    def strides(self, tensor: Tensor) -> tuple[int, int]:
        """Numbers from a step of a tensor (T, R, N, ...) to the next, and from row to row."""
        by_step, by_row = tensor.stride(0), tensor.stride(-2)
        fold = self.shape.fold
        return by_step * fold, by_step if fold > 1 and tensor.shape[-2] == 1 else by_row


def in_a_row(tensor: Tensor) -> bool:
    """Whether the rows of all steps of a tensor (T, N, ...) are equally far apart."""
    rows = tensor.shape[-2]
    return tensor.dim() == 3 and (rows == 1 or tensor.stride(0) == rows * tensor.stride(-2))


def last_contiguous(tensor: Tensor) -> Tensor:
    """The tensor with the numbers of a row side by side, as they are: a negation that is only noted
    would not be seen."""
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()
