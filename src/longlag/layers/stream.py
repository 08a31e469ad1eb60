"""A model that reads one step at a time, and keeps its state."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from longlag.arguments import check_whole
from longlag.layers.base import RecurrentModule
from longlag.layers.checks import check_state
from longlag.layers.embedded import Embedded
from longlag.layers.readout import OUTPUT_ACTIVATIONS, Readout, ReadoutModule
from longlag.layers.recurrent import Recurrent
from longlag.layers.sequence_model import PEAKS, SequenceModel, above
from longlag.layers.stack import Stack
from longlag.layers.state_tree import map_tensors, tensors_of
from longlag.storage import ArchiveError, read_archive, write_archive
from longlag.storage.trees import from_document, to_document

HEAVY = 1 << 22
"""Multiply-adds of a step, or of a block four times as many, from which the layers' own calls, on
all threads, take no longer."""

FEW = 8
"""Sequences below which the layers' own calls take longer in any case: each packs the weights anew,
which takes as long as reading them some ten times."""

_REAL = "fiub"
"""Kinds of NumPy's types that are real numbers."""


class AverageState(NamedTuple):
    """The state of a stream whose model reads out means, shares or greatest values.

    Attributes:
        layer: the state of the recurrent module.
        total: (N, H), of float64, the sum of what is averaged, or the greatest value so far, minus
            infinity before the first step; (N, H + C) where the readout sees x.
        steps: how many steps are in it.
    """

    layer: Any
    total: Tensor
    steps: int


class Stream:
    r"""A model that reads a sequence as it comes: one step at a time, with its state kept.

    .. math:: s_t = f(s_{t-1}, x_t), \qquad y_t = \text{readout}(s_t)

    For sensors, control and agents, where a step has to be answered before there is a next one. The
    outputs are those of the model over the whole sequence, but for rounding: of a
    ``SequenceModel`` the readout after each step, whatever its ``reduce`` is (means,
    shares and greatest values are those of the steps so far); of a layer or ``Stack`` its output h.

    The stream has a copy of the model in evaluation mode: what is done to the model later changes
    nothing in it, and hooks of the model are not called.

    Args:
        model: a :class:`~longlag.SequenceModel`, a layer or a :class:`~longlag.Stack`, which reads
            forward in time alone.
        batch: N, sequences that go on side by side; None for a single one, without an axis.

    Attributes:
        steps: how many steps were read since the beginning, the latest ``reset``, or what ``load``
            has read.
        reason: why steps go by the layers' own calls, of some 50 microseconds each; None where they
            are compiled.

    Raises:
        TypeError: it is another module.
        ValueError: it reads in both directions.

    Cost: of a step of one sequence and 64 units 2 to 4 microseconds, of which most is Python's;
    compiled on float32 and float64 on the CPU, for layers of cells, dense or sparse, with delays,
    clocks and dilations. Memory: the weights twice, and some states. A stream is used by one thread
    at a time.

    Example:
        >>> import longlag as ll
        >>> model = ll.SequenceModel(ll.GRU(3, 8, seed=0), 2, reduce=None, seed=1)
        >>> stream, x = ll.Stream(model), torch.randn(10, 3)
        >>> outputs = torch.stack([stream(step) for step in x])
        >>> torch.allclose(outputs, model(x.unsqueeze(0))[0], atol=1e-6)
        True
        >>> stream(np.zeros(3)).shape, stream.steps
        ((2,), 11)
    """

    def __init__(self, model: SequenceModel | RecurrentModule, batch: int | None = None) -> None:
        if not isinstance(model, (SequenceModel, RecurrentModule)):
            raise TypeError(
                f"model: got {type(model).__name__}, expected a SequenceModel, a recurrent layer "
                "or a Stack of longlag; ll.from_torch(...) converts a module of torch.nn"
            )
        layer = model.layer if isinstance(model, SequenceModel) else model
        if not layer.causal:
            raise ValueError(
                f"model: got one that reads backward in time too ({_backward_part(layer)}), so "
                "that its first output depends on the last input; expected layers that read "
                "forward, such as one direction of it"
            )
        if isinstance(model, SequenceModel) and model.attention is not None:
            raise ValueError(
                "model: got reduce='attention', whose weights are of all steps at once; expected "
                "None, 'last', 'mean', 'share' or 'share_max'"
            )
        self.batch = None if batch is None else check_whole("batch", batch, 1)
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._readout: ReadoutModule | None = None
        self._reduce: str | None = None
        if isinstance(self._model, SequenceModel):
            layer, self._readout = self._model.layer, self._model.readout
            self._reduce = self._model.reduce
        else:
            layer = self._model
        self._layer = layer
        self._like = layer.like.detach()
        replicas = () if layer.replicas is None else (layer.replicas,)
        self._front = (*replicas, 1 if batch is None else batch)
        self._shape = (*replicas, *(() if batch is None else (batch,)), layer.input_size)
        self._averages = self._reduce not in (None, "last")
        self._direct = self._readout is not None and self._readout.direct_size is not None
        self._fast: _Fast | None = None
        self._at = 0
        self.reason = _why_not(layer, self._front)
        with torch.no_grad():
            if self.reason is None:
                self._fast = _Fast(layer, self._like, self._front, alone=batch is None)
                self._read = _read_by(self._readout)
            empty = self._like.new_zeros((*self._front, 0, layer.input_size))
            self._state: Any = layer(empty)[1]
        # Whether several steps are read out as one is, on arrays.
        self._stretches = not self._averages and _is_plain(self._readout)
        self.reset()

    def reset(self) -> None:
        """Begin a new sequence, from states that are zero."""
        state = map_tensors(self._layer_state(), torch.zeros_like)
        self._begin(state, None, 0)

    def __call__(self, x: Any) -> Any:
        """Read one step.

        Args:
            x: (C,), or (N, C) with a ``batch``; R replicas put an R in front. A tensor of the
                model's dtype, or a NumPy array or list of numbers of any.

        Returns:
            The output (K,) or (N, K), or (H,) and (N, H) of a layer: a tensor for a tensor, else a
            NumPy array.

        Raises:
            ValueError, TypeError: x has another shape, dtype or device.
        """
        fast, is_tensor = self._fast, isinstance(x, Tensor)
        if fast is None:
            given = self._tensor(x, self._shape)
            y = self._run(given.unsqueeze(-2)).squeeze(-2)
            return y if is_tensor else _array(y)
        array = self._numbers(x, self._shape) if is_tensor else np.asarray(x)
        if array.shape != self._shape or array.dtype.kind not in _REAL:
            self._tensor(x, self._shape)  # says what is wrong
        at = self._at
        given, h = fast.rows[at]
        given[...] = array
        for function, parameters, part, parts in fast.calls[at]:
            function(parameters, part, parts)
        self._at = at + 1
        if self._at == fast.count:
            self._turn()
        self.steps += 1
        if self._averages:
            h, given = self._mean(h, given)
        y = self._read(h, given)
        return torch.from_numpy(y) if is_tensor else y

    def block(self, x: Any) -> Any:
        """Read some steps at once, which takes less time than one by one.

        Args:
            x: (T, C), or (N, T, C) with a ``batch``, as for a single step.

        Returns:
            The outputs after each of them, (T, K) or (N, T, K).

        Raises:
            ValueError, TypeError: x has another shape, dtype or device.
        """
        shape = getattr(x, "shape", None)
        if shape is None:
            x = np.asarray(x)
            shape = x.shape
        if len(shape) != len(self._shape) + 1:
            expected = (*self._shape[:-1], "T", self._shape[-1])
            raise ValueError(f"x: got shape {_shown(shape)}, expected {_shown(expected)}")
        shape = (*self._shape[:-1], shape[-2], self._shape[-1])
        if self._fast is None or not self._fast.takes(shape[-2]) or not self._stretches:
            y = self._run(self._tensor(x, shape))
            return y if isinstance(x, Tensor) else _array(y)
        array = self._numbers(x, shape) if isinstance(x, Tensor) else np.asarray(x)
        if array.shape != shape or array.dtype.kind not in _REAL:
            self._tensor(x, shape)  # says what is wrong
        self._turn()
        y = self._fast.block(array, self._read)
        self.steps += shape[-2]
        return torch.from_numpy(y) if isinstance(x, Tensor) else y

    @property
    def state(self) -> Any:
        """The state after the latest step, as ``model.run`` gives and takes it, each (N, H); an
        :class:`AverageState` where the model reads out a mean. It may be set."""
        state = self._layer_state()
        if not self._averages:
            return state
        return AverageState(state, torch.from_numpy(self._total.copy()), self.steps)

    @state.setter
    def state(self, state: Any) -> None:
        total, steps = None, self.steps
        if self._averages:
            if not isinstance(state, AverageState):
                raise TypeError(
                    f"state: got {type(state).__name__}, expected an AverageState, as the model "
                    f"has reduce={self._reduce!r}"
                )
            state, total, steps = state
            if tuple(total.shape) != self._total.shape:
                raise ValueError(
                    f"state.total: got {_shown(total.shape)}, expected {_shown(self._total.shape)}"
                )
        like = self._like.new_zeros((*self._front, 0, self._layer.input_size))
        for _, layer, part in self._layer.parts(state):
            if isinstance(layer, Recurrent) and part is not None:
                check_state(part, layer.recurrence, like, layer.hidden_size)
        self._begin(state, total, steps)

    def save(self, path: str | Path) -> None:
        """Save the state to one file, without the model: data only, whole or not at all.

        Args:
            path: the file; ``.longlag`` is the usual ending.

        Raises:
            TypeError: the model has a cell of your own whose fields longlag cannot write.
            OSError: the file cannot be written.

        Example:
            >>> import tempfile, longlag as ll
            >>> path, model = Path(tempfile.mkdtemp()) / "state.longlag", ll.Elman(1, 4, seed=0)
            >>> stream, other = Stream(model), Stream(model)
            >>> _ = stream([0.5])
            >>> stream.save(path)
            >>> other.load(path)
            >>> other.steps, bool((stream([1.0]) == other([1.0])).all())
            (1, True)
        """
        state = {
            "model": self._digest(),
            "batch": self.batch,
            "steps": self.steps,
            "state": list(tensors_of(self.state)),
        }
        write_archive(Path(path), "stream", *to_document(state))

    def load(self, path: str | Path) -> None:
        """Go on from a state that :meth:`save` wrote, of a stream of the same model.

        Args:
            path: the file.

        Raises:
            ArchiveError: it is damaged, of another kind, or of another model or ``batch``; the
                stream is as it was.
            OSError: the file cannot be read.
        """
        path = Path(path)
        document, tensors = read_archive(path, "stream")
        try:
            found = from_document(document, tensors)
            model, batch, steps, saved = (
                found[name] for name in ("model", "batch", "steps", "state")
            )
            check_whole("steps", steps, 0)
            mine = list(tensors_of(self.state))
            alike = [(tuple(t.shape), t.dtype) for t in saved] == [
                (tuple(t.shape), t.dtype) for t in mine
            ]
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ArchiveError(path, f"describes no state of a stream: {error!s:.200}") from error
        if model != self._digest():
            fix = "Give the model that it was saved with, with the same weights."
            raise ArchiveError(path, "its state is that of another model", fix)
        if batch != self.batch or not alike:
            fix = f"Make the stream with batch={batch!r:.20}."
            raise ArchiveError(path, f"its batch is {batch!r:.20}, and here {self.batch}", fix)
        values = iter(saved)
        state = map_tensors(self.state, lambda _: next(values).to(self._like.device))
        self.state = state._replace(steps=steps) if self._averages else state
        self.steps = steps

    def __reduce__(self) -> Any:
        """How it is copied and pickled: the compiled steps point into memory, and are made anew."""
        return _resumed, (type(self), self._model, self.batch, self.state, self.steps)

    def _begin(self, state: Any, total: Tensor | None, steps: int) -> None:
        """Go on from these."""
        self._at, self.steps = 0, steps
        if self._fast is None:
            self._state = map_tensors(state, lambda part: part.detach().clone())
        else:
            self._fast.take(state)
        if self._averages:
            wide = self._layer.output_size + self._layer.input_size * self._direct
            self._total = np.zeros((*self._front, wide))
            if self._reduce == "share_max":
                self._peaks(self._total)[...] = -np.inf
            if total is not None:
                self._total[...] = total.detach().cpu().numpy()

    def _layer_state(self) -> Any:
        if self._fast is None:
            return map_tensors(self._state, Tensor.clone)
        return self._fast.state(self._at)

    def _run(self, x: Tensor) -> Tensor:
        """Some steps by the layers' own calls: x (..., T, C) to (..., T, K)."""
        if self.batch is None:
            x = x.unsqueeze(-3)
        with torch.no_grad():
            before = self._state if self._fast is None else self._fast.state(self._at)
            h, after = self._layer(x, before)
            seen: Tensor | None = x if self._direct else None
            if self._averages:
                summed = above(h, self._reduce)
                summed = summed if seen is None else torch.cat([summed, seen], -1)
                total = torch.from_numpy(self._total).to(h.device).unsqueeze(-2)
                earlier, total = total, total + summed.double().cumsum(-2)
                if self._reduce == "share_max" and x.shape[-2]:
                    greatest = h[..., PEAKS].double().cummax(-2).values
                    peaks = self._peaks(earlier)
                    self._peaks(total)[...] = torch.maximum(greatest, peaks)
                count = torch.arange(1, x.shape[-2] + 1, device=h.device) + self.steps
                mean = self._of_totals(total, count.unsqueeze(-1)).to(h.dtype)
                if x.shape[-2]:
                    self._total = total[..., -1, :].cpu().numpy().copy()
                h, seen = (
                    mean[..., : h.shape[-1]],
                    mean[..., h.shape[-1] :] if self._direct else None,
                )
            y = h if self._readout is None else self._readout.by_step(h, seen)
            self.steps += x.shape[-2]
            if self._fast is None:
                self._state = after
            else:
                self._at = 0
                self._fast.take(after)
        return y.squeeze(-3) if self.batch is None else y

    def _mean(self, h: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is read out of a mean after one more step."""
        hidden, total = h.shape[-1], self._total.reshape(*h.shape[:-1], -1)
        peaks = self._peaks(total)
        greatest = np.maximum(peaks, h[..., PEAKS]) if self._reduce == "share_max" else None
        total[..., :hidden] += h if self._reduce == "mean" else h > 0
        if greatest is not None:
            peaks[...] = greatest
        if self._direct:
            total[..., hidden:] += x
        mean = self._of_totals(total, self.steps).astype(h.dtype)
        return mean[..., :hidden], mean[..., hidden:]

    def _peaks(self, total: Any) -> Any:
        """Of what is added up, the units of which the greatest value is kept."""
        return total[..., : self._layer.output_size][..., PEAKS]

    def _of_totals(self, total: Any, count: Any) -> Any:
        """What is read out of what was added up over so many steps."""
        mean = total / count
        if self._reduce == "share_max":
            self._peaks(mean)[...] = self._peaks(total)
        return mean

    def _turn(self) -> None:
        """The next step is the first in memory."""
        if self._at:
            assert self._fast is not None
            self._fast.turn(self._at)
            self._at = 0

    def _numbers(self, x: Tensor, shape: tuple[int, ...]) -> np.ndarray:
        """The numbers of a tensor that fits."""
        if x.dtype is not self._like.dtype or not x.is_cpu:
            self._tensor(x, shape)
        try:
            return x.numpy()
        except RuntimeError:  # it has a gradient to come, or its sign is only noted
            return x.numpy(force=True)

    def _tensor(self, x: Any, shape: tuple[int, ...]) -> Tensor:
        """x as a tensor of a shape, of the model's dtype, where the model is."""
        like = self._like
        if not isinstance(x, Tensor):
            array = np.asarray(x)
            if array.dtype.kind not in _REAL:
                raise TypeError(f"x: got {array.dtype}, expected real numbers")
            x = torch.as_tensor(array, dtype=like.dtype, device=like.device)
        if tuple(x.shape) != shape:
            what = "one step" if len(shape) == len(self._shape) else "some steps"
            raise ValueError(
                f"x: got shape {_shown(x.shape)}, expected {_shown(shape)}: {what} of "
                f"{self._layer.input_size} features"
                f"{'' if self.batch is None else f' of {self.batch} sequences'}"
            )
        if x.dtype != like.dtype or x.device != like.device:
            raise TypeError(
                f"x: got {x.dtype} on {x.device}, expected {like.dtype} on {like.device}, as the "
                f"weights; use x.to({like.dtype})"
            )
        return x.detach()

    def _digest(self) -> str:
        """What tells the model from others: its structure and weights."""
        digest = hashlib.sha256(json.dumps(self._model.config(), sort_keys=True).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            data = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(data.numpy().tobytes())
        return digest.hexdigest()


class _Fast:
    """Layers whose kernels are called step by step, in memory that stays.

    Attributes:
        count: M, steps in memory.
        x, h: (M, ...), what is read and put out, without an axis of sequences where there is one.
        rows: by step in memory, both.
        calls: by step in memory, the kernels.
    """

    def __init__(
        self, module: RecurrentModule, like: Tensor, front: tuple[int, ...], *, alone: bool
    ) -> None:
        from longlag.scan.cpu.steps import Steps, steps_of

        self._module = module
        layers = list(_layers(module))
        self.count = count = max(steps_of(layer.recurrence) for layer in layers)
        read = x = like.new_zeros((count, *front, module.input_size))
        self._steps: list[Steps] = []
        for layer in layers:
            self._steps.append(Steps(layer.recurrence, read, layer.scan_weights()))
            read = self._steps[-1].output
        self.x, self.h = ((part.squeeze(-2) if alone else part).numpy() for part in (x, read))
        self.rows = list(zip(self.x, self.h, strict=True))
        self.calls, self._stretches = (
            [[call for part in parts for call in part] for parts in zip(*of_each, strict=True)]
            for of_each in zip(*((s.calls, s.stretches) for s in self._steps), strict=True)
        )
        self._most = 4 * HEAVY // max(1, _work(module, front))

    def takes(self, steps: int) -> bool:
        """Whether a block is so short that it is faster this way."""
        return steps <= self._most

    def block(self, x: np.ndarray, read: Callable[..., np.ndarray]) -> np.ndarray:
        """The outputs of some steps (..., T, C), of which the first is the first in memory, and so
        is the next."""
        x, parts = np.moveaxis(x, -2, 0), []
        for first in range(0, len(x), self.count):
            some = x[first : first + self.count]
            steps = len(some)
            self.x[:steps] = some
            for function, parameters, part, of in self._stretches[steps - 1]:
                function(parameters, part, of)
            parts.append(read(self.h[:steps], self.x[:steps]))
            self.turn(steps)
        if len(parts) != 1:
            parts = [np.concatenate(parts or [read(self.h[:0], self.x[:0])])]
        return np.ascontiguousarray(np.moveaxis(parts[0], 0, -2))

    def turn(self, steps: int) -> None:
        """After so many of the steps in memory: the next one is the first again."""
        for each in self._steps:
            each.turn(steps)

    def state(self, at: int) -> Any:
        """The module's state before a step in memory."""
        states = iter([steps.states(at) for steps in self._steps])
        return _tree(self._module, states)

    def take(self, state: Any) -> None:
        """Begin with a state of the module."""
        parts = [part for _, _, part in self._module.parts(state)]
        for steps, part in zip(self._steps, parts, strict=True):
            steps.take((part,) if isinstance(part, Tensor) else part)


def _resumed(kind: type[Stream], model: Any, batch: int | None, state: Any, steps: int) -> Stream:
    """A stream that goes on from a state."""
    stream = kind(model, batch)
    stream.state = state
    stream.steps = steps
    return stream


def _layers(module: Any) -> Iterator[Recurrent]:
    """The layers of a module, the one that reads x first."""
    if isinstance(module, Stack):
        for part in module.layers:
            yield from _layers(part)
    else:
        yield module


def _tree(module: Any, states: Iterator[Sequence[Tensor]]) -> Any:
    """The state of a module, of those of its layers in order."""
    if isinstance(module, Stack):
        return tuple([_tree(part, states) for part in module.layers])
    return module.state_of(next(states))


def _why_not(module: RecurrentModule, front: tuple[int, ...]) -> str | None:
    """Why a module's kernels cannot be called step by step; None where they can."""
    from longlag.scan.cpu.backend import Cpu

    for layer in _layers(module):
        name = type(layer).__name__
        if isinstance(layer, Embedded):
            return "vectors are read in the place of categories"
        if not isinstance(layer, Recurrent) or type(layer).forward is not Recurrent.forward:
            return f"a {name} is no layer of a cell"
        if layer.backend not in ("auto", Cpu.name):
            return f"{name} has backend={layer.backend!r}"
        why = Cpu().unsupported(layer.like)
        if why is not None:
            return why
    if _work(module, front) >= HEAVY and front[-1] >= FEW:
        return "a step has so many multiply-adds that the layers' own calls take no longer"
    return None


def _work(module: RecurrentModule, front: tuple[int, ...]) -> int:
    """Multiply-adds of a step."""
    weights = [layer.scan_weights() for layer in _layers(module)]
    matrices = [matrix for some in weights for matrix in (some.recurrent, some.input)]
    return front[-1] * sum(0 if matrix is None else matrix.numel() for matrix in matrices)


def _is_plain(readout: ReadoutModule | None) -> bool:
    """Whether a readout is products of arrays with axes of any number."""
    return readout is None or (type(readout) is Readout and readout.replicas is None)


def _read_by(readout: ReadoutModule | None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A readout of steps on arrays, h (..., H) and x (..., C); the result is new."""
    if readout is None:
        return lambda h, x: h.copy()
    if not _is_plain(readout):

        def read(h: np.ndarray, x: np.ndarray) -> np.ndarray:
            seen = None if readout.direct_size is None else torch.from_numpy(x).unsqueeze(-2)
            y = readout(torch.from_numpy(h).unsqueeze(-2), seen)
            return y.squeeze(-2).numpy().copy()

        return read
    assert isinstance(readout, Readout)
    weights = [
        None if weight is None else np.ascontiguousarray(weight.numpy().T)
        for weight in (readout.weight, readout.weight_squares, readout.weight_direct)
    ]
    linear, squares, direct = weights
    assert linear is not None
    bias = None if readout.bias is None else readout.bias.numpy()
    activation = OUTPUT_ACTIVATIONS[readout.activation]
    plain = readout.activation == "identity"

    def times(h: np.ndarray, x: np.ndarray) -> np.ndarray:
        y = h.dot(linear)
        if bias is not None:
            y = y + bias  # in place takes twice as long for a few numbers
        if squares is not None:
            y += (h * h).dot(squares)
        if direct is not None:
            y += x.dot(direct)
        return y if plain else activation(torch.from_numpy(y)).numpy()

    return times


def _backward_part(module: RecurrentModule) -> str:
    """The type of the first part that does not read forward alone."""
    parts: Sequence[Any] = module.layers if isinstance(module, Stack) else ()  # type: ignore[assignment]
    for part in parts:
        if not part.causal:
            return _backward_part(part)
    return type(module).__name__


def _array(y: Tensor) -> np.ndarray:
    """As NumPy has it, which knows no bfloat16."""
    return (y.float() if y.dtype is torch.bfloat16 else y).numpy(force=True)


def _shown(shape: Sequence[Any]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
