"""Reservoir computing: readouts that are fitted in one step, and measures of reservoirs."""

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
from longlag.reservoirs.ridge import Ridge
from longlag.reservoirs.rows import Rows

__all__ = [
    "EchoStates",
    "Factor",
    "IntrinsicPlasticity",
    "LinearReadout",
    "MemoryCapacities",
    "ProcessingCapacities",
    "ReadoutMethod",
    "Ridge",
    "Rows",
    "echo_states",
    "generalisation_rank",
    "information_processing_capacity",
    "kernel_rank",
    "memory_capacity",
]
