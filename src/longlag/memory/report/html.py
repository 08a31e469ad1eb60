"""The page of a report: one file with all figures in it, without scripts and without the network.

The figures are drawings (SVG) in the colours of the page, so that they are right on light and dark
backgrounds and on paper.
"""

import io
import re
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longlag.memory.report import plots, style
from longlag.memory.report.data import ReportData
from longlag.storage.atomic import atomic_write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TEMPLATE = "report.html.j2"


def write(reports: Mapping[str, ReportData], path: str | Path) -> None:
    """Write the page of one report, or of several side by side.

    Args:
        reports: by the names that the page shows.
        path: the file; replaced if it is there, whole or not at all.

    Raises:
        ValueError: there is no report.
        OSError: the file cannot be written.
    """
    atomic_write_text(Path(path), page(reports))


def page(reports: Mapping[str, ReportData]) -> str:
    """The whole page as text; arguments and errors as for :func:`write`."""
    return _render(reports, whole=True)


def fragment(reports: Mapping[str, ReportData]) -> str:
    """The same for a notebook: what stands within the page's body, with its own style."""
    return _render(reports, whole=False)


def _render(reports: Mapping[str, ReportData], *, whole: bool) -> str:
    if not reports:
        raise ValueError("reports: got none, expected at least one report by its name")
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("longlag.memory.report", "."), autoescape=True,
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    shown = [_shown(name, report) for name, report in reports.items()]
    together = _svg(plots.overlay(reports), "together") if len(reports) > 1 else None
    return environment.get_template(TEMPLATE).render(
        whole=whole, reports=shown, together=together, version=metadata.version("longlag")
    )


def _shown(name: str, report: ReportData) -> dict[str, Any]:
    figures = [
        {
            "name": panel_name,
            "title": panel.title,
            "caption": panel.caption(report),
            "wide": panel_name == "unrolled",
            "svg": _svg(plots.draw(report, panel_name), f"{name}-{panel_name}"),
        }
        for panel_name, panel in plots.PANELS.items()
        if panel.there(report)
    ]
    return {"name": name, "report": report, "verdict": report.verdict, "figures": figures}


def _svg(figure: "Figure", salt: str) -> Any:
    """The figure as an element of the page, its inks those of the page."""
    import matplotlib
    from markupsafe import Markup

    target = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The page's own fonts show these, not those that matplotlib measures with.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Names of groups are the same in every figure, and no one refers to them.
    text = re.sub(r'<g id="[a-zA-Z]+_\d+">', "<g>", text)
    text = re.sub(r'id="figure_1"', "", text)
    width, height = (re.search(rf'{side}="([\d.]+)pt"', text) for side in ("width", "height"))
    assert width is not None
    assert height is not None
    text = text.replace(width[0], "", 1).replace(height[0], "", 1)
    for ink, name in ((style.INK, "ink"), (style.GRID, "grid"), (style.FAINT, "faint")):
        text = text.replace(ink, f"var(--{name})")
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    return Markup(text)
