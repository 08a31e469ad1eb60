"""The built-in recurrences: one file, one equation, and one line of the table here.

A cell is imported when it is first used, so that the names can be had without SymPy.
"""

import importlib
from typing import Any

CELLS = {
    "gru": "GRU",
    "lstm": "LSTM",
    "elman": "Elman",
    "leaky": "Leaky",
    "skip": "Skip",
    "clockwork": "Clockwork",
    "indrnn": "IndRNN",
    "lstm1997": "LSTM1997",
    "cornn": "CoRNN",
    "lem": "LEM",
    "mingru": "MinGRU",
    "lru": "LRU",
    "antisymmetric": "Antisymmetric",
}
"""By the file that declares it, the public name of a cell.

All that lists the cells reads this table: the layers, what a saved model may name, the choices of
``longlag train --cell`` (the name of the file), the pages of the documentation and the tests. After
a new line ``python tools/stubs.py`` tells type checkers.
"""

__all__ = [*CELLS.values()]  # pyright: ignore[reportUnsupportedDunderAll]

_FILES = {name: file for file, name in CELLS.items()}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
