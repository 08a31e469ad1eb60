"""The figure of an experiment: how many trials have succeeded, and how far the others are."""

import math
from collections.abc import Mapping

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from longlag.lab.reproduce.experiment import Experiment, Outcome


def draw(experiment: Experiment, outcomes: Mapping[str, Outcome]) -> Figure:
    """Two panels over the sequences presented, on a logarithmic axis; a colour each row.

    Left the share of trials that have succeeded; where a budget ended a row, a cross. Right what
    the trials are looked at by: median and range over those still training. Of an experiment that
    is crossed, a table of networks by tasks instead.

    Args:
        experiment: gives the title.
        outcomes: by name of the row.
    """
    if experiment.crossed:
        return _crossed(experiment, outcomes)
    rows = [(row, outcomes[row.name]) for row in experiment.rows if row.name in outcomes]
    several = len({outcome.measure for _, outcome in rows}) > 1
    height = max(4.2, 0.9 + 0.24 * len(rows))
    drawing = Figure(figsize=(11, height), layout="constrained")
    done, curves = drawing.subplots(1, 2)
    colours = colormaps["tab10" if len(rows) <= 10 else "turbo"]
    for number, (row, outcome) in enumerate(rows):
        colour = colours(number if len(rows) <= 10 else number / (len(rows) - 1))
        label = f"{row.name}: {len(outcome.solved)} of {outcome.trials}"
        _succeeded(done, outcome, colour, label)
        if outcome.curve:
            steps, least, median, most = zip(*outcome.curve, strict=True)
            curves.plot(steps, median, color=colour, linewidth=1.4)
            curves.fill_between(steps, least, most, color=colour, alpha=0.12, linewidth=0)
    done.set(ylabel="share of trials that have succeeded", ylim=(-0.03, 1.03))
    measure = "largest error, or share of wrong sequences" if several else rows[0][1].measure
    curves.set(ylabel=f"{measure}: median, range", ylim=(-0.03, 1.03))
    for axes in (done, curves):
        axes.set(xscale="log", xlabel="sequences presented")
        axes.grid(alpha=0.3)
    drawing.suptitle(experiment.title)
    drawing.legend(loc="outside right center", fontsize="small", frameon=False)
    return drawing


def _succeeded(axes: Axes, outcome: Outcome, colour: object, label: str) -> None:
    solved, last = outcome.solved, max(outcome.budget, 1)
    first = outcome.curve[0][0] if outcome.curve else 1
    steps = [min(first, *solved, last) if solved else min(first, last), *solved]
    shares = [0.0, *((k + 1) / outcome.trials for k in range(len(solved)))]
    if outcome.stopped:
        steps, shares = [*steps, last], [*shares, shares[-1]]
        axes.plot(last, shares[-1], "x", color=colour, clip_on=False)
    axes.step(steps, shares, where="post", color=colour, label=label)


def _crossed(experiment: Experiment, outcomes: Mapping[str, Outcome]) -> Figure:
    """Tasks below one another, networks side by side; the darker, the fewer sequences it took."""
    names = [row.name.split(": ", 1) for row in experiment.rows if row.name in outcomes]
    tasks = list(dict.fromkeys(task for task, _ in names))
    networks = list(dict.fromkeys(network for _, network in names))
    drawing = Figure(figsize=(2.2 + 1.35 * len(networks), 1.4 + 0.62 * len(tasks)),
                     layout="constrained")  # fmt: skip
    axes = drawing.subplots()
    for task, network in names:
        outcome = outcomes[f"{task}: {network}"]
        share = len(outcome.solved) / outcome.trials
        mean = outcome.mean
        # From 1,000 sequences, dark, to 1,000,000, light; nothing solved: white.
        speed = 0.0 if mean is None else max(0.0, min(1.0, (6 - math.log10(mean)) / 3))
        colour = colormaps["Blues"](0.75 * speed * share) if share else "white"
        x, y = networks.index(network), tasks.index(task)
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="0.7"))
        told = f"{len(outcome.solved)} of {outcome.trials}"
        told += f"\n{mean:,.0f}" if mean is not None else f"\nin {outcome.budget:,}"
        axes.text(x + 0.5, y + 0.5, told, ha="center", va="center", fontsize=9,
                  color="black" if share else "0.5")  # fmt: skip
    axes.set(xlim=(0, len(networks)), ylim=(len(tasks), 0), title=experiment.title)
    axes.set_xticks([k + 0.5 for k in range(len(networks))], networks)
    axes.set_yticks([k + 0.5 for k in range(len(tasks))], tasks)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel(
        "trials that succeeded, and their mean number of sequences; gray: the budget of each"
    )
    for spine in axes.spines.values():
        spine.set_visible(False)
    return drawing
