"""Any Turing machine as a recurrent network that does what it does, to the halt.

:func:`compile` makes an ordinary layer of a :class:`TuringMachine`; docs/turing.md has the
construction and its proof.
"""

from longlag.turing.exact import ExactRun
from longlag.turing.float64 import Certificate
from longlag.turing.machine import Run, TuringMachine
from longlag.turing.network import FORMS, PrecisionError, TuringNetwork, compile, load
from longlag.turing.rules import MachineError, Rule
from longlag.turing.tape import Configuration, Tape
from longlag.turing.trace import Trace

__all__ = [
    "FORMS",
    "Certificate",
    "Configuration",
    "ExactRun",
    "MachineError",
    "PrecisionError",
    "Rule",
    "Run",
    "Tape",
    "Trace",
    "TuringMachine",
    "TuringNetwork",
    "compile",
    "load",
]
