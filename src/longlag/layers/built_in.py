"""The built-in layers: each is a cell of :mod:`longlag.cells` over sequences.

Every one takes the sizes, the fields of its cell, and the options of
:class:`~longlag.layers.Recurrent`. Signature and docstring are derived from both; type checkers
read them in ``built_in.pyi``, which ``python tools/stubs.py`` writes.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, fields
from inspect import Parameter
from typing import Any

from longlag import cells
from longlag.layers.recurrent import Recurrent
from longlag.recurrence import Cell

__all__: list[str] = []
__all__ += cells.__all__


def _layer(cell: type[Cell]) -> type[Recurrent]:
    """The class of the layers that run instances of a cell class."""
    own: tuple[Field[Any], ...] = fields(cell)  # type: ignore[arg-type]

    def __init__(self: Any, input_size: int, hidden_size: int, **options: Any) -> None:
        arguments = {field.name: options.pop(field.name) for field in own if field.name in options}
        for field in own:
            if "as_option" in field.metadata and arguments.get(field.name) is None:
                arguments[field.name] = options.get(field.metadata["as_option"], field.default)
        plain = super(layer, self)
        plain.__init__(cell(**arguments), input_size, hidden_size, **options)  # type: ignore[call-arg]

    name = cell.__name__
    parameters = [*_parameters(own)]
    signature = inspect.Signature(parameters, return_annotation=None)
    __init__.__qualname__ = f"{name}.__init__"
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    __init__.__annotations__ = {p.name: p.annotation for p in parameters[1:]} | {"return": None}
    body = {"__init__": __init__, "__doc__": _docstring(cell), "__module__": __name__}
    layer = type(name, (Recurrent,), body)
    return layer


def _parameters(own: tuple[Field[Any], ...]) -> Iterator[Parameter]:
    """The sizes, the fields of the cell, and the options of every layer."""
    this, _, *sizes_and_options = inspect.signature(Recurrent.__init__).parameters.values()
    sizes = [size for size in sizes_and_options if size.kind is not Parameter.KEYWORD_ONLY]
    yield this
    yield from sizes
    for field in own:
        kind: Any = field.type
        default = field.default
        if "as_option" in field.metadata:
            kind, default = kind | None, None
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    yield from sizes_and_options[len(sizes) :]


_SECTIONS = re.compile(
    r"(?P<about>.*?)(?:^Args:\n(?P<args>.*?))?(?P<rest>^(?:Attributes|Raises|Source|Example):.*)?\Z",
    re.DOTALL | re.MULTILINE,
)


def _sections(documented: type) -> dict[str, str]:
    """A docstring up to its arguments, these, and the rest."""
    match = _SECTIONS.match(inspect.getdoc(documented) or "")
    assert match is not None
    return {name: (text or "").rstrip() for name, text in match.groupdict().items()}


def _docstring(cell: type[Cell]) -> str:
    """The cell's docstring, its arguments between the sizes and the options of every layer."""
    about, args, rest = _sections(cell).values()
    of_layer = re.split(r"\n(?=    \w)", _sections(Recurrent)["args"])[1:]  # without the cell
    arguments = [*of_layer[:2], *([args] if args else []), *of_layer[2:]]
    where = "Parameters, attributes and cost are those of :class:`~longlag.Recurrent`."
    return "\n\n".join(
        part for part in (about, where, "\n".join(["Args:", *arguments]), rest) if part
    )


LAYERS: Mapping[str, Callable[..., Recurrent]] = {
    name: _layer(getattr(cells, name)) for name in cells.__all__
}
"""The built-in layers by their public names, which are those of their cells."""

globals().update(LAYERS)
