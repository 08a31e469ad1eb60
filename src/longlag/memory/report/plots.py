"""The figures of a report by name: `PANELS`, one of them, all on one sheet, several reports."""

import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from longlag.memory.measures.directions import by_direction
from longlag.memory.report import curves, style, unrolled
from longlag.memory.report.data import ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TITLE = 110
"""Characters of a line over a sheet."""


class Panel(NamedTuple):
    """One figure.

    Attributes:
        title: in one line.
        caption: what is seen, of a report.
        draw: draws a report into axes.
        there: whether the report has what it needs.
        size: width and height in inches.
    """

    title: str
    caption: Callable[[ReportData], str]
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
    title = f"{style.shown_name(report.name)}: {report.verdict.headline}"
    figure.suptitle(textwrap.fill(title, TITLE), color=style.INK)
    return figure


def overlay(reports: Mapping[str, ReportData]) -> "Figure":
    """The error by lag of several networks in one figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    axes = figure.subplots()
    layers = [(style.shown_name(name), curves.entrance(one)) for name, one in reports.items()]
    curves.draw_decays(next(iter(reports.values())), axes, layers)
    return figure


def _error(report: ReportData) -> str:
    what = "the loss" if report.of_loss else "a random error"
    return f"{what} at each sequence's last step that has one"


def _sequences(report: ReportData, count: int | None = None) -> str:
    count = report.sequences if count is None else count
    return f"the {count} sequences" if count > 1 else "the one sequence"


def _of_unrolled(report: ReportData) -> str:
    where = f" in {curves.entrance(report).layer}" if len(report.flow.layers) > 1 else ""
    return (
        f"The newest state is on the right. There the error enters, of {_error(report)}, and goes "
        "back in time. "
        f"The colour of an arrow is how much of it is left{where}, in the median over "
        f"{_sequences(report)}."
    )


def _of_flow(report: ReportData) -> str:
    lines = (
        f"By lag k the norm of dE/ds, E being {_error(report)}, over that at lag 0: the median "
        f"over {_sequences(report, report.horizon_over_sequences.sequences)}, with a band from "
        "10 % to 90 % of them."
    )
    if len(report.flow.layers) > 1:
        lines += " A curve for each layer, the band around the first."
    if report.exchange is not None:
        lines += (
            " Points: how much the output changes where the state k steps before the end is that "
            "of another sequence, of the distance between two outputs."
        )
    return f"{lines} Dotted, faint: where rounding begins."


def _of_norms(report: ReportData) -> str:
    norms = by_direction(report.jacobian_norms).values()
    chains = sum(one.ends.shape[-1] for one in norms)
    exact = "" if all(one.exact for one in norms) else ", from below"
    both = "the largest" + " and the smallest" * all(one.smallest is not None for one in norms)
    where = " of the layer that reads x" if len(report.flow.layers) > 2 else ""
    lines = (
        f"Singular values of the product of Jacobians{where} from a state to the one k steps "
        f"later{exact}: {both}, the median over {chains} such chains, for the largest with a band "
        "from 10 % to 90 % of them."
    )
    if curves.has_bound(report):
        lines += " Dashed: what the weights allow whatever the input."
    return lines


def _of_shares(report: ReportData) -> str:
    names = ", ".join(name for name, _ in curves.shares_of(report))
    return (
        f"Which part of the gradient of {names} arises up to a lag, for {_error(report)}: norms of "
        "the terms of dE/dW, summed up."
    )


def _of_units(report: ReportData) -> str:
    beyond = " The triangle: those that reach beyond the steps seen." * curves.any_unit_beyond(
        report
    )
    return (
        "The share of the units whose own part of the error, of all sequences together, is at a "
        f"lag still {100 * report.fraction:.3g} % of that at lag 0.{beyond}"
    )


def _of_exponents(report: ReportData) -> str:
    (spectrum, *_) = curves.spectra_of(report).values()
    return (
        f"How fast small disturbances of the state grow along {spectrum.steps} steps, the largest "
        "first, with two standard errors; above 0 is chaos."
    )


def _of_states(report: ReportData) -> str:
    linear = "; dashed, with the same weights without the nonlinearity"
    return (
        f"The norm of the output h of the recurrent layers by step, the median over "
        f"{_sequences(report)}{linear * (report.states.linear is not None)}."
    )


PANELS = {
    "unrolled": Panel(
        "The unrolled network", _of_unrolled, unrolled.draw_unrolled, lambda _: True, (11.0, 2.7),
    ),
    "flow": Panel("Where the error goes", _of_flow, curves.draw_flow, lambda _: True),
    "norms": Panel(
        "How much a state depends on an earlier one", _of_norms, curves.draw_norms, lambda _: True,
    ),
    "shares": Panel(
        "Where the gradient of the weights comes from", _of_shares, curves.draw_shares,
        lambda report: bool(curves.shares_of(report)),
    ),
    "units": Panel(
        "Which units carry the memory", _of_units, curves.draw_units, lambda _: True,
    ),
    "lyapunov": Panel(
        "Lyapunov exponents", _of_exponents, curves.draw_exponents,
        lambda report: bool(curves.spectra_of(report)),
    ),
    "growth": Panel(
        "The state on its way forward", _of_states, curves.draw_states, lambda _: True,
    ),
}  # fmt: skip
"""The figures by name, in the order of the page."""
