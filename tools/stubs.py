"""Write what type checkers read of the package, and of the built-in cells and layers.

python tools/stubs.py
"""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import longlag
from longlag import cells
from longlag.layers.built_in import LAYERS

PACKAGE = """# Written by tools/stubs.py from the list in __init__.py.
{imports}

__version__: str
"""
NOTE = "# Written by tools/stubs.py from the table in cells/__init__.py.\n"
CELLS = """
{imports}

CELLS: dict[str, str]
__all__ = [
{names}
]
"""
BUILT_IN = """
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import Unpack

from longlag.layers.recurrent import Options, Recurrent

LAYERS: Mapping[str, Callable[..., Recurrent]]
__all__ = [
{names}
]
{classes}"""
LAYER = '''
class {name}(Recurrent):
    r"""{docstring}
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        {own},
        **options: Unpack[Options],
    ) -> None: ...
'''


def own_arguments(name: str) -> Iterator[str]:
    """The arguments that a layer has from its cell."""
    parameters = inspect.signature(LAYERS[name]).parameters
    for field in fields(getattr(cells, name)):
        text = str(parameters[field.name]).replace("collections.abc.", "")
        yield text.replace("'", '"')


def stubs() -> dict[Path, str]:
    """By file, its text."""
    source = Path(longlag.__file__).parent
    names = "\n".join(f'    "{name}",' for name in sorted(cells.__all__, key=_as_ruff))
    imports = "\n".join(
        f"from longlag.cells.{file} import {name} as {name}"
        for file, name in sorted(cells.CELLS.items())
    )
    classes = "".join(
        LAYER.format(
            name=name,
            docstring=(inspect.getdoc(layer) or "").replace("\n", "\n    ").replace("    \n", "\n"),
            own=",\n        ".join(own_arguments(name)),
        )
        for name, layer in LAYERS.items()
    )
    parts = [("longlag", longlag._MODULES)]
    parts += [(f"longlag.{part}", names.split()) for part, names in longlag._PARTS.items()]
    lines = [f"from {part} import {name} as {name}" for part, names in parts for name in names]
    lines += ["from longlag.layers.built_in import *  # noqa: F403"]
    public = "\n".join(sorted(lines, key=lambda line: line.split()[1]))
    return {
        source / "__init__.pyi": PACKAGE.format(imports=public),
        source / "cells" / "__init__.pyi": NOTE + CELLS.format(imports=imports, names=names),
        source / "layers" / "built_in.pyi": NOTE + BUILT_IN.format(names=names, classes=classes),
    }


def _as_ruff(name: str) -> tuple[bool, str]:
    """The order of `__all__`: constants, then classes."""
    return not name.isupper(), name


if __name__ == "__main__":
    for file, text in stubs().items():
        file.write_text(text, encoding="utf-8")
