"""Which architecture bridges which lag: families of networks, each on the same tasks."""

from longlag.lab.compare.cases import Case, cases
from longlag.lab.compare.families import FAMILIES, Family
from longlag.lab.compare.problems import PROBLEMS, Problem
from longlag.lab.compare.setup import Setup

__all__ = ["FAMILIES", "PROBLEMS", "Case", "Family", "Problem", "Setup", "cases"]
