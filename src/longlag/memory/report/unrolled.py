"""The unrolled network: states as circles, and the error on its way back along the arrows."""

from typing import TYPE_CHECKING, Any

import numpy as np

from longlag.memory.report import style
from longlag.memory.report.curves import entrance, relative_error
from longlag.memory.report.data import ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes


FLOOR = -4.0
"""Powers of ten below which the drawing makes no difference."""


def draw_unrolled(report: ReportData, axes: "Axes") -> None:
    """States as circles, the newest on the right; the error goes back along the arrows."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Circle

    _, curve, _ = relative_error(entrance(report))
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.log10(curve)
    decades = np.where(np.isfinite(decades), decades, FLOOR).clip(FLOOR, 0.0)
    strength = 1 - decades / FLOOR
    colours = LinearSegmentedColormap.from_list("", [style.FAINT, style.SERIES[0], style.SERIES[1]])
    lags = _shown_lags(len(curve) - 1, report.known_lag)
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

    def write(x: float, y: float, text: str, size: int = 8) -> None:
        axes.text(x, y, text, ha="center", va="center", fontsize=size, color=style.INK)

    for number, lag in enumerate(lags):
        x = at[lag]
        power = float(strength[lag])
        axes.add_patch(
            Circle(
                (x, 0), 0.2, facecolor=colours(power), edgecolor=style.INK, linewidth=0.8, alpha=0.9
            )
        )
        write(x, -0.42, "h(t)" if lag == 0 else f"h(t−{lag})")
        arrow((x, -0.6), (x, -0.95), power)
        write(x, -1.12, "x")
        if number + 1 < len(lags):
            after = lags[number + 1]
            arrow((x - 0.24, 0), (x - 0.76, 0), float(strength[after]))
            if after - lag > 1:
                write(x - 0.5, 0.16, "· · ·", 7)
    arrow((0, 0.72), (0, 0.24), 1.0)
    write(0, 0.86, "error")
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
        wanted = {other for other in wanted if other <= 3 or abs(other - lag) > 0.15 * lag} | {lag}
    return sorted(lag for lag in wanted if lag <= longest)


def _scale(axes: "Axes", colours: Any) -> None:
    """What the colours mean, drawn small at the upper left."""
    inset = axes.inset_axes((0.0, 0.9, 0.24, 0.05))
    inset.imshow(np.linspace(0, 1, 64)[None], aspect="auto", cmap=colours, extent=(FLOOR, 0, 0, 1))
    inset.set_yticks([])
    inset.set_xticks([FLOOR, FLOOR / 2, 0], ["$10^{-4}$ or less", "1 %", "1"])
    inset.tick_params(labelsize=7, colors=style.INK, length=2)
    for spine in inset.spines.values():
        spine.set_visible(False)
