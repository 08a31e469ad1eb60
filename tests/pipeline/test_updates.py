"""Optimizers and schedules by name."""

import torch

from longlag.pipeline.updates import optimizer, schedule


def test_plateau_halves_the_learning_rate_where_nothing_improves():
    of = optimizer("sgd", 0.8)([torch.nn.Parameter(torch.zeros(1))])
    plan = schedule("plateau", 0.8, 100)
    assert plan is not None
    plateau = plan.scheduler(of)
    rates = []
    for _ in range(14):
        plateau.step(1.0)
        rates.append(of.param_groups[0]["lr"])
    assert rates[0] == 0.8
    assert rates[-1] == 0.2
