"""The page of a report: whole in one file, escaped, and as a browser shows it."""

import html as entities
import importlib.resources
import json
import math
import os
import re
import shutil
import subprocess

import pytest
import torch
from tests.scan.cases import random

import longlag as ll
from longlag.memory import memory_report
from longlag.memory.report import html, plots, style
from longlag.memory.report.json_data import plain

NAMES = ("chromium", "chromium-browser", "google-chrome")
AWKWARD = '<b>a & "b" $x$'

MEASURE = """
<script>
const seen = {figures: [], ink: {}};
const body = getComputedStyle(document.body);
seen.ink = {text: body.color, paper: body.backgroundColor};
for (const figure of document.querySelectorAll("figure")) {
  const box = figure.querySelector("svg").getBoundingClientRect();
  const label = figure.querySelector("svg text");
  seen.figures.push({name: figure.dataset.figure, width: box.width, height: box.height,
    ink: getComputedStyle(label).fill, paths: figure.querySelectorAll("svg path").length});
}
seen.wide = document.documentElement.scrollWidth > innerWidth;
document.body.innerHTML = "<pre id=seen>" + JSON.stringify(seen) + "</pre>";
</script>
"""
"""Put into a copy of the page: it replaces the page by sizes and colours."""


@pytest.fixture(scope="module")
def reports():
    """One that vanishes, one of both directions, one that remembers and has an awkward name."""
    x, target = random(3, 24, 2), random(3, 24, 2, seed=1)
    double = {"dtype": torch.float64}
    layers = {
        "Elman": ll.Elman(2, 4, seed=0, **double),
        "both": ll.Bidirectional(ll.GRU(2, 3, seed=1, **double), ll.GRU(2, 3, seed=2, **double)),
        AWKWARD: ll.Elman(
            2, 4, activation="identity", weight_hh_init=ll.init.Identity(), seed=0, **double
        ),
    }
    found = {}
    for name, layer in layers.items():
        model = ll.SequenceModel(layer, 2, reduce=None, seed=3)
        found[name] = memory_report(model, x, target, lag=20, name=name)
    return found


@pytest.fixture(scope="module")
def pages(reports):
    found = {name: html.page({name: report}) for name, report in reports.items()}
    found["together"] = html.page(dict(list(reports.items())[::2]))
    return found


@pytest.fixture(scope="module")
def browser():
    """Runs headless Chromium on a file; what it puts out, and the lines of its console."""
    program = next((path for path in map(shutil.which, NAMES) if path), None)
    if program is None:
        assert not os.environ.get("CI"), f"none of {', '.join(NAMES)} is installed"
        pytest.skip(f"none of {', '.join(NAMES)} is installed")

    def run(page, *options):
        done = subprocess.run(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
             "--v=0", "--window-size=1200,900", f"--user-data-dir={page.parent / 'profile'}",
             *options, page.as_uri()],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return run


def measured(browser, text, folder, *options):
    """What a browser makes of a page: sizes and colours."""
    page = folder / "measured.html"
    page.write_text(text.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    shown, console = browser(page, "--dump-dom", *options)
    assert console == []
    return json.loads(entities.unescape(re.search(r"<pre id=\"seen\">(.*?)</pre>", shown, re.S)[1]))


def brightness(colour):
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    return (0.3 * red + 0.6 * green + 0.1 * blue) / 255


def figures_of(report):
    return [name for name, panel in plots.PANELS.items() if panel.there(report)]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["Elman", "together"])
def test_a_page_needs_nothing_else(pages, which):
    text = pages[which]
    assert text.startswith("<!DOCTYPE html>")
    sources = re.findall(r'\b(?:src|href|xlink:href|action|data)\s*=\s*["\']([^"\']*)', text)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    urls = re.findall(r"url\(([^)]*)\)", text)
    assert all(url.strip("\"'").startswith("#") for url in urls)
    spaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) <= spaces
    for word in ("<script", "@import", "<iframe", '<link rel="stylesheet', " onload"):
        assert word not in text


def test_what_a_figure_refers_to_is_there_once(pages):
    for text in pages.values():
        names = re.findall(r'\bid="([^"]+)"', text)
        used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
        assert used <= set(names)
        assert all(names.count(name) == 1 for name in used)


@pytest.mark.slow
def test_names_are_text_and_no_code(reports, pages):
    for text in (pages[AWKWARD], pages["together"]):
        assert "<b>" not in text
        assert "&lt;b&gt;a &amp; " in text
        assert f"<h2>{entities.escape(AWKWARD).replace('&quot;', '&#34;')}</h2>" in text
    # In the figure as it is, and not as mathematics.
    assert re.search(r"<text[^>]*>&lt;b&gt;a &amp; (\"|&quot;)b(\"|&quot;) \$x\$</text>",
                     pages["together"])  # fmt: skip
    assert "&lt;b&gt;" in reports[AWKWARD]._repr_html_()


@pytest.mark.parametrize("name", ["_hidden", "$\\frac$", "モデル", "a" * 200])
def test_any_name_can_be_drawn(reports, name):
    figure = plots.overlay({name: reports["Elman"], "other": reports["both"]})
    legend = figure.axes[0].get_legend()
    assert any(name[:9] in each.get_text().replace(r"\$", "$") for each in legend.get_texts())
    assert "<svg" in html._svg(figure, "salt")


def test_the_page_says_what_the_verdict_says(reports, pages):
    for name, report in reports.items():
        text = entities.unescape(pages[name])
        said = [report.verdict.headline, *report.verdict.evidence, report.description]
        for each in report.verdict.advice:
            said += [each.text, each.why, each.code]
        for line in said:
            assert line in text
    assert 'class="verdict vanishes"' in pages["Elman"]
    assert 'class="verdict remembers"' in pages[AWKWARD]


def test_the_template_is_part_of_the_package():
    found = importlib.resources.files("longlag.memory.report").joinpath(html.TEMPLATE)
    assert found.is_file()
    assert html.TEMPLATE == "report.html.j2"


def test_the_same_report_gives_the_same_bytes(reports, pages):
    assert html.page({"both": reports["both"]}) == pages["both"]


def test_json_is_strict_and_whole(reports, tmp_path):
    for number, report in enumerate(reports.values()):
        path = tmp_path / f"{number}.json"
        report.to_json(path)
        read = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
        assert read == json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert read["version"] == 1
        assert read["verdict"]["kind"] == report.verdict.kind
        assert len(read["error"][0]["by_lag"]) == 25
    exponents = reports["Elman"].to_dict()["lyapunov"]["exponents"]
    assert exponents == pytest.approx(reports["Elman"].lyapunov.exponents.tolist())
    assert plain(torch.tensor([[math.inf, math.nan, 2.0]])) == [[None, None, 2.0]]


@pytest.mark.slow
def test_a_file_is_replaced_whole_or_not_at_all(reports, pages, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")
    reports["Elman"].to_html(path)
    assert path.read_text(encoding="utf-8") == pages["Elman"]

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        reports["Elman"].to_json(path)
    assert path.read_text(encoding="utf-8") == pages["Elman"]
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        reports["Elman"].to_json(tmp_path / "no" / "page.json")


def test_no_report_makes_no_page():
    with pytest.raises(ValueError, match="reports: got none"):
        html.page({})


@pytest.mark.slow
def test_a_notebook_shows_the_same_within_its_own_page(reports):
    shown = reports["Elman"]._repr_html_()
    assert shown.strip().startswith('<div class="longlag">')
    assert "<body" not in shown
    assert "<!DOCTYPE" not in shown
    # No rule of its style reaches beyond the report.
    style = re.sub(r"@media[^{]*\{|\{[^{}]*\}", "\n", shown[shown.index("<style>") + 7 :])
    rules = [line.strip() for line in style[: style.index("</style>")].split("\n")]
    selectors = [one.strip() for line in rules for one in line.split(",") if one.strip(" }")]
    assert selectors
    assert all(each.startswith(".longlag") for each in selectors)
    assert shown.count("<svg") == len(figures_of(reports["Elman"]))


def test_the_arrows_have_the_colour_of_what_is_left(reports):
    """The newest state has all of the error; the colours fade as the error does."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Circle

    def fills(report):
        axes = plots.draw(report, "unrolled").axes[0]
        found = [each for each in axes.patches if isinstance(each, Circle)]
        assert len(found) == len([t for t in axes.texts if t.get_text().startswith("h(t")])
        return [each.get_facecolor()[:3] for each in sorted(found, key=lambda c: -c.center[0])]

    fading, lasting = fills(reports["Elman"]), fills(reports[AWKWARD])
    assert fading[0] == pytest.approx(to_rgb(style.SERIES[1]))
    assert all(colour == pytest.approx(fading[0]) for colour in lasting)
    assert len(set(fading)) > 4
    assert fading[-1] != pytest.approx(fading[0], abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["Elman", "both", AWKWARD, "together"])
def test_a_browser_shows_all_figures(browser, reports, pages, tmp_path, which):
    seen = measured(browser, pages[which], tmp_path)
    wanted = [] if which != "together" else ["together"]
    shown = ["Elman", AWKWARD] if which == "together" else [which]
    for name in shown:
        wanted += figures_of(reports[name])
    assert sorted(each["name"] for each in seen["figures"]) == sorted(wanted)
    for each in seen["figures"]:
        assert each["width"] > 250, each
        assert each["height"] > 100, each
        assert each["paths"] > 3, each
    assert not seen["wide"]  # nothing to scroll sideways


@pytest.mark.slow
def test_it_is_light_or_dark_as_the_reader_has_it(browser, pages, tmp_path):
    light, dark = (
        measured(browser, pages["Elman"], tmp_path, f"--blink-settings=preferredColorScheme={n}")
        for n in (1, 0)
    )
    assert brightness(light["ink"]["paper"]) - brightness(light["ink"]["text"]) > 0.6
    assert brightness(dark["ink"]["text"]) - brightness(dark["ink"]["paper"]) > 0.6
    for each in light["figures"]:
        assert brightness(each["ink"]) < 0.5, each
    for each in dark["figures"]:
        assert brightness(each["ink"]) > 0.5, each


@pytest.mark.slow
def test_it_prints(browser, pages, tmp_path):
    page, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(pages["Elman"], encoding="utf-8")
    _, console = browser(page, f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    assert console == []
    assert printed.read_bytes().startswith(b"%PDF")
    assert printed.stat().st_size > 20_000


def test_a_fault_of_the_page_would_be_seen(browser, pages, tmp_path):
    """That the console is read at all."""
    page = tmp_path / "page.html"
    page.write_text(pages["Elman"].replace("</body>", "<script>nothing()</script></body>"))
    _, console = browser(page, "--dump-dom")
    assert "nothing is not defined" in "\n".join(console)
