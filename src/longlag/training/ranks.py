"""Several processes that train one model, such as those of torchrun.

Each takes its share of every batch, as rows; the gradients are added up after each backward pass,
weighted by the places where an error is due, so that all make the update of the whole batch. What
depends on a clock, a signal or a disk is decided by one for all.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from longlag.batch import Batch
from longlag.gradients import Loss
from longlag.gradients.weighted import loss_of, weights_due
from longlag.training.sources import Source

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_T = TypeVar("_T")


class RanksError(ConnectionError):
    """Another process of the job has ended, or could not do its part; its message says why."""


def launched() -> int:
    """How many processes torchrun has started for this job; 1 without it."""
    elastic = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
    return int(os.environ["WORLD_SIZE"]) if elastic else 1


def rank() -> int:
    """The number of this process among those of torchrun, from 0."""
    return int(os.environ["RANK"]) if launched() > 1 else 0


class Alone:
    """What a run on the CPU takes of Fabric, in one process that logs nothing.

    Fabric takes seconds to import, more than many a training.
    """

    device = torch.device("cpu")
    global_rank, world_size = 0, 1
    backward = staticmethod(Tensor.backward)

    def setup_module(self, module: nn.Module, **_: Any) -> Any:
        """The module, all of it on the CPU."""
        return module.to(self.device)

    def setup_optimizers(self, optimizer: Optimizer) -> Optimizer:
        """The optimizer as it is."""
        return optimizer


def processes_for(device: torch.device) -> "Alone | Fabric":
    """This process alone, or Fabric where there is more to it, or Lightning's variables say so.

    Args:
        device: of the model.
    """
    alone = device.type == "cpu" and launched() == 1
    asked = any(name.startswith("LT_") for name in os.environ)
    return Alone() if alone and not asked else fabric_for(device)


def fabric_for(device: torch.device, loggers: Any = None) -> "Fabric":
    """Fabric for the device on which the model lies, and for the processes of torchrun.

    Args:
        device: of the model.
        loggers: of Fabric, one or several.
    """
    from lightning_fabric import Fabric  # here: it takes seconds to import

    processes = launched()
    if processes == 1:
        devices: Any = 1 if device.index is None or device.type == "cpu" else [device.index]
        return Fabric(accelerator=device.type, devices=devices, loggers=loggers)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    fabric = Fabric(
        accelerator=device.type,
        devices=here,
        num_nodes=processes // here,
        strategy="ddp",
        loggers=loggers,
    )
    fabric.launch()
    return fabric


class Ranks:
    """The processes of a run, seen from one of them; mostly there is but one.

    Attributes:
        rank: the number of this process, from 0.
        count: of processes.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def seed(self, *seeds: int) -> int:
        """A seed of this process, for what it draws for its rows; that of the first is the run's.

        >>> Ranks(0, 2).seed(7), Ranks(1, 2).seed(7) != 7
        (7, True)
        """
        if self.first:
            return seeds[0]
        return int(np.random.SeedSequence([*seeds, self.rank]).generate_state(1, np.uint64)[0])

    def batches(self, source: Source, epoch: int, start: int) -> Iterator[Batch[Tensor]]:
        """The batches of an epoch, whole; those that only one process can draw come from the first.

        Raises:
            RanksError: another process has ended.
        """
        if self.alone or not source.drawn_once:
            yield from source.batches(epoch, start)
            return
        batches = source.batches(epoch, start) if self.first else None
        while True:
            item = [None if batches is None else next(batches, None)]
            with self._meeting():
                torch.distributed.broadcast_object_list(item, src=0)
            if item[0] is None:
                return
            yield item[0].map(lambda part: part.to(source.reading.device))

    def rows(self, count: int) -> slice:
        """The rows of this process, of so many.

        >>> Ranks(1, 2).rows(5)
        slice(2, 5, None)
        """
        return self._rows(count)[self.rank]

    def _rows(self, count: int) -> list[slice]:
        """The rows of each process; of fewer rows than processes, each has all."""
        if count < self.count:
            return [slice(0, count)] * self.count
        ends = [count * number // self.count for number in range(self.count + 1)]
        return [slice(first, end) for first, end in itertools.pairwise(ends)]

    def part(self, batch: Batch[Tensor], loss: Loss) -> tuple[Batch[Tensor], float]:
        """The rows of this process, and the weight of their mean loss in that of all rows.

        >>> x = torch.zeros(3, 5, 1)
        >>> part, weight = Ranks(1, 2).part(Batch(x, x), torch.nn.functional.mse_loss)
        >>> len(part.x), round(weight, 3)
        (2, 0.667)
        """
        if self.alone:
            return batch, 1.0
        if len(batch.x) < self.count:
            return batch, 1 / self.count
        rows = self.rows(len(batch.x))
        part = batch.map(lambda whole: whole[rows])
        own, total = (float(weights_due(loss_of(loss, b), b.target).sum()) for b in (part, batch))
        return part, own / total if total else 1 / self.count

    def whole(self, output: Tensor, count: int) -> Tensor:
        """The outputs of all rows, of which each process has those of its part."""
        if self.alone or count < self.count:
            return output
        sizes = [rows.stop - rows.start for rows in self._rows(count)]
        padded = output.new_zeros(max(sizes), *output.shape[1:])
        padded[: len(output)] = output
        parts = [torch.empty_like(padded) for _ in sizes]
        with self._meeting():
            torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def add_up(
        self, parameters: Iterable[nn.Parameter], loss: Tensor, weight: float, notes: Sequence[bool]
    ) -> tuple[Tensor, list[bool]]:
        """Make each gradient that of the whole batch.

        Args:
            parameters: the same in each process; `.grad` is replaced.
            loss: of the part of this process.
            weight: of its mean.
            notes: what any process may have to say.

        Returns:
            The loss of the whole batch, and for each note whether any process said so.
        """
        trained = [p for p in parameters if p.requires_grad]
        if not weight:  # no error is due here: what a loss says of nothing counts for nothing
            loss = torch.zeros_like(loss)
            for parameter in trained:
                parameter.grad = None
        gradients = [_real(p if p.grad is None else p.grad) for p in trained]
        wide = any(part.dtype == torch.float64 for part in gradients)
        dtype = torch.float64 if wide else torch.float32
        has = [p.grad is not None for p in trained]
        said = torch.tensor([*has, *notes], dtype=dtype, device=loss.device)
        parts = [
            part.detach().to(dtype).flatten() * weight
            if own
            else part.new_zeros(part.numel(), dtype=dtype)
            for part, own in zip(gradients, has, strict=True)
        ]
        buffer = torch.cat([*parts, loss.detach().to(dtype).reshape(1) * weight, said])
        self.add(buffer)
        at = 0
        flags = buffer[-len(said) :].tolist()
        for parameter, flag in zip(trained, flags, strict=False):
            size = _real(parameter).numel()
            if flag:
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
                gradient = _real(parameter.grad)
                gradient.copy_(buffer[at : at + size].view_as(gradient))
            at += size
        return buffer[at], [flag > 0 for flag in flags[len(trained) :]]

    def add(self, tensor: Tensor) -> None:
        """Make a tensor the sum of those of all processes."""
        with self._meeting():
            torch.distributed.all_reduce(tensor)

    def shared_memory(self, words: int) -> Tensor | None:
        """Zeros, int64, that all processes read and write; None where they are not on one machine.

        The memory is that of a file without a name, and ends with the processes.
        """
        if os.name != "posix" or os.environ.get("LOCAL_WORLD_SIZE") != str(self.count):
            return None
        folder = Path("/dev/shm")

        def made() -> str:
            with suppress(OSError):  # no room
                number, path = tempfile.mkstemp(
                    prefix="longlag-", dir=folder if folder.is_dir() else None
                )
                with open(number, "wb") as file:
                    file.write(bytes(8 * words))
                return path
            return ""

        path, memory = self.by_first(made), None
        with suppress(OSError, RuntimeError):
            memory = torch.from_file(path, shared=True, size=words, dtype=torch.int64)
        everywhere = all(self.gather(memory is not None))
        if self.first and path:
            Path(path).unlink()
        return memory if everywhere else None

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors the values that they have in the first process."""
        if not self.alone:
            with torch.no_grad(), self._meeting():
                for tensor in tensors:
                    torch.distributed.broadcast(tensor.detach(), src=0)

    def by_first(self, work: Callable[[], _T]) -> _T:
        """What the first process makes, for all.

        Raises:
            RanksError: it failed; it raises the error itself.
        """
        if self.alone:
            return work()
        outcome: list[Any] = [None, ""]
        failure = None
        if self.first:
            try:
                outcome[0] = work()
            except Exception as error:
                failure = error
                outcome[1] = str(error) or type(error).__name__
        with self._meeting():
            torch.distributed.broadcast_object_list(outcome, src=0)
        if failure is not None:
            raise failure
        if outcome[1]:
            raise RanksError(f"process {self.rank}: process 0 could not go on: {outcome[1]}")
        return outcome[0]

    def gather(self, value: _T) -> list[_T]:
        """The value of each process."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.count
        with self._meeting():
            torch.distributed.all_gather_object(values, value)
        return values

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).split("\n")[0]
            raise RanksError(
                f"process {self.rank} of {self.count}: another process of this job has ended; what "
                f"it printed says why ({reason})"
            ) from error


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
