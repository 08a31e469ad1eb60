"""`fit`: train a model, in one call."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from longlag import randomness
from longlag.arguments import check_optional, check_whole
from longlag.batch import Batch
from longlag.gradients import BPTT, GradientMethod, Loss, WindowedMethod
from longlag.gradients.losses import resolve_loss
from longlag.gradients.refusals import refuse_without_autograd
from longlag.layers.composition import reduction_of
from longlag.reservoirs import Estimator, ReadoutMethod, ScikitLearn
from longlag.training.evaluation import Evaluator
from longlag.training.history import History
from longlag.training.loop import Callback, Loop, UpdateCallback
from longlag.training.metrics import Metrics, make_meters
from longlag.training.optimizers import (
    OptimizerLike,
    Scheduling,
    describe,
    make_optimizer,
    parameters_beside,
    trainable,
)
from longlag.training.options import Checkpoint, EarlyStopping, Limits, Schedule
from longlag.training.progress import make_reporter
from longlag.training.ranks import Alone, Ranks, processes_for
from longlag.training.readouts import check_unused, fit_readout
from longlag.training.signals import Signals
from longlag.training.sources import Data, Reading, Source, make_source
from longlag.training.stopping import Stopper, monitored

if TYPE_CHECKING:
    import lightning_fabric

    from longlag.training.compiled.step import CompiledSteps


_VALIDATION_WINDOW = 512
"""Steps of recordings that are read at once for validation, where the method names none."""

_STREAM_RECORD = 100
"""Steps between records of a stream, unless `validate_every` says otherwise."""


def fit(
    model: nn.Module,
    data: Data,
    *,
    validation: Data | None = None,
    loss: str | Loss | None = None,
    optimizer: OptimizerLike | None = None,
    scheduler: Schedule | LRScheduler | Callable[[Optimizer], LRScheduler] | None = None,
    method: GradientMethod | ReadoutMethod | Estimator = BPTT(),  # noqa: B008 - frozen
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 32,
    shuffle: bool = True,
    clip_norm: float | None = None,
    early_stopping: EarlyStopping | None = None,
    metrics: Metrics | None = None,
    validate_every: int | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    resume: Literal["auto", "always", "never"] = "auto",
    seed: int = 0,
    progress: bool = True,
    fabric: "lightning_fabric.Fabric | None" = None,
    callbacks: Sequence[Callback] = (),
    step: Literal["auto", "compiled", "eager"] = "auto",
    nonfinite: Literal["error", "skip"] = "error",
) -> History:
    """Train a model on data and return what happened.

    Each step takes a batch, asks `method` for the gradient of `loss(model(x), target)`, checks that
    both are finite, clips, and lets the optimizer update. The same seed gives the same bits,
    whatever was drawn before, and a run that was interrupted and resumed gives the same bits as one
    that was not; the times in the history are the only exception.

    Args:
        model: any module; called as `model(x)`, with `lengths=` and `resets=` where the data have
            them. Of a tuple that it returns the first is the output. It trains where it lies.
        data: one of
            (x, target) or (x, target, lengths), tensors or arrays, x (N, T, C), lengths (N,);
            an object with `x`, `target` and perhaps `lengths`, `resets`, and `weights` (N,) >= 0:
            errors of a sequence count so much more or less, here, in validation, in `Ridge` and in
            `RecursiveLeastSquares`;
            `ll.Streams(x, target)`: recordings that may be longer than memory;
            a stream: `stream.batch(index)` gives such an object, for index = 0, 1, ... without end;
            a torch DataLoader of such tuples or objects.
            Float arrays are cast to the dtype of the model. Where no error is due, a float target
            is NaN and a class target -100; steps beyond `lengths` of a target (N, T) of classes or
            (N, T, K) of floats are marked so.
        validation: the same, but with an end; its loss and metrics, which follow the weights of its
            sequences, are in each record.
        loss: "cross_entropy", "logistic", "mse", "mae", `training.WeightedCrossEntropy`,
            `training.Quantile` or a callable(output, target) -> scalar; by default
            "mse" for float targets and "cross_entropy" for integers.
        optimizer: any torch optimizer but LBFGS, which asks for several losses a step, or a
            callable parameters -> optimizer; by default Adam with a learning rate of 0.001. It may
            hold parameters beside the model's, such as those of a loss: with ``BPTT()`` they are
            trained, clipped, checked and saved in checkpoints like the others.
        scheduler: a torch learning-rate scheduler or a callable optimizer -> scheduler, stepped at
            each record; `Schedule(..., every="step")` steps it at each update.
        method: how the gradient is computed; see `longlag.gradients`. Or what fits the readout of a
            `SequenceModel` in one pass, such as `ll.Ridge()` or a linear estimator of scikit-learn:
            then there are no updates, arguments that speak of them are errors, and the history has
            one step and one record, with the mean square error over the training data. With
            `ll.TruncatedBPTT` and one target a step there is an update after each window of a
            batch, on the loss of its steps; none where no error is due in it. A step is an update.
        epochs: passes over the data; give this or `steps`.
        steps: updates in all, >= 1, those before an interruption included.
        batch_size: sequences in a batch of arrays; streams and DataLoaders have their own.
        shuffle: a new order of arrays in each epoch.
        clip_norm: scale a gradient with a larger norm down to this one, > 0.
        early_stopping: when to stop, and to end with the best weights.
        metrics: "accuracy", "mse", "mae", metrics of torchmetrics, callables(output, target) over
            the whole validation set, or a mapping of names to these. Where sequences of the
            validation data have weights, the named ones are means with these weights, and a
            callable must take them as a third argument `weights`, one for each row of the target
            (else None).
        validate_every: steps between records; by default one epoch, for a stream 100 steps.
        checkpoint: where and how often to save; a folder is short for `Checkpoint(folder)`.
        resume: "auto": go on from the checkpoint if there is one; "always": it must be there;
            "never": start anew and overwrite it.
        seed: the order of the data and all that the model draws, >= 0. The global generators are
            as before when `fit` returns.
        progress: a bar on a terminal, lines elsewhere, on standard error.
        fabric: a `lightning_fabric.Fabric` for another device or precision, or with loggers, to
            which the numbers of each record go. "bf16-mixed" goes with ``BPTT()`` alone, "64-true"
            and "bf16-true" with every method. Under torchrun the default is one with all its
            processes; another with several must be launched, with the strategy "ddp".
        callbacks: each is called as callback(record, model) after each record. One with a method
            `after_update(step, model)`, such as `ll.MemoryRecorder`, has it called after each
            update, with the number of updates made so far; a resumed run goes on counting. At that
            time the gradient, clipped, is still in `.grad`. One may have either or both, and raise
            `StopTraining`. Each process of several calls them.
        step: "compiled": all of an update, and many updates between which nobody needs to look, are
            one call of compiled code; an error says why, where something asked for cannot be had
            so. "eager": an update is operations of PyTorch around the compiled
            layers. "auto": compiled where it can be; `History.step` says which it was, and
            `History.reason` why. Both give the same to rounding.
        nonfinite: what to do where loss or gradient are infinite or NaN. "error": raise. "skip":
            leave that update out, and count it in `History.skipped`; after ten in a row, or where a
            weight is no longer finite, end with the best weights of `early_stopping`, if it has
            any yet, else raise.

    In several processes (``torchrun --nproc_per_node 2 script.py``) each has the same arguments,
    takes its rows of every batch, and makes the update of the whole batch: `batch_size` is that of
    all together, and the result that of one process, up to rounding. A loss of your own must be a
    mean over the places where an error is due. A DataLoader is read by the first process, for all.
    Only the first writes: checkpoints, progress, loggers. A checkpoint can be gone on from with
    another number of processes, but not from within recordings or a batch of windows, whose states
    each process has for itself.

    Returns:
        The history: the loss and gradient norm of each step, and a record for each epoch.

    Raises:
        ValueError, TypeError: an argument does not fit; the message names it and the fix.
        NonFiniteLossError: the loss or gradient became infinite or NaN; no update was made. See
            `nonfinite`.
        NonFiniteWeightsError: an update made a weight infinite or NaN; seen, and not saved, at the
            next save or at the end. A subclass of `NonFiniteLossError`.
        TrainingInterrupted: SIGINT or SIGTERM came; the step was finished and the run saved. A
            second signal stops at once.
        CheckpointMismatchError: the checkpoint belongs to a run with other settings.
        ArchiveError: the checkpoint is damaged, and there is none before it; or it is of another
            version of longlag. It is left as it is.
        OSError: the checkpoint's folder cannot be made or written; known before training.
        RanksError: another process of the job has ended; a ConnectionError.
        RuntimeError: called under `torch.no_grad()` or `torch.inference_mode()`.

    Cost: a step is one forward and one backward pass, one pass over the gradients for their norm,
    and one wait for the device. With a checkpoint, all arrays are hashed once.

    >>> x = torch.randn(64, 10, 1)
    >>> model = nn.RNN(1, 1, batch_first=True)
    >>> history = fit(model, (x, x.cumsum(1).tanh()), epochs=3, progress=False)
    >>> len(history), len(history.records), history.stopped
    (6, 3, 'epochs')
    """
    if isinstance(method, type):
        raise TypeError(f"method is the class {method.__name__}; expected {method.__name__}(...)")
    readout_method = _as_readout_method(method)
    if readout_method is not None:
        check_unused(
            readout_method,
            {
                "optimizer": optimizer, "scheduler": scheduler, "epochs": epochs, "steps": steps,
                "clip_norm": clip_norm, "early_stopping": early_stopping,
                "validate_every": validate_every, "checkpoint": checkpoint, "fabric": fabric,
                "callbacks": callbacks, "step": None if step == "auto" else step,
            },
        )  # fmt: skip
        return fit_readout(
            model, data, readout_method, validation=validation, loss=loss, metrics=metrics,
            batch_size=batch_size, seed=seed,
        )  # fmt: skip
    method = cast("GradientMethod", method)
    refuse_without_autograd("fit")
    limits = Limits(epochs, steps, validate_every, clip_norm)
    check_optional("batch_size", batch_size, 1)
    check_whole("seed", seed, 0, 2**63 - 1)
    _check_choices(model, method, step)
    check_resume(resume, checkpoint)
    if nonfinite not in ("error", "skip"):
        raise ValueError(f"nonfinite is {nonfinite!r}; expected 'error' or 'skip'")
    _check_callbacks(callbacks)
    parameters = trainable(model)
    run = fabric if fabric is not None else processes_for(parameters[0].device)
    precision = "32-true" if isinstance(run, Alone) else _check_fabric(run)
    looks_inside = not isinstance(method, BPTT)
    if looks_inside and not precision.endswith("-true"):
        raise ValueError(
            f"fabric has precision {precision!r}, and {method!r} looks inside the model; expected "
            "'32-true', '64-true' or 'bf16-true', or BPTT()"
        )
    device = run.device
    ranks = Ranks(run.global_rank, run.world_size)
    was_training = model.training
    with randomness.isolated(device), Signals(one=not ranks.alone) as signals:
        randomness.seed_everything(ranks.seed(seed))
        wrapped = run.setup_module(model, _reapply_compile=False)
        parameters = trainable(model)  # the precision of Fabric may have replaced some
        # Plain float32 needs no wrapper, and methods that look inside the model get it as it is.
        network = model if precision == "32-true" or looks_inside else wrapped
        dtype = _dtype_of(parameters)
        window = method.window if isinstance(method, WindowedMethod) else None
        reading = Reading(dtype, device, batch_size, seed, shuffle, window)
        source = make_source(data, "data", reading)
        if source.continues and reduction_of(model) is not None:
            raise ValueError(
                f"data is Streams, with a target for each step, and the model has one output a "
                f"sequence (reduce={reduction_of(model)!r}); expected reduce=None"
            )
        if source.endless and epochs is not None:
            raise ValueError(
                f"epochs is {epochs}, and data is a stream without end; expected steps"
            )
        held_out = None
        if validation is not None:
            in_order = replace(reading, shuffle=False, window=window or _VALIDATION_WINDOW)
            held_out = make_source(validation, "validation", in_order)
            if held_out.endless:
                raise ValueError(
                    "validation is a stream without end; pass one batch of it, for example "
                    "validation=stream.batch(10**9)"
                )
        meters = make_meters(metrics)
        if meters and held_out is None:
            raise ValueError(
                "metrics need validation data; pass validation=data to measure on the training set"
            )
        first = source.peek()
        if first is None:
            raise ValueError("data gave no batch in a whole epoch; expected at least one")
        loss_name, loss_function = resolve_loss(loss, first.target)
        optimizer = make_optimizer(optimizer, parameters)
        beside = parameters_beside(optimizer, model)
        ranks.share(beside)
        if len(beside) and not isinstance(method, BPTT):
            raise ValueError(
                f"optimizer holds {len(beside)} parameters beside the model's, and {method!r} "
                "finds the gradients of the model alone; expected BPTT()"
            )
        scheduling = _make_scheduling(scheduler, optimizer, meters, validated=held_out is not None)
        stopper = None
        if early_stopping is not None:
            stopper = Stopper(early_stopping, meters, validated=held_out is not None)
        if source.endless and validate_every is None:
            limits = replace(limits, validate_every=_STREAM_RECORD)
        if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(checkpoint)
        compiled, reason = None, "step is 'eager'"
        if step != "eager":
            compiled, reason = _compile(
                model, source, first, loss_function, method, optimizer, clip_norm, batch_size,
                precision=precision, ranks=ranks, callbacks=callbacks,
            )  # fmt: skip
            reason = next(filter(None, ranks.gather(reason)), "")
            if reason:
                compiled = None
            elif compiled is not None:
                compiled.meet()
            if step == "compiled" and compiled is None:
                raise ValueError(f"step is 'compiled', and {reason}; or use step='auto'")
        evaluator = Evaluator(network, held_out, loss_function, meters, ranks)
        if compiled is not None and held_out is not None and held_out.whole is not None:
            evaluator.compiled = compiled.outputs_for(held_out.whole, batch_size)
        reporter = make_reporter(progress and ranks.first, epochs)
        loop = Loop(
            model=model,
            network=network,
            device=device,
            ranks=ranks,
            source=source,
            loss=loss_function,
            method=method,
            backward=run.backward,
            optimizer=optimizer,
            stepper=run.setup_optimizers(optimizer),  # pyright: ignore[reportArgumentType]
            beside=beside,
            scheduling=scheduling,
            evaluator=evaluator,
            stopper=stopper,
            limits=limits,
            checkpoint=checkpoint,
            seed=seed,
            fingerprint={}
            if checkpoint is None
            else {
                **_prefixed("data", source.describe()),
                **_prefixed("validation", held_out.describe() if held_out else {}),
                **_prefixed("optimizer", describe(optimizer)),
                "scheduler": scheduling.describe() if scheduling else None,
                "parameters": {
                    **{n: list(p.shape) for n, p in model.named_parameters()},
                    **{n: list(p.shape) for n, p in beside.named_parameters("optimizer")},
                },
                "dtype": str(dtype),
                "loss": loss_name,
                "method": repr(method),
                "clip_norm": clip_norm,
                "early_stopping": repr(early_stopping),
                "metrics": list(meters),
                "validate_every": limits.validate_every,
                "seed": seed,
            },
            reporter=reporter,
            log=None
            if fabric is None or not fabric.loggers
            else (lambda record: fabric.log_dict(record.numbers(), record.step)),
            callbacks=callbacks,
            signals=signals,
            compiled=compiled,
            skips=nonfinite == "skip",
        )
        if loop.file is not None:
            goes_on = loop.file.goes_on(resume, ranks.by_first(loop.file.exists))
            ranks.by_first(loop.file.prepare)
            if goes_on:
                loop.resume()
        model.train()
        # The gradients are added up here, whatever the method, not by what Fabric wraps around.
        sync = (
            nullcontext()
            if isinstance(run, Alone) or ranks.alone
            else run.no_backward_sync(wrapped)
        )
        try:
            with sync:
                history = loop.run()
            if compiled is not None:
                reason = compiled.reason
            history.step, history.reason = "eager" if reason else "compiled", reason
            return history
        finally:
            reporter.stop()
            if compiled is not None:
                compiled.close()
            model.train(was_training)
            loop.clear_gradients()


def _compile(
    model: nn.Module,
    source: Source,
    first: Batch[Tensor],
    loss: Loss,
    method: GradientMethod,
    optimizer: Optimizer,
    clip_norm: float | None,
    batch_size: int,
    *,
    precision: str,
    ranks: Ranks,
    callbacks: Sequence[Callback],
) -> "tuple[CompiledSteps | None, str]":
    """The compiled step, or why there is none."""
    if precision not in ("32-true", "64-true"):
        return None, f"the precision of fabric is {precision!r}"
    for callback in callbacks:
        if isinstance(callback, UpdateCallback):
            return None, f"the callback {type(callback).__name__} looks at each update"
    whole = source.whole
    if not first.x.is_cpu:
        return None, f"the data are on {first.x.device}"
    # Here: most of what a process does needs none of it.
    from longlag.training.compiled.network import Unfit
    from longlag.training.compiled.step import CompiledSteps

    try:
        compiled = CompiledSteps(
            model, loss, method, optimizer, first if whole is None else whole, clip_norm,
            None if whole is None else batch_size, ranks, continues=source.continues,
        )  # fmt: skip
        if compiled.network.draws and source.drawn_once:
            return None, "a DataLoader and dropout draw from one generator"
        return compiled, ""
    except Unfit as unfit:
        return None, str(unfit)


def _as_readout_method(method: object) -> ReadoutMethod | None:
    """What fits a readout; None for anything else."""
    if isinstance(method, Estimator):
        return ScikitLearn(method)
    return method if isinstance(method, ReadoutMethod) else None


def _check_choices(model: nn.Module, method: GradientMethod, step: str) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    if not isinstance(method, GradientMethod):
        raise TypeError(f"method is {method!r}; expected a gradient method, for example BPTT()")
    if step not in ("auto", "compiled", "eager"):
        raise ValueError(f"step is {step!r}; expected 'auto', 'compiled' or 'eager'")


def check_resume(resume: str, checkpoint: object) -> None:
    """Whether a run goes on is one of three words.

    Raises:
        ValueError: it is not, or it has to go on from nothing.
    """
    if resume not in ("auto", "always", "never"):
        raise ValueError(f"resume is {resume!r}; expected 'auto', 'always' or 'never'")
    if resume == "always" and checkpoint is None:
        raise ValueError("resume is 'always', and checkpoint is None; expected its folder")


def _check_callbacks(callbacks: object) -> None:
    if not isinstance(callbacks, Sequence):
        raise TypeError(
            f"callbacks is a {type(callbacks).__name__}; expected a sequence of callbacks, such as "
            "[callback]"
        )
    for number, callback in enumerate(callbacks):
        if isinstance(callback, type) and isinstance(callback, UpdateCallback):
            raise TypeError(
                f"callbacks[{number}] is the class {callback.__name__}; expected an object of it: "
                f"{callback.__name__}(...)"
            )
        if not (callable(callback) or isinstance(callback, UpdateCallback)):
            raise TypeError(
                f"callbacks[{number}] is a {type(callback).__name__}; expected a "
                "callable(record, model), or an object with a method after_update(step, model)"
            )


def _check_fabric(fabric: "lightning_fabric.Fabric") -> str:
    if fabric.world_size > 1:
        from lightning_fabric.strategies.ddp import DDPStrategy

        if not isinstance(fabric.strategy, DDPStrategy):
            raise ValueError(
                f"fabric has {fabric.world_size} processes and the strategy "
                f"{type(fabric.strategy).__name__}; expected strategy='ddp', with which each "
                "process has the whole model"
            )
        if not torch.distributed.is_initialized():
            raise ValueError(
                f"fabric has {fabric.world_size} processes, and they have not been started; call "
                "fabric.launch() before, or leave fabric out and start the script with torchrun"
            )
    precision = str(fabric.strategy.precision.precision)
    if precision == "16-mixed":
        # Its scaler makes infinite gradients on purpose, which the guard must not take for errors.
        raise ValueError("fabric has precision '16-mixed'; expected 'bf16-mixed' or '32-true'")
    return precision


def _dtype_of(parameters: list[nn.Parameter]) -> torch.dtype:
    floating = [p.dtype for p in parameters if p.dtype.is_floating_point]
    return floating[0] if floating else torch.get_default_dtype()


def _make_scheduling(
    scheduler: Schedule | LRScheduler | Callable[[Optimizer], LRScheduler] | None,
    optimizer: Optimizer,
    meters: dict[str, Any],
    *,
    validated: bool,
) -> Scheduling | None:
    if scheduler is None:
        return None
    if not isinstance(scheduler, Schedule):
        if not callable(scheduler) and not isinstance(scheduler, LRScheduler):
            raise TypeError(
                f"scheduler is a {type(scheduler).__name__}; expected a torch scheduler, a "
                "callable optimizer -> scheduler, or a Schedule"
            )
        scheduler = Schedule(scheduler)
    name = monitored(scheduler.monitor, meters, validated=validated, owner="Schedule")
    return Scheduling(scheduler, optimizer, name)


def _prefixed(prefix: str, description: Any) -> dict[str, Any]:
    return {f"{prefix} {key}": value for key, value in description.items()}
