"""From what the user gave to an optimizer and a scheduler."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from longlag.training.options import Schedule
from longlag.training.record import Record

OptimizerLike: TypeAlias = Optimizer | Callable[[list[nn.Parameter]], Optimizer]


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that require a gradient.

    Raises:
        ValueError: there is none.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            f"model {type(model).__name__} has no parameter that requires a gradient; expected at "
            "least one. Train frozen layers with a readout, or set requires_grad."
        )
    return parameters


def make_optimizer(optimizer: OptimizerLike | None, parameters: list[nn.Parameter]) -> Optimizer:
    """The optimizer; by default Adam with a learning rate of 0.001.

    Args:
        optimizer: one of torch, over parameters of the model, or a callable that makes one.
        parameters: those to train.

    Raises:
        TypeError: it is neither.
        ValueError: it holds no parameter of the model, or needs several losses a step.

    >>> make_optimizer(torch.optim.SGD, [nn.Parameter(torch.zeros(1))]).defaults["lr"]
    0.001
    """
    if optimizer is None:
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
    elif not isinstance(optimizer, Optimizer):
        if not callable(optimizer):
            raise TypeError(
                f"optimizer is a {type(optimizer).__name__}; expected a torch optimizer or a "
                "callable parameters -> optimizer"
            )
        optimizer = optimizer(parameters)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer(parameters) gave a {type(optimizer).__name__}; expected a torch "
                "optimizer"
            )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError(
            "optimizer is LBFGS, which asks for the loss several times a step; fit computes it "
            "once. Use a first-order optimizer such as Adam."
        )
    ours = {id(p) for p in parameters}
    if not any(id(p) in ours for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            "optimizer holds none of the model's parameters; make it from model.parameters(), or "
            "pass a callable parameters -> optimizer"
        )
    return optimizer


def parameters_beside(optimizer: Optimizer, model: nn.Module) -> nn.ParameterList:
    """The parameters of an optimizer that are not the model's, such as those of a loss."""
    ours = {id(p) for p in model.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    return nn.ParameterList(p for p in held if id(p) not in ours)


class Scheduling:
    """A scheduler at work: takes its steps when its `Schedule` says so."""

    def __init__(self, schedule: Schedule, optimizer: Optimizer, monitor: str):
        scheduler = schedule.scheduler
        if not isinstance(scheduler, LRScheduler):
            scheduler = scheduler(optimizer)
        if not isinstance(scheduler, LRScheduler):
            raise TypeError(
                f"scheduler(optimizer) gave a {type(scheduler).__name__}; expected a torch "
                "learning-rate scheduler"
            )
        if scheduler.optimizer is not optimizer:
            raise ValueError(
                "scheduler belongs to another optimizer; pass that optimizer too, or a callable "
                "optimizer -> scheduler"
            )
        if isinstance(scheduler, ReduceLROnPlateau) and schedule.every == "step":
            raise ValueError("ReduceLROnPlateau looks at records; expected Schedule(every='epoch')")
        self.scheduler = scheduler
        self.every = schedule.every
        self.monitor = monitor
        self._resumed = False

    def after_step(self) -> None:
        """An update was made."""
        if self.every == "step":
            self._step()

    def after_record(self, record: Record) -> None:
        """A record was made."""
        if self.every == "epoch":
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self._step(record.value(self.monitor))
            else:
                self._step()

    def describe(self) -> str:
        """The class of the scheduler and when it steps."""
        return f"{type(self.scheduler).__name__} every {self.every}"

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.scheduler.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Take in what `state` gave."""
        self.scheduler.load_state_dict(state)
        self._resumed = True

    def _step(self, *arguments: Any) -> None:
        if not self._resumed:
            self.scheduler.step(*arguments)
            return
        self._resumed = False
        with warnings.catch_warnings():
            # The updates before this step were made by the process that was interrupted.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.scheduler.step(*arguments)


def learning_rate(optimizer: Optimizer) -> float:
    """That of the first parameter group."""
    return float(optimizer.param_groups[0]["lr"])


def describe(optimizer: Optimizer) -> dict[str, Any]:
    """The class and the settings of an optimizer, as data."""
    settings: Iterable[tuple[str, Any]] = optimizer.defaults.items()
    return {"class": type(optimizer).__name__, **{key: repr(value) for key, value in settings}}


def without_parameters(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The settings of each parameter group, which a schedule may change."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
