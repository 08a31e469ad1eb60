"""Recordings too long for memory, read from disk window by window."""

import hashlib
import itertools
import os
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import torch

from longlag.batch import IGNORED_CLASS, Batch

Recording: TypeAlias = "str | Path | np.ndarray | torch.Tensor"
"""One recording: a `.npy` file, or an array in memory."""

Recordings: TypeAlias = "Recording | Sequence[Recording]"
"""Several: a folder of `.npy` files, taken in the order of their names, or a list."""

_OPEN = 128
"""Files that are open at once at most."""

_SAMPLE = 4096
"""Bytes at both ends of each recording by which a resumed run knows it again."""


class Streams:
    """Recordings with one target a step, read from disk window by window while training.

    All recordings, laid one after the other, are cut into as many equal parts as a batch has rows;
    each row of the batch reads its part from the beginning to the end, and a state is carried from
    window to window. Where a new recording begins, the state is reset. So memory is that of one
    window, whatever the length of the recordings, and a single recording fills a batch as well.

    For `fit` with a method that updates window by window, such as ``ll.TruncatedBPTT(k1, k2)``: a
    window has k1 steps, ``batch_size`` is the number of rows, one pass over the recordings is an
    epoch, and ``shuffle`` gives the recordings a new order in each.

    Args:
        x: the inputs, each recording (T, C): a `.npy` file, a folder of such files, an array, or a
            list of these. Files are read, never mapped into memory, so that what was read does
            not stay there.
        target: the targets, one file or array for each of x, (T, K) float with NaN where no error
            is due, or (T,) integer classes with -100 there. Files of two folders belong together
            by name.

    Raises:
        TypeError, ValueError: the recordings do not fit together; the message names the one.
        FileNotFoundError: a file or folder is not there.

    >>> streams = Streams(np.zeros((1000, 3)), np.zeros((1000, 1)))
    >>> len(streams), streams.steps
    (1, 1000)
    """

    def __init__(self, x: Recordings, target: Recordings) -> None:
        inputs, targets = _listed(x, "x"), _listed(target, "target")
        if len(inputs) != len(targets):
            raise ValueError(
                f"target: got {len(targets)} recordings, expected {len(inputs)}, as of x"
            )
        if isinstance(x, str | Path) and isinstance(target, str | Path) and Path(x).is_dir():
            for one, other in zip(inputs, targets, strict=True):
                if one.name.removeprefix("x ") != other.name.removeprefix("target "):
                    raise ValueError(
                        f"{other.name}: stands where {one.name} is in the other folder; expected "
                        "the same names in both"
                    )
        self._pairs = [_Pair(x, y) for x, y in zip(inputs, targets, strict=True)]
        first = self._pairs[0]
        for pair in self._pairs[1:]:
            pair.check_like(first)
        self.steps = sum(pair.steps for pair in self._pairs)
        """Steps of all recordings together."""
        self._x_shape, self._y_shape = first.x.shape[1:], first.y.shape[1:]
        self._classes = first.y.dtype.kind in "iub"

    def __len__(self) -> int:
        """How many recordings there are."""
        return len(self._pairs)

    def describe(self) -> dict[str, Any]:
        """What a run that goes on must find again: shapes, types, and both ends of each."""
        digest = hashlib.sha256()
        for pair in self._pairs:
            for part in (pair.x, pair.y):
                digest.update(f"{part.shape} {part.dtype}".encode())
                few = max(1, _SAMPLE // max(1, part.dtype.itemsize * int(np.prod(part.shape[1:]))))
                for first in (0, max(0, part.shape[0] - few)):
                    stop = min(first + few, part.shape[0])
                    digest.update(np.ascontiguousarray(part.read(first, stop)).tobytes())
        return {
            "kind": "recordings",
            "recordings": len(self),
            "steps": self.steps,
            "contents": digest.hexdigest()[:16],
        }

    def count(self, rows: int, steps: int) -> int:
        """How many windows there are in an epoch."""
        return -(-self._per_row(rows) // steps)

    def _per_row(self, rows: int) -> int:
        if rows > self.steps:
            raise ValueError(
                f"batch_size is {rows}, and the recordings have {self.steps} steps in all; "
                "expected no more rows than steps"
            )
        return -(-self.steps // rows)

    def windows(
        self,
        rows: int,
        steps: int,
        *,
        order: Sequence[int] | None = None,
        start: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[Batch[torch.Tensor]]:
        """The windows of one pass, each (rows, steps, ...); the last may be shorter.

        Args:
            rows: of a batch, each with its own part of the recordings.
            steps: of a window.
            order: the numbers of the recordings, in the order in which they are laid out.
            start: the number of the first window that is wanted.
            dtype: of x and of float targets.
        """
        pairs = self._pairs if order is None else [self._pairs[number] for number in order]
        begins = [0, *itertools.accumulate(pair.steps for pair in pairs)]
        per_row = self._per_row(rows)
        # NumPy has no bfloat16.
        real = np.dtype("float32" if dtype == torch.bfloat16 else str(dtype).removeprefix("torch."))
        for first in range(start * steps, per_row, steps):
            count = min(steps, per_row - first)
            x = np.zeros((rows, count, *self._x_shape), real)
            y = np.full((rows, count, *self._y_shape), IGNORED_CLASS, np.int64)
            if not self._classes:
                y = np.full(y.shape, np.nan, real)
            lengths, resets = np.zeros(rows, np.int64), np.zeros((rows, count), bool)
            for row in range(rows):
                begin = row * per_row + first
                end = min(begin + count, (row + 1) * per_row, self.steps)
                lengths[row] = max(0, end - begin)
                at, number = begin, max(0, bisect_right(begins, begin) - 1)
                while at < end:
                    pair, inside = pairs[number], at - begins[number]
                    stop = min(end, begins[number + 1])
                    here = slice(at - begin, stop - begin)
                    x[row, here] = pair.x.read(inside, inside + stop - at)
                    y[row, here] = pair.y.read(inside, inside + stop - at)
                    if inside == 0 and stop > at:
                        resets[row, at - begin] = True
                    at, number = stop, number + 1
            yield Batch(
                torch.from_numpy(x).to(dtype),
                torch.from_numpy(y).to(torch.int64 if self._classes else dtype),
                torch.from_numpy(lengths) if (lengths < count).any() else None,
                torch.from_numpy(resets) if resets.any() else None,
            )


class _InMemory:
    """A recording in memory, or one that NumPy has mapped."""

    def __init__(self, name: str, array: "np.ndarray[Any, Any]") -> None:
        self.name, self.array = name, array
        self.shape, self.dtype = array.shape, array.dtype

    def read(self, first: int, stop: int) -> "np.ndarray[Any, Any]":
        """The steps first .. stop - 1."""
        return self.array[first:stop]


class _Files:
    """The files that are open, by path: the least used are closed first."""

    def __init__(self) -> None:
        self.open: OrderedDict[Path, BinaryIO] = OrderedDict()
        weakref.finalize(self, _close, self.open)

    def get(self, path: Path) -> BinaryIO:
        file = self.open.pop(path, None)
        if file is None:
            file = path.open("rb", buffering=0)
            if len(self.open) >= _OPEN:
                self.open.popitem(last=False)[1].close()
        self.open[path] = file
        return file


def _close(files: OrderedDict[Path, BinaryIO]) -> None:
    for file in files.values():
        file.close()


class _OnDisk:
    """A recording in a `.npy` file, of which no more is read than asked for."""

    def __init__(self, name: str, path: Path, files: _Files) -> None:
        self.name, self.path, self.files = name, path, files
        with path.open("rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                read = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
                self.shape, fortran, self.dtype = read(file)
            except (ValueError, AttributeError) as error:
                raise ValueError(
                    f"{name}: {path} is no .npy file that can be read ({error}); expected an array "
                    "that numpy.save wrote"
                ) from error
            self.offset = file.tell()
        if fortran and len(self.shape) > 1:
            raise ValueError(
                f"{name}: {path} lies in memory column by column; expected the order of C: save "
                "numpy.ascontiguousarray(x)"
            )
        if self.dtype.hasobject:
            raise ValueError(f"{name}: {path} holds Python objects; expected numbers")
        self.width = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        size = self.offset + self.shape[0] * self.width if self.shape else 0
        if path.stat().st_size < size:
            raise ValueError(
                f"{name}: {path} has {path.stat().st_size} bytes, expected {size}; it was not "
                "written to its end"
            )

    def read(self, first: int, stop: int) -> "np.ndarray[Any, Any]":
        """The steps first .. stop - 1."""
        steps = np.empty((stop - first, *self.shape[1:]), self.dtype)
        into = steps.reshape(-1).view(np.uint8).data
        number, done = self.files.get(self.path).fileno(), 0
        while done < len(into):
            here = os.preadv(number, [into[done:]], self.offset + first * self.width + done)
            if here == 0:
                raise OSError(f"{self.path} ended while it was read; was it changed meanwhile?")
            done += here
        return steps


_Reader: TypeAlias = _InMemory | _OnDisk
"""One recording, read some steps at a time."""


class _Pair:
    """A recording with its targets."""

    def __init__(self, x: _Reader, y: _Reader) -> None:
        self.x, self.y = x, y
        if len(x.shape) != 2:
            raise ValueError(f"{x.name}: got shape {x.shape}, expected (T, C)")
        if x.dtype.kind not in "biuf":
            raise TypeError(f"{x.name}: got {x.dtype}, expected real numbers")
        if y.dtype.kind not in "biuf":
            raise TypeError(f"{y.name}: got {y.dtype}, expected real numbers, or integer classes")
        wanted = 1 if y.dtype.kind in "biu" else 2
        if len(y.shape) != wanted:
            kind = "(T,) for classes" if wanted == 1 else "(T, K) for numbers"
            raise ValueError(f"{y.name}: got shape {y.shape} of {y.dtype}, expected {kind}")
        if x.shape[0] != y.shape[0]:
            raise ValueError(
                f"{y.name}: got {y.shape[0]} steps, expected {x.shape[0]}, as of {x.name}"
            )
        if x.shape[0] == 0:
            raise ValueError(f"{x.name}: got no step, expected at least one")

    @property
    def steps(self) -> int:
        return self.x.shape[0]

    def check_like(self, first: "_Pair") -> None:
        for mine, other in ((self.x, first.x), (self.y, first.y)):
            same_kind = (mine.dtype.kind == "f") == (other.dtype.kind == "f")
            if mine.shape[1:] != other.shape[1:] or (mine is self.y and not same_kind):
                raise ValueError(
                    f"{mine.name}: got {mine.shape[1:]} of {mine.dtype} a step, expected "
                    f"{other.shape[1:]} of {other.dtype}, as of {other.name}"
                )


def _listed(recordings: Any, name: str) -> list[_Reader]:
    """The recordings of one argument."""
    files = _Files()
    if isinstance(recordings, str | Path) and Path(recordings).is_dir():
        paths: list[Any] = sorted(Path(recordings).glob("*.npy"))
        if not paths:
            raise FileNotFoundError(f"{name}: there is no .npy file in the folder {recordings}")
        return [_reader(path, f"{name} {path.name}", files) for path in paths]
    if isinstance(recordings, list | tuple):
        if not recordings:
            raise ValueError(f"{name}: got no recording, expected at least one")
        return [
            _reader(recording, f"{name}[{number}]", files)
            for number, recording in enumerate(recordings)
        ]
    return [_reader(recordings, name, files)]


def _reader(recording: Any, name: str, files: _Files) -> _Reader:
    if isinstance(recording, str | Path):
        path = Path(recording)
        if not path.is_file():
            raise FileNotFoundError(f"{name}: there is no file {path}")
        if path.suffix != ".npy":
            raise ValueError(f"{name}: got the file {path}, expected a .npy file")
        return _OnDisk(name, path, files)
    if isinstance(recording, torch.Tensor):
        recording = recording.detach().cpu().numpy()
    if isinstance(recording, np.ndarray):
        return _InMemory(name, recording)
    raise TypeError(
        f"{name}: got a {type(recording).__name__}, expected a .npy file, a folder of such files, "
        "an array, or a list of these"
    )
