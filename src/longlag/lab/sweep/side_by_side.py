"""Trials whose networks have the same shapes, trained in one run of `fit_replicas`' kind.

Each trial is what it would be alone, to rounding: it has its own learning rate, schedule, gradient
norm, patience and seed, it stops when it would stop, and one that diverges leaves the others alone.
"""

import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from longlag.lab.sweep.trial import Result, alone, best_record
from longlag.pipeline.dataset import Parts
from longlag.pipeline.fitting import Pipeline, options_of, untrained, window_of
from longlag.pipeline.settings import Settings
from longlag.training.compiled.network import Unfit
from longlag.training.runs import Runs, Wanted

_OWN = ("learning_rate", "clip_norm", "patience", "seed")
"""What each trial may have for itself."""


def key(settings: Settings) -> tuple[Any, ...] | None:
    """What trials must share to run side by side; None: they cannot.

    >>> one, other = (Settings("regression", learning_rate=rate) for rate in (0.1, 0.2))
    >>> key(one) == key(other), key(Settings("regression", cell="echo"))
    (True, None)
    """
    own_way = settings.class_weights != "none" or settings.metric != "loss"
    own_way |= settings.quantiles is not None or settings.gaussian
    if settings.echo or own_way:
        return None
    return tuple(getattr(settings, own.name) for own in fields(settings) if own.name not in _OWN)


def together(parts: Parts, trials: Sequence[Settings], threads: int = 1) -> list[Result]:
    """Train networks of one `key`: on as many threads as PyTorch has, where their updates can be
    compiled; else, and where long series need windows, one after the other.

    Args:
        parts: the data.
        trials: the settings of each.
        threads: how many networks are trained at the same time; no bit depends on it.
    """
    began = time.perf_counter()
    pipeline = Pipeline.of(parts, trials[0])
    if window_of(pipeline.train, trials[0]) is not None:
        return [alone(parts, trial) for trial in trials]
    settings, seeds = trials[0], [trial.seed for trial in trials]
    by_seed = dict(zip(seeds, trials, strict=True))
    starts = {
        seed: dict(
            untrained(
                trial, pipeline.preparation, pipeline.train, pipeline.relative
            ).named_parameters()
        )
        for seed, trial in by_seed.items()
    }
    count = len(pipeline.train.x)
    each = -(-count // settings.batch_for(count))
    own = [options_of(trial, each) for trial in trials]
    wanted = Wanted(*(
        [options[name] for options in own]
        for name in ("optimizer", "scheduler", "clip_norm", "early_stopping")
    ))  # fmt: skip
    try:
        runs = Runs(
            pipeline.model, [starts[seed] for seed in seeds], pipeline.train, seeds, wanted,
            validation=pipeline.held_out, loss=pipeline.loss, metrics=None,
            epochs=settings.epochs_for(each), batch_size=settings.batch_for(count), shuffle=True,
            threads=threads,
        )  # fmt: skip
    except Unfit:
        return [alone(parts, trial) for trial in trials]
    histories = runs.train()
    seconds = (time.perf_counter() - began) / len(trials)
    results = []
    for history in histories:
        losses = [record.validation_loss for record in history.records]
        value, epoch = best_record([] if history.stopped == "not finite" else losses)
        results.append(Result(value, epoch, seconds))
    return results
