"""A cell as plain data, for saving: its name, its fields, and numbers that its equations give."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args

import numpy as np

from longlag import cells as built_in
from longlag.recurrence import Cell
from longlag.recurrence.arithmetic import NUMPY

_BUILT_IN: Mapping[str, type[Cell]] = {name: getattr(built_in, name) for name in built_in.__all__}
_NEEDED = ("type", "built_in", "fields", "values")

COMPARED = frozenset({"values", "wires"})
"""The entries of a cell that :func:`build` compares: those that its fields do not give."""


def fields_of(name: str) -> list[str]:
    """The fields of a built-in cell."""
    return [field.name for field in fields(_BUILT_IN[name])]  # type: ignore[arg-type]


def check_fields(name: str, values: Mapping[str, Any]) -> None:
    """The values of a built-in cell's fields, as far as they are there, are of the right types.

    Raises:
        TypeError: for another type; the cell itself takes all that is true for True.
    """
    for field in fields(_BUILT_IN[name]):  # type: ignore[arg-type]
        value = values.get(field.name, field.default)
        if value is None and field.default is None:
            continue
        kind = str if str in get_args(field.type) else type(field.default)
        if kind in (bool, str):  # 1 for True is a number that users give
            if not isinstance(value, int if kind is bool else str):
                raise TypeError(f"{field.name}: got {value!r:.80}, expected a {kind.__name__}")
            continue
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise TypeError(f"{field.name}: got {value!r:.80}, expected numbers")


def describe(cell: Cell) -> dict[str, Any]:
    """A cell as plain data.

    Raises:
        TypeError: for a cell with fields that is no dataclass.
    """
    name = type(cell).__name__
    extra = set(vars(cell)) - {"recurrence"}
    if extra and not is_dataclass(cell):
        raise TypeError(
            f"model: the cell {name} has the fields {sorted(extra)}, which a file cannot hold; "
            "declare it as a frozen dataclass"
        )
    return {
        "type": name,
        "built_in": type(cell) is _BUILT_IN.get(name),
        "fields": asdict(cell) if is_dataclass(cell) else {},
        "values": _values(cell),
        "wires": _wires(cell),
    }


def build(config: Mapping[str, Any], known: Sequence[type[Cell]]) -> Cell:
    """The cell that plain data describes.

    Args:
        config: from :func:`describe`.
        known: classes of cells that are not built in.

    Raises:
        ValueError: where the class is not known, has other fields, or other equations, or where
            that is no description of a cell.
    """
    if not isinstance(config, dict) or not config.keys() >= {*_NEEDED}:
        raise ValueError(f"cell: got {config!r:.80}, expected an object with {', '.join(_NEEDED)}")
    unknown = config.keys() - {*_NEEDED, "wires"}
    if unknown:
        raise ValueError(f"cell: has the unknown entry {min(unknown)!r:.80}")
    name = config["type"]
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"cell: has the type {name!r:.80}, expected the name of a class")
    then = config["values"]
    if not isinstance(then, list) or any(not isinstance(v, (int, float)) for v in then):
        raise ValueError(f"cell: has the values {then!r:.80}, expected numbers")
    classes = _BUILT_IN if config["built_in"] else {cell.__name__: cell for cell in known}
    if name not in classes:
        raise ValueError(
            f"it uses a cell {name!r} that is not built in; import that class and give it: "
            f"load(path, cells=[{name}])"
        )
    kind = classes[name]
    if is_dataclass(kind):
        unknown = set(config["fields"]) - {field.name for field in fields(kind)}
        if unknown:
            raise ValueError(f"the cell {name!r} has no fields {sorted(unknown)}")
    if config["built_in"]:
        check_fields(name, config["fields"])
    cell = kind(**config["fields"])
    now = _values(cell)
    same = len(now) == len(then) and all(map(_close, now, then))
    if not same or config.get("wires", _wires(cell)) != _wires(cell):
        raise ValueError(
            f"the equations of the cell {name!r} are not those that the model was saved with; "
            "give the class that it was saved with"
        )
    return cell


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) or (one != one and other != other)


def _wires(cell: Cell) -> list[list[Any]]:
    """What each matrix of W reads, which the equations do not tell; as JSON gives it back."""
    return [
        [wire.gate, wire.source, wire.truncated, wire.pattern and [*map(list, wire.pattern)]]
        + ([wire.constraint] if wire.constraint else [])
        + (["new"] if wire.new else [])
        for wire in cell.recurrence.wires
    ]


def _values(cell: Cell) -> list[float]:
    """New states at one fixed point: equal equations give equal numbers, however they print."""
    forward = cell.recurrence.forward
    inputs = [0.2 + 0.7 * (0.618 * k % 1.0) for k in range(len(forward.inputs))]
    with np.errstate(all="ignore"):  # it may be no point that the equations are defined at
        return [float(value) for value in forward.evaluate(NUMPY, inputs)]
