"""Where batches come from: arrays, recordings, an endless stream, or a DataLoader of torch.

Each source can start at any position of any epoch, which is what makes a resumed run equal to one
that never stopped. For arrays the order of epoch e is a function of (seed, e); for a stream batch i
is a function of i; for a DataLoader the random state at the start of the epoch is kept, and the
batches before the position are drawn again and dropped.
"""

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from operator import itemgetter
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from longlag import randomness
from longlag.batch import Batch
from longlag.training.batch import Sequences, as_batch
from longlag.training.streams import Streams

__all__ = ["Data", "Endless", "Source", "make_source"]


@runtime_checkable
class Endless(Protocol):
    """Endless data: `batch(index)` is a function of the index alone."""

    def batch(self, index: int, /) -> Sequences:
        """Batch number `index`, counted from 0."""
        ...


Data: TypeAlias = tuple[Any, ...] | Sequences | Endless | Streams | DataLoader[Any]


class Source(ABC):
    """Batches from any position on.

    Attributes:
        batches_per_epoch: None: unknown, or there is no end.
        endless: whether the first epoch has no end.
        continues: whether each batch is the next window of the sequences of the batch before.
    """

    batches_per_epoch: int | None = None
    endless = False
    continues = False

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""

    @abstractmethod
    def batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        """The batches of an epoch from number `start` on."""

    def state(self) -> Any:
        """What is needed, beyond epoch and position, to go on."""
        return None

    def load_state(self, state: Any) -> None:
        """Take in what `state` gave."""
        assert state is None

    def undisturbed(self) -> AbstractContextManager[None]:
        """Batches drawn inside do not change what is drawn afterwards."""
        return nullcontext()


def make_source(
    data: Data,
    *,
    name: str,
    dtype: torch.dtype,
    device: torch.device,
    batch_size: int,
    seed: int,
    shuffle: bool,
    window: int | None = None,
) -> Source:
    """Make the source for whatever data `fit` was given.

    Args:
        data: see `fit`.
        name: the name of the argument, for errors.
        dtype: that of the model; float data are cast to it.
        device: where batches go.
        batch_size: sequences in a batch, for arrays.
        seed: the order of the epochs, for arrays.
        shuffle: whether there is a new order in each epoch, for arrays and recordings.
        window: steps that are read at once, for recordings.

    Raises:
        TypeError, ValueError: the data are none of these, or do not fit together.
    """
    if isinstance(data, Streams):
        if window is None:
            raise ValueError(
                f"{name} is Streams, which are read window by window; expected a method that "
                "updates so, for example method=ll.TruncatedBPTT(k1=50)"
            )
        return _RecordingSource(data, window, dtype, device, batch_size, seed, shuffle)
    if isinstance(data, DataLoader):
        return _LoaderSource(data, name, dtype, device)
    if isinstance(data, tuple | list | Sequences):
        batch = as_batch(data, name, dtype)
        return _ArraySource(batch, device, batch_size, seed, shuffle)
    if isinstance(data, Endless):
        return _EndlessSource(data, name, dtype, device)
    raise TypeError(
        f"{name} is a {type(data).__name__}; expected (x, target), (x, target, lengths), an object "
        "with x and target, a stream with batch(index), ll.Streams, or a torch DataLoader"
    )


class _ArraySource(Source):
    """All sequences at hand, in a new order in each epoch."""

    def __init__(
        self, whole: Batch[Tensor], device: torch.device, batch_size: int, seed: int, shuffle: bool
    ):
        self.whole = whole
        self.device = device
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.count = len(whole.x)
        self.batches_per_epoch = -(-self.count // batch_size)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "arrays",
            "x": list(self.whole.x.shape),
            "target": list(self.whole.target.shape),
            "contents": _digest(self.whole),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
        }

    def batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        order = self.order(epoch)
        for first in range(start * self.batch_size, self.count, self.batch_size):
            rows = slice(first, first + self.batch_size)
            chosen = rows if order is None else order[rows]
            yield self.whole.map(itemgetter(chosen)).map(_onto(self.device))

    def order(self, epoch: int) -> Tensor | None:
        """The permutation of epoch `epoch`; None: as they lie."""
        if not self.shuffle:
            return None
        return torch.from_numpy(permutation(self.seed, epoch, self.count))


class _RecordingSource(Source):
    """Recordings, window by window; the next batch goes on where the one before ended."""

    continues = True

    def __init__(
        self,
        streams: Streams,
        window: int,
        dtype: torch.dtype,
        device: torch.device,
        batch_size: int,
        seed: int,
        shuffle: bool,
    ):
        self.streams, self.window, self.dtype, self.device = streams, window, dtype, device
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.batches_per_epoch = streams.count(batch_size, window)

    def describe(self) -> dict[str, Any]:
        return {
            **self.streams.describe(),
            "window": self.window,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
        }

    def batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        order = None
        if self.shuffle:
            order = permutation(self.seed, epoch, len(self.streams)).tolist()
        found = self.streams.windows(
            self.batch_size, self.window, order=order, start=start, dtype=self.dtype
        )
        for batch in found:
            yield batch.map(_onto(self.device))


def permutation(seed: int, epoch: int, count: int) -> "np.ndarray[Any, Any]":
    """The order of an epoch: a function of seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


class _EndlessSource(Source):
    """One epoch without end."""

    endless = True

    def __init__(self, stream: Endless, name: str, dtype: torch.dtype, device: torch.device):
        self.stream = stream
        self.name = name
        self.dtype = dtype
        self.device = device
        try:
            inspect.signature(stream.batch).bind(0)
        except TypeError as error:
            raise TypeError(
                f"{name}.batch of {type(stream).__name__} does not take one index; expected a "
                "stream with batch(index), such as task.stream(batch_size, seed)"
            ) from error
        self.first = as_batch(stream.batch(0), f"{name}.batch(0)", dtype)

    def describe(self) -> dict[str, Any]:
        return {"kind": "stream", "first batch": _digest(self.first)}

    def batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        index = start
        while True:
            batch = as_batch(self.stream.batch(index), f"{self.name}.batch({index})", self.dtype)
            yield batch.map(_onto(self.device))
            index += 1


class _LoaderSource(Source):
    """A DataLoader of torch: its order comes from the random state at the start of the epoch."""

    def __init__(
        self, loader: "DataLoader[Any]", name: str, dtype: torch.dtype, device: torch.device
    ):
        self.loader = loader
        self.name = name
        self.dtype = dtype
        self.device = device
        self.generators = _generators(loader)
        self.epoch_start: Any = None
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

    def batches(self, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        if start == 0:
            self.epoch_start = {
                "global": randomness.capture(self.device),
                "own": [generator.get_state() for generator in self.generators],
            }
            yield from self._converted(iter(self.loader))
            return
        here = randomness.capture(self.device)
        randomness.restore(self.epoch_start["global"], self.device)
        for generator, state in zip(self.generators, self.epoch_start["own"], strict=True):
            generator.set_state(state)
        items = iter(self.loader)
        for _ in range(start):
            next(items)
        randomness.restore(here, self.device)
        yield from self._converted(items)

    def _converted(self, items: Iterator[Any]) -> Iterator[Batch[Tensor]]:
        for item in items:
            batch = as_batch(item, f"a batch of {self.name}", self.dtype)
            yield batch.map(_onto(self.device))

    def state(self) -> Any:
        return self.epoch_start

    def load_state(self, state: Any) -> None:
        self.epoch_start = state

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        start, own = self.epoch_start, [generator.get_state() for generator in self.generators]
        try:
            with randomness.isolated(self.device):
                yield
        finally:
            self.epoch_start = start
            for generator, state in zip(self.generators, own, strict=True):
                generator.set_state(state)


def _onto(device: torch.device) -> Callable[[Tensor], Tensor]:
    """What brings a part of a batch to a device."""
    return lambda part: part.to(device, non_blocking=True)


def _generators(loader: "DataLoader[Any]") -> list[torch.Generator]:
    """The generators of the loader and of its sampler, each once."""
    found = (loader.generator, getattr(loader.sampler, "generator", None))
    return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())


def _digest(batch: Batch[Tensor]) -> str:
    """Of every byte of x, target, lengths and resets."""
    found = hashlib.sha256()
    for name, part in batch._asdict().items():
        if part is not None:
            found.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
            found.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]
