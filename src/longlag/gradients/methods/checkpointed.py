"""Backpropagation through time in little memory: states are stored here and there, and steps run
again from these.

References:
    A. Griewank and A. Walther (2000), "Algorithm 799: revolve", ACM Transactions on Mathematical
    Software 26(1): the schedule.
    A. Gruslys, R. Munos, I. Danihelka, M. Lanctot and A. Graves (2016), "Memory-efficient
    backpropagation through time", NIPS: for recurrent networks.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.arguments import check_whole
from longlag.gradients.method import Loss
from longlag.gradients.methods.piecewise_method import Found, PiecewiseMethod
from longlag.gradients.methods.revolve import advances, reverse, starts
from longlag.gradients.parameters import trained
from longlag.gradients.refusals import drops_out
from longlag.gradients.runs.piecewise_run import PiecewiseReadout, PiecewiseRun
from longlag.layers.composition import composition_of
from longlag.layers.inputs import Inputs
from longlag.layers.state_tree import detached, map_tensors, tensors_of
from longlag.scan.pieces import Pieces

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

_CANDIDATES = 256
"""Lengths of a piece that are tried, at most."""


class Plan(NamedTuple):
    """How a sequence is run with few stored states.

    Attributes:
        piece: steps of a piece, which is differentiated at once.
        stored: states that are stored at once, before the first step of as many pieces.
        forward: steps forward in all: once without a graph, once with, and those run again.
    """

    piece: int
    stored: int
    forward: int


def plan(steps: int, budget: float, cost: float = 1.0, stretch: int = 1) -> Plan:
    """The pieces and stored states for which the fewest steps are run.

    Pieces of b steps have l = ceil(T / b) beginnings, of which c are stored at once by the binomial
    schedule. b cost + c is at most the budget, and b t(l, c) the least.

    Args:
        steps: T >= 1.
        budget: in states of one step.
        cost: of a step of the piece that is differentiated, in such states.
        stretch: pieces of at least this many steps are multiples of it.

    Raises:
        ValueError: the budget is too small for one step and one state.

    >>> plan(10_000, 200)
    Plan(piece=100, stored=100, forward=20000)
    >>> plan(10_000, 20).forward / 10_000
    4.5134
    """
    most = int((budget - 1) / cost)
    if most < 1:
        raise ValueError(
            f"budget: got {budget:g} states, expected at least {1 + cost:g}: one, and what a step "
            "keeps while it is differentiated"
        )
    most = min(most, steps)
    unit = stretch if most >= stretch else 1
    count = most // unit
    tried = min(count, _CANDIDATES)
    sizes = {round(count * k / tried) for k in range(1, tried + 1)}

    def in_pieces_of(piece: int) -> Plan:
        pieces = -(-steps // piece)
        stored = min(pieces, int(budget - piece * cost))
        *_, last = starts(pieces, stored)
        return Plan(piece, stored, 2 * steps + piece * (advances(pieces, stored) - last))

    plans = [in_pieces_of(size * unit) for size in sorted(sizes, reverse=True)]
    return min(plans, key=lambda plan: plan.forward)  # of equal ones that with the longest pieces


@dataclass(frozen=True)
class CheckpointedBPTT(PiecewiseMethod):
    r"""The exact gradient within a budget of memory, by running steps again.

    A sequence is cut into pieces. First all are run without a graph, and the states before some
    of them are stored. Then the pieces are differentiated, the last first; each is run again from
    the nearest stored state before it. Which states are stored when follows the binomial schedule,
    which needs the fewest steps: with c stored states and l pieces of b steps, b t(l, c) more,

    .. math:: t(l, c) = r l - \binom{c + r}{r - 1}, \qquad
        \binom{c + r - 1}{c} < l \le \binom{c + r}{c}

    and b is chosen so that the sum is least. With 2 sqrt(T) states each step is run twice.

    Exact: bit for bit that of :class:`BPTT` on the compiled backend, where the pieces begin with a
    stretch of the readout (4,096 rows, sequences times steps; pieces of that size or more do),
    and to rounding elsewhere. Dropout draws masks for each piece, the same when it is run again.
    Time: with 2 sqrt(T) states one more forward pass, about a third more than BPTT; more with
    fewer states. Memory: the budget, and the output of the model, of which h of all steps is not
    a part.

    Args:
        budget: states that are stored at once, those of a piece that is differentiated included,
            >= 2; or bytes, such as ``"200 MB"``, for these and what a piece keeps beside.

    Raises:
        ValueError, TypeError: the budget is not valid; in :meth:`gradients` also where it is too
            small for one step of the model.

    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.LSTM(2, 3, seed=0), 1, reduce=None, seed=1)
    >>> x, target = torch.ones(64, 640, 2), torch.zeros(64, 640, 1)
    >>> few = CheckpointedBPTT(130).gradients(model, x, target, nn.functional.mse_loss)
    >>> exact = ll.BPTT().gradients(model, x, target, nn.functional.mse_loss)
    >>> all(torch.equal(few[name], exact[name]) for name in exact)
    True
    """

    budget: int | str

    def __post_init__(self) -> None:
        if isinstance(self.budget, str):
            _bytes(self.budget)
            return
        # One state is stored, and one of the piece that is differentiated.
        expected = "a number of states, or bytes such as '200 MB'"
        check_whole("budget", self.budget, 2, expected=expected)

    def _find(self, model: nn.Module, inputs: Inputs, target: Tensor, loss: Loss) -> Found | None:
        run = PiecewiseRun.of(model, inputs, "CheckpointedBPTT")
        schedule = self.plan(model, inputs.x)
        if schedule.piece >= run.steps:
            return None
        return _Run(model, run, schedule)(target, loss)

    def plan(self, model: nn.Module, x: Tensor) -> Plan:
        """The pieces and stored states for a model and x (N, T, C)."""
        composition = composition_of(model, "CheckpointedBPTT")
        steps, stretch = max(1, x.shape[-2]), composition.stretch(x)
        if isinstance(self.budget, int):
            return plan(steps, self.budget, stretch=stretch)
        state, residuals = composition.step_numbers()
        one = state * x.element_size() * max(1, x[..., 0, 0].numel())
        return plan(steps, _bytes(self.budget) / one, residuals / state, stretch)


class _Run:
    """One sequence after the other piece."""

    def __init__(self, model: nn.Module, run: PiecewiseRun, schedule: Plan) -> None:
        self.run, self.piece, self.stored = run, schedule.piece, schedule.stored
        self.named = trained(model)
        self.count = -(-run.steps // self.piece)
        self.drawn: dict[int, Tensor] | None = None if drops_out(model) is None else {}
        self.pieces = Pieces(run.steps, run.inputs.lengths)
        self.states: dict[int, Any] = {}
        self.slots: list[list[Tensor]] = []
        self.taken: dict[int, list[Tensor]] = {}

    def __call__(self, target: Tensor, loss: Loss) -> Found:
        readout, states, state = PiecewiseReadout(self.run), self.states, self.run.inputs.state
        store = set(starts(self.count, self.stored))
        with self.pieces:
            for number in range(self.count):
                if number in store:
                    states[number] = self.keep(number, state)
                first, stop = self.bounds(number)
                with torch.no_grad(), self.masks(number):
                    h, state = self.run.run(state, first, stop)
                    readout.add(h, first, stop)
                    del h
            self.error = readout.error(loss, target)
            self.total = self.error.start(self.named)
            self.delta: list[Tensor] | None = None
            reverse(self.count, self.stored, states, self.advance, self.done, self.keep)
        return self.total.by_name(), self.error.accumulated()

    def keep(self, number: int, state: Any) -> Any:
        """A copy of a state, in memory that was made for all of them at once.

        Small tensors that stay, between large ones that come and go, would keep the memory of these
        from being used again.
        """
        if next(tensors_of(state), None) is None:
            return state
        if not self.slots:
            rooms = [part.new_empty((self.stored, *part.shape)) for part in tensors_of(state)]
            self.slots = [list(slot) for slot in zip(*rooms, strict=True)]
        self.taken[number] = self.slots.pop()
        parts = iter(self.taken[number])
        return map_tensors(state, lambda part: next(parts).copy_(part))

    def bounds(self, number: int) -> tuple[int, int]:
        return number * self.piece, min((number + 1) * self.piece, self.run.steps)

    @contextmanager
    def masks(self, number: int) -> Iterator[None]:
        """Inside, a piece draws what it drew when it was run for the first time."""
        if self.drawn is None:
            yield
            return
        again = number in self.drawn
        self.drawn.setdefault(number, torch.get_rng_state())
        if not again:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.drawn[number])
            yield

    def advance(self, state: Any, number: int, until: int) -> Any:
        """From the state before a piece to that before another."""
        for piece in range(number, until):
            with torch.no_grad(), self.masks(piece):
                _, state = self.run.run(state, *self.bounds(piece))
        return state

    def done(self, number: int, state: Any) -> None:
        """Differentiate a piece; its state need not be stored any longer."""
        self.back(number, state)
        if number in self.taken:
            self.slots.append(self.taken.pop(number))

    def back(self, number: int, state: Any) -> None:
        """Differentiate a piece, whose final states have the errors in ``delta``."""
        first, stop = self.bounds(number)
        if self.delta is None and not self.error.touches(first, stop):
            return
        begin = state if number == 0 else map_tensors(detached(state), Tensor.requires_grad_)
        leaves = [] if number == 0 else list(tensors_of(begin))
        with self.masks(number):
            h, final = self.run.run(begin, first, stop)
        slope = torch.zeros_like(h)
        if self.error.touches(first, stop):
            slope = self.error.of_piece(h, first, stop, self.total)
        if not h.requires_grad:
            return
        roots, slopes = [h], [slope]
        for state, error in zip(tensors_of(final), self.delta or (), strict=False):
            if state.requires_grad:  # no error goes back through t
                roots.append(state)
                slopes.append(error)
        weights = [*self.named.values()]
        with self.pieces.backward(closes=number == 0):
            gradients = torch.autograd.grad(roots, [*weights, *leaves], slopes, allow_unused=True)
        self.total.add(gradients[: len(weights)])
        self.delta = [
            torch.zeros_like(leaf) if error is None else error
            for leaf, error in zip(leaves, gradients[len(weights) :], strict=True)
        ]


def _bytes(budget: str) -> int:
    """Bytes of a text such as "200 MB"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B)\s*", budget, re.IGNORECASE)
    if match is None:
        raise ValueError(
            f"budget: got {budget!r}, expected bytes such as '200 MB', '1.5 GB' or '64 MiB'"
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])
