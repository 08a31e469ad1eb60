"""Learning while reading: what is asked of a net that changes its weights after any step.

A method that can do this has `start`, which takes a model and gives a learner. The model's R
replicas are R nets, each with its own stream; one without replicas is one net, R = 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from longlag.layers.composition import composition_of
from longlag.layers.readout import ReadoutModule


class OnlineLearner(ABC):
    """R nets that learn while they read; each call names the nets (rows) that it is for.

    What the other rows hold, weights and state, stays as it is, bit for bit.
    """

    @abstractmethod
    def reset(self, rows: NDArray) -> None:
        """An episode begins: the state is zero, and no error goes back beyond here."""

    @abstractmethod
    def read(self, rows: NDArray, x: NDArray) -> None:
        """One step: symbols (rows,) of whole numbers, or vectors (rows, C)."""

    @abstractmethod
    def outputs(self) -> list[NDArray]:
        """What each readout says since the last input: (R, K) each."""

    @abstractmethod
    def hidden(self) -> NDArray:
        """The hidden activations since the last input, (R, H); zero after a reset."""

    @abstractmethod
    def learn(self, rows: NDArray, errors: Sequence[NDArray]) -> None:
        """One step of gradient descent on E = 1/2 sum e^2, e = output - target, (R, K) each.

        An error of 0 changes nothing. Parameters that required no gradient at the start stay.
        """

    def step(self, x: ArrayLike, target: ArrayLike) -> NDArray:
        """All nets read one input, and learn what the first readout should have said of it.

        Args:
            x: symbols (R,), or vectors (R, C).
            target: (R, K), NaN where no error is due.

        Returns:
            What the first readout said, (R, K).
        """
        rows = np.arange(len(self.hidden()))
        self.read(rows, np.asarray(x))
        first, *others = (output.copy() for output in self.outputs())
        self.learn(rows, [np.nan_to_num(first - target), *map(np.zeros_like, others)])
        return first


@runtime_checkable
class OnlineMethod(Protocol):
    """A way to the gradient after every step."""

    def start(
        self, model: nn.Module, learning_rate: float, further: Sequence[ReadoutModule] = ()
    ) -> OnlineLearner:
        """A learner, ready to read; its weights are those of the modules, changed in place.

        Args:
            model: a `SequenceModel`, or a recurrent layer or stack alone.
            learning_rate: of plain gradient descent.
            further: readouts beside that of the model, which read the same hidden units.
        """
        ...


def readouts_of(
    model: nn.Module, further: Sequence[ReadoutModule], method: str
) -> list[ReadoutModule]:
    """The readout of a model, if it has one, then the others; ``method`` is who asks."""
    own = composition_of(model, method).readout
    return [*([] if own is None else [own]), *further]


class TorchLearner(OnlineLearner):
    """What the learners have in common that run their layers in PyTorch.

    Args:
        readouts: of one layer.
        replicas: R, or None.
        units: H.
        like: a parameter, for dtype and device.
        learning_rate: of plain gradient descent.
    """

    def __init__(
        self,
        readouts: Sequence[ReadoutModule],
        replicas: int | None,
        units: int,
        like: Tensor,
        learning_rate: float,
    ) -> None:
        self._readouts, self._rate, self._device = readouts, learning_rate, like.device
        self._single, count = replicas is None, replicas or 1
        kind = like.detach().cpu().numpy().dtype
        self._h = np.zeros((count, units), kind)
        self._outputs = [np.zeros((count, readout.output_size), kind) for readout in readouts]
        self._graph: list[Tensor] = []

    def outputs(self) -> list[NDArray]:
        """What each readout says, (R, K)."""
        return self._outputs

    def hidden(self) -> NDArray:
        """(R, H)."""
        return self._h

    def _front(self, rows: Tensor) -> Tensor:
        """(R, ...) as a layer takes it: one sequence a replica."""
        return rows if self._single else rows.unsqueeze(1)

    def _read_out(self, rows: NDArray, h: Tensor, x: Tensor) -> None:
        """Note h (R, 1, 1, H) of the rows, and what the readouts say; x (R, 1, 1, C)."""
        self._h[rows] = h.detach().flatten(0, -2).cpu().numpy()[rows]
        self._graph = [
            readout(h, None if readout.direct_size is None else x).flatten(0, -2)
            for readout in self._readouts
        ]
        for outputs, graph in zip(self._outputs, self._graph, strict=True):
            outputs[rows] = graph.detach().cpu().numpy()[rows]

    def _gradients(
        self, rows: NDArray, errors: Sequence[NDArray], sources: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        """What the errors of the rows send back to tensors that the outputs were made from."""
        due = []
        for error in errors:
            masked = np.zeros_like(error)
            masked[rows] = error[rows]
            due.append(torch.from_numpy(masked).to(self._device))
        return torch.autograd.grad(self._graph, sources, due, allow_unused=True)


def descend(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], learning_rate: float
) -> None:
    """One step of plain gradient descent, in place."""
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.sub_(gradient, alpha=learning_rate)


def as_vectors(x: NDArray, like: Tensor) -> Tensor:
    """Symbols (rows,) or vectors (rows, C) as vectors, of the dtype and on the device of (., C)."""
    vectors = torch.from_numpy(np.asarray(x))
    if vectors.dim() == 1:
        vectors = nn.functional.one_hot(vectors.long(), like.shape[-1])
    return vectors.to(like.device, like.dtype)


def as_mask(rows: NDArray, count: int, like: Tensor) -> Tensor | None:
    """(R,), True at the rows; None where they are all."""
    if len(rows) == count:
        return None
    mask = torch.zeros(count, dtype=torch.bool)
    mask[torch.from_numpy(np.asarray(rows))] = True
    return mask.to(like.device)


def choose(rows: Tensor | None, new: Any, old: Any) -> Any:
    """Of two states alike, the new numbers where the first axis is one of the rows, else the old.

    States are tensors, or nested sequences and dictionaries of such; what an old dictionary lacks
    is zero.
    """
    if rows is None:
        return new
    if isinstance(new, Tensor):
        old = torch.zeros_like(new) if old is None else old
        return torch.where(rows.view(-1, *(1,) * (new.dim() - 1)), new, old)
    if isinstance(new, dict):
        return {name: choose(rows, part, old.get(name)) for name, part in new.items()}
    return [choose(rows, *parts) for parts in zip(new, old, strict=True)]
