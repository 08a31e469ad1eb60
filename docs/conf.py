"""Configuration of the documentation pages: ``make docs``."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from longlag import cells

project = "longlag"
author = "the longlag developers"
copyright = "the longlag developers"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",  # its files beside the pages, which load nothing from a network
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "lecture/*.ipynb"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 2  # a link may lead to a heading of another page
html_theme = "furo"
html_title = "longlag"
html_static_path = ["static"]
html_css_files = ["pages.css"]
sphinx_gallery_conf = {
    "examples_dirs": ["../examples/lecture"],
    "gallery_dirs": ["lecture"],
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "min_reported_time": 3600,
    "show_signature": False,
    "write_computation_times": False,
}
"""Pages made of programs: what they print and draw is made when the pages are built."""
autodoc_typehints = "none"
autodoc_member_order = "bysource"


class BuiltIn(SphinxDirective):
    """``.. built-in:: PACKAGE``: each name in the table of cells, as that package has it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """What ``autoclass`` makes of all of them."""
        classes = [f".. autoclass:: {self.arguments[0]}.{name}" for name in cells.__all__]
        return self.parse_text_to_nodes("\n".join(classes))


_PROGRAM = re.compile(r"\]\(\.\./((?:\.\./)*)examples/lecture/(\w+)\.(?:py|rst)\)")


def link_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """Links to Markdown outside these pages (benchmarks/README.md) lead to a copy of the file, and
    those to the programs of the course to the pages that are made of them."""

    def program(found: re.Match[str]) -> str:
        name = "index" if found[2] == "GALLERY_HEADER" else found[2]
        return f"]({found[1]}lecture/{name}.rst)"

    source[0] = _PROGRAM.sub(program, source[0])
    folder = (Path(app.srcdir) / page).parent

    def link(found: re.Match[str]) -> str:
        inside = (folder / found[1]).resolve().is_relative_to(app.srcdir)
        return found[0] if inside else f"](path:{found[1]})"

    source[0] = re.sub(r"\]\(((?:\.\./)+[^)#]+\.md)\)", link, source[0])


def setup(app: Sphinx) -> None:
    """Add the directive and the links."""
    app.add_directive("built-in", BuiltIn)
    app.connect("source-read", link_outside)
