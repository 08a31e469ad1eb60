"""How far back a network remembers, measured and explained: the report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from longlag.arguments import check_optional
from longlag.gradients.method import Loss
from longlag.layers import Embedded, Recurrent, RecurrentModule, SequenceModel
from longlag.layers.composition import TorchRecurrent, reduction_of
from longlag.layers.evaluation import evaluation_mode
from longlag.layers.inputs import Inputs
from longlag.memory.measures.directions import reads_back_inside, recurrent_of
from longlag.memory.measures.modules import reader_of
from longlag.memory.measures.norms import jacobian_norms
from longlag.memory.measures.parts import parts_of
from longlag.memory.measures.spectra import facts_by_layer
from longlag.memory.measures.state_norms import state_norms, states_are_finite
from longlag.memory.report import html, plots
from longlag.memory.report.data import ReportData
from longlag.memory.report.json_data import json_data
from longlag.memory.report.numbers import numbers_of
from longlag.memory.report.sections import (
    followed_error,
    found_lag,
    largest_exponents,
    pasts_exchanged,
)
from longlag.memory.report.verdict import judge
from longlag.messages import count
from longlag.storage.atomic import atomic_write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MemoryReport(ReportData):
    """What :func:`memory_report` finds; prints as its verdict; a notebook displays it.

    Attributes:
        name: of the network, for titles.
        description: the network in one line.
        sequences, steps: N and T of what it read.
        lag: of the task, in steps; None where it is not known.
        fraction: what the horizon asks for.
        jacobian_norms: of the states by lag; a `Directions` of such for a bidirectional module.
        flow: the error of one step on its way back.
        of_loss: whether that is the error of a loss, or a random one.
        facts: by layer, what its recurrent matrices alone say.
        lyapunov: the greatest exponents, a `Directions` of such for a bidirectional module; None
            where there are too few steps, or resets.
        exchange: how far the output depends on the past, by exchanging it between sequences; None
            for both directions, with resets, and where there are no two sequences.
        states: norms of the output by step, as it is and without the nonlinearity.
        task_lag: the lag of the task as it was found; None where it was given, or not looked for.
        verdict: all that in words, with advice.
    """

    def __str__(self) -> str:
        return f"{self.name}: {self.description}\n{self.verdict}"

    def __repr__(self) -> str:
        return f"<MemoryReport of {self.name}: {self.verdict.headline}>"

    def _repr_html_(self) -> str:
        return html.fragment({self.name: self})

    def plot(self) -> "Figure":
        """All figures on one sheet; see :mod:`longlag.memory.report.plots` for each."""
        return plots.sheet(self)

    def to_html(self, path: str | Path) -> None:
        """One page with everything in it: no network, no scripts; prints well, light and dark.

        Args:
            path: the file; replaced if it is there, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        html.write({self.name: self}, path)

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON data; what is infinite or not a number is None."""
        return json_data(self)

    def to_json(self, path: str | Path) -> None:
        """Write :meth:`to_dict` to a file; arguments and errors as for :meth:`to_html`."""
        atomic_write_text(Path(path), json.dumps(self.to_dict(), indent=1) + "\n")


def memory_report(
    model: nn.Module,
    x: Tensor,
    target: Tensor | None = None,
    loss: str | Loss | None = None,
    *,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    state: Any = None,
    lag: int | None = None,
    step: int | None = None,
    fraction: float = 0.01,
    sample: int | None = None,
    exponents: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> MemoryReport:
    r"""Measure how far back a network remembers on given sequences, and say what it means.

    All is exact, at every lag: norms of :math:`\partial s_t / \partial s_{t-k}`
    (:func:`~longlag.memory.jacobian_norms`), the way of the error
    :math:`\partial E_t / \partial s_{t-k}` (:func:`~longlag.memory.error_flow`), bounds from the
    weights (:func:`~longlag.memory.spectral_facts`), Lyapunov exponents and the size of the states.
    The network is looked at without dropout; it is not changed.

    Args:
        model: a recurrent layer, a stack, a bidirectional module, a `SequenceModel` around one, or
            a torch.nn.RNN, LSTM or GRU. For such modules inside a model of yours see `ll.watch`.
        x: (N, T, C), typical sequences; the interval of the horizon says whether they are enough.
        target, loss: whose error is followed, as for `ll.fit`. Without a target, and where its
            error is exactly zero, it is a random error at the output.
        lengths: (N,), steps that count; `resets` (N, T), True where the state is set to zero before
            the step; `state`, what the model starts from.
        lag: how far back the task needs to see, in steps; the verdict compares the horizon with it.
            By default it is found by :func:`~longlag.memory.task_lag`, where the network has learnt
            enough to tell it; else the verdict compares with the whole sequence.
            It should not be longer: beyond the steps seen nothing can be told.
        step: whose step's error is followed, as for `error_flow`; by default the last one at which
            the target has an error due.
        fraction: in (0, 1): the horizon is where the error is below so much of that at lag 0.
        sample: chains whose Jacobians are multiplied out, see `jacobian_norms`; 16 by default.
        exponents: how many Lyapunov exponents to find; 8 by default; 0: none.
        seed: for what is drawn: chains, and the random error.
        name: of the network, for titles; by default the type of its layer.

    Returns:
        The report: numbers, verdict, figures, page.

    Raises:
        TypeError: the model is none of these; an argument is of another type or dtype.
        ValueError: an argument is out of range or does not fit; the model has replicas; a module of
            torch.nn has ``batch_first=False``.

    Of layers that read in both directions on one another, the Jacobians, exponents and the horizon
    are of the first, which reads x, and the error is that of the last step at which it has one.

    Cost: for N = 32, T = 1000 and an LSTM with H = 128 seconds; see the functions named above.

    >>> import torch
    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.Elman(3, 16, seed=0), 2, seed=1)
    >>> report = memory_report(model, torch.randn(4, 60, 3, generator=torch.manual_seed(0)), lag=50)
    >>> report.verdict.kind, 5 < report.horizon < 40
    ('vanishes', True)
    """
    check_optional("lag", lag, 1)
    check_optional("exponents", exponents, 0)
    check_optional("step", step)
    if not isinstance(fraction, int | float) or not 0 < fraction < 1:
        raise ValueError(f"fraction: got {fraction!r}, expected a number between 0 and 1")
    model, x = _behind_vectors(_taken(model), x)
    recurrent = recurrent_of(model)
    if getattr(recurrent, "replicas", None) is not None:
        raise ValueError(
            f"model: has {recurrent.replicas} replicas, and a report is of one network; "
            "build the same model with replicas=None and copy one replica's weights into it"
        )
    inputs = Inputs(x, lengths, resets, state).checked()
    _check_there(inputs)
    with evaluation_mode(model):
        # Of layers that read both ways on one another only the first has a past of its own.
        reading, own = _reading_x(model, inputs)
        norms = jacobian_norms(reading, x, sample=sample, seed=seed, **own.options)
        flow, of_loss = followed_error(model, inputs, target, loss, step, seed)
        facts = facts_by_layer(recurrent)
        states = state_norms(model, x, **inputs.options)
        exchange = pasts_exchanged(model, recurrent, inputs, lag)
        finite = states_are_finite(reading, own) and all(
            bool(parameter.isfinite().all()) for parameter in model.parameters()
        )
        lyapunov = largest_exponents(recurrent_of(reading), own, exponents)
        found = found_lag(model, inputs, target, loss, step, lag)
    batch, steps = x.shape[:2]
    numbers = numbers_of(
        recurrent, steps=steps, lag=lag, fraction=fraction, flow=flow, of_loss=of_loss,
        facts=facts, lyapunov=lyapunov, exchange=exchange, finite=finite,
        found=found, reads=reduction_of(model),
    )  # fmt: skip
    return MemoryReport(
        name=type(recurrent).__name__ if name is None else name, description=_describe(model),
        sequences=batch, steps=steps, lag=lag, fraction=fraction, jacobian_norms=norms, flow=flow,
        of_loss=of_loss, facts=facts, lyapunov=lyapunov, exchange=exchange, states=states,
        task_lag=found, verdict=judge(numbers),
    )  # fmt: skip


def _reading_x(model: nn.Module, inputs: Inputs) -> tuple[nn.Module, Inputs]:
    """What is measured as a whole: the model, or the part of it that reads x."""
    recurrent = recurrent_of(model)
    if not reads_back_inside(recurrent):
        return model, inputs
    assert isinstance(recurrent, RecurrentModule)
    first = parts_of(recurrent, inputs, None)[0]
    return first.layer, first.inputs


def _check_there(inputs: Inputs) -> None:
    x, lengths = inputs.x, inputs.lengths
    if x.dim() != 3 or 0 in x.shape[:2]:
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected (N, T, C) with N, T >= 1")
    if lengths is not None and not bool((lengths > 0).any()):
        raise ValueError("lengths: all are 0; expected a sequence that has a step")


def _taken(model: nn.Module) -> nn.Module:
    if isinstance(model, nn.RNNBase):
        TorchRecurrent(model)  # which refuses (T, N, C)
        return reader_of("model", model)  # a copy; what it draws leaves the global generator alone
    if isinstance(model, SequenceModel | RecurrentModule):
        return model
    if isinstance(model, nn.Module) and any(
        isinstance(module, nn.RNNBase | RecurrentModule) for module in model.modules()
    ):
        raise TypeError(
            f"model: got {type(model).__name__}, which holds recurrent modules among others; use "
            "watch = ll.watch(model), call the model, then watch.report()"
        )
    raise TypeError(
        f"model: got {type(model).__name__}, expected a recurrent module of longlag, a "
        "ll.SequenceModel, or a torch.nn.RNN, LSTM or GRU"
    )


def _behind_vectors(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """What reads the vectors of categories, and x with these; other models and x as they are."""
    layer = recurrent_of(model)
    if not isinstance(layer, Embedded):
        return model, x
    x = layer.embed(x).detach()
    if isinstance(model, SequenceModel):
        return SequenceModel(layer.inner, readout=model.readout, reduce=model.reduce), x
    return layer.inner, x


_OUTPUTS = {
    None: "at every step",
    "last": "at the last step",
    "mean": "from the mean over the steps",
    "attention": "from a weighted mean over the steps",
    "share": "from the share of the steps at which each unit is above 0",
    "share_max": "from each unit's share of steps above 0, or its greatest value",
}
"""Where a model's outputs come from, by how it reduces the steps."""


def _describe(model: nn.Module) -> str:
    layer = recurrent_of(model)
    weights = sum(parameter.numel() for parameter in model.parameters())
    inner = [
        f"{type(part).__name__}({part.extra_repr()})"
        for part in layer.modules()
        if isinstance(part, Recurrent)
    ]
    within = "" if isinstance(layer, Recurrent) else f"{type(layer).__name__} of "
    parts = [within + ", ".join(inner)]
    if isinstance(model, SequenceModel):
        parts.append(f"{count(model.output_size, 'output')} {_OUTPUTS[model.reduce]}")
    return f"{', '.join(parts)}; {weights:,} weights"
