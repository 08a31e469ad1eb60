"""Where batches come from: arrays, recordings, an endless stream, or a DataLoader of torch.

Each source can start at any position of any epoch, which is what makes a resumed run equal to one
that never stopped. For arrays the order of epoch e is a function of (seed, e); for a stream batch i
is a function of i; for a DataLoader the random state at the start of the epoch is kept, and the
batches before the position are drawn again and dropped.
"""

import hashlib
import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from longlag import randomness
from longlag.batch import Batch
from longlag.training.batch import Sequences, as_batch
from longlag.training.streams import Streams


@runtime_checkable
class Endless(Protocol):
    """Endless data: `batch(index)` is a function of the index alone."""

    def batch(self, index: int, /) -> Sequences:
        """Batch number `index`, counted from 0."""
        ...


Data: TypeAlias = tuple[Any, ...] | Sequences | Endless | Streams | DataLoader[Any]


@dataclass(frozen=True)
class Reading:
    """How data are read, whatever they are.

    Attributes:
        dtype: that of the model; float data are cast to it.
        device: where batches go.
        batch_size: sequences in a batch, for arrays and recordings.
        seed: the order of the epochs, for arrays and recordings.
        shuffle: whether there is a new order in each epoch, for arrays and recordings.
        window: steps that are read at once, for recordings.
    """

    dtype: torch.dtype
    device: torch.device
    batch_size: int
    seed: int
    shuffle: bool
    window: int | None = None

    def order(self, epoch: int, count: int) -> "np.ndarray[Any, Any] | None":
        """The permutation of an epoch, a function of seed and epoch; None: as they lie."""
        if not self.shuffle:
            return None
        return np.random.default_rng([self.seed, epoch]).permutation(count)

    def describe(self) -> dict[str, Any]:
        """What a checkpoint must agree with, for arrays and recordings."""
        return {"batch_size": self.batch_size, "shuffle": self.shuffle}


class Source(ABC):
    """Batches from any position on.

    Attributes:
        batches_per_epoch: None: unknown, or there is no end.
        endless: whether the first epoch has no end.
        continues: whether each batch is the next window of the sequences of the batch before.
        whole: all sequences, where they are at hand; batches are then rows of it.
        drawn_once: whether another process would draw other batches.
    """

    batches_per_epoch: int | None = None
    endless = False
    continues = False
    whole: Batch[Tensor] | None = None
    drawn_once = False

    def __init__(self, name: str, reading: Reading) -> None:
        self.name, self.reading = name, reading

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""

    def batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        """The batches of an epoch from number `start` on, on the device."""
        for batch in self._batches(epoch, start):
            yield batch.map(lambda part: part.to(self.reading.device, non_blocking=True))

    @abstractmethod
    def _batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        """These batches, wherever they lie."""

    def order(self, epoch: int) -> "np.ndarray[Any, Any]":
        """The numbers of all sequences of ``whole`` in the order of an epoch."""
        assert self.whole is not None
        count = len(self.whole.x)
        order = self.reading.order(epoch, count)
        return np.arange(count) if order is None else order

    def state(self) -> Any:
        """What is needed, beyond epoch and position, to go on."""
        return None

    def load_state(self, state: Any) -> None:
        """Take in what `state` gave."""
        assert state is None

    def undisturbed(self) -> AbstractContextManager[None]:
        """Batches drawn inside do not change what is drawn afterwards."""
        return nullcontext()

    def peek(self) -> Batch[Tensor] | None:
        """The first batch, looked at before the run; None: there is none."""
        with self.undisturbed():
            return next(self.batches(0, 0), None)


def make_source(data: Data, name: str, reading: Reading) -> Source:
    """Make the source for whatever data `fit` was given.

    Args:
        data: see `fit`.
        name: the name of the argument, for errors.
        reading: how they are read.

    Raises:
        TypeError, ValueError: the data are none of these, or do not fit together.
    """
    if isinstance(data, Streams):
        if reading.window is None:
            raise ValueError(
                f"{name} is Streams, which are read window by window; expected a method that "
                "updates so, for example method=ll.TruncatedBPTT(k1=50)"
            )
        return _RecordingSource(data, name, reading, reading.window)
    if isinstance(data, DataLoader):
        return _LoaderSource(data, name, reading)
    if isinstance(data, tuple | list | Sequences):
        return _ArraySource(data, name, reading)
    if isinstance(data, Endless):
        return _EndlessSource(data, name, reading)
    raise TypeError(
        f"{name} is a {type(data).__name__}; expected (x, target), (x, target, lengths), an object "
        "with x and target, a stream with batch(index), ll.Streams, or a torch DataLoader"
    )


class _ArraySource(Source):
    """All sequences at hand, in a new order in each epoch."""

    def __init__(self, data: Any, name: str, reading: Reading) -> None:
        super().__init__(name, reading)
        self.whole = self._whole = as_batch(data, name, reading.dtype)
        self.count = len(self._whole.x)
        weights = self._whole.weights
        if weights is not None and not weights.any():  # those of a single batch may be
            raise ValueError(
                f"weights of {name}: all are 0, expected {self.count} finite numbers >= 0, some of "
                "them above 0"
            )
        self.batches_per_epoch = -(-self.count // reading.batch_size)

    def describe(self) -> dict[str, Any]:
        whole = self._whole
        return {
            "kind": "arrays",
            "x": list(whole.x.shape),
            "target": list(whole.target.shape),
            "contents": _digest(whole),
            **self.reading.describe(),
        }

    def _batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        order, size = self.reading.order(epoch, self.count), self.reading.batch_size
        for first in range(start * size, self.count, size):
            rows = slice(first, first + size)
            yield self._whole.map(
                itemgetter(rows if order is None else torch.from_numpy(order[rows]))
            )


class _RecordingSource(Source):
    """Recordings, window by window; the next batch goes on where the one before ended."""

    continues = True

    def __init__(self, streams: Streams, name: str, reading: Reading, window: int) -> None:
        super().__init__(name, reading)
        self.streams, self.window = streams, window
        self.batches_per_epoch = streams.count(reading.batch_size, window)

    def describe(self) -> dict[str, Any]:
        return {**self.streams.describe(), "window": self.window, **self.reading.describe()}

    def _batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        reading, order = self.reading, self.reading.order(epoch, len(self.streams))
        return self.streams.windows(
            reading.batch_size,
            self.window,
            order=None if order is None else order.tolist(),
            start=start,
            dtype=reading.dtype,
        )


class _EndlessSource(Source):
    """One epoch without end."""

    endless = True

    def __init__(self, stream: Endless, name: str, reading: Reading) -> None:
        super().__init__(name, reading)
        self.stream = stream
        try:
            inspect.signature(stream.batch).bind(0)
        except TypeError as error:
            raise TypeError(
                f"{name}.batch of {type(stream).__name__} does not take one index; expected a "
                "stream with batch(index), such as task.stream(batch_size, seed)"
            ) from error
        self.first = self._batch(0)

    def describe(self) -> dict[str, Any]:
        return {"kind": "stream", "first batch": _digest(self.first)}

    def _batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        return map(self._batch, itertools.count(start))

    def _batch(self, index: int) -> Batch[Tensor]:
        return as_batch(self.stream.batch(index), f"{self.name}.batch({index})", self.reading.dtype)


class _LoaderSource(Source):
    """A DataLoader of torch: its order comes from the random state at the start of the epoch."""

    drawn_once = True

    def __init__(self, loader: "DataLoader[Any]", name: str, reading: Reading) -> None:
        super().__init__(name, reading)
        self.loader = loader
        self.generators = _generators(loader)
        self.epoch_start: Any = None
        self._begun: Iterator[Any] | None = None  # of data that can be read once: what is left
        try:
            self.batches_per_epoch = len(loader)
        except TypeError:  # an IterableDataset without a length
            self.batches_per_epoch = None

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "loader",
            "batches": self.batches_per_epoch,
            "batch_size": self.loader.batch_size,
        }

    def _batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        device = self.reading.device
        if start == 0:
            self.epoch_start = {"global": randomness.capture(device), "own": self._own_states()}
            items = self._items()
        else:
            here = randomness.capture(device)
            randomness.restore(self.epoch_start["global"], device)
            self._restore(self.epoch_start["own"])
            items = self._items()
            for _ in range(start):
                next(items)
            randomness.restore(here, device)
        for item in items:
            yield self._batch(item)

    def _own_states(self) -> list[Tensor]:
        return [generator.get_state() for generator in self.generators]

    def _restore(self, states: list[Tensor]) -> None:
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)

    def state(self) -> Any:
        return self.epoch_start

    def load_state(self, state: Any) -> None:
        self.epoch_start = state

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        start, own = self.epoch_start, self._own_states()
        try:
            with randomness.isolated(self.reading.device):
                yield
        finally:
            self.epoch_start = start
            self._restore(own)

    def peek(self) -> Batch[Tensor] | None:
        with self.undisturbed():
            if not self._is_read_once():
                return next(self.batches(0, 0), None)
            items = iter(self.loader)
            peeked = list(itertools.islice(items, 1))
        self._begun = itertools.chain(peeked, items)
        return self._batch(peeked[0]) if peeked else None

    def _is_read_once(self) -> bool:
        """Whether the data are an iterator, of which what was looked at is gone."""
        data = self.loader.dataset
        return isinstance(data, IterableDataset) and iter(data) is iter(data)

    def _items(self) -> Iterator[Any]:
        items, self._begun = self._begun or iter(self.loader), None
        return items

    def _batch(self, item: Any) -> Batch[Tensor]:
        return as_batch(item, f"a batch of {self.name}", self.reading.dtype)


def _generators(loader: "DataLoader[Any]") -> list[torch.Generator]:
    """The generators of the loader and of its sampler, each once."""
    both = (loader.generator, getattr(loader.sampler, "generator", None))
    return [*dict.fromkeys(g for g in both if isinstance(g, torch.Generator))]


def _digest(batch: Batch[Tensor]) -> str:
    """Of every byte of x, target, lengths and resets."""
    digest = hashlib.sha256()
    for name, part in batch._asdict().items():
        if part is not None:
            digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
