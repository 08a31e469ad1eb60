r"""How far back a network remembers, while it learns.

On a few fixed sequences the recorder finds, now and then, the norms of
:math:`\partial s_t / \partial s_{t-k}` at some lags k, the horizon, and norm and radius of each
recurrent matrix. Training goes on as if it had not looked, bit for bit.
"""

import importlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn
from typing_extensions import Self

from longlag.gradients.method import Loss
from longlag.memory.report.record import plain
from longlag.memory.watch.probe import FRACTION, Probe, gradient_norm

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["MemoryRecord", "MemoryRecorder", "Writer"]

MOST = 512
"""Records that are kept at the default rate; then every second one goes."""

COMPILING = 3.0
"""Seconds that kernels may take to compile, so that the first measurement tells little."""

_clock = time.perf_counter


class Writer(Protocol):
    """What takes numbers, such as a SummaryWriter of TensorBoard."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any:
        """Take one number."""
        ...


@dataclass(frozen=True)
class MemoryRecord:
    """One measurement. Names are paths in the model; of R replicas the numbers are means.

    Attributes:
        step: updates made so far.
        seconds: since the first update; 0 before.
        cost: seconds that the measurement took.
        horizon: by layer, in steps, the lag from which on the error of the loss is below 1 % of
            that at lag 0, for good; None where it is not within the sequences. Of replicas the
            median. Without a target of the norms, by recurrent module: between the lags looked at,
            the logarithm is taken as a straight line.
        lags: those that were looked at.
        log_norms: by recurrent module, the natural logarithm of the largest singular value of
            ds_t/ds_{t-k} at each lag k, t being the end of a sequence; the mean over sequences.
            NaN where weights or states are not finite or a module has fewer steps, -inf for zero.
        norms: by recurrent matrix, its largest singular value.
        radii: by recurrent matrix, its spectral radius.
        gradient_norm: of all gradients in `.grad` together; None where there is none.
    """

    step: int
    seconds: float
    cost: float
    horizon: dict[str, int | None]
    lags: tuple[int, ...]
    log_norms: dict[str, tuple[float, ...]]
    norms: dict[str, float]
    radii: dict[str, float]
    gradient_norm: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON data: dicts, lists and numbers, with None for what is no finite number."""
        return plain(asdict(self))


class MemoryRecorder:
    """Follow how far back a model remembers, while it is trained.

    Three ways to use it: in `fit`, ``callbacks=[recorder]``; in a loop of one's own,
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
        updates: how many updates it has been told of.
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
        _check(every, share, lags, sequences)
        if target is None and loss is not None:
            raise ValueError("target: got None, and a loss; expected both, or neither")
        self._probe = Probe(
            model, x, target, loss, lengths=lengths, lags=lags, sequences=sequences, seed=seed
        )
        self.model = self._probe.model
        self.every, self.share = every, share
        self.records: list[MemoryRecord] = []
        self.updates, self.spent = 0, 0.0
        self._began: float | None = None
        self._cost = self._measured_at = self._apart = 0.0
        self._writer, self._own_writer = _writer(writer)
        record = self._record()
        if record.cost < COMPILING:
            record = self._record()
        self._keep(record)

    def step(self) -> None:
        """Tell of one update, of a loop of one's own; call it after each."""
        self.after_update(self.updates + 1)

    def after_update(self, step: int, model: nn.Module | None = None) -> None:
        """Tell that so many updates have been made; `fit` calls it.

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
        return _lightning_callback(self)

    def to_dict(self) -> dict[str, Any]:
        """All records as JSON data: dicts, lists and numbers; None for what is not finite."""
        return {
            "every": self.every,
            "share": self.share,
            "spent": self.spent,
            "records": [each.to_dict() for each in self.records],
        }

    def plot(self) -> "matplotlib.figure.Figure":
        """Draw the norms by lag, one curve a record, and below them the horizons over the updates.

        Returns:
            A matplotlib figure; ``figure.savefig(path)`` writes it.
        """
        return _plot(self.records)

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
        device = self._probe.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what it waits for is the training's time
        started = _clock()
        found = self._probe.measure()
        gradient = gradient_norm(self.model)
        ended = _clock()
        since = 0.0 if self._began is None else ended - self._began
        return MemoryRecord(
            self.updates, since, ended - started, found.horizon, found.lags, found.log_norms,
            found.norms, found.radii, gradient,
        )  # fmt: skip

    def _keep(self, record: MemoryRecord) -> None:
        self._cost, self._measured_at = record.cost, record.seconds
        self.records.append(record)
        if self.every is None and len(self.records) >= MOST:
            del self.records[1::2]
            self._apart = 2 * record.seconds / MOST
        if self._writer is not None:
            _write(self._writer, record)


def _check(every: Any, share: Any, lags: Any, sequences: Any) -> None:
    for name, value in (("every", every), ("sequences", sequences)):
        if value is not None and not _is_count(value):
            raise ValueError(f"{name}: got {value!r}, expected a whole number >= 1, or None")
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"share: got {share!r}, expected a number in (0, 1], such as 0.03")
    if lags is not None and not (lags and all(_is_count(lag) for lag in lags)):
        raise ValueError(f"lags: got {lags!r}, expected whole numbers >= 1, or None")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _writer(given: Any) -> tuple[Any, bool]:
    """The writer, and whether it was made here."""
    if given is None or callable(getattr(given, "add_scalar", None)):
        return given, False
    if not isinstance(given, str | Path):
        raise TypeError(
            f"writer: got {type(given).__name__}, expected a folder, or an object with a method "
            "add_scalar(tag, value, step)"
        )
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise ImportError(
            f"writer: got the folder {str(given)!r}, and TensorBoard is not installed; "
            'pip install "longlag[tensorboard]"'
        ) from error
    return SummaryWriter(str(given)), True


def _write(writer: Writer, record: MemoryRecord) -> None:
    def add(tag: str, value: float | None) -> None:
        if value is not None:
            writer.add_scalar(f"memory/{tag}", value, record.step)

    for name, lag in record.horizon.items():
        add(f"horizon/{name}", lag)
    for name, curve in record.log_norms.items():
        front = "" if len(record.log_norms) == 1 else f"{name}/"
        for lag, value in zip(record.lags, curve, strict=True):
            add(f"log_norm/{front}lag_{lag}", value)
    for kind, numbers in (("norm", record.norms), ("radius", record.radii)):
        for name, value in numbers.items():
            add(f"{kind}/{name}", value)
    add("gradient_norm", record.gradient_norm)


def _lightning_callback(recorder: MemoryRecorder) -> Any:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            base: Any = importlib.import_module(name).Callback
        except ImportError:
            continue
        break
    else:
        raise ImportError(
            "lightning: neither lightning nor pytorch_lightning is installed; pip install lightning"
        )

    class MemoryCallback(base):
        """Tells the recorder of each update; of several processes, in the first."""

        def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
            """Where gradients are accumulated, a batch may end without an update."""
            if trainer.is_global_zero and trainer.global_step != recorder.updates:
                recorder.after_update(trainer.global_step)

    return MemoryCallback()


def _plot(records: Sequence[MemoryRecord]) -> "matplotlib.figure.Figure":
    from matplotlib.cm import ScalarMappable  # here: matplotlib is slow to import
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    names = list(records[-1].log_norms)
    figure = Figure(figsize=(7.0, 2.8 * (1 + len(names))), layout="constrained")
    panels: Any = figure.subplots(1 + len(names), 1)
    colours = ScalarMappable(Normalize(records[0].step, max(1, records[-1].step)), "viridis")
    # More curves than this are a blot.
    shown = [records[round(at)] for at in np.linspace(0, len(records) - 1, min(40, len(records)))]
    longest = max(records[-1].lags, default=1)
    for name, axes in zip(names, panels, strict=False):
        for record in shown:
            curve = np.array(record.log_norms[name]) / math.log(10)
            axes.plot(record.lags, curve, color=colours.to_rgba(record.step), linewidth=1)
        axes.axhline(math.log10(FRACTION), color="0.5", linestyle=":", linewidth=1, label="1 %")
        axes.set_xscale("log")
        axes.set_xlabel("lag k (steps)")
        axes.set_ylabel("log10 of the norm\nof $ds_t/ds_{t-k}$")
        axes.set_title(name, fontsize="medium")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", frameon=False)
        figure.colorbar(colours, ax=axes, label="updates")
    axes = panels[-1]
    steps = np.array([record.step for record in records])
    for number, name in enumerate(records[-1].horizon):
        seen = [record.horizon[name] for record in records]
        lags = np.array([math.nan if lag is None else lag for lag in seen])
        axes.plot(steps, lags, marker=".", color=f"C{number}", label=name)
        beyond = steps[np.isnan(lags)]
        # Each name a little higher, so that none hides another.
        axes.plot(
            beyond, np.full(len(beyond), longest * 1.06**number), "^", color=f"C{number}",
            markerfacecolor="none",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(0.8, longest * 2)
    axes.set_xlabel("updates")
    axes.set_ylabel("horizon (steps)\n(△: none within the sequences)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", frameon=False)
    return figure
