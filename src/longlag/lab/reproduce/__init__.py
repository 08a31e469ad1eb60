"""The experiments of the papers, run again: what was published beside what comes out here."""

from longlag.lab.reproduce.experiment import Effort, Experiment, Published, Row
from longlag.lab.reproduce.outcome import Outcome
from longlag.lab.reproduce.registry import EXPERIMENTS

__all__ = ["EXPERIMENTS", "Effort", "Experiment", "Outcome", "Published", "Row"]
