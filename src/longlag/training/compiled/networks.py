"""Networks of one form, each trained by the compiled step of one: several at a time, on threads.

The numbers of a network, its parameters and the state of its optimizer, are a row of a matrix. A
thread has one network of PyTorch, whose tensors lie side by side in memory: a row is copied there,
takes its updates, and is copied back. So the memory of a batch, a layer's states or its errors is
that of one network, and stays in a cache, however many networks there are. Of small networks a
vector has its turn together (:mod:`~longlag.training.compiled.lanes`).
"""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from longlag.batch import Batch
from longlag.gradients import BPTT, Loss
from longlag.scan.cpu.threads import POOL
from longlag.training.compiled.calls import Calls
from longlag.training.compiled.cells import MOST, Cells
from longlag.training.compiled.lanes import Lanes, networks_at_once
from longlag.training.compiled.network import (
    Network,
    Unfit,
    check_data,
    check_parameters,
    network_of,
)
from longlag.training.compiled.optimizers import Rule, coefficients, rule_of
from longlag.training.compiled.outputs import Outputs
from longlag.training.compiled.turns import Turns

_LINE = 16
"""Numbers after which a tensor may begin: a cache line or two."""

KEPT = 1 << 22
"""Numbers of outputs that a thread keeps at once."""

Made = tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]


class Networks:
    """R networks of one form, with a row of numbers each.

    Args:
        model: one of them; all have its buffers.
        loss: a function of `longlag.gradients.losses`, or a name of
            `longlag.training.compiled.head.SUMS`.
        optimizers: for each network one of torch over the parameters of ``model``, of which the
            settings are taken, anew for every update.
        starts: the parameters of each by name.
        seeds: of what each draws, which are dropout masks.
        threads: how many networks are trained at the same time, at most.

    Attributes:
        rows: (R, M), parameters and states of the optimizer.
        updates: (R, groups), how many the parameter groups of each have had.

    Raises:
        Unfit: it cannot be compiled.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | str,
        optimizers: Sequence[Optimizer],
        starts: Sequence[Mapping[str, Tensor]],
        seeds: Sequence[int],
        threads: int,
    ) -> None:
        network = network_of(model, loss, BPTT())
        check_parameters(model, optimizers[0])
        self.network, self.optimizers = network, list(optimizers)
        rules = _common_rules(self.optimizers)
        count = len(starts)
        trained = _numbers_of_parameters(model, self.optimizers[0])
        self._workers = [
            _Worker(copy.deepcopy(model), loss, rules, trained)
            for _ in range(max(1, min(threads, count)))
        ]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        first = self._workers[0]
        self._rules, self._places = rules, first.places
        self.rows = first.home.new_zeros((count, len(first.home)))
        self.updates = np.zeros((count, len(rules)), dtype=np.int64)
        for number, start in enumerate(starts):
            for name, (begin, shape) in self._places.items():
                place = self.rows[number, begin : begin + shape.numel()]
                place.copy_(start[name].detach().reshape(-1))

    def parameters_of(self, number: int) -> dict[str, Tensor]:
        """Views of the parameters of a network, by name."""
        row = self.rows[number]
        return {
            name: row[begin : begin + shape.numel()].view(shape)
            for name, (begin, shape) in self._places.items()
        }

    def freeze(self, names: Collection[str]) -> None:
        """Leave some parameters, by name, as they are from now on, and no others.

        The state of the optimizer of those that were frozen from the start begins when they are
        thawed, if they are groups of their own.
        """
        for worker in self._workers:
            worker.freeze(names)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of all of them."""
        draws = self._generators if self.network.draws else []
        return {
            "rows": self.rows,
            "updates": self.updates,
            "generators": [generator.get_state() for generator in draws],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take in what `state` gave."""
        self.rows.copy_(state["rows"])
        self.updates[...] = state["updates"]
        for generator, kept in zip(self._generators, state["generators"], strict=False):
            generator.set_state(kept)

    def coefficients_of(
        self, number: int, updates: int, after_each: Callable[[], None] | None = None
    ) -> "np.ndarray[Any, Any]":
        """The numbers of the next updates of a network, as its optimizer says.

        Args:
            number: of the network.
            updates: how many.
            after_each: called when the numbers of an update are fixed, for schedules.
        """
        before, groups = self.updates[number].tolist(), self.optimizers[number].param_groups
        return coefficients(self._rules, groups, before, updates, after_each)

    def run(
        self,
        data: Batch[Tensor],
        numbers: Sequence[int],
        orders: Sequence["np.ndarray[Any, Any]"],
        table: Sequence["np.ndarray[Any, Any]"],
        clip_norms: Sequence[float],
    ) -> Made:
        """Make updates.

        Args:
            data: of all of them, without gaps in memory.
            numbers: of the networks that are trained.
            orders: for each (updates, N), numbers of the sequences of each batch.
            table: for each what `coefficients_of` gave.
            clip_norms: for each the largest norm of its gradient, or infinity.

        Returns:
            Losses and norms of gradients, (networks, updates), in the order of ``numbers``. The
            first that is not finite is of an update that was not made; NaN follows.
        """
        check_data(self.network, data)
        updates, size = orders[0].shape
        losses, norms = (np.full((len(numbers), updates), np.nan) for _ in range(2))
        shares, moving = self._shares(numbers), self._workers[0].moving
        with one_thread():
            for worker in self._workers[: len(shares)]:
                worker.prepare(data, size)

        def train(part: int, parts: int) -> None:
            worker, places = self._workers[part], shares[part]
            most = worker.most
            block = worker.networks_with(updates)
            for first in range(0, updates, most):
                stretch = slice(first, first + most)
                for begin in range(0, len(places), block):
                    some = [
                        place for place in places[begin : begin + block]
                        if not first or np.isfinite(losses[place, first - 1])
                    ]  # fmt: skip
                    if not some:
                        continue
                    own = [numbers[place] for place in some]
                    made = worker.run(
                        self.rows, np.array(own), [self._generators[number] for number in own],
                        np.stack([orders[place][stretch] for place in some]),
                        np.stack([table[place][stretch] for place in some]),
                        np.array([clip_norms[place] for place in some], dtype=np.float64),
                    )  # fmt: skip
                    for place, own_losses, own_norms, done in zip(some, *made, strict=True):
                        losses[place, stretch], norms[place, stretch] = own_losses, own_norms
                        self.updates[numbers[place], moving] += done

        POOL.run(train, len(shares))
        return losses, norms

    def evaluate(
        self, data: Batch[Tensor], numbers: Sequence[int], batch_size: int
    ) -> Iterator[tuple[int, Tensor]]:
        """The outputs of networks for data, one network after the other: its number, and (N, K) or
        (N, T, K)."""
        shares = self._shares(numbers)
        with one_thread():
            for worker in self._workers[: len(shares)]:
                worker.prepare_outputs(data, batch_size)
        found: dict[int, Tensor] = {}
        most = max(len(share) for share in shares)
        at_once = self._workers[0].at_once(data, batch_size)
        for first in range(0, most, at_once):
            parts = [share[first : first + at_once] for share in shares]

            def look(part: int, _: int, parts: list[list[int]] = parts) -> None:
                some = [numbers[place] for place in parts[part]]
                if some:
                    outputs = self._workers[part].outputs(self.rows, some, data, batch_size)
                    found.update(zip(some, outputs, strict=True))

            POOL.run(look, len(shares))
            yield from sorted(found.items())
            found.clear()

    def _shares(self, numbers: Sequence[int]) -> list[list[int]]:
        """Which places each thread has."""
        parts = min(len(self._workers), len(numbers))
        return [[*range(part, len(numbers), parts)] for part in range(parts)]


def _numbers_of_parameters(model: nn.Module, optimizer: Optimizer) -> list[list[int]]:
    """By group of the optimizer the numbers of its parameters among the trained ones."""
    places = {id(p): n for n, p in enumerate(model.parameters())}
    return [[places[id(p)] for p in group["params"]] for group in optimizer.param_groups]


def _common_rules(optimizers: Sequence[Optimizer]) -> list[Rule]:
    """The rules of the groups: of a term that one optimizer has the others have a factor of 0."""
    common: list[Rule] | None = None
    for optimizer in optimizers:
        rules = []
        for group in optimizer.param_groups:
            rule = rule_of(optimizer, group)
            if isinstance(rule, str):
                raise Unfit(rule)
            if rule.momentum and group.get("dampening"):
                raise Unfit("the optimizer has dampening, and its first update another formula")
            rules.append(rule)
        if common is None:
            common = rules
        if len(rules) != len(common):
            raise Unfit("the optimizers have different numbers of parameter groups")
        for place, (one, other) in enumerate(zip(common, rules, strict=True)):
            both = one._replace(
                decays=one.decays or other.decays, decoupled=one.decoupled or other.decoupled
            )
            if both != other._replace(decays=both.decays, decoupled=both.decoupled) or (
                one.decays and other.decays and one.decoupled != other.decoupled
            ):
                raise Unfit("the optimizers have different formulas")
            common[place] = both
    assert common is not None
    return common


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch has one thread, and kernels are prepared for one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Worker:
    """The network of a thread, and what was prepared for it.

    Args:
        model: its own.
        loss: as for `Networks`.
        rules: of the parameter groups.
        trained: by group the numbers of its parameters.
    """

    def __init__(
        self, model: nn.Module, loss: Loss | str, rules: list[Rule], trained: list[list[int]]
    ) -> None:
        self.model, self.rules = model, rules
        named = dict(model.named_parameters())
        every = [*named.values()]
        groups = [[every[n] for n in group] for group in trained]
        shapes: list[torch.Size] = [p.shape for p in every]
        for rule, group in zip(rules, groups, strict=True):
            shapes += [p.shape for p in group for _ in rule.states]
        begins, size = [], 0
        for shape in shapes:
            begins.append(size)
            size += -(-shape.numel() // _LINE) * _LINE
        self.home = every[0].detach().new_zeros(size)
        views = [
            self.home[begin : begin + shape.numel()].view(shape)
            for begin, shape in zip(begins, shapes, strict=True)
        ]
        self.places = {
            name: (begin, p.shape)
            for (name, p), begin in zip(named.items(), begins[: len(every)], strict=True)
        }
        for parameter, view in zip(every, views, strict=False):
            view.copy_(parameter.detach())
            parameter.data = view
        left = iter(views[len(every) :])
        self._groups = [
            [(p, {name: next(left) for name in rule.states}) for p in group]
            for rule, group in zip(rules, groups, strict=True)
        ]
        self._trained = {p for p in every if p.requires_grad}
        self.network: Network = network_of(model, loss, BPTT())
        self.cells = Cells(None, len(rules))
        self._lanes: dict[int, Lanes] = {}
        self._known: dict[Any, tuple[Calls, Turns, Lanes]] = {}
        self._outputs: dict[Any, tuple[Outputs, Turns, Tensor]] = {}
        self._now: tuple[Calls, Turns, Lanes] | None = None

    @property
    def moving(self) -> list[bool]:
        """Which groups have parameters that are trained."""
        return [any(p.requires_grad for p, _ in group) for group in self._groups]

    def freeze(self, names: Collection[str]) -> None:
        """See `Networks.freeze`."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(parameter in self._trained and name not in names)
        self._known.clear()

    @property
    def most(self) -> int:
        """Updates that there is room for at once."""
        assert self._now is not None
        return self._now[0].most

    def networks_with(self, updates: int) -> int:
        """Of how many networks it has so many updates."""
        assert self._now is not None
        return self.most // min(updates, self.most) * self._now[2].networks

    def prepare(self, data: Batch[Tensor], size: int) -> None:
        """Have the calls of an update for batches of a size."""
        key = (*_places(data), size)
        known = self._known.get(key)
        if known is None:
            lanes = self._lanes_for(networks_at_once(self.network, data, size))
            with torch.no_grad():
                calls = Calls(self.model, self.network, data, self.cells, size, lanes)
            groups = [[one for one in group if one[0].requires_grad] for group in self._groups]
            program = calls.program_of(
                self.rules, [[p for p, _ in group] for group in groups],
                [[state for _, state in group] for group in groups],
            )  # fmt: skip
            known = calls, Turns(program, self.cells, self.home, lanes, back=True), lanes
            self._known[key] = known
        self._now = known

    def _lanes_for(self, networks: int) -> Lanes:
        return self._lanes.setdefault(networks, Lanes(networks))

    def run(
        self,
        rows: Tensor,
        numbers: "np.ndarray[Any, Any]",
        generators: Sequence[torch.Generator],
        orders: "np.ndarray[Any, Any]",
        table: "np.ndarray[Any, Any]",
        clips: "np.ndarray[Any, Any]",
    ) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
        """Updates of some networks: losses and norms as `Networks.run` gives them, and how many
        were made."""
        assert self._now is not None
        (calls, turns, lanes), cells, (count, updates) = self._now, self.cells, orders.shape[:2]
        missing = -count % lanes.networks  # the last is there several times
        if missing:
            numbers, orders, table, clips = (
                np.concatenate([part, *[part[-1:]] * missing])
                for part in (numbers, orders, table, clips)
            )
        whole = len(numbers) // lanes.networks * updates
        for place, part in ((calls.order, orders), (cells.coefficients, table)):
            by_turn = part.reshape(-1, lanes.networks, *part.shape[1:])
            side_by_side = np.moveaxis(by_turn, 1, -1)
            lanes.of(place).numpy()[:whole] = side_by_side.reshape(whole, -1, lanes.networks)
        for place, generator in enumerate(generators):
            calls.draw(place * updates, updates, generator)
        turns.run(rows, numbers, updates, clips)
        losses, norms = (
            lanes.of(some).numpy()[:whole].reshape(-1, updates, lanes.networks).swapaxes(1, 2)
            .reshape(-1, updates)[:count]
            for some in (cells.losses, cells.norms)
        )  # fmt: skip
        finite = np.isfinite(losses) & np.isfinite(norms)
        made = np.where(finite.all(1), updates, finite.argmin(1))
        seen = np.arange(updates) <= made[:, None]
        losses, norms = (np.where(seen, some, np.nan) for some in (losses, norms))
        return losses, norms, made

    def prepare_outputs(self, data: Batch[Tensor], batch_size: int) -> None:
        """Have the calls of forward passes over data."""
        for size, first, batches in _batches(len(data.x), batch_size):
            key = (*_places(data), size)
            if key in self._outputs:
                continue
            with torch.no_grad():
                outputs = Outputs(self.model, self.network, data, self.cells, size)
            block = self.at_once(data, batch_size)
            rows = torch.arange(first, first + batches * size).view(batches, size)
            outputs.order[: block * batches] = rows.repeat(block, 1)
            kept = outputs.y.new_zeros((block * batches, *outputs.y.shape))
            program = outputs.program(kept)
            turns = Turns(program, self.cells, self.home, self._lanes_for(1), back=False)
            self._outputs[key] = outputs, turns, kept

    def outputs(
        self, rows: Tensor, numbers: Sequence[int], data: Batch[Tensor], batch_size: int
    ) -> list[Tensor]:
        """The outputs of some networks, no more than `at_once`, for all data."""
        count, parts = len(data.x), []
        for size, _, batches in _batches(count, batch_size):
            _, turns, kept = self._outputs[(*_places(data), size)]
            turns.run(rows, np.array(numbers), batches)
            y = kept[: len(numbers) * batches]
            if self.network.reduce is None:
                y = y.view(len(y), -1, size, y.shape[-1]).transpose(1, 2)
            parts.append(y.reshape(len(numbers), batches * size, *y.shape[2:]))
        # New memory: what is kept is written again.
        return list(torch.cat(parts, 1) if len(parts) > 1 else parts[0].clone())

    def at_once(self, data: Batch[Tensor], batch_size: int) -> int:
        """Of how many networks the outputs for data are kept at once."""
        count, steps = data.x.shape[:2]
        batches = max(number for _, _, number in _batches(count, batch_size))
        numbers = count * self.network.readout.output_size
        numbers *= steps if self.network.reduce is None else 1
        return max(1, min(MOST // batches, KEPT // max(1, numbers)))


def _batches(count: int, batch_size: int) -> list[tuple[int, int, int]]:
    """Of a pass over data: size, first sequence and number of batches, by size."""
    size = max(batch_size, -(-count // MOST))  # as many updates as there is room for
    whole = count // size
    every = [(size, 0, whole), (count - whole * size, whole * size, 1)]
    return [(size, first, batches) for size, first, batches in every if size and batches]


def _places(data: Batch[Tensor]) -> tuple[Any, ...]:
    return tuple(None if part is None else (part.data_ptr(), part.shape) for part in data)
