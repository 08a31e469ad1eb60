"""What every generator needs: checked arguments, explicit random numbers, one-hot symbols."""

import contextlib
import math
import operator
from collections.abc import Sequence
from numbers import Real
from typing import Final

import numpy as np
from numpy.typing import NDArray

# What random numbers are for. The purpose is part of the seed, so that a test sequence is never
# drawn from the numbers of a training sequence, whatever seeds the two have.
TRAIN: Final = 0
TEST: Final = 1
DATA_SET: Final = 2


def check_integer(name: str, value: object, least: int, fix: str) -> int:
    """`value` as an int, or a ValueError naming `name` if it is none or less than `least`."""
    try:
        number = operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}; {fix}")
    return number


def check_positive(name: str, value: object, fix: str) -> float:
    """`value` as a float, or a ValueError naming `name` unless it is finite and above 0."""
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
    if not 0.0 < number < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}; {fix}")
    return number


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise a ValueError naming `name` unless `value` is one of `choices`."""
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}; choose one of them")


def generator(seed: int, purpose: int, index: int) -> np.random.Generator:
    """The random numbers of batch `index` for `purpose` under `seed`: a function of these alone."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, index)))


def one_hot(symbols: NDArray[np.integer], size: int, fill: float = 0.0) -> NDArray[np.float32]:
    """Symbols (N, T) in 0..size-1 as unit vectors (N, T, size); a symbol of -1 gives all `fill`."""
    vectors = np.zeros((*symbols.shape, size), dtype=np.float32)
    flat = symbols.ravel()
    present = flat >= 0
    vectors.reshape(-1)[np.flatnonzero(present) * size + flat[present]] = 1.0
    if fill != 0.0:
        vectors.reshape(-1, size)[~present] = fill
    return vectors


def padding(lengths: NDArray[np.int64], steps: int) -> NDArray[np.bool_]:
    """True (N, T) at the steps t >= length, which belong to no sequence."""
    return np.arange(steps) >= lengths[:, None]


def spell(vectors: NDArray[np.float32], names: Sequence[str]) -> list[str]:
    """The names of one-hot vectors (T, C)."""
    return [names[int(symbol)] for symbol in vectors.argmax(axis=-1)]
