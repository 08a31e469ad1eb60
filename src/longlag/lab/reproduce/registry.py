"""All experiments, by name."""

from longlag.lab.reproduce import adding, lag_2b, lag_2c, lag_table, now, reber, temporal_order
from longlag.lab.reproduce.experiment import Experiment

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Experiment] = {
    each.EXPERIMENT.name: each.EXPERIMENT
    for each in (lag_table, lag_2b, lag_2c, adding, temporal_order, reber, now)
}
