"""The experiments of the papers, run again: what was published beside what comes out here."""

from longlag.lab.reproduce import adding, lag_2b, lag_2c, lag_table, now, reber, temporal_order
from longlag.lab.reproduce.experiment import Effort, Experiment, Outcome, Published, Row

__all__ = ["EXPERIMENTS", "Effort", "Experiment", "Outcome", "Published", "Row"]

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (lag_table, lag_2b, lag_2c, adding, temporal_order, reber, now)
}
"""All experiments, by name."""
