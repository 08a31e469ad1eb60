"""What the operations of a program are on plain numbers: NumPy arrays, and exact fractions.

With :meth:`~longlag.recurrence.Program.evaluate` each is a way to run a recurrence. That on PyTorch
tensors stands in `longlag.scan`.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


NUMPY: Mapping[str, Callable[..., Any]] = {
    "constant": lambda value: value,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "abs": np.abs,
    "sign": np.sign,
    "relu": lambda x: np.maximum(x, 0),
    "saturate": lambda x: np.clip(x, 0, 1),
    "floor": np.floor,
    "step": lambda x: np.where(x > 0, 1.0, 0.0),
    "stop_gradient": lambda x: x,
}
"""On arrays and floats, elementwise."""


def _irrational(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise ValueError(
            f"exact: the recurrence uses {name}, whose values are not rational numbers; expected "
            "+ - * /, abs, sign, relu, saturate and step alone"
        )

    return refuse


EXACT: Mapping[str, Callable[..., Any]] = {
    "constant": Fraction,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "abs": abs,
    "sign": lambda x: (x > 0) - (x < 0),
    "relu": lambda x: max(x, Fraction(0)),
    "saturate": lambda x: min(max(x, Fraction(0)), Fraction(1)),
    "step": lambda x: Fraction(x > 0),
    "floor": lambda x: Fraction(math.floor(x)),
    "stop_gradient": lambda x: x,
    **{name: _irrational(name) for name in ("tanh", "sigmoid", "exp", "log", "sqrt", "sin", "cos")},
}
"""On Python's fractions (or integers), without rounding; a ValueError for what is not rational."""
