"""Truncated backpropagation through time.

References:
    R. J. Williams and J. Peng (1990), "An efficient gradient-based algorithm for on-line training
    of recurrent network trajectories", Neural Computation 2(4): their BPTT(h; h') has h = k2 and
    h' = k1.
    I. Sutskever (2013), "Training recurrent neural networks", section 2.8.6, has the names k1, k2.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.arguments import check_optional, check_whole
from longlag.gradients.losses import as_scalar
from longlag.gradients.method import Accumulated, Backward, Loss
from longlag.gradients.methods.piecewise_method import Found, PiecewiseMethod
from longlag.gradients.parameters import trained
from longlag.gradients.refusals import (
    refuse_dropout,
    refuse_reduced,
    refuse_without_autograd,
)
from longlag.gradients.runs.piecewise_run import PiecewiseReadout, PiecewiseRun
from longlag.layers.inputs import Inputs
from longlag.layers.state_tree import as_lists, detached


class _Window(NamedTuple):
    """Errors of the steps first .. stop - 1 are sent back to step start, no further."""

    start: int
    first: int
    stop: int


@dataclass(frozen=True)
class TruncatedBPTT(PiecewiseMethod):
    r"""Every k1 steps, the errors of these steps are sent back up to k2 steps.

    With windows [a, b) of k1 steps, of which the last may be shorter,

    .. math:: g = \sum_{[a, b)} \; \sum_{t = \max(a, b - k_2)}^{b - 1} \;
        \sum_{s = \max(0, b - k_2)}^{t}
        \frac{\partial E_t}{\partial s_t} \frac{\partial s_t}{\partial s_s}
        \frac{\partial^+ s_s}{\partial \theta}

    The state goes on from window to window; only the error is cut. So the error of a window's last
    step reaches k2 steps back, that of its first k2 - k1 + 1. Where k2 < k1, only the last k2 steps
    of a window have errors that count.

    Biased: nothing further back than k2 steps has a part in the gradient. With k2 >= T it is BPTT,
    bit for bit.
    Time: k2 / k1 times that of BPTT if k2 > k1, and one more forward pass in :meth:`gradients`.
    Memory: the states of k2 steps, and the output. In :meth:`gradients` the errors are those of the
    loss of the whole output; what the windows send back is summed. It reads the steps twice, so the
    model may not drop out units.

    In ``fit`` the weights are updated after each window, with the loss of its steps alone, and a
    stream (:class:`longlag.Streams`) may be longer than memory. A model that puts out one result a
    sequence has no error before its end: one update a sequence. A shorter window at the end of a
    sequence goes back as far as a whole one there: k2 - k1 steps before its first.

    Args:
        k1: steps between updates, >= 1.
        k2: steps that error is sent back, >= 1; by default k1.

    Raises:
        ValueError, TypeError: k1 or k2 out of range.

    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.Elman(2, 3, seed=0), 1, reduce=None, seed=1)
    >>> x, target = torch.ones(4, 50, 2), torch.zeros(4, 50, 1)
    >>> short = TruncatedBPTT(5, 10).gradients(model, x, target, nn.functional.mse_loss)
    >>> exact = ll.BPTT().gradients(model, x, target, nn.functional.mse_loss)
    >>> whole = TruncatedBPTT(5, 50).gradients(model, x, target, nn.functional.mse_loss)
    >>> name = "layer.weight_hh"
    >>> torch.equal(short[name], exact[name]), torch.equal(whole[name], exact[name])
    (False, True)
    """

    k1: int
    k2: int | None = None

    def __post_init__(self) -> None:
        check_whole("k1", self.k1, 1)
        check_optional("k2", self.k2, 1)

    @property
    def window(self) -> int:
        """Steps between two updates: k1."""
        return self.k1

    @property
    def _back(self) -> int:
        return self.k1 if self.k2 is None else self.k2

    @property
    def before(self) -> int:
        """Steps before a window that its errors are sent back to: k2 - k1, or none."""
        return max(0, self._back - self.k1)

    @property
    def since(self) -> int:
        """The step of a whole window to which its errors are sent back: k1 - k2, or the first."""
        return max(0, self.k1 - self._back)

    def _find(self, model: nn.Module, inputs: Inputs, target: Tensor, loss: Loss) -> Found | None:
        run = PiecewiseRun.of(model, inputs, "TruncatedBPTT")
        windows = list(self._windows(run.steps))
        if windows == [(0, 0, run.steps)]:
            return None
        # Once through without a graph, then window by window.
        refuse_dropout(model, "TruncatedBPTT")
        ends = {0, run.steps, *(at for window in windows for at in (window.start, window.stop))}
        readout, begin, state = PiecewiseReadout(run), {}, run.inputs.state
        with torch.no_grad():
            for first, stop in itertools.pairwise(sorted(ends)):
                begin[first] = state
                h, state = run.run(state, first, stop)
                readout.add(h, first, stop)
        error, named = readout.error(loss, target), trained(model)
        total = error.start(named)
        for start, first, stop in windows:
            if error.touches(first, stop):
                h, _ = run.run(begin[start], start, stop)
                h = h[..., first - start :, :]
                slope = error.of_piece(h, first, stop, total)
                if h.requires_grad:
                    weights = [*named.values()]
                    total.add(torch.autograd.grad(h, weights, slope, allow_unused=True))
        return total.by_name(), error.accumulated()

    def accumulate_window(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        backward: Backward,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        carry: Any = None,
    ) -> Accumulated:
        """Add the gradient of one window's loss to `.grad`, and go on from the window before.

        Args:
            model: with one output a step.
            x, target, lengths, resets: of the window, k1 steps or, at the end, fewer.
            loss: of the window's output.
            backward: starts the backward pass.
            carry: what the call for the window before handed back.

        Returns:
            Loss and output of the window, and what the next one goes on from: the state at its
            earliest step, and the k2 - k1 inputs from there on.

        Raises:
            TypeError, ValueError: as for :meth:`gradients`; the model has one output a sequence.
        """
        refuse_without_autograd(type(self).__name__)
        refuse_reduced(model)
        before, inputs = 0, Inputs(x, lengths, resets)
        if carry is not None:
            earlier = Inputs(carry["x"], carry["lengths"], carry["resets"], carry["state"])
            before, inputs = earlier.steps, inputs.after(earlier)
        run = PiecewiseRun.of(model, inputs, "TruncatedBPTT")
        count, outputs, state = run.steps, [], inputs.state
        next_start = max(0, count - self.before)
        free = max(before, count - self._back) if self._back < self.k1 else 0
        kept = state
        for first, stop in itertools.pairwise(sorted({0, free, next_start, count})):
            if first == next_start:
                kept = state
            with torch.set_grad_enabled(first >= free):
                h, state = run.run(state, first, stop)
                if stop > before:
                    first = max(first, before)
                    outputs.append(run.read(h[..., h.shape[-2] - (stop - first) :, :], first, stop))
        if next_start == count:
            kept = state
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -2)
        value = as_scalar(loss(output, target))
        if value.requires_grad:
            backward(value)
        rest = run.inputs.between(next_start, count, as_lists(detached(kept)))._asdict()
        rest["x"] = rest["x"].detach()
        return Accumulated(value.detach(), output.detach(), rest)

    def _windows(self, steps: int) -> Iterator[_Window]:
        """The windows; those that reach the start of the sequence are one."""
        merged = 0
        for first in range(0, steps, self.k1):
            stop = min(first + self.k1, steps)
            if stop <= self._back:
                merged = stop
                continue
            if first == merged and merged:
                yield _Window(0, 0, merged)
            yield _Window(max(0, stop - self._back), max(first, stop - self._back), stop)
        if merged == steps:
            yield _Window(0, 0, steps)
