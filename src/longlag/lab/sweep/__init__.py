"""A search for the settings of a network: Optuna proposes, trials run side by side."""

from longlag.lab.sweep import record
from longlag.lab.sweep.space import Space
from longlag.lab.sweep.study import RUNNERS, Sweep

__all__ = ["RUNNERS", "Space", "Sweep", "record"]
