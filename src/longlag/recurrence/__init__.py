"""What a recurrence is: declaration, tracing into scalar operations, derivatives, LaTeX."""

from sympy import cos, exp, log, sin, sqrt, tanh

from longlag.recurrence.adjoint import derive_adjoint
from longlag.recurrence.declaration import Cell
from longlag.recurrence.functions import (
    ACTIVATIONS,
    activation,
    floor,
    modulo,
    multiple,
    positive,
    relu,
    saturate,
    sigmoid,
    step,
    stop_gradient,
)
from longlag.recurrence.probes import probed
from longlag.recurrence.program import ARITY, DeclarationError, Operation, Program
from longlag.recurrence.trace import trace
from longlag.recurrence.traced import Gate, Recurrence, Wire
from longlag.recurrence.wiring import (
    Absent,
    Dense,
    Diagonal,
    Geometric,
    Groups,
    Pattern,
    Uniform,
    UnitParameter,
    Wiring,
    block_diagonal,
    block_triangular,
)

__all__ = [
    "ACTIVATIONS",
    "ARITY",
    "Absent",
    "Cell",
    "DeclarationError",
    "Dense",
    "Diagonal",
    "Gate",
    "Geometric",
    "Groups",
    "Operation",
    "Pattern",
    "Program",
    "Recurrence",
    "Uniform",
    "UnitParameter",
    "Wire",
    "Wiring",
    "activation",
    "block_diagonal",
    "block_triangular",
    "cos",
    "derive_adjoint",
    "exp",
    "floor",
    "log",
    "modulo",
    "multiple",
    "positive",
    "probed",
    "relu",
    "saturate",
    "sigmoid",
    "sin",
    "sqrt",
    "step",
    "stop_gradient",
    "tanh",
    "trace",
]
