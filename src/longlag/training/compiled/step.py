"""The compiled step of a network, an optimizer and data, prepared once for batches of one size."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from longlag.batch import Batch
from longlag.gradients import Loss
from longlag.gradients.weighted import loss_of, weights_due
from longlag.layers import Recurrent, SequenceModel, Stack
from longlag.layers.state_tree import tensors_of
from longlag.training.compiled.calls import Calls
from longlag.training.compiled.cells import MOST, Cells, Places
from longlag.training.compiled.evaluation import CompiledOutputs
from longlag.training.compiled.meeting import Meeting
from longlag.training.compiled.network import (
    Unfit,
    check_data,
    check_parameters,
    network_of,
    states_are_there,
)
from longlag.training.compiled.optimizers import Rule, coefficients, rule_of, step_of
from longlag.training.compiled.windows import Following, Windows
from longlag.training.ranks import Ranks

SECONDS = 0.05
"""How long a block of updates should take: signals wait for its end."""

ATTENDED = 1 << 27
"""Multiply-adds of one of the products of an attention, of a batch, from which several threads of
PyTorch are not slower: that of a compiled step has one."""

STAGED = 1 << 22
"""Numbers of batches that come one by one, which are together in memory for a block."""


class Made(NamedTuple):
    """What a block of updates gave.

    Attributes:
        losses, norms: of each update that was looked at: all, or up to the first that is not
            finite, which was not made.
        finite: whether all are.
        passed: windows in which no error is due, and no update is made.
    """

    losses: list[float]
    norms: list[float]
    finite: bool
    passed: int = 0


class CompiledSteps:
    """Updates of a network by an optimizer, from rows of data that lie in memory.

    Args:
        model: what is trained.
        loss, method: how.
        optimizer: of torch; its state is changed in place.
        data: x (N, T, C) and target; or the first of many batches.
        clip_norm: the largest norm of a gradient, or None.
        batch_size: sequences in a batch; None: data are a batch, and all come one by one.
        ranks: the processes that share each batch; each makes one of these, all at the same time.
        continues: whether each batch is the next window of the sequences of the batch before.

    Raises:
        Unfit: something of it cannot be compiled.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        method: object,
        optimizer: Optimizer,
        data: Batch[Tensor],
        clip_norm: float | None,
        batch_size: int | None,
        ranks: Ranks | None = None,
        *,
        continues: bool = False,
    ) -> None:
        self.model, self.optimizer, self._how = model, optimizer, (loss, method)
        self.network, self.reason = network_of(model, loss, method), ""
        self._continues = continues
        if continues:
            data = _with_resets(data)
            if data.lengths is not None or data.x.shape[1] != self.network.window:
                raise Unfit("recordings are shorter than a window for each row")
        check_data(self.network, data)
        self._forms = [_form(part) for part in data]
        self._windows: Windows | Following | None = None
        if self.network.window is not None:
            cut = self.network.window, self.network.before
            if continues:
                self._windows = Following(*cut)
                data = next(self._windows.rows_of([data], None, slice(None)))
            elif batch_size is None:
                raise Unfit("batches that come one by one are not cut into windows")
            else:
                ragged = data.lengths is not None or data.x.shape[1] % self.network.window
                if self.network.since and ragged:
                    raise Unfit("k2 < k1, and some windows are shorter than others")
                self._windows = Windows(data, *cut)
        self._last: np.ndarray[Any, Any] | None = None  # the windows that were used last
        count = len(data.x)
        size = count if batch_size is None else min(batch_size, count)
        attention = self.network.attention
        work = 0 if attention is None else size * data.x.shape[1] * attention.size**2
        if work >= ATTENDED and torch.get_num_threads() > 1:
            raise Unfit("an attention over so many wide states is left to several threads")
        if size == 1 and any(layer.dilation > 1 for layer in self.network.layers):
            raise Unfit(
                "a batch is one sequence, of which a dilated layer takes many steps at once"
            )
        self.comes_in_batches = batch_size is None
        if batch_size is None:  # they are copied to where there is room for some
            numbers = max(1, data.x.numel() + data.target.numel())
            rows = size * max(1, min(MOST, STAGED // numbers))
            self.data = data.map(lambda part: part.new_zeros((rows, *part.shape[1:])))
        else:
            windows = self.windows
            self.data = data.map(Tensor.contiguous) if windows is None else windows.rows
        self.cells = Cells(clip_norm, len(optimizer.param_groups))
        self._calls: dict[int, Calls] = {}
        self._places, self._has_states = Places(model), False
        self._per_update = SECONDS
        check_parameters(model, optimizer)
        self._ranks, self._meeting = ranks or Ranks(), None
        self._due = self._places_due()
        self._batch_for(size)

    def meet(self) -> None:
        """Prepare what several processes share; all call it, and none where one of them is unfit.

        Raises:
            RanksError: another process has ended.
        """
        if not self._ranks.alone:
            count = sum(parameter.numel() for parameter in self.model.parameters())
            double = self.data.x.dtype == torch.float64
            self._meeting = Meeting(self._ranks, count, double=double, most=MOST)

    def close(self) -> None:
        """Make no further update."""
        if self._meeting is not None:
            self._meeting.close()

    def agree(self, numbers: Sequence[float]) -> "np.ndarray[Any, Any]":
        """What each process says between blocks, (processes, numbers)."""
        if self._meeting is None:
            return np.array([numbers], dtype=np.float64)
        return self._meeting.agree(numbers)

    def is_ready(self, *, changed: bool = False) -> bool:
        """Whether the next update can be compiled: the optimizer makes its state in the first.

        Args:
            changed: whether something may have been changed since it was prepared; `reason` then
                says what can no longer be compiled.
        """
        if changed or not self._has_states:
            self._has_states = (not changed or self.is_fit()) and states_are_there(self.optimizer)
        return self._has_states

    def is_fit(self) -> bool:
        """Whether model and optimizer still are what can be compiled."""
        try:
            self.network = network_of(self.model, *self._how)
            check_parameters(self.model, self.optimizer)
            self._places = Places(self.model)
        except Unfit as unfit:
            self.reason = str(unfit)
            return False
        return True

    @property
    def next_size(self) -> int:
        """Updates of the next block, so that it does not last long."""
        most = min(calls.most for calls in self._calls.values())
        if self.comes_in_batches:
            most = min(most, *(len(self.data.x) // size for size in self._calls if size))
        return max(1, min(most, int(SECONDS / self._per_update)))

    def fits(self, batch: Batch[Tensor]) -> bool:
        """Whether a batch is as the first was, but perhaps smaller; `reason` says if not."""
        if self._continues:
            batch = _with_resets(batch)
            if batch.lengths is not None or batch.x.shape[1] != self.network.window:
                return False  # the last of the recordings
        forms = [_form(part) for part in batch]
        same = len(batch.x) <= len(self.data.x) and forms == self._forms
        try:
            if not same or not batch.x.is_cpu:
                raise Unfit("batches have other shapes than the first")
            check_data(self.network, batch)
        except Unfit as unfit:
            self.reason = str(unfit)
            return False
        return True

    def run_batches(
        self,
        batches: Sequence[Batch[Tensor]],
        after_each: Callable[[], None] | None,
        *,
        carry: Any = None,
    ) -> Made:
        """As `run`, of batches of one size that fit; of windows ``carry`` is what the first goes on
        from, None where recordings begin."""
        size, windows = len(batches[0].x), self._windows
        rows: Iterable[Batch[Tensor]] = batches
        if isinstance(windows, Following):
            own = self._ranks.rows(size)
            rows = windows.rows_of([_with_resets(batch) for batch in batches], carry, own)
        for number, whole in enumerate(rows):
            for part, room in zip(whole, self.data, strict=True):
                if part is not None and room is not None:
                    room[number * size : (number + 1) * size] = part
        if self._meeting is not None or windows is not None:
            self._due = self._places_due()
        order = np.arange(len(batches) * size).reshape(len(batches), size)
        if windows is None:
            return self.run(order, after_each)
        return self.run_windows(order, after_each, carry)

    @property
    def windows(self) -> "Windows | None":
        """How sequences are cut, where an update is of some of their steps."""
        return self._windows if isinstance(self._windows, Windows) else None

    def run_windows(
        self, order: "np.ndarray[Any, Any]", after_each: Callable[[], None] | None, carry: Any
    ) -> Made:
        """As `run`, of windows: ``order`` has numbers of `Windows.rows`, and ``carry`` is what the
        first goes on from, where its sequences do not begin there.

        A window of longer sequences in which no error is due gives no update.
        """
        windows = self._windows
        assert windows is not None
        if carry is not None and carry["state"] is not None:
            kept = self._batch_for(order.shape[1]).carried
            for own, tensor in zip(kept, tensors_of(carry["state"]), strict=True):
                own.copy_(tensor)
        counts = (self._due[order].sum(1) > 0) | windows.are_whole(order)
        losses, norms, passed = list[float](), list[float](), 0
        edges = [0, *(1 + np.flatnonzero(np.diff(counts))).tolist(), len(order)]
        for first, stop in itertools.pairwise(edges):
            part = order[first:stop]
            if not counts[first]:
                self._pass_over(part)
                self._last = part[-1]
                passed += len(part)
                continue
            made = self.run(part, after_each)
            self._last = part[len(made.losses) - 1]
            losses += made.losses
            norms += made.norms
            if not made.finite:
                return Made(losses, norms, False, passed)
        return Made(losses, norms, True, passed)

    def carry(self, size: int) -> dict[str, Any]:
        """What the window after the last of a block goes on from, as `TruncatedBPTT` has it.

        Args:
            size: sequences in a batch.
        """
        windows, last = self._windows, self._last
        assert isinstance(self.model, SequenceModel)
        assert windows is not None
        assert last is not None
        count, begins = windows.carried(last)
        rows = self.data.map(lambda part: part[last[self._ranks.rows(size)]])
        first, lengths, resets = rows.x.shape[1] - count, None, None
        if windows.ragged and rows.lengths is not None:
            lengths = (rows.lengths - first).clamp(0, count)
        if windows.has_resets and rows.resets is not None:
            resets = rows.resets[:, first:].clone()
        states = iter([kept.clone() for kept in self._batch_for(size).carried])
        return {
            "x": rows.x[:, first:].clone(), "lengths": lengths, "resets": resets,
            "state": None if begins else _by_layer(self.model.layer, states),
        }  # fmt: skip

    def _pass_over(self, order: "np.ndarray[Any, Any]") -> None:
        """Go on from window to window without updates."""
        batch = self._batch_for(order.shape[1])
        self._lay_out(batch, order)
        self.cells.begin()
        batch.without_update.run(0, len(order))

    def _lay_out(self, batch: Calls, order: "np.ndarray[Any, Any]") -> None:
        """Write what a block reads: which sequences, and masks."""
        updates, steps = len(order), None
        batch.order.numpy()[:updates] = order[:, self._ranks.rows(order.shape[1])]
        if self._windows is not None:
            batch.begins[:updates] = torch.from_numpy(self._windows.begin(order))
            steps = self._windows.lengths(order)
        batch.draw(0, updates, steps=steps)

    def run(self, order: "np.ndarray[Any, Any]", after_each: Callable[[], None] | None) -> Made:
        """Make a block of updates.

        Args:
            order: (updates, N), numbers of the sequences of each batch; no more than `next_size`.
            after_each: called when the numbers of an update are fixed, for schedules; None: all
                updates have those of the first.
        """
        began = time.perf_counter()
        updates, size = order.shape
        if self._meeting is not None:
            self._meeting.weights.numpy()[:updates] = self._weights(order)
        batch, cells, groups = self._batch_for(size), self.cells, self.optimizer.param_groups
        trained = [[p for p in group["params"] if p.requires_grad] for group in groups]
        states = [[self.optimizer.state.get(p, {}) for p in part] for part in trained]
        rules = [_rule(self.optimizer, group) for group in groups]
        self._lay_out(batch, order)
        program = batch.program_of(rules, trained, states, self._meeting)
        before = [step_of(part[0]) if part else 0 for part in states]
        rows = coefficients(rules, groups, before, updates, after_each)
        cells.coefficients.numpy()[:updates] = rows
        cells.begin()
        program.run(0, updates)
        if self._meeting is not None:
            self._meeting.check()
        finite = not int(cells.stop)
        made = updates if finite else int(cells.clock)
        batch.count(made)
        for parameter in itertools.chain(*trained):
            increment_version(parameter)
        self._per_update = (time.perf_counter() - began) / updates
        losses, norms = (seen[: made + (not finite)].tolist() for seen in cells.seen)
        return Made(losses, norms, finite)

    def outputs_for(
        self, data: Batch[Tensor], batch_size: int
    ) -> "Callable[[], Iterator[Tensor] | None]":
        """What gives the outputs for other data batch by batch; None where it cannot."""
        x, fit = data.x, self.data.x
        both = any(len(level) > 1 for level in self.network.levels)
        same = x.ndim == 3 and x.shape[2:] == fit.shape[2:] and x.dtype == fit.dtype and x.is_cpu
        if not same or x.shape[1] == 0 or (both and data.resets is not None):
            return lambda: None
        outputs = CompiledOutputs(self.model, data, batch_size, self._ranks)
        return lambda: outputs.of(self.network) if self.is_fit() else None

    def _weights(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """The weight of this process's part of each batch, by what its places count for."""
        (updates, size), count = order.shape, self._ranks.count
        weights = np.full(updates, 1 / count)
        if size >= count:  # else each has all
            own = order[:, self._ranks.rows(size)]
            mine, whole = (self._due[numbers].sum(1) for numbers in (own, order))
            np.divide(mine, whole, out=weights, where=whole > 0)
        return weights

    def _places_due(self) -> "np.ndarray[Any, Any]":
        """Of each sequence, what the places where an error is due count for."""
        loss, _ = self._how
        return (
            weights_due(loss_of(loss, self.data), self.data.target)
            .view(len(self.data.x), -1)
            .sum(1, dtype=torch.float64)
            .numpy()
        )

    def _batch_for(self, size: int) -> Calls:
        """The calls for this process's part of a batch."""
        return self._batch(len(range(size)[self._ranks.rows(size)]))

    def _batch(self, size: int) -> Calls:
        batch = self._calls.get(size)
        if batch is None or batch.places != self._places.now():
            with torch.no_grad():
                batch = Calls(self.model, self.network, self.data, self.cells, size)
            self._calls[size] = batch
        return batch


def _by_layer(module: nn.Module, states: Iterator[Tensor]) -> list[Any]:
    """The states of all layers, as lists as a checkpoint has them."""
    if isinstance(module, Stack):
        return [_by_layer(part, states) for part in module.layers]
    assert isinstance(module, Recurrent)
    return [next(states) for _ in module.recurrence.states]


def _with_resets(batch: Batch[Tensor]) -> Batch[Tensor]:
    """A batch that says of each step whether it begins anew."""
    if batch.resets is not None:
        return batch
    return batch._replace(resets=torch.zeros(batch.x.shape[:2], dtype=torch.bool))


def _form(part: Tensor | None) -> object:
    """Of the sequences of a batch their shape and dtype."""
    return None if part is None else (part.shape[1:], part.dtype)


def _rule(optimizer: Optimizer, group: dict[str, Any]) -> Rule:
    rule = rule_of(optimizer, group)
    assert isinstance(rule, Rule)  # it was checked
    return rule
