"""The figures of a report. Each is a function of a report and axes; `PANELS` names them all."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from longlag.memory.measures.directions import by_way
from longlag.memory.measures.flow import LayerFlow, entrances
from longlag.memory.measures.lyapunov import LyapunovSpectrum
from longlag.memory.measures.norms import JacobianNorms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from longlag.memory.report.report import MemoryReport

__all__ = ["GRID", "INK", "PANELS", "Panel", "draw", "overlay", "sheet"]

INK, GRID, FAINT = "#14171c", "#d8dce2", "#8a8f98"
"""Colours of text, grid and what is secondary; `report/html.py` puts those of the page in."""

SERIES = ("#2f7de1", "#e0762f", "#2f9e6e", "#9467d8", "#c2417c")
FLOOR = -4.0
"""Powers of ten below which the drawing of the unrolled network makes no difference."""

DECADES = 30.0
"""Curves are cut off so many powers of ten below their top: they would flatten all else."""

WIDEST = 60
"""Characters of a name that a figure shows."""


class Panel(NamedTuple):
    """One figure.

    Attributes:
        title: in one line.
        caption: what is seen.
        draw: draws a report into axes.
        there: whether the report has what it needs.
        size: width and height in inches.
    """

    title: str
    caption: str
    draw: "Callable[[MemoryReport, Axes], None]"
    there: "Callable[[MemoryReport], bool]"
    size: tuple[float, float] = (5.6, 3.4)


def draw(report: "MemoryReport", name: str) -> "Figure":
    """One of `PANELS` as a figure of its own.

    Raises:
        ValueError: there is none of that name, or the report has not what it needs.
    """
    if name not in PANELS or not PANELS[name].there(report):
        there = [each for each, panel in PANELS.items() if panel.there(report)]
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(there)}")
    from matplotlib.figure import Figure

    panel = PANELS[name]
    figure = Figure(figsize=panel.size, layout="constrained")
    panel.draw(report, figure.subplots())
    return figure


def sheet(report: "MemoryReport") -> "Figure":
    """All panels that the report has, the unrolled network on top."""
    from matplotlib.figure import Figure

    names = [name for name, panel in PANELS.items() if panel.there(report) and name != "unrolled"]
    rows = 1 + -(-len(names) // 2)
    figure = Figure(figsize=(11.5, 2.6 + 3.4 * (rows - 1)), layout="constrained")
    grid = figure.add_gridspec(rows, 2, height_ratios=[2.2, *[3.4] * (rows - 1)])
    PANELS["unrolled"].draw(report, figure.add_subplot(grid[0, :]))
    for number, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + number // 2, number % 2])
        PANELS[name].draw(report, axes)
        axes.set_title(PANELS[name].title, fontsize="medium", color=INK)
    title = f"{_words(report.name)}: {report.verdict.headline}"
    figure.suptitle(title, color=INK)
    return figure


def overlay(reports: "Mapping[str, MemoryReport]") -> "Figure":
    """The error by lag of several networks in one figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    axes = figure.subplots()
    tops = []
    for number, (name, report) in enumerate(reports.items()):
        each = _entrance(report)
        tops.append(_decay(axes, each, _words(name), SERIES[number % len(SERIES)]))
    first = next(iter(reports.values()))
    _marks(axes, first)
    axes.set(xlabel="lag, steps", ylabel="error, of that at lag 0")
    _finish(axes, np.concatenate(tops))
    return figure


def _words(name: str) -> str:
    """A name as matplotlib shows it: no mathematics, not hidden, not wider than the figure."""
    name = name if len(name) <= WIDEST else f"{name[: WIDEST - 1]}…"
    name = f" {name}" if name.startswith("_") else name
    return name.replace("$", r"\$")


def _entrance(report: "MemoryReport") -> LayerFlow:
    """The layer that reads x, of both directions the one that sees further."""
    found = entrances(report.flow)
    return max(found, key=lambda each: each.horizon(report.fraction) or math.inf)


def _norms(report: "MemoryReport", axes: "Axes") -> None:
    named = by_way(report.jacobian_norms)
    shown = []
    for number, (name, norms) in enumerate(named.items()):
        of = f"{name}: " if name else ""
        shown.append(_one_norm(axes, norms, of, SERIES[number * 2 % len(SERIES)]))
    facts = list(report.facts.values())
    if len(facts) == 1 and facts[0].step_bound is not None:
        (norms,) = named.values()
        lags = norms.lags.double()
        bound = facts[0].log_bound(lags)
        if bound is not None and bool(bound.isfinite().all()):
            label = r"bound $(\gamma\,\Vert W\Vert)^k$" if len(facts[0].matrices) == 1 else "bound"
            decades = bound.numpy() / math.log(10)
            axes.plot(lags, decades, "--", color=SERIES[1], linewidth=1.2, label=label)
            # Of the bound only what lies near the measured curve.
            top = max(np.nanmax(shown[0]), 0.0)
            shown.append(np.clip(decades, -DECADES, top + 6))
    _marks(axes, report, logarithmic=True)
    axes.set(xlabel="lag k, steps", ylabel=r"$\log_{10} \Vert\partial s_t/\partial s_{t-k}\Vert$")
    _finish(axes, np.concatenate(shown), logarithmic=True)


def _one_norm(axes: "Axes", norms: JacobianNorms, of: str, colour: str) -> np.ndarray:
    lags = norms.lags.double().numpy()
    low, middle, high = _decades(norms.largest.quantiles.numpy())
    axes.fill_between(lags, low, high, color=colour, alpha=0.18, linewidth=0)
    label = f"{of}largest singular value" + ("" if norms.exact else " (at least)")
    axes.plot(lags, middle, color=colour, linewidth=1.6, label=label)
    shown = [middle, high]
    if norms.smallest is not None:
        least = _decades(norms.smallest.quantiles.numpy())[1]
        if np.isfinite(least[1:]).any():
            axes.plot(lags, least, ":", color=colour, linewidth=1.2, label=f"{of}smallest")
    return np.concatenate(shown)


def _decades(logs: np.ndarray) -> np.ndarray:
    """From natural logarithms to those of base 10; what is zero is left out."""
    return np.where(np.isfinite(logs), logs, np.nan) / math.log(10)


def _flow(report: "MemoryReport", axes: "Axes") -> None:
    shown = []
    for number, each in enumerate(report.flow.layers):
        name = each.layer or "layer"
        shown.append(_decay(axes, each, name, SERIES[number % len(SERIES)]))
    shown.append(_exchanged(axes, report, SERIES[len(report.flow.layers) % len(SERIES)]))
    _marks(axes, report)
    axes.axhline(report.flow.layers[0].precision, color=FAINT, linewidth=1, linestyle=":")
    axes.set(xlabel="lag, steps", ylabel="error, of that at lag 0")
    _finish(axes, np.concatenate(shown))


def _exchanged(axes: "Axes", report: "MemoryReport", colour: str) -> np.ndarray:
    """What is left of the difference between two pasts, as points."""
    if report.exchange is None:
        return np.zeros(0)
    effects = report.exchange.effects.numpy()
    effects = np.where(effects > 0, effects, np.nan)
    axes.plot(
        report.exchange.lags, effects, "o", color=colour, markersize=4, label="past exchanged"
    )
    return effects


def _decay(axes: "Axes", each: LayerFlow, name: str, colour: str) -> np.ndarray:
    assert each.by_lag is not None
    curve = each.by_lag.double().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = curve / curve[0]
    curve = np.where((curve > 0) & np.isfinite(curve), curve, np.nan)
    # `_finish` sets the limits; a logarithmic axis could find none where no number is finite.
    axes.set_ylim(1e-3, 1.0)
    axes.semilogy(np.arange(len(curve)), curve, color=colour, linewidth=1.6, label=name)
    return curve


def _shares(report: "MemoryReport", axes: "Axes") -> None:
    number = 0
    for each in entrances(report.flow):
        for name, share in each.shares().items():
            if float(share.sum()) <= 0:
                continue
            total = share.double().cumsum(-1).numpy()
            short = name.removeprefix("layer.")
            colour = SERIES[number % len(SERIES)]
            axes.plot(np.arange(len(total)), total, color=colour, label=short)
            number += 1
    axes.set(
        xlabel="up to lag, steps", ylabel="share of the gradient", xlim=(0, None), ylim=(0, 1.1)
    )
    axes.set_yticks(np.arange(0, 1.1, 0.2))
    if report.lag is not None:
        _lag(axes, report.lag)
    _plain(axes)
    _legend(axes)


def _units(report: "MemoryReport", axes: "Axes") -> None:
    for number, each in enumerate(report.flow.layers):
        horizons = np.sort(each.unit_horizons(report.fraction).numpy())[::-1]
        finite = np.where(np.isfinite(horizons), horizons, report.steps)
        share = np.arange(1, len(finite) + 1) / len(finite)
        axes.step(
            finite, share, where="post", color=SERIES[number % len(SERIES)],
            label=each.layer or "layer",
        )  # fmt: skip
        beyond = int(np.isinf(horizons).sum())
        if beyond:
            axes.plot(report.steps, beyond / len(finite), ">", color=SERIES[number % len(SERIES)])
    if report.lag is not None:
        _lag(axes, report.lag)
    axes.set(xlabel="horizon, steps", ylabel="share of units that reach it", ylim=(0, 1.05))
    axes.set_xlim(left=0)
    _plain(axes)
    if len(report.flow.layers) > 1:
        _legend(axes)


def _spectra(report: "MemoryReport") -> dict[str, LyapunovSpectrum]:
    return {} if report.lyapunov is None else by_way(report.lyapunov)


def _lyapunov(report: "MemoryReport", axes: "Axes") -> None:
    for number, (name, spectrum) in enumerate(_spectra(report).items()):
        values, error = spectrum.exponents.numpy(), spectrum.error.numpy()
        values = np.where(np.isfinite(values), values, np.nan)
        at = np.arange(1, len(values) + 1) + 0.12 * number
        axes.errorbar(
            at, values, yerr=np.nan_to_num(2 * error), fmt="o", markersize=5, capsize=3,
            color=SERIES[number], label=name or None,
        )  # fmt: skip
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.set(xlabel="exponent", ylabel="per step")
    axes.set_xticks(range(1, 1 + max(len(s.exponents) for s in _spectra(report).values())))
    _plain(axes)
    if len(_spectra(report)) > 1:
        _legend(axes)


def _growth(report: "MemoryReport", axes: "Axes") -> None:
    steps = np.arange(1, report.steps + 1)
    kinds = (("as it is", report.states.norms, SERIES[0], "-"),
             ("without squashing", report.states.linear, SERIES[1], "--"))  # fmt: skip
    highest = lowest = 0.0
    for label, norms, colour, style in kinds:
        if norms is None:
            continue
        middle = norms.double().nanmedian(-2).values.numpy()
        # Beyond the figure, but not so far that its scale overflows.
        middle = np.where(np.isfinite(middle), np.minimum(middle, 1e40), np.nan)
        axes.plot(steps, middle, style, color=colour, linewidth=1.4, label=label)
        known = middle[np.isfinite(middle)]
        if len(known):
            highest = max(highest, known.max())
            lowest = known.min() if not lowest else min(lowest, known.min())
    if lowest > 0 and highest / lowest > 50:
        axes.set_yscale("log")
        axes.set_ylim(top=min(highest * 2, 1e30))
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel="step t", ylabel=r"$\Vert h_t\Vert$, median")
    _plain(axes)
    if report.states.linear is not None:
        _legend(axes)


def _unrolled(report: "MemoryReport", axes: "Axes") -> None:
    """States as circles, the newest on the right; the error goes back along the arrows."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Circle

    each = _entrance(report)
    assert each.by_lag is not None
    curve = each.by_lag.double().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.log10(curve / curve[0])
    decades = np.where(np.isfinite(decades), decades, FLOOR).clip(FLOOR, 0.0)
    strength = 1 - decades / FLOOR
    colours = LinearSegmentedColormap.from_list("", [FAINT, SERIES[0], SERIES[1]])
    lags = _shown_lags(len(curve) - 1, report.lag)
    at = {lag: -float(number) for number, lag in enumerate(lags)}

    def arrow(begin: tuple[float, float], end: tuple[float, float], power: float) -> None:
        axes.annotate(
            "", xy=end, xytext=begin,
            arrowprops={
                "arrowstyle": "-|>", "color": colours(power), "linewidth": 0.8 + 3.2 * power,
                "linestyle": "-" if power > 0 else ":", "shrinkA": 0, "shrinkB": 0,
                "mutation_scale": 9 + 5 * power,
            },
        )  # fmt: skip

    for number, lag in enumerate(lags):
        x = at[lag]
        power = float(strength[lag])
        axes.add_patch(
            Circle((x, 0), 0.2, facecolor=colours(power), edgecolor=INK, linewidth=0.8, alpha=0.9)
        )
        told = "h(t)" if lag == 0 else f"h(t−{lag})"
        axes.text(x, -0.42, told, ha="center", va="center", fontsize=8, color=INK)
        arrow((x, -0.6), (x, -0.95), power)
        axes.text(x, -1.12, "x", ha="center", va="center", fontsize=8, color=INK)
        if number + 1 < len(lags):
            after = lags[number + 1]
            arrow((x - 0.24, 0), (x - 0.76, 0), float(strength[after]))
            if after - lag > 1:
                axes.text(x - 0.5, 0.16, "· · ·", ha="center", va="center", fontsize=7, color=INK)
    arrow((0, 0.72), (0, 0.24), 1.0)
    axes.text(0, 0.86, "error", ha="center", va="center", fontsize=8, color=INK)
    axes.set(xlim=(at[lags[-1]] - 0.5, 0.6), ylim=(-1.3, 1.05))
    axes.set_aspect("equal")
    axes.set_axis_off()
    _scale(axes, colours)


def _shown_lags(longest: int, lag: int | None) -> list[int]:
    """Every lag at first, then ever further apart, the task's own among them."""
    wanted = {0, 1, 2, 3, longest}
    step = 3.0
    while step < longest:
        step *= 1.6
        wanted.add(min(longest, round(step)))
    if lag is not None and lag <= longest:
        wanted = {each for each in wanted if each <= 3 or abs(each - lag) > 0.15 * lag} | {lag}
    return sorted(each for each in wanted if each <= longest)


def _scale(axes: "Axes", colours: Any) -> None:
    """What the colours mean, drawn small at the upper left."""
    inset = axes.inset_axes((0.0, 0.9, 0.24, 0.05))
    inset.imshow(np.linspace(0, 1, 64)[None], aspect="auto", cmap=colours, extent=(FLOOR, 0, 0, 1))
    inset.set_yticks([])
    inset.set_xticks([FLOOR, FLOOR / 2, 0], ["$10^{-4}$ or less", "1 %", "1"])
    inset.tick_params(labelsize=7, colors=INK, length=2)
    for spine in inset.spines.values():
        spine.set_visible(False)


def _marks(axes: "Axes", report: "MemoryReport", *, logarithmic: bool = False) -> None:
    """The fraction of the horizon, and the task's lag."""
    fraction = report.fraction
    level = math.log10(fraction) if logarithmic else fraction
    axes.axhline(level, color=FAINT, linewidth=1)
    axes.annotate(
        f"{100 * fraction:.3g} %", (1.0, level), xycoords=axes.get_yaxis_transform(), fontsize=7,
        color=FAINT, ha="right", va="bottom",
    )  # fmt: skip
    if report.lag is not None:
        _lag(axes, report.lag)


def _lag(axes: "Axes", lag: int) -> None:
    axes.axvline(lag, color=INK, linewidth=0.9, linestyle="--")
    axes.annotate(
        " lag of the task", (lag, 1.0), xycoords=axes.get_xaxis_transform(), fontsize=7, color=INK,
        ha="right" if lag > 0.6 * axes.get_xlim()[1] else "left", va="top",
    )  # fmt: skip


def _finish(axes: "Axes", values: np.ndarray, *, logarithmic: bool = False) -> None:
    """Limits that no curve on its way to nothing can blow up; grid, colours, legend."""
    decades = values if logarithmic else np.log10(np.where(values > 0, values, np.nan))
    known = decades[np.isfinite(decades)]
    top = max(float(known.max()) if len(known) else 0.0, 0.0)
    low = max(float(known.min()) if len(known) else -1.0, top - DECADES)
    margin = max(0.05 * (top - low), 0.3)
    low, top = min(low, -2.5) - margin, top + margin
    axes.set_ylim((low, top) if logarithmic else (10.0**low, 10.0**top))
    axes.set_xlim(left=0)
    _plain(axes)
    _legend(axes)


def _legend(axes: "Axes") -> None:
    axes.legend(fontsize="x-small", frameon=False, labelcolor=INK)


def _plain(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, which="both", labelsize="small")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


PANELS = {
    "unrolled": Panel(
        "The unrolled network",
        "The error enters at the newest state and goes back in time. The colour of an arrow is how "
        "much of it is left.",
        _unrolled, lambda _: True, (11.0, 2.7),
    ),
    "flow": Panel(
        "Where the error goes",
        "Norm of dE/ds by lag, over that at lag 0. Points: how much the output changes where the "
        "past is exchanged with that of another sequence. Dotted: the rounding of the numbers.",
        _flow, lambda _: True,
    ),
    "norms": Panel(
        "How much a state depends on an earlier one",
        "Singular values of the product of Jacobians by lag: median over chains, band from 10 % to "
        "90 %; the bound holds whatever the input.",
        _norms, lambda _: True,
    ),
    "shares": Panel(
        "What the weights are told",
        "How much of the gradient arises within a lag: norms of the terms of dE/dW, summed up.",
        _shares,
        lambda report: any(
            float(share.sum()) > 0
            for each in entrances(report.flow)
            for share in each.shares().values()
        ),
    ),
    "units": Panel(
        "Which units carry it",
        "Share of the units whose own error reaches a lag; the triangle counts those that reach "
        "beyond the steps seen.",
        _units, lambda _: True,
    ),
    "lyapunov": Panel(
        "Lyapunov exponents",
        "Growth of small disturbances along the sequences, with two standard errors; above 0 is "
        "chaos.",
        _lyapunov, lambda report: bool(_spectra(report)),
    ),
    "growth": Panel(
        "The state on its way forward",
        "Norm of h by step; dashed the same weights without squashing.",
        _growth, lambda _: True,
    ),
}  # fmt: skip
"""The figures by name, in the order of the page."""
