"""Reservoir computing: readouts that are fitted in one step, and measures of reservoirs."""

from longlag.reservoirs.conceptor import Conceptor, Loaded, load_patterns
from longlag.reservoirs.echoes import EchoStates, echo_states
from longlag.reservoirs.method import LinearReadout, ReadoutMethod
from longlag.reservoirs.plasticity import IntrinsicPlasticity
from longlag.reservoirs.processing import (
    Factor,
    ProcessingCapacities,
    information_processing_capacity,
)
from longlag.reservoirs.ranks import generalisation_rank, kernel_rank
from longlag.reservoirs.recall import MemoryCapacities, memory_capacity
from longlag.reservoirs.recursive import RecursiveLeastSquares
from longlag.reservoirs.ridge import Ridge
from longlag.reservoirs.rows import Rows
from longlag.reservoirs.scikit_learn import Estimator, ScikitLearn

__all__ = [
    "Conceptor",
    "EchoStates",
    "Estimator",
    "Factor",
    "IntrinsicPlasticity",
    "LinearReadout",
    "Loaded",
    "MemoryCapacities",
    "ProcessingCapacities",
    "ReadoutMethod",
    "RecursiveLeastSquares",
    "Ridge",
    "Rows",
    "ScikitLearn",
    "echo_states",
    "generalisation_rank",
    "information_processing_capacity",
    "kernel_rank",
    "load_patterns",
    "memory_capacity",
]
