"""The figures of a report by name: `PANELS`, one of them, all on one sheet, several reports."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from longlag.memory.report import curves, style, unrolled
from longlag.memory.report.data import ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    draw: "Callable[[ReportData, Axes], None]"
    there: Callable[[ReportData], bool]
    size: tuple[float, float] = (5.6, 3.4)


def draw(report: ReportData, name: str) -> "Figure":
    """One of `PANELS` as a figure of its own.

    Raises:
        ValueError: there is none of that name, or the report has not what it needs.
    """
    if name not in PANELS or not PANELS[name].there(report):
        names = [name for name, panel in PANELS.items() if panel.there(report)]
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(names)}")
    from matplotlib.figure import Figure

    panel = PANELS[name]
    figure = Figure(figsize=panel.size, layout="constrained")
    panel.draw(report, figure.subplots())
    return figure


def sheet(report: ReportData) -> "Figure":
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
        axes.set_title(PANELS[name].title, fontsize="medium", color=style.INK)
    figure.suptitle(f"{style.shown_name(report.name)}: {report.verdict.headline}", color=style.INK)
    return figure


def overlay(reports: Mapping[str, ReportData]) -> "Figure":
    """The error by lag of several networks in one figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    axes = figure.subplots()
    layers = [(style.shown_name(name), curves.entrance(one)) for name, one in reports.items()]
    curves.draw_decays(next(iter(reports.values())), axes, layers)
    return figure


PANELS = {
    "unrolled": Panel(
        "The unrolled network",
        "The error enters at the newest state and goes back in time. The colour of an arrow is how "
        "much of it is left.",
        unrolled.draw_unrolled, lambda _: True, (11.0, 2.7),
    ),
    "flow": Panel(
        "Where the error goes",
        "Norm of dE/ds by lag, over that at lag 0. Points: how much the output changes where the "
        "past is exchanged with that of another sequence. Dotted: rounding error.",
        curves.draw_flow, lambda _: True,
    ),
    "norms": Panel(
        "How much a state depends on an earlier one",
        "Singular values of the product of Jacobians by lag: median over chains, band from 10 % to "
        "90 %; the bound holds whatever the input.",
        curves.draw_norms, lambda _: True,
    ),
    "shares": Panel(
        "Where the gradient of the weights comes from",
        "How much of the gradient arises within a lag: norms of the terms of dE/dW, summed up.",
        curves.draw_shares,
        lambda report: bool(curves.shares_of(report)),
    ),
    "units": Panel(
        "Which units carry the memory",
        "Share of the units whose own error reaches a lag; the triangle counts those that reach "
        "beyond the steps seen.",
        curves.draw_units, lambda _: True,
    ),
    "lyapunov": Panel(
        "Lyapunov exponents",
        "Growth of small disturbances along the sequences, with two standard errors; above 0 is "
        "chaos.",
        curves.draw_exponents, lambda report: bool(curves.spectra_of(report)),
    ),
    "growth": Panel(
        "The state on its way forward",
        "Norm of h by step; dashed, the same weights without the nonlinearity.",
        curves.draw_states, lambda _: True,
    ),
}  # fmt: skip
"""The figures by name, in the order of the page."""
