"""Checks of numbers that are given as arguments, in the same words wherever they are given."""

import math
import numbers
from typing import Any


def is_whole(value: Any, least: int | None = None) -> bool:
    """Whether a value is a whole number, and not below ``least``; True and False are none.

    >>> is_whole(3), is_whole(0, 1), is_whole(3.0), is_whole(True)
    (True, False, False, False)
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and (least is None or value >= least)


def check_whole(
    argument: str,
    value: Any,
    least: int | None = None,
    most: int | None = None,
    expected: str = "a whole number",
) -> int:
    """The value of an argument, a whole number in least .. most.

    Args:
        argument: its name.
        expected: in the words of the error, what else than a whole number it may be.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is out of range.

    >>> check_whole("steps", 0, 1)
    Traceback (most recent call last):
    ValueError: steps: got 0, expected at least 1
    """
    if not is_whole(value):
        raise TypeError(f"{argument}: got {value!r} ({type(value).__name__}), expected {expected}")
    if (least is not None and value < least) or (most is not None and value > most):
        limits = (("at least", least), ("at most", most))
        wanted = " and ".join(f"{word} {limit}" for word, limit in limits if limit is not None)
        raise ValueError(f"{argument}: got {value}, expected {wanted}")
    return value


def check_optional(
    argument: str, value: Any, least: int | None = None, expected: str = "a whole number"
) -> None:
    """The same for an argument that may be None."""
    if value is not None:
        check_whole(argument, value, least, expected=f"{expected}, or None")


def check_number(
    argument: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
) -> float:
    """The value of an argument, a finite number in a range, as a float.

    Args:
        argument: its name.
        least, above, most: the range: value >= least, value > above, value <= most.

    Raises:
        TypeError: it is no number.
        ValueError: it is out of range.

    >>> check_number("leak", 0, above=0.0, most=1.0)
    Traceback (most recent call last):
    ValueError: leak: got 0, expected a number above 0.0 and at most 1.0
    """
    limits = (("at least", least), ("above", above), ("at most", most))
    words = " and ".join(f"{word} {limit}" for word, limit in limits if limit is not None)
    expected = f"a number {words}".strip()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{argument}: got {value!r} ({type(value).__name__}), expected {expected}")
    number = float(value)
    inside = (
        math.isfinite(number)
        and (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
    )
    if not inside:
        raise ValueError(f"{argument}: got {value}, expected {expected}")
    return number
