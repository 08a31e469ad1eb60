"""JSON records: making one of a dataclass, and reading one with a closed schema.

Closed: each key known, each key there, each value typed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from longlag.data.errors import DataError, listing
from longlag.messages import near_match


def plain(value: Any) -> Any:
    """A value as a JSON record holds it: a dataclass by its fields, a tuple as a list."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def closed(
    record: object, keys: Sequence[str], where: str, later: Sequence[str] = ()
) -> Mapping[str, Any]:
    """`record` itself, when it is a mapping with these keys, and none but `later` beside them.

    `later` are those that files of earlier versions lack.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: expected a mapping, got {type(record).__name__}")
    known = (*keys, *later)
    for key in record:
        if key not in known:
            raise DataError(
                f"{where}: unknown key {key!r}"
                + (near_match(key, known) or f"; the keys are {listing(known)}")
            )
    for key in keys:
        if key not in record:
            raise DataError(f"{where}: the key {key!r} is missing; there are {listing(record)}")
    return record


def numbers(value: object, where: str) -> tuple[float, ...]:
    """A list of finite numbers, as floats."""
    if not isinstance(value, list | tuple):
        raise DataError(f"{where}: expected a list of numbers, got {value!r}")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
            raise DataError(f"{where}: expected finite numbers, got {item!r}")
    return tuple(float(item) for item in value)


def texts(value: object, where: str) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{where}: expected a list of strings, got {value!r}")
    return tuple(value)
