"""The curves of a report, each a function of a report and axes."""

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from longlag.memory.measures.directions import by_direction
from longlag.memory.measures.exchange import PastEffects
from longlag.memory.measures.flow import LayerFlow, entrances
from longlag.memory.measures.lyapunov import LyapunovSpectrum
from longlag.memory.measures.norms import JacobianNorms
from longlag.memory.report import style
from longlag.memory.report.data import ReportData
from longlag.memory.report.numbers import furthest

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def entrance(report: ReportData) -> LayerFlow:
    """The layer that reads x, of both directions the one that sees further."""
    return furthest(entrances(report.flow), report.fraction)


def draw_norms(report: ReportData, axes: "Axes") -> None:
    """Singular values of the products of Jacobians by lag, and the bound."""
    by_name = by_direction(report.jacobian_norms)
    shown = []
    for number, (name, norms) in enumerate(by_name.items()):
        shown.append(
            _singular_values(axes, norms, f"{name}: " if name else "", style.colour(2 * number))
        )
    bound = _bound(report)
    if bound is not None:
        (facts,), (norms,) = report.facts.values(), by_name.values()
        label = r"bound $(\gamma\,\Vert W\Vert)^k$" if len(facts.matrices) == 1 else "bound"
        decades = bound / math.log(10)
        axes.plot(norms.lags, decades, "--", color=style.SERIES[1], linewidth=1.2, label=label)
        # Of the bound only what lies near the measured curve.
        top = max(np.nanmax(shown[0]), 0.0)
        shown.append(np.clip(decades, -style.DECADES, top + 6))
    style.mark_level(axes, report.fraction, logarithmic=True)
    style.mark_lag(axes, report.known_lag, found=report.lag is None)
    axes.set(xlabel="lag k, steps", ylabel=r"$\log_{10} \Vert\partial s_t/\partial s_{t-k}\Vert$")
    style.limit(axes, np.concatenate(shown), logarithmic=True)
    style.finish(axes)


def has_bound(report: ReportData) -> bool:
    """Whether a bound of the weights is drawn beside the singular values."""
    return _bound(report) is not None


def _bound(report: ReportData) -> np.ndarray | None:
    facts, norms = list(report.facts.values()), list(by_direction(report.jacobian_norms).values())
    if len(facts) != 1 or facts[0].step_bound is None:
        return None
    bound = facts[0].log_bound(norms[0].lags.double())
    return None if bound is None or not bool(bound.isfinite().all()) else bound.numpy()


def _singular_values(axes: "Axes", norms: JacobianNorms, of: str, ink: str) -> np.ndarray:
    lags = norms.lags.double().numpy()
    low, middle, high = _decades(norms.largest.quantiles.numpy())
    axes.fill_between(lags, low, high, color=ink, alpha=0.18, linewidth=0)
    label = f"{of}largest singular value" + ("" if norms.exact else " (at least)")
    axes.plot(lags, middle, color=ink, linewidth=1.6, label=label)
    if norms.smallest is not None:
        least = _decades(norms.smallest.quantiles.numpy())[1]
        if np.isfinite(least[1:]).any():
            axes.plot(lags, least, ":", color=ink, linewidth=1.2, label=f"{of}smallest")
    return np.concatenate([middle, high])


def _decades(logs: np.ndarray) -> np.ndarray:
    """From natural logarithms to those of base 10; what is zero is left out."""
    return np.where(np.isfinite(logs), logs, np.nan) / math.log(10)


def draw_flow(report: ReportData, axes: "Axes") -> None:
    """The error of each layer by lag, and what exchanging the past changes."""
    many = len(report.flow.layers) > 1
    layers = [(f"error{f' in {one.layer}' * many}", one) for one in report.flow.layers]
    axes.axhline(layers[0][1].precision, color=style.FAINT, linewidth=1, linestyle=":")
    draw_decays(report, axes, layers, report.exchange)


def draw_decays(
    report: ReportData,
    axes: "Axes",
    layers: Sequence[tuple[str, LayerFlow]],
    exchange: PastEffects | None = None,
) -> None:
    """The error of named layers by lag; fraction and lag of the task are those of a report."""
    # `limit` follows; a logarithmic axis could find no limits where no number is finite.
    axes.set_ylim(1e-3, 1.0)
    shown = []
    for number, (name, layer) in enumerate(layers):
        low, curve, high = (
            np.where((one > 0) & np.isfinite(one), one, np.nan) for one in relative_error(layer)
        )
        lags, ink = np.arange(len(curve)), style.colour(number)
        axes.semilogy(lags, curve, color=ink, linewidth=1.6, label=name)
        if number == 0:
            axes.fill_between(lags, low, high, color=ink, alpha=0.15, linewidth=0)
        shown.append(curve)
    if exchange is not None:
        effects = np.where(exchange.effects > 0, exchange.effects, np.nan)
        axes.plot(
            exchange.lags, effects, "o", color=style.colour(len(layers)), markersize=4,
            label="past exchanged",
        )  # fmt: skip
        shown.append(effects)
    style.mark_level(axes, report.fraction)
    style.mark_lag(axes, report.known_lag, found=report.lag is None)
    axes.set(xlabel="lag, steps", ylabel="error, of that at lag 0")
    style.limit(axes, np.concatenate(shown))
    style.finish(axes)


def relative_error(layer: LayerFlow) -> np.ndarray:
    """(3, L), the error by lag over that at lag 0: of the sequences that are so long, the 10 %
    quantile, the median and the 90 % quantile."""
    assert layer.by_sequence is not None
    assert layer.seen is not None
    curves, seen = layer.by_sequence.double().numpy(), layer.seen.numpy()
    counts = (seen > 0) & ~(curves[:, 0] == 0)
    lags = np.arange(curves.shape[1])
    if not counts.any():
        return np.full((3, len(lags)), np.nan)
    curves = curves[counts] / curves[counts, :1]
    curves = np.where(lags < seen[counts, None], curves, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # lags that no sequence has
        return np.nanquantile(curves, (0.1, 0.5, 0.9), axis=0)


def shares_of(report: ReportData) -> list[tuple[str, Tensor]]:
    """Each parameter that has a gradient, and the share of every lag in it."""
    return [
        (name.removeprefix("layer."), share)
        for layer in entrances(report.flow)
        for name, share in layer.shares().items()
        if float(share.sum()) > 0
    ]


def draw_shares(report: ReportData, axes: "Axes") -> None:
    """How much of the gradient of each parameter arises up to a lag."""
    for number, (name, share) in enumerate(shares_of(report)):
        total = share.double().cumsum(-1).numpy()
        axes.plot(np.arange(len(total)), total, color=style.colour(number), label=name)
    axes.set(
        xlabel="up to lag, steps", ylabel="share of the gradient", xlim=(0, None), ylim=(0, 1.1)
    )
    axes.set_yticks(np.arange(0, 1.1, 0.2))
    style.mark_lag(axes, report.known_lag, found=report.lag is None)
    style.finish(axes)


def draw_units(report: ReportData, axes: "Axes") -> None:
    """The share of the units whose horizon lies beyond a lag."""
    layers = report.flow.layers
    for number, layer in enumerate(layers):
        horizons = np.sort(layer.unit_horizons(report.fraction).numpy())[::-1]
        seen = np.where(np.isfinite(horizons), horizons, report.steps)
        share = np.arange(1, len(seen) + 1) / len(seen)
        ink = style.colour(number)
        axes.step(seen, share, where="post", color=ink, label=layer.layer or "layer")
        beyond = int(np.isinf(horizons).sum())
        if beyond:
            axes.plot(report.steps, beyond / len(seen), ">", color=ink)
    style.mark_lag(axes, report.known_lag, found=report.lag is None)
    axes.set(xlabel="horizon, steps", ylabel="share of units that reach it", ylim=(0, 1.05))
    axes.set_xlim(left=0)
    style.finish(axes, legend=len(layers) > 1)


def any_unit_beyond(report: ReportData) -> bool:
    """Whether some unit's horizon is beyond the steps seen."""
    layers = report.flow.layers
    return any(bool(one.unit_horizons(report.fraction).isinf().any()) for one in layers)


def spectra_of(report: ReportData) -> dict[str, LyapunovSpectrum]:
    """The Lyapunov spectra by direction; empty where there is none."""
    return {} if report.lyapunov is None else by_direction(report.lyapunov)


def draw_exponents(report: ReportData, axes: "Axes") -> None:
    """The largest Lyapunov exponents, with two standard errors."""
    spectra = spectra_of(report)
    for number, (name, spectrum) in enumerate(spectra.items()):
        values, error = spectrum.exponents.numpy(), spectrum.error.numpy()
        values = np.where(np.isfinite(values), values, np.nan)
        at = np.arange(1, len(values) + 1) + 0.12 * number
        axes.errorbar(
            at, values, yerr=np.nan_to_num(2 * error), fmt="o", markersize=5, capsize=3,
            color=style.SERIES[number], label=name or None,
        )  # fmt: skip
    axes.axhline(0.0, color=style.INK, linewidth=0.8)
    axes.set(xlabel="exponent", ylabel="per step")
    axes.set_xticks(range(1, 1 + max(len(spectrum.exponents) for spectrum in spectra.values())))
    style.finish(axes, legend=len(spectra) > 1)


def draw_states(report: ReportData, axes: "Axes") -> None:
    """The norm of the state by step, as it is and without the nonlinearity."""
    steps = np.arange(1, report.steps + 1)
    kinds = (("as it is", report.states.norms, style.SERIES[0], "-"),
             ("without the nonlinearity", report.states.linear, style.SERIES[1], "--"))  # fmt: skip
    known = np.zeros(0)
    for label, norms, ink, line in kinds:
        if norms is None:
            continue
        middle = norms.double().nanmedian(-2).values.numpy()
        # Beyond the figure, but not so far that its scale overflows.
        middle = np.where(np.isfinite(middle), np.minimum(middle, 1e40), np.nan)
        axes.plot(steps, middle, line, color=ink, linewidth=1.4, label=label)
        known = np.concatenate([known, middle[np.isfinite(middle)]])
    if len(known) and known.min() > 0 and known.max() / known.min() > 50:
        axes.set_yscale("log")
        axes.set_ylim(top=min(known.max() * 2, 1e30))
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel="step t", ylabel=r"$\Vert h_t\Vert$, median")
    style.finish(axes, legend=report.states.linear is not None)
