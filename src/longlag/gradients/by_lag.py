r"""The gradient, split by how far back in time each part of it was earned.

.. math:: \frac{\partial E_t}{\partial \theta} = \sum_{s \le t}
    \frac{\partial E_t}{\partial s_t} \frac{\partial s_t}{\partial s_s}
    \frac{\partial^+ s_s}{\partial \theta}

with the immediate derivative of s_s, in which s_{s-1} is held. The lag of a term is t - s.

Source: R. Pascanu, T. Mikolov and Y. Bengio (2013), "On the difficulty of training recurrent neural
networks", ICML, equations 3 to 5.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from longlag.arguments import check_optional
from longlag.gradients.method import Loss, Options
from longlag.gradients.parameters import names_in
from longlag.gradients.runs.layer_run import (
    EVERYTHING,
    STATES_ONLY,
    LayerRun,
    add_by_name,
    send_back,
)
from longlag.gradients.runs.model_run import ModelRun
from longlag.layers.composition import reduction_of
from longlag.layers.inputs import Inputs
from longlag.scan import Schedule

AT_ONCE = 1 << 24
"""Numbers that the backward passes of several steps, run at once, may take."""


@dataclass(frozen=True)
class ByLag:
    """The terms of a gradient by lag and name of the parameter.

    Attributes:
        terms: the parameter's shape with the lags in front; entry l is the sum of those of lag l.
        rest: the sum of all terms of greater lags, of the parameter's shape; zeros where none are.
    """

    terms: dict[str, Tensor]
    rest: dict[str, Tensor]

    def total(self) -> dict[str, Tensor]:
        """The gradient: the sum of all terms."""
        return {name: terms.sum(0) + self.rest[name] for name, terms in self.terms.items()}

    def norms(self) -> dict[str, Tensor]:
        """The Frobenius norm of each term, (lags,); of all replicas together."""
        return {
            name: torch.linalg.vector_norm(terms.flatten(1), dim=1)
            for name, terms in self.terms.items()
        }


def gradient_by_lag(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    step: int | Literal["all"] | None = None,
    max_lag: int | None = None,
    **options: Unpack[Options],
) -> ByLag:
    r"""The gradient of the recurrent layers' parameters, as a sum over lags.

    The error of step t is what the loss sends back through the readout's result at t, whatever the
    loss is: :math:`(\partial E/\partial y_t)\,(\partial y_t/\partial h_t)`. In a stack it goes down
    through the layers as it goes back in time, and the lag is counted in each layer's own time: the
    error that reaches a lower layer at step s has lag t - s there, however it came.

    Args:
        model: a recurrent layer, a stack of such, or a `SequenceModel` around either.
        x: (N, T, C).
        target, loss: as for :meth:`BPTT.gradients`.
        step: whose error. A number t from 0 takes that of step t; a negative one counts from each
            sequence's own end; sequences without such a step add nothing. ``"all"`` sums over
            all t the terms of equal lag: the whole gradient. By default the end of each sequence,
            -1. A model with one output a sequence: with ``reduce="last"`` the error arises at the
            end, and there is nothing to choose; with ``"mean"`` and ``"attention"`` some arises at
            every step, and the default is ``"all"``. ``"share"`` and ``"share_max"`` send no error
            back: with them all terms are zero.
        max_lag: the last lag with a term of its own, >= 0; what is further back is in ``rest``. By
            default all lags from 0 to that of the first step.
        options: `lengths` (N,), steps that count; `resets` (N, T), True where the state is set to
            zero before the step, which no error crosses; `state`, what the layers start from.

    Returns:
        The terms of each trained parameter of the recurrent layers, by its name in the model; of a
        weight that is computed from others the terms of its own, by its own name.

    Raises:
        TypeError: the model is none of these, or an argument is of another type.
        ValueError: an argument is out of range or does not fit; the model reads in both directions,
            or drops out units; the loss is no scalar.

    Cost: one forward and one backward pass for one step. For ``"all"`` a backward pass for each of
    the T steps, back to the start, or over max_lag + 1 steps: as many of them at once as fit into
    128 MB of float64. Memory: lags times the parameters for the result. With ``"all"``, ``rest`` is
    the whole gradient less the terms, so it is exact to the rounding of the whole.

    Source: see the module.

    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.Elman(2, 3, seed=0), 1, reduce="last", seed=1)
    >>> x, target = torch.ones(4, 50, 2), torch.zeros(4, 1)
    >>> found = gradient_by_lag(model, x, target, nn.functional.mse_loss, max_lag=20)
    >>> found.terms["layer.weight_hh"].shape, found.norms()["layer.bias"].shape
    (torch.Size([21, 3, 3]), torch.Size([21]))
    """
    whole = _checked(model, step, max_lag)
    run = ModelRun(model, Inputs(x, **options), "gradient_by_lag", joint=True)
    error = run.explicit(run.read(loss, target))
    steps = run.inputs.steps
    if whole != "all" and steps and not -steps <= whole < steps:
        raise ValueError(
            f"step: got {whole}, expected one of the {steps} steps of x: {-steps} to {steps - 1}"
        )
    lags = steps if max_lag is None else min(steps, max_lag + 1)
    sums = _Sums(run.model, run, error, lags)
    if whole != "all":
        at = run.at(whole).unsqueeze(-2)
        # None of the windows needs to begin before the first step.
        sums.add(at, int(at.max()) + 1 if at.numel() else 0)
        return ByLag(sums.terms, sums.rest)
    front = x.shape[:-2]
    window, size = lags, sums.copies(lags)
    for first in range(0, steps, size):
        at = torch.arange(first, min(first + size, steps), device=x.device)
        sums.add(at.unsqueeze(-1).expand(*front[:-1], -1, front[-1]), min(window, int(at[-1]) + 1))
    if lags < steps:
        total: dict[str, Tensor] = {}
        run.backward(error, EVERYTHING, total)
        sums.rest = {name: total[name] - terms.sum(0) for name, terms in sums.terms.items()}
    return ByLag(sums.terms, sums.rest)


def _checked(model: nn.Module, step: Any, max_lag: Any) -> Any:
    """Which step, after the arguments have been looked at."""
    if step != "all":
        check_optional("step", step, expected="a whole number, 'all'")
    check_optional("max_lag", max_lag, 0)
    reduce = reduction_of(model)
    if reduce == "last":
        if step not in (None, -1, "all"):
            raise ValueError(
                f"step: got {step}, but the model has one output a sequence (reduce='last'), whose "
                "error arises at the sequence's end; leave step out"
            )
        return -1
    if step is None:
        return -1 if reduce is None else "all"
    return step


class _Sums:
    """Terms by lag, summed over the steps whose errors are sent back.

    Args:
        model: the model.
        run: its forward pass.
        error: what the readout sends back to the top layer, (T, N, H).
        lags: how many lags have a term of their own.
    """

    def __init__(self, model: nn.Module, run: ModelRun, error: Tensor, lags: int) -> None:
        self.model, self.run, self.error, self.lags = model, run, error, lags
        self.terms: dict[str, Tensor] = {}
        self.rest: dict[str, Tensor] = {}
        for layer_run in run.layers:
            for name in names_in(model, layer_run.layer).values():
                parameter = model.get_parameter(name)
                self.terms[name] = parameter.new_zeros((lags, *parameter.shape))
                self.rest[name] = torch.zeros_like(parameter).detach()

    def copies(self, window: int) -> int:
        """How many steps' errors can be sent back at once, each over a window of steps."""
        sequences, numbers = self.error[:1, ..., 0].numel(), 0
        for layer_run in self.run.layers:
            recurrence = layer_run.layer.recurrence
            wide = len(recurrence.partials) + 2 * len(recurrence.gates) + 4 * len(recurrence.states)
            numbers += wide * layer_run.layer.hidden_size + layer_run.layer.input_size
        return max(1, AT_ONCE // max(1, numbers * sequences * window))

    def add(self, at: Tensor, window: int) -> None:
        """Add the terms of the errors of some steps.

        Args:
            at: (B, N), for each of B copies and each sequence the step whose error is sent back;
                below 0, or in the padding, there is none.
            window: how many steps it is sent back, the step itself included.
        """
        steps = self.run.inputs.steps
        if not at.numel() or window < 1:
            return
        copies = at.shape[-2]
        at = at.flatten(-2)  # (M,): a sequence of its own for each copy of each sequence
        back = torch.arange(window - 1, -1, -1, device=at.device)
        # The windows end with the step, so that equal lags lie side by side.
        times = at - back.view(-1, *[1] * at.dim())  # (window, M)
        there = (times >= 0).unsqueeze(-1)
        index = _Index(times, steps, copies)
        layers = [_window(layer_run, index) for layer_run in self.run.layers]
        d_output = torch.zeros_like(layers[-1].output)
        d_output[-1] = index.take(self.error)[-1]
        send_back(layers, d_output, STATES_ONLY)
        for layer_run in layers:
            layer_run.deltas = [delta.masked_fill(~there, 0.0) for delta in layer_run.deltas]
            self._add_layer(layer_run, window)

    def _add_layer(self, layer_run: LayerRun, window: int) -> None:
        kept = min(self.lags, window)
        parts = _immediate(layer_run, slice(window - kept, window))
        terms: dict[str, Tensor] = {}
        add_by_name(self.model, layer_run.layer, parts, terms)
        for name, part in terms.items():
            self.terms[name][:kept] += part.flip(0)
        numbers = len(layer_run.step.recurrence.partials) * layer_run.drive[:1].numel()
        size = max(1, AT_ONCE // max(1, numbers))
        for first in range(0, window - kept, size):
            block, beyond = slice(first, min(first + size, window - kept)), {}
            parts = _immediate(layer_run, block, summed=True)
            add_by_name(self.model, layer_run.layer, parts, beyond)
            for name, part in beyond.items():
                self.rest[name] += part.squeeze(0)


class _Index:
    """Which steps of which sequences the windows are made of.

    Args:
        times: (window, M), or (window, R, M), the step of each place in each window. What is before
            the first step or after the last is filled with what is there, and means nothing.
        steps: T.
        copies: how many windows each sequence has; they come copy by copy.
    """

    def __init__(self, times: Tensor, steps: int, copies: int) -> None:
        self.times = times.clamp(0, steps - 1)
        # The state after a step; it is the one before the next.
        self.visited = torch.cat([times[:1], times + 1]).clamp(0, steps)
        batch, device = times.shape[-1] // copies, times.device
        self.rows: tuple[Tensor, ...] = (torch.arange(batch, device=device).repeat(copies),)
        if times.dim() == 3:
            replicas = torch.arange(times.shape[1], device=device).unsqueeze(-1)
            self.rows = (replicas, *self.rows)

    def take(self, sequence: Tensor | None) -> Any:
        """(T, N, .) to (window, M, .); None stays None."""
        return None if sequence is None else sequence[(self.times, *self.rows)]

    def take_states(self, path: Tensor) -> Tensor:
        """(T + 1, N, .) to (window + 1, M, .): before the window's first step, after each step."""
        return path[(self.visited, *self.rows)]


def _window(layer_run: LayerRun, index: _Index) -> LayerRun:
    """A layer's pass over the windows."""
    whole = layer_run.schedule
    return replace(
        layer_run,
        x=index.take(layer_run.x),
        full_drive=index.take(layer_run.full_drive),
        schedule=Schedule(keep=index.take(whole.keep), clock=index.take(whole.clock)),
        states=[index.take_states(path) for path in layer_run.states],
        run=None,
    )


def _immediate(layer_run: LayerRun, block: slice, summed: bool = False) -> dict[str, Tensor]:
    r"""The immediate derivatives of some steps times the errors that arrived there.

    Args:
        layer_run: after its backward pass.
        block: which steps.
        summed: whether to add the steps.

    Returns:
        :math:`\delta_s\, \partial^+ s_s/\partial\theta` summed over the sequences, (steps, *shape),
        or (1, *shape), by the parameter's name in the layer.
    """
    layer, step = layer_run.layer, layer_run.step

    def rows(values: Tensor) -> Tensor:
        """(steps, N, .) as they are; or all steps as sequences of one step, (1, steps N, .)."""
        if not summed:
            return values
        return values.movedim(0, -3).flatten(-3, -2).unsqueeze(0)

    with torch.no_grad():
        deltas = [delta[block] for delta in layer_run.deltas]
        partials = layer_run.partials(block)
        d_drives = layer_run.by_drives(partials, deltas)
        d_input = rows(step.by_gate(d_drives))
        gradients = {"weight_ih": d_input.mT @ rows(layer_run.x[block])}
        if layer.bias is not None:
            gradients["bias"] = d_input.sum(-2)
        if layer.weight_hh is not None:
            blocks = [
                rows(step.reached(d_drives, product.gates)).mT
                @ rows(layer_run.reads(product, block))
                for product in step.products
            ]
            by_row = step.by_row(blocks, layer.entries)
            assert by_row is not None
            gradients["weight_hh"] = by_row
        units = [
            rows(layer_run.by_symbol(partials, deltas, symbol)).sum(-2)
            for symbol in layer.recurrence.unit_symbols
        ]
    return gradients | layer_run.by_unit(units)
