"""How far back a network remembers, measured and explained: the report."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from longlag.gradients.layers import layers_in
from longlag.gradients.losses import due, resolve_loss
from longlag.gradients.method import Loss
from longlag.gradients.parts import map_tensors
from longlag.layers import RecurrentModule, SequenceModel
from longlag.memory.measures.calls import reader_of
from longlag.memory.measures.directions import (
    Directions,
    both_ways,
    by_way,
    reads_back_inside,
    recurrent_of,
)
from longlag.memory.measures.exchange import PastEffects, past_effects
from longlag.memory.measures.flow import ErrorFlow, LayerFlow, entrances, error_flow, product
from longlag.memory.measures.growth import StateNorms, state_norms
from longlag.memory.measures.horizon import horizon, spread
from longlag.memory.measures.lyapunov import LyapunovSpectrum, lyapunov_exponents
from longlag.memory.measures.norms import JacobianNorms, jacobian_norms
from longlag.memory.measures.spectra import SpectralFacts, spectral_facts
from longlag.memory.report.verdict import Numbers, Verdict, judge
from longlag.storage.atomic import atomic_write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MemoryReport", "memory_report"]

EXPONENTS = 8
"""Lyapunov exponents that are found where nothing is said."""

HELD = 0.1
"""What exchanging the past has to change where it is held, of the distance of two outputs."""

EXCHANGES = 12
"""Lags at which they are exchanged, beside the task's own."""

EXCHANGED = 16
"""Sequences between which pasts are exchanged."""

TRAJECTORIES = 4
"""Sequences along which they are found."""

FEWEST = 20
"""Steps below which they are not looked for."""


@dataclass(frozen=True)
class MemoryReport:
    """What :func:`memory_report` finds; prints as its verdict, and shows itself in a notebook.

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
        exchange: what the output owes to the past, found by exchanging it between sequences; None
            for both directions, with resets, and where there are no two sequences.
        states: norms of the output by step, as it is and without squashing.
        verdict: all that in words, with advice.
    """

    name: str
    description: str
    sequences: int
    steps: int
    lag: int | None
    fraction: float
    jacobian_norms: JacobianNorms | Directions[JacobianNorms]
    flow: ErrorFlow
    of_loss: bool
    facts: dict[str, SpectralFacts]
    lyapunov: LyapunovSpectrum | Directions[LyapunovSpectrum] | None
    exchange: PastEffects | None
    states: StateNorms
    verdict: Verdict

    @property
    def horizon(self) -> int | None:
        """The lag from which on the error is below ``fraction`` of that at lag 0, for good.

        That of the layer that reads x, through which all that is remembered of x has to go; of
        both directions the longer one. None where it is not within the steps seen.
        """
        return _longest([each.horizon(self.fraction) for each in entrances(self.flow)])

    def __str__(self) -> str:
        return f"{self.name}: {self.description}\n{self.verdict}"

    def __repr__(self) -> str:
        return f"<MemoryReport of {self.name}: {self.verdict.headline}>"

    def _repr_html_(self) -> str:
        from longlag.memory.report import html

        return html.fragment({self.name: self})

    def plot(self) -> "Figure":
        """All figures on one sheet; see :mod:`longlag.memory.report.plots` for each."""
        from longlag.memory.report import plots

        return plots.sheet(self)

    def to_html(self, path: str | Path) -> None:
        """One page with everything in it: no network, no scripts; prints well, light and dark.

        Args:
            path: the file; replaced if it is there, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        from longlag.memory.report import html

        html.write({self.name: self}, path)

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON data; what is infinite or not a number is None."""
        from longlag.memory.report.record import record

        return record(self)

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
        x: (N, T, C), a few typical sequences; 32 are plenty.
        target, loss: whose error is followed, as for `ll.fit`. Without a target, and where its
            error is exactly zero, it is a random error at the output.
        lengths: (N,), steps that count; `resets` (N, T), True where the state is set to zero before
            the step; `state`, what the model starts from.
        lag: how far back the task needs to see, in steps; the verdict compares the horizon with it.
            By default with the whole sequence.
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
        ValueError: an argument is out of range or does not fit; the model has replicas; a module
            inside a stack reads in both directions.

    Cost: for N = 32, T = 1000 and an LSTM with H = 128 seconds; see the functions named above.

    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.Elman(3, 16, seed=0), 2, seed=1)
    >>> report = memory_report(model, torch.randn(4, 60, 3, generator=torch.manual_seed(0)), lag=50)
    >>> report.verdict.kind, 5 < report.horizon < 40
    ('vanishes', True)
    """
    _check(lag, fraction, exponents, step)
    model = _taken(model)
    recurrent = recurrent_of(model)
    if getattr(recurrent, "replicas", None) is not None:
        raise ValueError(
            f"model: has {recurrent.replicas} replicas, and a report is of one network; "
            "build the same model with replicas=None and copy one replica's weights into it"
        )
    if reads_back_inside(recurrent):
        raise ValueError(
            "model: a module inside its stack reads in both directions, so that no layer above it "
            "has a past; expected one ll.Bidirectional around two stacks"
        )
    _check_there(x, lengths)
    modes = {each: each.training for each in model.modules()}
    model.eval()
    try:
        given = {"lengths": lengths, "resets": resets, "state": state}
        norms = jacobian_norms(model, x, sample=sample, seed=seed, **given)
        flow, of_loss = _flow(model, x, target, loss, step, seed, given)
        facts = _facts(recurrent)
        states = state_norms(model, x, **given)
        exchange = _exchange(model, recurrent, x, lengths, resets, state, lag)
        lyapunov = _lyapunov(recurrent, x, lengths, resets, state, exponents)
    finally:
        for each, mode in modes.items():
            each.training = mode
    finite = bool(states.norms.nan_to_num(nan=0.0).isfinite().all()) and all(
        bool(each.isfinite().all()) for each in model.parameters()
    )
    named = type(recurrent).__name__ if name is None else name
    numbers = _numbers(
        recurrent, x.shape[-2], lag, fraction, flow, facts, lyapunov, exchange, finite, of_loss
    )
    return MemoryReport(
        named, _describe(model), x.shape[-3], x.shape[-2], lag, fraction, norms, flow, of_loss,
        facts, lyapunov, exchange, states, judge(numbers),
    )  # fmt: skip


def _check(lag: Any, fraction: Any, exponents: Any, step: Any) -> None:
    for name, value, least in (("lag", lag, 1), ("exponents", exponents, 0)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: got {value!r}, expected a whole number >= {least}, or None")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
        raise TypeError(f"step: got {step!r}, expected a whole number, or None")
    if not isinstance(fraction, int | float) or not 0 < fraction < 1:
        raise ValueError(f"fraction: got {fraction!r}, expected a number between 0 and 1")


def _check_there(x: Any, lengths: Any) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"x: got {type(x).__name__}, expected a torch.Tensor (N, T, C)")
    if x.dim() != 3 or 0 in x.shape[:2]:
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected (N, T, C) with N, T >= 1")
    if lengths is not None and not bool((torch.as_tensor(lengths) > 0).any()):
        raise ValueError("lengths: all are 0; expected a sequence that has a step")


def _taken(model: nn.Module) -> nn.Module:
    if isinstance(model, nn.RNNBase):
        return reader_of("model", model)  # a copy; what it draws leaves the global generator alone
    if isinstance(model, SequenceModel | RecurrentModule):
        return model
    if isinstance(model, nn.Module) and any(
        isinstance(each, nn.RNNBase | RecurrentModule) for each in model.modules()
    ):
        raise TypeError(
            f"model: got {type(model).__name__}, which holds recurrent modules among others; use "
            "watch = ll.watch(model), call the model, then watch.report()"
        )
    raise TypeError(
        f"model: got {type(model).__name__}, expected a recurrent module of longlag, a "
        "ll.SequenceModel, or a torch.nn.RNN, LSTM or GRU"
    )


def _flow(
    model: nn.Module, x: Tensor, target: Tensor | None, loss: str | Loss | None,
    step: int | None, seed: int, given: dict[str, Any],
) -> tuple[ErrorFlow, bool]:  # fmt: skip
    if target is None and loss is not None:
        raise ValueError("target: got None, and a loss; expected both, or neither")
    if target is not None:
        target = torch.as_tensor(target, device=x.device)
        _, function = resolve_loss(loss, target)
        last = _last_due(model, target, x, given["lengths"]) if step is None else step
        if last is not None:
            flow = error_flow(model, x, target, function, step=last, **given)
            if any(each.by_lag is not None and bool(each.by_lag[0] != 0) for each in flow.layers):
                return flow, True
    function, like = _random_error(model, x, seed, given)
    last = -1 if step is None else step
    return error_flow(model, x, like, function, step=last, **given), False


def _last_due(model: nn.Module, target: Tensor, x: Tensor, lengths: Any) -> int | None:
    """The last step at which an error is due somewhere, counted as `error_flow` does."""
    if getattr(model, "reduce", None) is not None or target.dim() < 2:
        return -1
    there = due(target)
    if there.dim() > 2:
        there = there.flatten(2).any(-1)
    if there.shape != x.shape[:-1] or not bool(there.any()):
        return -1 if there.shape != x.shape[:-1] else None
    steps = x.shape[-2]
    ends = torch.full_like(there[:, 0].long(), steps)
    if lengths is not None:
        ends = torch.as_tensor(lengths, device=x.device).long().clamp(max=steps)
    # From each sequence's own end: the same place in all that have one, or the nearest.
    at = torch.arange(steps, device=x.device)
    back = (ends.unsqueeze(-1) - at).masked_fill(~there | (at >= ends.unsqueeze(-1)), steps + 1)
    least = int(back.min())
    return None if least > steps else -least


def _random_error(
    model: nn.Module, x: Tensor, seed: int, given: dict[str, Any]
) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    """A loss whose error is a standard normal one at every output."""
    output = model(x, given["state"], lengths=given["lengths"], resets=given["resets"])
    output = output[0] if isinstance(output, tuple) else output
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return product, drawn.to(output)


def _facts(recurrent: nn.Module) -> dict[str, SpectralFacts]:
    found = {}
    if hasattr(recurrent, "backward_layer"):
        parts = [(f"{way}_layer", getattr(recurrent, f"{way}_layer"))
                 for way in ("forward", "backward")]  # fmt: skip
    else:
        parts = [("", recurrent)]
    for prefix, part in parts:
        for name, layer, _ in layers_in(part, prefix, None, "memory_report"):
            found[name] = spectral_facts(layer)  # pyright: ignore[reportArgumentType]
    return found


def _lyapunov(
    recurrent: nn.Module, x: Tensor, lengths: Any, resets: Any, state: Any, count: int | None
) -> LyapunovSpectrum | Directions[LyapunovSpectrum] | None:
    if resets is not None or count == 0 or x.shape[-2] < FEWEST or not len(x):
        return None
    some = slice(TRAJECTORIES)
    lengths = None if lengths is None else torch.as_tensor(lengths, device=x.device)[some]
    readings = both_ways(recurrent, x[some], lengths, None, _some(state, some))
    wanted = EXPONENTS if count is None else count
    if readings is None:
        return _exponents(recurrent, x[some], lengths, _some(state, some), wanted)
    found = [_exponents(r.layer, r.x, r.lengths, r.state, wanted) for r in readings]
    return None if None in found else Directions(*found)  # pyright: ignore[reportReturnType]


def _exchange(
    model: nn.Module, recurrent: nn.Module, x: Tensor, lengths: Any, resets: Any, state: Any,
    lag: int | None,
) -> PastEffects | None:  # fmt: skip
    if resets is not None or any(hasattr(each, "backward_layer") for each in recurrent.modules()):
        return None
    some = slice(EXCHANGED)
    x, state = x[some], _some(state, some)
    lengths = None if lengths is None else torch.as_tensor(lengths, device=x.device)[some]
    longest = x.shape[-2] if lengths is None or not len(lengths) else int(lengths.max())
    if len(x) < 2 or longest < 2:
        return None
    lags = spread(longest - 1, EXCHANGES)
    if lag is not None and lag < longest:
        lags.append(lag)
    return past_effects(model, x, lengths=lengths, state=state, lags=lags)


def _exponents(
    layer: nn.Module, x: Tensor, lengths: Tensor | None, state: Any, wanted: int
) -> LyapunovSpectrum | None:
    discard = x.shape[-2] // 10
    if lengths is not None and int(lengths.max()) <= discard + 1:
        return None
    size = sum(
        each.hidden_size * len(each.recurrence.states)
        for _, each, _ in layers_in(layer, "", None, "memory_report")
    )
    return lyapunov_exponents(
        layer, x, min(wanted, size), state=state, discard=discard, lengths=lengths
    )


def _some(state: Any, rows: slice) -> Any:
    """The state of some of the sequences."""
    return map_tensors(state, lambda part: part[rows])


def _longest(horizons: list[int | None]) -> int | None:
    known = [each for each in horizons if each is not None]
    return max(known) if len(known) == len(horizons) and known else None


def _numbers(
    recurrent: nn.Module, steps: int, lag: int | None, fraction: float, flow: ErrorFlow,
    facts: dict[str, SpectralFacts], lyapunov: Any, exchange: PastEffects | None, finite: bool,
    of_loss: bool,
) -> Numbers:  # fmt: skip
    found_at = entrances(flow)
    curves = [each.by_lag.double() for each in found_at if each.by_lag is not None]
    horizons = [horizon(curve, fraction) for curve in curves]
    found = _longest(horizons)
    curve = curves[horizons.index(found)] if found in horizons else curves[0]
    logs = (curve / curve[0]).log()
    rate = math.nan
    if found is not None and found > 0:
        rate = float(logs[found]) / found
        rate = math.log(fraction) / found if not math.isfinite(rate) else rate
    growth = max((float(each) for each in logs if not math.isnan(each)), default=0.0)
    units, carriers = _carriers(found_at, steps if lag is None else lag)
    spectra = [] if lyapunov is None else by_way(lyapunov).values()
    leading = max(((float(s.exponents[0]), float(s.error[0])) for s in spectra), default=None)
    if leading is not None and not math.isfinite(leading[0]):
        leading = None
    return Numbers(
        layer=recurrent, steps=steps, lag=lag, fraction=fraction, horizon=found,
        noise=_longest([horizon(c, e.precision) for c, e in zip(curves, found_at, strict=True)]),
        by_layer={each.layer or "layer": each.horizon(fraction) for each in flow.layers},
        rate=rate, growth=growth, facts=facts, half=_half(flow), units=units, carriers=carriers,
        held=None if exchange is None else exchange.reach(HELD),
        exponent=leading, finite=finite,
        of_loss=of_loss,
    )  # fmt: skip


def _carriers(layers: list[LayerFlow], lag: int) -> tuple[int, int]:
    """How many units there are, and the fewest that hold half of what is left at a lag."""
    rows = [each.by_unit for each in layers if each.by_unit is not None]
    squares = torch.cat([row[min(lag, len(row) - 1)].double().square() for row in rows])
    total = float(squares.sum())
    if not total > 0:
        return len(squares), 0
    held = squares.sort(descending=True).values.cumsum(0)
    return len(squares), int((held < 0.5 * total).sum()) + 1


def _half(flow: ErrorFlow) -> int | None:
    """The lag up to which half of what the recurrent weights get arises; None without such."""
    for each in entrances(flow):
        for name, share in each.shares().items():
            if "weight_hh" in name and float(share.sum()) > 0:
                return int((share.cumsum(-1) < 0.5).sum())
    return None


def _describe(model: nn.Module) -> str:
    layer = recurrent_of(model)
    count = sum(each.numel() for each in model.parameters())
    parts = [type(layer).__name__]
    if hasattr(layer, "extra_repr") and layer.extra_repr():
        parts = [f"{parts[0]}({layer.extra_repr()})"]
    elif len(list(layer.children())) > 1:
        inner = ", ".join(
            f"{type(each).__name__}({each.extra_repr()})"
            for each in layer.modules()
            if hasattr(each, "recurrence")
        )
        parts = [f"{parts[0]} of {inner}"]
    if isinstance(model, SequenceModel):
        at = {None: "every step", "last": "the last step", "mean": "the mean"}[model.reduce]
        parts.append(f"{model.output_size} outputs at {at}")
    return f"{', '.join(parts)}; {count:,} weights"
