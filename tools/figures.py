"""Draw the figures of the pages anew: each page's own code and commands, run in an empty folder.

    python tools/figures.py                     all pages that show a figure which they draw
    python tools/figures.py classify forecast   these

A test runs the same code, and compares the size of what it draws with the figure that is kept.
"""

import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import matplotlib as mpl

from longlag.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def pages() -> list[Path]:
    """Those that save a figure."""
    drawing = (path for path in DOCS.rglob("*.md") if "savefig(" in path.read_text())
    return [path for path in drawing if "_build" not in path.parts]


def draw(page: Path) -> list[str]:
    """Run a page where we are, print what its Python prints, and say what it drew."""
    text = page.read_text()
    names: dict = {"__name__": "__main__"}
    for kind, block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL):
        if kind == "python":
            exec(compile(block, page.name, "exec"), names)  # noqa: S102
        elif kind == "console":
            for line in re.findall(r"^\$ longlag (.*)", block, re.M):
                said = io.StringIO()
                with redirect_stdout(said), redirect_stderr(said):
                    status = main(shlex.split(line))
                if status:
                    raise SystemExit(f"{page}: {line}\n{said.getvalue()}")
                print(*(row for row in said.getvalue().splitlines() if "│" in row), sep="\n")
    return re.findall(r"savefig\(\"([\w-]+\.png)\"", text)


if __name__ == "__main__":
    mpl.use("agg")
    for page in pages():
        if sys.argv[1:] and page.stem not in sys.argv[1:]:
            continue
        print(page.relative_to(ROOT))
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "experiments").symlink_to(ROOT / "experiments")
            os.chdir(name)
            for figure in draw(page):
                shutil.copy(figure, DOCS / "figures" / figure)
            os.chdir(ROOT)
