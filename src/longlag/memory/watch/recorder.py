r"""How far back a network remembers, while it learns.

On a few fixed sequences the recorder finds, now and then, the norms of
:math:`\partial s_t / \partial s_{t-k}` at some lags k, the horizon, and norm and radius of each
recurrent matrix. Training goes on as if it had not looked, bit for bit.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from typing_extensions import Self

from longlag.arguments import check_optional, is_whole
from longlag.gradients.method import Loss
from longlag.gradients.norm import gradient_norm
from longlag.memory.watch.fixed_sequences import FixedSequences
from longlag.memory.watch.listeners import Writer, lightning_callback, make_writer, write
from longlag.memory.watch.record import MemoryRecord
from longlag.memory.watch.recorder_plot import plot_records

if TYPE_CHECKING:
    import matplotlib.figure


MOST = 512
"""Records that are kept at the default rate; then every second one goes."""

COMPILING = 3.0
"""Seconds that kernels may take to compile, so that the first measurement tells little."""

_clock = time.perf_counter


class MemoryRecorder:
    """Follow how far back a model remembers, while it is trained.

    Three ways to use it: in `fit`, ``callbacks=[recorder]``; in a loop of your own,
    ``recorder.step()`` after each update; with Lightning, ``callbacks=[recorder.lightning()]``.

    Args:
        model: any module that `ll.watch` takes. It is called as ``model(x)``, with ``lengths=``
            where they are given, without dropout and without its hooks; of a tuple that it returns
            the first is the output. Modules that it holds other than as submodules, and what it
            draws on a GPU other than that of its weights, are not kept apart.
        x: sequences that are typical, (N, T, C), or what the model reads in their place.
        target, loss: as for `fit`; whose error the horizon is of. Without them it is that of the
            norms. The error is that of the last step that has one; see `Watched.flow`.
        lengths: (N,), steps that count.
        every: updates between measurements, >= 1; a measurement then costs what it costs. None:
            as often as `share` allows.
        share: in (0, 1], the most of the time since the first update that measuring may take.
        lags: which to look at, each from 1 to T; by default 16 that grow by a factor.
        sequences: the recorder keeps so many, the first ones of x, along the first axis (of a
            torch.nn module that reads (T, N, C), and of replicas, the second). None: all; for a
            model that reads (T, N, C).
        writer: an object with ``add_scalar(tag, value, step)``, such as a SummaryWriter, or a
            folder, for which one is made (``pip install "longlag[tensorboard]"``). It gets
            ``memory/horizon/LAYER``, ``memory/log_norm/lag_K``, ``memory/norm/MATRIX``,
            ``memory/radius/MATRIX`` and ``memory/gradient_norm``. Of several recurrent modules the
            name stands before the lag. A horizon that is not within the sequences is left out.
        seed: for the random vectors by which the norms of large states are found.

    Attributes:
        records: the measurements, in order.
        updates: how many updates have been counted.
        spent: seconds that measuring has taken since the first update.

    Raises:
        TypeError, ValueError: an argument does not fit, and as :func:`longlag.watch`; the loss
            reads a final state that is not an output.
        ImportError: the writer is a folder, and TensorBoard is not installed.

    When: a first measurement is made with the recorder itself, and stands in the records as of
    the updates told so far, 0. It takes its time before training begins, is made twice where that
    takes below 3 s, since the first compiles kernels, and is not in `share`. From the first update
    on the next is made as soon as the time spent, and that of one more as long as the last, are
    within `share` of the time since then. So at each update at most so much has been spent, but
    for what one measurement took longer than the one before it: training takes at most
    1 / (1 - share) of its time, 1.031 times for 0.03. A run that is too short for one measurement
    has the first record only; :meth:`measure` adds one, for instance at the end. At this rate no
    more than 512 records are kept: then every second one goes, and they come half as often.

    Cost of a measurement: the forward pass, and :func:`~longlag.memory.jacobian_norms` for one
    chain a sequence; with a target also the backward pass of the readout and
    :func:`~longlag.memory.error_flow`. Weights of torch.nn are copied. On one CPU core, of four
    sequences of 100 steps and 64 units, 0.05 s (RNN) to 0.2 s (LSTM).

    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.Elman(2, 8, seed=0), 1, seed=1)
    >>> x, target = torch.randn(40, 20, 2), torch.zeros(40, 1)
    >>> recorder = MemoryRecorder(model, x, target, every=2)
    >>> _ = ll.fit(model, (x, target), epochs=2, callbacks=[recorder], progress=False)
    >>> [record.step for record in recorder.records]
    [0, 2, 4]
    >>> list(recorder.records[-1].horizon), list(recorder.records[-1].norms)
    (['layer'], ['layer.candidate'])
    """

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        target: Any = None,
        loss: str | Loss | None = None,
        *,
        lengths: Any = None,
        every: int | None = None,
        share: float = 0.03,
        lags: Sequence[int] | None = None,
        sequences: int | None = 4,
        writer: Writer | str | Path | None = None,
        seed: int = 0,
    ) -> None:
        check_optional("every", every, 1)
        check_optional("sequences", sequences, 1)
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"share: got {share!r}, expected a number in (0, 1], such as 0.03")
        if lags is not None and not (lags and all(is_whole(lag, 1) for lag in lags)):
            raise ValueError(f"lags: got {lags!r}, expected whole numbers >= 1, or None")
        if target is None and loss is not None:
            raise ValueError("target: got None, and a loss; expected both, or neither")
        self._fixed = FixedSequences(
            model, x, target, loss, lengths=lengths, lags=lags, sequences=sequences, seed=seed
        )
        self.model = self._fixed.model
        self.every, self.share = every, share
        self.records: list[MemoryRecord] = []
        self.updates, self.spent = 0, 0.0
        self._began: float | None = None
        self._cost = self._measured_at = self._apart = 0.0
        self._writer, self._own_writer = make_writer(writer)
        record = self._record()
        if record.cost < COMPILING:
            record = self._record()
        self._keep(record)

    def step(self) -> None:
        """Count one update; call it after each in a loop of your own."""
        self.after_update(self.updates + 1)

    def after_update(self, step: int, model: nn.Module | None = None) -> None:
        """Note how many updates have been made; `fit` calls it.

        Args:
            step: updates made so far.
            model: not looked at; the recorder has its own.
        """
        now = _clock()
        if self._began is None:
            self._began = now
        self.updates = step
        if self._is_due(now - self._began):
            self.measure()

    def measure(self) -> MemoryRecord:
        """Measure now, add the record, and return it. Its time counts as spent."""
        record = self._record()
        if self._began is not None:
            self.spent += record.cost
        self._keep(record)
        return record

    def lightning(self) -> Any:
        """A callback for the Trainer of Lightning, which tells the recorder of each update.

        Raises:
            ImportError: neither `lightning` nor `pytorch_lightning` is installed.
        """
        return lightning_callback(self)

    def to_dict(self) -> dict[str, Any]:
        """All records as JSON data: dicts, lists and numbers; None for what is not finite."""
        return {
            "every": self.every,
            "share": self.share,
            "spent": self.spent,
            "records": [record.to_dict() for record in self.records],
        }

    def plot(self) -> "matplotlib.figure.Figure":
        """Draw the norms by lag, one curve a record, and below them the horizons over the updates.

        Returns:
            A matplotlib figure; ``figure.savefig(path)`` writes it.
        """
        return plot_records(self.records)

    def close(self) -> None:
        """Close the writer, where the recorder has made it of a folder."""
        if self._own_writer:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"MemoryRecorder({type(self.model).__name__}, {len(self.records)} records, "
            f"{self.updates} updates)"
        )

    def _is_due(self, elapsed: float) -> bool:
        if self.every is not None:
            return self.updates % self.every == 0
        return (
            self.spent + self._cost <= self.share * elapsed
            and elapsed - self._measured_at >= self._apart
        )

    def _record(self) -> MemoryRecord:
        device = self._fixed.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what it waits for is the training's time
        started = _clock()
        result = self._fixed.measure()
        gradient = None
        if any(parameter.grad is not None for parameter in self.model.parameters()):
            gradient = gradient_norm(self.model.parameters()).item()
        ended = _clock()
        since = 0.0 if self._began is None else ended - self._began
        return MemoryRecord(
            self.updates, since, ended - started, **vars(result), gradient_norm=gradient
        )

    def _keep(self, record: MemoryRecord) -> None:
        self._cost, self._measured_at = record.cost, record.seconds
        self.records.append(record)
        if self.every is None and len(self.records) >= MOST:
            del self.records[1::2]
            self._apart = 2 * record.seconds / MOST
        if self._writer is not None:
            write(self._writer, record)
