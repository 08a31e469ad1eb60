"""Reservoir computing: readouts that are fitted in one step, on layers that stay as they are."""

from longlag.reservoirs.conceptor import Conceptor, Loaded, load_patterns
from longlag.reservoirs.method import LinearReadout, ReadoutMethod
from longlag.reservoirs.recursive import RecursiveLeastSquares
from longlag.reservoirs.ridge import Ridge
from longlag.reservoirs.rows import Rows
from longlag.reservoirs.scikit_learn import Estimator, ScikitLearn

__all__ = [
    "Conceptor",
    "Estimator",
    "LinearReadout",
    "Loaded",
    "ReadoutMethod",
    "RecursiveLeastSquares",
    "Ridge",
    "Rows",
    "ScikitLearn",
    "load_patterns",
]
