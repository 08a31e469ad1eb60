"""The loop: steps, records, saves, and the state that a save must hold."""

import copy
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from longlag import randomness
from longlag.batch import Batch
from longlag.gradients import Accumulated, Backward, GradientMethod, Loss, Omega, WindowedMethod
from longlag.gradients.losses import is_built_in, name_of
from longlag.gradients.norm import gradient_norm
from longlag.gradients.weighted import loss_of, weights_due
from longlag.layers.composition import reduction_of
from longlag.layers.state_tree import map_tensors
from longlag.training.checkpoints import ANEW, CheckpointFile, check_fingerprint, check_keys
from longlag.training.errors import (
    CheckpointMismatchError,
    NonFiniteLossError,
    NonFiniteWeightsError,
    StopTraining,
    TrainingInterrupted,
)
from longlag.training.evaluation import Evaluator
from longlag.training.history import History
from longlag.training.optimizers import Scheduling, learning_rate, without_parameters
from longlag.training.options import Checkpoint, Limits
from longlag.training.progress import Reporter
from longlag.training.ranks import Ranks
from longlag.training.record import Record
from longlag.training.signals import Signals
from longlag.training.sources import Source
from longlag.training.stopping import Stopper
from longlag.training.windows import Window, windows_of

if TYPE_CHECKING:
    from longlag.training.compiled.step import CompiledSteps
    from longlag.training.compiled.windows import Windows


_AHEAD = 1 << 14
"""Numbers of sequences whose order is drawn at once, where epochs have fewer."""

_IN_A_ROW = 10
"""Updates that are left out one after the other, before the run ends."""


@runtime_checkable
class UpdateCallback(Protocol):
    """A callback that sees each update."""

    def after_update(self, step: int, model: nn.Module) -> None:
        """Called after each update; `step` is the number of updates made so far."""
        ...


Callback: TypeAlias = Callable[[Record, nn.Module], None] | UpdateCallback


@dataclass
class Position:
    """How far a run has come; together with the random state, where it goes on."""

    epoch: int = 0
    """Whole epochs made."""
    batch: int = 0
    """Batches used up of the present epoch."""
    window: int = 0
    """Windows used of the present batch, where the method updates window by window."""
    step: int = 0
    """Updates made."""
    unrecorded: int = 0
    """Updates since the last record."""
    loss_sum: float = 0.0
    """Sum of loss times sequences since the last record."""
    sequences: int = 0
    """Sequences since the last record."""
    seconds: float = 0.0
    """Time spent before this process took over."""


@dataclass
class Loop:
    """All parts of a run, made by `fit`, and the loop over them.

    `beside` are parameters of the optimizer that are not the model's, such as those of a loss.
    `compiled` makes many updates in one call, where it is there; the first of a run, in which the
    optimizer makes its state and what does not fit is named, is made without. `skips` says that an
    update that is not finite is left out.
    """

    model: nn.Module
    network: nn.Module
    device: torch.device
    ranks: Ranks
    source: Source
    loss: Loss
    method: GradientMethod
    backward: Backward
    optimizer: Optimizer
    stepper: Optimizer
    beside: nn.ParameterList
    scheduling: Scheduling | None
    evaluator: Evaluator
    stopper: Stopper | None
    limits: Limits
    checkpoint: Checkpoint | None
    seed: int
    fingerprint: dict[str, Any]
    reporter: Reporter
    log: Callable[[Record], None] | None
    callbacks: Sequence[Callback]
    signals: Signals
    compiled: "CompiledSteps | None" = None
    skips: bool = False

    def __post_init__(self) -> None:
        self.position = Position()
        self.carry: Any = None  # what the next window goes on from
        self._orders: dict[int, np.ndarray[Any, Any]] = {}  # of this epoch and the next ones
        self.history = History()
        self.file = CheckpointFile(self.checkpoint.path) if self.checkpoint else None
        self._skipped = 0  # updates in a row
        self._agreed: int | None = None  # the signal that ends all processes
        self._time_to_save = False  # as the clock of the first process says
        self._places = list[tuple[int, int]]()  # batch and window after each of a block
        self._most = 1  # updates of the next block, on which all processes agree
        self._on_record = [c for c in self.callbacks if callable(c)]
        self._on_update = [c.after_update for c in self.callbacks if isinstance(c, UpdateCallback)]
        # Constants such as a mask of -inf are as they should be.
        self._infinite = {n for n, w in self._weights() if not (w.requires_grad or _is_finite(w))}
        self._started = self._saved_at = time.perf_counter()

    @property
    def received(self) -> int | None:
        """The signal that ends the run; of several processes the one that all know of."""
        return self.signals.received if self.ranks.alone else self._agreed

    def run(self) -> History:
        """Make steps until a limit, early stopping, a callback, a signal or an error ends it."""
        self._started = self._saved_at = time.perf_counter()
        self.reporter.start(self._total_steps(), self.position.step)
        if self._record_is_due():
            self._record()
        while not self._over():
            self._epoch()
            if self.received is not None:
                self._interrupt()
        self._require_finite_weights()
        # Saved before a last record that only this limit caused: with a higher limit the run can
        # go on as if it had never stopped.
        self._save()
        if self.position.unrecorded:
            self._record()
        if self.received is not None:
            raise self._interruption(self.received)
        if self.stopper is not None:
            self.stopper.restore(self.model)
            self._require_finite_weights()
        return self.history

    def resume(self) -> None:
        """Take up the state of the checkpoint.

        Raises:
            CheckpointMismatchError: it belongs to other settings.
            ArchiveError: it is damaged, and so is the one before it; or another version wrote it.
        """
        assert self.file is not None
        state = self.ranks.by_first(self.file.load)
        with self.file.taking():
            check_keys(state, self._state())
            check_fingerprint(self.file.path, state["fingerprint"], self.fingerprint)
            self._take(state)
        self.file.is_own = True  # in all processes

    def _take(self, state: dict[str, Any]) -> None:
        """Take in what `_state` gave; the model last, when all else has been seen to fit."""
        self.history = History.from_dict(state["history"])
        if self.history.stopped in ("epochs", "steps"):
            self.history.stopped = ""  # the limit may be higher now
        self.position = Position(**state["position"])
        own = self._of_this_rank(state)
        self.carry = self._on_device(own["carry"])
        self.source.load_state(state["source"])
        if self.stopper is not None:
            self.stopper.load_state(self._on_device(state["stopper"]))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduling is not None:
            self.scheduling.load_state(state["scheduler"])
        self.beside.load_state_dict(state.get("beside", {}))  # version 0.1 wrote none
        if own["random"] is None:  # a process that the run did not have
            randomness.seed_everything(self.ranks.seed(self.seed, self.position.step))
        else:
            randomness.restore(own["random"], self.device)
        before = copy.deepcopy(self.model.state_dict())
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError:  # by then it has taken in what fits
            self.model.load_state_dict(before)
            raise

    def _of_this_rank(self, state: dict[str, Any]) -> dict[str, Any]:
        """What each process has for itself, whatever the number of processes that saved it.

        Raises:
            CheckpointMismatchError: there were more or fewer, and each has states of its own rows.
        """
        assert self.file is not None
        saved = state.get("ranks") or [{"carry": state["carry"], "random": state["random"]}]
        rank, within = self.ranks.rank, self.position.batch or self.position.window
        if len(saved) == self.ranks.count:
            return saved[rank]
        if within and any(own["carry"] is not None for own in saved):
            raise CheckpointMismatchError(
                f"{self.file.path} was saved by a run of {len(saved)} processes within its "
                f"sequences, whose states each had for its rows, and there are {self.ranks.count} "
                f"now; go on with {len(saved)}, ",
                ANEW,
                ".",
            )
        return {"carry": None, "random": saved[rank]["random"] if rank < len(saved) else None}

    def _on_device(self, tree: Any) -> Any:
        return map_tensors(tree, lambda tensor: tensor.to(self.device))

    def _state(self) -> dict[str, Any]:
        position = {**asdict(self.position), "seconds": self._seconds()}
        own = {"carry": self.carry, "random": randomness.capture(self.device)}
        return {
            "fingerprint": self.fingerprint,
            "model": dict(self.model.state_dict()),
            "beside": dict(self.beside.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduling.state() if self.scheduling else None,
            "stopper": self.stopper.state() if self.stopper else None,
            "history": self.history.to_dict(),
            "position": position,
            "source": self.source.state(),
            **own,
            "ranks": None if self.ranks.alone else self.ranks.gather(own),
        }

    def _epoch(self) -> None:
        position, compiled = self.position, self.compiled
        if compiled is not None and compiled.comes_in_batches:
            self._epoch_of_batches()
        else:
            self._epoch_of_rows()
        if self._over():
            return
        if position.batch == 0:
            raise ValueError("data gave no batch in a whole epoch; expected at least one")
        if self.limits.validate_every is None:
            self._record()
        position.epoch += 1
        position.batch = position.window = 0

    def _epoch_of_rows(self) -> None:
        """Blocks of compiled updates, whose batches are rows of the data; else batch by batch."""
        position, ended = self.position, False
        while not ended:
            if self.compiled is not None and not self._rows_are_left():
                return
            if self._compiles():
                order = self._next_rows() if self._windowed is None else self._next_windows()
                ended = order is None
                if order is not None:
                    before = position.step
                    self._run(order)
                    self._after(position.step > before)
                    if self._over():
                        return
                continue
            ended = True
            for batch in self.ranks.batches(self.source, position.epoch, position.batch):
                if not self._updated_by(batch):
                    return
                if self.position.window or self._compiles():
                    ended = False
                    break

    def _epoch_of_batches(self) -> None:
        """Blocks of compiled updates on batches that come one by one, as long as they fit."""
        compiled, staged = self.compiled, list[Batch[Tensor]]()
        assert compiled is not None

        def flushed() -> bool:
            """Whether the run goes on after the updates that were waiting."""
            while staged:  # more than once where an update is left out
                before = self.position.step
                del staged[: self._run(staged)]
                self._after(self.position.step > before)
                if self._over():
                    return False
            return True

        for batch in self.ranks.batches(self.source, self.position.epoch, self.position.batch):
            if not ((staged or self._compiles()) and compiled.fits(batch)):
                if not (flushed() and self._updated_by(batch)):
                    return
                continue
            if staged and len(batch.x) != len(staged[0].x) and not flushed():
                return
            staged.append(batch)
            most = min(self._most, self._until_looked_at())
            if len(staged) >= most and not flushed():
                return
        flushed()

    def _updated_by(self, batch: Batch[Tensor]) -> bool:
        """Make the updates of a batch by PyTorch: whether the run goes on."""
        for window in self._windows(batch):
            self._after(self._step(window))
            if self._over():
                return False
            if self._windowed is not None and not window.last and self._compiles():
                break  # the others may be compiled
        return True

    @property
    def _windowed(self) -> "Windows | None":
        """How compiled updates cut sequences into windows; None where they do not."""
        return None if self.compiled is None else self.compiled.windows

    def _after(self, updated: bool) -> None:
        """What comes after an update, or several that nobody needs to look between."""
        checkpoint = self.checkpoint
        if updated:
            self._tell(self._on_update, self.position.step)
            if self._record_is_due():
                self._record()
            if checkpoint is not None and self._save_is_due(checkpoint):
                self._save()
        if self.received is not None:
            self._interrupt()

    def _windows(self, batch: Batch[Tensor]) -> Iterable[Window]:
        """What a step is made of: a whole batch, or one window after the other."""
        if self.source.continues:
            return [Window(batch, first=self.position.batch == 0, last=True)]
        size = self.method.window if isinstance(self.method, WindowedMethod) else None
        # With one output a sequence there is no error before its end.
        if size is None or not batch.has_steps or reduction_of(self.model) is not None:
            return [Window(batch, first=True, last=True)]
        return windows_of(batch, size, self.position.window)

    def _step(self, window: Window) -> bool:
        """Whether there was an update: none is made where no error is due in a window."""
        position, batch = self.position, window.batch
        self.clear_gradients()
        whole = window.first and window.last and not self.source.continues
        part, weight = self.ranks.part(batch, self.loss)
        accumulated = self._accumulate(window._replace(batch=part), whole)
        self._advance(window)
        if not whole and not weights_due(loss_of(self.loss, batch), batch.target).any():
            return False
        # The one wait for the device in a step: both numbers must be seen before the update.
        total = accumulated.loss if self.ranks.alone else self._add_up(accumulated.loss, weight)
        loss, norm = _numbers(total, gradient_norm(self._parameters()))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._leave_out(loss, norm, self._hint(batch.target, loss))
            return False
        clip_norm = self.limits.clip_norm
        if clip_norm is not None and norm > clip_norm:
            for parameter in self._parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(clip_norm / norm)
        self.stepper.step()
        if self.scheduling is not None:
            self.scheduling.after_step()
        self._note([loss], [norm], len(batch.x))
        self.reporter.step(position.epoch + 1, position.step, loss)
        return True

    def _note(self, losses: list[float], norms: list[float], count: int) -> None:
        """Note updates, on so many sequences each."""
        position = self.position
        if losses:
            self._skipped = 0
        self.history.extend(losses, norms)
        position.step += len(losses)
        position.unrecorded += len(losses)
        for loss in losses:  # one by one, so that blocks are not seen in the bits
            position.loss_sum += loss * count
        position.sequences += count * len(losses)

    def _compiles(self) -> bool:
        """Whether the next updates are compiled; of several processes, whether all of them do."""
        compiled = self.compiled
        if compiled is None or self.position.step == 0:
            return False
        ready = compiled.is_ready(changed=bool(self.callbacks))
        if self.ranks.alone:
            self._most = compiled.next_size
            return ready
        said = compiled.agree([ready, compiled.next_size, *self._notes()])
        self._take_notes([bool(note.any()) for note in said.T[2:]])
        self._most = int(said[:, 1].min())
        return bool(said[:, 0].all())

    def _epoch_order(self) -> "np.ndarray[Any, Any]":
        """The numbers of all sequences, in the order of this epoch."""
        epoch = self.position.epoch
        if epoch not in self._orders:
            # Several at a time: after each block their code is out of the caches.
            order, last = self.source.order(epoch), self.limits.epochs or sys.maxsize
            ahead = range(epoch + 1, min(epoch + _AHEAD // max(1, len(order)), last))
            self._orders = {epoch: order, **{number: self.source.order(number) for number in ahead}}
        return self._orders[epoch]

    def _rows_are_left(self) -> bool:
        """Whether the epoch has a further batch."""
        return self.position.batch * self.source.reading.batch_size < len(self._epoch_order())

    def _next_rows(self) -> "np.ndarray[Any, Any] | None":
        """The numbers of the sequences, (updates, N), of the next updates between which nobody
        needs to look; None at the end of the epoch."""
        position, size = self.position, self.source.reading.batch_size
        order = self._epoch_order()[position.batch * size :]
        if not len(order):
            return None
        # The last batch of an epoch may be a smaller one.
        updates = min(self._most, len(order) // size, self._until_looked_at())
        return order[: max(1, updates) * size].reshape(max(1, updates), -1)

    def _next_windows(self) -> "np.ndarray[Any, Any] | None":
        """As `_next_rows`, of windows of batches of one size."""
        position, size, windows = self.position, self.source.reading.batch_size, self._windowed
        assert windows is not None
        order = self._epoch_order()
        rows, batch, window = list[Any](), position.batch, position.window
        self._places = []
        most = min(self._most, self._until_looked_at())
        while len(rows) < most:
            own = order[batch * size : (batch + 1) * size]
            if not len(own) or (rows and len(own) != len(rows[0])):
                break
            rows.append(own * windows.count + window)
            window += 1
            if window >= windows.of(own):
                batch, window = batch + 1, 0
            self._places.append((batch, window))
        return np.stack(rows) if rows else None

    def _until_looked_at(self) -> int:
        """Updates until a record, a save or the end."""
        position, limits = self.position, self.limits
        left = list[int]()
        if limits.steps is not None:
            left.append(limits.steps - position.step)
        if limits.validate_every is not None:
            left.append(limits.validate_every - position.unrecorded)
        if self.checkpoint is not None and self.checkpoint.every_steps:
            every = self.checkpoint.every_steps
            left.append(every - position.step % every)
        return max(1, min(left, default=sys.maxsize))

    def _run(self, block: "np.ndarray[Any, Any] | list[Batch[Tensor]]") -> int:
        """Make a block of compiled updates, of rows or of batches, or a part of it: how many."""
        assert self.compiled is not None
        position, scheduling = self.position, self.scheduling
        before = None
        if self.skips and scheduling is not None:
            before = copy.deepcopy(scheduling.state()), without_parameters(self.optimizer)
        after_each = scheduling.after_step if scheduling and scheduling.every == "step" else None
        if isinstance(block, list):
            carry = self.carry if self.source.continues and position.batch else None
            made = self.compiled.run_batches(block, after_each, carry=carry)
            size = len(block[0].x)
        elif self._windowed is not None:
            carry = self.carry if position.window else None
            made, size = self.compiled.run_windows(block, after_each, carry), block.shape[1]
        else:
            made, size = self.compiled.run(block, after_each), block.shape[1]
        losses, norms = made.losses, made.norms
        good = len(losses) if made.finite else len(losses) - 1
        self._note(losses[:good], norms[:good], size)
        used = len(losses) + made.passed
        if isinstance(block, list) or self._windowed is None:
            position.batch += used
            if self.source.continues:
                self.carry = self.compiled.carry(size)
        else:
            position.batch, position.window = self._places[used - 1]
            self.carry = self.compiled.carry(size) if position.window else None
        if made.finite and losses:  # else no error was due
            self.reporter.step(position.epoch + 1, position.step, losses[-1])
        if made.finite:
            return used
        self._leave_out(losses[-1], norms[-1], "")
        if before is not None and scheduling is not None:  # it has gone on to the end of the block
            scheduling.load_state(before[0])
            for group, values in zip(self.optimizer.param_groups, before[1], strict=True):
                group.update(values)
            for _ in range(good):
                scheduling.after_step()
        return used

    def _leave_out(self, loss: float, norm: float, hint: str) -> None:
        """Skip an update whose loss or gradient is not finite, or end the run."""
        if not self.skips:
            self._stop_at(loss, norm, hint)
        self.history.skipped += 1
        self._skipped += 1
        if self._skipped >= _IN_A_ROW and not self._end_with_the_best():
            self._stop_at(loss, norm, hint)

    def _end_with_the_best(self) -> bool:
        """Whether there are best weights, which the model then has; the run ends."""
        if self.stopper is None or not math.isfinite(self.stopper.best):
            return False
        self.stopper.restore(self.model)
        self.history.stopped = "not finite"
        return True

    def _stop_at(self, loss: float, norm: float, hint: str) -> NoReturn:
        """Stop before an update whose loss or gradient is not finite."""
        position = self.position
        raise NonFiniteLossError(
            step=position.step + 1,
            epoch=position.epoch + 1,
            loss=loss,
            gradient_norm=norm,
            hint=hint,
            **self._settings(),
        )

    def _add_up(self, loss: Tensor, weight: float) -> Tensor:
        """Gradients and loss of the whole batch; with them goes what the processes agree on."""
        total, said = self.ranks.add_up(self._parameters(), loss, weight, self._notes())
        self._take_notes(said)
        return total

    def _notes(self) -> tuple[bool, ...]:
        """What any process may have to say to all."""
        received = self.signals.received
        late = self.ranks.first and self.checkpoint is not None and self._is_late(self.checkpoint)
        return received == signal.SIGINT, received == signal.SIGTERM, late

    def _take_notes(self, said: Sequence[bool]) -> None:
        """What some process had to say."""
        interrupted, terminated, self._time_to_save = said
        if interrupted or terminated:
            self._agreed = int(signal.SIGINT if interrupted else signal.SIGTERM)

    def _accumulate(self, window: Window, whole: bool) -> Accumulated:
        batch, method = window.batch, self.method
        options: dict[str, Any] = {"lengths": batch.lengths, "resets": batch.resets}
        loss = loss_of(self.loss, batch)
        arguments = (self.network, batch.x, batch.target, loss, self.backward)
        if isinstance(method, Omega):
            options["update"] = self.position.step + 1
        if whole or not isinstance(method, WindowedMethod):
            return method.accumulate(*arguments, **options)
        carry = None if window.first else self.carry
        accumulated = method.accumulate_window(*arguments, **options, carry=carry)
        self.carry = None if window.last and not self.source.continues else accumulated.carry
        return accumulated

    def _hint(self, target: Tensor, loss: float) -> str:
        """What to say of a loss of the user that is NaN where the target is."""
        if not math.isnan(loss) or is_built_in(self.loss) or not bool(target.isnan().any()):
            return ""
        return (
            "The target is NaN where no error is due, such as beyond lengths, and loss "
            f"{name_of(self.loss)} does not leave these places out: use loss='mse' or 'mae', or "
            "take the mean over output[~target.isnan()]. "
        )

    def _advance(self, window: Window) -> None:
        """Note that the window was used."""
        position = self.position
        position.window += 1
        if window.last:
            position.batch += 1
            position.window = 0

    def _record(self) -> None:
        """Evaluate, then note: an interruption in between leaves the state as before."""
        position = self.position
        self.ranks.share(self.model.buffers())
        evaluated = self.evaluator.run(self.device, lambda: self.received is not None)
        if evaluated is None:
            self._interrupt()
            return
        validation_loss, metrics = evaluated
        record = Record(
            epoch=position.epoch + 1,
            step=position.step,
            seconds=self._seconds(),
            learning_rate=learning_rate(self.optimizer),
            loss=position.loss_sum / position.sequences if position.sequences else math.nan,
            validation_loss=validation_loss,
            metrics=metrics,
        )
        record = self._as_the_first_says(record)
        self.history.records.append(record)
        position.unrecorded, position.loss_sum, position.sequences = 0, 0.0, 0
        if self.stopper is not None:
            if self.stopper.update(record, self.model):
                self.history.stopped = "early stopping"
            self.history.best_step = self.stopper.best_step
        if self.scheduling is not None:
            self.scheduling.after_record(record)
        self.reporter.record(record)
        if self.log is not None:
            self.log(record)
        self._tell(self._on_record, record)

    def _as_the_first_says(self, record: Record) -> Record:
        """The same record in all processes: clocks differ, and metrics of the user's might."""
        if self.ranks.alone:
            return record
        if self.compiled is None or record.metrics:
            return self.ranks.by_first(lambda: record)
        return replace(record, seconds=float(self.compiled.agree([record.seconds])[0, 0]))

    def _tell(self, callbacks: Sequence[Callable[..., None]], news: Record | int) -> None:
        """Call each with a record or the number of updates made, and the model."""
        for callback in callbacks:
            try:
                callback(news, self.model)
                stop = False
            except StopTraining:
                stop = True
            if any(self.ranks.gather(stop)):
                self.history.stopped = "callback"

    def _over(self) -> bool:
        position, limits = self.position, self.limits
        if self.history.stopped:
            return True
        if limits.steps is not None and position.step >= limits.steps:
            self.history.stopped = "steps"
        elif limits.epochs is not None and position.epoch >= limits.epochs:
            self.history.stopped = "epochs"
        return bool(self.history.stopped)

    def _record_is_due(self) -> bool:
        every = self.limits.validate_every
        return every is not None and self.position.unrecorded >= every

    def _save_is_due(self, checkpoint: Checkpoint) -> bool:
        if checkpoint.every_steps and self.position.step % checkpoint.every_steps == 0:
            return True
        return self._is_late(checkpoint) if self.ranks.alone else self._time_to_save

    def _is_late(self, checkpoint: Checkpoint) -> bool:
        seconds = checkpoint.every_seconds
        return seconds is not None and time.perf_counter() - self._saved_at >= seconds

    def _save(self) -> None:
        if self.file is None:
            return
        self._require_finite_weights()
        self.ranks.share(self.model.buffers())
        state, file = self._state(), self.file

        self.ranks.by_first(lambda: file.save(state))
        file.is_own = True
        self._saved_at = time.perf_counter()

    def _require_finite_weights(self) -> None:
        for name, weight in self._weights():
            if name not in self._infinite and not _is_finite(weight):
                if self.skips and self._end_with_the_best():
                    return
                position = self.position
                raise NonFiniteWeightsError(
                    name,
                    step=position.step,
                    epoch=position.epoch + (position.batch > 0),
                    loss=float(self.history.losses[-1]),
                    gradient_norm=float(self.history.gradient_norms[-1]),
                    **self._settings(),
                )

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        beside = self.beside.named_parameters("optimizer")
        return chain(self.model.named_parameters(), self.model.named_buffers(), beside)

    def _parameters(self) -> Iterator[nn.Parameter]:
        """All that an update may change: a callback may have thawed some since the run began."""
        return chain(self.model.parameters(), self.beside)

    def clear_gradients(self) -> None:
        """Before each update, and at the end of the run."""
        for parameter in self._parameters():
            parameter.grad = None

    def _settings(self) -> dict[str, Any]:
        """What an error says of the run as a whole."""
        return {
            "seed": self.seed,
            "checkpoint": self.file.path if self.file and self.file.is_own else None,
            "clip_norm": self.limits.clip_norm,
        }

    def _interrupt(self) -> None:
        assert self.received is not None
        self._save()
        raise self._interruption(self.received)

    def _interruption(self, number: int) -> TrainingInterrupted:
        path = self.file.path if self.file else None
        interruption = TrainingInterrupted(number, step=self.position.step, checkpoint=path)
        self.reporter.message(str(interruption))
        return interruption

    def _seconds(self) -> float:
        return self.position.seconds + time.perf_counter() - self._started

    def _total_steps(self) -> int | None:
        limits, per_epoch = self.limits, self.source.batches_per_epoch
        if limits.steps is not None:
            return limits.steps
        if isinstance(self.method, WindowedMethod) and not self.source.continues:
            return None  # how many windows a batch has is known when it comes
        return limits.epochs * per_epoch if limits.epochs and per_epoch else None


def _numbers(loss: Tensor, norm: Tensor) -> tuple[float, float]:
    if loss.device.type == "cpu":
        return loss.item(), norm.item()
    both = torch.stack((loss.double(), norm.to(loss.device, torch.float64)))
    first, second = both.tolist()
    return first, second


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
