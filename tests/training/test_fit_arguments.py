"""What `fit` says of arguments and models that do not fit."""

import math

import pytest
import torch
from lightning_fabric import Fabric
from tests.training.helpers import Net, Stream, quiet, sums

from longlag.gradients import BPTT
from longlag.training import EarlyStopping, Schedule


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "expected exactly one"),
        ({"epochs": 1, "steps": 1}, ValueError, "epochs is 1 and steps is 1; expected exactly one"),
        ({"epochs": 0}, ValueError, "epochs: got 0, expected at least 1"),
        ({"steps": 1.5}, TypeError, r"steps: got 1\.5 .*expected a whole number, or None"),
        ({"epochs": 1, "batch_size": 0}, ValueError, "batch_size: got 0"),
        ({"epochs": 1, "clip_norm": -1.0}, ValueError, r"clip_norm is -1\.0; expected a finite"),
        ({"epochs": 1, "clip_norm": math.nan}, ValueError, "clip_norm is nan"),
        ({"epochs": 1, "seed": -1}, ValueError, "seed: got -1, expected at least 0"),
        ({"epochs": 1, "validate_every": 0}, ValueError, "validate_every: got 0"),
        ({"epochs": 1, "resume": "maybe"}, ValueError, "resume is 'maybe'; expected 'auto'"),
        (
            {"epochs": 1, "resume": "always"},
            ValueError,
            "resume is 'always', and checkpoint is None",
        ),
        (
            {"epochs": 1, "method": BPTT},
            TypeError,
            r"method is the class BPTT; expected BPTT\(\.\.\.\)",
        ),
        ({"epochs": 1, "metrics": "mse"}, ValueError, "metrics need validation data"),
        ({"epochs": 1, "validation": Stream()}, ValueError, "validation is a stream without end"),
        ({"epochs": 1, "optimizer": 3}, TypeError, "optimizer is a int"),
        ({"epochs": 1, "optimizer": lambda p: None}, TypeError, "gave a NoneType"),
        ({"epochs": 1, "optimizer": torch.optim.LBFGS}, ValueError, "optimizer is LBFGS"),
        (
            {"epochs": 1, "optimizer": torch.optim.SGD(Net().parameters(), 0.1)},
            ValueError,
            "optimizer holds none of the model's parameters",
        ),
        ({"epochs": 1, "scheduler": 3}, TypeError, "scheduler is a int"),
        ({"epochs": 1, "scheduler": lambda o: None}, TypeError, "gave a NoneType"),
        (
            {
                "epochs": 1,
                "scheduler": torch.optim.lr_scheduler.StepLR(
                    torch.optim.SGD(Net().parameters(), 0.1), 1
                ),
            },
            ValueError,
            "scheduler belongs to another optimizer",
        ),
        (
            {
                "epochs": 1,
                "scheduler": Schedule(torch.optim.lr_scheduler.ReduceLROnPlateau, every="step"),
            },
            ValueError,
            "ReduceLROnPlateau looks at records",
        ),
        (
            {"epochs": 1, "early_stopping": EarlyStopping("accuracy")},
            ValueError,
            "EarlyStopping: monitor is 'accuracy'; this run has loss; pass validation=data",
        ),
        (
            {"epochs": 1, "fabric": Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")},
            ValueError,
            "fabric has 2 processes",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(options, error, message):
    with pytest.raises(error, match=message):
        quiet(Net(), sums(), **options)


def test_models_that_do_not_fit_are_named():
    with pytest.raises(TypeError, match="model is a int"):
        quiet(3, sums(), epochs=1)
    with pytest.raises(ValueError, match="Net has no parameter that requires a gradient"):
        quiet(Net().requires_grad_(False), sums(), epochs=1)

    class Tells(Net):
        def forward(self, x):
            return {"output": super().forward(x)}

    with pytest.raises(TypeError, match="model Tells returned a dict; expected a tensor"):
        quiet(Tells(), sums(), epochs=1)
