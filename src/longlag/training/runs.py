"""Runs of networks of one form, side by side: updates in compiled calls, records as of `fit`."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from longlag.gradients import Loss
from longlag.gradients.losses import due, name_of, resolve_loss
from longlag.layers import SequenceModel
from longlag.training.compiled.network import Unfit
from longlag.training.compiled.networks import Networks, one_thread
from longlag.training.errors import StopTraining
from longlag.training.history import History
from longlag.training.metrics import Meter, Metrics, make_meters
from longlag.training.optimizers import (
    Scheduling,
    learning_rate,
    make_optimizer,
    trainable,
    without_parameters,
)
from longlag.training.options import EarlyStopping, Limits, Schedule
from longlag.training.record import Record
from longlag.training.sources import Data, Reading, Source, make_source
from longlag.training.stopping import Stopper, monitored


def nothing(last: bool) -> None:
    """What is done after an epoch."""


class Wanted(NamedTuple):
    """What each network has for itself."""

    optimizers: list[Any]
    schedulers: list[Any]
    clip_norms: list[float | None]
    early_stopping: list[EarlyStopping | None]

    def of(self, number: int) -> dict[str, Any]:
        """That of one, as `fit` takes it."""
        names = ("optimizer", "scheduler", "clip_norm", "early_stopping")
        return {name: part[number] for name, part in zip(names, self, strict=True)}


class _Row(nn.Module):
    """The numbers of a network, as a module whose weights can be kept."""

    def __init__(self, row: Tensor) -> None:
        super().__init__()
        self.register_buffer("row", row)


@dataclass(eq=False)
class _Run:
    """One network: what it has for itself."""

    optimizer: Optimizer
    scheduling: Scheduling | None
    stopper: Stopper | None
    reading: Reading
    clip_norm: float
    meters: dict[str, Meter]
    history: History
    row: _Row


class Runs:
    """The runs of networks of one form; arguments as for `fit_replicas`.

    Args:
        model: of their form.
        starts: the parameters of each by name.
        data, seeds, validation, loss, metrics, epochs, steps, batch_size, shuffle: see there.
        wanted: what each has for itself.
        threads: how many networks are trained at the same time; None: as many as PyTorch has
            threads.

    Raises:
        Unfit: it cannot be compiled.
        ValueError, TypeError: an argument does not fit.
    """

    def __init__(
        self,
        model: SequenceModel,
        starts: Sequence[Mapping[str, Tensor]],
        data: Data,
        seeds: Sequence[int],
        wanted: Wanted,
        *,
        validation: Data | None,
        loss: str | Loss | None,
        metrics: Metrics | None,
        epochs: int | None,
        steps: int | None = None,
        batch_size: int,
        shuffle: bool,
        threads: int | None = None,
    ) -> None:
        parameters = trainable(model)
        device = torch.device("cpu")
        if parameters[0].device != device:
            raise Unfit(f"the model is on {parameters[0].device}")
        reading = Reading(parameters[0].dtype, device, batch_size, seeds[0], shuffle)
        self.source = make_source(data, "data", reading)
        in_order = replace(reading, shuffle=False)
        held_out = None
        if validation is not None:
            held_out = make_source(validation, "validation", in_order)
        self.whole = _arrays(self.source)
        self.held_out = None if held_out is None else _arrays(held_out)
        _, self.loss = resolve_loss(loss, self.whole.target)
        self.epochs, self.steps = epochs, steps
        self.batch_size = min(batch_size, len(self.whole.x))
        optimizers = [make_optimizer(maker, parameters) for maker in wanted.optimizers]
        self.networks = Networks(
            model, self.loss, optimizers, starts, seeds, threads or torch.get_num_threads()
        )
        self._began, self.epoch, self._whole = time.perf_counter(), 0, True
        self.runs: list[_Run] = []
        # Before schedules, which set a rate of their own.
        self._settings = [repr((type(one).__name__, without_parameters(one))) for one in optimizers]
        self._wanted, self._held_out, self._seeds = wanted, held_out, [*seeds]
        validated = held_out is not None
        for number, own in enumerate(optimizers):
            meters = make_meters(metrics)
            schedule, options = wanted.schedulers[number], wanted.early_stopping[number]
            scheduling = None
            if schedule is not None:
                if not isinstance(schedule, Schedule):
                    schedule = Schedule(schedule)
                name = monitored(schedule.monitor, meters, validated=validated, owner="Schedule")
                scheduling = Scheduling(schedule, own, name)
                own.step()  # without gradients: schedulers want to have seen one
            clip_norm = wanted.clip_norms[number]
            Limits(epochs, steps, None, clip_norm)  # checks it
            self.runs.append(
                _Run(
                    own, scheduling,
                    None if options is None else Stopper(options, meters, validated=validated),
                    replace(reading, seed=seeds[number]),
                    math.inf if clip_norm is None else clip_norm, meters, History(),
                    _Row(self.networks.rows[number]),
                )
            )  # fmt: skip

    @property
    def made(self) -> int:
        """Updates of the network that has made the most."""
        return max(len(run.history) for run in self.runs)

    def describe(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        runs, held_out = self.runs, self._held_out
        own = {f"data {key}": value for key, value in self.source.describe().items()}
        if held_out is not None:
            own |= {f"validation {key}": value for key, value in held_out.describe().items()}
        schedules = [run.scheduling for run in runs]
        return {
            **own,
            "seeds": self._seeds,
            "optimizers": self._settings,
            "schedulers": [None if one is None else one.describe() for one in schedules],
            "clip_norms": self._wanted.clip_norms,
            "early_stopping": [repr(one) for one in self._wanted.early_stopping],
            "parameters": {n: list(p.shape) for n, p in self.networks.parameters_of(0).items()},
            "dtype": str(self.networks.rows.dtype),
            "loss": name_of(self.loss),
            "metrics": list(runs[0].meters),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, after a whole epoch."""
        parts = [
            {
                "history": run.history.to_dict(),
                "optimizer": run.optimizer.state_dict(),
                "scheduler": None if run.scheduling is None else run.scheduling.state(),
                "stopper": None if run.stopper is None else run.stopper.state(),
            }
            for run in self.runs
        ]
        return {
            "epoch": self.epoch, "seconds": time.perf_counter() - self._began,
            "networks": self.networks.state(), "each": parts,
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take in what `state` gave; a limit may be higher now."""
        for run, own in zip(self.runs, state["each"], strict=True):
            run.history = History.from_dict(own["history"])
            if run.history.stopped in ("epochs", "steps"):
                run.history.stopped = ""
            run.optimizer.load_state_dict(own["optimizer"])
            if run.scheduling is not None:
                run.scheduling.load_state(own["scheduler"])
            if run.stopper is not None:
                run.stopper.load_state(own["stopper"])
        self.networks.load_state(state["networks"])
        self.epoch, self._began = state["epoch"], time.perf_counter() - state["seconds"]

    def train(
        self,
        after_record: Callable[[int, Record], None] = lambda number, record: None,
        after_epoch: Callable[[bool], None] = nothing,
    ) -> list[History]:
        """Train all, and give their histories.

        Args:
            after_record: called with the number of a network and each of its records; it may raise
                `StopTraining`, which ends the training of this one.
            after_epoch: called after each whole epoch, with whether there is no further one.
        """
        limit, batches = self.steps, -(-len(self.whole.x) // self.batch_size)
        going = [number for number, run in enumerate(self.runs) if not run.history.stopped]
        going = [] if limit is not None and self.made >= limit else going
        # Losses are small tensors: threads of PyTorch would only wait for those of the networks.
        with one_thread():
            while going and not self._is_over():
                going = self._epoch(self.epoch + 1, going, after_record)
                self.epoch += 1
                if self._whole:
                    left = math.inf if limit is None else limit - self.made
                    after_epoch(not going or self._is_over() or left < batches)
        for number in going:
            self.runs[number].history.stopped = "epochs"
        for run in self.runs:
            run.history.step = "compiled"
            if run.stopper is not None:
                run.stopper.restore(run.row)
        return [run.history for run in self.runs]

    def restore(self, number: int, model: nn.Module) -> None:
        """Give a model the parameters of a network."""
        model.load_state_dict(self.networks.parameters_of(number), strict=False)

    def _is_over(self) -> bool:
        return self.epochs is not None and self.epoch >= self.epochs

    def _epoch(
        self, epoch: int, going: list[int], after_record: Callable[[int, Record], None]
    ) -> list[int]:
        """One epoch of the networks that are still trained, or what the limit of updates leaves of
        it: those that go on."""
        size, count = self.batch_size, len(self.whole.x)
        orders = []
        for number in going:
            order = self.runs[number].reading.order(epoch - 1, count)
            orders.append(np.arange(count) if order is None else order)
        full, sums = count // size * size, dict.fromkeys(going, 0.0)
        left = math.inf if self.steps is None else self.steps - len(self.runs[going[0]].history)
        if left <= count / size:
            full = count = min(count, int(left) * size)
        self._whole = count == len(self.whole.x)
        for batches, rows in ((full // size, slice(full)), (1, slice(full, count))):
            if batches == 0 or rows.start == rows.stop:
                continue
            parts = [order[rows].reshape(batches, -1) for order in orders]
            going, orders = self._updates(going, orders, parts, sums)
            if not going:
                return going
        validation = self._validate(going)
        after = []
        for number in going:
            run = self.runs[number]
            value, measured = validation.get(number, (None, {}))
            record = Record(
                epoch, len(run.history), time.perf_counter() - self._began,
                learning_rate(run.optimizer), sums[number] / count, value, measured,
            )  # fmt: skip
            run.history.records.append(record)
            if len(run.history) == self.steps:
                run.history.stopped = "steps"
            if run.stopper is not None:
                if run.stopper.update(record, run.row):
                    run.history.stopped = "early stopping"
                run.history.best_step = run.stopper.best_step
            if run.scheduling is not None:
                run.scheduling.after_record(record)
            try:
                after_record(number, record)
            except StopTraining:
                run.history.stopped = "callback"
            if not run.history.stopped:
                after.append(number)
        return after

    def _updates(
        self, going: list[int], orders: list[Any], parts: list[Any], sums: dict[int, float]
    ) -> tuple[list[int], list[Any]]:
        """Updates on batches of one size: the networks that go on, with their orders."""
        networks, updates, size = self.networks, len(parts[0]), parts[0].shape[1]
        table = []
        for number in going:
            scheduling = self.runs[number].scheduling
            after_each = None if scheduling is None else scheduling.after_step
            table.append(networks.coefficients_of(number, updates, after_each))
        clip_norms = [self.runs[number].clip_norm for number in going]
        losses, norms = networks.run(self.whole, going, parts, table, clip_norms)
        finite = np.isfinite(losses) & np.isfinite(norms)
        left, kept = [], []
        for place, number in enumerate(going):
            run = self.runs[number]
            made = int(finite[place].argmin()) if not finite[place].all() else updates
            run.history.extend(losses[place, :made].tolist(), norms[place, :made].tolist())
            for value in losses[place, :made].tolist():
                sums[number] += value * size
            if made < updates:
                run.history.stopped = "not finite"
            else:
                left.append(number)
                kept.append(orders[place])
        return left, kept

    def _validate(self, going: list[int]) -> dict[int, tuple[float, dict[str, float]]]:
        """Loss and metrics of each on the held out data."""
        held_out, found = self.held_out, {}
        if held_out is None:
            return found
        some = bool(due(held_out.target).any())

        with torch.no_grad():
            for number, output in self.networks.evaluate(held_out, going, self.batch_size):
                value = float(self.loss(output, held_out.target)) if some else math.nan
                measured = {}
                for name, meter in self.runs[number].meters.items():
                    meter.reset()
                    meter.update(output, held_out.target)
                    measured[name] = meter.compute()
                found[number] = value, measured
        return found


def _arrays(source: Source) -> Any:
    if source.whole is None:
        raise Unfit("the data are no arrays in memory")
    if source.whole.weights is not None:
        raise Unfit("the sequences have weights")
    data = source.whole.map(Tensor.contiguous)
    if data.lengths is not None and bool((data.lengths == data.x.shape[1]).all()):
        return data._replace(lengths=None)  # all are read to their ends
    return data
