"""The figure of a run: how many times longlag's time the best peer takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from longlag.lab.bench.results import Result
from longlag.lab.bench.table import title
from longlag.storage import atomic_write

_COLOURS = {
    "torch.nn": "#d55e00",
    "jax": "#0072b2",
    "packed": "#cc79a7",
    "padded": "#999999",
    "elman": "#56b4e9",
    "loop": "#e69f00",
    "compile": "#f0e442",
}
_OURS = ("elman", "padded")
"""Peers that are longlag too."""


def draw(results: Sequence[Result]) -> Figure:
    """A column for each pass, a panel below the other for each number of threads, a bar a row.

    A bar is the time of the fastest peer over that of longlag, with its quartiles, on a logarithmic
    axis; its colour says which peer that is. longlag's own Elman layer and padded batch are left
    out where there is another peer.
    """
    shown = [result for result in results if result.peers]
    passes = list(dict.fromkeys(result.pass_name for result in shown)) or [""]
    threads = list(dict.fromkeys(result.threads for result in shown)) or [0]
    groups = {
        (t, p): [result for result in shown if (result.threads, result.pass_name) == (t, p)]
        for t in threads
        for p in passes
    }
    height = 1.3 + 0.26 * max(map(len, groups.values()))
    size = (7.5 * len(passes), 0.6 + height * len(threads))
    figure = Figure(figsize=size, layout="constrained")
    panels: Any = figure.subplots(len(threads), len(passes), squeeze=False)
    for panel, group in zip(panels.flat, groups.values(), strict=True):
        if group:
            _bars(panel, group)
    seen = {_best(result) for result in shown}
    handles = [Patch(color=colour, label=name) for name, colour in _COLOURS.items() if name in seen]
    if handles:
        figure.legend(
            handles=handles, title="fastest peer", loc="outside lower center", ncols=len(handles)
        )
    return figure


def _best(result: Result) -> str:
    names = [name for name in result.peers if name not in _OURS]
    return (names or list(result.peers))[0]


def _bars(panel: Any, group: Sequence[Result]) -> None:
    best = [_best(result) for result in group]
    ratios = [result.timings[name].ratio for result, name in zip(group, best, strict=True)]
    places = range(len(group))
    medians = [ratio.median for ratio in ratios]
    panel.barh(
        places,
        [median - 1 for median in medians],
        left=1,
        color=[_COLOURS.get(name, "0.5") for name in best],
        xerr=[
            [ratio.median - ratio.low for ratio in ratios],
            [ratio.high - ratio.median for ratio in ratios],
        ],
        error_kw={"linewidth": 1},
    )
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlim(0.8 * min(1, *(ratio.low for ratio in ratios)), 2.2 * max(2, *medians))
    for place, ratio in zip(places, ratios, strict=True):
        panel.annotate(
            f"{ratio.median:.3g}",
            (max(ratio.high, 1), place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    panel.set_yticks(places, [f"{one.row.cell}  {one.row.sizes}" for one in group], fontsize=8)
    panel.invert_yaxis()
    panel.axvline(1, color="0.3", linewidth=1)
    panel.set_xlabel("time of the fastest peer / time of longlag")
    panel.set_ylabel("cell  N, T, C, H")
    panel.set_title(title(group[0].pass_name, group[0].threads))


def write_figure(path: Path, results: Sequence[Result]) -> None:
    """Write the figure, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    figure, suffix = draw(results), path.suffix[1:].lower()
    atomic_write(path, lambda file: figure.savefig(file, format=suffix, dpi=150))
