"""`fit_replicas`: many networks of one form in one run, each with a history of its own."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from longlag.arguments import check_whole
from longlag.gradients import Loss
from longlag.layers import SequenceModel
from longlag.training.fit import check_resume, fit
from longlag.training.history import History
from longlag.training.metrics import Metrics
from longlag.training.optimizers import OptimizerLike, make_optimizer
from longlag.training.options import Checkpoint, EarlyStopping, Limits, Schedule
from longlag.training.progress import make_reporter
from longlag.training.record import Record
from longlag.training.signals import Signals
from longlag.training.sources import Data

Callback = Callable[[int, Record, nn.Module], None]

Scheduler = Schedule | Callable[[Optimizer], LRScheduler]


class Trained(NamedTuple):
    """What `fit_replicas` gives.

    Attributes:
        models: the networks.
        histories: of each what happened.
    """

    models: list[SequenceModel]
    histories: list[History]


def fit_replicas(
    model: SequenceModel | Callable[[int], SequenceModel],
    data: Data,
    *,
    seeds: Iterable[int],
    learning_rates: Sequence[float] | None = None,
    weight_decays: Sequence[float] | None = None,
    validation: Data | None = None,
    loss: str | Loss | None = None,
    optimizer: "OptimizerLike | Sequence[OptimizerLike] | None" = None,
    scheduler: "Scheduler | Sequence[Scheduler | None] | None" = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 32,
    shuffle: bool = True,
    clip_norm: "float | Sequence[float | None] | None" = None,
    early_stopping: "EarlyStopping | Sequence[EarlyStopping | None] | None" = None,
    metrics: Metrics | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    resume: Literal["auto", "always", "never"] = "auto",
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Trained:
    """Train R networks of one form on the same data, side by side.

    Network k is what :func:`fit` makes of it by itself with ``seed=seeds[k]``, to rounding. It has
    an order of the data, a learning rate, a stop and a history of its own; one that diverges leaves
    the others alone. Each takes the updates of an epoch in one compiled call, and as many networks
    as PyTorch has threads (``torch.set_num_threads``) are trained at the same time; of small ones,
    on sequences of one length, each thread has a vector of them (16 of float32 with AVX-512). What
    cannot be compiled is trained by ``fit``, one network after the other; ``History.reason`` says
    why.

    Args:
        model: a network, of which each copy gets initial parameters of its own, drawn with its
            seed; or a callable seed -> network.
        data: as for `fit`. To be compiled: arrays.
        seeds: one for each network, each >= 0: how many there are.
        learning_rates, weight_decays: one for each network, of all parameter groups; None: what the
            optimizer has.
        validation: as for `fit`.
        loss: as for `fit`.
        optimizer: a callable parameters -> optimizer of torch; by default Adam with a rate of
            0.001. This, and each of ``scheduler``, ``clip_norm`` and ``early_stopping``, is one
            for all or a list with one for each.
        scheduler: a callable optimizer -> scheduler, or a `Schedule` of one.
        epochs: passes over the data, >= 1; or
        steps: updates of each network, >= 1. The last record is then of a part of an epoch.
        batch_size, shuffle, clip_norm, early_stopping, metrics: as for `fit`.
        checkpoint: where and how often to save; a folder is short for `Checkpoint(folder)`. All
            networks are one file, written after whole epochs only: after the first one that ends
            when so many steps or seconds have passed. SIGINT and SIGTERM end the run after the
            present epoch, with a save. Where networks are trained by ``fit``, network k has the
            folder ``k`` in it.
        resume: as for `fit`: a run that goes on has the bits of one that never stopped.
        progress: shows after each epoch the record of the network with the least loss, of the
            validation data if there are any.
        callbacks: callables (number, record, model), called after each record with the number of
            the network, from 0, and its weights of then, which it may read and not change. Where
            one raises `StopTraining`, this network is trained no further.

    Returns:
        The trained networks, those of early stopping with their best weights, and their histories.
        ``History.stopped`` is "not finite" where loss or gradient were not: the network is as it
        was before that update.

    Raises:
        ValueError, TypeError: an argument does not fit; lists of another length than ``seeds``.
        TrainingInterrupted: with a checkpoint, after SIGINT or SIGTERM; a SystemExit.
        CheckpointMismatchError: the checkpoint belongs to other settings.
        ArchiveError: it is damaged, and so is the one before it.
        FileNotFoundError: ``resume`` is "always", and there is none.

    Cost: the sum of the updates of all networks, divided by the threads; memory for the numbers of
    R networks and their optimizers' states, and for the steps of one batch and thread.

    >>> import longlag as ll
    >>> x = torch.randn(64, 10, 1)
    >>> network = ll.SequenceModel(ll.GRU(1, 8), 1, reduce=None)
    >>> models, histories = fit_replicas(
    ...     network, (x, x.cumsum(1).tanh()), seeds=range(3), learning_rates=[0.001, 0.01, 0.1],
    ...     epochs=2, progress=False,
    ... )
    >>> len(models), [len(history) for history in histories], histories[0].step
    (3, [4, 4, 4], 'compiled')
    """
    seeds = [check_whole("seeds", seed, 0, 2**63 - 1) for seed in seeds]
    if not seeds:
        raise ValueError("seeds is empty; expected one for each network")
    count = len(seeds)
    Limits(epochs, steps, None, None)  # checks them
    check_whole("batch_size", batch_size, 1)
    check_resume(resume, checkpoint)
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    models = _networks(model, seeds)
    options: dict[str, Any] = {
        "validation": validation, "loss": loss, "metrics": metrics, "epochs": epochs,
        "steps": steps, "batch_size": batch_size, "shuffle": shuffle,
    }  # fmt: skip
    # Here: most of what a process does needs none of it.
    from longlag.training.compiled.network import Unfit
    from longlag.training.runs import Runs, Wanted, nothing
    from longlag.training.saves import Saves

    wanted = Wanted(
        each("optimizer", _with(optimizer, learning_rates, weight_decays, count), count),
        each("scheduler", scheduler, count),
        each("clip_norm", clip_norm, count),
        each("early_stopping", early_stopping, count),
    )
    try:
        if not _have_equal_buffers(models):
            raise Unfit("the networks have different buffers")
        states = [dict(network.named_parameters()) for network in models]
        runs = Runs(models[0], states, data, seeds, wanted, **options)
    except Unfit:
        histories = []
        for number, network in enumerate(models):
            own = {**wanted.of(number), "progress": progress, "resume": resume}
            if checkpoint is not None:
                folder = Path(checkpoint.folder) / str(number)
                own["checkpoint"] = dataclasses.replace(checkpoint, folder=folder)
            told = [partial(callback, number) for callback in callbacks]
            history = fit(network, data, seed=seeds[number], callbacks=told, **own, **options)
            histories.append(history)
        return Trained(models, histories)
    reporter, least = make_reporter(progress, epochs), list[Record]()

    def after_record(number: int, record: Record) -> None:
        if not least or least[0].step < record.step or _loss(record) < _loss(least[0]):
            least[:] = [record]
            reporter.record(record)
        if callbacks:
            runs.restore(number, models[number])
        for callback in callbacks:
            callback(number, record, models[number])

    with nullcontext() if checkpoint is None else Signals() as signals:
        after_epoch = nothing
        if checkpoint is not None and signals is not None:
            after_epoch = Saves(runs, checkpoint, resume, signals).after_epoch
        reporter.start(steps, runs.made)
        try:
            histories = runs.train(after_record, after_epoch)
        finally:
            reporter.stop()
    for number, network in enumerate(models):
        runs.restore(number, network)
    return Trained(models, histories)


def _loss(record: Record) -> float:
    """What networks are compared by while they are trained."""
    loss = record.loss if record.validation_loss is None else record.validation_loss
    return math.inf if math.isnan(loss) else loss


def _networks(
    model: SequenceModel | Callable[[int], SequenceModel], seeds: Sequence[int]
) -> list[SequenceModel]:
    if not isinstance(model, nn.Module):
        if not callable(model):
            raise TypeError(
                f"model is a {type(model).__name__}; expected a longlag.SequenceModel or a "
                "callable seed -> longlag.SequenceModel"
            )
        return [model(seed) for seed in seeds]
    if not isinstance(model, SequenceModel) or not hasattr(model.readout, "reset_parameters"):
        raise TypeError(
            f"model is a {type(model).__name__}, whose initial parameters cannot be drawn anew; "
            "expected a longlag.SequenceModel with a linear readout, or a callable seed -> model"
        )
    networks = []
    for seed in seeds:
        network = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(seed)
        network.layer.reset_parameters(generator)
        network.linear_readout.reset_parameters(generator)
        if network.attention is not None:
            network.attention.reset_parameters(generator)
        networks.append(network)
    return networks


def each(name: str, value: Any, count: int) -> list[Any]:
    """One for each network.

    Raises:
        ValueError: there are more or fewer.
    """
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} entries; expected {count}, as many as seeds")
    return list(value)


def _with(
    optimizer: Any,
    rates: Sequence[float] | None,
    decays: Sequence[float] | None,
    count: int,
) -> list[Any]:
    """What makes the optimizers, with the learning rate and the weight decay of each."""
    makers = each("optimizer", optimizer, count)
    if rates is None and decays is None:
        return makers
    rates = each("learning_rates", list(rates or [None] * count), count)
    decays = each("weight_decays", list(decays or [None] * count), count)

    def made(maker: Any, rate: float | None, decay: float | None) -> Any:
        def make(parameters: list[nn.Parameter]) -> Optimizer:
            made = make_optimizer(maker, parameters)
            for name, number in (("lr", rate), ("weight_decay", decay)):
                if number is not None:
                    for group in made.param_groups:
                        group[name] = number
            return made

        return make

    return [made(*parts) for parts in zip(makers, rates, decays, strict=True)]


def _have_equal_buffers(models: Sequence[nn.Module]) -> bool:
    first = dict(models[0].named_buffers())
    every = (dict(model.named_buffers()) for model in models)
    return all(
        own.keys() == first.keys() and all(torch.equal(own[n], part) for n, part in first.items())
        for own in every
    )
