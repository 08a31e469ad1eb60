"""The figure of a comparison: who solves what at which lag, and after how many sequences."""

from collections.abc import Mapping

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from longlag.lab.compare.cases import Case, middle
from longlag.lab.reproduce.experiment import Outcome

# Okabe and Ito's colours, which the colour-blind tell apart; with more families than these, other
# dashes and markers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":")
_MARKERS = ("o", "s", "^")


def draw(outcomes: Mapping[Case, Outcome], title: str) -> Figure:
    """A row of two panels for each task.

    Left a table of families by lags: how many seeds solved it, the darker the more. Right the
    median number of sequences until it was solved, a line for each family that solved one.

    Args:
        outcomes: by case.
        title: such as the command.
    """
    problems = list(dict.fromkeys(case.problem.name for case in outcomes))
    families = list(dict.fromkeys(case.family.name for case in outcomes))
    height = 1.4 + 0.28 * len(families)
    drawing = Figure(figsize=(12, 0.6 + height * len(problems)), layout="constrained")
    panels = drawing.subplots(len(problems), 2, squeeze=False)
    for name, (shares, lines) in zip(problems, panels, strict=True):
        own = {case: one for case, one in outcomes.items() if case.problem.name == name}
        _shares(shares, own, families)
        _lines(lines, own, families)
    drawing.suptitle(title, fontsize="small")
    return drawing


def _shares(axes: Axes, outcomes: Mapping[Case, Outcome], families: list[str]) -> None:
    """The table; white without a number: not run."""
    lags = sorted({case.lag for case in outcomes})
    for case, outcome in outcomes.items():
        x, y = lags.index(case.lag), families.index(case.family.name)
        share = len(outcome.solved) / outcome.trials
        axes.imshow(
            [[share]], extent=(x - 0.5, x + 0.5, y + 0.5, y - 0.5), vmin=0, vmax=1.25,
            cmap=colormaps["Blues"], aspect="auto",
        )  # fmt: skip
        axes.text(x, y, f"{len(outcome.solved)} of {outcome.trials}", ha="center", va="center",
                  fontsize="small", color="white" if share > 0.7 else "black")  # fmt: skip
    axes.set(xlim=(-0.5, len(lags) - 0.5), ylim=(len(families) - 0.5, -0.5), xlabel="lag, steps")
    axes.set_xticks(range(len(lags)), list(map(str, lags)))
    axes.set_yticks(range(len(families)), families)
    axes.tick_params(length=0)
    (name,) = {case.problem.name for case in outcomes}
    axes.set_title(f"{name}: seeds that solve it")


def _lines(axes: Axes, outcomes: Mapping[Case, Outcome], families: list[str]) -> None:
    lags = sorted({case.lag for case in outcomes})
    for number, family in enumerate(families):
        points = sorted(
            (case.lag, sequences)
            for case, outcome in outcomes.items()
            if case.family.name == family and (sequences := middle(outcome.solved)) is not None
        )
        if points:
            turn = number // len(COLOURS)
            axes.plot(
                *zip(*points, strict=True), label=family, color=COLOURS[number % len(COLOURS)],
                linestyle=_DASHES[turn % 3], marker=_MARKERS[turn % 3], markersize=5,
            )  # fmt: skip
    any_line = bool(axes.lines)
    axes.set_title("sequences until solved, median of the seeds that do")
    axes.set(xscale="log", xlabel="lag, steps", ylabel="sequences")
    axes.set_xlim(0.9 * lags[0], 1.1 * lags[-1])
    axes.set_xticks(lags, list(map(str, lags)))
    axes.minorticks_off()
    if any_line:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize="small", frameon=False)
    else:
        axes.text(0.5, 0.5, "no seed solved it", ha="center", transform=axes.transAxes)
        axes.set_yticks([])
